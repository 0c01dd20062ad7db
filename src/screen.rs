//! What `metawatch view --watch` draws, and what its keys do.
//!
//! [`Viewer`] holds what is known and how somebody wants to look at it; [`Viewer::draw`] makes lines of it that fit the
//! terminal, whatever its size. It is pure: `shell::watch` owns the terminal and the clock. **Invariant:** no line is
//! wider and no frame is higher than the terminal, and nothing in one moves the cursor or changes a colour.

mod keys;
mod layout;
mod line;
mod table;

use std::sync::Arc;
use std::time::Duration;

use crate::name::printable;
use crate::report::Status;
use crate::report::style::{Tone, ago};
use crate::stamp::parse_wall_ns;
use crate::status::SystemStatus;

pub use keys::{Controls, Key, Reaction, Sort};
use line::whole_parts;
pub use line::{Line, Span};

/// The least that something can be told on.
const COLUMNS_MIN: usize = 20;
/// The head, one line of the body, and the foot.
const ROWS_MIN: usize = 4;
/// After four intervals without an epoch, and not before this time, what is shown is the past.
const STALE_MIN: Duration = Duration::from_secs(10);

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// What is known, and how somebody looks at it.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    /// The last epoch.
    latest: Option<Arc<SystemStatus>>,
    /// What stood on the screen when it was paused.
    frozen: Option<Arc<SystemStatus>>,
    /// Why nothing new is learned.
    trouble: Option<String>,
    controls: Controls,
}

impl Viewer {
    /// One that knows nothing yet.
    pub fn new(only_problems: bool) -> Self {
        Self { controls: Controls { only_problems, ..Controls::default() }, ..Self::default() }
    }

    /// Takes what an epoch led to.
    pub fn take(&mut self, status: Arc<SystemStatus>) {
        self.latest = Some(status);
    }

    /// Takes why nothing is learned of the system, or that there is no such reason any more.
    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Takes a key.
    pub fn press(&mut self, key: Key, size: Size) -> Reaction {
        let before = self.controls.paused;
        let room = body_rows(size);
        let extent = self.body(size).len();
        let reaction = self.controls.press(key, room, extent);
        if self.controls.paused != before {
            self.frozen = self.latest.clone().filter(|_| self.controls.paused);
        }
        reaction
    }

    /// How somebody looks at it.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    fn shown(&self) -> Option<&SystemStatus> {
        self.frozen.as_deref().or(self.latest.as_deref())
    }

    /// The lines of the screen, at most as many as there is room for. `now_ns` is the wall clock.
    pub fn draw(&self, size: Size, now_ns: i64) -> Vec<Line> {
        if size.columns < COLUMNS_MIN || size.rows < ROWS_MIN {
            return self.tiny(size);
        }
        let mut lines = self.head(size, now_ns);
        let body = self.body_at(size, now_ns);
        let room = body_rows(size);
        let from = self.controls.scroll.min(body.len().saturating_sub(room));
        let (shown, total) = (body.len().min(from + room), body.len());
        lines.extend(body.into_iter().skip(from).take(room));
        lines.resize(size.rows - 1, Line::default());
        lines.push(layout::foot(&self.controls, (from, shown, total), size.columns));
        lines
    }

    /// Where there is no room for more than a word.
    fn tiny(&self, size: Size) -> Vec<Line> {
        if size.rows == 0 {
            return Vec::new();
        }
        let line = match self.shown() {
            Some(status) => Line::toned(status.status, status.status.as_str()),
            None => Line::plain("…"),
        };
        vec![line.cut(size.columns)]
    }

    fn head(&self, size: Size, now_ns: i64) -> Vec<Line> {
        let Some(status) = self.shown() else {
            let text = self.trouble.as_deref().unwrap_or("waiting for the first epoch");
            return vec![Line::toned(Tone::Unknown, text).cut(size.columns), Line::default()];
        };
        let age = age(&status.timestamp, now_ns);
        let stale = age > Duration::from_millis(status.interval_ms).saturating_mul(4).max(STALE_MIN);
        let mut first = Line::default();
        let (word, tone) = if stale && !self.controls.paused {
            ("STALE", Tone::Unknown)
        } else {
            (status.status.as_str(), Tone::from(status.status))
        };
        first.push(Some(tone), word);
        first.push(None, "  ");
        let room = size.columns.saturating_sub(first.width());
        first.push(Some(Tone::Strong), whole_parts(&printable(&status.summary), room));
        let mut second = Line::default();
        if self.controls.paused {
            second.push(Some(Tone::Warning), "PAUSED  ");
        } else if let Some(trouble) = &self.trouble {
            second.push(Some(Tone::Unknown), &format!("{trouble}  "));
        }
        second.push(Some(Tone::Faint), &layout::subtitle(status, age));
        vec![first.cut(size.columns), second.cut(size.columns)]
    }

    fn body(&self, size: Size) -> Vec<Line> {
        self.body_at(size, 0)
    }

    fn body_at(&self, size: Size, now_ns: i64) -> Vec<Line> {
        if self.controls.help {
            return layout::help(size.columns);
        }
        let Some(status) = self.shown() else { return Vec::new() };
        layout::body(status, &self.controls, size, now_ns)
    }

    /// The same for a terminal that is none: a line for each change, as [`plain_line`] makes it.
    pub fn latest(&self) -> Option<&SystemStatus> {
        self.latest.as_deref()
    }
}

/// The rows between the head (two lines and a blank one) and the foot.
fn body_rows(size: Size) -> usize {
    size.rows.saturating_sub(3).max(1)
}

fn age(timestamp: &str, now_ns: i64) -> Duration {
    let then = parse_wall_ns(timestamp).unwrap_or(now_ns);
    Duration::from_nanos(u64::try_from(now_ns.saturating_sub(then)).unwrap_or(0))
}

/// A moment as a length of time up to now.
fn since(timestamp: &str, now_ns: i64) -> String {
    let age = age(timestamp, now_ns);
    if age < Duration::from_secs(1) { "now".to_owned() } else { ago(age) }
}

/// One line for an epoch, where there is no terminal to draw on: `2026-11-22T20:43:42.300Z CRITICAL  …`.
pub fn plain_line(status: &SystemStatus) -> Line {
    let mut line = Line::default();
    line.push(Some(Tone::Faint), &status.timestamp);
    line.push(None, " ");
    line.push(Some(Tone::from(status.status)), &format!("{:<8}", status.status.as_str()));
    line.push(None, " ");
    line.push(None, &status.summary);
    let open = status.incidents.iter().map(|incident| incident.summary.as_str());
    let open: Vec<&str> = open.take(3).collect();
    if !open.is_empty() && status.status != Status::Ok {
        line.push(None, &format!("; {}", open.join("; ")));
    }
    line
}
