//! The view for people.

use std::cmp::Reverse;

use super::overview;
use super::style::{Cell, Style, Tone, ago, columns};
use super::words::{contact, opinions, state};
use crate::check::{self, Finding, Severity, Verdict};
use crate::event;
use crate::event::snapshot::part;
use crate::name::printable;
use crate::pipeline::Step;
use crate::view::{ClusterView, GroupView, Part, PeerView};

/// How many servers, opinions and complaints are listed.
const LISTED_MAX: usize = 200;

/// What of a view is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Everything.
    All,
    /// Only what is not well or not known.
    Problems,
}

/// The table; of more than a few groups, one line each.
pub fn report(step: &Step, shown: Shown, style: Style) -> String {
    let Step { view, findings, .. } = step;
    let mut text = String::new();
    if view.groups.len() > event::GROUPS_TOLD_MAX {
        text.push_str(&overview::table(step, style));
        text.push('\n');
    } else {
        for group in &view.groups {
            text.push_str(&group_table(group, findings, shown, style));
            text.push('\n');
        }
    }
    if view.groups.is_empty() {
        text.push_str(if shown == Shown::Problems {
            "no meta group has a problem\n\n"
        } else {
            "no meta group\n\n"
        });
    }
    text.push_str(&outsiders(view, style));
    text.push_str(&trouble(view, style));
    text
}

fn group_table(group: &GroupView, findings: &[Finding], shown: Shown, style: Style) -> String {
    let mut text =
        format!("{}\n  {}\n", style.paint(Tone::Strong, &heading(group)), numbers(group, findings));
    let heads = ["PEER", "ID", "CLUSTER", "STATE", "CONTACT", "LAG", "VERDICT", "OPINIONS"];
    let mut rows: Vec<Vec<Cell>> = vec![heads.map(|head| Cell::toned(Tone::Faint, head)).to_vec()];
    let mut peers: Vec<&PeerView> = group.peers.iter().collect();
    peers.sort_by(|a, b| {
        (!a.leader, a.name.is_none(), &a.name, a.id).cmp(&(!b.leader, b.name.is_none(), &b.name, b.id))
    });
    let all = peers.len();
    peers.retain(|peer| shown == Shown::All || verdict_of(group, peer, findings).is_none_or(is_unwell));
    let left_out = all - peers.len();
    if !peers.is_empty() {
        rows.extend(peers.into_iter().map(|peer| peer_row(group, peer, findings)));
        text.push_str(&columns(&rows, "  ", style));
    }
    if left_out > 0 {
        text.push_str(&format!("  {left_out} peers are well\n"));
    }
    text.push_str(&conditions(group, findings, style));
    text
}

/// How members and the group fare, where that is not well: the worst first.
fn conditions(group: &GroupView, findings: &[Finding], style: Style) -> String {
    let found = check::of_group(findings, &group.key).iter();
    let mut bad: Vec<(&Finding, &String)> = found
        .filter(|finding| finding.verdict == Verdict::Fault)
        .filter_map(|finding| Some((finding, finding.words.as_ref()?)))
        .collect();
    bad.sort_by_key(|(finding, _)| Reverse(finding.severity));
    let mut text = String::new();
    for (finding, words) in bad.iter().take(LISTED_MAX) {
        let tone = match finding.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warning,
        };
        text.push_str(&format!("  {}  {}\n", style.paint(tone, finding.check), printable(words)));
    }
    if bad.len() > LISTED_MAX {
        text.push_str(&format!("  and {} more findings\n", bad.len() - LISTED_MAX));
    }
    text
}

fn heading(group: &GroupView) -> String {
    let domain = if group.domain.is_empty() { String::new() } else { format!(", domain {}", group.domain) };
    let clusters: Vec<String> = group.clusters.iter().map(ToString::to_string).collect();
    let clusters = match clusters.as_slice() {
        [] => String::new(),
        [one] => format!(", cluster {one}"),
        several => format!(", clusters {}", several.join(" ")),
    };
    let leader = match (&group.authority, group.claimants.as_slice()) {
        (Some(authority), _) => format!(", led by {}", authority.name),
        (None, []) => format!(", {}", event::without_a_list(group)),
        (None, claimants) => {
            let names: Vec<String> = claimants.iter().map(ToString::to_string).collect();
            format!(", claimed by {}", names.join(" and "))
        }
    };
    format!("meta group {}{domain}{clusters}{leader}", group.key)
}

