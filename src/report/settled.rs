//! When one look at the cluster is enough: as soon as no further epoch can change a verdict, and within a limit.

use std::time::Duration;

use crate::check::{Finding, Verdict};
use crate::pipeline::Step;
use crate::rules::{CLAIM_SETTLES_MAX, LEADERLESS_MIN};
use crate::stamp::Stamp;
use crate::view::{Answer, Streak};

/// What is not settled after this long, and after so many epochs, stays so: longer than silence takes to count.
pub const SETTLED: Duration = Duration::from_millis(2_500);
/// At least so many epochs are looked at.
pub const EPOCHS_MIN: u32 = 3;
/// A group without a leader is given as long as an election may last, and a little more.
pub const ELECTION: Duration = LEADERLESS_MIN.saturating_add(Duration::from_secs(1));

/// Whether another epoch may change the verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// No.
    No,
    /// Yes, soon.
    Yes,
    /// Yes, once a group has a leader, which takes as long as an election may last.
    ForALeader,
    /// Yes, once a suspicion is certain.
    ForCertainty,
}

/// Knows when it is enough.
#[derive(Debug, Default)]
pub struct Settled {
    began: Option<Stamp>,
    /// When every group has had a leader again, after one had none: what a leader's list takes time for begins
    /// then.
    led_since: Option<Stamp>,
}

impl Settled {
    /// Takes what an epoch led to; `epochs` is how many there were.
    pub fn wants_more(&mut self, step: &Step, opened: Stamp, closed: Stamp, epochs: u32) -> More {
        let verdicts = || step.findings.iter().map(|finding| finding.verdict);
        let settled = |verdict| matches!(verdict, Verdict::Clear | Verdict::Gone | Verdict::Fault);
        // No finding is no evidence: nobody told of a meta group.
        if verdicts().next().is_some() && verdicts().all(settled) && step.view.warnings.is_empty() {
            return More::No;
        }
        let looked = closed.since(*self.began.get_or_insert(opened));
        let leaderless = step.view.groups.iter().any(|group| group.leaderless.is_some());
        if leaderless {
            self.led_since = None;
            // A leader that was just elected is given the time to show its list.
            let settles = |claim: Streak| claim.lasted() < CLAIM_SETTLES_MAX;
            let claimed = step.view.groups.iter().any(|group| group.claimed.is_some_and(settles));
            let limit = if claimed { ELECTION + CLAIM_SETTLES_MAX } else { ELECTION };
            return if looked < limit { More::ForALeader } else { More::No };
        }
        let led = closed.since(*self.led_since.get_or_insert(opened));
        if led < SETTLED || epochs < EPOCHS_MIN {
            More::Yes
        } else if led < ELECTION && step.findings.iter().any(|finding| settles(step, finding)) {
            More::ForCertainty
        } else {
            More::No
        }
    }
}

/// Whether a suspicion becomes certain once the leader has been without contact to the peer for long enough.
fn settles(step: &Step, finding: &Finding) -> bool {
    let group = step.view.group(&finding.group);
    let peer = finding.peer.and_then(|id| group?.peer(id));
    finding.verdict == Verdict::Suspect
        && peer.is_some_and(|peer| {
            let takes_no_part = matches!(peer.answer, Answer::None | Answer::Disabled);
            takes_no_part && peer.row.is_some() && !peer.is_vouched_for()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::LifeRules;
    use crate::epoch::{Epoch, Heard};
    use crate::event::Monitor;
    use crate::name::PeerId;
    use crate::pipeline::{Pipeline, Settings};
    use crate::rules::Rules;

    fn at(millis: i64) -> Stamp {
        Stamp::new(millis * 1_000_000, millis * 1_000_000)
    }

    /// When a look at one server, which names this leader, is over: the time and the number of epochs.
    fn ends(leader: Option<&str>) -> (i64, u32) {
        let monitor = Monitor { name: "m".into(), version: "0".into(), instance: "i".into() };
        let settings =
            Settings { rules: Rules::default(), life: LifeRules::default(), monitor, prefix: "m".into() };
        let (mut pipeline, mut settled) = (Pipeline::new(settings), Settled::default());
        let id = leader.map_or(PeerId::of_server(""), PeerId::of_server);
        let leader = leader.map_or(String::new(), |leader| format!(r#""leader":"{leader}","#));
        let reply = format!(
            r#"{{"server":{{"name":"s1","id":"N1","cluster":"c","ver":"2.14.6"}},"data":{{"meta_cluster":{{"name":"c",{leader}"peer":"{id}","cluster_size":1}}}}}}"#
        );
        for epoch in 1..100 {
            let (opened, number) = (at(i64::from(epoch) * 250), u64::from(epoch));
            let mut gathering = Epoch::open(pipeline.plan(number, opened, Duration::from_secs(5)), opened);
            gathering.hear(opened, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
            let ended = gathering.ended(opened.plus(Duration::from_secs(60))).unwrap();
            let step = pipeline.step(&gathering.close(opened, ended));
            if settled.wants_more(&step, opened, opened, epoch) == More::No {
                return (i64::from(epoch - 1) * 250, epoch);
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn what_is_well_is_known_at_once_and_a_leader_is_waited_for_as_long_as_an_election_may_last() {
        assert_eq!(ends(Some("s1")), (0, 1));
        let (took, epochs) = ends(None);
        let limit = i64::try_from(ELECTION.as_millis()).unwrap();
        assert!((limit..limit + 250).contains(&took) && epochs > EPOCHS_MIN, "{took} ms, {epochs} epochs");
    }
}
