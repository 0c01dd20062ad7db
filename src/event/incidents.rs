//! What somebody who listens knows of incidents: from events, and from heartbeats where an event did not arrive.
//!
//! A message of core NATS reaches whoever is connected at that moment, and the alert about a server that stops is sent
//! just while that server's clients look for another one. Heartbeats list what is open, so nobody stays ignorant.

use std::collections::{BTreeMap, BTreeSet};

use super::AlertEvent;
use super::heartbeat::{ActiveIncident, Heartbeat, Status};
use crate::alert::State;

/// So many incidents are remembered; the one that was told of longest ago is forgotten first.
const KNOWN_MAX: usize = 1_000;

/// The incidents that were heard of.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    known: BTreeMap<String, Known>,
    /// What the last heartbeat told, and no event: told only if the next one says so, too. The event may be on its way.
    awaited: BTreeSet<(String, State)>,
}

#[derive(Clone, Debug)]
struct Known {
    incident: ActiveIncident,
    /// The seq of the last event that was heard, 0 for none.
    heard: u64,
    /// When the last of it was told, as the sender spells it.
    at: String,
}

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
}

/// What a heartbeat tells of an incident, and no event did.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The incident, as it stands now.
    pub incident: ActiveIncident,
    /// Where it stood before; `None` when it was not known.
    pub before: Option<State>,
}

impl Incidents {
    /// Takes an event that was heard.
    pub fn event(&mut self, event: &AlertEvent) -> Heard {
        let known = self.known.get(&event.incident);
        if known.is_some_and(|known| event.seq <= known.heard) {
            return Heard::Again;
        }
        let before = known.map(|known| known.incident.state);
        self.keep(Known {
            incident: ActiveIncident::told_by(event),
            heard: event.seq,
            at: event.timestamp.clone(),
        });
        Heard::News { before }
    }

