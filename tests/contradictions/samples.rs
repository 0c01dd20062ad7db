//! The rules themselves, on a real event that is made to contradict itself.

use std::collections::BTreeMap;

use metawatch::event::AlertEvent;
use serde_json::{Value, json};

use super::{Truth, contradictions, contradictions_of_report};
use crate::support::path;

/// A crash of s1, which s2 and s3 testify.
fn crash() -> Value {
    let file = path("events/v1/meta_001-firing-observed.json");
    serde_json::from_slice(&std::fs::read(file).expect("an event")).expect("JSON")
}

fn server(name: &str) -> (String, String) {
    (String::new(), name.to_owned())
}

fn truth() -> Truth {
    let clusters = ["s1", "s2", "s3"].map(|name| (server(name), "c1".to_owned()));
    Truth { answered: ["s2", "s3"].map(server).into(), clusters: clusters.into(), blind: Vec::new() }
}

/// What is found in the crash after these values were put into it.
fn found(changes: &[(&str, Value)], truth: &Truth) -> Vec<String> {
    let mut event = crash();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        event.pointer_mut(parent).expect("a parent")[key] = value.clone();
    }
    let event: AlertEvent = serde_json::from_value(event).expect("an event");
    let found = contradictions(&event, Some(truth));
    found.iter().map(|found| found.split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_event_that_is_right_contradicts_nothing() {
    assert_eq!(found(&[], &truth()), Vec::<String>::new());
    for file in crate::support::files("events/v1", ".json") {
        let event: AlertEvent =
            serde_json::from_slice(&std::fs::read(&file).expect("an event")).expect("an event");
        // The first version said `lost its quorum` beside enough that answer.
        let found = contradictions(&event, None);
        let others: Vec<&String> =
            found.iter().filter(|found| !found.starts_with("the quorum is lost")).collect();
        assert!(others.is_empty(), "{}: {others:#?}", file.display());
    }
}

#[test]
fn each_contradiction_is_found() {
    let cases = std::fs::read_to_string(path("contradictions/samples.ndjson")).expect("the samples");
    for line in cases.lines() {
        let (kind, changes): (String, BTreeMap<String, Value>) =
            serde_json::from_str(line).expect("a sample");
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        assert_eq!(found(&changes, &truth()), [kind], "{changes:?}");
    }
}

#[test]
fn what_contradicts_the_truth_is_found() {
    let answers = Truth { answered: ["s1", "s2", "s3"].map(server).into(), ..truth() };
    assert_eq!(found(&[], &answers), ["it is to be started, and answers as a member"]);
    let restart = [("/advice", json!([{"do": "restart s1, so that it asks to join again"}]))];
    assert_eq!(found(&restart, &answers), Vec::<String>::new());
    let silent = [restart[0].clone(), ("/summary", json!("s1 may be offline (it does not answer)"))];
    assert_eq!(found(&silent, &answers), ["it does not answer, and does"]);
    let removes = "if it never comes back, remove its peer: it is shut out for 5 minutes";
    let removes =
        [("/advice", json!([{"do": removes, "command": "nats server cluster peer-remove k2My6qdB"}]))];
    assert_eq!(found(&removes, &answers), ["peer-remove is advised for one that answers as a member"]);
    let at = |time: &str| metawatch::stamp::parse_wall_ns(time).expect("a time");
    let blind = |from, to| Truth { blind: vec![(at(from), at(to))], ..truth() };
    let before = blind("2026-11-23T04:58:08.810Z", "2026-11-23T04:58:09.304Z");
    assert_eq!(found(&[], &before), ["nothing was announced while nobody could hear it"]);
    let long_before = blind("2026-11-23T04:40:00Z", "2026-11-23T04:50:00Z");
    assert_eq!(found(&[], &long_before), Vec::<String>::new());
}

#[test]
fn a_report_that_contradicts_itself_is_found() {
    let group = json!({"name": "default", "domain": "", "clusters": ["c1"], "leader": "s2", "size": 3,
        "quorum": 2, "online": 2, "failures_left": 0, "offline": 1, "suspected": 0, "silent": 1});
    let finding = json!({"check": "META_001", "group": "default", "peer": {"id": "k2My6qdB", "name": "s1"},
        "verdict": "fault", "cause": {"kind": "crashed", "because": []},
        "advice": [{"do": "start s1 again"}], "summary": "s1 is offline (crashed)"});
    let report = json!({"status": "CRITICAL", "groups": [group], "findings": [finding]});
    assert_eq!(contradictions_of_report(&report, Some(&truth())), Vec::<String>::new());
    let with = |pointer: &str, value: Value| {
        let mut report = report.clone();
        *report.pointer_mut(pointer).expect("a place") = value;
        contradictions_of_report(&report, Some(&truth())).len()
    };
    assert_eq!(with("/status", json!("OK")), 1);
    assert_eq!(with("/groups/0/offline", json!(0)), 1);
    assert_eq!(with("/groups/0/online", json!(3)), 2, "all are online, and failures_left does not add up");
    let removed = "if it never comes back, remove its peer: it is shut out for 5 minutes";
    assert_eq!(with("/findings/0/advice", json!([{"do": removed}, {"do": "do not remove peers now"}])), 2);
}
