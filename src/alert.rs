//! The life of an alert: suspected, firing, resolved.
//!
//! The [`AlertTable`] follows every alert from its first suspicion to its resolution. It takes the findings of one epoch
//! and gives the transitions they cause; telling anyone is [`crate::event`]'s part. **Invariant:** an alert ends
//! only on positive evidence (clear, gone), and its identity holds no value that changes.

mod limits;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::check::{CauseKind, Finding, Grounds, Severity, Verdict};
use crate::diagnosis::Diagnosis;
use crate::name::{Name, PeerId, base62};
use crate::stamp::Stamp;

use limits::{Groups, SHOWN_TRANSITIONS_MAX};
pub use saved::{SavedAlert, Unsound};

/// More alerts than this are not followed at once; the ones over the limit are counted.
pub const ALERTS_MAX: usize = 10_000;
/// How many different findings of one incident are announced as updates.
const UPDATES_MAX: usize = 16;

/// What an alert is about. It stays the same from the first suspicion on, and across incidents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The code of the check.
    pub check: &'static str,
    /// The key of the meta group.
    pub group: Name,
    /// The peer; `None` for an alert about the whole group.
    pub peer: Option<PeerId>,
}

impl Identity {
    /// What the alert about a finding is about.
    pub fn of(finding: &Finding) -> Self {
        Self { check: finding.check, group: finding.group.clone(), peer: finding.peer }
    }
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// One witness speaks.
    Suspected,
    /// It is a fault.
    Firing,
    /// It is over.
    Resolved,
}

impl State {
    /// The word that subjects and events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Why a transition happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A first witness spoke.
    Suspected,
    /// The servers reported the fault themselves.
    Reported,
    /// Two independent witnesses agreed on the fault.
    Observed,
    /// The alert goes on, and more is known of it.
    Updated,
    /// The answer to a further question to the servers came in.
    Diagnosed,
    /// The alert goes on; told again for those who came late.
    Reminder,
    /// There is positive evidence that it is over.
    Recovered,
    /// The peer was removed from the group.
    Removed,
    /// It was a suspicion only, and there is positive evidence against it.
    Withdrawn,
    /// Nothing has shown the peer or the group for long, be it well or not: the alert ends without a word of recovery.
    Forgotten,
    /// More alerts stood than are followed at once, and most of them about this group: the alert ends without a word
    /// of recovery, to make room for one of another group.
    Displaced,
}

/// How alerts live: what the flags of `metawatch run` set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeRules {
    /// How many clear epochs running resolve an alert.
    pub resolve_after: u32,
    /// An alert that returns this soon after its resolution opens the same incident again.
    pub flap_window: Duration,
    /// How often a firing alert is told again.
    pub remind: Duration,
}

impl Default for LifeRules {
    fn default() -> Self {
        Self { resolve_after: 2, flap_window: Duration::from_secs(120), remind: Duration::from_secs(15 * 60) }
    }
}

/// One alert, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it is about.
    pub identity: Identity,
    /// The id of the incident: one life from the first suspicion to the resolution.
    pub incident: String,
    /// How many events of the incident there have been.
    pub sequence: u64,
    /// Where it stands.
    pub state: State,
    /// Our own clock at the first evidence.
    pub since: Stamp,
    /// Whether it has fired in this incident.
    pub fired: bool,
    /// The grounds it fired on.
    pub grounds: Option<Grounds>,
    /// The worst that it has been since it fired.
    worst: Severity,
    /// How often it came back shortly after a resolution.
    pub flaps: u32,
    /// The verdict of the last epoch.
    pub verdict: Verdict,
    /// The name of the peer at the incident's first event, for subjects; `_` for a group.
    pub subject_name: Name,
    /// The domain of the group.
    pub domain: Name,
    /// The size of the group by its last agreement, and how many must agree.
    pub size: Option<(u64, u64)>,
    /// Incidents about the same thing that a watcher opened which could not hear this one.
    pub merged: Vec<String>,
    /// What servers answered to further questions about it.
    pub diagnosis: Vec<Diagnosis>,
    /// The causes that questions were asked about.
    followed_up: BTreeSet<CauseKind>,
    clear_epochs: u32,
    /// When an epoch last showed what it is about.
    shown: Stamp,
    last_event_at: Stamp,
    announced_causes: Vec<(Option<Grounds>, Option<CauseKind>)>,
}

