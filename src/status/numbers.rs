//! A watcher and its system in numbers, for whoever counts them over time ([`super::metrics`]).
//!
//! [`Numbers`] is made after each epoch, and has a limit whatever the system is: of many groups and peers those that
//! are not well come first, and what is left out is counted. **Invariant:** a watcher that does not look itself tells
//! nothing of the system.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::build::{self, StatusContext};
use super::{Counts, PublishingStatus, Totals};
use crate::alert::{AlertTable, Identity, State};
use crate::check::{self, CHECKS, Finding, Severity, Subject, Verdict};
use crate::event::Monitor;
use crate::name::{Name, PeerId};
use crate::pipeline::Step;
use crate::report::Status;
use crate::report::numbers::{CheckNumbers, GroupNumbers, PeerNumbers};
use crate::stamp::Stamp;
use crate::view::{ClusterView, GroupView};

/// So many groups have series of their own.
pub const GROUPS_MAX: usize = 200;
/// So many peers, of all groups together, have series of their own.
pub const PEERS_MAX: usize = 2_000;

/// A watcher and what it sees, in numbers.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Who watches ...
    pub monitor: Monitor,
    /// ... and since when.
    pub since: Stamp,
    /// Which system, once that is known.
    pub system: Option<String>,
    /// The time between two epochs, as it was asked for.
    pub interval: Duration,
    /// What it is to other watchers: one of [`ROLES`].
    pub role: &'static str,
    /// What happened in all epochs together.
    pub totals: Totals,
    /// How long they took together.
    pub epochs_took: Duration,
    /// When the last complete one ended.
    pub complete: Option<Stamp>,
    /// How often a connection was made again after a loss.
    pub reconnects: u64,
    /// What it publishes.
    pub publishing: PublishingStatus,
    /// What was lost besides alert events, by kind: every kind there is.
    pub losses: Vec<(&'static str, u64)>,
    /// What its last epoch shows; `None` before the first, and for a watcher that does not look.
    pub seen: Option<Seen>,
}

/// The roles of a watcher: the words of [`PublishingStatus::role`], and `reserve` for a standby that does not look.
pub const ROLES: [&str; 5] = ["active", "standby", "reserve", "taking_over", "joining"];

/// What an epoch shows, in numbers.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The verdict on the whole.
    pub status: Status,
    /// How many there are of everything, in series or not.
    pub counts: Counts,
    /// How many servers answered the epoch.
    pub heard: u64,
    /// How many should have answered.
    pub expected: u64,
    /// How long it took.
    pub took: Duration,
    /// When it ended.
    pub closed: Stamp,
    /// The open incidents: check, severity, state, and how many. Every combination that there can be.
    pub incidents: Vec<(&'static str, Severity, State, u64)>,
    /// The groups, in the order of their names.
    pub groups: Vec<GroupSeries>,
    /// What the checks say of them.
    pub checks: Vec<CheckNumbers>,
    /// The peers, in the order of their groups and ids.
    pub peers: Vec<PeerNumbers>,
    /// How many groups are left out.
    pub groups_left_out: u64,
    /// How many peers are left out, those of groups that are left out among them.
    pub peers_left_out: u64,
}

/// A group in numbers.
#[derive(Clone, Debug)]
pub struct GroupSeries {
    /// What events and reports tell.
    pub numbers: GroupNumbers,
    /// The worst that is found of it and of its peers.
    pub status: Status,
    /// How often its leader was another one than before.
    pub leader_changes: u64,
}

impl Seen {
    /// What an epoch shows.
    pub fn new(step: &Step, leaders: &LeaderChanges, context: &StatusContext<'_>) -> Self {
        let alerts = context.alerts;
        let Step { view, findings, .. } = step;
        let weights = build::group_statuses(step, alerts);
        let verdicts = Verdicts::new(alerts);
        let of_peers = |wanted: Verdict| {
            check::peers_of(findings).filter(|finding| verdicts.of(finding) == wanted).count() as u64
        };
        let counts = Counts {
            offline: of_peers(Verdict::Fault),
            suspected: of_peers(Verdict::Suspect),
            ..build::counts(step, &weights, alerts)
        };
        let mut order: Vec<(u8, &GroupView)> = weights.iter().copied().zip(&view.groups).collect();
        order.sort_by_key(|(weight, _)| Reverse(*weight));
        order.truncate(GROUPS_MAX);
        let mut peers = peers(&order, findings, &verdicts);
        peers.sort_by(|one, other| (&one.group, &one.id).cmp(&(&other.group, &other.id)));
        let mut groups = Vec::with_capacity(order.len());
        let mut checks = Vec::new();
        order.sort_by_key(|(_, group)| &group.key);
        for (weight, group) in order {
            let found = check::of_group(findings, &group.key);
            let numbers =
                GroupNumbers::new(group, check::impact(group, found), found, |finding| verdicts.of(finding));
            checks.extend(CheckNumbers::of_group(group, found, &step.checks, |finding| verdicts.of(finding)));
            groups.push(GroupSeries {
                numbers,
                status: build::status_of(weight),
                leader_changes: leaders.of(&group.key),
            });
        }
        let all_peers = check::peers_of(findings).filter(|finding| finding.verdict != Verdict::Gone).count();
        Self {
            status: build::overall(step, alerts),
            counts,
            heard: view.epoch.heard as u64,
            expected: view.epoch.expected as u64,
            took: view.epoch.closed.since(view.epoch.opened),
            closed: view.epoch.closed,
            incidents: incidents(alerts),
            groups_left_out: (view.groups.len() - groups.len()) as u64,
            peers_left_out: all_peers.saturating_sub(peers.len()) as u64,
            groups,
            checks,
            peers,
        }
    }
}

