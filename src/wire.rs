//! What servers send, as they spell it: the replies to `JSZ` and `STATSZ`, the events of a server that stops, and what
//! servers tell of their storage and their membership.
//!
//! [`decode_jsz`] takes one payload and gives a [`Reply`] or a [`Reject`]; it never fails an epoch and never
//! panics. One bad row costs one row and one bad field one field: what is not quite what a server sends is read once
//! more, field by field, and the reply says what was wrong with it ([`Reply::flaws`]). It is rejected where it names
//! no server, where it is no complete JSON, and where what it reports on cannot be told.
//! Which reply means what about whom is not known here: see [`crate::view`].

mod advisory;
mod fields;
pub mod health;
mod json;
mod lenient;
mod shapes;
mod statsz;
mod template;

use std::fmt;

pub use advisory::{Advisory, AdvisoryKind, ELECTIONS, SUBJECTS as ADVISORIES, decode_advisory};
pub use fields::FLAWS_MAX;
pub use statsz::{RouteTo, Statsz};
pub use template::{Changes, Template};

use serde::{Deserialize, Serialize};

use crate::name::{Name, PeerId};
use fields::Flaws;
use shapes::Object;

/// A larger reply is not decoded. A real one is 1.2 to 1.4 kB and grows by about 80 bytes a peer.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// More replicas, or routes, of one list are not read, only counted.
pub const ROWS_MAX: usize = 20_000;
/// More bytes, streams or requests than this are none: a server that subtracts too much tells numbers like 2^64 - 1.
const AMOUNT_MAX: i64 = 1 << 60;
/// No snapshot takes longer: 1 day.
const SNAPSHOT_NS_MAX: i64 = 24 * 60 * 60 * 1_000_000_000;
/// Who sent a reply that is too large is looked for in so much of it.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;

/// Who sent a reply or an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// How many messages this server had sent: of two replies to one request, the higher is the later.
    pub sequence: u64,
    /// The configured server name.
    pub name: Name,
    /// The id that this server has as a peer: the hash of its whole name.
    pub peer: PeerId,
    /// The id of this run of the server (`N…`); a new one at every start.
    pub id: Name,
    /// The server's own cluster; empty when it is in none.
    pub cluster: Name,
    /// The JetStream domain; empty for none.
    pub domain: Name,
    /// The version of nats-server.
    pub version: Name,
}

/// A reply to `$SYS.REQ.SERVER.PING.JSZ` that could be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reply {
    /// Who answered.
    pub server: Server,
    /// What it said of its JetStream.
    pub jetstream: JetStream,
    /// What was wrong with it and was not taken, as in `data.meta_cluster.cluster_size is no number`: the first
    /// [`FLAWS_MAX`], bounded and printable. Empty for what a real server sends.
    pub flaws: Vec<String>,
}

impl Reply {
    /// Whether the same run of a server says the same again, but for its sequence number, how long ago it heard whom,
    /// and its load. Answers with flaws never do.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.server, &other.server);
        let same_run = one.peer == two.peer
            && (&one.name, &one.id, &one.cluster, &one.domain, &one.version)
                == (&two.name, &two.id, &two.cluster, &two.domain, &two.version);
        let same_part = match (&self.jetstream, &other.jetstream) {
            (JetStream::Member(one), JetStream::Member(two)) => one.says_the_same(two),
            (one, two) => one == two,
        };
        same_run && same_part && self.flaws.is_empty() && other.flaws.is_empty()
    }
}

/// What part a server has in JetStream, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every server is a member: a box would cost each reply an allocation"
)]
pub enum JetStream {
    /// It takes part in a meta group.
    Member(Meta),
    /// It runs JetStream alone. A server where JetStream was just enabled says the same for up to 1.5 s.
    Standalone,
    /// JetStream is off: never enabled, disabled at run time, or the peer was just removed.
    /// The server's `jetstream` field stays true then; only `data.disabled` tells (measured, 2.10 to 2.15).
    Disabled,
}

impl JetStream {
    /// The load of a member.
    pub fn usage(&self) -> Option<&Usage> {
        match self {
            Self::Member(meta) => Some(&meta.usage),
            Self::Standalone | Self::Disabled => None,
        }
    }
}

