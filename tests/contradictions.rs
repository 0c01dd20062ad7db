//! Sentences that cannot both be right in one answer, looked for in everything that is told: over all
//! scenarios, recordings and cases, in events and in the reports of `check` and `view`.

mod answer;
mod everywhere;
mod rules;
mod samples;

use std::collections::{BTreeMap, BTreeSet};

use metawatch::event::AlertEvent;
use metawatch::stamp::parse_wall_ns;
use serde_json::Value;

use answer::Answer;

/// What really was, by the replies themselves, in the epoch that an answer is about. An answer can be looked
/// at without it; then less is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// The enabled members that answered: domain and name.
    answered: BTreeSet<(String, String)>,
    /// The cluster of each server that was heard so far.
    clusters: BTreeMap<(String, String), String>,
    /// Times in which nobody was heard for longer than 3 intervals, until now: from, to.
    blind: Vec<(i64, i64)>,
}

/// What contradicts itself, or the truth, in one event; empty where nothing does.
pub(crate) fn contradictions(event: &AlertEvent, truth: Option<&Truth>) -> Vec<String> {
    rules::all(&Answer::of_event(event), truth)
}

/// The same for a report of `check --format json`: each of its findings, and all of them together.
pub(crate) fn contradictions_of_report(report: &Value, truth: Option<&Truth>) -> Vec<String> {
    let answers = Answer::of_report(report);
    let mut found: Vec<String> = answers.iter().flat_map(|answer| rules::all(answer, truth)).collect();
    found.extend(rules::together(report, &answers));
    found
}

/// The truth of each epoch of a recording, with the moment it opened.
fn truths(recording: &str) -> Vec<(i64, Truth)> {
    let mut truth = Truth::default();
    let mut last_heard: Option<i64> = None;
    let mut truths = Vec::new();
    let epochs: Vec<Value> = recording.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let interval = interval_ns(&epochs);
    for epoch in &epochs {
        let Some(opened) = epoch["opened"].as_str().and_then(parse_wall_ns) else { continue };
        let replies: Vec<&Value> = epoch["replies"].as_array().into_iter().flatten().collect();
        truth.answered.clear();
        for reply in &replies {
            let text = |key: &str| reply["server"][key].as_str().unwrap_or_default().to_owned();
            let key = (text("domain"), text("name"));
            // A server outside of the groups may have the name of a member.
            if reply["data"]["meta_cluster"].is_object() {
                truth.answered.insert(key.clone());
                truth.clusters.insert(key, text("cluster"));
            } else {
                truth.clusters.entry(key).or_insert_with(|| text("cluster"));
            }
        }
        if !replies.is_empty() {
            if let Some(last) = last_heard.filter(|last| opened - last > 3 * interval) {
                truth.blind.push((last, opened));
            }
            last_heard = Some(opened);
        }
        truths.push((opened, truth.clone()));
    }
    truths
}

/// The interval that a recording tells, or the median of what it shows.
fn interval_ns(epochs: &[Value]) -> i64 {
    if let Some(millis) = epochs.iter().find_map(|epoch| epoch["interval_ms"].as_i64()) {
        return millis * 1_000_000;
    }
    let opened: Vec<i64> =
        epochs.iter().filter_map(|epoch| parse_wall_ns(epoch["opened"].as_str()?)).collect();
    let mut spacings: Vec<i64> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
    spacings.sort_unstable();
    spacings.get(spacings.len() / 2).copied().unwrap_or(0).max(1_000_000_000)
}

/// The truth of the epoch in which an event was told.
fn truth_at<'a>(truths: &'a [(i64, Truth)], event: &AlertEvent) -> Option<&'a Truth> {
    let at = parse_wall_ns(&event.timestamp)?;
    truths.iter().rfind(|(opened, _)| *opened <= at).map(|(_, truth)| truth)
}
