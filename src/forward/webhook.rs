//! What a webhook is to get: every event once at least, those of one incident in their order.
//!
//! Each incident has a lane of its own. What a receiver refuses waits there; where a newer event of the same incident
//! waits behind it, it is tried once more, and then the newer one takes its place. A lane that grows long keeps only its
//! newest state. What no receiver gets is counted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::parked;
use crate::stamp::Stamp;

/// So many events of one incident wait in full ...
pub const LANE_MAX: usize = 16;
/// ... of so many incidents ...
pub const LANES_MAX: usize = 1_000;
/// ... in so many bytes.
pub const BYTES_MAX: usize = 32 << 20;
/// What is refused while a newer event waits behind it is tried once more after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// One event on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How often the receiver refused its first event.
    refused: u32,
    /// That event is tried again then.
    parked_until: Option<Stamp>,
}

/// What waits for one webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<String, Lane>,
    /// The lane whose first event is on its way.
    on_the_way: Option<String>,
    number: u64,
    bytes: usize,
    /// Events that a newer one of their incident has overtaken.
    pub(super) overtaken: u64,
    /// Events that were dropped: too many incidents waited.
    pub(super) dropped: u64,
}

/// What a refusal means for the event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The event.
    pub(super) id: String,
    /// It was refused before.
    pub(super) again: bool,
    /// A newer event of its incident stands in its place from now on.
    pub(super) replaced: bool,
}

impl Queue {
    pub(super) fn push(&mut self, delivery: Delivery, now: Stamp) {
        if !self.lanes.contains_key(&delivery.lane) && self.lanes.len() >= LANES_MAX {
            self.make_room(&delivery.lane);
        }
        self.number += 1;
        let flying = self.is_on_the_way(&delivery.lane);
        self.bytes += delivery.body.len();
        let name = delivery.lane.clone();
        let lane = self.lanes.entry(name.clone()).or_default();
        if lane.waiting.is_empty() {
            lane.order = self.number;
        }
        lane.waiting.push_back(delivery);
        if lane.parked_until.is_some() {
            lane.parked_until = Some(now);
        }
        if lane.waiting.len() > LANE_MAX {
            self.overtake(&name, flying);
        }
        while self.bytes > BYTES_MAX && self.shrink(&name) {}
    }

    fn is_on_the_way(&self, lane: &str) -> bool {
        self.on_the_way.as_deref() == Some(lane)
    }

    /// Keeps of a lane its newest event, and what is on its way until it is known what became of that. Gives whether
    /// anything went.
    fn overtake(&mut self, lane: &str, flying: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(lane) else { return false };
        let (first, last) = (usize::from(flying), lane.waiting.len().saturating_sub(1));
        if first >= last {
            return false;
        }
        self.bytes -= lane.waiting.drain(first..last).map(|delivery| delivery.body.len()).sum::<usize>();
        if !flying {
            (lane.refused, lane.parked_until) = (0, None);
        }
        self.overtaken += (last - first) as u64;
        true
    }

    /// Makes room for bytes: what newer events have overtaken goes before newest states do. `kept` stays.
    fn shrink(&mut self, kept: &str) -> bool {
        let longest = self.lanes.iter().max_by_key(|(_, lane)| lane.waiting.len());
        let Some(longest) = longest.map(|(name, _)| name.clone()) else { return false };
        let flying = self.is_on_the_way(&longest);
        self.overtake(&longest, flying) || self.make_room(kept)
    }

    /// Ends of incidents go first, of those the oldest. `kept` stays, and what is on its way. Gives whether anything went.
    fn make_room(&mut self, kept: &str) -> bool {
        let rank = |lane: &Lane| (lane.waiting.back().is_none_or(|last| !last.is_end), lane.order);
        let others = self.lanes.iter().filter(|(name, _)| !self.is_on_the_way(name) && *name != kept);
        let least = others.min_by_key(|(_, lane)| rank(lane)).map(|(name, _)| name.clone());
        let Some(lane) = least.and_then(|name| self.lanes.remove(&name)) else { return false };
        self.bytes -= lane.waiting.iter().map(|delivery| delivery.body.len()).sum::<usize>();
        self.dropped += lane.waiting.len() as u64;
        true
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
        self.pop(&name);
    }

    /// The first event of a lane goes.
    fn pop(&mut self, name: &str) -> Option<Delivery> {
        self.number += 1;
        let lane = self.lanes.get_mut(name)?;
        let first = lane.waiting.pop_front();
        self.bytes -= first.as_ref().map_or(0, |delivery| delivery.body.len());
        (lane.refused, lane.parked_until) = (0, None);
        // The others come first now.
        lane.order = self.number;
        if lane.waiting.is_empty() {
            self.lanes.remove(name);
        }
        first
    }

    /// What was on its way has not arrived, and is tried again when the receiver is.
    pub(super) fn not_taken(&mut self) {
        self.on_the_way = None;
    }

    /// What was on its way is refused: its lane waits, the others go on.
    pub(super) fn refused(&mut self, now: Stamp) -> Option<Refusal> {
        let name = self.on_the_way.take()?;
        let lane = self.lanes.get_mut(&name)?;
        lane.refused = lane.refused.saturating_add(1);
        let (again, newer) = (lane.refused > 1, lane.waiting.len() > 1);
        let id = lane.waiting.front()?.id.clone();
        if again && newer {
            self.pop(&name);
            self.overtaken += 1;
        } else {
            lane.parked_until = Some(now.plus(if newer { AGAIN } else { parked() }));
        }
        Some(Refusal { id, again, replaced: again && newer })
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

    /// What waits, the lanes in their order.
    pub(super) fn saved(&self) -> Vec<Delivery> {
        let mut lanes: Vec<&Lane> = self.lanes.values().collect();
        lanes.sort_by_key(|lane| lane.order);
        lanes.into_iter().flat_map(|lane| &lane.waiting).cloned().collect()
    }
}
