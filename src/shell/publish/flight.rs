//! The events that have left the outbox and are not confirmed, and whether their subjects are open.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::event::Outgoing;
use crate::event::outbox::Outbox;
use crate::stamp::Stamp;

/// Events that may be published and not confirmed. Further ones wait until some are.
pub(super) const FLIGHT_MAX: usize = 1_000;
/// Events of different incidents that are stored at once.
const STORED_AT_ONCE: usize = 64;
/// How long after the server refused a subject it is tried again.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// The events that have left the outbox and are not confirmed.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) events: VecDeque<Outgoing>,
    /// So many of them, from the front, were published on the present connection.
    pub(super) published: usize,
    pub(super) generation: u64,
}

impl Flight {
    /// On another connection nothing counts as published; an answer confirms what was.
    /// Gives how many were confirmed.
    pub(super) fn settle(&mut self, generation: u64, answered: bool) -> usize {
        let confirmed = if answered && generation == self.generation { self.published } else { 0 };
        if answered || generation != self.generation {
            self.published = 0;
        }
        self.events.drain(..confirmed);
        confirmed
    }

    /// The event to publish next, from the outbox when none is left here.
    pub(super) fn next(&mut self, outbox: &mut Outbox) -> Option<&Outgoing> {
        if self.published >= self.events.len() && self.events.len() < FLIGHT_MAX {
            self.events.push_back(outbox.take()?);
        }
        self.events.get(self.published)
    }

    /// The event to publish next can never be.
    pub(super) fn give_up(&mut self) {
        self.events.remove(self.published);
    }

    /// The events that may be stored now: of each incident the oldest, so that their order stays, where `may_be` says so.
    pub(super) fn batch(&mut self, outbox: &mut Outbox, may_be: impl Fn(&Outgoing) -> bool) -> Vec<Outgoing> {
        while self.events.len() < STORED_AT_ONCE
            && let Some(next) = outbox.take()
        {
            self.events.push_back(next);
        }
        let mut incidents = BTreeSet::new();
        let oldest = self.events.iter().filter(|event| incidents.insert(&event.event.incident));
        oldest.filter(|event| may_be(event)).cloned().collect()
    }

    /// The event with this id needs no more care.
    pub(super) fn forget(&mut self, id: &str) {
        self.events.retain(|event| event.event.id != id);
    }
}

/// Whether a kind of subject may be published to.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) shut: Option<Stamp>,
    /// It was refused, and nothing has got through since: one event at a time is tried.
    pub(super) in_doubt: bool,
    pub(super) said: bool,
}

impl Gate {
    /// Whether it may be tried.
    pub(super) fn is_open(&mut self, now: Stamp) -> bool {
        if self.shut.is_some_and(|shut| now.since(shut) < REFUSED_AGAIN) {
            return false;
        }
        self.shut = None;
        true
    }
}
