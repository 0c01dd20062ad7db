//! What a watcher loses besides alert events: counted by kind, and told when a kind begins and while it goes on.
//!
//! The outbox tells of events that are dropped ([`crate::outbox`]). Everything else that a limit cuts off is counted
//! here, in every heartbeat (`lost`), and in a line that comes once a minute at most, however much is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Daemon;
use super::effect::Line;
use crate::epoch::{Ended, Gathered};
use crate::stamp::Stamp;

/// A kind of loss that goes on is told again after this long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossKind {
    /// Messages on the subjects of the watchers that had no room, or are none.
    PeerMessages,
    /// Messages of watchers that are not believed.
    Disbelieved,
    /// Requests to the service that were refused, or whose answer could not be sent.
    Requests,
    /// Replies and events of servers that had no room.
    Replies,
    /// Replies and events of servers that cannot be read.
    Unreadable,
    /// Questions to the servers that the connection did not take.
    Questions,
    /// Replies to further questions that are too large or cannot be read.
    FollowUps,
    /// What the client said of a connection and had no room: refusals, slow consumers, errors.
    ConnectionEvents,
    /// Heartbeats that could not be sent.
    Heartbeats,
    /// Alert events that were shortened so that the server takes them.
    Shortened,
    /// Alerts that the table had no room for.
    Alerts,
    /// Entries of a saved state, or of another watcher's, that are not believed.
    SavedEntries,
    /// States that are written but may not survive a loss of power.
    Unsynced,
    /// Epochs and payloads that are missing in the recording.
    Recorded,
}

impl LossKind {
    /// Every kind.
    pub(super) const ALL: [Self; 14] = [
        Self::PeerMessages,
        Self::Disbelieved,
        Self::Requests,
        Self::Replies,
        Self::Unreadable,
        Self::Questions,
        Self::FollowUps,
        Self::ConnectionEvents,
        Self::Heartbeats,
        Self::Shortened,
        Self::Alerts,
        Self::SavedEntries,
        Self::Unsynced,
        Self::Recorded,
    ];

    /// The name that heartbeats carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerMessages => "peer_messages",
            Self::Disbelieved => "disbelieved",
            Self::Requests => "requests",
            Self::Replies => "replies",
            Self::Unreadable => "unreadable",
            Self::Questions => "questions",
            Self::FollowUps => "follow_ups",
            Self::ConnectionEvents => "connection_events",
            Self::Heartbeats => "heartbeats",
            Self::Shortened => "shortened",
            Self::Alerts => "alerts",
            Self::SavedEntries => "saved_entries",
            Self::Unsynced => "unsynced",
            Self::Recorded => "recorded",
        }
    }

    /// What happened, and what to do about it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::PeerMessages => (
                "messages on the subjects of the watchers are none, or too many",
                "let only metawatch publish on <prefix>.watcher.*",
            ),
            Self::Disbelieved => (
                "messages of watchers are not believed",
                "let only metawatch publish on <prefix>.watcher.*, in one version",
            ),
            Self::Requests => (
                "requests to the service are not answered as they are meant",
                "see who asks: they are too many, want their answer where it may not go, or carry what none may",
            ),
            Self::Replies => (
                "messages of servers had no room: silence in these epochs counts against nobody",
                "give this process more CPU, or look for servers that answer too much",
            ),
            Self::Unreadable => (
                "replies or events of servers cannot be read",
                "metawatch view lists them; any user of the system account can answer",
            ),
            Self::Questions => ("the connection did not take questions to the servers", ""),
            Self::FollowUps => ("replies to further questions are too large or cannot be read", ""),
            Self::ConnectionEvents => (
                "the connection had more to tell than was kept: refusals, slow consumers, errors",
                "see the log of the server",
            ),
            Self::Heartbeats => ("heartbeats could not be sent", "see the connection that alerts go over"),
            Self::Shortened => (
                "alert events are shortened so that the server takes them",
                "raise max_payload of the servers that alerts go to",
            ),
            Self::Alerts => (
                "too many alerts stand: those of the groups with the most of them are not all followed",
                "see in the view whether all groups are real: any user of the system account can answer as one",
            ),
            Self::SavedEntries => {
                ("entries of a state that was taken over are not believed, and left out", "")
            }
            Self::Unsynced => (
                "states that are written may not survive a loss of power: the disk does not confirm them",
                "see the disk of the state file",
            ),
            Self::Recorded => (
                "the recording lacks epochs or payloads",
                "give --record a file on a faster disk, or with more room",
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    total: u64,
    told: u64,
    told_at: Option<Stamp>,
}

