//! The view for people.

use std::time::Duration;

use super::overview;
use super::style::{Cell, Style, Tone, columns};
use crate::check::{self, Finding, Verdict};
use crate::event;
use crate::event::snapshot::part;
use crate::name::printable;
use crate::pipeline::Step;
use crate::view::{Answer, ClusterView, Contact, GroupView, Opinion, Part, PeerView, Route};

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

/// What the list says of a peer, and how it answered.
fn state(peer: &PeerView) -> String {
    let listed = match &peer.row {
        _ if peer.leader => "leader",
        Some(row) if row.offline => "offline",
        Some(row) if row.current => "current",
        Some(_) => "not current",
        None => "not listed",
    };
    let answer = match peer.answer {
        Answer::None => ", silent",
        Answer::Unreadable => ", unreadable",
        Answer::Disabled => ", JetStream off",
        Answer::Standalone => ", standalone",
        Answer::Member => "",
    };
    let announced = peer.announced.map_or_else(String::new, |(_, kind)| format!(", {kind}"));
    format!("{listed}{answer}{announced}")
}

fn contact(peer: &PeerView) -> String {
    match (&peer.row, peer.contact) {
        (None, _) => "–".to_owned(),
        (Some(row), Contact::Away(_)) if row.active_ns == 0 => "never".to_owned(),
        (Some(row), _) => match u64::try_from(row.active_ns) {
            Ok(0) => "–".to_owned(),
            Ok(active) => ago(Duration::from_nanos(active)),
            Err(_) => "?".to_owned(),
        },
    }
}

/// A duration in at most two units.
fn ago(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{millis}ms"),
        1..=9 => format!("{seconds}.{}s", millis / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// What the reporters say, where they do not all say the same; and who holds a route, where that was asked.
fn opinions(peer: &PeerView) -> String {
    let offline = peer.opinions.values().filter(|said| **said == Opinion::Offline).count();
    let mut told: Vec<String> = Vec::new();
    if offline > 0 && offline < peer.opinions.len() {
        let word = |said: Opinion| if said == Opinion::Offline { "offline" } else { "online" };
        told.extend(peer.opinions.iter().take(8).map(|(name, said)| format!("{name}: {}", word(*said))));
    }
    if peer.answer == Answer::None && !peer.routes.is_empty() {
        let held: Vec<String> = peer
            .routes
            .iter()
            .filter(|(_, route)| **route == Route::Held)
            .take(8)
            .map(|(name, _)| name.to_string())
            .collect();
        told.push(if held.is_empty() {
            "no route".to_owned()
        } else {
            format!("route from {}", held.join(" "))
        });
    }
    told.join(", ")
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
