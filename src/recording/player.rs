//! Plays recorded epochs into a pipeline, and tells what of a recording cannot be read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RecordedEpoch, RecordingClock};
use crate::pipeline::{Pipeline, Settings, Step};
use crate::stamp::{Stamp, parse_wall_ns};

/// How many lines that cannot be read for one reason are told; the others are only counted.
const BAD_LINES_TOLD: u32 = 5;
/// So many reasons are told apart.
const REASONS_MAX: usize = 8;
/// How many epochs tell the time between two of them.
pub const SAMPLED_EPOCHS: usize = 200;
/// How long a server would have been given to answer. It only matters to who is taken for missing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells of lines that cannot be read, without a flood.
#[derive(Debug, Default)]
pub struct BadLines {
    /// How many there were.
    pub count: u64,
    told: u64,
    /// How often each reason came; numbers in it do not count.
    reasons: BTreeMap<String, u32>,
}

impl BadLines {
    /// Tells one, unless some of its kind were told.
    pub fn tell(&mut self, message: &str, complain: &mut dyn FnMut(&str)) {
        self.count += 1;
        let reason: String = message.chars().filter(|character| !character.is_ascii_digit()).collect();
        if self.reasons.len() >= REASONS_MAX && !self.reasons.contains_key(&reason) {
            return;
        }
        let times = self.reasons.entry(reason).or_default();
        if *times < BAD_LINES_TOLD {
            *times += 1;
            self.told += 1;
            complain(message);
        }
    }

    /// Says at the end how many were not told.
    pub fn end(&self, name: &str, complain: &mut dyn FnMut(&str)) {
        if let Some(more @ 1..) = self.count.checked_sub(self.told) {
            complain(&format!("{name}, {more} more lines that cannot be read"));
        }
    }
}

/// Replies without an epoch around them: all together are one.
#[derive(Debug, Default)]
pub struct BareReplies<'a> {
    /// Those to `JSZ`.
    pub replies: Vec<&'a RawValue>,
    /// Those to `STATSZ`.
    pub statsz: Vec<&'a RawValue>,
}

impl<'a> BareReplies<'a> {
    /// The epoch; `None` when there is no reply.
    pub fn into_epoch(self) -> Option<Box<RecordedEpoch<'a>>> {
        if self.replies.is_empty() && self.statsz.is_empty() {
            return None;
        }
        Some(Box::new(RecordedEpoch {
            v: 1,
            epoch: 0,
            opened: Cow::Borrowed(""),
            elapsed_ms: 0,
            interval_ms: None,
            ended: None,
            connected_to: None,
            replies: self.replies,
            statsz: (!self.statsz.is_empty()).then_some(self.statsz),
            own_statsz: Vec::new(),
            events: Vec::new(),
        }))
    }
}

/// The time between two epochs: what the recording says, else the median of what its first epochs show, which is
/// at least a second.
pub fn interval(epochs: &[Box<RecordedEpoch<'_>>]) -> Option<Duration> {
    if let Some(millis) = epochs.iter().find_map(|epoch| epoch.interval_ms) {
        return Some(Duration::from_millis(millis));
    }
    let opened: Vec<i64> = epochs.iter().take(SAMPLED_EPOCHS).filter_map(|epoch| epoch.opened_ns()).collect();
    median_spacing(&opened)
}

/// The median distance between neighbours, at least a second; `None` for fewer than two.
pub fn median_spacing(opened: &[i64]) -> Option<Duration> {
    let neighbours = opened.iter().zip(opened.iter().skip(1));
    let mut spacings: Vec<u64> =
        neighbours.filter_map(|(one, next)| u64::try_from(next.saturating_sub(*one)).ok()).collect();
    spacings.sort_unstable();
    let median = spacings.get(spacings.len() / 2)?;
    Some(Duration::from_nanos(*median).max(Duration::from_secs(1)))
}

/// Plays epochs into a pipeline, on their own clock.
#[derive(Debug)]
pub struct Player {
    pipeline: Pipeline,
    clock: RecordingClock,
    epochs: u64,
    next_number: u64,
    /// When replies are taken to have come that tell no time, in nanoseconds since 1970.
    seen_ns: i64,
}

impl Player {
    /// A player that knows nothing yet. `interval` goes before the one of the settings; replies that tell no time
    /// are taken to have come at `seen_ns`, in nanoseconds since 1970.
    pub fn new(mut settings: Settings, interval: Option<Duration>, seen_ns: i64) -> Self {
        settings.rules.interval = interval.unwrap_or(settings.rules.interval);
        Self {
            pipeline: Pipeline::new(settings),
            clock: RecordingClock::default(),
            epochs: 0,
            next_number: 0,
            seen_ns,
        }
    }

    /// The pipeline, as the last epoch left it.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// How many epochs were played.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Plays one epoch.
    pub fn play(&mut self, epoch: &RecordedEpoch<'_>) -> Step {
        self.epochs += 1;
        // A recording can hold several runs, and captures have no number: each gets one of its own.
        let number = epoch.epoch.max(self.next_number);
        self.next_number = number.saturating_add(1);
        let fallback = if epoch.opened_ns().is_some() { 0 } else { latest(epoch).unwrap_or(self.seen_ns) };
        let pipeline = &self.pipeline;
        let plan = |opened| pipeline.plan(number, opened, PATIENCE);
        let gathered = epoch.play(&mut self.clock, Stamp::new(fallback, fallback), plan);
        self.pipeline.step(&gathered)
    }
}

/// The latest time that the servers themselves wrote into their replies.
fn latest(epoch: &RecordedEpoch<'_>) -> Option<i64> {
    #[derive(Deserialize)]
    struct Timed<'a> {
        #[serde(borrow)]
        server: Server<'a>,
    }
    #[derive(Deserialize)]
    struct Server<'a> {
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    let replies = epoch.replies.iter().chain(epoch.statsz.iter().flatten());
    let times = replies.filter_map(|reply| serde_json::from_str::<Timed<'_>>(reply.get()).ok());
    times.filter_map(|timed| parse_wall_ns(&timed.server.time)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_of_bad_line_a_few_are_told_and_all_are_counted() {
        let (mut lines, mut told) = (BadLines::default(), Vec::new());
        for number in 0..50 {
            lines.tell(&format!("r, line {number}: no JSON"), &mut |text| told.push(text.to_owned()));
        }
        for kind in 'a'..='z' {
            lines.tell(&format!("r: {kind}"), &mut |text| told.push(text.to_owned()));
        }
        lines.end("r", &mut |text| told.push(text.to_owned()));
        assert_eq!((lines.count, told.len()), (76, 5 + 7 + 1));
        assert_eq!(told.last().map(String::as_str), Some("r, 64 more lines that cannot be read"));
    }

    #[test]
    fn the_time_between_epochs_is_the_median_and_no_less_than_a_second() {
        let seconds = |times: &[i64]| {
            let opened: Vec<i64> = times.iter().map(|time| time * 1_000_000_000).collect();
            median_spacing(&opened).map(|spacing| spacing.as_secs())
        };
        assert_eq!(seconds(&[0, 4, 8, 900]), Some(4));
        assert_eq!(seconds(&[0, 0, 0]), Some(1));
        assert_eq!(seconds(&[7]), None);
        // A clock that was set back says nothing.
        assert_eq!(seconds(&[10, 5, 9]), Some(4));
    }
}