fn numbers(group: &GroupView, findings: &[Finding]) -> String {
    let impact = check::impact(group, findings);
    let told = |number: Option<String>| number.unwrap_or_else(|| "?".to_owned());
    let complete = match &group.authority {
        Some(authority) if !authority.complete => ", the leader's list is not complete",
        _ => "",
    };
    let rescue = if group.rescue { ", quorum lowered by an operator (rescue)" } else { "" };
    let size = told(group.size.map(|size| size.to_string()));
    format!(
        "{} peers, {} online, {} must agree, failures left: {}, {} of {} answering{complete}{rescue}",
        &size,
        told(impact.online.map(|online| online.to_string())),
        told(group.quorum.map(|quorum| quorum.to_string())),
        told(impact.failures_left.map(|left| left.to_string())),
        group.answering,
        size,
    )
}

/// What is found of a peer.
fn verdict_of<'a>(group: &GroupView, peer: &PeerView, findings: &'a [Finding]) -> Option<&'a Finding> {
    let of_peer = |finding: &&Finding| finding.check == "META_001" && finding.peer == Some(peer.id);
    check::of_group(findings, &group.key).iter().find(of_peer)
}

fn is_unwell(finding: &Finding) -> bool {
    !matches!(finding.verdict, Verdict::Clear | Verdict::Gone)
}

fn peer_row(group: &GroupView, peer: &PeerView, findings: &[Finding]) -> Vec<Cell> {
    let finding = verdict_of(group, peer, findings);
    let verdict = finding.map_or(Verdict::Unknown, |finding| finding.verdict);
    let cause = finding.and_then(|finding| finding.cause.as_ref()).map(|cause| cause.kind.as_str());
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    let tone = Tone::from(verdict);
    let lag = peer.row.as_ref().map_or_else(|| "–".to_owned(), |row| row.lag.to_string());
    vec![
        Cell::toned(tone, peer.name.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string)),
        Cell::plain(peer.id.to_string()),
        Cell::plain(if peer.cluster.is_empty() { "–".to_owned() } else { peer.cluster.to_string() }),
        Cell::plain(state(peer)),
        Cell::plain(contact(peer)),
        Cell::plain(lag),
        Cell::toned(tone, format!("{verdict}{cause}")),
        Cell::plain(opinions(peer)),
    ]
}

fn outsiders(view: &ClusterView, style: Style) -> String {
    let others: Vec<_> = view.servers.iter().filter(|server| server.part != Part::Member).collect();
    if others.is_empty() {
        return String::new();
    }
    let heads = ["SERVER", "CLUSTER", "DOMAIN", "VERSION", "JETSTREAM"];
    let mut rows: Vec<Vec<Cell>> = vec![heads.map(|head| Cell::toned(Tone::Faint, head)).to_vec()];
    let or_dash = |text: String| Cell::plain(if text.is_empty() { "–".to_owned() } else { text });
    rows.extend(others.iter().take(LISTED_MAX).map(|server| {
        vec![
            Cell::plain(server.name.to_string()),
            or_dash(server.cluster.to_string()),
            or_dash(server.domain.to_string()),
            or_dash(server.version.to_string()),
            Cell::plain(part(server.part)),
        ]
    }));
    let head = style.paint(Tone::Strong, "servers outside of the meta groups");
    let more = others.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    format!("{head}\n{}{more}\n", columns(&rows, "  ", style))
}

/// The epoch in numbers, and everything that did not go as it should.
fn trouble(view: &ClusterView, style: Style) -> String {
    let epoch = &view.epoch;
    let took = epoch.closed.since(epoch.opened);
    let line = format!(
        "{} of {} servers answered in {}, at {}",
        epoch.heard,
        epoch.expected,
        ago(took),
        epoch.closed
    );
    let mut text = format!("{}\n", style.paint(Tone::Faint, &line));
    if !epoch.missing.is_empty() {
        let names: Vec<String> = epoch.missing.iter().map(ToString::to_string).collect();
        text.push_str(&format!("no answer: {}\n", names.join(", ")));
    }
    let counts = [
        ("late", epoch.counts.late),
        ("duplicate", epoch.counts.duplicate),
        ("conflicting", epoch.counts.conflicting),
        ("unexpected", epoch.counts.unexpected),
        ("lost", epoch.counts.dropped),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if !counts.is_empty() {
        text.push_str(&format!("replies: {}\n", counts.join(", ")));
    }
    for (_, detail) in epoch.rejects.iter().take(LISTED_MAX) {
        text.push_str(&format!("unreadable: {}\n", printable(detail)));
    }
    let more = epoch.counts.rejected.saturating_sub(epoch.rejects.len() as u64);
    if more > 0 {
        text.push_str(&format!("unreadable: {more} more\n"));
    }
    for note in &view.notes {
        text.push_str(&format!("note: {}\n", printable(note)));
    }
    for contradiction in &view.inconsistent {
        text.push_str(&format!("inconsistent: {}\n", printable(contradiction)));
    }
    text
}
