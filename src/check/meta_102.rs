//! META_102: a member answers and has been behind its leader for minutes. It is not offline, and cannot take over either.
//! No published catalogue has this check; the code is our own.

use super::level::{each_member, fault};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Verdict};
use crate::name::thousands;
use crate::stamp::human_duration;
use crate::view::{GroupView, PeerView};

pub(super) const CHECK: Check = Check {
    code: "META_102",
    title: "NATS Meta Peer Behind",
    category: "Performance",
    severity: Severity::Warning,
    event: "peer_behind",
    usual: false,
    about: Subject::Condition,
    well: "{} is current",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    each_member(check, group, context, findings, |finding, peer: &PeerView| {
        peer.load.as_ref()?;
        let Some((streak, first, last)) = peer.behind else {
            let current = peer.leader || peer.row.as_ref()?.current;
            return current.then_some(Finding { verdict: Verdict::Clear, ..finding });
        };
        if streak.lasted() < context.rules.limits.behind {
            // For seconds that is usual.
            return (!context.is_open(&finding)).then_some(Finding { verdict: Verdict::Clear, ..finding });
        }
        let (name, lasted) = (peer.label(), human_duration(streak.lasted()));
        let words =
            format!("{name} has not been current for {lasted}, {} operations behind", thousands(last));
        let grows = if last > first { "it falls further behind" } else { "it does not fall further behind" };
        let because = vec![format!(
            "{} operations behind at first, {} now: {grows}",
            thousands(first),
            thousands(last)
        )];
        let finding = fault(finding, CauseKind::Behind, words, because);
        Some(Finding { since: Some(streak.since), ..finding })
    });
}
