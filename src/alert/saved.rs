//! Alerts as documents: how an [`AlertTable`] is written down, and read back with every check that a stranger's word needs.

use serde::{Deserialize, Serialize};

use super::{ALERTS_MAX, Alert, AlertTable, Identity, State, UPDATES_MAX};
use crate::check::{self, CauseKind, Grounds, Severity, Verdict};
use crate::diagnosis::{DIAGNOSES_MAX, Diagnosis};
use crate::name::{Name, PeerId};
use crate::stamp::Stamp;

/// So many other incidents are remembered as one with an alert's own.
const MERGED_MAX: usize = 8;
/// The highest seq of an incident that is believed: more than 10,000 events a second for 1,000 years are
/// none.
const SAVED_SEQ_MAX: u64 = 1 << 48;
/// A larger group is not believed.
const SIZE_MAX: u64 = 100_000;
/// The longest incident id that is believed.
const INCIDENT_MAX: usize = 64;

/// One alert as it is saved and told to other watchers. Moments are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAlert {
    check: String,
    group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    name: String,
    incident: String,
    seq: u64,
    state: State,
    since_ns: i64,
    told_ns: i64,
    fired: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    basis: Option<Grounds>,
    /// The worst that it has been; absent where that is what its check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(default)]
    flaps: u32,
    /// Absent in what 0.1.0 wrote: the group's key tells it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// The size of the group by its last agreement, and how many must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    diagnosis: Vec<Diagnosis>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    asked: Vec<CauseKind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told_of: Vec<(Option<Grounds>, Option<CauseKind>)>,
}

/// Why a saved alert is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// This version knows no such check.
    #[error("of a check that is not known here")]
    Check,
    /// The peer's id is none.
    #[error("its peer id is no peer id")]
    Peer,
    /// An incident's id is none.
    #[error("its incident id is no incident id")]
    Incident,
    /// A list is longer than any alert's.
    #[error("a list in it is too long")]
    TooLong,
    /// It has had no event, so nobody can know of it.
    #[error("it has had no event")]
    Untold,
    /// No incident has so many events, or began before any clock.
    #[error("a number in it is beyond reason")]
    Number,
}

impl SavedAlert {
    /// The alert as it is written down. What the next epoch tells anyway is left out.
    pub fn of(alert: &Alert) -> Self {
        Self {
            check: alert.identity.check.to_owned(),
            group: alert.identity.group.as_str().to_owned(),
            peer: alert.identity.peer.map(|id| id.as_str().to_owned()),
            name: alert.subject_name.as_str().to_owned(),
            incident: alert.incident.clone(),
            seq: alert.sequence,
            state: alert.state,
            since_ns: alert.since.wall_ns(),
            told_ns: alert.last_event_at.wall_ns(),
            fired: alert.fired,
            basis: alert.grounds,
            severity: Some(alert.worst)
                .filter(|worst| alert.fired && usual_severity(alert.identity.check) != Some(*worst)),
            flaps: alert.flaps,
            domain: Some(alert.domain.as_str().to_owned()),
            size: alert.size,
            merged: alert.merged.clone(),
            diagnosis: alert.diagnosis.clone(),
            asked: alert.followed_up.iter().copied().collect(),
            told_of: alert.announced_causes.clone(),
        }
    }

