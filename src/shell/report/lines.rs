//! Events as lines: JSON for programs, words for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json;
use super::style::{Style, Tone};
use crate::alert::State;
use crate::check::Severity;
use crate::event::heartbeat::Status;
use crate::event::{AlertEvent, Heartbeat, Outgoing};
use crate::name::printable;
use crate::shell::failure::Failure;

/// An event as `replay` and `listen` print it.
#[derive(Serialize)]
struct Line<'a, E> {
    at: &'a str,
    subject: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    event: E,
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

/// One line of JSON for an event that was heard. It is passed on as it came, with fields that are not known here.
pub fn heard_as_json(subject: &str, raw: &[u8], event: &AlertEvent) -> Result<String, Failure> {
    let headers = event.headers(subject);
    let raw: Option<serde_json::Value> = serde_json::from_slice(raw).ok();
    let line = Line {
        at: &event.timestamp,
        subject,
        headers: headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        event: raw,
    };
    json::document(&line, false)
}

/// `2026-11-22T20:43:42.300Z OK       heartbeat ok: 3 of 3 servers answered; …`
pub fn heartbeat_as_text(heartbeat: &Heartbeat, style: Style) -> String {
    let (word, tone) = match heartbeat.status {
        Status::Ok => ("OK", Tone::Good),
        Status::Alerting => ("ALERTING", Tone::Warning),
        Status::Unknown => ("UNKNOWN", Tone::Unknown),
    };
    format!(
        "{} {} heartbeat {}: {}\n",
        style.paint(Tone::Faint, &printable(&heartbeat.timestamp)),
        style.paint(tone, &format!("{word:<8}")),
        printable(&heartbeat.monitor.name),
        printable(&heartbeat.summary),
    )
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
