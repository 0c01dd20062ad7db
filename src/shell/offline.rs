//! Looking at what was written down before: recordings, captures, and bare replies, from a file or from stdin.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::pipeline::{Pipeline, Settings, Step};
use crate::recording::{self, Item, RecordedEpoch, RecordingClock};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::one_shot::Looked;
use crate::shell::unpack::{self, unpack};
use crate::stamp::{Stamp, parse_wall_ns};

/// A larger file is not read at once: `replay` takes it.
const BYTES_MAX: u64 = 1 << 30;
/// How many lines that cannot be read for one reason are told; the others are only counted.
const BAD_LINES_TOLD: u32 = 5;
/// So many reasons are told apart.
const REASONS_MAX: usize = 8;
/// How many epochs tell the time between two of them.
pub(super) const SAMPLED_EPOCHS: usize = 200;
/// How long a server would have been given to answer. It only matters to who is taken for missing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends everything that `path` holds through the pipeline. What cannot be read is told to `complain`.
pub fn look(path: &Path, settings: Settings, complain: &mut dyn FnMut(&str)) -> Result<Looked, Failure> {
    let name = shown(path);
    let text = read_whole(path)?;
    let mut epochs: Vec<Box<RecordedEpoch<'_>>> = Vec::new();
    let mut bare = Bare::default();
    let mut bad_lines = BadLines::default();
    for item in recording::items(&text, 1) {
        match item {
            Ok(Item::Epoch(epoch)) => epochs.push(epoch),
            Ok(Item::Jsz(reply)) => bare.replies.push(reply),
            Ok(Item::Statsz(reply)) => bare.statsz.push(reply),
            Err(bad) => bad_lines.tell(&format!("{name}, {bad}"), complain),
        }
    }
    bad_lines.end(&name, complain);
    epochs.extend(bare.into_epoch());
    let mut player = Player::new(settings, interval(&epochs));
    let mut last = None;
    for epoch in &epochs {
        last = Some(player.play(epoch));
    }
    let step = last.ok_or_else(|| nothing_readable(&name))?;
    let epochs = u32::try_from(player.epochs).unwrap_or(u32::MAX);
    Ok(Looked { step, alerts: player.pipeline.alert_table().clone(), epochs })
}

/// Tells of lines that cannot be read, without a flood.
#[derive(Default)]
pub(super) struct BadLines {
    /// How many there were.
    pub(super) count: u64,
    told: u64,
    /// How often each reason came; numbers in it do not count.
    reasons: BTreeMap<String, u32>,
}

impl BadLines {
    /// Tells one, unless some of its kind were told.
    pub(super) fn tell(&mut self, message: &str, complain: &mut dyn FnMut(&str)) {
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
    pub(super) fn end(&self, name: &str, complain: &mut dyn FnMut(&str)) {
        if let Some(more @ 1..) = self.count.checked_sub(self.told) {
            complain(&format!("{name}, {more} more lines that cannot be read"));
        }
    }
}

/// The failure of a file that holds no epoch.
pub(super) fn nothing_readable(name: &str) -> Failure {
    Failure::new(
        FailureKind::Input,
        format!("{name} holds no epoch and no reply that can be read"),
        "give a recording of `metawatch run --record`, or replies to $SYS.REQ.SERVER.PING.JSZ, one JSON object each",
    )
}

/// What a path is called in messages.
pub(super) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

/// Opens a file, or stdin for `-`; what is packed with gzip is unpacked as it is read.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    let file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| unreadable(path, &error))?)
    };
    unpack(file, &shown(path))
}

/// The failure of a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    unpack::unreadable(&shown(path), error)
}

fn read_whole(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    open(path)?.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::new(
            FailureKind::Input,
            format!("{} is larger than 1 GiB", shown(path)),
            "use `metawatch replay`, which reads a recording line by line, or give the end of it",
        ));
    }
    Ok(text)
}

/// Replies without an epoch around them: all together are one.
#[derive(Default)]
struct Bare<'a> {
    replies: Vec<&'a RawValue>,
    statsz: Vec<&'a RawValue>,
}

impl<'a> Bare<'a> {
    fn into_epoch(self) -> Option<Box<RecordedEpoch<'a>>> {
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
            events: Vec::new(),
        }))
    }
}

/// The time between two epochs: what the recording says, else the median of what its first epochs show, which is
/// at least a second.
pub(super) fn interval(epochs: &[Box<RecordedEpoch<'_>>]) -> Option<Duration> {
    if let Some(millis) = epochs.iter().find_map(|epoch| epoch.interval_ms) {
        return Some(Duration::from_millis(millis));
    }
    let opened: Vec<i64> = epochs.iter().take(SAMPLED_EPOCHS).filter_map(|epoch| epoch.opened_ns()).collect();
    median_spacing(&opened)
}

/// The median distance between neighbours, at least a second; `None` for fewer than two.
pub(super) fn median_spacing(opened: &[i64]) -> Option<Duration> {
    let neighbours = opened.iter().zip(opened.iter().skip(1));
    let mut spacings: Vec<u64> =
        neighbours.filter_map(|(one, next)| u64::try_from(next.saturating_sub(*one)).ok()).collect();
    spacings.sort_unstable();
    let median = spacings.get(spacings.len() / 2)?;
    Some(Duration::from_nanos(*median).max(Duration::from_secs(1)))
}

/// Plays epochs into a pipeline, on their own clock.
pub(super) struct Player {
    pipeline: Pipeline,
    clock: RecordingClock,
    /// How many epochs were played.
    pub(super) epochs: u64,
    next_number: u64,
}

impl Player {
    /// A player that knows nothing yet. `interval` goes before the one of the settings.
    pub(super) fn new(mut settings: Settings, interval: Option<Duration>) -> Self {
        settings.rules.interval = interval.unwrap_or(settings.rules.interval);
        Self {
            pipeline: Pipeline::new(settings),
            clock: RecordingClock::default(),
            epochs: 0,
            next_number: 0,
        }
    }

    /// Plays one epoch.
    pub(super) fn play(&mut self, epoch: &RecordedEpoch<'_>) -> Step {
        self.epochs += 1;
        // A recording can hold several runs, and captures have no number: each gets one of its own.
        let number = epoch.epoch.max(self.next_number);
        self.next_number = number.saturating_add(1);
        let fallback = if epoch.opened_ns().is_some() { 0 } else { latest(epoch).unwrap_or_else(wall_ns) };
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

/// Now, for replies that tell no time.
#[expect(
    clippy::disallowed_methods,
    reason = "the shell may read the clock; replies without any time are seen now"
)]
fn wall_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}
