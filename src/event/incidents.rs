//! What somebody who listens knows: from events, from heartbeats where an event did not arrive, and from
//! heartbeats that do not come.
//!
//! A message of core NATS reaches whoever is connected at that moment, and the alert about a server that stops is sent
//! just while that server's clients look for another one. Heartbeats list what is open, so nobody stays ignorant.
//!
//! Several systems may be heard on the same subjects, and several watchers of one system that do not know of
//! each other. **Invariants:** what is not listed any more is over only on the word of the watcher that told
//! of it last, or of one of the same system that speaks since that one fell silent; times of different
//! watchers are never compared; how long nothing was heard is counted on the receiver's own clock.

mod speakers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::heartbeat::{ActiveIncident, Heartbeat, Status};
use super::{AlertEvent, EventEpoch, SEQ_MAX};
use crate::alert::State;
use crate::check::Severity;
use speakers::System;

/// So many incidents are remembered; the one that was told of longest ago is forgotten first, of those that
/// are over if there are any.
const KNOWN_MAX: usize = 1_000;
/// So many systems are followed.
const SYSTEMS_MAX: usize = 64;
/// Without a heartbeat for this long after the start, nobody seems to watch.
const FIRST_WITHIN: Duration = Duration::from_secs(15);

/// The incidents and the systems that were heard of.
///
/// Every `now` is the time since the listening began, on the receiver's own steady clock.
///
/// ```
/// use std::time::Duration;
///
/// use metawatch::event::AlertEvent;
/// use metawatch::event::incidents::{Heard, Incidents};
///
/// # fn main() -> Result<(), serde_json::Error> {
/// # let payload = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/events/v1/meta_001-firing-diagnosed.json"));
/// let mut incidents = Incidents::default();
/// let event: AlertEvent = serde_json::from_slice(payload)?;
/// let second = Duration::from_secs(1);
/// assert!(matches!(incidents.event(&event, second), Heard::News { before: None }));
/// // Events are delivered at least once.
/// assert_eq!(incidents.event(&event, 2 * second), Heard::Again);
///
/// // Nobody sends a heartbeat: after a while that is news, once.
/// let at = incidents.quiet_at().expect("a time to look at");
/// assert_eq!(incidents.quiet(at).len(), 1);
/// assert!(incidents.quiet(at + second).is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    known: BTreeMap<String, Known>,
    /// By their ids; watchers of versions that told none are one system of their own.
    systems: BTreeMap<Option<String>, System>,
    /// That nobody was ever heard has been told.
    nobody: bool,
    /// How many heartbeats came of systems beyond those that can be followed.
    unfollowed: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    incident: ActiveIncident,
    /// The seq of the last event that was heard, 0 for none.
    heard: u64,
    system: Option<String>,
    /// The instance that told of it last.
    by: String,
    /// In which of its epochs that was.
    order: Order,
    /// When that was heard.
    #[serde(skip)]
    at: Duration,
}

/// What was heard of incidents, for whoever listens on after a restart. Who speaks, and when the next heartbeat is overdue,
/// is learned anew.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedIncidents(Vec<Known>);

/// What an event means to somebody who has heard others before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It, or a later one of its incident, was heard before.
    Again,
    /// It is news.
    News {
        /// Where the incident stood before; `None` when it was not known.
        before: Option<State>,
    },
    /// Its numbers cannot be: no watcher sends that. It is not taken in.
    Unsound,
}

/// What a heartbeat tells.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Incidents that this heartbeat and the one before it tell of, and no event did.
    pub missed: Vec<Missed>,
    /// Its system is heard again, after [`Incidents::quiet`] had told that it is not.
    pub back: bool,
    /// Somebody else speaks on the same subjects. Told once.
    pub beside: Option<Beside>,
    /// So many systems are followed already that this one is not: nothing of it is learned from heartbeats. Told once.
    pub too_many: bool,
}

/// What a heartbeat tells of an incident, and no event did.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The incident, as it stands now.
    pub incident: ActiveIncident,
    /// Where it stood before; `None` when it was not known.
    pub before: Option<State>,
}

