//! What a webhook is to get: every event once at least, those of one incident in their order.
//!
//! Each incident has a lane of its own. What a receiver refuses waits there, and with it what follows of the same
//! incident; the others go on. A lane that grows long keeps only its newest state: the events in between are counted.

use std::collections::{BTreeMap, VecDeque};

use super::answer::parked;
use crate::stamp::Stamp;

/// So many events of one incident wait in full ...
pub const LANE_MAX: usize = 16;
/// ... and so many incidents.
pub const LANES_MAX: usize = 1_000;

/// One event on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// What it is known by: the same at every try.
    pub(super) id: String,
    /// The incident that it belongs to.
    pub(super) lane: String,
    /// The end of an incident.
    pub(super) is_end: bool,
    pub(super) body: String,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    waiting: VecDeque<Delivery>,
    /// Its place among the others: the number of its first event.
    order: u64,
    /// The receiver refused its first event; it is tried again then.
    parked_until: Option<Stamp>,
}

/// What waits for one webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<String, Lane>,
    /// The lane whose first event is on its way.
    on_the_way: Option<String>,
    number: u64,
    /// Events that a newer one of their incident has overtaken.
    pub(super) overtaken: u64,
    /// Events that were dropped: too many incidents waited.
    pub(super) dropped: u64,
}

impl Queue {
    pub(super) fn push(&mut self, delivery: Delivery) {
        if !self.lanes.contains_key(&delivery.lane) && self.lanes.len() >= LANES_MAX {
            self.make_room();
        }
        self.number += 1;
        let flying = self.on_the_way.as_deref() == Some(delivery.lane.as_str());
        let lane = self.lanes.entry(delivery.lane.clone()).or_default();
        if lane.waiting.is_empty() {
            lane.order = self.number;
        }
        lane.waiting.push_back(delivery);
        if lane.waiting.len() > LANE_MAX {
            // What is on its way stays until it is known what became of it.
            let first = usize::from(flying);
            let last = lane.waiting.len() - 1;
            lane.waiting.drain(first..last);
            self.overtaken += (last - first) as u64;
        }
    }

    /// Ends of incidents go first, of those the oldest.
    fn make_room(&mut self) {
        let flying = self.on_the_way.as_deref();
        let rank = |lane: &Lane| (lane.waiting.back().is_none_or(|last| !last.is_end), lane.order);
        let others = self.lanes.iter().filter(|(name, _)| Some(name.as_str()) != flying);
        let least = others.min_by_key(|(_, lane)| rank(lane)).map(|(name, _)| name.clone());
        if let Some(lane) = least.and_then(|name| self.lanes.remove(&name)) {
            self.dropped += lane.waiting.len() as u64;
        }
    }

    /// The event to post next, of the lane that has waited longest. It is on its way from now on.
    pub(super) fn next(&mut self, now: Stamp) -> Option<Delivery> {
        let ready = |lane: &&Lane| lane.parked_until.is_none_or(|until| now.has_reached(until));
        let lanes = self.lanes.iter().filter(|(_, lane)| ready(lane));
        let (name, lane) = lanes.min_by_key(|(_, lane)| lane.order)?;
        let delivery = lane.waiting.front()?.clone();
        self.on_the_way = Some(name.clone());
        Some(delivery)
    }

    /// What was on its way has arrived.
    pub(super) fn taken(&mut self) {
        let Some(name) = self.on_the_way.take() else { return };
        self.number += 1;
        let Some(lane) = self.lanes.get_mut(&name) else { return };
        lane.waiting.pop_front();
        lane.parked_until = None;
        // The others come first now.
        lane.order = self.number;
        if lane.waiting.is_empty() {
            self.lanes.remove(&name);
        }
    }

    /// What was on its way has not arrived, and is tried again when the receiver is.
    pub(super) fn not_taken(&mut self) {
        self.on_the_way = None;
    }

    /// What was on its way is refused: its lane waits, the others go on.
    pub(super) fn refused(&mut self, now: Stamp) {
        if let Some(lane) = self.on_the_way.take().and_then(|name| self.lanes.get_mut(&name)) {
            lane.parked_until = Some(now.plus(parked()));
        }
    }

    /// When anything is to be posted.
    pub(super) fn next_at(&self, now: Stamp) -> Option<Stamp> {
        let at = self.lanes.values().map(|lane| lane.parked_until.unwrap_or(now));
        at.min_by_key(|at| at.steady_ns())
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }
}
