//! How text stands on a terminal: colours, widths, and lengths of time where there is little room.

use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use crate::check::Verdict;
use crate::report::Status;

/// How to colour text: with escape codes, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    color: bool,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// A fault.
    Bad,
    /// Not known.
    Unknown,
    /// Of less importance.
    Faint,
    /// A heading.
    Strong,
}

impl From<Status> for Tone {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Good,
            Status::Warning => Self::Warning,
            Status::Critical => Self::Bad,
            Status::Unknown => Self::Unknown,
        }
    }
}

impl From<Verdict> for Tone {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Clear => Self::Good,
            Verdict::Gone => Self::Faint,
            Verdict::Unknown => Self::Unknown,
            Verdict::Suspect => Self::Warning,
            Verdict::Fault => Self::Bad,
        }
    }
}

impl Style {
    /// With colours, or without.
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    /// `text` in the colour of `tone`.
    pub fn paint(self, tone: impl Into<Tone>, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone.into() {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Unknown => "35",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// How many columns `text` takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` in lines of at most so many columns, broken between words; a word that is longer stays whole. Colours count as
/// nothing.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    wrapped_after(text, columns, columns)
}

/// The same with a first line of another length.
fn wrapped_after(text: &str, first: usize, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = first;
    let mut used = 0;
    for word in text.split(' ') {
        let wide = width(&without_codes(word));
        match lines.last_mut() {
            Some(line) if used + 1 + wide <= room => {
                line.push(' ');
                line.push_str(word);
                used += 1 + wide;
            }
            _ => {
                room = if lines.is_empty() { first } else { columns };
                lines.push(word.to_owned());
                used = wide;
            }
        }
    }
    lines
}

/// A line that begins so is a command: it stays whole, to be copied.
const COMMAND_INDENT: &str = "          ";
/// A label is at most so long; two blanks follow it.
const LABEL_MAX: usize = 12;

/// The lines of a report in at most so many columns: what does not fit goes on under its text, not under its label.
pub fn folded(report: &str, columns: usize) -> String {
    let mut text = String::new();
    for line in report.lines() {
        let shown = without_codes(line);
        let words = shown.trim_start();
        let indent = shown.len() - words.len();
        if width(&shown) <= columns || shown.starts_with(COMMAND_INDENT) {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        let label = words.find("  ").filter(|label| *label <= LABEL_MAX).unwrap_or(0);
        let behind = words.len() - words[label..].trim_start().len();
        let below = indent + if label == 0 { 0 } else { behind };
        let room = |indent: usize| columns.saturating_sub(indent);
        let lines = wrapped_after(line.trim_start(), room(indent), room(below));
        for (number, part) in lines.iter().enumerate() {
            let indent = if number == 0 { indent } else { below };
            text.push_str(&format!("{:indent$}{part}\n", ""));
        }
    }
    text
}

/// The text without the escape codes of [`Style::paint`].
fn without_codes(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    shown.push_str(parts.next().unwrap_or_default());
    for part in parts {
        shown.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    shown
}

/// A duration in at most two units.
pub fn ago(duration: Duration) -> String {
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

/// One cell of a table: its text, and its colour.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A cell without a colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: None }
    }

    /// A cell with a colour.
    pub fn toned(tone: impl Into<Tone>, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Some(tone.into()) }
    }
}

/// Rows of cells as aligned lines, each behind `indent`.
pub fn columns(rows: &[Vec<Cell>], indent: &str, style: Style) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(&cell.text)).max().unwrap_or(0)
        })
        .collect();
    let mut lines = String::new();
    for row in rows {
        lines.push_str(indent);
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        for (column, cell) in row.iter().enumerate().take(last + 1) {
            match cell.tone {
                Some(tone) => lines.push_str(&style.paint(tone, &cell.text)),
                None => lines.push_str(&cell.text),
            }
            if column < last {
                lines.push_str(&" ".repeat(widths[column] - width(&cell.text) + 2));
            }
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_colours_take_no_room() {
        let painted = Style::new(true).paint(Tone::Bad, "CRITICAL");
        assert_eq!(
            wrapped(&format!("{painted} s1 is offline"), 11),
            [format!("{painted} s1"), "is offline".to_owned()]
        );
        assert_eq!(wrapped("a longestword b", 5), ["a", "longestword", "b"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn a_report_goes_on_under_its_text_and_keeps_its_commands_whole() {
        let command = "             nats --server nats://127.0.0.1:4222 server list";
        let report = format!("CRITICAL  s1 is offline (crashed)\n\n  next     start s1 again\n{command}\n");
        let folded = folded(&report, 20);
        let lines: Vec<&str> = folded.lines().collect();
        assert_eq!(
            lines,
            [
                "CRITICAL  s1 is",
                "          offline",
                "          (crashed)",
                "",
                "  next     start s1",
                "           again",
                command
            ]
        );
        let painted = format!("{}  {}\n", Style::new(true).paint(Tone::Bad, "CRITICAL"), "s1 is offline");
        assert_eq!(super::folded(&painted, 20).lines().nth(1), Some("          offline"));
        assert_eq!(super::folded(&report, 80), report);
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let rows = [["s1", "x"], ["größe", "x"], ["服务器", "x"], ["e\u{301}", "x"]];
        let rows = rows.map(|row| row.map(Cell::plain).to_vec());
        let text = columns(&rows, "", Style::new(false));
        let starts: Vec<usize> =
            text.lines().map(|line| width(line.strip_suffix('x').unwrap_or_default())).collect();
        assert_eq!(starts, [8, 8, 8, 8], "{text}");
    }
}
