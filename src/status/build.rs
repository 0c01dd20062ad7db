//! Makes the status of a system from what an epoch led to.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{
    Counts, EpochStatus, GroupStatus, IncidentStatus, Limits, NOTES_MAX, PeerStatus, PublishingStatus,
    RecentEvents, SystemStatus, Totals, WatcherStatus,
};
use crate::alert::{Alert, AlertTable, Identity, State};
use crate::check::{self, Finding, Severity, Verdict};
use crate::event::heartbeat::{ActiveIncident, worst_first};
use crate::event::{self, Monitor};
use crate::name::{Name, PeerId};
use crate::pipeline::Step;
use crate::report::selection::ChosenGroups;
use crate::report::{self, Status, words};
use crate::stamp::Stamp;
use crate::view::{GroupView, Part, PeerView, label};

/// What a status is made of besides the epoch.
#[derive(Clone, Copy, Debug)]
pub struct StatusContext<'a> {
    /// The alerts as they stand.
    pub alerts: &'a AlertTable,
    /// The last events.
    pub recent: &'a RecentEvents,
    /// What happened in all epochs together.
    pub totals: &'a Totals,
    /// Who watches ...
    pub monitor: &'a Monitor,
    /// ... and since when.
    pub since: Stamp,
    /// Which system it is, once that is known.
    pub system: Option<&'a str>,
    /// The flags of the `nats` CLI that whoever takes the advice logs in with.
    pub login: &'a str,
    /// How much is shown.
    pub limits: Limits,
}

impl SystemStatus {
    /// The status after an epoch, of the chosen groups alone. Servers, replies and notes are those of the whole system.
    pub fn of_groups(step: &Step, chosen: &ChosenGroups, context: &StatusContext<'_>) -> Self {
        if chosen.names().is_empty() {
            return Self::new(step, None, context);
        }
        let mut step = step.clone();
        chosen.narrow(&mut step);
        let alerts = context.alerts.of_groups(|key| chosen.contains(key));
        let recent = context.recent.of_groups(|key| chosen.contains(key));
        let context = StatusContext { alerts: &alerts, recent: &recent, ..*context };
        Self { only: chosen.names().to_vec(), ..Self::new(&step, None, &context) }
    }

    /// Without the groups that are known to be well; they stay counted.
    #[must_use]
    pub fn only_problems(&self) -> Self {
        let mut status = self.clone();
        status.groups.retain(|group| group.status != Status::Ok);
        status
    }

    /// The status after an epoch.
    pub fn new(step: &Step, publishing: Option<PublishingStatus>, context: &StatusContext<'_>) -> Self {
        let Step { view, heartbeat, .. } = step;
        let StatusContext { alerts, recent, totals, monitor, since, system, limits, .. } = *context;
        let statuses = group_statuses(step, alerts);
        let counts = counts(step, &statuses, alerts);
        let notes = view.remarks().take(NOTES_MAX).cloned().collect();
        let mut status = Self {
            v: 1,
            timestamp: view.epoch.closed.to_string(),
            status: overall(step, alerts),
            summary: String::new(),
            system: system.map(str::to_owned),
            only: Vec::new(),
            interval_ms: heartbeat.interval_ms,
            epoch: epoch_status(step, monitor),
            counts,
            groups: groups(step, &statuses, limits),
            incidents: incidents(step, context),
            recent: recent.iter().cloned().collect(),
            notes,
            left_out: BTreeMap::new(),
            watcher: WatcherStatus {
                monitor: monitor.clone(),
                since: since.to_string(),
                totals: *totals,
                publishing,
            },
        };
        status.summary = summary(step, &status);
        let lacks = [
            ("groups", counts.groups - status.groups.len() as u64),
            ("incidents", counts.incidents - status.incidents.len() as u64),
            ("notes", view.remarks().count().saturating_sub(NOTES_MAX) as u64),
        ];
        let lacks = lacks.into_iter().filter(|(_, lacks)| *lacks > 0);
        status.left_out = lacks.map(|(list, lacks)| (list.to_owned(), lacks)).collect();
        status
    }
}

/// What `check` would say, and what the open alerts say. `Unknown` where the epoch saw nothing, whatever is remembered.
pub(super) fn overall(step: &Step, alerts: &AlertTable) -> Status {
    let judged = report::verdict(step);
    let open = alerts.active().map(weight).max().unwrap_or(0);
    match (judged, open) {
        _ if !step.view.epoch.informative => Status::Unknown,
        (_, report::CRITICAL) => Status::Critical,
        (Status::Critical, _) => Status::Critical,
        (_, report::WARNING) => Status::Warning,
        _ => judged,
    }
}

