//! The first line of a report.

use super::{FindingReport, Status, TOLD_MAX, WARNING, badness, no_list};
use crate::check::{self, Finding, Subject, Verdict};
use crate::event;
use crate::name::shortened;
use crate::view::{ClusterView, GroupView};

/// So many findings of one group, of many groups, are told in the summary,
const HEADS_MAX: usize = 2;
/// ... and so many bytes of them.
const HEAD_BYTES_MAX: usize = 150;

/// What is wrong, then the numbers of the groups. A group whose own check fails has its numbers in that.
pub(super) fn of_system(
    status: Status,
    view: &ClusterView,
    findings: &[Finding],
    judged: &[FindingReport],
    unknown: &[String],
) -> String {
    if view.groups.len() > event::GROUPS_TOLD_MAX {
        return summary_of_many(view, findings, judged, unknown);
    }
    let heads = match status {
        Status::Ok => Vec::new(),
        Status::Unknown => {
            // The numbers say by themselves that no list tells.
            let said = |why: &&String| !view.groups.iter().any(|group| no_list(group) == **why);
            first_of(unknown.iter().filter(said).map(String::as_str), 3)
        }
        Status::Critical | Status::Warning => {
            let bad = |judged: &FindingReport| badness(judged.severity, judged.verdict, judged.held);
            let worst = judged.iter().map(bad).max().filter(|worst| *worst >= WARNING);
            let worst: Vec<&FindingReport> =
                judged.iter().filter(|judged| worst == Some(bad(judged))).collect();
            let peers = worst.iter().filter(|judged| judged.peer.is_some());
            let groups = worst.iter().filter(|judged| judged.peer.is_none());
            let mut heads = first_of(peers.map(|judged| judged.summary.as_str()), TOLD_MAX);
            heads.extend(first_of(groups.map(|judged| judged.summary.as_str()), TOLD_MAX));
            if heads.is_empty() {
                heads = first_of(view.warnings.iter().map(String::as_str), TOLD_MAX);
            }
            heads
        }
    };
    let told = |group: &&GroupView| !check::of_group(findings, &group.key).iter().any(cannot_work);
    let several = view.groups.len() > 1;
    let groups: Vec<String> = view
        .groups
        .iter()
        .filter(told)
        .map(|group| {
            let numbers = group_line(status, group, findings);
            if several { format!("{}: {numbers}", group.key) } else { numbers }
        })
        .collect();
    let (heads, groups) = (heads.join(", "), groups.join("; "));
    let between = if heads.is_empty() || groups.is_empty() { "" } else { "; " };
    format!("{heads}{between}{groups}")
}

/// `1,112 groups, 9,999 of 10,001 servers answered; d0: s1 is offline (crashed), 8 of 9 meta peers online, …`
fn summary_of_many(
    view: &ClusterView,
    findings: &[Finding],
    judged: &[FindingReport],
    unknown: &[String],
) -> String {
    let unwell = check::unwell_groups(view, findings);
    let mut parts = vec![event::sums(view)];
    for group in unwell.iter().take(event::WORST_TOLD_MAX) {
        let of_group = |judged: &&FindingReport| judged.group == group.key.as_str() && judged.is_bad();
        let heads = first_of(judged.iter().filter(of_group).map(|bad| bad.summary.as_str()), HEADS_MAX);
        let mut text = vec![shortened(&heads.join(", "), HEAD_BYTES_MAX)];
        text.retain(|heads| !heads.is_empty());
        if !check::of_group(findings, &group.key).iter().any(cannot_work) {
            text.push(event::peers_online(group, check::impact(group, findings)));
        }
        parts.push(format!("{}: {}", group.key, text.join(", ")));
    }
    match unwell.len() {
        0 if unknown.is_empty() => {}
        0 => parts.extend(first_of(unknown.iter().map(String::as_str), 1)),
        many if many > event::WORST_TOLD_MAX => {
            let more = (many - event::WORST_TOLD_MAX) as u64;
            parts.push(event::more_unwell(more));
        }
        _ => {}
    }
    parts.extend(view.warnings.first().map(|warning| shortened(warning, HEAD_BYTES_MAX)));
    parts.join("; ")
}

/// Whether a fault of the whole group is told with its numbers.
fn cannot_work(finding: &Finding) -> bool {
    finding.peer.is_none() && finding.verdict == Verdict::Fault && finding.about() == Subject::Membership
}

fn group_line(status: Status, group: &GroupView, findings: &[Finding]) -> String {
    let online = event::peers_online(group, check::impact(group, findings));
    match (status, &group.authority) {
        (Status::Ok, Some(leader)) => format!("{online}, led by {}", leader.name),
        (Status::Unknown, Some(leader)) if leader.complete => {
            format!("by the list of {} {online}", leader.name)
        }
        (Status::Ok | Status::Unknown | Status::Warning | Status::Critical, _) => online,
    }
}

/// The first of some texts, and how many more there are.
fn first_of<'a>(texts: impl Iterator<Item = &'a str>, limit: usize) -> Vec<String> {
    let texts: Vec<&str> = texts.collect();
    let mut told: Vec<String> = texts.iter().take(limit).map(|text| (*text).to_owned()).collect();
    if texts.len() > limit {
        told.push(format!("and {} more", texts.len() - limit));
    }
    told
}
