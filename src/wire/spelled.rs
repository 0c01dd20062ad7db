//! The JSON of nats-server, field by field. Unknown fields are ignored; optional ones were absent in some version
//! from 2.9 to 2.15.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::{JetStream, Meta, ROWS_MAX, Reject, RejectReason, Reply, Row, Statsz, bounded, malformed};
use crate::name::{Name, PeerId};

#[derive(Deserialize)]
pub(super) struct JszReply {
    pub(super) server: Server,
    pub(super) data: Option<JszData>,
    pub(super) error: Option<ApiError>,
}

#[derive(Deserialize)]
pub(super) struct StatszReply {
    pub(super) server: Server,
    pub(super) statsz: Option<StatszData>,
    pub(super) error: Option<ApiError>,
}

#[derive(Deserialize)]
pub(super) struct SenderOnly {
    pub(super) server: Server,
}

#[derive(Deserialize)]
pub(super) struct Server {
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    ver: String,
    #[serde(default)]
    seq: u64,
}

impl Server {
    pub(super) fn into_server(self) -> Result<super::Server, Reject> {
        if self.name.is_empty() {
            return Err(malformed("the server gives no name", None));
        }
        Ok(super::Server {
            sequence: self.seq,
            peer: PeerId::of_server(&self.name),
            name: Name::new(&self.name),
            id: Name::new(&self.id),
            cluster: Name::new(&self.cluster),
            domain: Name::new(&self.domain),
            version: Name::new(&self.ver),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    description: String,
}

impl ApiError {
    pub(super) fn into_reject(self) -> Reject {
        let detail = bounded(&format!("error {}: {}", self.code, self.description));
        Reject { reason: RejectReason::ServerError, detail, server: None }
    }
}

#[derive(Deserialize)]
pub(super) struct JszData {
    #[serde(default)]
    disabled: bool,
    config: Option<Config>,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    domain: String,
}

#[derive(Deserialize)]
struct MetaCluster {
    #[serde(default)]
    name: String,
    #[serde(default)]
    leader: String,
    #[serde(default)]
    peer: String,
    #[serde(default)]
    replicas: Option<Bounded<Replica>>,
    #[serde(default)]
    cluster_size: i64,
    quorum_needed: Option<i64>,
    #[serde(default)]
    rescue: bool,
}

#[derive(Deserialize)]
struct Replica {
    #[serde(default)]
    name: String,
    #[serde(default)]
    peer: String,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    current: bool,
    #[serde(default)]
    active: i64,
    #[serde(default)]
    lag: u64,
}

impl JszData {
    pub(super) fn into_reply(self, mut server: super::Server) -> Result<Reply, Reject> {
        if server.domain.is_empty()
            && let Some(config) = &self.config
        {
            server.domain = Name::new(&config.domain);
        }
        let jetstream = match self.meta_cluster {
            _ if self.disabled => JetStream::Disabled,
            // Every report of JetStream holds its configuration; other endpoints answer in the same envelope.
            None if self.config.is_none() => {
                return Err(malformed("the data is no report of JetStream", Some(server)));
            }
            None => JetStream::Standalone,
            Some(meta) => JetStream::Member(meta.into_meta(&server)?),
        };
        Ok(Reply { server, jetstream })
    }
}

impl MetaCluster {
    fn into_meta(self, server: &super::Server) -> Result<Meta, Reject> {
        let replicas = self.replicas.map(|replicas| replicas.0).unwrap_or_default();
        let mut rows = Vec::with_capacity(replicas.len());
        for replica in replicas {
            rows.push(replica.into_row().map_err(|detail| malformed(&detail, Some(server.clone())))?);
        }
        let leader = (!self.leader.is_empty()).then(|| Name::new(&self.leader));
        let leader_id = leader
            .is_some()
            .then(|| PeerId::parse(&self.peer).unwrap_or_else(|| PeerId::of_server(&self.leader)));
        Ok(Meta {
            cluster: Name::new(&self.name),
            leader,
            leader_id,
            rows,
            size: self.cluster_size,
            quorum_needed: self.quorum_needed,
            rescue: self.rescue,
        })
    }
}

impl Replica {
    fn into_row(self) -> Result<Row, String> {
        // `server/jetstream_cluster.go` writes these words in place of a name it does not know.
        let known = !self.name.is_empty() && !self.name.starts_with("Server name unknown");
        let peer = match PeerId::parse(&self.peer) {
            Some(peer) => peer,
            None if self.peer.is_empty() && known => PeerId::of_server(&self.name),
            None => return Err(format!("a replica's peer id is {:?}, not 8 letters and digits", self.peer)),
        };
        Ok(Row {
            peer,
            name: known.then(|| Name::new(&self.name)),
            offline: self.offline,
            current: self.current,
            active_ns: self.active,
            lag: self.lag,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct StatszData {
    #[serde(default)]
    routes: Option<Bounded<Route>>,
    #[serde(default)]
    active_servers: i64,
}

#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    name: String,
}

impl StatszData {
    pub(super) fn into_statsz(self, server: super::Server) -> Statsz {
        let routes = self.routes.map(|routes| routes.0).unwrap_or_default();
        let mut routes: Vec<PeerId> = routes.iter().map(|route| PeerId::of_server(&route.name)).collect();
        // One row a pooled connection: names repeat.
        routes.sort_unstable();
        routes.dedup();
        Statsz { server, routes, active_servers: self.active_servers }
    }
}

/// A list that refuses to grow beyond [`ROWS_MAX`] while it is read.
struct Bounded<T>(Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedVisitor<T> {
    type Value = Bounded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {ROWS_MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() == ROWS_MAX {
                return Err(A::Error::invalid_length(ROWS_MAX + 1, &self as &dyn de::Expected));
            }
            entries.push(entry);
        }
        Ok(Bounded(entries))
    }
}
