//! The view as JSON: what `metawatch view --format json` prints and what the service answers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::build::{event_epoch, opinion};
use super::{EventEpoch, Monitor};
use crate::check::{self, Finding, Measure, Severity, Verdict};
use crate::epoch::Counts;
use crate::name::{Name, PeerId};
use crate::view::{Answer, ClusterView, GroupView, Part, PeerView};

/// A view, ready to be printed. What cannot be known is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    v: u32,
    epoch: SnapshotEpoch,
    groups: Vec<SnapshotGroup>,
    servers: Vec<SnapshotServer>,
    inconsistent: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct SnapshotEpoch {
    id: String,
    ended: String,
    expected: u64,
    heard: u64,
    missing: Vec<String>,
    rejected: u64,
    late: u64,
    duplicate: u64,
    conflicting: u64,
    unexpected: u64,
    dropped: u64,
    announcements_dropped: u64,
    rejects: Vec<String>,
    elapsed_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
struct SnapshotGroup {
    group: String,
    domain: String,
    clusters: Vec<String>,
    leader: Option<String>,
    leader_id: Option<String>,
    claimants: Vec<String>,
    complete: bool,
    size: Option<u64>,
    quorum: Option<u64>,
    rescue: bool,
    answering: u64,
    online: Option<u64>,
    failures_left: Option<i64>,
    peers: Vec<SnapshotPeer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<SnapshotCondition>,
}

/// What is not well with the group or a member that takes part in it.
#[derive(Clone, Debug, Serialize)]
struct SnapshotCondition {
    check: &'static str,
    peer: Option<String>,
    severity: Severity,
    summary: String,
    measure: Option<Measure>,
}

#[derive(Clone, Debug, Serialize)]
struct SnapshotPeer {
    id: String,
    name: Option<String>,
    cluster: Option<String>,
    leader: bool,
    listed: bool,
    answered: bool,
    disabled: bool,
    offline: Option<bool>,
    current: Option<bool>,
    active_ns: Option<i64>,
    lag: Option<u64>,
    verdict: Verdict,
    cause: Option<&'static str>,
    last_heard: Option<String>,
    opinions: BTreeMap<String, &'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct SnapshotServer {
    name: String,
    id: String,
    cluster: String,
    domain: String,
    version: String,
    jetstream: &'static str,
}

impl Snapshot {
    /// Makes the snapshot of a view and its findings.
    pub fn new(view: &ClusterView, findings: &[Finding], monitor: &Monitor) -> Self {
        let verdicts: BTreeMap<(&Name, PeerId), &Finding> = findings
            .iter()
            .filter(|finding| finding.check == "META_001")
            .filter_map(|finding| Some(((&finding.group, finding.peer?), finding)))
            .collect();
        let group = |group: &GroupView| {
            let peer = |peer: &PeerView| snapshot_peer(peer, verdicts.get(&(&group.key, peer.id)).copied());
            let impact = check::impact(group, findings);
            SnapshotGroup {
                group: text(&group.key),
                domain: text(&group.domain),
                clusters: group.clusters.iter().map(text).collect(),
                leader: group.authority.as_ref().map(|authority| text(&authority.name)),
                leader_id: group.authority.as_ref().map(|authority| authority.peer.as_str().to_owned()),
                claimants: group.claimants.iter().map(text).collect(),
                complete: group.authority.as_ref().is_some_and(|authority| authority.complete),
                size: group.size,
                quorum: group.quorum,
                rescue: group.rescue,
                answering: group.answering,
                online: impact.online,
                failures_left: impact.failures_left,
                peers: group.peers.iter().map(peer).collect(),
                conditions: conditions(check::of_group(findings, &group.key)),
            }
        };
        Self {
            v: 1,
            epoch: snapshot_epoch(view, event_epoch(&view.epoch, monitor)),
            groups: view.groups.iter().map(group).collect(),
            servers: view
                .servers
                .iter()
                .map(|server| SnapshotServer {
                    name: text(&server.name),
                    id: text(&server.id),
                    cluster: text(&server.cluster),
                    domain: text(&server.domain),
                    version: text(&server.version),
                    jetstream: part(server.part),
                })
                .collect(),
            inconsistent: view.inconsistent.clone(),
        }
    }
}

fn conditions(findings: &[Finding]) -> Vec<SnapshotCondition> {
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Fault);
    bad.filter_map(|finding| {
        Some(SnapshotCondition {
            check: finding.check,
            peer: finding.peer.map(|id| id.as_str().to_owned()),
            severity: finding.severity,
            summary: finding.words.clone()?,
            measure: finding.measure,
        })
    })
    .collect()
}

fn text(name: &Name) -> String {
    name.as_str().to_owned()
}

/// A server's part in JetStream in the word that views carry.
pub fn part(part: Part) -> &'static str {
    match part {
        Part::Member => "member",
        Part::Standalone => "standalone",
        Part::Disabled => "disabled",
    }
}

fn snapshot_epoch(view: &ClusterView, epoch: EventEpoch) -> SnapshotEpoch {
    let Counts { rejected, late, duplicate, conflicting, unexpected, dropped, announcements_dropped } =
        view.epoch.counts;
    SnapshotEpoch {
        id: epoch.id,
        ended: epoch.ended,
        expected: epoch.expected,
        heard: epoch.heard,
        missing: view.epoch.missing.iter().map(text).collect(),
        rejected,
        late,
        duplicate,
        conflicting,
        unexpected,
        dropped,
        announcements_dropped,
        rejects: view.epoch.rejects.iter().map(|(_, detail)| detail.clone()).collect(),
        elapsed_ms: epoch.elapsed_ms,
    }
}

fn snapshot_peer(peer: &PeerView, finding: Option<&Finding>) -> SnapshotPeer {
    let row = peer.row.as_ref();
    SnapshotPeer {
        id: peer.id.as_str().to_owned(),
        name: peer.name.as_ref().map(text),
        cluster: (!peer.cluster.is_empty()).then(|| text(&peer.cluster)),
        leader: peer.leader,
        listed: row.is_some() || peer.leader,
        answered: peer.answer != Answer::None,
        disabled: peer.answer == Answer::Disabled,
        offline: row.map(|row| row.offline),
        current: row.map(|row| row.current),
        active_ns: row.map(|row| row.active_ns),
        lag: row.map(|row| row.lag),
        verdict: finding.map_or(Verdict::Unknown, |finding| finding.verdict),
        cause: finding.and_then(|finding| finding.cause.as_ref()).map(|cause| cause.kind.as_str()),
        last_heard: peer.last_heard.map(|heard| heard.to_string()),
        opinions: peer.opinions.iter().map(|(name, said)| (text(name), opinion(*said))).collect(),
    }
}
