//! How a watched system stands, for whoever looks on: what `/status.json` and the status page of `metawatch run
//! --listen` show, and what `metawatch view --watch` draws.
//!
//! [`SystemStatus`] is made after each epoch from what it led to. It is a value of bounded size: of many groups the
//! worst come first, and what is left out is counted. **Invariant:** it judges nothing itself; verdicts are
//! [`crate::check`]'s, incidents are [`crate::alert`]'s, and without evidence nothing is called well.

pub mod access;
mod build;
pub mod metrics;
pub mod numbers;
pub mod page;
mod recent;
pub mod vitals;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::advice::Advice;
use crate::check::{Cause, Grounds, Verdict};
use crate::diagnosis::Diagnosis;
use crate::event::heartbeat::ActiveIncident;
use crate::event::{Evidence, Monitor};
use crate::report::Status;

pub use build::StatusContext;
pub use recent::{RECENT_MAX, RecentEvent, RecentEvents, Totals};

/// How a system stands, by the last epoch and what is remembered. What cannot be known is `null`; fields are only ever
/// added. Names are as the servers gave them: whoever shows them makes them harmless first.
#[derive(Clone, Debug, Serialize)]
pub struct SystemStatus {
    /// The version of this document.
    pub v: u32,
    /// When the epoch ended. RFC 3339, UTC.
    pub timestamp: String,
    /// The worst of all groups: `OK` takes positive evidence for every peer of every group.
    pub status: Status,
    /// One line for people.
    pub summary: String,
    /// Which system it is, once that is known.
    pub system: Option<String>,
    /// The groups that were asked for, where the document is not about all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The next one comes after about so many milliseconds, or sooner. Who has seen none for four times as long, or for
    /// 10 s if that is longer, looks at the past.
    pub interval_ms: u64,
    /// The epoch in numbers.
    pub epoch: EpochStatus,
    /// How many there are of everything, shown here or not.
    pub counts: Counts,
    /// The meta groups, the worst first.
    pub groups: Vec<GroupStatus>,
    /// The open incidents, the worst first.
    pub incidents: Vec<IncidentStatus>,
    /// The last events, the newest first.
    pub recent: Vec<RecentEvent>,
    /// What the replies contradict each other in, and what else is worth knowing.
    pub notes: Vec<String>,
    /// How many entries its lists lack, by name, as in `{"groups":960}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Who watches, and how that goes.
    pub watcher: WatcherStatus,
}

/// An epoch in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct EpochStatus {
    /// Its number, from 1.
    pub number: u64,
    /// Why it ended: `all_heard`, `quiet`, `deadline`, `full`, `no_responders`, `denied`, `disconnected`.
    pub ended: String,
    /// How many servers should have answered.
    pub expected: u64,
    /// How many did.
    pub heard: u64,
    /// Those that did not, the first of them.
    pub missing: Vec<String>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Meta groups.
    pub groups: u64,
    /// Of them, those that are not `OK`.
    pub groups_not_ok: u64,
    /// Peers of all groups.
    pub peers: u64,
    /// Of them, those that are offline.
    pub offline: u64,
    /// Of them, those that are suspected to be.
    pub suspected: u64,
    /// Servers that answered.
    pub servers: u64,
    /// Of them, those that are in no meta group.
    pub servers_without_group: u64,
    /// Open incidents.
    pub incidents: u64,
}

/// One meta group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupStatus {
    /// Its name in subjects.
    pub group: String,
    /// Its JetStream domain; empty for none.
    pub domain: String,
    /// The clusters its members answered from, the first of them.
    pub clusters: Vec<String>,
    /// The worst that is found of it and of its peers.
    pub status: Status,
    /// The leader whose list counts; `null` when there is none.
    pub leader: Option<String>,
    /// Why there is no such leader.
    pub leaderless: Option<String>,
    /// The members that name themselves leader, the first of them.
    pub claimants: Vec<String>,
    /// Whether the leader's list names every peer.
    pub complete: bool,
    /// How many peers it has, the dead ones included.
    pub size: Option<u64>,
    /// How many must agree.
    pub quorum: Option<u64>,
    /// How many are online.
    pub online: Option<u64>,
    /// How many more may go before quorum is lost; negative when it is lost.
    pub failures_left: Option<i64>,
    /// How many enabled members answered.
    pub answering: u64,
    /// An operator lowered the quorum (`rescue`).
    pub rescue: bool,
    /// Its peers, the worst first.
    pub peers: Vec<PeerStatus>,
    /// How many more it has.
    pub more_peers: u64,
}