/// One server's account of its meta group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Meta {
    /// The responder's own cluster: no name of the group (a group that spans clusters answers under several).
    pub cluster: Name,
    /// The leader's server name, when this server knows one.
    pub leader: Option<Name>,
    /// The leader's peer id, when this server knows one.
    pub leader_id: Option<PeerId>,
    /// The peers this server lists. Up to 2.14 only the leader lists any; from 2.15 everyone does; nobody lists
    /// itself, except servers of 2.15 without a leader.
    pub rows: Vec<Row>,
    /// How many rows could not be read, or were too many ([`ROWS_MAX`]): no object, or without an id of a peer. A
    /// list that is none counts as one.
    pub unreadable_rows: u32,
    /// How many peers the group has, the dead ones included (`cluster_size`), as sent.
    pub size: i64,
    /// How many must agree, where the server says so (2.15).
    pub quorum_needed: Option<i64>,
    /// Whether an operator lowered the quorum (`rescue`, 2.15).
    pub rescue: bool,
    /// How much this server stores and has to do.
    pub usage: Usage,
}

/// What a member says of its own load. `None` is a number that was not sent, or that cannot be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// How many streams it holds a replica of (`data.streams`).
    pub streams: Option<u64>,
    /// How many consumers it holds a replica of (`data.consumers`).
    pub consumers: Option<u64>,
    /// How many bytes its streams take on disk (`data.storage`).
    pub storage: Option<u64>,
    /// How many bytes of disk its streams have reserved (`data.reserved_storage`); streams without a limit reserve
    /// nothing.
    pub reserved_storage: Option<u64>,
    /// How many bytes of disk JetStream may take (`data.config.max_storage`); 0 before JetStream has started.
    pub max_storage: Option<u64>,
    /// How many JetStream API requests wait (`meta_cluster.pending`, since 2.10).
    pub pending: Option<u64>,
    /// How many nanoseconds the last snapshot of the meta group took on this server
    /// (`meta_cluster.snapshot.last_duration`, since 2.11.11); absent before the first one.
    pub snapshot_ns: Option<u64>,
}

impl Meta {
    fn says_the_same(&self, other: &Self) -> bool {
        let Self { cluster, leader, leader_id, rows, unreadable_rows, size, quorum_needed, rescue, usage: _ } =
            self;
        let same_row = |(one, two): (&Row, &Row)| Row { active_ns: two.active_ns, ..one.clone() } == *two;
        (cluster, leader, leader_id) == (&other.cluster, &other.leader, &other.leader_id)
            && (unreadable_rows, size) == (&other.unreadable_rows, &other.size)
            && (quorum_needed, rescue) == (&other.quorum_needed, &other.rescue)
            && rows.len() == other.rows.len()
            && rows.iter().zip(&other.rows).all(same_row)
    }

    /// Whether nothing is left of it that tells of a group: a member that knows no leader still tells the size.
    fn tells_nothing(&self) -> bool {
        self.size <= 0 && self.leader_id.is_none() && self.rows.is_empty() && self.unreadable_rows == 0
    }
}

/// One number of a [`Usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsageField {
    Streams,
    Consumers,
    Storage,
    ReservedStorage,
    MaxStorage,
    Pending,
    Snapshot,
}

impl UsageField {
    /// Each of them, at the place of its number.
    const ALL: [Self; 7] = [
        Self::Streams,
        Self::Consumers,
        Self::Storage,
        Self::ReservedStorage,
        Self::MaxStorage,
        Self::Pending,
        Self::Snapshot,
    ];
}

impl Usage {
    /// Takes a number as it was sent. False where it cannot be: then it is none.
    fn set(&mut self, field: UsageField, number: i64) -> bool {
        let most = if field == UsageField::Snapshot { SNAPSHOT_NS_MAX } else { AMOUNT_MAX };
        let believed = Some(number).filter(|number| (0..=most).contains(number)).map(i64::unsigned_abs);
        let place = match field {
            UsageField::Streams => &mut self.streams,
            UsageField::Consumers => &mut self.consumers,
            UsageField::Storage => &mut self.storage,
            UsageField::ReservedStorage => &mut self.reserved_storage,
            UsageField::MaxStorage => &mut self.max_storage,
            UsageField::Pending => &mut self.pending,
            UsageField::Snapshot => &mut self.snapshot_ns,
        };
        *place = believed;
        // Without a limit it is negative, which is none.
        believed.is_some() || field == UsageField::MaxStorage
    }
}

/// What one server says of one peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The peer.
    pub peer: PeerId,
    /// Its name; `None` where the server has forgotten it (`Server name unknown at this time …`).
    pub name: Option<Name>,
    /// The server's offline flag, absent when false.
    pub offline: bool,
    /// Whether something was sent as that flag that is none: then the row is no evidence that the peer is well.
    pub offline_unreadable: bool,
    /// Seen recently and caught up. Only the leader's word counts, and false alone is noise.
    pub current: bool,
    /// Nanoseconds since the last contact. 0 means never in this term, not just now; negative after a clock jump.
    pub active_ns: i64,
    /// How many operations the peer is behind; absent when 0.
    pub lag: u64,
}

