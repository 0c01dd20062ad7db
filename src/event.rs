//! What is told: the alert event, the heartbeat and the view, as JSON; their subjects and
//! headers.
//!
//! The alert event is a contract (version 1): fields are only ever added. What is not known is absent.

mod build;
pub mod heartbeat;
pub mod incidents;
pub mod snapshot;
mod summary;
mod truncate;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advice::Advice;
use crate::alert::{Reason, State};
use crate::check::{Cause, Grounds, Measure, Severity};
use crate::diagnosis::Diagnosis;
use crate::name::{printable, subject_token};

pub use build::{EventContext, Explained, alert_event, event_group, explain};
pub(crate) use build::{event_epoch, evidence, opinion};
pub use heartbeat::Heartbeat;
pub use snapshot::Snapshot;
pub use summary::{GROUPS_TOLD_MAX, WORST_TOLD_MAX, more_unwell, peers_online, sums, well, without_a_list};
pub use truncate::{Fit, fit_heartbeat, fit_to, header_bytes};

/// The beginning of every alert event's type; the check's own word follows.
pub const EVENT_TYPE: &str = "io.metawatch.meta.alert.v1";
/// The default of `--prefix`.
pub const PREFIX: &str = "metawatch";
/// The highest seq that is believed: JSON readers know no higher number exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;
/// How many entries a list in an event has at most; the rest is counted.
pub const LIST_MAX: usize = 16;
/// How many notes an event or a heartbeat has at most.
pub const NOTES_MAX: usize = 4;
/// How many bytes an event has at most as JSON. Its lists are cut until it fits; only names of more than a hundred
/// bytes each can make it larger.
pub const EVENT_BYTES_MAX: usize = 4_000;

/// Who watches. It is told in every event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Monitor {
    /// The name of this watcher: the connection's name.
    pub name: String,
    /// The version of metawatch.
    pub version: String,
    /// Which run of it: different at every start.
    pub instance: String,
}

/// One step in the life of an alert. Subject: `<prefix>.alert.<check>.<group>.<peer>.<state>`; where the severity is
/// critical, a copy has `critical` in the place of `alert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "metawatch alert event", description = "One step in the life of an alert (version 1).")]
pub struct AlertEvent {
    /// `io.metawatch.meta.alert.v1.` and the check's word: `offline_replica`, `quorum_lost`, `leader_disagreement` …
    #[serde(rename = "type")]
    pub event_type: String,
    /// The incident and the seq: the same for every delivery of the same event.
    pub id: String,
    /// When the epoch ended that caused it, or when the answer to a further question came. RFC 3339, UTC.
    pub timestamp: String,
    /// The code of the check, as in `META_001`.
    pub check: String,
    /// The title of the check.
    pub title: String,
    /// What the check is about.
    pub category: String,
    /// How bad it is; of a resolved alert, how bad it was.
    pub severity: Severity,
    /// Where the alert stands now.
    pub state: State,
    /// Why this event was sent.
    pub reason: Reason,
    /// The id of the incident: one life from the first suspicion to the resolution.
    pub incident: String,
    /// Counts the events of the incident, from 1, without holes.
    pub seq: u64,
    /// Our own clock at the first evidence. RFC 3339, UTC.
    pub since: String,
    /// How often the alert came back shortly after it was resolved; absent when never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flaps: u32,
    /// Incidents about the same thing that another watcher opened while the two could not hear each other: they end
    /// with this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<String>,
    /// One line for people.
    pub summary: String,
    /// The peer; absent for an alert about a whole group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<EventPeer>,
    /// The meta group.
    pub group: EventGroup,
    /// Why a fault is believed: the servers report it, or two independent witnesses agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Grounds>,
    /// Who says what of the peer; absent for an alert about a whole group, and for one that goes by what the peer says
    /// of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The number that it goes by; absent where it goes by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// The best guess at what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What servers said when they were asked after the alert; absent before they answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnosis: Vec<Diagnosis>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
    /// What the replies of the epoch contradict each other in, and what else is worth knowing; the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How many entries its lists lack, by the name of the list, as in `{"missing":3}`; absent when all are whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// The epoch that caused the event; of a diagnosis, the last one before it.
    pub epoch: EventEpoch,
    /// Which system it is about: the same for all watchers of a system. Absent in events of versions that
    /// knew none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Who watches.
    pub monitor: Monitor,
}

/// The peer an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPeer {
    /// Its id: the key.
    pub id: String,
    /// Its name; absent where nobody ever told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The cluster it last answered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// When it last answered us. RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<String>,
}