    /// The alert again, on the clock of this watcher. No moment of it lies after `now`.
    pub fn restore(self, now: Stamp) -> Result<Alert, Unsound> {
        let check = check::by_code(&self.check).ok_or(Unsound::Check)?;
        let peer = self.peer.map(|id| PeerId::parse(&id).ok_or(Unsound::Peer)).transpose()?;
        if !std::iter::once(&self.incident).chain(&self.merged).all(|id| is_incident(id)) {
            return Err(Unsound::Incident);
        }
        let too_long = self.merged.len() > MERGED_MAX
            || self.diagnosis.len() > DIAGNOSES_MAX
            || self.told_of.len() > UPDATES_MAX;
        if too_long {
            return Err(Unsound::TooLong);
        }
        if self.seq == 0 {
            return Err(Unsound::Untold);
        }
        // A number that is only just believed must leave room to count on.
        if self.seq > SAVED_SEQ_MAX || self.since_ns < 0 || self.told_ns < 0 {
            return Err(Unsound::Number);
        }
        let at = |wall_ns: i64| Stamp::at_wall(wall_ns.min(now.wall_ns()), now);
        Ok(Alert {
            identity: Identity { check: check.code, group: Name::new(&self.group), peer },
            incident: self.incident,
            sequence: self.seq,
            state: self.state,
            since: at(self.since_ns),
            fired: self.fired,
            grounds: self.basis,
            worst: self.severity.filter(|_| self.fired).unwrap_or(if self.fired {
                check.severity
            } else {
                Severity::Warning
            }),
            flaps: self.flaps,
            verdict: Verdict::Unknown,
            subject_name: Name::new(&self.name),
            domain: Name::new(self.domain.as_deref().unwrap_or_else(|| domain_of(&self.group))),
            size: self.size.filter(|(size, quorum)| (1..=*size).contains(quorum) && *size <= SIZE_MAX),
            merged: self.merged,
            diagnosis: self.diagnosis,
            followed_up: self.asked.into_iter().collect(),
            clear_epochs: 0,
            shown: now,
            last_event_at: at(self.told_ns),
            announced_causes: self.told_of,
        })
    }
}

fn usual_severity(check: &str) -> Option<Severity> {
    check::by_code(check).map(|check| check.severity)
}

/// The domain of a group whose key was made from it.
fn domain_of(group: &str) -> &str {
    if group == "default" || group.starts_with("default-") { "" } else { group }
}

fn is_incident(id: &str) -> bool {
    (1..=INCIDENT_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl AlertTable {
    /// Every alert that anybody was told of.
    pub fn save(&self) -> Vec<SavedAlert> {
        self.alerts.values().map(SavedAlert::of).collect()
    }

    /// Forgets what it holds and takes these alerts instead, up to [`ALERTS_MAX`]. What the last epoch showed of
    /// an alert that goes on is kept.
    pub fn replace(&mut self, alerts: Vec<Alert>) {
        let before = std::mem::take(&mut self.alerts);
        for mut alert in alerts.into_iter().take(ALERTS_MAX) {
            if let Some(known) = before.get(&alert.identity) {
                alert.verdict = known.verdict;
            }
            self.alerts.insert(alert.identity.clone(), alert);
        }
    }

    /// Takes the alerts of a watcher that spoke while it did not hear this one. Nothing is told: what the other
    /// announced, this table goes on with. Where both opened an incident about the same thing, this table's goes on
    /// and names the other one.
    pub fn merge(&mut self, alerts: Vec<Alert>) {
        for other in alerts {
            if let Some(own) = self.alerts.get_mut(&other.identity) {
                own.merge(other);
            } else if self.alerts.len() < ALERTS_MAX {
                self.alerts.insert(other.identity.clone(), other);
            } else {
                self.overflow += 1;
            }
        }
    }
}

impl Alert {
    fn merge(&mut self, other: Self) {
        if self.incident == other.incident {
            // The same life, told from two sides: no id of an event may ever stand for two. Who told more knows how it
            // stands; but what is open for somebody is ended for everybody, and only by what the servers say.
            let flaps = self.flaps.max(other.flaps);
            let sequence = self.sequence.max(other.sequence);
            let is_open = |alert: &Self| alert.state != State::Resolved;
            let behind =
                other.sequence > self.sequence || (other.sequence == self.sequence && !is_open(self));
            let merged =
                if behind && is_open(&other) { std::mem::replace(self, other).merged } else { other.merged };
            merged.into_iter().for_each(|id| self.name_merged(id));
            self.sequence = sequence;
            self.flaps = flaps;
            return;
        }
        match (self.state, other.state) {
            (State::Resolved, State::Suspected | State::Firing) => *self = other,
            (State::Suspected | State::Firing, State::Suspected | State::Firing) => {
                std::iter::once(other.incident).chain(other.merged).for_each(|id| self.name_merged(id));
            }
            (_, State::Resolved) => {}
        }
    }

    fn name_merged(&mut self, id: String) {
        if id != self.incident && self.merged.len() < MERGED_MAX && !self.merged.contains(&id) {
            self.merged.push(id);
        }
    }
}