impl Alert {
    /// Whether the alert is neither settled nor over: looking more often may settle it.
    pub fn is_unsettled(&self) -> bool {
        match self.state {
            State::Suspected => true,
            State::Firing => self.verdict != Verdict::Fault,
            State::Resolved => false,
        }
    }

    /// How bad it is, or was: the worst that it has been. Within one life it only grows, so that whoever is told of
    /// what is critical is told of its end, too.
    pub fn severity(&self) -> Severity {
        if self.fired { self.worst } else { Severity::Warning }
    }
}

/// A step in an alert's life that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The alert after the step.
    pub alert: Alert,
    /// Why.
    pub reason: Reason,
    /// The finding that caused it: an index into the epoch's findings; `None` where nothing is found any more.
    pub finding: Option<usize>,
}

/// How far what an epoch does not show is not there.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The epoch showed something and ran its course.
    pub whole: bool,
    /// The keys of groups that go on under another key.
    pub superseded: &'a BTreeSet<Name>,
}

/// What a view tells of something that an alert is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name for subjects.
    pub name: Name,
    /// The domain of the group.
    pub domain: Name,
    /// The size of the group by its last agreement, and how many must agree.
    pub size: Option<(u64, u64)>,
}

/// Every alert that is not over, and those that were until a moment ago.
#[derive(Clone, Debug, Default)]
pub struct AlertTable {
    alerts: BTreeMap<Identity, Alert>,
    groups: Groups,
    overflow: u64,
}

