//! The JSON of nats-server, field by field. Unknown fields are ignored; optional ones were absent in some version
//! from 2.9 to 2.15. Texts stay where they were sent, unless they hold escapes.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::fields::Flaws;
use super::shapes::{Amount, Bounded, Object};
use super::statsz::StatszData;
use super::{JetStream, Meta, Reject, RejectReason, Reply, Row, Usage, UsageField, bounded, malformed};
use crate::name::{Name, PeerId};

#[derive(Deserialize)]
pub(super) struct JszReply<'a> {
    #[serde(borrow)]
    pub(super) server: Object<Server<'a>>,
    #[serde(borrow)]
    pub(super) data: Option<Object<JszData<'a>>>,
    #[serde(borrow)]
    pub(super) error: Option<Object<ApiError<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct StatszReply<'a> {
    #[serde(borrow)]
    pub(super) server: Object<Server<'a>>,
    #[serde(borrow)]
    pub(super) statsz: Option<Object<StatszData<'a>>>,
    #[serde(borrow)]
    pub(super) error: Option<Object<ApiError<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Server<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) cluster: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) domain: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) ver: Cow<'a, str>,
    #[serde(default)]
    pub(super) seq: u64,
}

impl Server<'_> {
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
pub(super) struct ApiError<'a> {
    #[serde(default)]
    pub(super) code: i64,
    #[serde(borrow, default)]
    pub(super) description: Cow<'a, str>,
}

impl ApiError<'_> {
    pub(super) fn into_reject(self, server: super::Server) -> Reject {
        let detail = bounded(&format!("error {}: {}", self.code, self.description));
        Reject { reason: RejectReason::ServerError, detail, server: Some(Box::new(server)) }
    }
}

/// A flag that is absent is false; `None` is one that is there and is none.
fn absent() -> Option<bool> {
    Some(false)
}

/// Only the lenient reader makes a `None` of what is no flag.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
pub(super) struct JszData<'a> {
    #[serde(default = "absent", deserialize_with = "flag")]
    pub(super) disabled: Option<bool>,
    pub(super) storage: Option<Amount>,
    pub(super) reserved_storage: Option<Amount>,
    pub(super) streams: Option<Amount>,
    pub(super) consumers: Option<Amount>,
    #[serde(borrow)]
    pub(super) config: Option<Object<Config<'a>>>,
    #[serde(borrow)]
    pub(super) meta_cluster: Option<Object<MetaCluster<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Config<'a> {
    #[serde(borrow, default)]
    pub(super) domain: Cow<'a, str>,
    pub(super) max_storage: Option<Amount>,
}

#[derive(Deserialize)]
pub(super) struct MetaCluster<'a> {
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) leader: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) peer: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) replicas: Option<Bounded<Object<Replica<'a>>>>,
    #[serde(default)]
    pub(super) cluster_size: i64,
    pub(super) quorum_needed: Option<i64>,
    #[serde(default)]
    pub(super) rescue: bool,
    pub(super) pending: Option<Amount>,
    pub(super) snapshot: Option<Object<Snapshot>>,
}

#[derive(Deserialize)]
pub(super) struct Snapshot {
    pub(super) last_duration: Option<Amount>,
}

#[derive(Deserialize)]
pub(super) struct Replica<'a> {
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) peer: Cow<'a, str>,
    #[serde(default = "absent", deserialize_with = "flag")]
    pub(super) offline: Option<bool>,
    #[serde(default)]
    pub(super) current: bool,
    #[serde(default)]
    pub(super) active: i64,
    #[serde(default)]
    pub(super) lag: u64,
}

