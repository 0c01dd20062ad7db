//! The search itself.

use std::collections::BTreeMap;

use metawatch::event::AlertEvent;
use serde_json::{Value, json};

use super::{Truth, contradictions, contradictions_of_report, truth_at, truths};
use crate::cases::{CASES, Case, Looked};
use crate::support::files;

/// One input, and the events that it leads to.
struct Input {
    name: String,
    recording: String,
    events: Vec<AlertEvent>,
}

impl Input {
    fn of_case(case: &Case) -> Self {
        let events = case.told.iter().map(|told| told.event.clone()).collect();
        Self { name: case.name.clone(), recording: case.input.clone(), events }
    }
}

/// So many examples of one contradiction are shown.
const SHOWN_MAX: usize = 3;
/// The reports of longer inputs are not looked at: they take long, and show nothing that shorter ones do not.
const REPORTED_BYTES_MAX: usize = 300_000;

fn scenarios() -> Vec<Input> {
    let played = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).expect("a script");
        let played = crate::scenarios::played(file, &text);
        let events = played.events.into_iter().chain(played.besides).map(|outgoing| outgoing.event);
        Input { name: name(file), recording: played.recording, events: events.collect() }
    };
    files("scenarios", ".scenario").iter().map(played).collect()
}

fn recordings() -> Vec<Input> {
    let played = |file: &std::path::PathBuf| {
        let recording = String::from_utf8(crate::recordings::read(file)).expect("UTF-8");
        let played = crate::recordings::play(recording.as_bytes(), |_| {});
        let events = played.into_iter().flat_map(|epoch| epoch.events).map(|outgoing| outgoing.event);
        Input { name: name(file), events: events.collect(), recording }
    };
    files("recordings", ".ndjson.gz").iter().map(played).collect()
}

fn name(file: &std::path::Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What contradicts itself in what `check` and `view` say of an input.
fn of_reports(looked: &Looked, truth: Option<&Truth>) -> Vec<String> {
    let Looked { json: report, code, check, view_json, .. } = looked;
    let mut found = contradictions_of_report(report, truth);
    let status = report["status"].as_str().unwrap_or_default();
    if !check.starts_with(status) || code.map(|code| json!(code)) != Some(report["code"].clone()) {
        found.push(format!("check: {status} as JSON, exit code {code:?}, as text {check}"));
    }
    found.extend(of_view(report, view_json));
    found
}

/// `view` and `check` look at the same: they say the same of each peer and count the same in each group.
fn of_view(report: &Value, view: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for group in list(&view["groups"]) {
        let counted = list(&report["groups"]).into_iter().find(|counted| counted["name"] == group["group"]);
        for key in ["size", "quorum", "online", "failures_left"] {
            let counted = counted.as_ref().and_then(|counted| counted.get(key)).unwrap_or(&Value::Null);
            if *counted != group[key] {
                found.push(format!("check counts {key} {counted}, view {}", group[key]));
            }
        }
        for peer in list(&group["peers"]) {
            let same = |finding: &&Value| {
                finding["group"] == group["group"]
                    && finding["check"] == "META_001"
                    && finding["peer"]["id"] == peer["id"]
            };
            let findings = list(&report["findings"]);
            let verdict = findings.iter().find(same).map_or(&Value::Null, |finding| &finding["verdict"]);
            if !verdict.is_null() && *verdict != peer["verdict"] {
                found
                    .push(format!("check says {verdict} of {}, view says {}", peer["name"], peer["verdict"]));
            }
        }
    }
    found
}

/// Looks for contradictions in the events of each input and in the reports, where there are some.
#[track_caller]
fn check<'a>(inputs: impl Iterator<Item = (&'a Input, Option<&'a Looked>)>) {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    for (input, looked) in inputs {
        let truths = truths(&input.recording);
        let mut all: Vec<String> =
            input.events.iter().flat_map(|event| contradictions(event, truth_at(&truths, event))).collect();
        let last = truths.last().map(|(_, truth)| truth);
        all.extend(looked.into_iter().flat_map(|looked| of_reports(looked, last)));
        for what in all {
            let kind = what.split(':').next().unwrap_or_default().to_owned();
            found.entry(kind).or_default().push(format!("{}: {what}", input.name));
        }
        count += 1;
    }
    let shown: Vec<String> = found
        .iter()
        .map(|(kind, all)| {
            let some: Vec<&str> = all.iter().take(SHOWN_MAX).map(String::as_str).collect();
            format!("{} × {kind}\n    {}", all.len(), some.join("\n    "))
        })
        .collect();
    assert!(found.is_empty(), "in {count} inputs:\n{}", shown.join("\n"));
}

/// Inputs, with what the reports say of those that are not too long.
#[track_caller]
fn check_with_reports(inputs: &[Input]) {
    let short = |input: &Input| input.recording.len() <= REPORTED_BYTES_MAX;
    let looked: Vec<Option<Looked>> =
        inputs.iter().map(|input| short(input).then(|| Looked::at(&input.recording))).collect();
    check(inputs.iter().zip(looked.iter().map(Option::as_ref)));
}

#[test]
fn no_scenario_leads_to_words_that_contradict_each_other() {
    check_with_reports(&scenarios());
}

#[test]
fn no_recording_leads_to_words_that_contradict_each_other() {
    check_with_reports(&recordings());
}

#[test]
fn no_case_leads_to_words_that_contradict_each_other() {
    let inputs: Vec<Input> = CASES.iter().map(Input::of_case).collect();
    let looked = |case: &'static Case| (case.input.len() <= REPORTED_BYTES_MAX).then(|| case.looked());
    check(inputs.iter().zip(CASES.iter().map(looked)));
}
