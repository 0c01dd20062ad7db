//! What one epoch may change, and whose alerts go on when there are too many.
//!
//! Any user of the system account can answer as a server and invent groups by the thousand. Neither a flood of their
//! faults nor a full table may keep the fault of a real group from being told: groups that are known for long come
//! first, each group gets its turn, and of a full table the group with the most alerts gives one up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ALERTS_MAX, About, Alert, AlertTable, Identity, Reason, Shown, State, Transition};
use crate::check::Finding;
use crate::name::Name;
use crate::rules::UNSHOWN_MAX;
use crate::stamp::Stamp;

/// So many transitions come of one epoch; the next one goes on. It keeps an epoch short, whatever is reported.
pub(super) const TRANSITIONS_MAX: usize = 256;
/// So many of them are of alerts that findings are about; the others are kept for the ends of those that nothing shows
/// any more, which no flood of findings may hold up. One of them makes room for the alert that displaces another.
pub(super) const SHOWN_TRANSITIONS_MAX: usize = TRANSITIONS_MAX - 64;
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
    /// When one of its alerts was last displaced.
    displaced: Option<Stamp>,
    alerts: usize,
}

impl Seen {
    fn new(now: Stamp) -> Self {
        Self { first: now, last: now, served: None, displaced: None, alerts: 0 }
    }
}

impl Groups {
    /// Takes the groups of an epoch's findings, and how many alerts each has.
    pub(super) fn epoch(&mut self, findings: &[Finding], alerts: &BTreeMap<Identity, Alert>, now: Stamp) {
        let mut before = None;
        for finding in findings {
            // Those of one group come in a row.
            if before.replace(&finding.group) != Some(&finding.group) {
                self.seen.entry(finding.group.clone()).or_insert(Seen::new(now)).last = now;
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
        self.seen.entry(group.clone()).or_insert(Seen::new(now))
    }

    /// An alert about this group is opened, for something that has stood `since` then. Gives since when it counts: what
    /// was displaced comes back as another incident, because the events of the first one have ended.
    pub(super) fn opened(&mut self, group: &Name, since: Stamp, now: Stamp) -> Stamp {
        let seen = self.count(group, now);
        seen.alerts += 1;
        seen.displaced.map_or(since, |displaced| displaced.max(since))
    }

    /// A transition of an alert about this group is told.
    pub(super) fn served(&mut self, group: &Name, now: Stamp) {
        self.count(group, now).served = Some(now);
    }

    /// In which order findings are taken: their indices. Where there are few, as they are; else those of long-known
    /// groups first, then of groups that have waited longest, one of each group in turn.
    pub(super) fn order(&self, findings: &[Finding], now: Stamp) -> Vec<usize> {
        if findings.len() <= SHOWN_TRANSITIONS_MAX {
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
    /// alerts, and of groups with as many, of the youngest; one that is over before one that is not.
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
        seen.displaced = Some(now);
        let from = Identity { check: "", group: largest.clone(), peer: None };
        alerts
            .keys()
            .filter(|identity| identity.group == from.group)
            .max_by_key(|identity| {
                let alert = &alerts[identity];
                (alert.state == State::Resolved, alert.since, identity.peer, identity.check)
            })
            .cloned()
    }
}

impl AlertTable {
    /// Follows one more alert, where need be in the place of another one, whose end it gives.
    pub(super) fn open(
        &mut self,
        identity: &Identity,
        finding: &Finding,
        now: Stamp,
        about: impl Fn(&Identity) -> About,
    ) -> Option<Transition> {
        let mut end = None;
        if self.alerts.len() >= ALERTS_MAX {
            self.overflow = self.overflow.saturating_add(1);
            let displaced = self.groups.displaced(&identity.group, &self.alerts, now)?;
            let mut displaced = self.alerts.remove(&displaced)?;
            if displaced.state != State::Resolved {
                displaced.end();
                end = Some(displaced.transition(Reason::Displaced, None, now));
            }
        }
        let since = self.groups.opened(&identity.group, finding.since.unwrap_or(now), now);
        let alert = Alert::open(identity.clone(), finding, since, now, about(identity));
        self.alerts.insert(identity.clone(), alert);
        end
    }

    /// Ends the alerts that nothing shows any more. Those that have no room in this epoch end in the next one.
    pub(super) fn forget(&mut self, now: Stamp, shown: Shown<'_>, transitions: &mut Vec<Transition>) {
        for alert in self.alerts.values_mut().filter(|alert| alert.state != State::Resolved) {
            if shown.superseded.contains(&alert.identity.group) || now.since(alert.shown) >= UNSHOWN_MAX {
                if transitions.len() < TRANSITIONS_MAX {
                    alert.end();
                    transitions.push(alert.transition(Reason::Forgotten, None, now));
                }
            } else if !shown.whole {
                // Time in which nothing was seen is nobody's absence.
                alert.shown = alert.shown.max(now);
            }
        }
    }
}
