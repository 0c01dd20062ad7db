//! `metawatch replay`: a recording through the same pipeline, line by line and with bounded memory.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use crate::event::Outgoing;
use crate::pipeline::Settings;
use crate::recording::{self, BadLines, Item, Player, RecordedEpoch, SAMPLED_EPOCHS};
use crate::shell::failure::Failure;
use crate::shell::offline;

/// A longer line is not read.
const LINE_BYTES_MAX: usize = 256 << 20;
/// At most this much is read ahead to learn the time between two epochs.
const AHEAD_BYTES_MAX: usize = 64 << 20;

/// What a replay led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// How many epochs there were.
    pub epochs: u64,
    /// How many lines could not be read.
    pub bad_lines: u64,
    /// How many events they led to.
    pub events: u64,
}

/// What a replay tells while it runs.
pub trait ReplaySink {
    /// An event came out. `false` ends the replay: nobody listens any more.
    fn event(&mut self, event: &Outgoing) -> Result<bool, Failure>;
    /// A line could not be read.
    fn bad_line(&mut self, message: &str);
    /// No line follows at once.
    fn pause(&mut self) -> Result<(), Failure>;
}

/// Replays what `path` holds. `interval` goes before what the recording says.
pub fn replay(
    path: &Path,
    settings: Settings,
    interval: Option<Duration>,
    sink: &mut dyn ReplaySink,
) -> Result<Replayed, Failure> {
    let name = offline::shown(path);
    let mut lines = Lines { reader: BufReader::with_capacity(1 << 16, offline::open(path)?), number: 0 };
    let mut ahead: VecDeque<Line> = VecDeque::new();
    let fail = |error| offline::unreadable(path, &error);
    let interval = match interval {
        Some(interval) => Some(interval),
        None => look_ahead(&mut lines, &mut ahead).map_err(fail)?,
    };
    let mut player = Player::new(settings, interval, offline::wall_ns());
    let mut done = Replayed::default();
    let mut bad_lines = BadLines::default();
    loop {
        let line = match ahead.pop_front() {
            Some(line) => line,
            None => match lines.next_line().map_err(fail)? {
                Some(line) => line,
                None => break,
            },
        };
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(epoch)) => {
                let step = player.play(&epoch);
                for event in &step.events {
                    done.events += 1;
                    if !sink.event(event)? {
                        (done.epochs, done.bad_lines) = (player.epochs(), bad_lines.count);
                        return Ok(done);
                    }
                }
            }
            Err(detail) => {
                bad_lines.tell(&format!("{name}, {detail}"), &mut |message| sink.bad_line(message));
            }
        }
        if ahead.is_empty() && lines.reader.buffer().is_empty() {
            sink.pause()?;
        }
    }
    bad_lines.end(&name, &mut |message| sink.bad_line(message));
    (done.epochs, done.bad_lines) = (player.epochs(), bad_lines.count);
    if done.epochs == 0 { Err(offline::nothing_readable(&name)) } else { Ok(done) }
}

/// Reads ahead until the time between two epochs is known.
fn look_ahead(lines: &mut Lines, ahead: &mut VecDeque<Line>) -> std::io::Result<Option<Duration>> {
    let (mut opened, mut bytes) = (Vec::new(), 0);
    while opened.len() < SAMPLED_EPOCHS && bytes < AHEAD_BYTES_MAX {
        let Some(line) = lines.next_line()? else { break };
        bytes += line.text.len();
        let told = match parse(&line) {
            Ok(Some(epoch)) => {
                opened.extend(epoch.opened_ns());
                epoch.interval_ms
            }
            Ok(None) | Err(_) => None,
        };
        ahead.push_back(line);
        if let Some(millis) = told {
            return Ok(Some(Duration::from_millis(millis)));
        }
    }
    Ok(recording::median_spacing(&opened))
}

struct Line {
    number: u64,
    text: Vec<u8>,
    too_long: bool,
}

fn parse(line: &Line) -> Result<Option<Box<RecordedEpoch<'_>>>, String> {
    if line.too_long {
        return Err(format!("line {}: longer than {} MiB", line.number, LINE_BYTES_MAX >> 20));
    }
    let mut items = recording::items(&line.text, line.number);
    match items.next() {
        None => Ok(None),
        Some(Ok(Item::Epoch(epoch))) => Ok(Some(epoch)),
        Some(Ok(Item::Jsz(_) | Item::Statsz(_))) => Err(format!(
            "line {}: a bare reply and no epoch; `metawatch check --from` takes those",
            line.number
        )),
        Some(Err(bad)) => Err(bad.to_string()),
    }
}

struct Lines {
    reader: BufReader<Box<dyn Read>>,
    number: u64,
}

impl Lines {
    /// The next line. Of one that is too long, the rest is skipped.
    fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        let mut text = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let too_long = text.len() > LINE_BYTES_MAX;
        if too_long && text.last() != Some(&b'\n') {
            text = Vec::new();
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(Line { number: self.number, text, too_long }))
    }
}
