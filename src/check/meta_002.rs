//! META_002: members of one meta group name different leaders, or two claim to lead it.
//!
//! Normal for some seconds around an election, and for one poll when a frozen leader thaws (measured). What lasts
//! longer is a partition, or a group that has split.

use super::{Cause, CauseKind, Check, Context, Finding, Grounds, Severity, Subject, Verdict, Witness};
use crate::rules::{DISAGREEMENT_MIN, STANDING_EPOCHS_MIN};
use crate::view::GroupView;

pub(super) const CHECK: Check = Check {
    code: "META_002",
    title: "NATS Meta Leader Disagreement",
    category: "Health",
    severity: Severity::Critical,
    event: "leader_disagreement",
    usual: true,
    about: Subject::Membership,
    well: "the members of {} agree on the leader",
    run,
};

fn run(check: &Check, group: &GroupView, _: &Context<'_>, findings: &mut Vec<Finding>) {
    let lasting = group
        .disagreement
        .filter(|streak| streak.epochs >= STANDING_EPOCHS_MIN && streak.lasted() > DISAGREEMENT_MIN);
    let agreed = group.authority.is_some() && group.disagreement.is_none();
    let verdict = match (lasting, agreed) {
        (Some(_), _) => Verdict::Fault,
        (None, true) => Verdict::Clear,
        (None, false) => Verdict::Unknown,
    };
    let mut finding = Finding::new(check, group, None, verdict);
    if let Some(streak) = lasting {
        finding.grounds = Some(Grounds::Observed);
        finding.witnesses = vec![Witness::Disagreement];
        finding.since = Some(streak.since);
        let named = group.named_leaders.iter().take(16).map(|(member, leader)| match leader {
            Some(leader) => format!("{member} names {leader}"),
            None => format!("{member} names nobody"),
        });
        finding.cause = Some(Cause { kind: CauseKind::Unknown, because: named.collect() });
    }
    findings.push(finding);
}
