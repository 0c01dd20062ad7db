//! META_007: a meta group has fewer peers than before. Somebody removed them, on purpose or not; the group tolerates
//! fewer failures now, unless they were dead anyway.
//!
//! It goes by complete lists of the leader, and by removals that as many members as must agree could agree on
//! ([`crate::view::Held`] is a list that is shorter without that).

use super::level::{fault, untold};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Verdict};
use crate::name::join_some;
use crate::view::{GroupView, PeerView, Removed, label};

pub(super) const CHECK: Check = Check {
    code: "META_007",
    title: "NATS Meta Cluster Size Decreased",
    category: "Change",
    severity: Severity::Warning,
    event: "size_decreased",
    usual: false,
    about: Subject::Condition,
    well: "{} keeps its size",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let finding = Finding::new(check, group, None, Verdict::Clear);
    if let Some(held) = &group.held {
        let name = |id| group.peer(id).map_or_else(|| label(None, id), PeerView::label);
        let lacks = join_some(held.lacks.iter().map(|id| name(*id)));
        let words = format!("the leader of meta group {} lists {lacks} no more", group.key);
        let because = vec![format!("too few could agree on the removal of {lacks}: it did not take effect")];
        let since = Some(held.streak.since);
        let finding = fault(finding, CauseKind::RemovalNotAgreed, words, because);
        findings.push(Finding { since, ..finding });
        return;
    }
    let Some(shrunk) = &group.shrunk else {
        // A list that is complete, and one before it, tell that nobody has left.
        let told = group.had_list && group.authority.as_ref().is_some_and(|authority| authority.complete);
        findings.extend(if told { Some(finding) } else { untold(check, group, None, context) });
        return;
    };
    let size = group.size.map_or_else(|| "?".to_owned(), |size| size.to_string());
    let words = format!("meta group {} has {size} peers, {} before", group.key, shrunk.from);
    let removed = shrunk.removed.iter().map(|(name, how)| match how {
        Removed::Running => format!("{name} was removed while it ran"),
        Removed::Told => format!("{name} was removed while it ran, and says so itself"),
        Removed::Down => format!("{name} was removed while it was down"),
    });
    let finding = fault(finding, CauseKind::SizeDecreased, words, removed.collect());
    findings.push(Finding { since: Some(shrunk.at), ..finding });
}
