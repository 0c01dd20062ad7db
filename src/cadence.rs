//! When the next epoch opens: something unsettled is looked at more often, for as long as that still changes anything.

use std::time::Duration;

use crate::alert::{AlertTable, Identity, State};
use crate::check::{Finding, Verdict};
use crate::name::PeerId;
use crate::stamp::Stamp;
use crate::view::{ClusterView, Contact, GroupView, PeerView};

/// How long something unsettled keeps the faster cadence after the last change of a verdict.
const FAST_FOR: Duration = Duration::from_secs(30);
/// The shortest time between two epochs.
const FAST_MIN: Duration = Duration::from_millis(250);

/// Knows when a verdict changed last.
#[derive(Clone, Debug, Default)]
pub struct Cadence {
    verdicts: Vec<Verdict>,
    changed: Option<Stamp>,
}

impl Cadence {
    /// How long after the opening of this epoch, which ended now, the next one opens: `interval`, or a quarter of it
    /// (at least 250 ms) while something is unsettled and has changed within the last 30 s.
    pub fn next_in(
        &mut self,
        view: &ClusterView,
        findings: &[Finding],
        table: &AlertTable,
        interval: Duration,
        now: Stamp,
    ) -> Duration {
        let verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
        if verdicts != self.verdicts {
            (self.verdicts, self.changed) = (verdicts, Some(now));
        }
        let recently = self.changed.is_some_and(|changed| now.since(changed) <= FAST_FOR);
        if view.epoch.informative && recently && is_unsettled(view, findings, table) {
            (interval / 4).max(FAST_MIN).min(interval)
        } else {
            interval
        }
    }
}

fn is_unsettled(view: &ClusterView, findings: &[Finding], table: &AlertTable) -> bool {
    let away = |peer: &PeerView| matches!(peer.contact, Contact::Away(_));
    table.active().any(|alert| alert.is_unsettled())
        || findings.iter().any(|finding| finding.verdict == Verdict::Unknown)
        || view.groups.iter().any(|group| {
            group.peers.iter().any(|peer| away(peer) && !is_settled_fault(group, peer.id, table))
        })
}

/// Whether the alert about a peer fires, and nothing about it is open.
fn is_settled_fault(group: &GroupView, peer: PeerId, table: &AlertTable) -> bool {
    let identity = Identity { check: "META_001", group: group.key.clone(), peer: Some(peer) };
    table.get(&identity).is_some_and(|alert| alert.state == State::Firing && !alert.is_unsettled())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::{Epoch, Heard, Plan};
    use crate::rules::Rules;
    use crate::view::{History, merge};

    const INTERVAL: Duration = Duration::from_secs(4);

    fn at(millis: i64) -> Stamp {
        Stamp::new(millis * 1_000_000, millis * 1_000_000)
    }

    /// What one epoch shows, of a leader that lists a peer with contact so long ago.
    fn view(contact: Option<Duration>) -> ClusterView {
        let plan = Plan {
            number: 1,
            expected: Vec::new(),
            learning: true,
            ask_statsz: false,
            patience: Duration::from_secs(5),
            settle: Duration::ZERO,
        };
        let mut epoch = Epoch::open(plan, at(0));
        if let Some(contact) = contact {
            let (leader, peer) = (PeerId::of_server("s1"), PeerId::of_server("s2"));
            let payload = format!(
                r#"{{"server":{{"name":"s1","id":"N1","cluster":"c","ver":"2.14.6"}},"data":{{"meta_cluster":{{"name":"c","leader":"s1","peer":"{leader}","replicas":[{{"name":"s2","current":{},"active":{},"peer":"{peer}"}}],"cluster_size":2}}}}}}"#,
                contact < Duration::from_secs(1),
                contact.as_nanos()
            );
            epoch.hear(at(0), Heard::Jsz { epoch: 1, payload: payload.as_bytes() });
        }
        let ended = epoch.ended(at(60_000)).unwrap();
        merge(&epoch.close(at(60_000), ended), &mut History::default(), &Rules::default())
    }

    #[test]
    fn a_peer_without_contact_is_looked_at_more_often_and_for_half_a_minute_only() {
        let table = AlertTable::default();
        let mut cadence = Cadence::default();
        let mut next = |contact, millis| {
            let finding = Finding {
                check: "META_001",
                group: crate::name::Name::new("c"),
                peer: None,
                verdict: Verdict::Clear,
                grounds: None,
                witnesses: Vec::new(),
                cause: None,
                since: None,
                severity: crate::check::Severity::Critical,
                words: None,
                measure: None,
            };
            cadence.next_in(&view(contact), &[finding], &table, INTERVAL, at(millis))
        };
        assert_eq!(next(Some(Duration::from_millis(900)), 0), INTERVAL);
        assert_eq!(next(Some(Duration::from_secs(12)), 1_000), INTERVAL / 4);
        assert_eq!(next(Some(Duration::from_secs(12)), 30_000), INTERVAL / 4);
        assert_eq!(next(Some(Duration::from_secs(12)), 31_000), INTERVAL, "nothing has changed for long");
        // Who sees nothing asks no more often.
        assert_eq!(next(None, 1_000), INTERVAL);
    }
}
