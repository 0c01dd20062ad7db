//! Colours, and the widths of text on a terminal.

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
    fn columns_line_up_whatever_the_script() {
        let rows = [["s1", "x"], ["größe", "x"], ["服务器", "x"], ["e\u{301}", "x"]];
        let rows = rows.map(|row| row.map(Cell::plain).to_vec());
        let text = columns(&rows, "", Style::new(false));
        let starts: Vec<usize> =
            text.lines().map(|line| width(line.strip_suffix('x').unwrap_or_default())).collect();
        assert_eq!(starts, [8, 8, 8, 8], "{text}");
    }
}
