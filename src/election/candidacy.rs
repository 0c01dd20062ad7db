//! How a watcher comes to be active: it waits its time, tells the others that it is a candidate, and begins when no
//! better one is heard.

use std::cmp::Ordering;
use std::time::Duration;

use super::timing::SETTLE;
use super::{Election, LEADERLESS_UNITS_MAX, PeerMessage, Role};
use crate::stamp::Stamp;

impl Election {
    /// Nobody is active.
    pub(super) fn contend(&mut self, now: Stamp) {
        let since = *self.leaderless_since.get_or_insert(now);
        let limit = self.timing.unit * LEADERLESS_UNITS_MAX + self.timing.spread(self.watchers);
        let may_wait = now.since(since) <= limit;
        let isolated = self.is_isolated(now);
        let listened = self.joined.is_some_and(|at| now.since(at) >= self.timing.listening());
        if self.role != Role::Candidate {
            if self.role == Role::Joining && !isolated && !listened {
                return;
            }
            if self.role == Role::Joining && self.patience_until.is_none() {
                let soon = if isolated { Duration::ZERO } else { self.chance.part_of(self.timing.unit / 4) };
                self.patience_until = Some(now.plus(soon));
            }
            if self.patience_until.is_some_and(|until| !now.has_reached(until)) {
                return;
            }
            let other = self.candidates.values().map(|(_, at)| *at).max();
            if let Some(heard) = other.filter(|_| may_wait) {
                let after = self.timing.candidacy() + self.chance.part_of(self.timing.unit / 4);
                self.patience_until = Some(heard.plus(after));
                return;
            }
            self.role_before = self.role;
            self.role = Role::Candidate;
            self.candidate_since = Some(now);
            self.replication.forget_what_was_in_vain();
            self.next_message = Some(now);
        }
        if may_wait && let Some(heard) = self.better_candidate() {
            self.role = self.role_before;
            self.candidate_since = None;
            let after = self.timing.candidacy() + self.chance.part_of(self.timing.unit / 4);
            self.patience_until = Some(heard.plus(after));
            return;
        }
        let settled = self.candidate_since.is_some_and(|at| now.since(at) >= self.settle());
        let heard = isolated || (listened && self.is_leased(now));
        if settled && heard && self.replication.asking().is_none() {
            self.begin(now);
        }
    }

    /// How long a candidate waits for a better one. One that was no standby may know less than others, and they have the
    /// time to say so.
    pub(super) fn settle(&self) -> Duration {
        if self.role_before == Role::Standby { SETTLE } else { SETTLE * 2 }
    }

    /// When a candidate was last heard that comes before us.
    fn better_candidate(&self) -> Option<Stamp> {
        let own = self.message_now(Stamp::new(0, 0));
        let better =
            |other: &PeerMessage| other.candidate_rank().cmp(&own.candidate_rank()) == Ordering::Greater;
        self.candidates.values().filter(|(other, _)| better(other)).map(|(_, at)| *at).max()
    }
}
