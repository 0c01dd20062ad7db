//! Many groups, one line each, the worst first.

use super::style::{Cell, Style, Tone, columns};
use crate::check::{self, Finding, Verdict};
use crate::event;
use crate::name::{join_some, thousands};
use crate::pipeline::Step;
use crate::view::GroupView;

/// The table of the groups, and how to see one of them.
pub(super) fn table(step: &Step, style: Style) -> String {
    let (view, findings) = (&step.view, &step.findings);
    let unwell = check::unwell_groups(view, findings);
    let well = view.groups.len() - unwell.len();
    let sums = event::sums(view);
    let head = format!("{sums}; {} of the groups are well", thousands(well as u64));
    let heads = ["GROUP", "LEADER", "PEERS", "ONLINE", "LEFT", "ANSWER", "VERDICT"];
    let mut rows: Vec<Vec<Cell>> = vec![heads.map(|head| Cell::toned(Tone::Faint, head)).to_vec()];
    rows.extend(unwell.iter().map(|group| row(group, findings)));
    let is_well = |group: &&GroupView| {
        let found = check::of_group(findings, &group.key);
        !found.is_empty() && found.iter().all(|one| matches!(one.verdict, Verdict::Clear | Verdict::Gone))
    };
    rows.extend(view.groups.iter().filter(is_well).map(|group| row(group, findings)));
    format!(
        "{}\n{}one group in full: --group NAME; only what is not well: --problems\n",
        style.paint(Tone::Strong, &head),
        columns(&rows, "  ", style)
    )
}

fn row(group: &GroupView, findings: &[Finding]) -> Vec<Cell> {
    let impact = check::impact(group, findings);
    let or_not = |number: Option<String>| Cell::plain(number.unwrap_or_else(|| "?".to_owned()));
    let found = check::of_group(findings, &group.key);
    let is = |verdict: Verdict| found.iter().any(|finding| finding.verdict == verdict);
    let worst = [Verdict::Fault, Verdict::Suspect, Verdict::Unknown].into_iter().find(|verdict| is(*verdict));
    let verdict = worst.unwrap_or(Verdict::Clear);
    let named = found.iter().filter(|finding| Some(finding.verdict) == worst && finding.peer.is_some());
    let names = join_some(named.filter_map(|finding| group.peer(finding.peer?)).map(|peer| peer.label()));
    let names = if names.is_empty() { names } else { format!(": {names}") };
    let leader = group.authority.as_ref().map_or_else(|| "–".to_owned(), |leader| leader.name.to_string());
    vec![
        Cell::plain(group.key.to_string()),
        Cell::plain(leader),
        or_not(group.size.map(|size| size.to_string())),
        or_not(impact.online.map(|online| online.to_string())),
        or_not(impact.failures_left.map(|left| left.to_string())),
        Cell::plain(group.answering.to_string()),
        Cell::toned(Tone::from(verdict), format!("{verdict}{names}")),
    ]
}
