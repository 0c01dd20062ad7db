//! The heartbeat: told after every epoch on `<prefix>.heartbeat`, whatever happens. Who hears none for a while
//! knows that nobody watches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::build::{event_epoch, event_group};
use super::summary::{GROUPS_TOLD_MAX, WORST_TOLD_MAX};
use super::{AlertEvent, EventEpoch, EventGroup, LIST_MAX, Monitor, NOTES_MAX};
use crate::alert::{Alert, AlertTable, Identity, State};
use crate::check::{self, Finding, Severity, Verdict};
use crate::name::Name;
use crate::view::{ClusterView, GroupView};

/// The check of a lost quorum.
const QUORUM_LOST: &str = "META_006";

/// What the last epoch says on the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// There is positive evidence that every peer of every group is well.
    Ok,
    /// Something is suspected or firing.
    Alerting,
    /// There is not enough evidence: no reply, no access, no leader, a peer that has just fallen silent.
    Unknown,
}

impl Status {
    /// The word that heartbeats carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Alerting => "alerting",
            Self::Unknown => "unknown",
        }
    }
}

/// One heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The version of this document.
    pub v: u32,
    /// When the epoch ended. RFC 3339, UTC.
    pub timestamp: String,
    /// What it says on the whole.
    pub status: Status,
    /// One line for people.
    pub summary: String,
    /// The epoch in numbers.
    pub epoch: EventEpoch,
    /// The groups in numbers, the first of them.
    pub groups: Vec<EventGroup>,
    /// The next heartbeat comes after about so many milliseconds, or sooner. Whoever hears none for four times as long,
    /// or for 10 s if that is longer, knows that nobody watches.
    #[serde(default)]
    pub interval_ms: u64,
    /// There is positive evidence that nothing is critical: a critical incident that is not among `active` is over, though
    /// warnings may stand. Absent in heartbeats of versions that did not tell; with `ok` it is always so.
    #[serde(default)]
    pub calm: bool,
    /// How many incidents are open.
    pub incidents: u64,
    /// The worst of them: what fires before what is suspected, a lost quorum before all else.
    pub active: Vec<ActiveIncident>,
    /// What the replies of the epoch contradict each other in, and what else is worth knowing; the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What this heartbeat lacks, by name, as in `{"active":3}`; absent when it is whole. `active`, `missing`, `groups` and
    /// `notes` are its lists; `announcements` are those of servers that nobody knows, beyond those that the
    /// epoch could keep.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Which system it is about: the same for all watchers of a system. Absent before it is known, and in
    /// heartbeats of versions that knew none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The name of the watcher that speaks.
    pub speaker: String,
    /// How many watchers there are, this one included; the others stand by.
    #[serde(default)]
    pub watchers: u64,
    /// Words of other watchers and requests to the service that were not understood, not believed or not answered.
    #[serde(default)]
    pub refused: u64,
    /// Alert events that could not be delivered and were dropped.
    pub undelivered: u64,
    /// Alert events that wait for their delivery.
    pub waiting: u64,
    /// Alert events that were shortened so that the server takes them.
    #[serde(default)]
    pub shortened: u64,
    /// Alerts that are not followed because too many stand.
    #[serde(default)]
    pub overflow: u64,
    /// Times that the state was too large to be told to the other watchers.
    #[serde(default)]
    pub unreplicated: u64,
    /// What this watcher lost since its start, by kind, as in `{"requests":3}`; absent when nothing is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, u64>,
    /// How many contradictions and doubts stand that speak against no peer, as two servers under one name: `metawatch
    /// check` calls them a warning, and `notes` tells the first of them.
    #[serde(default)]
    pub warnings: u64,
    /// Open incidents would not survive a restart now: the state file cannot be written.
    #[serde(default)]
    pub unsaved: bool,
    /// Who sends this heartbeat.
    pub monitor: Monitor,
}

/// An open incident.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActiveIncident {
    /// The check.
    pub check: String,
    /// The group.
    pub group: String,
    /// The peer's id; absent for a whole group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The name of the peer at the incident's first event; `_` for a whole group.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// How bad it is.
    pub severity: Severity,
    /// The incident.
    pub incident: String,
    /// How many events it has had.
    pub seq: u64,
    /// Our own clock at the first evidence.
    pub since: String,
}

impl ActiveIncident {
    /// What an alert says of itself.
    pub fn of(alert: &Alert) -> Self {
        Self {
            check: alert.identity.check.to_owned(),
            group: alert.identity.group.as_str().to_owned(),
            peer: alert.identity.peer.map(|id| id.as_str().to_owned()),
            name: alert.subject_name.as_str().to_owned(),
            state: alert.state,
            severity: alert.severity(),
            incident: alert.incident.clone(),
            seq: alert.sequence,
            since: alert.since.to_string(),
        }
    }

    /// What an event says of its incident. The name is the peer's present one.
    pub fn told_by(event: &AlertEvent) -> Self {
        let peer = event.peer.as_ref();
        Self {
            check: event.check.clone(),
            group: event.group.name.clone(),
            peer: peer.map(|peer| peer.id.clone()),
            name: peer.map_or("_", |peer| peer.name.as_deref().unwrap_or(&peer.id)).to_owned(),
            state: event.state,
            severity: event.severity,
            incident: event.incident.clone(),
            seq: event.seq,
            since: event.since.clone(),
        }
    }
}

/// What the last epoch says on the whole. No evidence is never health: `Ok` needs every peer of every group clear.
pub fn status(view: &ClusterView, findings: &[Finding], table: &AlertTable) -> Status {
    if !view.epoch.informative || view.groups.is_empty() {
        return Status::Unknown;
    }
    if table.active().next().is_some() {
        return Status::Alerting;
    }
    let clear = |finding: &Finding| matches!(finding.verdict, Verdict::Clear | Verdict::Gone);
    if findings.iter().all(clear) { Status::Ok } else { Status::Unknown }
}