/// The peers that have series: in each group, those that are not well first.
fn peers(order: &[(u8, &GroupView)], findings: &[Finding], verdicts: &Verdicts<'_>) -> Vec<PeerNumbers> {
    let mut shown = Vec::new();
    for (_, group) in order {
        let of_peers = check::peers_of(check::of_group(findings, &group.key));
        let mut of_group: Vec<(Verdict, &Finding)> =
            of_peers.map(|finding| (verdicts.of(finding), finding)).collect();
        of_group.retain(|(verdict, _)| *verdict != Verdict::Gone);
        // The order of the verdicts is from well to fault.
        of_group.sort_by_key(|(verdict, finding)| (Reverse(*verdict), finding.peer));
        let room = PEERS_MAX - shown.len();
        let numbers = of_group.into_iter().take(room).filter_map(|(verdict, finding)| {
            Some(PeerNumbers::new(group, group.peer(finding.peer?)?, verdict))
        });
        shown.extend(numbers);
    }
    shown
}

fn incidents(alerts: &AlertTable) -> Vec<(&'static str, Severity, State, u64)> {
    let mut counts: BTreeMap<(&'static str, Severity, State), u64> = BTreeMap::new();
    for check in CHECKS {
        counts.insert((check.code, check.severity, State::Firing), 0);
        if check.about == Subject::Condition {
            counts.insert((check.code, Severity::Critical, State::Firing), 0);
        }
        if check.about == Subject::Membership {
            // What never fired is a warning, whatever the check.
            counts.insert((check.code, Severity::Warning, State::Suspected), 0);
        }
    }
    for alert in alerts.active() {
        *counts.entry((alert.identity.check, alert.severity(), alert.state)).or_default() += 1;
    }
    counts.into_iter().map(|((check, severity, state), count)| (check, severity, state, count)).collect()
}

/// What is said of a peer or a group, where an open incident says more than one epoch: what was known holds.
struct Verdicts<'a> {
    open: BTreeMap<&'a Identity, State>,
}

impl<'a> Verdicts<'a> {
    fn new(alerts: &'a AlertTable) -> Self {
        Self { open: alerts.active().map(|alert| (&alert.identity, alert.state)).collect() }
    }

    fn of(&self, finding: &Finding) -> Verdict {
        if self.open.is_empty() {
            return finding.verdict;
        }
        match (finding.verdict, self.open.get(&Identity::of(finding))) {
            (Verdict::Unknown | Verdict::Suspect, Some(State::Firing)) => Verdict::Fault,
            (Verdict::Unknown, Some(State::Suspected)) => Verdict::Suspect,
            (verdict, _) => verdict,
        }
    }
}

/// How often each group had another leader than before. A time without one is no change of its own.
#[derive(Clone, Debug, Default)]
pub struct LeaderChanges {
    last: BTreeMap<Name, (PeerId, u64)>,
}

impl LeaderChanges {
    /// Takes what an epoch shows. Groups that are there no more are forgotten.
    pub fn take(&mut self, view: &ClusterView) {
        if !view.epoch.informative {
            return;
        }
        let shown: BTreeSet<&Name> = view.groups.iter().map(|group| &group.key).collect();
        self.last.retain(|key, _| shown.contains(key));
        for group in &view.groups {
            let Some(authority) = &group.authority else { continue };
            let (leader, changes) = self.last.entry(group.key.clone()).or_insert((authority.peer, 0));
            if *leader != authority.peer {
                (*leader, *changes) = (authority.peer, changes.saturating_add(1));
            }
        }
    }

    fn of(&self, group: &Name) -> u64 {
        self.last.get(group).map_or(0, |(_, changes)| *changes)
    }
}
