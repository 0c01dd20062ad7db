//! One verdict on a whole system, with its reasons: what `metawatch check` says in every format.

pub mod exposition;
pub mod json;
pub mod lines;
pub mod nagios;
pub mod numbers;
mod overview;
pub mod prometheus;
mod reasons;
pub mod selection;
pub mod settled;
pub mod style;
mod summary;
pub mod table;
pub mod text;
pub mod words;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::advice::Advice;
use crate::alert::{AlertTable, State};
use crate::check::{self, Cause, Finding, Grounds, Measure, Severity, Verdict};
use crate::diagnosis::Diagnosis;
use crate::event::heartbeat::ActiveIncident;
use crate::event::{self, EventEpoch};
use crate::name::PeerId;
use crate::pipeline::Step;
use crate::view::{ClusterView, GroupView, PeerView};
pub use numbers::{CheckNumbers, GroupNumbers, PeerNumbers};

/// How many reasons and names are told.
const TOLD_MAX: usize = 16;

/// What `metawatch check` says, with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Every peer of every group is there, by positive evidence.
    Ok,
    /// Something may be wrong.
    Warning,
    /// Something is wrong.
    Critical,
    /// It cannot be told.
    Unknown,
}

impl Status {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The word that reports carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A verdict, ready to be printed in every format. As JSON it is what `check --format json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The verdict.
    pub status: Status,
    /// The exit code that goes with it.
    pub code: u8,
    /// One line for people.
    pub summary: String,
    /// Why it cannot be told, where that is so.
    pub unknown: Vec<String>,
    /// What the checks say, the worst first.
    pub findings: Vec<FindingReport>,
    /// The groups in numbers.
    pub groups: Vec<GroupNumbers>,
    /// What is wrong with the system without a peer being spoken against: two servers under one name, say.
    pub warnings: Vec<String>,
    /// What is worth knowing and wrong with nobody yet.
    pub notes: Vec<String>,
    /// The last epoch; `null` when there was none.
    pub epoch: Option<EventEpoch>,
    /// How many epochs were looked at.
    pub epochs: u64,
    /// What the checks say of each group.
    #[serde(skip)]
    pub checks: Vec<CheckNumbers>,
    /// How many servers of any kind answered the last epoch.
    #[serde(skip)]
    pub elapsed: std::time::Duration,
    /// When the last epoch ended, in nanoseconds since 1970.
    #[serde(skip)]
    pub closed_ns: Option<i64>,
}

/// One finding, in words.
#[derive(Clone, Debug, Serialize)]
pub struct FindingReport {
    /// The check.
    pub check: &'static str,
    /// The group.
    pub group: String,
    /// Its domain.
    #[serde(skip)]
    pub domain: String,
    /// The peer; `null` for a finding about the whole group.
    pub peer: Option<PeerReport>,
    /// What is said.
    pub verdict: Verdict,
    /// How bad a fault is.
    pub severity: Severity,
    /// The number that it goes by; absent where it goes by none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// Where its incident stands that earlier epochs opened, when this one tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<State>,
    /// Why a fault is believed.
    pub basis: Option<Grounds>,
    /// What probably happened.
    pub cause: Option<Cause>,
    /// What servers said when they were asked about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnosis: Vec<Diagnosis>,
    /// What to do next.
    pub advice: Vec<Advice>,
    /// One line for people.
    pub summary: String,
}

/// The peer of a finding.
#[derive(Clone, Debug, Serialize)]
pub struct PeerReport {
    /// Its id.
    pub id: String,
    /// Its name; `null` where nobody ever told it.
    pub name: Option<String>,
    /// What else is known of it.
    #[serde(skip)]
    pub numbers: PeerNumbers,
}

impl CheckReport {
    /// Judges the last of `epochs` epochs. `alerts` holds what servers said when they were asked about the findings.
    pub fn new(step: &Step, epochs: u64, alerts: &AlertTable) -> Self {
        Self::with_findings(step, epochs, alerts, |_| true)
    }

    /// The same verdict, in which the findings of what is well are left out: they are most of a large system.
    pub fn of_problems(step: &Step, epochs: u64, alerts: &AlertTable) -> Self {
        Self::with_findings(step, epochs, alerts, |badness| badness > 0)
    }

    fn with_findings(step: &Step, epochs: u64, alerts: &AlertTable, told: impl Fn(u8) -> bool) -> Self {
        let Step { view, findings, .. } = step;
        let held = |finding: &Finding| held(finding, step);
        let told = |finding: &&Finding| told(weight(finding, held(finding)));
        let status = status(view, findings, held);
        let unknown = reasons::reasons(view, findings);
        let mut judged: Vec<FindingReport> = Vec::new();
        let mut groups = Vec::with_capacity(view.groups.len());
        let mut checks = Vec::new();
        for (group, found) in check::by_group(view, findings) {
            checks.extend(CheckNumbers::of_group(group, found, &step.checks, |finding| finding.verdict));
            let about = About { view, group, found, impact: check::impact(group, found), unknown: &unknown };
            judged.extend(
                found
                    .iter()
                    .filter(told)
                    .map(|finding| judge(finding, held(finding), &about, alerts.diagnosis_of(finding))),
            );
            groups.push(GroupNumbers::new(group, about.impact, found, |finding| finding.verdict));
        }
        // Of many groups, those that are worst off come first.
        let order: BTreeMap<&str, usize> = match view.groups.len() {
            0..=event::GROUPS_TOLD_MAX => BTreeMap::new(),
            _ => {
                let unwell = check::unwell_groups(view, findings);
                unwell.into_iter().enumerate().map(|(place, group)| (group.key.as_str(), place)).collect()
            }
        };
        let key = |judged: &FindingReport| {
            let name = judged.peer.as_ref().map(|peer| peer.name.clone().unwrap_or_else(|| peer.id.clone()));
            (
                Reverse(badness(judged.severity, judged.verdict, judged.held)),
                order.get(judged.group.as_str()).copied(),
                judged.group.clone(),
                name.is_none(),
                name,
            )
        };
        judged.sort_by_cached_key(key);
        Self {
            status,
            code: status.code(),
            summary: summary::of_system(status, view, findings, &judged, &unknown),
            unknown: if status == Status::Ok { Vec::new() } else { unknown },
            findings: judged,
            groups,
            warnings: view.warnings.clone(),
            notes: view.notes.clone(),
            checks,
            epoch: Some(step.heartbeat.epoch.clone()),
            epochs,
            elapsed: view.epoch.closed.since(view.epoch.opened),
            closed_ns: Some(view.epoch.closed.wall_ns()),
        }
    }

    /// The verdict when it could not even be asked.
    pub fn failed(message: &str) -> Self {
        Self {
            status: Status::Unknown,
            code: Status::Unknown.code(),
            summary: message.to_owned(),
            unknown: vec![message.to_owned()],
            findings: Vec::new(),
            groups: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            epoch: None,
            epochs: 0,
            checks: Vec::new(),
            elapsed: std::time::Duration::ZERO,
            closed_ns: None,
        }
    }

    /// The same, with commands as somebody types them who logs in with these flags of the `nats` CLI.
    #[must_use]
    pub fn with_login(mut self, login: &str) -> Self {
        for finding in &mut self.findings {
            let advice = std::mem::take(&mut finding.advice);
            finding.advice = advice.into_iter().map(|advice| advice.with_login(login)).collect();
        }
        self
    }

    /// Why it cannot be told, as far as the summary does not say so in the same words.
    pub fn untold(&self) -> impl Iterator<Item = &String> {
        self.unknown.iter().filter(|reason| **reason != self.summary)
    }

    /// The findings that speak against somebody.
    pub fn bad(&self) -> impl Iterator<Item = &FindingReport> {
        self.findings.iter().filter(|judged| judged.is_bad())
    }

    /// The same verdict, with only those findings and groups that are not well or not known.
    #[must_use]
    pub fn only_problems(mut self) -> Self {
        self.findings.retain(|judged| badness(judged.severity, judged.verdict, judged.held) > 0);
        let groups: BTreeSet<&str> = self.findings.iter().map(|judged| judged.group.as_str()).collect();
        self.groups.retain(|group| groups.contains(group.numbers.name.as_str()));
        self
    }
}

impl FindingReport {
    /// Whether it speaks against somebody.
    pub fn is_bad(&self) -> bool {
        badness(self.severity, self.verdict, self.held) >= WARNING
    }
}

/// What is said of one finding of an epoch, in words. `unknown` tells why it cannot be told ([`unknown_reasons`]).
pub(crate) fn of_finding(
    finding: &Finding,
    step: &Step,
    alerts: &AlertTable,
    unknown: &[String],
) -> Option<FindingReport> {
    let view = &step.view;
    let group = view.group(&finding.group)?;
    let found = check::of_group(&step.findings, &group.key);
    let about = About { view, group, found, impact: check::impact(group, found), unknown };
    Some(judge(finding, held(finding, step), &about, alerts.diagnosis_of(finding)))
}

/// The verdict on an epoch.
pub(crate) fn verdict(step: &Step) -> Status {
    status(&step.view, &step.findings, |finding| held(finding, step))
}

/// Why it cannot be told of everybody whether all is well.
pub(crate) fn unknown_reasons(step: &Step) -> Vec<String> {
    reasons::reasons(&step.view, &step.findings)
}

/// A group, and what is said of it and of its peers.
struct About<'a> {
    view: &'a ClusterView,
    group: &'a GroupView,
    /// The findings about it.
    found: &'a [Finding],
    impact: check::Impact,
    /// Why the whole cannot be told.
    unknown: &'a [String],
}

/// A fault of a critical check is critical, one of a lesser check and every suspicion a warning. Health takes a
/// group, and positive evidence for every part of every group. An epoch that saw nothing at all tells nothing.
fn status(
    view: &ClusterView,
    findings: &[Finding],
    held: impl Fn(&Finding) -> Option<(State, Severity)>,
) -> Status {
    if !view.epoch.informative {
        return Status::Unknown;
    }
    let bad = |finding: &Finding| weight(finding, held(finding));
    let worst = findings.iter().map(bad).max().unwrap_or(0);
    let well = |finding: &Finding| matches!(finding.verdict, Verdict::Clear | Verdict::Gone);
    let complete = view.epoch.ran_its_course();
    // A list that a row is missing from may hide one that is offline.
    let whole = |group: &GroupView| group.authority.as_ref().is_some_and(|authority| authority.complete);
    let complete = complete && view.groups.iter().all(whole);
    match worst {
        CRITICAL => Status::Critical,
        WARNING => Status::Warning,
        _ if !view.warnings.is_empty() => Status::Warning,
        _ if complete && !view.groups.is_empty() && findings.iter().all(well) => Status::Ok,
        _ => Status::Unknown,
    }
}

/// A fault of a critical check.
pub(crate) const CRITICAL: u8 = 3;
/// A fault of a lesser check, or a suspicion.
pub(crate) const WARNING: u8 = 2;

/// What is known of an incident holds for as long as nothing says otherwise: where it stands, if that is more than
/// this epoch says. An epoch that saw nothing at all tells of nobody.
fn held(finding: &Finding, step: &Step) -> Option<(State, Severity)> {
    if !step.view.epoch.informative || step.heartbeat.active.is_empty() {
        return None;
    }
    let peer = finding.peer.as_ref().map(PeerId::as_str);
    let mut active = step.heartbeat.active.iter();
    let same = |incident: &&ActiveIncident| {
        incident.check == finding.check
            && incident.group == finding.group.as_str()
            && incident.peer.as_deref() == peer
    };
    let more = |state: &State| match (finding.verdict, state) {
        (Verdict::Unknown, State::Suspected | State::Firing) | (Verdict::Suspect, State::Firing) => true,
        (Verdict::Clear | Verdict::Gone | Verdict::Fault | Verdict::Suspect, _) | (_, State::Resolved) => {
            false
        }
    };
    active.find(same).map(|incident| (incident.state, incident.severity)).filter(|(state, _)| more(state))
}

/// How much a finding matters, as [`badness`] has it.
fn weight(finding: &Finding, held: Option<(State, Severity)>) -> u8 {
    badness(severity(finding, held), finding.verdict, held.map(|(state, _)| state))
}

/// How bad a fault is, or was when it was last known.
fn severity(finding: &Finding, held: Option<(State, Severity)>) -> Severity {
    held.map_or(finding.severity, |(_, severity)| severity)
}

/// How much a verdict matters: 3 is critical, 2 a warning, 1 not known, 0 good.
pub(crate) fn badness(severity: Severity, verdict: Verdict, held: Option<State>) -> u8 {
    let verdict = match held {
        Some(State::Firing) => Verdict::Fault,
        Some(State::Suspected) => Verdict::Suspect,
        Some(State::Resolved) | None => verdict,
    };
    match (verdict, severity) {
        (Verdict::Fault, Severity::Critical) => CRITICAL,
        (Verdict::Fault, Severity::Warning) | (Verdict::Suspect, _) => WARNING,
        (Verdict::Unknown, _) => 1,
        (Verdict::Clear | Verdict::Gone, _) => 0,
    }
}

fn judge(
    finding: &Finding,
    held: Option<(State, Severity)>,
    about: &About<'_>,
    diagnosis: &[Diagnosis],
) -> FindingReport {
    let About { view, group, found, impact, unknown } = about;
    let peer = finding.peer.and_then(|id| group.peer(id));
    let explained = event::explain(finding, group, view, found, *impact, diagnosis);
    let subject = peer.map_or_else(|| format!("meta group {}", group.key), PeerView::label);
    let (summary, advice) = match explained {
        Some(explained) => (explained.headline, explained.advice),
        None => (settled(finding, group, peer, &subject, unknown), Vec::new()),
    };
    let severity = severity(finding, held);
    let held = held.map(|(state, _)| state);
    let summary = match held {
        Some(State::Firing) if finding.check == "META_001" => {
            format!("{subject} was offline when it was last known ({summary})")
        }
        Some(State::Firing) => format!("{subject} was at fault when it was last known ({summary})"),
        Some(State::Suspected) => format!("{subject} was suspected when it was last known ({summary})"),
        Some(State::Resolved) | None => summary,
    };
    FindingReport {
        check: finding.check,
        group: group.key.as_str().to_owned(),
        domain: group.domain.as_str().to_owned(),
        peer: peer.map(|peer| PeerReport {
            id: peer.id.as_str().to_owned(),
            name: peer.name.as_ref().map(|name| name.as_str().to_owned()),
            numbers: PeerNumbers::new(group, peer, finding.verdict),
        }),
        verdict: finding.verdict,
        severity,
        measure: finding.measure,
        held,
        basis: finding.grounds,
        cause: finding.cause.clone(),
        diagnosis: diagnosis.to_vec(),
        advice,
        summary,
    }
}

/// What is said where nobody is spoken against.
fn settled(
    finding: &Finding,
    group: &GroupView,
    peer: Option<&PeerView>,
    subject: &str,
    unknown: &[String],
) -> String {
    let check = check::by_code(finding.check);
    let condition = check.is_some_and(|check| check.about == check::Subject::Condition);
    match (finding.verdict, peer) {
        (Verdict::Gone, _) => format!("{subject} was removed from the meta group"),
        (Verdict::Unknown, _) if condition => {
            let title = check.map_or("", |check| check.title);
            format!("{subject} does not tell now what {title} goes by")
        }
        (Verdict::Unknown, Some(peer)) => reasons::why_peer(group, peer),
        (Verdict::Unknown, None) => {
            reasons::why_group(group, finding.check).or_else(|| unknown.first().cloned()).unwrap_or_default()
        }
        _ => check.map_or_else(|| subject.to_owned(), |check| event::well(check, subject)),
    }
}

fn no_list(group: &GroupView) -> String {
    format!("{} (meta group {})", event::without_a_list(group), group.key)
}
