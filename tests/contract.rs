//! The contract of the alert event: its schema, its size, its subjects and headers, and its numbering.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use metawatch::check::Severity;
use metawatch::event::{AlertEvent, Outgoing};
use serde_json::Value;

use crate::support::{files, golden, path, updating};

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::to_value(AlertEvent::schema()).expect("a schema");
    jsonschema::draft202012::new(&schema).expect("a valid schema")
});

/// What every event of a run must keep to.
#[track_caller]
pub(crate) fn check_events<'a>(events: impl IntoIterator<Item = &'a Outgoing>) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for outgoing in events {
        check_event(outgoing);
        let event = &outgoing.event;
        let before = last.insert(event.incident.clone(), event.seq).unwrap_or(0);
        assert_eq!(event.seq, before + 1, "seq has a hole: {event:?}");
    }
}

/// What every event must keep to.
#[track_caller]
pub(crate) fn check_event(outgoing: &Outgoing) {
    let event = &outgoing.event;
    let json = serde_json::to_string(event).expect("an event");
    let value: Value = serde_json::from_str(&json).expect("JSON");
    let wrong: Vec<String> = SCHEMA.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "against the schema: {wrong:?} in {json}");
    assert!(json.len() < 4_096, "{} bytes: {json}", json.len());
    assert_eq!(event.id, format!("{}.{}", event.incident, event.seq));
    check_subject(&outgoing.subject);
    check_headers(outgoing);
    check_copy(outgoing);
    let back: AlertEvent = serde_json::from_str(&json).expect("an event");
    assert_eq!(&back, event);
}

/// What is critical, and nothing else, comes a second time on a subject of its own, under another id for streams.
#[track_caller]
fn check_copy(outgoing: &Outgoing) {
    let Some(copy) = outgoing.critical_copy() else {
        assert_eq!(outgoing.event.severity, Severity::Warning);
        return;
    };
    assert_eq!((outgoing.event.severity, &copy.event), (Severity::Critical, &outgoing.event));
    check_subject(&copy.subject);
    check_headers(&copy);
    let rest = |subject: &str, kind: &str| subject.split_once(kind).map(|(_, rest)| rest.to_owned());
    assert_eq!(rest(&copy.subject, ".critical."), rest(&outgoing.subject, ".alert."));
    let ids = [outgoing, &copy].map(|sent| &sent.headers[0]);
    assert!(ids[0].0 == "Nats-Msg-Id" && ids[0].0 == ids[1].0 && ids[0].1 != ids[1].1, "{ids:?}");
}

/// Six tokens, none empty, and nothing in them that means something to a server.
#[track_caller]
pub(crate) fn check_subject(subject: &str) {
    let tokens: Vec<&str> = subject.split('.').collect();
    assert_eq!(tokens.len(), 6, "{subject:?}");
    for token in tokens {
        assert!(!token.is_empty(), "{subject:?}");
        let safe = token.chars().all(|character| !character.is_control() && !character.is_whitespace());
        assert!(safe && !token.contains(['*', '>']), "{subject:?}");
    }
}

#[track_caller]
fn check_headers(outgoing: &Outgoing) {
    for (name, value) in &outgoing.headers {
        assert!(!value.is_empty() && !value.chars().any(char::is_control), "{name}: {value:?}");
        assert!(value.len() < 1_024, "{name}: {value:?}");
    }
    let names: Vec<&str> = outgoing.headers.iter().map(|(name, _)| *name).collect();
    for needed in ["Nats-Msg-Id", "ce-id", "ce-type", "ce-source", "ce-specversion", "Metawatch-Summary"] {
        assert!(names.contains(&needed), "{needed} is missing in {names:?}");
    }
}

#[test]
fn the_schema_of_the_event_is_the_committed_one() {
    let schema = serde_json::to_string_pretty(&AlertEvent::schema()).expect("a schema");
    golden(&path("schema/alert-event.v1.json"), &(schema + "\n"));
}

/// Events that were sent by the first version must stay readable, and must not change when they are written again.
#[test]
fn events_of_the_first_version_stay_readable() {
    for file in files("events/v1", ".json") {
        let text = std::fs::read_to_string(&file).expect("an event");
        let event: AlertEvent =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let before: Value = serde_json::from_str(&text).expect("JSON");
        let after = serde_json::to_value(&event).expect("an event");
        assert_eq!(before, after, "{}", file.display());
        assert!(SCHEMA.is_valid(&before), "{}", file.display());
    }
}

/// Of each kind of event that is told, one is kept as it was first sent. A missing one is written by `UPDATE=1`; none is
/// ever rewritten.
#[track_caller]
pub(crate) fn check_kept<'a>(events: impl IntoIterator<Item = &'a Outgoing>) {
    for outgoing in events {
        let event = serde_json::to_value(&outgoing.event).expect("an event");
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_lowercase();
        let file = path(&format!("events/v1/{}-{}-{}.json", word("check"), word("state"), word("reason")));
        if updating() && !file.exists() {
            let text = serde_json::to_string_pretty(&outgoing.event).expect("JSON") + "\n";
            std::fs::write(&file, text).expect("write the event");
        }
        assert!(file.exists(), "run with UPDATE=1: there is no {}", file.display());
    }
}
