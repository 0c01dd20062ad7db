//! META_008: more JetStream API requests wait at the leader of a meta group than it works off.
//!
//! Source: `meta_cluster.pending` of the leader's own reply: the length of its queue of routed API requests
//! (nats-server 2.10 to 2.15, `server/monitor.go`, `Jsz`). A burst fills it for a moment: it must be long in two epochs
//! running. Beyond 10,000 the server throws the whole queue away.

use super::level::{Level, compare, untold};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Unit, Verdict};
use crate::name::thousands;
use crate::rules::STANDING_EPOCHS_MIN;
use crate::view::GroupView;

pub(super) const CHECK: Check = Check {
    code: "META_008",
    title: "NATS Meta Pending High",
    category: "Performance",
    severity: Severity::Warning,
    event: "pending_high",
    usual: false,
    about: Subject::Condition,
    well: "{} works off its API requests",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let (Some(pending), Some(leader)) = (group.pending, &group.authority) else {
        findings.extend(untold(check, group, None, context));
        return;
    };
    let finding = Finding::new(check, group, None, Verdict::Unknown);
    let limit = context.rules.limits.pending.saturating_add(1);
    let level = Level { value: pending, limit, critical: None, unit: Unit::Requests };
    let mut finding = compare(finding, level, context, CauseKind::PendingHigh, || {
        let pending = thousands(pending);
        let words =
            format!("{pending} API requests wait at {}, the leader of meta group {}", leader.name, group.key);
        (words, vec![format!("{pending} requests wait, {} may", thousands(context.rules.limits.pending))])
    });
    let standing = group.pending_over.is_some_and(|over| over.epochs >= STANDING_EPOCHS_MIN);
    if finding.verdict == Verdict::Fault && !standing && !context.is_open(&finding) {
        // One epoch of it is a burst, as far as is known.
        (finding.verdict, finding.cause, finding.words, finding.grounds) =
            (Verdict::Unknown, None, None, None);
    }
    if finding.verdict == Verdict::Fault {
        finding.since = group.pending_over.map(|over| over.since);
    }
    findings.push(finding);
}
