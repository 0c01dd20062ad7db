//! The leader's contact to its peers: how old it is, and how much of that counts.
//!
//! Contact counts no further back than the leader's term. A leader of 2.12.8 and 2.15.1 begins with `active` 0 for
//! everybody; one of 2.10.25 that led before begins with the ages of then, 6 to 19 s, until each peer's first answer
//! (measured).

use std::time::Duration;

use super::history::PeerHistory;
use super::{Contact, GroupView};
use crate::epoch::Gathered;
use crate::name::PeerId;
use crate::rules::{HEARD_LATELY, Rules};
use crate::stamp::Stamp;
use crate::wire::Row;

/// Who leads a group, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    /// `None` while nobody does.
    pub(super) leader: Option<PeerId>,
    /// `None` for a leader that was there when we began to watch.
    pub(super) began: Option<TermBegan>,
}

/// When a leader took over, as far as we saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TermBegan {
    /// The last moment that showed another leader or none.
    pub(super) after: Stamp,
    /// The end of the first epoch that showed it.
    pub(super) seen: Stamp,
}

/// How long a leader has led, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedFor {
    /// We have seen it lead for so long.
    pub at_least: Duration,
    /// Longer ago somebody else led, or nobody.
    pub at_most: Duration,
}

impl Tenure {
    /// How long the leader has led; `None` where it was there when we began to watch.
    pub(super) fn led_for(self, now: Stamp) -> Option<LedFor> {
        let began = self.began?;
        Some(LedFor { at_least: now.since(began.seen), at_most: now.since(began.after) })
    }
}

impl PeerHistory {
    /// Remembers what a row or its absence says of contact, and tells it. `led_for` is `None` when the leader was there
    /// before us.
    pub(super) fn contact(
        &mut self,
        row: Option<&Row>,
        gathered: &Gathered,
        led_for: Option<LedFor>,
        rules: &Rules,
    ) -> Contact {
        let Some(row) = row else {
            self.no_contact_since = None;
            return Contact::Untold;
        };
        if row.active_ns < 0 && !row.current {
            // The leader's clock jumped: it says nothing about contact.
            return Contact::Untold;
        }
        let active = contact_in_term(row, led_for);
        if row.current || active.is_some_and(|active| active <= rules.lost_contact) {
            (self.no_contact_since, self.contact_lost) = (None, false);
            return Contact::Fresh;
        }
        // A long age speaks against the peer only where it is surely of this term.
        let seen = |active: &Duration| led_for.is_none_or(|led| *active <= led.at_least);
        let away = match active.filter(seen) {
            Some(active) => {
                self.no_contact_since = None;
                active
            }
            None => {
                let missed_since = self.silence.map_or(gathered.opened, |silence| silence.since);
                let since = *self.no_contact_since.get_or_insert(gathered.opened.min(missed_since));
                gathered.closed.since(since)
            }
        };
        self.contact_lost = away > rules.lost_contact;
        Contact::Away(away)
    }
}

/// How long ago the leader last heard a peer, if that was in its present term.
pub(super) fn contact_in_term(row: &Row, led_for: Option<LedFor>) -> Option<Duration> {
    let active = u64::try_from(row.active_ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos)?;
    led_for.is_none_or(|led| active <= led.at_most).then_some(active)
}

impl GroupView {
    /// How many peers the authoritative leader has heard lately, itself included; 0 where nobody leads.
    pub(super) fn count_heard_by_leader(&self) -> u64 {
        let Some(_) = self.authority else { return 0 };
        let lately = |ago: Duration| ago <= HEARD_LATELY;
        1 + self.peers.iter().filter(|peer| peer.leader_heard.is_some_and(lately)).count() as u64
    }
}
