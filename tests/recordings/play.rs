//! Plays a recording, as it is or changed.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use metawatch::epoch::{Epoch, Heard};
use metawatch::event::Outgoing;
use metawatch::pipeline::{Pipeline, Step};
use metawatch::recording::{Item, RecordedEpoch, items};
use metawatch::stamp::{Stamp, parse_wall_ns};
use metawatch::view::Part;

use crate::support::pipeline;

/// One epoch of a recording, to be changed before it is played.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) statsz: Option<Vec<Vec<u8>>>,
    /// Arrival, subject, payload.
    pub(crate) events: Vec<(i64, String, Vec<u8>)>,
    /// Things that arrive and belong to no request, or to an earlier one.
    pub(crate) late: Vec<Vec<u8>>,
    pub(crate) opened_ns: i64,
    pub(crate) elapsed: Duration,
}

/// What one epoch led to.
pub(crate) struct Played {
    /// `2026-11-22T…`
    pub(crate) day: String,
    pub(crate) opened_ns: i64,
    pub(crate) closed_ns: i64,
    pub(crate) asked_statsz: bool,
    /// The enabled members that answered.
    pub(crate) answered: BTreeSet<String>,
    /// Whether every group has a leader whose list counts.
    pub(crate) led: bool,
    pub(crate) events: Vec<Outgoing>,
}

/// The text of a compressed recording.
pub(crate) fn read(file: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let packed = std::fs::File::open(file).expect("a recording");
    GzDecoder::new(packed).read_to_end(&mut text).expect("a whole recording");
    text
}

/// Every epoch of a recording; each line must be readable.
pub(crate) fn lines(text: &[u8]) -> Vec<Line> {
    let epoch = |item| match item {
        Ok(Item::Epoch(epoch)) => line(&epoch),
        other => panic!("not an epoch: {other:?}"),
    };
    items(text, 1).map(epoch).collect()
}

fn line(epoch: &RecordedEpoch<'_>) -> Line {
    let bytes = |raw: &&serde_json::value::RawValue| raw.get().as_bytes().to_vec();
    let event = |event: &metawatch::recording::RecordedEvent<'_>| {
        let at = parse_wall_ns(&event.at).expect("a time");
        (at, event.subject.to_string(), event.payload.get().as_bytes().to_vec())
    };
    Line {
        replies: epoch.replies.iter().map(bytes).collect(),
        statsz: epoch.statsz.as_ref().map(|replies| replies.iter().map(bytes).collect()),
        events: epoch.events.iter().map(event).collect(),
        late: Vec::new(),
        opened_ns: epoch.opened_ns().expect("a time"),
        elapsed: Duration::from_millis(epoch.elapsed_ms),
    }
}

/// Plays a recording at an interval of 1 s, after `change` has seen its epochs.
pub(crate) fn play(text: &[u8], change: impl FnOnce(&mut Vec<Line>)) -> Vec<Played> {
    let mut lines = lines(text);
    change(&mut lines);
    play_lines(&lines, Duration::from_secs(1))
}

/// Plays epochs that are nominally `interval` apart.
pub(crate) fn play_lines(lines: &[Line], interval: Duration) -> Vec<Played> {
    let mut pipeline = pipeline(interval);
    let played = lines.iter().zip(1..).map(|(line, number)| {
        let step = line.play(&mut pipeline, number);
        let members = step.view.servers.iter().filter(|server| server.part == Part::Member);
        Played {
            day: step.view.epoch.opened.to_string(),
            opened_ns: line.opened_ns,
            closed_ns: step.view.epoch.closed.wall_ns(),
            asked_statsz: line.statsz.is_some(),
            answered: members.map(|server| server.name.as_str().to_owned()).collect(),
            led: !step.view.groups.is_empty()
                && step.view.groups.iter().all(|group| group.authority.is_some()),
            events: step.events,
        }
    });
    played.collect()
}

impl Line {
    /// Plays the epoch.
    pub(crate) fn play(&self, pipeline: &mut Pipeline, number: u64) -> Step {
        let opened = Stamp::new(self.opened_ns, self.opened_ns);
        let closed = opened.plus(self.elapsed);
        let mut plan = pipeline.plan(number, opened, Duration::from_secs(5));
        plan.ask_statsz = self.statsz.is_some();
        let mut epoch = Epoch::open(plan, opened);
        for (at, subject, payload) in &self.events {
            epoch.hear(closed, Heard::Event { at: Stamp::new(*at, *at), subject, payload });
        }
        for payload in &self.replies {
            epoch.hear(closed, Heard::Jsz { epoch: number, payload });
        }
        for payload in self.statsz.iter().flatten() {
            epoch.hear(closed, Heard::Statsz { epoch: number, payload });
        }
        for payload in &self.late {
            epoch.hear(closed, Heard::Jsz { epoch: number - 1, payload });
            epoch.hear(closed, Heard::Unexpected);
        }
        // Whenever it is asked, the epoch is over by now.
        let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
        pipeline.step(&epoch.close(closed, ended))
    }
}

/// A moment of the first epoch.
pub(crate) fn day(lines: &[Line]) -> String {
    let first = lines.first().map_or(0, |line| line.opened_ns);
    Stamp::new(first, first).to_string()
}