fn weight(alert: &Alert) -> u8 {
    match (alert.state, alert.severity()) {
        (State::Firing, Severity::Critical) => report::CRITICAL,
        (State::Firing | State::Suspected, _) => report::WARNING,
        (State::Resolved, _) => 0,
    }
}

pub(super) fn status_of(weight: u8) -> Status {
    match weight {
        0 => Status::Ok,
        1 => Status::Unknown,
        report::WARNING => Status::Warning,
        _ => Status::Critical,
    }
}

/// The worst of each group, in the order of the view: by its findings, and by its open alerts where those tell nothing.
pub(super) fn group_statuses(step: &Step, alerts: &AlertTable) -> Vec<u8> {
    let mut held: BTreeMap<&Name, u8> = BTreeMap::new();
    for alert in alerts.active() {
        let known = held.entry(&alert.identity.group).or_default();
        *known = weight(alert).max(*known);
    }
    let blind = u8::from(!step.view.epoch.informative);
    let worst = |group: &GroupView| {
        let findings = check::of_group(&step.findings, &group.key);
        let found =
            findings.iter().map(|finding| report::badness(finding.severity, finding.verdict, None)).max();
        // A group that nothing is found of is not known to be well.
        found.unwrap_or(1).max(held.get(&group.key).copied().unwrap_or(0)).max(blind)
    };
    step.view.groups.iter().map(worst).collect()
}

pub(super) fn counts(step: &Step, statuses: &[u8], alerts: &AlertTable) -> Counts {
    let Step { view, findings, .. } = step;
    let of_peers = |verdict: Verdict| {
        check::peers_of(findings).filter(|finding| finding.verdict == verdict).count() as u64
    };
    Counts {
        groups: view.groups.len() as u64,
        groups_not_ok: statuses.iter().filter(|weight| **weight > 0).count() as u64,
        peers: view.groups.iter().map(|group| group.peers.len() as u64).sum(),
        offline: of_peers(Verdict::Fault),
        suspected: of_peers(Verdict::Suspect),
        servers: view.servers.len() as u64,
        servers_without_group: view.servers.iter().filter(|server| server.part != Part::Member).count()
            as u64,
        incidents: alerts.active().count() as u64,
    }
}

/// The worst incident, then the numbers.
fn summary(step: &Step, status: &SystemStatus) -> String {
    let Step { view, findings, .. } = step;
    let counts = status.counts;
    let mut parts = Vec::new();
    if let Some(worst) = status.incidents.first() {
        let more = counts.incidents - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        parts.push(format!("{}{more}", worst.summary));
    }
    let several = view.groups.len();
    parts.push(match view.groups.as_slice() {
        [] => "no meta group is seen".to_owned(),
        [group] => event::peers_online(group, check::impact(group, findings)),
        _ if counts.groups_not_ok == 0 => format!("all {several} meta groups are well"),
        _ => format!("{} of {several} meta groups are well", several as u64 - counts.groups_not_ok),
    });
    parts.push(format!("{} of {} servers answered", view.epoch.heard, view.epoch.expected));
    parts.join("; ")
}

fn epoch_status(step: &Step, monitor: &Monitor) -> EpochStatus {
    let epoch = event::event_epoch(&step.view.epoch, monitor);
    EpochStatus {
        number: step.view.epoch.number,
        ended: epoch.ended,
        expected: epoch.expected,
        heard: epoch.heard,
        missing: epoch.missing,
        elapsed_ms: epoch.elapsed_ms,
    }
}

fn groups(step: &Step, statuses: &[u8], limits: Limits) -> Vec<GroupStatus> {
    let mut order: Vec<(u8, &GroupView)> = statuses.iter().copied().zip(&step.view.groups).collect();
    // Stable: groups that stand alike stay in the order of their names.
    order.sort_by_key(|(weight, _)| Reverse(*weight));
    let mut room = limits.peers;
    let shown = order.into_iter().take(limits.groups).map(|(weight, group)| {
        let status = group_status(group, &step.findings, status_of(weight), room, limits.reporters);
        room -= status.peers.len();
        status
    });
    shown.collect()
}