/// A server said that it is about to stop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// Who stops.
    pub server: Server,
    /// How.
    pub kind: AnnouncementKind,
}

/// How a server announced its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AnnouncementKind {
    /// It shuts down now.
    Shutdown,
    /// It sends its clients away first, and already answers nothing more.
    Lameduck,
}

impl fmt::Display for AnnouncementKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "SHUTDOWN",
            Self::Lameduck => "LAMEDUCK",
        })
    }
}

/// A payload that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    /// What was wrong.
    pub reason: RejectReason,
    /// In a person's words, bounded and printable.
    pub detail: String,
    /// Who sent it, when at least that could be read. That server is alive, whatever it said.
    pub server: Option<Box<Server>>,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Larger than [`REPLY_BYTES_MAX`].
    TooLarge,
    /// Not the JSON that a server sends: truncated, without a server's name, or without what was asked for.
    Malformed,
    /// The server answered with an error instead of data.
    ServerError,
}

/// Reads one reply to `JSZ`.
pub fn decode_jsz(payload: &[u8]) -> Result<Reply, Reject> {
    match strict::<json::JszReply<'_>>(payload)? {
        Ok(json) => jsz(json, Flaws::default()),
        Err(error) => lenient::Text::of(payload).jsz(&error),
    }
}

fn jsz(json: json::JszReply<'_>, flaws: Flaws) -> Result<Reply, Reject> {
    let server = json.server.0.into_server()?;
    match (json.error, json.data) {
        (Some(Object(error)), _) => Err(error.into_reject(server)),
        (None, Some(Object(data))) => data.into_reply(server, flaws),
        (None, None) => Err(malformed("the reply holds neither data nor an error", Some(server))),
    }
}

/// Reads one reply to `STATSZ`.
pub fn decode_statsz(payload: &[u8]) -> Result<Statsz, Reject> {
    match strict::<json::StatszReply<'_>>(payload)? {
        Ok(json) => statsz_of(json, Flaws::default()),
        Err(error) => lenient::Text::of(payload).statsz(&error),
    }
}

fn statsz_of(json: json::StatszReply<'_>, flaws: Flaws) -> Result<Statsz, Reject> {
    let server = json.server.0.into_server()?;
    match (json.error, json.statsz) {
        (Some(Object(error)), _) => Err(error.into_reject(server)),
        (None, Some(Object(statsz))) => Ok(statsz.into_statsz(server, flaws)),
        (None, None) => Err(malformed("the reply holds neither statsz nor an error", Some(server))),
    }
}

/// Reads the event that a server sent on `$SYS.SERVER.<id>.SHUTDOWN` or `….LAMEDUCK`; `None` for other subjects.
pub fn decode_event(subject: &str, payload: &[u8]) -> Option<Result<Announcement, Reject>> {
    let (_, last) = subject.rsplit_once('.')?;
    let kind = match last {
        "SHUTDOWN" => AnnouncementKind::Shutdown,
        "LAMEDUCK" => AnnouncementKind::Lameduck,
        _ => return None,
    };
    let server = strict::<Object<json::Server<'_>>>(payload).and_then(|json| match json {
        Ok(Object(server)) => server.into_server(),
        Err(error) => lenient::Text::of(payload).flat_server(&error),
    });
    Some(server.map(|server| Announcement { server, kind }))
}

/// Reads what a server sends, as fast as possible; the inner error is left to [`lenient`].
fn strict<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<serde_json::Result<T>, Reject> {
    if payload.len() > REPLY_BYTES_MAX {
        let detail = format!("{} bytes, more than the {REPLY_BYTES_MAX} that are read", payload.len());
        let server = lenient::Text::of(&payload[..ENVELOPE_BYTES_MAX]).sender().map(Box::new);
        return Err(Reject { reason: RejectReason::TooLarge, detail, server });
    }
    // Text that is checked as a whole need not be checked string by string.
    Ok(match std::str::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(payload),
    })
}

fn malformed(detail: &str, server: Option<Server>) -> Reject {
    Reject { reason: RejectReason::Malformed, detail: bounded(detail), server: server.map(Box::new) }
}

/// A server's or a parser's words, printable and cut to a length that fits a log line.
fn bounded(text: &str) -> String {
    crate::name::printable(text).chars().take(200).collect()
}

#[cfg(test)]
mod tests;
