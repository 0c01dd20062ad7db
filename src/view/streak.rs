//! How long something has been so, counted in epochs and on our own clock.

use std::time::Duration;

use crate::epoch::Gathered;
use crate::stamp::Stamp;

/// Something that has been so for a while, by our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// The opening of the first epoch that showed it.
    pub since: Stamp,
    /// The end of the last epoch that showed it: later ones may have shown nothing at all.
    pub until: Stamp,
    /// How many epochs running have shown it.
    pub epochs: u32,
}

impl Streak {
    /// One more epoch shows it.
    pub(super) fn again(previous: Option<Self>, gathered: &Gathered) -> Self {
        let (since, epochs) = previous.map_or((gathered.opened, 0), |streak| (streak.since, streak.epochs));
        Self { since, until: gathered.closed, epochs: epochs.saturating_add(1) }
    }

    /// How long it has been so, as far as epochs showed it.
    pub fn lasted(self) -> Duration {
        self.until.since(self.since)
    }
}