impl AlertTable {
    /// The alerts that are suspected or firing.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|alert| alert.state != State::Resolved)
    }

    /// The alerts about some groups: to be shown, not to be gone on with.
    #[must_use]
    pub fn of_groups(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = self.alerts.iter().filter(|(identity, _)| wanted(identity.group.as_str()));
        let alerts = wanted.map(|(identity, alert)| (identity.clone(), alert.clone())).collect();
        Self { alerts, ..Self::default() }
    }

    /// The alert about this, be it over or not.
    pub fn get(&self, identity: &Identity) -> Option<&Alert> {
        self.alerts.get(identity)
    }

    /// How many events each incident has had, by its id.
    pub fn sequences(&self) -> BTreeMap<String, u64> {
        self.alerts.values().map(|alert| (alert.incident.clone(), alert.sequence)).collect()
    }

    /// The incidents that go on as a part of another one.
    pub fn merged_incidents(&self) -> BTreeSet<String> {
        self.alerts.values().flat_map(|alert| alert.merged.iter().cloned()).collect()
    }

    /// How many alerts could not be followed because there were too many.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Takes the findings of one epoch. `about` tells of what a finding is about.
    pub fn step(
        &mut self,
        findings: &[Finding],
        now: Stamp,
        rules: &LifeRules,
        shown: Shown<'_>,
        about: impl Fn(&Identity) -> About,
    ) -> Vec<Transition> {
        self.alerts.retain(|_, alert| {
            alert.state != State::Resolved || now.since(alert.last_event_at) <= rules.flap_window
        });
        self.groups.epoch(findings, &self.alerts, now);
        let mut transitions = Vec::new();
        let is_bad = |finding: &Finding| matches!(finding.verdict, Verdict::Suspect | Verdict::Fault);
        // Where nothing is wrong and nothing was, there is nothing to tell, in whatever order.
        let is_quiet = self.alerts.is_empty() && !findings.iter().any(is_bad);
        let order = if is_quiet { Vec::new() } else { self.groups.order(findings, now) };
        for index in order {
            let finding = &findings[index];
            let has_room = transitions.len() < SHOWN_TRANSITIONS_MAX;
            let bad = is_bad(finding);
            if !bad && self.alerts.is_empty() {
                continue;
            }
            let identity = Identity::of(finding);
            if bad && has_room && !self.alerts.contains_key(&identity) {
                transitions.extend(self.open(&identity, finding, now, &about));
            }
            let Some(alert) = self.alerts.get_mut(&identity) else { continue };
            alert.shown = now;
            alert.size = about(&identity).size.or(alert.size);
            let before = (!has_room).then(|| alert.clone());
            let reason = alert.take(finding, now, rules).or_else(|| alert.remind(now, rules));
            let Some(reason) = reason else { continue };
            if let Some(before) = before {
                // The next epoch tells it.
                *alert = before;
                continue;
            }
            transitions.push(alert.transition(reason, Some(index), now));
            self.groups.served(&identity.group, now);
        }
        self.forget(now, shown, &mut transitions);
        transitions.sort_by_key(|transition| transition.finding.unwrap_or(usize::MAX));
        transitions
    }

    /// What was last told to have happened to a peer that an alert is firing about; `None` when that was not known.
    pub fn announced_cause(&self, identity: &Identity) -> Option<CauseKind> {
        let alert = self.alerts.get(identity).filter(|alert| alert.state == State::Firing)?;
        alert
            .announced_causes
            .last()
            .and_then(|(_, cause)| *cause)
            .filter(|cause| *cause != CauseKind::Unknown)
    }

    /// What servers said when they were asked about a finding, while its alert goes on.
    pub fn diagnosis_of(&self, finding: &Finding) -> &[Diagnosis] {
        let alert = self.alerts.get(&Identity::of(finding)).filter(|alert| alert.state != State::Resolved);
        alert.map_or(&[], |alert| &alert.diagnosis)
    }

    /// The alert that a finding is about, when no further question was asked yet about such a cause of it.
    pub fn open_question(&self, finding: &Finding) -> Option<&Alert> {
        let cause = finding.cause.as_ref()?.kind;
        let alert = self.alerts.get(&Identity::of(finding))?;
        (alert.state != State::Resolved && !alert.followed_up.contains(&cause)).then_some(alert)
    }

    /// A question about this finding is on its way: none is asked again about such a cause in this incident.
    pub fn followed_up(&mut self, finding: &Finding) {
        if let (Some(alert), Some(cause)) = (self.alerts.get_mut(&Identity::of(finding)), &finding.cause) {
            alert.followed_up.insert(cause.kind);
        }
    }

    /// Takes what servers answered. `since` tells which life of the alert was asked about; `finding` is the index of
    /// the last epoch's finding. An answer that comes after the end, or brings nothing new, is nothing to tell.
    pub fn diagnose(
        &mut self,
        identity: &Identity,
        since: Stamp,
        diagnosis: Vec<Diagnosis>,
        finding: usize,
        now: Stamp,
    ) -> Option<Transition> {
        let alert = self.alerts.get_mut(identity)?;
        let outdated = alert.state == State::Resolved || alert.since != since;
        if outdated || diagnosis.is_empty() || alert.diagnosis == diagnosis {
            return None;
        }
        alert.diagnosis = diagnosis;
        Some(alert.transition(Reason::Diagnosed, Some(finding), now))
    }
}

impl Alert {
    fn open(identity: Identity, finding: &Finding, since: Stamp, now: Stamp, about: About) -> Self {
        Self {
            incident: incident_id(&identity, since),
            identity,
            sequence: 0,
            // It leaves this state with the finding that opened it.
            state: State::Resolved,
            since,
            fired: false,
            grounds: None,
            worst: Severity::Warning,
            flaps: 0,
            verdict: finding.verdict,
            subject_name: about.name,
            domain: about.domain,
            size: about.size,
            merged: Vec::new(),
            diagnosis: Vec::new(),
            followed_up: BTreeSet::new(),
            clear_epochs: 0,
            shown: now,
            last_event_at: now,
            announced_causes: Vec::new(),
        }
    }

    /// One more event of the incident.
    fn transition(&mut self, reason: Reason, finding: Option<usize>, now: Stamp) -> Transition {
        self.sequence = self.sequence.saturating_add(1);
        self.last_event_at = now;
        Transition { alert: self.clone(), reason, finding }
    }

