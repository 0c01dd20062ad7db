//! The peers of a group as a table that fits.

use super::line::{Line, Span};
use crate::name::printable;
use crate::report::style::{Tone, width};
use crate::status::PeerStatus;

/// Between two columns.
const GAP: usize = 2;
/// A name is cut to so many columns.
const CELL_MAX: usize = 28;
/// What is said of a peer takes the rest of the line, where so much is left.
const SAYS_MIN: usize = 12;

/// A column: its head, and how soon it goes where there is no room; 0 never goes.
struct Column {
    head: &'static str,
    goes: u8,
    cell: fn(&PeerStatus) -> String,
}

const COLUMNS: [Column; 6] = [
    Column { head: "PEER", goes: 0, cell: PeerStatus::label },
    Column {
        head: "CLUSTER", goes: 3, cell: |peer| peer.cluster.clone().unwrap_or_else(|| "–".to_owned())
    },
    Column { head: "STATE", goes: 1, cell: |peer| peer.state.clone() },
    Column { head: "CONTACT", goes: 2, cell: |peer| peer.contact.clone() },
    Column {
        head: "LAG",
        goes: 4,
        cell: |peer| peer.lag.map_or_else(|| "–".to_owned(), |lag| lag.to_string()),
    },
    Column { head: "VERDICT", goes: 0, cell: verdict },
];

fn verdict(peer: &PeerStatus) -> String {
    let cause = peer.cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    format!("{}{cause}", peer.verdict)
}

/// The table.
pub(super) fn peers(peers: &[&PeerStatus], columns: usize) -> Vec<Line> {
    if peers.is_empty() {
        return Vec::new();
    }
    let cell = |column: &Column, peer: &PeerStatus| {
        let mut text = Line::plain(&printable(&(column.cell)(peer))).cut(CELL_MAX).text();
        if text.is_empty() {
            text.push('–');
        }
        text
    };
    let widest = |column: &Column| {
        let cells = peers.iter().map(|peer| width(&cell(column, peer)));
        cells.max().unwrap_or(0).max(column.head.len())
    };
    let mut shown: Vec<(&Column, usize)> = COLUMNS.iter().map(|column| (column, widest(column))).collect();
    let total = |shown: &[(&Column, usize)]| shown.iter().map(|(_, wide)| wide + GAP).sum::<usize>();
    while total(&shown) > columns {
        let first = shown.iter().enumerate().filter(|(_, (column, _))| column.goes > 0);
        let Some((index, _)) = first.max_by_key(|(_, (column, _))| column.goes) else { break };
        shown.remove(index);
    }
    let left = columns.saturating_sub(total(&shown) + GAP);
    let says = left >= SAYS_MIN && peers.iter().any(|peer| !says(peer).is_empty());
    let mut heads = Line::default();
    for (column, wide) in &shown {
        heads.push(Some(Tone::Faint), &format!("  {:<wide$}", column.head));
    }
    if says {
        heads.push(Some(Tone::Faint), "  WHO SAYS SO");
    }
    let mut lines = vec![trimmed(heads)];
    for peer in peers {
        let tone = Tone::from(peer.verdict);
        let mut line = Line::default();
        for (column, wide) in &shown {
            let text = cell(column, peer);
            let coloured = matches!(column.head, "PEER" | "VERDICT");
            line.push(None, "  ");
            line.push(coloured.then_some(tone), &text);
            line.push(None, &" ".repeat(wide - width(&text)));
        }
        let said = self::says(peer);
        if says {
            line.push(None, &format!("  {said}"));
        }
        lines.push(trimmed(line.cut(columns)));
        if !says && !said.is_empty() {
            let mut below = Line::plain("    ");
            below.push(Some(Tone::Faint), &said);
            lines.push(below);
        }
    }
    lines
}

/// The witnesses against a peer, and what the others say where they differ.
fn says(peer: &PeerStatus) -> String {
    let mut told = Vec::new();
    if !peer.witnesses.is_empty() {
        told.push(peer.witnesses.join(", "));
    }
    if !peer.says.is_empty() {
        told.push(peer.says.clone());
    }
    told.join("; ")
}

/// The line without blanks at its end.
fn trimmed(mut line: Line) -> Line {
    while let Some(Span { text, .. }) = line.spans.last_mut() {
        let kept = text.trim_end().len();
        text.truncate(kept);
        if kept > 0 {
            break;
        }
        line.spans.pop();
    }
    line
}
