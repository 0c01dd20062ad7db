//! Events that wait for their delivery: in order, and never without limit.

use std::collections::VecDeque;

use super::Outgoing;
use crate::alert::State;

/// The events that are not delivered yet.
///
/// When it is full, the oldest event that a newer one of its incident has overtaken makes room, then the oldest
/// event of a resolved incident, then the oldest of all: the newest state of a firing alert goes last.
#[derive(Clone, Debug)]
pub struct Outbox {
    waiting: VecDeque<Outgoing>,
    limit: usize,
    dropped: u64,
}

impl Outbox {
    /// An outbox for at most `limit` events.
    pub fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), limit: limit.max(1), dropped: 0 }
    }

    /// Adds an event at the end.
    pub fn push(&mut self, event: Outgoing) {
        if self.waiting.len() >= self.limit {
            let at = self.most_dispensable();
            self.waiting.remove(at);
            self.dropped += 1;
        }
        self.waiting.push_back(event);
    }

    /// The event to deliver next.
    pub fn next(&self) -> Option<&Outgoing> {
        self.waiting.front()
    }

    /// The next event was delivered.
    pub fn delivered(&mut self) {
        self.waiting.pop_front();
    }

    /// The events that wait, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Outgoing> {
        self.waiting.iter()
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

    fn most_dispensable(&self) -> usize {
        let overtaken = |index: usize, event: &Outgoing| {
            self.waiting.iter().skip(index + 1).any(|later| later.event.incident == event.event.incident)
        };
        let indexed = || self.waiting.iter().enumerate();
        let overtaken = indexed().find(|(index, event)| overtaken(*index, event));
        let resolved = || indexed().find(|(_, event)| event.event.state == State::Resolved);
        overtaken.or_else(resolved).map_or(0, |(index, _)| index)
    }
}
