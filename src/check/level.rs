//! What the checks share that compare a number with a limit.

use super::{Cause, CauseKind, Check, Context, Finding, Grounds, Measure, Severity, Unit, Verdict};
use crate::name::PeerId;
use crate::rules::{RELEASE_PERCENT, STANDING_EPOCHS_MIN};
use crate::view::{GroupView, PeerView};

/// The limits of a number: it is a fault from `limit` on.
#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) value: u64,
    pub(super) limit: u64,
    pub(super) critical: Option<u64>,
    pub(super) unit: Unit,
}

/// A fault with the words for it, on the servers' own report.
pub(super) fn fault(finding: Finding, kind: CauseKind, words: String, because: Vec<String>) -> Finding {
    Finding {
        verdict: Verdict::Fault,
        grounds: Some(Grounds::Reported),
        cause: Some(Cause { kind, because }),
        words: Some(words),
        ..finding
    }
}

/// Compares a number with its limits. An open alert about it ends well below them only. `explain` gives the words of a
/// fault and the reasons.
pub(super) fn compare(
    finding: Finding,
    level: Level,
    context: &Context<'_>,
    kind: CauseKind,
    explain: impl FnOnce() -> (String, Vec<String>),
) -> Finding {
    let Level { value, limit, critical, unit } = level;
    let finding = Finding { measure: Some(Measure { value, limit, critical, unit }), ..finding };
    let near = value < limit && value.saturating_mul(100) >= limit.saturating_mul(RELEASE_PERCENT);
    if value < limit && !(near && context.is_open(&finding)) {
        return Finding { verdict: Verdict::Clear, ..finding };
    }
    let severity = match critical {
        Some(critical) if value >= critical => Severity::Critical,
        Some(_) => Severity::Warning,
        None => finding.severity,
    };
    let (words, because) = explain();
    fault(Finding { severity, ..finding }, kind, words, because)
}

/// What is found where nothing tells: an open alert stays as it is, and nothing else is said. One about a peer that was
/// removed ends.
pub(super) fn untold(
    check: &Check,
    group: &GroupView,
    peer: Option<PeerId>,
    context: &Context<'_>,
) -> Option<Finding> {
    let gone = |peer: &PeerView| peer.absent_epochs >= STANDING_EPOCHS_MIN;
    let verdict =
        if peer.and_then(|id| group.peer(id)).is_some_and(gone) { Verdict::Gone } else { Verdict::Unknown };
    let finding = Finding::new(check, group, peer, verdict);
    context.is_open(&finding).then_some(finding)
}

/// A finding about each member: what `judge` makes of a finding about one, or what is found where it tells nothing.
pub(super) fn each_member(
    check: &Check,
    group: &GroupView,
    context: &Context<'_>,
    findings: &mut Vec<Finding>,
    judge: impl Fn(Finding, &PeerView) -> Option<Finding>,
) {
    for peer in group.peers.iter().filter(|peer| !peer.outsider) {
        let found = judge(Finding::new(check, group, Some(peer.id), Verdict::Unknown), peer);
        findings.extend(found.or_else(|| untold(check, group, Some(peer.id), context)));
    }
}
