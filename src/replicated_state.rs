//! What must outlive a watcher: the alerts that were told, and the events that are not delivered yet.
//!
//! A [`ReplicatedState`] is what the state file holds and what the active watcher replicates to the others, so that
//! any of them can go on where another stopped. It is replicated *before* the events in it are published: whoever goes
//! on publishes them again, with the same ids. Nothing in it is believed without checks, wherever it comes from.

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertTable, SavedAlert};
use crate::event::{AlertEvent, Outgoing, SEQ_MAX};
use crate::name::subject_token;
use crate::stamp::{Stamp, parse_wall_ns};
use crate::view::{SavedHistory, read_leniently};

/// More events than this are not handed on; the newest are.
const WAITING_MAX: usize = 10_000;
/// The longest subject that is believed.
const SUBJECT_MAX: usize = 1_024;
/// Terms and revisions beyond this are not believed: nobody comes to them by counting.
pub const COUNT_MAX: u64 = 1 << 48;
/// The longest instance or name that is believed, in bytes.
pub const NAME_MAX: usize = 128;
/// So many versions of earlier writers are remembered as part of a state.
pub const MERGED_VERSIONS_MAX: usize = 32;

/// A state as it stood at some time while one watcher was active.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateVersion {
    /// The term of the active watcher: it counts those that were active one after the other, as in Raft.
    pub term: u64,
    /// How often the state had changed in that term.
    pub revision: u64,
    /// The instance that was active.
    pub writer: String,
}

impl StateVersion {
    /// Whether there can be such a one: numbers at the end of their range would stop to count.
    pub fn is_sound(&self) -> bool {
        let named = (1..=NAME_MAX).contains(&self.writer.len());
        named && self.term < COUNT_MAX && self.revision < COUNT_MAX
    }

    /// Whether this is what the same writer had in the same term, as it stood then or later.
    pub fn includes(&self, other: &Self) -> bool {
        self.writer == other.writer && self.term == other.term && self.revision >= other.revision
    }
}

/// Alerts and events that wait, as a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicatedState {
    /// Every alert that is not over, and those that were until a moment ago.
    pub alerts: Vec<SavedAlert>,
    /// The events that are not delivered yet, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<SavedEvent>,
    /// Which system they are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Which version this is; absent in the files of versions of metawatch that counted none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<StateVersion>,
    /// The last versions of earlier writers that went into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_versions: Vec<StateVersion>,
    /// What its watcher remembers of the servers. It goes to other watchers, and into no file: the servers that a
    /// restart finds tell it anew.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "read_leniently")]
    pub history: Option<SavedHistory>,
}

/// An event on its way out, as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEvent {
    /// Its subject behind the prefix.
    subject: String,
    event: AlertEvent,
}

/// A state, read: what of it is believed.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// The events that wait.
    pub waiting: Vec<Outgoing>,
    /// How many alerts and events are not believed.
    pub refused: usize,
}

impl ReplicatedState {
    /// Writes down a table, and the events that wait.
    pub fn new<'a>(
        table: &AlertTable,
        waiting: impl DoubleEndedIterator<Item = &'a Outgoing>,
        prefix: &str,
    ) -> Self {
        let mut newest: Vec<SavedEvent> =
            waiting.rev().take(WAITING_MAX).filter_map(|event| SavedEvent::of(event, prefix)).collect();
        newest.reverse();
        Self { alerts: table.save(), waiting: newest, ..Self::default() }
    }

    /// Reads it on this watcher's clock, for publishing under this prefix.
    pub fn read(self, prefix: &str, now: Stamp) -> Restored {
        let mut restored = Restored::default();
        for alert in self.alerts {
            match alert.restore(now) {
                Ok(alert) => restored.alerts.push(alert),
                Err(_) => restored.refused += 1,
            }
        }
        for event in self.waiting {
            match event.restore(prefix) {
                Some(event) => restored.waiting.push(event),
                None => restored.refused += 1,
            }
        }
        restored
    }

    /// Whether there is nothing in it that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.waiting.is_empty()
    }

    /// Whether it holds the same as another one, of whichever version.
    pub fn holds_the_same(&self, other: &Self) -> bool {
        self.alerts == other.alerts && self.waiting == other.waiting && self.system == other.system
    }

    /// Whether its versions can be.
    pub fn is_sound(&self) -> bool {
        self.merged_versions.len() <= MERGED_VERSIONS_MAX
            && self.version.iter().chain(&self.merged_versions).all(StateVersion::is_sound)
    }

    /// Whether what this version held went into it.
    pub fn includes(&self, version: &StateVersion) -> bool {
        self.version.iter().chain(&self.merged_versions).any(|known| known.includes(version))
    }

    /// Remembers that a version is part of it.
    pub fn remember(&mut self, version: StateVersion) {
        self.merged_versions.retain(|known| !version.includes(known));
        self.merged_versions.push(version);
        let excess = self.merged_versions.len().saturating_sub(MERGED_VERSIONS_MAX);
        self.merged_versions.drain(..excess);
    }
}

impl SavedEvent {
    fn of(outgoing: &Outgoing, prefix: &str) -> Option<Self> {
        let subject = outgoing.subject.strip_prefix(prefix)?.strip_prefix('.')?;
        Some(Self { subject: subject.to_owned(), event: outgoing.event.clone() })
    }

    /// `None` for a subject that is not an alert's own: nothing is ever published elsewhere.
    fn restore(self, prefix: &str) -> Option<Outgoing> {
        let tokens: Vec<&str> = self.subject.split('.').collect();
        let [kind, check, _, _, state] = tokens[..] else { return None };
        let safe = |token: &&str| {
            !token.is_empty() && subject_token(&token.replace('%', "")) == token.replace('%', "")
        };
        let sound = kind == "alert"
            && check == subject_token(&self.event.check)
            && state == self.event.state.as_str()
            && (1..=SEQ_MAX).contains(&self.event.seq)
            && [&self.event.timestamp, &self.event.since].into_iter().all(|at| parse_wall_ns(at).is_some())
            && self.event.id == format!("{}.{}", self.event.incident, self.event.seq)
            && self.subject.len() <= SUBJECT_MAX
            && tokens.iter().all(safe);
        sound.then(|| {
            let subject = format!("{prefix}.{}", self.subject);
            Outgoing { headers: self.event.headers(&subject), subject, event: self.event }
        })
    }
}

#[cfg(test)]
mod tests;
