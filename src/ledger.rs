//! What must outlive a watcher: the alerts that were told, and the events that are not delivered yet.
//!
//! A [`Ledger`] is what the state file holds and what watchers of one system tell each other, so that any of them can
//! go on where another stopped. It is written *before* the events in it are published: whoever goes on publishes
//! them again, with the same ids. Nothing in it is believed without checks, wherever it comes from.

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AlertTable, SavedAlert};
use crate::event::{AlertEvent, Outgoing, SEQ_MAX};
use crate::name::subject_token;
use crate::stamp::{Stamp, parse_wall_ns};

/// More events than this are not handed on; the newest are.
const WAITING_MAX: usize = 10_000;
/// The longest subject that is believed.
const SUBJECT_MAX: usize = 1_024;

/// Alerts and events that wait, as a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Every alert that is not over, and those that were until a moment ago.
    pub alerts: Vec<SavedAlert>,
    /// The events that are not delivered yet, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<SavedEvent>,
    /// Which system they are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// An event on its way out, as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedEvent {
    /// Its subject behind the prefix.
    subject: String,
    event: AlertEvent,
}

/// A ledger, read: what of it is believed.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// The events that wait.
    pub waiting: Vec<Outgoing>,
    /// How many alerts and events are not believed.
    pub refused: usize,
}

impl Ledger {
    /// Writes down a table, and the events that wait.
    pub fn new<'a>(
        table: &AlertTable,
        waiting: impl DoubleEndedIterator<Item = &'a Outgoing>,
        prefix: &str,
    ) -> Self {
        let mut newest: Vec<SavedEvent> =
            waiting.rev().take(WAITING_MAX).filter_map(|event| SavedEvent::of(event, prefix)).collect();
        newest.reverse();
        Self { alerts: table.save(), waiting: newest, system: None }
    }

    /// Reads it on this watcher's clock, for publishing under this prefix.
    pub fn read(self, prefix: &str, now: Stamp) -> Entries {
        let mut entries = Entries::default();
        for alert in self.alerts {
            match alert.restore(now) {
                Ok(alert) => entries.alerts.push(alert),
                Err(_) => entries.refused += 1,
            }
        }
        for event in self.waiting {
            match event.restore(prefix) {
                Some(event) => entries.waiting.push(event),
                None => entries.refused += 1,
            }
        }
        entries
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
