//! Single replies-of-a-moment of real clusters: what one epoch alone shows, in words a person can check.

use std::fmt::Write as _;
use std::time::Duration;

use metawatch::check::Verdict;
use metawatch::event::Snapshot;
use metawatch::pipeline::Step;
use metawatch::recording::{Item, RecordingClock, items};
use metawatch::stamp::Stamp;
use metawatch::view::Answer;
use serde::Deserialize;
use serde_json::Value;

use crate::support::{files, golden, pipeline};

/// What whoever made the capture knew.
#[derive(Deserialize)]
struct Capture {
    expected: String,
    expected_state: Truth,
    t_since_fault_s: Option<f64>,
}

#[derive(Deserialize)]
struct Truth {
    #[serde(default)]
    down: Vec<String>,
    #[serde(default)]
    draining: Vec<String>,
}

fn look(text: &[u8]) -> Step {
    let mut pipeline = pipeline(Duration::from_secs(1));
    let Some(Ok(Item::Epoch(epoch))) = items(text, 1).next() else { panic!("not a capture") };
    let start = Stamp::new(0, 1_795_380_222_300_000_000);
    let gathered = epoch
        .play(&mut RecordingClock::default(), start, |now| pipeline.plan(1, now, Duration::from_secs(5)));
    pipeline.step(&gathered)
}

fn word(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => "?".to_owned(),
        None => value.to_string(),
    }
}

fn peer_in_words(peer: &Value) -> String {
    let name =
        if peer["name"].is_null() { format!("peer {}", word(&peer["id"])) } else { word(&peer["name"]) };
    let row = match (&peer["offline"], &peer["current"]) {
        (Value::Null, _) if peer["leader"] == true => "leads".to_owned(),
        (Value::Null, _) => "not in the leader's list".to_owned(),
        (offline, current) => {
            let active = peer["active_ns"].as_i64().unwrap_or_default() as f64 / 1e9;
            let offline = if offline == true { "offline, " } else { "" };
            let current = if current == true { "current" } else { "not current" };
            format!("{offline}{current}, active {active:.2} s, lag {}", word(&peer["lag"]))
        }
    };
    let answer = match (&peer["answered"], &peer["disabled"]) {
        (_, Value::Bool(true)) => "answers: JetStream is off",
        (Value::Bool(true), _) => "answers",
        _ => "does not answer",
    };
    let opinions = peer["opinions"].as_object().expect("opinions");
    let opinions: Vec<String> =
        opinions.iter().map(|(who, said)| format!("{who} says {}", word(said))).collect();
    let opinions = if opinions.is_empty() { "nobody tells".to_owned() } else { opinions.join(", ") };
    format!("  {} {name}: {row}; {answer}; {opinions} → {}", word(&peer["id"]), word(&peer["verdict"]))
}

fn in_words(step: &Step) -> String {
    let monitor = &step.heartbeat.monitor;
    let view = serde_json::to_value(Snapshot::new(&step.view, &step.findings, monitor)).expect("a view");
    let mut text = String::new();
    for group in view["groups"].as_array().expect("groups") {
        let complete = match (&group["leader"], &group["complete"]) {
            (Value::Null, _) => String::new(),
            (_, Value::Bool(true)) => ", complete list".to_owned(),
            _ => ", list not complete".to_owned(),
        };
        writeln!(
            text,
            "group {} (clusters {}): leader {}{complete}; size {}, quorum {}, answering {}, online {}, failures left {}",
            word(&group["group"]),
            group["clusters"].as_array().expect("clusters").iter().map(word).collect::<Vec<_>>().join(" "),
            word(&group["leader"]),
            word(&group["size"]),
            word(&group["quorum"]),
            word(&group["answering"]),
            word(&group["online"]),
            word(&group["failures_left"]),
        )
        .expect("a string");
        for peer in group["peers"].as_array().expect("peers") {
            writeln!(text, "{}", peer_in_words(peer)).expect("a string");
        }
    }
    for server in view["servers"].as_array().expect("servers") {
        let domain = word(&server["domain"]);
        let domain = if domain.is_empty() { String::new() } else { format!(", domain {domain}") };
        let (name, version) = (word(&server["name"]), word(&server["version"]));
        let cluster = word(&server["cluster"]);
        writeln!(text, "server {name} {version} in {cluster:?}{domain}: {}", word(&server["jetstream"]))
            .expect("a string");
    }
    for line in view["inconsistent"].as_array().expect("contradictions") {
        writeln!(text, "contradiction: {}", word(line)).expect("a string");
    }
    writeln!(text, "on the whole: {}", step.heartbeat.summary).expect("a string");
    text
}

/// One epoch never clears who is down, and never calls offline who answers, but for the moment after a restart in
/// which the servers themselves still do.
#[track_caller]
fn check_against_the_truth(file: &str, capture: &Capture, step: &Step) {
    for finding in step.findings.iter().filter(|finding| finding.check == "META_001") {
        let group = step.view.groups.iter().find(|group| group.key == finding.group).expect("its group");
        let peer = finding.peer.and_then(|id| group.peer(id)).expect("its peer");
        let label = peer.label();
        let truth = &capture.expected_state;
        let down = truth.down.contains(&label) || truth.draining.contains(&label);
        assert!(!(down && finding.verdict == Verdict::Clear), "{file}: {label} is down and clear");
        let accused = finding.verdict == Verdict::Fault && peer.answer != Answer::Disabled;
        let unknown_to_us = peer.name.is_none();
        let just_back = capture.expected.contains("start") && capture.t_since_fault_s.unwrap_or(0.0) < 1.0;
        assert!(!accused || down || unknown_to_us || just_back, "{file}: {label} is up and accused");
    }
}

#[test]
fn every_captured_moment_is_seen_as_it_was() {
    for file in files("wire", ".json") {
        let text = std::fs::read(&file).expect("a capture");
        let name = file.display().to_string();
        let capture: Capture =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let step = look(&text);
        let since = capture.t_since_fault_s.map_or(String::new(), |since| format!(" ({since} s after)"));
        let text = format!("truth: {}{since}\n{}", capture.expected, in_words(&step));
        golden(&file.with_extension("view.txt"), &text);
        check_against_the_truth(&name, &capture, &step);
    }
}