    /// Takes a heartbeat, and gives what this one and the one before it tell, but no event did.
    ///
    /// What is not listed is over only when the status is `ok`: every peer of every group is well, then.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Vec<Missed> {
        let at = &heartbeat.timestamp;
        let mut told: Vec<ActiveIncident> = heartbeat.active.iter().take(KNOWN_MAX).cloned().collect();
        told.retain(|incident| {
            self.known.get(&incident.incident).is_none_or(|known| {
                incident.state != known.incident.state && incident.seq > known.heard && *at > known.at
            })
        });
        if heartbeat.status == Status::Ok {
            let open = self.known.values().filter(|known| known.incident.state != State::Resolved);
            let over = open.filter(|known| *at > known.at).map(|known| known.incident.clone());
            told.extend(over.map(|incident| ActiveIncident { state: State::Resolved, ..incident }));
        }
        let key = |incident: &ActiveIncident| (incident.incident.clone(), incident.state);
        let awaited = std::mem::replace(&mut self.awaited, told.iter().map(key).collect());
        told.retain(|incident| awaited.contains(&key(incident)));
        told.into_iter().map(|incident| self.learn(incident, at)).collect()
    }

    fn learn(&mut self, incident: ActiveIncident, at: &str) -> Missed {
        let known = self.known.get(&incident.incident);
        let (before, heard) = (known.map(|known| known.incident.state), known.map_or(0, |known| known.heard));
        self.keep(Known { incident: incident.clone(), heard, at: at.to_owned() });
        Missed { incident, before }
    }

    fn keep(&mut self, known: Known) {
        self.known.insert(known.incident.incident.clone(), known);
        if self.known.len() > KNOWN_MAX {
            let oldest = self.known.iter().min_by(|(_, one), (_, other)| one.at.cmp(&other.at));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.known.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, state: State, second: u32) -> AlertEvent {
        let kept = include_str!("../../tests/events/v1/meta_001-firing-observed.json");
        let event: AlertEvent = serde_json::from_str(kept).expect("an event");
        AlertEvent { seq, state, incident: "i".to_owned(), timestamp: time(second), ..event }
    }

    fn time(second: u32) -> String {
        format!("2026-11-22T20:43:{second:02}.000Z")
    }

    fn heartbeat(status: &str, active: &[(u64, &str)], second: u32) -> Heartbeat {
        let listed = |(seq, state): &(u64, &str)| {
            serde_json::json!({"check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3",
                "state": state, "severity": "critical", "incident": "i", "seq": seq, "since": time(0)})
        };
        let active: Vec<_> = active.iter().map(listed).collect();
        serde_json::from_value(serde_json::json!({
            "v": 1, "timestamp": time(second), "status": status, "summary": "", "groups": [], "incidents": active.len(),
            "active": active, "speaker": "a", "undelivered": 0, "waiting": 0,
            "epoch": {"id": "a-1", "ended": "all_heard", "expected": 3, "heard": 2, "missing": [], "elapsed_ms": 1},
            "monitor": {"name": "a", "version": "1", "instance": "a"},
        }))
        .expect("a heartbeat")
    }

    /// Hears it twice; what the second time tells, as `before → now`.
    fn twice(incidents: &mut Incidents, mut heartbeat: Heartbeat) -> Vec<(Option<State>, State)> {
        assert!(incidents.heartbeat(&heartbeat).is_empty(), "the event may be on its way");
        heartbeat.timestamp = heartbeat.timestamp.replace(".000Z", ".500Z");
        incidents.heartbeat(&heartbeat).iter().map(|missed| (missed.before, missed.incident.state)).collect()
    }

    #[test]
    fn an_event_that_comes_again_is_no_news() {
        let mut incidents = Incidents::default();
        assert_eq!(incidents.event(&event(1, State::Suspected, 1)), Heard::News { before: None });
        let firing = event(2, State::Firing, 2);
        assert_eq!(incidents.event(&firing), Heard::News { before: Some(State::Suspected) });
        assert_eq!(incidents.event(&firing), Heard::Again);
        assert_eq!(incidents.event(&event(1, State::Suspected, 1)), Heard::Again);
        assert!(twice(&mut incidents, heartbeat("alerting", &[(2, "firing")], 3)).is_empty());
    }

    #[test]
    fn a_missed_event_is_learned_from_the_second_heartbeat_that_tells_of_it() {
        let mut incidents = Incidents::default();
        let firing = heartbeat("alerting", &[(1, "firing")], 3);
        assert_eq!(twice(&mut incidents, firing.clone()), [(None, State::Firing)]);
        assert!(twice(&mut incidents, firing).is_empty(), "told once");
        // The event itself comes late: news, but the incident was known to fire.
        assert_eq!(incidents.event(&event(1, State::Firing, 1)), Heard::News { before: Some(State::Firing) });
        assert_eq!(twice(&mut incidents, heartbeat("ok", &[], 5)), [(Some(State::Firing), State::Resolved)]);
        assert_eq!(
            incidents.event(&event(2, State::Resolved, 4)),
            Heard::News { before: Some(State::Resolved) }
        );
        assert!(twice(&mut incidents, heartbeat("ok", &[], 6)).is_empty());
    }

    #[test]
    fn only_positive_evidence_ends_an_incident_that_is_not_listed_any_more() {
        let mut incidents = Incidents::default();
        incidents.event(&event(1, State::Firing, 5));
        assert!(twice(&mut incidents, heartbeat("unknown", &[], 6)).is_empty());
        assert!(twice(&mut incidents, heartbeat("alerting", &[], 7)).is_empty());
        assert!(twice(&mut incidents, heartbeat("ok", &[], 4)).is_empty(), "from before the event");
        assert_eq!(twice(&mut incidents, heartbeat("ok", &[], 8)).len(), 1);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut incidents = Incidents::default();
        for number in 0..2 * KNOWN_MAX {
            let mut firing = event(1, State::Firing, 1);
            (firing.incident, firing.timestamp) = (format!("i{number}"), format!("{number:09}"));
            incidents.event(&firing);
        }
        assert_eq!(incidents.known.len(), KNOWN_MAX);
        assert!(incidents.known.contains_key("i1999") && !incidents.known.contains_key("i0"));
    }
}
