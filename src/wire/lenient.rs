//! Reads field by field what is not quite what a server sends. The slow way, taken only where [`super::spelled`]
//! fails: there one wrong type loses the whole.

use std::borrow::Cow;

use super::fields::{Fields, Flaws};
use super::json::{ApiError, Config, JszData, JszReply, MetaCluster, Replica, Server, Snapshot, StatszReply};
use super::shapes::{Amount, Object};
use super::statsz::StatszData;
use super::{Reject, Reply, Statsz, malformed};

/// A payload as text. Bytes that are none are replaced, as nats-server does with what it sends.
pub(super) struct Text<'a>(Cow<'a, str>);

/// A payload that names its server.
pub(super) struct Envelope<'a> {
    pub(super) server: Server<'static>,
    pub(super) error: Option<Object<ApiError<'static>>>,
    pub(super) fields: Fields<'a>,
    pub(super) flaws: Flaws,
}

impl<'a> Text<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Self {
        Self(String::from_utf8_lossy(payload))
    }

    /// Whom the payload names as its sender, whatever follows.
    pub(super) fn sender(&self) -> Option<super::Server> {
        let (fields, _) = Fields::up_to_error(&self.0);
        server(&fields, &mut Flaws::default())?.into_server().ok()
    }

    /// The parts of a payload. `error` says what was wrong with it as a whole, which is the reason where it names no
    /// server or is no complete JSON.
    pub(super) fn open(&self, error: &serde_json::Error) -> Result<Envelope<'_>, Reject> {
        let mut flaws = Flaws::default();
        if matches!(self.0, Cow::Owned(_)) {
            flaws.add(format_args!("the reply holds bytes that are no text"));
        }
        let (fields, broken) = Fields::up_to_error(&self.0);
        let Some(server) = server(&fields, &mut flaws) else {
            return Err(malformed(&error.to_string(), None));
        };
        if let Some(broken) = broken {
            return Err(malformed(&broken.to_string(), server.into_server().ok()));
        }
        let error = fields.object("error", &mut flaws).map(|error| {
            let code = error.number("code", &mut flaws).unwrap_or_default();
            Object(ApiError { code, description: error.text("description", &mut flaws).into() })
        });
        Ok(Envelope { server, error, fields, flaws })
    }

    pub(super) fn jsz(&self, error: &serde_json::Error) -> Result<Reply, Reject> {
        let Envelope { server, error, fields, mut flaws } = self.open(error)?;
        let Some(data) = fields.object("data", &mut flaws) else {
            if error.is_none() && fields.has("data") {
                return Err(malformed("`data` is no object", Some(server.into_server()?)));
            }
            let reply = JszReply { server: Object(server), data: None, error };
            return super::jsz(reply, flaws);
        };
        let disabled = data.flag("disabled", true, &mut flaws);
        let meta_cluster = data.object("meta_cluster", &mut flaws);
        if meta_cluster.is_none() && data.has("meta_cluster") && disabled != Some(true) && error.is_none() {
            return Err(malformed("`meta_cluster` is no object", Some(server.into_server()?)));
        }
        let config = data.object("config", &mut flaws).map(|config| Config {
            domain: config.text("domain", &mut flaws).into(),
            max_storage: amount(&config, "max_storage", &mut flaws),
        });
        let data = JszData {
            disabled,
            storage: amount(&data, "storage", &mut flaws),
            reserved_storage: amount(&data, "reserved_storage", &mut flaws),
            streams: amount(&data, "streams", &mut flaws),
            consumers: amount(&data, "consumers", &mut flaws),
            config: config.map(Object),
            meta_cluster: meta_cluster.map(|meta| Object(self::meta_cluster(&meta, &mut flaws))),
        };
        super::jsz(JszReply { server: Object(server), data: Some(Object(data)), error }, flaws)
    }

    pub(super) fn statsz(&self, error: &serde_json::Error) -> Result<Statsz, Reject> {
        let Envelope { server, error, fields, mut flaws } = self.open(error)?;
        let statsz = fields.object("statsz", &mut flaws);
        let statsz = statsz.map(|statsz| Object(StatszData::lenient(&statsz, &mut flaws)));
        super::statsz_of(StatszReply { server: Object(server), statsz, error }, flaws)
    }

    /// The payload that is a server itself, as events are.
    pub(super) fn flat_server(&self, error: &serde_json::Error) -> Result<super::Server, Reject> {
        let (fields, broken) = Fields::up_to_error(&self.0);
        let server = server_of(&fields, &mut Flaws::default());
        match broken {
            Some(_) => Err(malformed(&error.to_string(), server.into_server().ok())),
            None => server.into_server(),
        }
    }
}

fn server(envelope: &Fields<'_>, flaws: &mut Flaws) -> Option<Server<'static>> {
    envelope.object("server", flaws).map(|fields| server_of(&fields, flaws))
}

fn server_of(fields: &Fields<'_>, flaws: &mut Flaws) -> Server<'static> {
    Server {
        name: fields.text("name", flaws).into(),
        id: fields.text("id", flaws).into(),
        cluster: fields.text("cluster", flaws).into(),
        domain: fields.text("domain", flaws).into(),
        ver: fields.text("ver", flaws).into(),
        seq: fields.count("seq", flaws).unwrap_or_default(),
    }
}

fn meta_cluster(meta: &Fields<'_>, flaws: &mut Flaws) -> MetaCluster<'static> {
    MetaCluster {
        name: meta.text("name", flaws).into(),
        leader: meta.text("leader", flaws).into(),
        peer: meta.text("peer", flaws).into(),
        replicas: meta.each("replicas", flaws, |row, flaws| Some(Object(replica(row, flaws)))),
        cluster_size: meta.number("cluster_size", flaws).unwrap_or_default(),
        quorum_needed: meta.number("quorum_needed", flaws),
        rescue: meta.flag("rescue", true, flaws).unwrap_or_default(),
        pending: amount(meta, "pending", flaws),
        snapshot: meta
            .object("snapshot", flaws)
            .map(|snapshot| Object(Snapshot { last_duration: amount(&snapshot, "last_duration", flaws) })),
    }
}

fn amount(fields: &Fields<'_>, name: &str, flaws: &mut Flaws) -> Option<Amount> {
    fields.number(name, flaws).map(Amount)
}

fn replica(row: &Fields<'_>, flaws: &mut Flaws) -> Replica<'static> {
    Replica {
        name: row.text("name", flaws).into(),
        peer: row.text("peer", flaws).into(),
        offline: row.flag("offline", true, flaws),
        current: row.flag("current", false, flaws).unwrap_or_default(),
        active: row.number("active", flaws).unwrap_or_default(),
        lag: row.count("lag", flaws).unwrap_or_default(),
    }
}