fn group_status(
    group: &GroupView,
    findings: &[Finding],
    status: Status,
    room: usize,
    reporters: usize,
) -> GroupStatus {
    let impact = check::impact(group, findings);
    let of_peers = check::peers_of(check::of_group(findings, &group.key));
    let of_peers: BTreeMap<PeerId, &Finding> =
        of_peers.filter_map(|finding| Some((finding.peer?, finding))).collect();
    let mut peers: Vec<(&PeerView, Option<&Finding>)> =
        group.peers.iter().map(|peer| (peer, of_peers.get(&peer.id).copied())).collect();
    peers.sort_by_key(|(peer, finding)| {
        let weight = finding.map_or(1, |finding| report::badness(finding.severity, finding.verdict, None));
        (Reverse(weight), !peer.leader, peer.name.is_none(), &peer.name, peer.id)
    });
    let shown = peers.iter().take(room).map(|(peer, finding)| peer_status(peer, *finding, reporters));
    GroupStatus {
        group: text(&group.key),
        domain: text(&group.domain),
        clusters: group.clusters.iter().take(reporters).map(text).collect(),
        status,
        leader: group.authority.as_ref().map(|authority| text(&authority.name)),
        leaderless: group.authority.is_none().then(|| event::without_a_list(group)),
        claimants: group.claimants.iter().take(reporters).map(text).collect(),
        complete: group.authority.as_ref().is_some_and(|authority| authority.complete),
        size: group.size,
        quorum: group.quorum,
        online: impact.online,
        failures_left: impact.failures_left,
        answering: group.answering,
        rescue: group.rescue,
        peers: shown.collect(),
        more_peers: peers.len().saturating_sub(room) as u64,
    }
}

fn peer_status(peer: &PeerView, finding: Option<&Finding>, reporters: usize) -> PeerStatus {
    let evidence = event::evidence(peer, finding);
    let opinions = peer.opinions.iter().take(reporters);
    let more = (peer.opinions.len() + peer.more_opinions).saturating_sub(reporters);
    PeerStatus {
        id: peer.id.as_str().to_owned(),
        name: peer.name.as_ref().map(text),
        cluster: (!peer.cluster.is_empty()).then(|| text(&peer.cluster)),
        leader: peer.leader,
        verdict: finding.map_or(Verdict::Unknown, |finding| finding.verdict),
        cause: finding.and_then(|finding| finding.cause.as_ref()).map(|cause| cause.kind.as_str()),
        state: words::state(peer),
        contact: words::contact(peer),
        active_ns: peer.row.as_ref().map(|row| row.active_ns),
        lag: peer.row.as_ref().map(|row| row.lag),
        last_heard: peer.last_heard.map(|heard| heard.to_string()),
        witnesses: evidence.witnesses,
        says: words::opinions(peer),
        opinions: opinions.map(|(name, said)| (text(name), event::opinion(*said))).collect(),
        more_opinions: more as u64,
        routes: evidence.routes.into_iter().take(reporters).collect(),
    }
}

fn incidents(step: &Step, context: &StatusContext<'_>) -> Vec<IncidentStatus> {
    let shown: Vec<&Alert> = worst_first(context.alerts).into_iter().take(context.limits.incidents).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let unknown = report::unknown_reasons(step);
    shown.into_iter().map(|alert| incident(alert, step, context, &unknown)).collect()
}

fn incident(alert: &Alert, step: &Step, context: &StatusContext<'_>, unknown: &[String]) -> IncidentStatus {
    let Identity { check, group, peer } = &alert.identity;
    let findings = check::of_group(&step.findings, group).iter();
    let finding = findings.into_iter().find(|finding| finding.check == *check && finding.peer == *peer);
    let told = finding.and_then(|finding| report::of_finding(finding, step, context.alerts, unknown));
    let view = peer.and_then(|id| step.view.group(group)?.peer(id));
    let mut advice = told.as_ref().map(|told| told.advice.clone()).unwrap_or_default();
    for one in &mut advice {
        *one = one.clone().with_login(context.login);
    }
    let mut incident = ActiveIncident::of(alert);
    if let Some(name) = view.and_then(|peer| peer.name.as_ref()) {
        incident.name = text(name);
    }
    IncidentStatus {
        incident,
        title: check::by_code(check).map_or(*check, |check| check.title).to_owned(),
        summary: told.as_ref().map_or_else(|| unshown(alert), |told| told.summary.clone()),
        verdict: finding.map(|finding| finding.verdict),
        basis: told.as_ref().and_then(|told| told.basis),
        cause: told.and_then(|told| told.cause),
        evidence: view.map(|peer| event::evidence(peer, finding)),
        diagnosis: alert.diagnosis.clone(),
        advice,
        flaps: alert.flaps,
    }
}

/// What is said of something that the epoch does not show at all.
fn unshown(alert: &Alert) -> String {
    let subject = match alert.identity.peer {
        Some(id) => label(Some(&alert.subject_name), id),
        None => format!("meta group {}", alert.identity.group),
    };
    let state = if alert.state == State::Firing { "at fault" } else { "suspected" };
    format!("{subject} was {state} when it was last known; nothing shows it now")
}

fn text(name: &Name) -> String {
    name.as_str().to_owned()
}
