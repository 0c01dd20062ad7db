//! Which events are in which stage.

use std::collections::BTreeSet;

use crate::stamp::Stamp;

/// Where an event is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It may not be published yet: the state file and the other watchers are to know of it first.
    Held,
    /// It is to be published.
    Queued,
    /// It is on its way over the connection with this number.
    InFlight {
        /// Counts the connections.
        generation: u64,
        /// When the client took it.
        handed: Option<Stamp>,
    },
    /// A stream did not take it; it is tried again at this time.
    Parked {
        /// The time.
        until: Stamp,
    },
    /// It has arrived, and is published once more at this time.
    Repeat {
        /// The time.
        at: Stamp,
    },
}

/// The places of the events, by their stage: no step has to look through all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages {
    pub(super) held: BTreeSet<u64>,
    pub(super) queued: BTreeSet<u64>,
    pub(super) in_flight: BTreeSet<u64>,
    pub(super) repeats: BTreeSet<u64>,
    /// Parked events and repetitions, by when they are due on the steady clock.
    pub(super) timers: BTreeSet<(i64, u64)>,
}

impl Stages {
    /// The event at this place is in this stage now.
    pub(super) fn insert(&mut self, place: u64, stage: Stage) {
        match stage {
            Stage::Held => self.held.insert(place),
            Stage::Queued => self.queued.insert(place),
            Stage::InFlight { .. } => self.in_flight.insert(place),
            Stage::Parked { until } => self.timers.insert((until.steady_ns(), place)),
            Stage::Repeat { at } => self.repeats.insert(place) | self.timers.insert((at.steady_ns(), place)),
        };
    }

    /// The event at this place was in this stage.
    pub(super) fn remove(&mut self, place: u64, stage: Stage) {
        match stage {
            Stage::Held => self.held.remove(&place),
            Stage::Queued => self.queued.remove(&place),
            Stage::InFlight { .. } => self.in_flight.remove(&place),
            Stage::Parked { until } => self.timers.remove(&(until.steady_ns(), place)),
            Stage::Repeat { at } => {
                self.repeats.remove(&place) | self.timers.remove(&(at.steady_ns(), place))
            }
        };
    }
}