/// The counts since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    counts: BTreeMap<LossKind, Count>,
}

impl Losses {
    /// So many more are lost.
    pub(super) fn add(&mut self, kind: LossKind, more: u64) {
        if more > 0 {
            let count = self.counts.entry(kind).or_default();
            count.total = count.total.saturating_add(more);
        }
    }

    /// So many are lost since the start. It never becomes less.
    pub(super) fn raise(&mut self, kind: LossKind, total: u64) {
        let known = self.total(kind);
        self.add(kind, total.saturating_sub(known));
    }

    pub(super) fn total(&self, kind: LossKind) -> u64 {
        self.counts.get(&kind).map_or(0, |count| count.total)
    }

    /// The counts, as heartbeats carry them.
    pub(super) fn totals(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|(kind, count)| (kind.as_str().to_owned(), count.total)).collect()
    }

    /// Tells what is new, each kind once in a while.
    pub(super) fn tell(&mut self, now: Stamp, lines: &mut Vec<Line>) {
        for (kind, count) in &mut self.counts {
            let waits = count.told_at.is_some_and(|told| now.since(told) < TOLD_EVERY);
            if count.total == count.told || waits {
                continue;
            }
            let (what, hint) = kind.words();
            let (more, total) = (count.total - count.told, count.total);
            lines.push(Line::warn(format!("{what} ({more} more, {total} in all)")).hint(hint));
            (count.told, count.told_at) = (total, Some(now));
        }
    }
}

impl Daemon {
    /// Counts what an epoch could not take, and what was refused until its end.
    pub(super) fn count_losses(&mut self, gathered: &Gathered) {
        let counts = gathered.counts;
        let full = u64::from(gathered.ended == Ended::Full);
        self.losses.add(LossKind::Replies, counts.dropped + counts.announcements_dropped + full);
        self.losses.add(LossKind::Unreadable, counts.rejected);
        self.losses.raise(LossKind::Alerts, self.pipeline.alert_table().overflow());
        self.losses.raise(LossKind::Shortened, self.dispatcher.shortened());
        self.losses.raise(LossKind::Disbelieved, self.coordinator.refused());
        self.losses.raise(LossKind::SavedEntries, self.pipeline.disbelieved());
    }

    /// Messages of watchers and requests to the service that were not understood, not believed or not answered.
    pub(super) fn refused(&self) -> u64 {
        let outside = self.losses.total(LossKind::PeerMessages) + self.losses.total(LossKind::Requests);
        self.coordinator.refused().saturating_add(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp::new(seconds * 1_000_000_000, 0)
    }

    #[test]
    fn every_loss_is_counted_and_told_at_its_begin_and_then_once_a_minute() {
        let mut losses = Losses::default();
        let mut told = Vec::new();
        for second in 0..130 {
            losses.add(LossKind::Requests, 1);
            let mut lines = Vec::new();
            losses.tell(at(second), &mut lines);
            told.extend(lines.into_iter().map(|line| (second, line.text)));
        }
        let seconds: Vec<i64> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [0, 60, 120]);
        assert!(told[1].1.ends_with("(60 more, 61 in all)"), "{told:?}");
        assert_eq!(losses.totals(), BTreeMap::from([("requests".to_owned(), 130)]));
    }

    #[test]
    fn totals_only_rise_and_what_is_not_lost_is_not_told() {
        let mut losses = Losses::default();
        losses.raise(LossKind::Recorded, 0);
        losses.raise(LossKind::Replies, 5);
        losses.raise(LossKind::Replies, 3);
        assert_eq!(losses.totals(), BTreeMap::from([("replies".to_owned(), 5)]));
        let mut lines = Vec::new();
        losses.tell(at(0), &mut lines);
        losses.tell(at(600), &mut lines);
        assert_eq!(lines.len(), 1);
    }
}
