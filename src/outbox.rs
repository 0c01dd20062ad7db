//! Events on their way out: decided, and not known to have arrived.
//!
//! Every event has one [`Stage`] here, from the moment it is decided until it has arrived. **Invariants:** nothing
//! leaves the outbox but by delivery, by being handed to the watcher that is active instead ([`Outbox::replace`]), or
//! by a drop that is counted and told ([`Outbox::take_losses`]); the events of one incident leave in their order; and
//! no step takes longer than the logarithm of what is in it, because it fills up in a storm.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::State;
use crate::event::Outgoing;
use crate::stamp::Stamp;

mod stages;

pub use stages::Stage;
use stages::Stages;

/// So many losses are remembered as examples until they are told; all are counted.
const LOSSES_MAX: usize = 16;

/// Why an event was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Too many events wait.
    #[error("too many events wait")]
    NoRoom,
    /// It was refused, and a newer event of its incident has taken its place.
    #[error("it was refused, and a newer event of its incident has taken its place")]
    Overtaken,
    /// No server or stream will ever take it.
    #[error("it can never be published: {0}")]
    Impossible(String),
}

/// An event to be published, and its number in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// Its number.
    pub place: u64,
    /// The event.
    pub outgoing: Outgoing,
}

#[derive(Clone, Debug)]
struct Entry {
    outgoing: Outgoing,
    stage: Stage,
    /// When it is published once more after it has arrived.
    repeat_at: Option<Stamp>,
    /// How often it was not taken.
    failures: u32,
    /// A stream has refused it: a newer event of its incident takes its place.
    refused: bool,
}

/// The events that are decided and have not arrived.
///
/// When it is full, what has arrived and is to be repeated makes room, then the oldest event that a newer one of its
/// incident has overtaken, then the oldest event of a resolved incident, then the oldest of all: the newest state of a
/// firing alert goes last.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// By their place in the order of arrival.
    entries: BTreeMap<u64, Entry>,
    next_place: u64,
    by_id: BTreeMap<String, u64>,
    /// The places of the events of each incident.
    incidents: BTreeMap<String, BTreeSet<u64>>,
    /// Where events are that a newer one of their incident has overtaken.
    overtaken: BTreeSet<u64>,
    /// Where the newest event of an incident is that it resolves.
    resolved: BTreeSet<u64>,
    stages: Stages,
    /// Queued events that no earlier event of their incident precedes.
    ready: BTreeSet<u64>,
    limit: usize,
    dropped: u64,
    delivered: u64,
    losses: Vec<(String, Loss)>,
    revision: u64,
}

