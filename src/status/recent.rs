//! What is kept of the past: the last events, and what happened in all epochs together.

use std::collections::VecDeque;

use serde::Serialize;

use crate::alert::{Reason, State};
use crate::check::Severity;
use crate::epoch::Counts;
use crate::event::AlertEvent;
use crate::view::EpochFacts;

/// So many events are kept; older ones go.
pub const RECENT_MAX: usize = 30;

/// An event that was decided lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentEvent {
    /// When. RFC 3339, UTC.
    pub at: String,
    /// The check.
    pub check: String,
    /// The group.
    pub group: String,
    /// The name of the peer; `_` for a whole group.
    pub name: String,
    /// Where the incident stood then.
    pub state: State,
    /// Why there was an event.
    pub reason: Reason,
    /// How bad it was.
    pub severity: Severity,
    /// The incident.
    pub incident: String,
    /// The number of the event in it.
    pub seq: u64,
    /// One line for people.
    pub summary: String,
}

/// The last events of a watcher.
#[derive(Clone, Debug, Default)]
pub struct RecentEvents {
    events: VecDeque<RecentEvent>,
}

impl RecentEvents {
    /// Takes an event that was decided now.
    pub fn take(&mut self, event: &AlertEvent) {
        let peer = event.peer.as_ref();
        self.events.truncate(RECENT_MAX - 1);
        self.events.push_front(RecentEvent {
            at: event.timestamp.clone(),
            check: event.check.clone(),
            group: event.group.name.clone(),
            name: peer.map_or("_", |peer| peer.name.as_deref().unwrap_or(&peer.id)).to_owned(),
            state: event.state,
            reason: event.reason,
            severity: event.severity,
            incident: event.incident.clone(),
            seq: event.seq,
            summary: event.summary.clone(),
        });
    }

    /// Those about some groups.
    #[must_use]
    pub fn of_groups(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self { events: self.events.iter().filter(|event| wanted(&event.group)).cloned().collect() }
    }

    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &RecentEvent> {
        self.events.iter()
    }
}

/// What happened in all epochs of a run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Epochs.
    pub epochs: u64,
    /// Of them, those in which nothing was learned of the system.
    pub blind_epochs: u64,
    /// Of them, those that ran their course and showed something of the system, whoever did not answer.
    pub complete_epochs: u64,
    /// Replies that were used.
    pub replies: u64,
    /// Replies that came after their epoch.
    pub late: u64,
    /// Replies that could not be read.
    pub rejected: u64,
    /// Replies that came twice.
    pub duplicate: u64,
    /// Replies that contradict another one of the same server.
    pub conflicting: u64,
    /// Messages that nobody asked for.
    pub unexpected: u64,
    /// Replies and announcements that there was no room for.
    pub dropped: u64,
}

impl Totals {
    /// Takes the numbers of one epoch.
    pub fn take(&mut self, epoch: &EpochFacts) {
        let Counts { rejected, late, duplicate, conflicting, unexpected, dropped, announcements_dropped } =
            epoch.counts;
        self.epochs += 1;
        self.blind_epochs += u64::from(!epoch.informative);
        self.complete_epochs += u64::from(epoch.is_complete());
        self.replies += epoch.heard as u64;
        self.late += late;
        self.rejected += rejected;
        self.duplicate += duplicate;
        self.conflicting += conflicting;
        self.unexpected += unexpected;
        self.dropped += dropped + announcements_dropped;
    }
}