/// Whether nothing is critical, by positive evidence: what stands are warnings about what is known.
fn is_calm(view: &ClusterView, findings: &[Finding], table: &AlertTable) -> bool {
    let is_warning = |alert: &Alert| alert.state == State::Firing && alert.severity() == Severity::Warning;
    let is_fine = |finding: &Finding| match finding.verdict {
        Verdict::Clear | Verdict::Gone => true,
        Verdict::Fault => finding.severity == Severity::Warning,
        Verdict::Unknown | Verdict::Suspect => false,
    };
    let seen = view.epoch.informative && !view.groups.is_empty();
    seen && table.active().all(is_warning) && findings.iter().all(is_fine)
}

impl Heartbeat {
    /// Makes the heartbeat of an epoch. The shell adds what it knows of deliveries.
    pub fn new(
        view: &ClusterView,
        findings: &[Finding],
        table: &AlertTable,
        interval: Duration,
        monitor: &Monitor,
    ) -> Self {
        let status = status(view, findings, table);
        // They are only told apart where there are many groups.
        let unwell = if view.groups.len() > GROUPS_TOLD_MAX.min(LIST_MAX) {
            check::unwell_groups(view, findings)
        } else {
            Vec::new()
        };
        let groups = worst_groups_first(view, &unwell).into_iter().take(LIST_MAX);
        Self {
            v: 1,
            timestamp: view.epoch.closed.to_string(),
            status,
            summary: summary(view, findings, status, &unwell),
            epoch: event_epoch(&view.epoch, monitor),
            groups: groups.map(|group| event_group(group, check::impact(group, findings))).collect(),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            calm: is_calm(view, findings, table),
            incidents: table.active().count() as u64,
            active: worst_first(table).into_iter().take(LIST_MAX).map(ActiveIncident::of).collect(),
            notes: view.remarks().take(NOTES_MAX).cloned().collect(),
            left_out: left_out(view, table),
            system: None,
            speaker: monitor.name.clone(),
            watchers: 1,
            refused: 0,
            undelivered: 0,
            waiting: 0,
            shortened: 0,
            overflow: table.overflow(),
            warnings: view.warnings.len() as u64,
            unreplicated: 0,
            lost: BTreeMap::new(),
            unsaved: false,
            monitor: monitor.clone(),
        }
    }
}

/// The open alerts, those that nobody may overlook first: what fires, what is critical, a lost quorum, whole
/// groups.
pub fn worst_first(table: &AlertTable) -> Vec<&Alert> {
    let mut alerts: Vec<&Alert> = table.active().collect();
    let rank = |alert: &Alert| {
        let Identity { check, peer, .. } = &alert.identity;
        (alert.state != State::Firing, Reverse(alert.severity()), *check != QUORUM_LOST, peer.is_some())
    };
    alerts.sort_by_key(|alert| rank(alert));
    alerts
}

fn left_out(view: &ClusterView, table: &AlertTable) -> BTreeMap<String, u64> {
    let beyond = |entries: usize, max: usize| entries.saturating_sub(max) as u64;
    let lists = [
        ("active", beyond(table.active().count(), LIST_MAX)),
        ("groups", beyond(view.groups.len(), LIST_MAX)),
        ("notes", beyond(view.remarks().count(), NOTES_MAX)),
        ("announcements", view.epoch.counts.announcements_dropped),
    ];
    lists.into_iter().filter(|(_, lacks)| *lacks > 0).map(|(list, lacks)| (list.to_owned(), lacks)).collect()
}

/// The groups that something is wrong with come first: what a list has no room for is well.
fn worst_groups_first<'a>(view: &'a ClusterView, unwell: &[&'a GroupView]) -> Vec<&'a GroupView> {
    if view.groups.len() <= LIST_MAX {
        return view.groups.iter().collect();
    }
    let keys: BTreeSet<&Name> = unwell.iter().map(|group| &group.key).collect();
    let well = view.groups.iter().filter(|group| !keys.contains(&group.key));
    unwell.iter().copied().chain(well).collect()
}

fn summary(view: &ClusterView, findings: &[Finding], status: Status, unwell: &[&GroupView]) -> String {
    if view.groups.len() > GROUPS_TOLD_MAX {
        return summary_of_many(view, findings, status, unwell);
    }
    let heard = format!("{} of {} servers answered", view.epoch.heard, view.epoch.expected);
    let groups = view.groups.iter().map(|group| {
        let online = super::summary::peers_online(group, check::impact(group, findings));
        if view.groups.len() == 1 { online } else { format!("{}: {online}", group.key) }
    });
    let groups: Vec<String> = groups.collect();
    format!(
        "{}: {heard}; {}",
        status.as_str(),
        if groups.is_empty() { "no meta group".to_owned() } else { groups.join("; ") }
    )
}

/// `alerting: 1,112 groups, 9,999 of 10,001 servers answered; d0: 8 of 9 meta peers online, …; 2 more are not well`
fn summary_of_many(
    view: &ClusterView,
    findings: &[Finding],
    status: Status,
    unwell: &[&GroupView],
) -> String {
    let mut text = format!("{}: {}", status.as_str(), super::summary::sums(view));
    for group in unwell.iter().take(WORST_TOLD_MAX) {
        let online = super::summary::peers_online(group, check::impact(group, findings));
        text.push_str(&format!("; {}: {online}", group.key));
    }
    match unwell.len().saturating_sub(WORST_TOLD_MAX) {
        0 => {}
        more => text.push_str(&format!("; {}", super::summary::more_unwell(more as u64))),
    }
    text
}