impl Outbox {
    /// An outbox for at most `limit` events.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            next_place: 0,
            by_id: BTreeMap::new(),
            incidents: BTreeMap::new(),
            overtaken: BTreeSet::new(),
            resolved: BTreeSet::new(),
            stages: Stages::default(),
            ready: BTreeSet::new(),
            limit: limit.max(1),
            dropped: 0,
            delivered: 0,
            losses: Vec::new(),
            revision: 0,
        }
    }

    /// Takes an event that was decided. It is held until [`Self::release`]. Where `repeat_at` is given, it is
    /// published once more then, unless a newer event of its incident comes.
    pub fn decide(&mut self, outgoing: Outgoing, repeat_at: Option<Stamp>) {
        self.insert(outgoing, Stage::Held, repeat_at);
    }

    /// Takes the events of the watcher that is active in the place of what is here: it delivers them, and this
    /// watcher does if it becomes active.
    pub fn replace(&mut self, events: Vec<Outgoing>) {
        for place in self.entries.keys().copied().collect::<Vec<_>>() {
            self.remove(place);
        }
        for event in events {
            self.insert(event, Stage::Held, None);
        }
        self.revision += 1;
    }

    /// Takes events that another watcher has decided and not delivered, besides what is here. Those of one incident
    /// stay in the order of their numbers.
    pub fn merge(&mut self, events: Vec<Outgoing>) {
        for event in events {
            let (incident, seq) = (event.event.incident.clone(), event.event.seq);
            self.insert(event, Stage::Held, None);
            let behind = |place: &u64| {
                let entry = &self.entries[place];
                entry.outgoing.event.seq > seq && !matches!(entry.stage, Stage::InFlight { .. })
            };
            let places = self.incidents.get(&incident).into_iter().flatten().copied();
            for place in places.filter(behind).collect::<Vec<_>>() {
                let Some(entry) = self.remove(place) else { continue };
                self.insert(entry.outgoing, Stage::Held, entry.repeat_at);
            }
        }
    }

    /// What is held may be published now.
    pub fn release(&mut self) {
        for place in std::mem::take(&mut self.stages.held) {
            self.set_stage(place, Stage::Queued);
        }
    }

    /// Nothing may be published any more: this watcher is not the active one.
    pub fn hold(&mut self) {
        for place in self.entries.keys().copied().collect::<Vec<_>>() {
            self.set_stage(place, Stage::Held);
        }
    }

    /// Takes up to `room` events to be published over this connection, in order; they are in flight then. With
    /// `one_each`, no incident has more than one event in flight.
    pub fn dispatch(&mut self, room: usize, generation: u64, one_each: bool) -> Vec<Dispatched> {
        let from = if one_each { &self.ready } else { &self.stages.queued };
        let places: Vec<u64> = from.iter().take(room).copied().collect();
        places.into_iter().filter_map(|place| self.send(place, generation)).collect()
    }

    /// Takes up to `room` events to be stored, of each incident the oldest: `fresh` ones that have never failed, and
    /// then up to `again` others.
    pub fn dispatch_to_stream(&mut self, room: usize, again: usize, generation: u64) -> Vec<Dispatched> {
        let failed = |place: &u64| self.entries[place].failures > 0;
        let fresh = self.ready.iter().filter(|place| !failed(place));
        let again = self.ready.iter().filter(|place| failed(place)).take(again);
        let places: Vec<u64> = fresh.chain(again).take(room).copied().collect();
        places.into_iter().filter_map(|place| self.send(place, generation)).collect()
    }

    fn send(&mut self, place: u64, generation: u64) -> Option<Dispatched> {
        self.set_stage(place, Stage::InFlight { generation, handed: None });
        let outgoing = self.entries.get(&place)?.outgoing.clone();
        Some(Dispatched { place, outgoing })
    }

    /// The client has taken an event of this connection.
    pub fn handed(&mut self, place: u64, generation: u64, at: Stamp) {
        if self.is_in_flight(place, generation) {
            self.set_stage(place, Stage::InFlight { generation, handed: Some(at) });
        }
    }

    /// The client of this connection did not take an event: it is published again.
    pub fn not_taken(&mut self, place: u64, generation: u64) {
        if self.is_in_flight(place, generation) {
            self.set_stage(place, Stage::Queued);
        }
    }

    /// Everything has arrived that the client took from this connection until `before`. Gives how many events that
    /// were.
    pub fn confirm(&mut self, generation: u64, before: Stamp) -> usize {
        let arrived = |place: &u64| {
            matches!(self.entries[place].stage, Stage::InFlight { generation: of, handed: Some(at) }
                if of == generation && before.has_reached(at))
        };
        let places: Vec<u64> = self.stages.in_flight.iter().filter(|place| arrived(place)).copied().collect();
        for place in &places {
            self.arrive(*place);
        }
        places.len()
    }

    /// An event has arrived that was sent over this connection.
    pub fn arrived(&mut self, place: u64, generation: u64) {
        if self.is_in_flight(place, generation) {
            self.arrive(place);
        }
    }

    fn arrive(&mut self, place: u64) {
        self.delivered += 1;
        let newest = !self.overtaken.contains(&place);
        match self.entries.get_mut(&place).and_then(|entry| entry.repeat_at.take()) {
            Some(at) if newest => self.set_stage(place, Stage::Repeat { at }),
            _ => {
                self.remove(place);
            }
        }
    }

    /// There is another connection: what was in flight on others, and what was parked, is published again.
    pub fn reconnected(&mut self, generation: u64) {
        let again = |(place, entry): (&u64, &Entry)| match entry.stage {
            Stage::InFlight { generation: of, .. } => (of != generation).then_some(*place),
            Stage::Parked { .. } => Some(*place),
            Stage::Held | Stage::Queued | Stage::Repeat { .. } => None,
        };
        for place in self.entries.iter().filter_map(again).collect::<Vec<_>>() {
            self.set_stage(place, Stage::Queued);
        }
    }

    /// The server refuses the subject: nothing that is in flight has arrived.
    pub fn take_back(&mut self) {
        for place in std::mem::take(&mut self.stages.in_flight) {
            self.set_stage(place, Stage::Queued);
        }
    }

    /// No stream has acknowledged an event: it is tried again at `until`. One that a stream has `refused` waits for
    /// no other event of its incident, and no other for it.
    pub fn park(&mut self, place: u64, until: Stamp, refused: bool) {
        if refused && self.overtaken.contains(&place) {
            return self.drop_one(place, Loss::Overtaken);
        }
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.failures = entry.failures.saturating_add(1);
            entry.refused = refused;
            self.set_stage(place, Stage::Parked { until });
        }
    }

    /// How often an event was not taken.
    pub fn failures(&self, place: u64) -> u32 {
        self.entries.get(&place).map_or(0, |entry| entry.failures)
    }

    /// An event can never be published.
    pub fn give_up(&mut self, place: u64, why: String) {
        if self.entries.contains_key(&place) {
            self.drop_one(place, Loss::Impossible(why));
        }
    }

    /// Whether an event is on its way over this connection.
    pub fn is_in_flight(&self, place: u64, generation: u64) -> bool {
        let stage = self.entries.get(&place).map(|entry| entry.stage);
        matches!(stage, Some(Stage::InFlight { generation: of, .. }) if of == generation)
    }

    /// Queues what is due: parked events, and repetitions.
    pub fn wake(&mut self, now: Stamp) {
        while let Some((due, place)) = self.stages.timers.first().copied()
            && due <= now.steady_ns()
        {
            self.set_stage(place, Stage::Queued);
        }
    }

    /// How long after `now` something is due; nothing when nothing is.
    pub fn next_due(&self, now: Stamp) -> Option<Stamp> {
        let (due, _) = self.stages.timers.first()?;
        let nanos = u64::try_from(due.saturating_sub(now.steady_ns())).unwrap_or(0);
        Some(now.plus(std::time::Duration::from_nanos(nanos)))
    }

    /// The events, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Outgoing> {
        self.entries.values().map(|entry| &entry.outgoing)
    }

    /// Each event's id and stage, in order.
    pub fn stages(&self) -> impl Iterator<Item = (&str, Stage)> {
        self.entries.values().map(|entry| (entry.outgoing.event.id.as_str(), entry.stage))
    }

    /// How many events have not arrived.
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.stages.repeats.len()
    }

    /// How many events are on their way.
    pub fn in_flight(&self) -> usize {
        self.stages.in_flight.len()
    }

    /// How many of these were not taken before.
    pub fn in_flight_again(&self) -> usize {
        self.stages.in_flight.iter().filter(|place| self.entries[place].failures > 0).count()
    }

    /// Whether anything is held.
    pub fn has_held(&self) -> bool {
        !self.stages.held.is_empty()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many deliveries have arrived since the start.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How many events were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ids of events that were dropped since the last call, the first of them, and why.
    pub fn take_losses(&mut self) -> Vec<(String, Loss)> {
        std::mem::take(&mut self.losses)
    }

    /// Another number whenever another event is in it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn insert(&mut self, outgoing: Outgoing, stage: Stage, repeat_at: Option<Stamp>) {
        if self.by_id.contains_key(&outgoing.event.id) {
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.revision += 1;
        let incident = outgoing.event.incident.clone();
        let before = self.incidents.entry(incident).or_default().last().copied();
        if let Some(before) = before {
            self.overtake(before);
        }
        // What was before may have been the last of the incident, and have gone.
        self.incidents.entry(outgoing.event.incident.clone()).or_default().insert(place);
        if outgoing.event.state == State::Resolved {
            self.resolved.insert(place);
        }
        self.by_id.insert(outgoing.event.id.clone(), place);
        let entry = Entry { outgoing, stage, repeat_at, failures: 0, refused: false };
        self.entries.insert(place, entry);
        self.set_stage(place, stage);
        if self.entries.len() > self.limit
            && let Some(place) = self.most_dispensable()
        {
            if self.stages.repeats.contains(&place) {
                self.remove(place);
            } else {
                self.drop_one(place, Loss::NoRoom);
            }
        }
    }

    /// A newer event of the incident comes behind the one at this place.
    fn overtake(&mut self, place: u64) {
        self.resolved.remove(&place);
        let entry = &self.entries[&place];
        match entry.stage {
            // It has arrived, and would come after the newer one.
            Stage::Repeat { .. } => {
                self.remove(place);
            }
            Stage::Parked { .. } if entry.refused => self.drop_one(place, Loss::Overtaken),
            Stage::Held | Stage::Queued | Stage::InFlight { .. } | Stage::Parked { .. } => {
                self.overtaken.insert(place);
            }
        }
    }

    fn most_dispensable(&self) -> Option<u64> {
        let oldest = || self.entries.first_key_value().map(|(place, _)| place);
        let first = self.stages.repeats.first().or_else(|| self.overtaken.first());
        first.or_else(|| self.resolved.first()).or_else(oldest).copied()
    }

    fn drop_one(&mut self, place: u64, loss: Loss) {
        let Some(entry) = self.remove(place) else { return };
        self.dropped = self.dropped.saturating_add(1);
        if self.losses.len() < LOSSES_MAX {
            self.losses.push((entry.outgoing.event.id, loss));
        }
    }

    fn set_stage(&mut self, place: u64, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        let before = std::mem::replace(&mut entry.stage, stage);
        let incident = entry.outgoing.event.incident.clone();
        self.stages.remove(place, before);
        self.stages.insert(place, stage);
        self.ready.remove(&place);
        self.index_ready(&incident);
    }

    /// Of each incident, the oldest event may go.
    fn index_ready(&mut self, incident: &str) {
        let Some(first) = self.incidents.get(incident).and_then(|places| places.first()) else { return };
        if self.stages.queued.contains(first) {
            self.ready.insert(*first);
        }
    }

    fn remove(&mut self, place: u64) -> Option<Entry> {
        let entry = self.entries.remove(&place)?;
        self.revision += 1;
        self.stages.remove(place, entry.stage);
        self.ready.remove(&place);
        self.overtaken.remove(&place);
        self.resolved.remove(&place);
        self.by_id.remove(&entry.outgoing.event.id);
        let incident = &entry.outgoing.event.incident;
        if let Some(places) = self.incidents.get_mut(incident) {
            places.remove(&place);
            if places.is_empty() {
                self.incidents.remove(incident);
            } else {
                self.index_ready(incident);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
