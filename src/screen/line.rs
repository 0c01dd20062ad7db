//! A line of a screen: pieces of text, each with its meaning.

use crate::name::printable;
use crate::report::style::{Tone, width, wrapped};

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What is written; it holds nothing but what shows itself.
    pub text: String,
    /// What its colour means; `None` for none.
    pub tone: Option<Tone>,
}

/// A line without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The pieces, from left to right.
    pub spans: Vec<Span>,
}

impl Line {
    /// A line without a colour.
    pub fn plain(text: &str) -> Self {
        let mut line = Self::default();
        line.push(None, text);
        line
    }

    /// A line of one colour.
    pub fn toned(tone: impl Into<Tone>, text: &str) -> Self {
        let mut line = Self::default();
        line.push(Some(tone.into()), text);
        line
    }

    /// Adds a piece. What would do something to a terminal becomes visible.
    pub fn push(&mut self, tone: Option<Tone>, text: &str) {
        if !text.is_empty() {
            self.spans.push(Span { text: printable(text).into_owned(), tone });
        }
    }

    /// How many columns it takes.
    pub fn width(&self) -> usize {
        self.spans.iter().map(|span| width(&span.text)).sum()
    }

    /// Its text alone.
    pub fn text(&self) -> String {
        self.spans.iter().map(|span| span.text.as_str()).collect()
    }

    /// The same line in at most so many columns; where something is cut, it ends with `…`.
    #[must_use]
    pub fn cut(mut self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut room = columns;
        let mut kept = Vec::new();
        for span in self.spans.drain(..) {
            let takes = width(&span.text);
            if takes < room {
                room -= takes;
                kept.push(span);
                continue;
            }
            kept.push(Span { text: cut(&span.text, room), tone: span.tone });
            break;
        }
        Self { spans: kept }
    }
}

/// As much of `text` as fits into so many columns with a `…` behind it.
fn cut(text: &str, columns: usize) -> String {
    if columns == 0 {
        return String::new();
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        // A mark may change the width of what it stands behind.
        if width(&kept) + 1 > columns {
            kept.pop();
            break;
        }
    }
    kept.push('…');
    kept
}

/// `text` in lines of at most so many columns, broken between words where that is possible. Nothing is left out: a command
/// is there to be copied.
pub(super) fn filled(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in wrapped(text, columns) {
        let mut piece = String::new();
        for character in line.chars() {
            piece.push(character);
            if width(&piece) > columns && piece.len() > character.len_utf8() {
                piece.pop();
                lines.push(std::mem::take(&mut piece));
                piece.push(character);
            }
        }
        lines.push(piece);
    }
    lines
}

/// Of a text that does not fit, the parts of the sentence that do; the text where those are less than half a line.
pub(super) fn whole_parts(text: &str, columns: usize) -> &str {
    if width(text) <= columns {
        return text;
    }
    let ends = [", ", "; ", ": "].into_iter().flat_map(|end| text.match_indices(end));
    let parts = ends.map(|(at, _)| &text[..at]).filter(|part| width(part) <= columns);
    parts.max_by_key(|part| part.len()).filter(|part| width(part) >= columns / 2).unwrap_or(text)
}