    /// Takes what an epoch found; gives the reason when that is to be told.
    fn take(&mut self, finding: &Finding, now: Stamp, rules: &LifeRules) -> Option<Reason> {
        self.verdict = finding.verdict;
        self.clear_epochs =
            if finding.verdict == Verdict::Clear { self.clear_epochs.saturating_add(1) } else { 0 };
        match finding.verdict {
            Verdict::Unknown => None,
            Verdict::Clear if self.clear_epochs < rules.resolve_after => None,
            Verdict::Clear | Verdict::Gone => self.resolve(finding.verdict),
            Verdict::Suspect => self.suspect(finding, now),
            Verdict::Fault => self.fire(finding, now),
        }
    }

    /// A firing alert is told again when nobody has been told of it for long; not while it is about to end.
    fn remind(&self, now: Stamp, rules: &LifeRules) -> Option<Reason> {
        let firing = self.state == State::Firing && self.verdict != Verdict::Clear;
        let due = firing && now.since(self.last_event_at) >= rules.remind;
        due.then_some(Reason::Reminder)
    }

    fn resolve(&mut self, verdict: Verdict) -> Option<Reason> {
        if self.state == State::Resolved {
            return None;
        }
        self.end();
        Some(if verdict == Verdict::Gone {
            Reason::Removed
        } else if self.fired {
            Reason::Recovered
        } else {
            Reason::Withdrawn
        })
    }

    fn end(&mut self) {
        self.state = State::Resolved;
        self.diagnosis.clear();
        self.followed_up.clear();
    }

    fn suspect(&mut self, finding: &Finding, now: Stamp) -> Option<Reason> {
        if self.state != State::Resolved {
            return None;
        }
        self.reopen(finding, now);
        self.state = State::Suspected;
        Some(Reason::Suspected)
    }

    fn fire(&mut self, finding: &Finding, now: Stamp) -> Option<Reason> {
        let cause = finding.cause.as_ref().map(|cause| cause.kind);
        let announced_causes = (finding.grounds, cause);
        if self.state == State::Firing {
            let worse = finding.severity > self.worst;
            self.worst = self.worst.max(finding.severity);
            self.grounds = finding.grounds;
            if worse {
                return Some(Reason::Updated);
            }
            let new = !self.announced_causes.contains(&announced_causes)
                && self.announced_causes.len() < UPDATES_MAX;
            let unexplained = cause.is_none_or(|cause| cause == CauseKind::Unknown);
            let new_cause = !self.announced_causes.iter().any(|(_, told)| *told == cause);
            // That the servers' own word is missing this time is no news, nor is an election before it has an outcome.
            if cause == Some(CauseKind::ElectionUnderWay) {
                return None;
            }
            let matters = finding.grounds == Some(Grounds::Reported) || unexplained || new_cause;
            if !(new && matters) {
                return None;
            }
            self.announced_causes.push(announced_causes);
            return Some(Reason::Updated);
        }
        if self.state == State::Resolved {
            self.reopen(finding, now);
        }
        self.state = State::Firing;
        self.fired = true;
        self.worst = self.worst.max(finding.severity);
        self.grounds = finding.grounds;
        self.announced_causes.push(announced_causes);
        Some(match finding.grounds {
            Some(Grounds::Reported) | None => Reason::Reported,
            Some(Grounds::Observed) => Reason::Observed,
        })
    }

    /// A resolved alert that returns opens the same incident again.
    fn reopen(&mut self, finding: &Finding, now: Stamp) {
        if self.sequence > 0 {
            self.flaps = self.flaps.saturating_add(1);
            self.since = finding.since.unwrap_or(now);
            self.fired = false;
            self.worst = Severity::Warning;
            self.merged.clear();
            self.announced_causes.clear();
        }
    }
}

/// An id that two watchers who saw the same beginning agree on: 22 letters and digits.
fn incident_id(identity: &Identity, since: Stamp) -> String {
    let mut hash = Sha256::new();
    hash.update(identity.check);
    hash.update([0]);
    hash.update(identity.group.as_str());
    hash.update([0]);
    hash.update(identity.peer.as_ref().map_or("_", PeerId::as_str));
    hash.update(since.wall_ns().to_be_bytes());
    base62(&hash.finalize()).take(22).map(char::from).collect()
}

#[cfg(test)]
mod tests;