impl JszData<'_> {
    pub(super) fn into_reply(self, mut server: super::Server, mut flaws: Flaws) -> Result<Reply, Reject> {
        if server.domain.is_empty()
            && let Some(Object(config)) = &self.config
        {
            server.domain = Name::new(&config.domain);
        }
        let jetstream = match (self.disabled, self.meta_cluster) {
            (Some(true), _) => JetStream::Disabled,
            (_, Some(Object(meta))) => {
                let max_storage = self.config.as_ref().and_then(|Object(config)| config.max_storage);
                let mut usage = Usage::default();
                let told = [
                    ("streams", UsageField::Streams, self.streams),
                    ("consumers", UsageField::Consumers, self.consumers),
                    ("storage", UsageField::Storage, self.storage),
                    ("reserved_storage", UsageField::ReservedStorage, self.reserved_storage),
                    ("max_storage", UsageField::MaxStorage, max_storage),
                ];
                told.into_iter().for_each(|told| take(told, &mut usage, &mut flaws));
                let meta = meta.into_meta(&server, usage, &mut flaws);
                if meta.tells_nothing() {
                    return Err(malformed(
                        "its meta group has neither a size, a leader nor peers",
                        Some(server),
                    ));
                }
                JetStream::Member(meta)
            }
            (None, None) => return Err(malformed("`disabled` is no flag", Some(server))),
            // Every report of JetStream holds its configuration; other endpoints answer in the same envelope.
            (Some(false), None) if self.config.is_none() => {
                return Err(malformed("the data is no report of JetStream", Some(server)));
            }
            (Some(false), None) => JetStream::Standalone,
        };
        Ok(Reply { server, jetstream, flaws: flaws.into_words() })
    }
}

/// Takes a number of a server's load; one that cannot be is told and counts as absent.
fn take((name, field, amount): (&str, UsageField, Option<Amount>), usage: &mut Usage, flaws: &mut Flaws) {
    if let Some(Amount(number)) = amount
        && !usage.set(field, number)
    {
        flaws.add(format_args!("{name} is {number}, which cannot be"));
    }
}

impl MetaCluster<'_> {
    fn into_meta(self, server: &super::Server, mut usage: Usage, flaws: &mut Flaws) -> Meta {
        let replicas = self.replicas.unwrap_or_default();
        let sent = replicas.entries.len() + replicas.unread;
        let mut rows = Vec::with_capacity(replicas.entries.len());
        rows.extend(replicas.entries.into_iter().filter_map(|Object(replica)| replica.into_row(flaws)));
        // Servers that know no leader send no peer id, or the hash of the empty name. A damaged id is no server's.
        let told = PeerId::parse(&self.peer).filter(PeerId::is_sound);
        let named = (!self.leader.is_empty()).then(|| Name::new(&self.leader));
        let leader_id = told.or_else(|| named.is_some().then(|| PeerId::of_server(&self.leader)));
        let itself = || (leader_id == Some(server.peer)).then(|| server.name.clone());
        let snapshot = self.snapshot.and_then(|Object(snapshot)| snapshot.last_duration);
        take(("pending", UsageField::Pending, self.pending), &mut usage, flaws);
        take(("snapshot.last_duration", UsageField::Snapshot, snapshot), &mut usage, flaws);
        Meta {
            cluster: Name::new(&self.name),
            leader: named.or_else(itself),
            leader_id,
            unreadable_rows: u32::try_from(sent - rows.len()).unwrap_or(u32::MAX),
            rows,
            size: self.cluster_size,
            quorum_needed: self.quorum_needed,
            rescue: self.rescue,
            usage,
        }
    }
}

impl Replica<'_> {
    fn into_row(self, flaws: &mut Flaws) -> Option<Row> {
        // `server/jetstream_cluster.go` writes these words in place of a name it does not know.
        let known = !self.name.is_empty() && !self.name.starts_with("Server name unknown");
        let from_name = || (self.peer.is_empty() && known).then(|| PeerId::of_server(&self.name));
        let Some(peer) = PeerId::parse(&self.peer).or_else(from_name) else {
            let shown: String = self.peer.chars().take(40).collect();
            flaws.add(format_args!("replicas has a row with the peer id {shown:?}, which cannot be one"));
            return None;
        };
        Some(Row {
            peer,
            name: known.then(|| Name::new(&self.name)),
            offline: self.offline.unwrap_or_default(),
            offline_unreadable: self.offline.is_none(),
            current: self.current,
            active_ns: self.active,
            lag: self.lag,
        })
    }
}