/// One peer of a group, and who says what of it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerStatus {
    /// Its id: the key.
    pub id: String,
    /// Its name; `null` where nobody ever told it.
    pub name: Option<String>,
    /// The cluster it last answered from; `null` when not known.
    pub cluster: Option<String>,
    /// Whether it is the leader whose list counts.
    pub leader: bool,
    /// What is found of it.
    pub verdict: Verdict,
    /// What probably happened to it.
    pub cause: Option<&'static str>,
    /// What the leader's list says and how it answered, in words: `offline, silent`.
    pub state: String,
    /// How long ago the leader heard it, in words; `–` where that says nothing.
    pub contact: String,
    /// How long ago the leader heard it, in nanoseconds; `null` without a leader's list.
    pub active_ns: Option<i64>,
    /// How many operations it is behind; `null` without a leader's list.
    pub lag: Option<u64>,
    /// When it last answered us. RFC 3339, UTC.
    pub last_heard: Option<String>,
    /// Who speaks against it: `flag`, `contact`, `silence`, …
    pub witnesses: Vec<String>,
    /// What the others say, in words, where they do not all say the same.
    pub says: String,
    /// What each reporter's list says of it: `offline`, `online`, `current`, `not_current`; the first of them.
    pub opinions: BTreeMap<String, &'static str>,
    /// How many more reporters there are.
    pub more_opinions: u64,
    /// Who holds a route to it (`held`) and who does not (`lost`), where that was asked; the first of them.
    pub routes: BTreeMap<String, String>,
}

impl PeerStatus {
    /// The name for people: the server's, else `peer <id>`.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("peer {}", self.id))
    }
}

/// An open incident, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub struct IncidentStatus {
    /// What its events say of it, too.
    #[serde(flatten)]
    pub incident: ActiveIncident,
    /// The title of the check.
    pub title: String,
    /// What is said now: `s3 is offline (crashed)`.
    pub summary: String,
    /// What the last epoch says; `null` when it shows nothing of what this is about.
    pub verdict: Option<Verdict>,
    /// Why a fault is believed.
    pub basis: Option<Grounds>,
    /// What probably happened, and why we think so.
    pub cause: Option<Cause>,
    /// Who says what of the peer; `null` for a whole group.
    pub evidence: Option<Evidence>,
    /// What servers said when they were asked about it.
    pub diagnosis: Vec<Diagnosis>,
    /// What to do next; the commands carry the login of this call.
    pub advice: Vec<Advice>,
    /// How often it came back shortly after it was resolved.
    pub flaps: u32,
}

/// Who watches, and how that goes. Counts are those of this run.
#[derive(Clone, Debug, Serialize)]
pub struct WatcherStatus {
    /// Its name, its version and its run.
    #[serde(flatten)]
    pub monitor: Monitor,
    /// Since when. RFC 3339, UTC.
    pub since: String,
    /// What happened in all epochs together.
    #[serde(flatten)]
    pub totals: Totals,
    /// What it publishes; `null` for one that only looks.
    pub publishing: Option<PublishingStatus>,
}

/// What a watcher publishes, and what became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PublishingStatus {
    /// `active`: it publishes; `standby`: another watcher does, and has named this one to take over; `reserve`: others take
    /// over before this one, which asks no server; `joining` and `taking_over`: neither yet.
    pub role: &'static str,
    /// How many watchers there are, this one included.
    pub watchers: u64,
    /// The subjects begin so.
    pub prefix: String,
    /// Whether the connection for alerts is there.
    pub connected: bool,
    /// Deliveries of alert events that have arrived.
    pub sent: u64,
    /// Alert events that wait for their delivery.
    pub waiting: u64,
    /// Alert events that could not be delivered and were dropped.
    pub lost: u64,
    /// What else was lost, by kind, as heartbeats tell it (`lost`).
    pub losses: BTreeMap<String, u64>,
    /// Times that the state was too large to be told to the other watchers.
    pub unreplicated: u64,
    /// Open incidents would not survive a restart now: the state file cannot be written.
    pub unsaved: bool,
}

/// How much of a system is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups.
    pub groups: usize,
    /// Peers, of all groups together.
    pub peers: usize,
    /// Incidents.
    pub incidents: usize,
    /// Reporters, routes and clusters, of each peer and group.
    pub reporters: usize,
}

impl Limits {
    /// For the page: it is sent to every reader after every epoch.
    pub const PAGE: Self = Self { groups: 40, peers: 200, incidents: 16, reporters: 8 };
    /// For a terminal: somebody scrolls through it.
    pub const SCREEN: Self = Self { groups: 2_000, peers: 20_000, incidents: 200, reporters: 16 };
}

/// How many notes are shown.
const NOTES_MAX: usize = 8;