/// Who else speaks on the same subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Watchers of another system. What one system's say ends nothing of the other.
    System {
        /// The one that was heard later; `None` for watchers of versions that told no system.
        system: Option<String>,
        /// The one that was heard already.
        other: Option<String>,
    },
    /// Another watcher of the same system, and neither knows of the other: what one says ends nothing of the
    /// other.
    Watcher {
        /// The names of both.
        names: [String; 2],
    },
}

/// No heartbeat comes any more: nobody watches that system, or it cannot be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Which system; `None` for watchers of versions that told none, and when nobody was ever heard.
    pub system: Option<String>,
    /// When it was heard last; `None` when nobody was ever heard.
    pub since: Option<Duration>,
    /// How long that has been.
    pub lasted: Duration,
}

impl Incidents {
    /// Goes on with what was heard before.
    pub fn restore(saved: SavedIncidents) -> Self {
        let mut incidents = Self::default();
        saved.0.into_iter().take(KNOWN_MAX).for_each(|known| incidents.keep(known));
        incidents
    }

    /// What is to be saved.
    pub fn save(&self) -> SavedIncidents {
        SavedIncidents(self.known.values().cloned().collect())
    }

    /// Takes an event that was heard.
    pub fn event(&mut self, event: &AlertEvent, now: Duration) -> Heard {
        if event.seq == 0 || event.seq > SEQ_MAX {
            return Heard::Unsound;
        }
        let known = self.known.get(&event.incident);
        if known.is_some_and(|known| event.seq <= known.heard || event.seq < known.incident.seq) {
            return Heard::Again;
        }
        let before = known.map(|known| known.incident.state);
        let (system, by) = (&event.system, &event.monitor.instance);
        let order = Order::of(&event.epoch, &event.timestamp);
        // What another watcher told while the two could not hear each other, this one answers for from now on.
        for merged in &event.merged {
            if let Some(known) = self.known.get_mut(merged) {
                known.system.clone_from(system);
                known.by.clone_from(by);
                (known.order, known.at) = (order.clone(), now);
            }
        }
        let incident = ActiveIncident::told_by(event);
        let (system, by) = (system.clone(), by.clone());
        self.keep(Known { incident, heard: event.seq, system, by, order, at: now });
        Heard::News { before }
    }

