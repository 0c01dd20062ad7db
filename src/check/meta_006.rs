//! META_006: the meta group has lost its quorum. META_001 is blind exactly then: without a leader no list is
//! authoritative, and up to 2.14 there is no list at all.

use super::{Cause, CauseKind, Check, Context, Finding, Grounds, Severity, Verdict, Witness, plain};
use crate::rules::{LEADERLESS_MIN, SHORT_MIN, STANDING_EPOCHS_MIN};
use crate::view::GroupView;

pub(super) const CHECK: Check = Check {
    code: "META_006",
    title: "NATS Meta Quorum Lost",
    category: "Health",
    severity: Severity::Critical,
    event: "quorum_lost",
    run,
};

fn run(check: &Check, group: &GroupView, _: &Context<'_>, findings: &mut Vec<Finding>) {
    // A leader that only we cannot hear or read leads all the same.
    let leaderless =
        group.leaderless.filter(|standing| standing.lasted() >= LEADERLESS_MIN && !group.followed);
    // A leader that was just elected shows peers that it has not heard of yet: a moment of it is not enough.
    let short = group
        .short
        .filter(|standing| standing.epochs >= STANDING_EPOCHS_MIN && standing.lasted() >= SHORT_MIN);
    let enough = group.online.zip(group.quorum).is_some_and(|(online, quorum)| online >= quorum);
    let verdict = match (leaderless.or(short), enough) {
        (Some(_), _) => Verdict::Fault,
        (None, true) => Verdict::Clear,
        (None, false) => Verdict::Unknown,
    };
    let mut finding = Finding::new(check, group, None, verdict);
    let mut because = Vec::new();
    if let Some(standing) = leaderless {
        finding.witnesses.push(Witness::Leaderless);
        because.push(format!("no member has claimed to lead for {}", plain(standing.lasted())));
        if let Some(quorum) = group.quorum {
            let of = group.size.map_or_else(|| "the".to_owned(), |size| size.to_string());
            because.push(format!("{} of {of} members answering, {quorum} must agree", group.answering));
        }
    }
    if let (Some(_), Some(online), Some(quorum)) = (short, group.online, group.quorum) {
        finding.witnesses.push(Witness::Short);
        because.push(format!("the leader's list has {online} online, {quorum} must agree"));
    }
    if verdict == Verdict::Fault {
        finding.grounds = Some(if short.is_some() { Grounds::Reported } else { Grounds::Observed });
        let since = [leaderless, short].into_iter().flatten().map(|standing| standing.since).min();
        finding.since = since;
        finding.cause = Some(Cause { kind: CauseKind::Unknown, because });
    }
    findings.push(finding);
}