/// A meta group, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventGroup {
    /// The group's name in subjects.
    #[serde(default)]
    pub name: String,
    /// Its JetStream domain; empty for none.
    pub domain: String,
    /// The clusters its members answered from.
    pub clusters: Vec<String>,
    /// The leader whose list counts; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// How many peers it has, the dead ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How many must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u64>,
    /// How many are online; absent when that cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<u64>,
    /// How many more may go before quorum is lost; negative when it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_left: Option<i64>,
    /// How many enabled members answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answering: Option<u64>,
    /// An operator lowered the quorum (`rescue`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub rescue: bool,
}

/// Who says what of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Who speaks against it: `flag`, `contact`, `silence`, `disconnected`, `disabled`, `announced`, `hearsay`, `unlisted`,
    /// `standstill`, `out_of_storage`.
    #[serde(default)]
    pub witnesses: Vec<String>,
    /// The authoritative list's offline flag; absent when no list tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<bool>,
    /// The leader's last contact, in nanoseconds ago; 0 means none in its term. Absent when no list tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact_ns: Option<i64>,
    /// Whether the leader calls it current; absent when no list tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<bool>,
    /// How many epochs running it has missed while others of its group answered.
    #[serde(default)]
    pub silent_epochs: u32,
    /// Whether it answers that its JetStream is off.
    #[serde(default)]
    pub disabled: bool,
    /// How it announced its stop: `SHUTDOWN` or `LAMEDUCK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// Whether it answered this epoch in any way.
    #[serde(default, skip_serializing_if = "is_false")]
    pub answers: bool,
    /// It answered the question for its routes (`STATSZ`) in this epoch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub answers_statsz: bool,
    /// The leader has heard it since it fell silent to us.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leader_still_hears: bool,
    /// Who of its cluster holds a route to it (`held`) and who does not (`lost`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, String>,
    /// What each member that lists it says: `offline`, `online`, or, for the leader, `current` and `not_current`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reporters: BTreeMap<String, String>,
}

/// An epoch, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventEpoch {
    /// Which: the watcher's instance and a number.
    pub id: String,
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

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl AlertEvent {
    /// The subject it is published on. `subject_name` is the peer's name at the incident's first event.
    pub fn subject(&self, prefix: &str, subject_name: &str) -> String {
        format!(
            "{prefix}.alert.{}.{}.{}.{}",
            subject_token(&self.check),
            subject_token(&self.group.name),
            subject_token(subject_name),
            self.state.as_str()
        )
    }

    /// The headers it is published with: duplicates are known by `Nats-Msg-Id`, and `nats sub` shows the summary.
    /// `ce-` is the binary mode of CloudEvents.
    pub fn headers(&self, subject: &str) -> Vec<(&'static str, String)> {
        vec![
            ("Nats-Msg-Id", self.id.clone()),
            ("Content-Type", "application/json".to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-type", self.event_type.clone()),
            ("ce-source", format!("urn:metawatch:{}", subject_token(&self.monitor.name))),
            ("ce-id", self.id.clone()),
            ("ce-time", self.timestamp.clone()),
            ("ce-subject", subject.to_owned()),
            ("Metawatch-Summary", printable(&self.summary).into_owned()),
        ]
    }

    /// The JSON Schema of the event.
    pub fn schema() -> schemars::Schema {
        schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>()
    }
}

/// An event on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub subject: String,
    /// With which headers.
    pub headers: Vec<(&'static str, String)>,
    /// What.
    pub event: AlertEvent,
}

impl Outgoing {
    /// The same on a subject for what is critical: `<prefix>.critical.<check>.<group>.<peer>.<state>`; `None` where it is
    /// not. The id of the message is another one: a stream that takes both must not drop the second as a duplicate.
    #[must_use]
    pub fn critical_copy(&self) -> Option<Self> {
        if self.event.severity != Severity::Critical {
            return None;
        }
        // state, peer, group, check, and what stands before them.
        let mut tokens = self.subject.rsplitn(6, '.').skip(4);
        let (Some("alert"), Some(prefix)) = (tokens.next(), tokens.next()) else { return None };
        let rest = self.subject.get(prefix.len() + ".alert".len()..)?;
        let subject = format!("{prefix}.critical{rest}");
        let header = |(name, value): &(&'static str, String)| match *name {
            "Nats-Msg-Id" => (*name, format!("{value}.critical")),
            "ce-subject" => (*name, subject.clone()),
            _ => (*name, value.clone()),
        };
        let headers = self.headers.iter().map(header).collect();
        Some(Self { subject, headers, event: self.event.clone() })
    }
}
