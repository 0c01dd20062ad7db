//! What one epoch may change, and whose alerts go on when there are too many.
//!
//! Any user of the system account can answer as a server and invent groups by the thousand. Neither a flood of their
//! faults nor a full table may keep the fault of a real group from being told: groups that are known for long come
//! first, each group gets its turn, and of a full table the group with the most alerts gives one up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Alert, Identity};
use crate::check::Finding;
use crate::name::Name;
use crate::stamp::Stamp;

/// So many transitions come of one epoch; the next one goes on. It keeps an epoch short, whatever is reported.
pub(super) const TRANSITIONS_MAX: usize = 256;
/// A group that has been seen for this long comes before those that have not.
const KNOWN_AFTER: Duration = Duration::from_secs(600);
/// More groups than this are not remembered; the youngest are forgotten. The view has at most as many.
const GROUPS_MAX: usize = 8_192;

/// The groups that findings were about.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    seen: BTreeMap<Name, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Stamp,
    last: Stamp,
    /// When a transition of its alerts was last told.
    served: Option<Stamp>,
    alerts: usize,
}

impl Groups {
    /// Takes the groups of an epoch's findings, and how many alerts each has.
    pub(super) fn epoch(&mut self, findings: &[Finding], alerts: &BTreeMap<Identity, Alert>, now: Stamp) {
        let mut before = None;
        for finding in findings {
            // Those of one group come in a row.
            if before.replace(&finding.group) != Some(&finding.group) {
                let new = Seen { first: now, last: now, served: None, alerts: 0 };
                self.seen.entry(finding.group.clone()).or_insert(new).last = now;
            }
        }
        while self.seen.len() > GROUPS_MAX {
            let youngest = self.seen.iter().max_by_key(|(_, seen)| (seen.first, seen.last));
            let Some(youngest) = youngest.map(|(name, _)| name.clone()) else { break };
            self.seen.remove(&youngest);
        }
        self.seen.values_mut().for_each(|seen| seen.alerts = 0);
        for identity in alerts.keys() {
            self.count(&identity.group, now).alerts += 1;
        }
    }

    fn count(&mut self, group: &Name, now: Stamp) -> &mut Seen {
        self.seen.entry(group.clone()).or_insert(Seen { first: now, last: now, served: None, alerts: 0 })
    }

    /// An alert about this group was opened.
    pub(super) fn opened(&mut self, group: &Name, now: Stamp) {
        self.count(group, now).alerts += 1;
    }

    /// A transition of an alert about this group is told.
    pub(super) fn served(&mut self, group: &Name, now: Stamp) {
        self.count(group, now).served = Some(now);
    }

    /// In which order findings are taken: their indices. Where there are few, as they are; else those of long-known
    /// groups first, then of groups that have waited longest, one of each group in turn.
    pub(super) fn order(&self, findings: &[Finding], now: Stamp) -> Vec<usize> {
        if findings.len() <= TRANSITIONS_MAX {
            return (0..findings.len()).collect();
        }
        let mut turns = BTreeMap::<&Name, usize>::new();
        let mut order: Vec<_> = findings
            .iter()
            .enumerate()
            .map(|(index, finding)| {
                let turn = turns.entry(&finding.group).or_default();
                *turn += 1;
                let seen = self.seen.get(&finding.group);
                let is_new = seen.is_none_or(|seen| now.since(seen.first) < KNOWN_AFTER);
                let served = seen.and_then(|seen| seen.served);
                ((is_new, *turn, served, seen.map(|seen| seen.first)), index)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// Of a full table, the alert that makes room for one about `group`, if any is to: one of the group with the most
    /// alerts, and of groups with as many, of the youngest.
    pub(super) fn displaced(
        &mut self,
        group: &Name,
        alerts: &BTreeMap<Identity, Alert>,
        now: Stamp,
    ) -> Option<Identity> {
        let own = *self.count(group, now);
        let (largest, seen) =
            self.seen.iter_mut().max_by_key(|(_, seen)| (seen.alerts, seen.first.steady_ns()))?;
        let is_younger = seen.alerts > own.alerts && seen.first.steady_ns() > own.first.steady_ns();
        if seen.alerts <= own.alerts + 1 && !is_younger {
            return None;
        }
        seen.alerts = seen.alerts.saturating_sub(1);
        let from = Identity { check: "", group: largest.clone(), peer: None };
        alerts
            .keys()
            .filter(|identity| identity.group == from.group)
            .max_by_key(|identity| (alerts[identity].since, identity.peer, identity.check))
            .cloned()
    }
}