    /// Takes a heartbeat, and gives what this one and the one before it of the same watcher tell, but no
    /// event did: the event may be on its way.
    ///
    /// What is not listed is over only when the status is `ok`: every peer of every group is well, then.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Duration) -> Learned {
        let instance = &heartbeat.monitor.instance;
        let mut back = self.move_here(instance, &heartbeat.system);
        if !self.systems.contains_key(&heartbeat.system) && !self.has_room() {
            self.unfollowed = self.unfollowed.saturating_add(1);
            return Learned { too_many: self.unfollowed == 1, ..Learned::default() };
        }
        back |= std::mem::take(&mut self.nobody);
        let beside = self.beside(&heartbeat.system, now);
        let system = self.systems.entry(heartbeat.system.clone()).or_insert_with(|| System::new(now));
        back |= system.beat(now, Duration::from_millis(heartbeat.interval_ms));
        let name = &heartbeat.monitor.name;
        let rival = system.speak(instance, name, now);
        let rival = rival.map(|rival| Beside::Watcher { names: [rival, name.clone()] });
        let told = self.told_by(heartbeat, now);
        self.refresh(heartbeat, now);
        let key = |incident: &ActiveIncident| (incident.incident.clone(), incident.state);
        let keys = told.iter().map(key).collect();
        let confirmed = self.systems.get_mut(&heartbeat.system).map(|system| system.confirm(instance, keys));
        let confirmed = confirmed.unwrap_or_default();
        let missed = told.into_iter().filter(|incident| confirmed.contains(&key(incident)));
        let missed =
            missed.collect::<Vec<_>>().into_iter().map(|incident| self.learn(incident, heartbeat, now));
        Learned { missed: missed.collect(), back, beside: rival.or(beside), too_many: false }
    }

    /// How many heartbeats were left out, because they are of systems beyond the 64 that are followed at once.
    pub fn unfollowed(&self) -> u64 {
        self.unfollowed
    }

    /// When [`Self::quiet`] has something to tell, if no heartbeat comes before.
    pub fn quiet_at(&self) -> Option<Duration> {
        if self.systems.is_empty() {
            return (!self.nobody).then_some(FIRST_WITHIN);
        }
        self.systems.values().filter(|system| !system.quiet).map(System::quiet_at).min()
    }

    /// The systems whose heartbeats are overdue. Each is told once, until it is heard again.
    pub fn quiet(&mut self, now: Duration) -> Vec<Quiet> {
        if self.systems.is_empty() {
            if self.nobody || now < FIRST_WITHIN {
                return Vec::new();
            }
            self.nobody = true;
            return vec![Quiet { system: None, since: None, lasted: now }];
        }
        self.follow_upgrades(now);
        let overdue = |system: &&mut System| !system.quiet && now >= system.quiet_at();
        let mut quiet = Vec::new();
        for (id, system) in &mut self.systems {
            if overdue(&system) {
                system.quiet = true;
                let (since, lasted) = (Some(system.last), now.saturating_sub(system.last));
                quiet.push(Quiet { system: id.clone(), since, lasted });
            }
        }
        quiet
    }

    /// A watcher that did not tell which system it watches has learned it, or one that is the last of its
    /// system has another word for it: what it told goes with it. Whether a quiet that was told ends with
    /// that.
    fn move_here(&mut self, instance: &str, system: &Option<String>) -> bool {
        let speaks = |(id, from): &(&Option<String>, &System)| {
            *id != system && (id.is_none() || from.quiet) && from.is_spoken_for_by(instance)
        };
        let Some(from) = self.systems.iter().find(speaks).map(|(id, _)| id.clone()) else { return false };
        for known in self.known.values_mut().filter(|known| known.system == from && known.by == instance) {
            known.system.clone_from(system);
        }
        let Some(left) = self.systems.get_mut(&from) else { return false };
        let quiet = left.quiet;
        if !left.forget(instance) {
            self.systems.remove(&from);
        }
        quiet
    }

    /// Watchers of a version that tells no system fell silent just when those of one system began, or the
    /// other way round: they are the same, before and after another version was installed.
    fn follow_upgrades(&mut self, now: Duration) {
        let overdue: Vec<_> = self.systems.iter().filter(|(_, system)| now >= system.quiet_at()).collect();
        let mut same = None;
        for (old, system) in overdue {
            let began = self.systems.iter().filter(|(_, other)| other.began > system.last && !other.quiet);
            let mut began = began.filter(|(new, _)| new.is_none() != old.is_none());
            if let (Some((new, _)), None) = (began.next(), began.next()) {
                same = Some((old.clone(), new.clone()));
            }
        }
        if let Some((old, new)) = same {
            self.systems.remove(&old);
            for known in self.known.values_mut().filter(|known| known.system == old) {
                known.system.clone_from(&new);
            }
        }
    }

    /// Whether another system can be followed. Of those that have gone quiet one may be forgotten.
    fn has_room(&mut self) -> bool {
        if self.systems.len() < SYSTEMS_MAX {
            return true;
        }
        let quiet = self.systems.iter().filter(|(_, system)| system.quiet);
        let oldest = quiet.min_by_key(|(_, system)| system.last).map(|(id, _)| id.clone());
        oldest.is_some_and(|oldest| self.systems.remove(&oldest).is_some())
    }

    /// What a heartbeat tells otherwise than it is known.
    fn told_by(&self, heartbeat: &Heartbeat, now: Duration) -> Vec<ActiveIncident> {
        let instance = &heartbeat.monitor.instance;
        let order = Order::of(&heartbeat.epoch, &heartbeat.timestamp);
        let is_later = |known: &Known| known.by != *instance || order > known.order;
        let is_news = |incident: &&ActiveIncident| {
            let known = self.known.get(&incident.incident);
            (1..=SEQ_MAX).contains(&incident.seq)
                && known.is_none_or(|known| {
                    let newer = incident.seq >= known.incident.seq && is_later(known);
                    incident.state != known.incident.state && newer
                })
        };
        let mut told: Vec<_> = heartbeat.active.iter().take(KNOWN_MAX).filter(is_news).cloned().collect();
        let system = self.systems.get(&heartbeat.system);
        let is_ok = heartbeat.status == Status::Ok;
        if let (true, Some(system)) = (is_ok || heartbeat.calm, system) {
            let may_end = |known: &&Known| {
                known.incident.state != State::Resolved
                    && (is_ok || known.incident.severity == Severity::Critical)
                    && !heartbeat.active.iter().any(|one| one.incident == known.incident.incident)
                    && known.system == heartbeat.system
                    && is_later(known)
                    && (known.by == *instance || system.follows(instance, &known.by, known.at, now))
            };
            let over = self.known.values().filter(may_end).map(|known| known.incident.clone());
            told.extend(over.map(|incident| ActiveIncident { state: State::Resolved, ..incident }));
        }
        told
    }

    /// From now on it is the watcher's own word that counts for what it lists.
    fn refresh(&mut self, heartbeat: &Heartbeat, now: Duration) {
        let order = Order::of(&heartbeat.epoch, &heartbeat.timestamp);
        for incident in heartbeat.active.iter().take(KNOWN_MAX) {
            let known = self.known.get_mut(&incident.incident);
            let as_it_stands = |known: &&mut Known| {
                known.incident.seq <= incident.seq && known.incident.state == incident.state
            };
            if let Some(known) = known.filter(as_it_stands) {
                known.incident.seq = incident.seq.min(SEQ_MAX);
                known.system.clone_from(&heartbeat.system);
                known.by.clone_from(&heartbeat.monitor.instance);
                (known.order, known.at) = (order.clone(), now);
            }
        }
    }

    fn learn(&mut self, incident: ActiveIncident, heartbeat: &Heartbeat, now: Duration) -> Missed {
        let known = self.known.get(&incident.incident);
        let (before, heard) = (known.map(|known| known.incident.state), known.map_or(0, |known| known.heard));
        self.keep(Known {
            incident: incident.clone(),
            heard,
            system: heartbeat.system.clone(),
            by: heartbeat.monitor.instance.clone(),
            order: Order::of(&heartbeat.epoch, &heartbeat.timestamp),
            at: now,
        });
        Missed { incident, before }
    }

    /// This system is heard once more, and another one was heard since it last was: there are two.
    fn beside(&mut self, system: &Option<String>, now: Duration) -> Option<Beside> {
        let before = self.systems.get(system).filter(|system| now <= system.quiet_at())?.last;
        let other = |(id, other): &(&Option<String>, &mut System)| {
            *id != system && !other.told && !other.quiet && other.last >= before
        };
        let (id, other) = self.systems.iter_mut().find(other)?;
        other.told = true;
        let (id, began) = (id.clone(), other.began);
        // Of the first two, both are told with this.
        let this = self.systems.get_mut(system)?;
        this.told = true;
        let (system, other) = if began >= this.began { (id, system.clone()) } else { (system.clone(), id) };
        Some(Beside::System { system, other })
    }

    fn keep(&mut self, known: Known) {
        self.known.insert(known.incident.incident.clone(), known);
        if self.known.len() > KNOWN_MAX {
            let age = |known: &Known| (known.incident.state != State::Resolved, known.at);
            let oldest = self.known.iter().min_by_key(|(_, known)| age(known));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.known.remove(&id);
            }
        }
    }
}

/// Which of two messages of one watcher was written later: by the number of its epoch, which grows whatever
/// happens to its clock, then by the time. It says nothing of another watcher's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Order(u64, String);

impl Order {
    fn of(epoch: &EventEpoch, timestamp: &str) -> Self {
        let number = epoch.id.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
        Self(number.unwrap_or(0), timestamp.to_owned())
    }
}

#[cfg(test)]
mod tests;
