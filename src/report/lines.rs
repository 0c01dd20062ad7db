//! Events as lines: JSON for programs, words for people.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::json;
use super::style::{Style, Tone};
use crate::alert::{Reason, State};
use crate::check::Severity;
use crate::event::heartbeat::{ActiveIncident, Status};
use crate::event::incidents::Beside;
use crate::event::{AlertEvent, Heartbeat, Outgoing};
use crate::name::printable;
use crate::screen::{Line as ScreenLine, Span};
use crate::stamp::Stamp;

/// An event as `replay` and `listen` print it.
#[derive(Serialize)]
struct Line<'a, E> {
    at: &'a str,
    subject: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    event: E,
}

/// One line of JSON.
pub fn as_json(outgoing: &Outgoing) -> Result<String, serde_json::Error> {
    let line = Line {
        at: &outgoing.event.timestamp,
        subject: &outgoing.subject,
        headers: outgoing.headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        event: &outgoing.event,
    };
    json::document(&line, false)
}

/// One line of JSON for an event that was heard. It is passed on as it came, with fields that are not known here.
pub fn heard_as_json(subject: &str, raw: &[u8], event: &AlertEvent) -> Result<String, serde_json::Error> {
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

/// Who watches, and how things stand, by a heartbeat.
pub fn watched_by(heartbeat: &Heartbeat) -> String {
    let others = match heartbeat.watchers {
        0 | 1 => String::new(),
        more => format!(" (of {more} watchers)"),
    };
    let Heartbeat { timestamp, monitor, summary, .. } = heartbeat;
    format!("last heartbeat at {timestamp} from {}{others}: {summary}", monitor.name)
}

/// `2026-11-22T20:43:42.300Z CRITICAL firing    META_001 default s3  s3 is offline …`
pub fn as_text(event: &AlertEvent, style: Style) -> String {
    // It ends because nothing shows it any more: that is no recovery.
    let recovered = event.reason != Reason::Forgotten;
    incident_as_text(&event.timestamp, &ActiveIncident::told_by(event), &event.summary, recovered, style)
}

/// `2026-11-22T20:43:42.300Z CRITICAL firing    META_001 default s3  firing since …, says the heartbeat; …`
pub fn missed_as_text(at: &str, incident: &ActiveIncident, style: Style) -> String {
    let words = match incident.state {
        State::Resolved => "all is well, says the heartbeat; the event itself was not heard".to_owned(),
        State::Suspected | State::Firing => {
            format!("since {}, says the heartbeat; the event itself was not heard", incident.since)
        }
    };
    incident_as_text(at, incident, &words, true, style)
}

/// One line of JSON for an incident that only a heartbeat tells of.
pub fn missed_as_json(
    at: &str,
    subject: &str,
    incident: &ActiveIncident,
) -> Result<String, serde_json::Error> {
    json::document(&serde_json::json!({ "at": at, "subject": subject, "incident": incident }), false)
}

/// A line of a screen, with its end.
pub fn of_screen(line: &ScreenLine, style: Style) -> String {
    let paint =
        |span: &Span| span.tone.map_or_else(|| span.text.clone(), |tone| style.paint(tone, &span.text));
    let mut text: String = line.spans.iter().map(paint).collect();
    text.push('\n');
    text
}

/// ` (system …)`, where one is known.
pub fn of_system(system: Option<&str>) -> String {
    system.map_or_else(String::new, |system| format!(" (system {})", printable(system)))
}

/// Why nothing is heard.
pub fn quiet(system: Option<&str>, since: Option<Stamp>, lasted: Duration) -> String {
    let (of, lasted) = (of_system(system), lasted.as_secs());
    match since {
        Some(since) => format!(
            "no heartbeat for {lasted} s, the last one came at {since}: nobody watches, or it cannot be heard{of}"
        ),
        None => format!(
            "no heartbeat for {lasted} s, none was ever heard: nobody watches, it cannot be heard, or its --interval is \
             longer"
        ),
    }
}

/// Who else speaks.
pub fn beside(beside: &Beside) -> String {
    match beside {
        Beside::System { system, other } => {
            let name = |system: &Option<String>| {
                let named = system.as_ref().map(|system| format!("the system {}", printable(system)));
                named.unwrap_or_else(|| "a system whose watchers do not tell which".to_owned())
            };
            format!(
                "heartbeats of {} come beside those of {}: each is believed about itself alone; \
                 give each system a --prefix of its own to tell their alerts apart",
                name(system),
                name(other)
            )
        }
        Beside::Watcher { names: [one, other] } => format!(
            "the watchers {} and {} speak for the same system, and neither knows of the other: each is believed about \
             its own alerts alone; let them hear each other, or give each system a --system name of its own",
            printable(one),
            printable(other)
        ),
    }
}

fn incident_as_text(
    at: &str,
    incident: &ActiveIncident,
    words: &str,
    recovered: bool,
    style: Style,
) -> String {
    let (word, tone) = match (incident.state, incident.severity) {
        (State::Resolved, _) if !recovered => ("UNKNOWN", Tone::Unknown),
        (State::Resolved, _) => ("OK", Tone::Good),
        (State::Firing, Severity::Critical) => ("CRITICAL", Tone::Bad),
        (State::Firing | State::Suspected, _) => ("WARNING", Tone::Warning),
    };
    format!(
        "{} {} {:<9} {} {} {}  {}\n",
        style.paint(Tone::Faint, &printable(at)),
        style.paint(tone, &format!("{word:<8}")),
        incident.state.as_str(),
        printable(&incident.check),
        printable(&incident.group),
        printable(&incident.name),
        printable(words),
    )
}
