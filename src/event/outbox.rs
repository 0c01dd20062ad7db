//! Events that wait for their delivery: in order, and never without limit.

use std::collections::{BTreeMap, BTreeSet};

use super::Outgoing;
use crate::alert::State;

/// The events that are not delivered yet.
///
/// When it is full, the oldest event that a newer one of its incident has overtaken makes room, then the oldest
/// event of a resolved incident, then the oldest of all: the newest state of a firing alert goes last.
///
/// It fills up while nobody can be told anything, in a storm: nothing here takes longer the more events wait.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// By their place in the order of arrival.
    waiting: BTreeMap<u64, Outgoing>,
    next_place: u64,
    /// Where the newest event of each incident is.
    newest: BTreeMap<String, u64>,
    /// Where events are that a newer one of their incident has overtaken.
    overtaken: BTreeSet<u64>,
    /// Where the newest event of an incident is that it resolves.
    resolved: BTreeSet<u64>,
    limit: usize,
    dropped: u64,
}

impl Outbox {
    /// An outbox for at most `limit` events.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            next_place: 0,
            newest: BTreeMap::new(),
            overtaken: BTreeSet::new(),
            resolved: BTreeSet::new(),
            limit: limit.max(1),
            dropped: 0,
        }
    }

    /// Adds an event at the end. When there is no room, another one is dropped, or this one.
    pub fn push(&mut self, event: Outgoing) {
        let place = self.next_place;
        self.next_place += 1;
        if let Some(before) = self.newest.insert(event.event.incident.clone(), place) {
            self.resolved.remove(&before);
            self.overtaken.insert(before);
        }
        if event.event.state == State::Resolved {
            self.resolved.insert(place);
        }
        self.waiting.insert(place, event);
        if self.waiting.len() > self.limit
            && let Some(place) = self.most_dispensable()
        {
            self.remove(place);
            self.dropped += 1;
        }
    }

    /// Takes out the event to deliver next.
    pub fn take(&mut self) -> Option<Outgoing> {
        let first = *self.waiting.first_key_value()?.0;
        self.remove(first)
    }

    /// The events that wait, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Outgoing> {
        self.waiting.values()
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many were dropped because there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn most_dispensable(&self) -> Option<u64> {
        let oldest = || self.waiting.first_key_value().map(|(place, _)| place);
        self.overtaken.first().or_else(|| self.resolved.first()).or_else(oldest).copied()
    }

    fn remove(&mut self, place: u64) -> Option<Outgoing> {
        let event = self.waiting.remove(&place)?;
        self.overtaken.remove(&place);
        self.resolved.remove(&place);
        let incident = &event.event.incident;
        if self.newest.get(incident) == Some(&place) {
            self.newest.remove(incident);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests;
