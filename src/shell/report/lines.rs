//! Events as lines: JSON for programs, words for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json;
use super::style::{Style, Tone};
use crate::alert::State;
use crate::check::Severity;
use crate::event::{AlertEvent, Outgoing};
use crate::name::printable;
use crate::shell::failure::Failure;

/// An event as `replay` and `listen` print it.
#[derive(Serialize)]
struct Line<'a> {
    at: &'a str,
    subject: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    event: &'a AlertEvent,
}

/// One line of JSON.
pub fn as_json(outgoing: &Outgoing) -> Result<String, Failure> {
    let line = Line {
        at: &outgoing.event.timestamp,
        subject: &outgoing.subject,
        headers: outgoing.headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        event: &outgoing.event,
    };
    json::document(&line, false)
}

/// `2026-11-22T20:43:42.300Z CRITICAL firing    META_001 default s3  s3 is offline …`
pub fn as_text(event: &AlertEvent, style: Style) -> String {
    let (word, tone) = match (event.state, event.severity) {
        (State::Resolved, _) => ("OK", Tone::Good),
        (State::Firing, Severity::Critical) => ("CRITICAL", Tone::Bad),
        (State::Firing | State::Suspected, _) => ("WARNING", Tone::Warning),
    };
    let name = event.peer.as_ref().map_or("_", |peer| peer.name.as_deref().unwrap_or(&peer.id));
    format!(
        "{} {} {:<9} {} {} {}  {}\n",
        style.paint(Tone::Faint, &printable(&event.timestamp)),
        style.paint(tone, &format!("{word:<8}")),
        event.state.as_str(),
        printable(&event.check),
        printable(&event.group.name),
        printable(name),
        printable(&event.summary),
    )
}
