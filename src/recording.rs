//! Recorded epochs: newline-delimited JSON, one epoch a line, with the replies as the servers sent them.
//!
//! A [`RecordedEpoch`] is played into an [`Epoch`] on the recording's own clock, so a recording goes through the
//! same pipeline as a live system. Bare replies, one a line or concatenated, are read too, as one epoch.
//!
//! ```
//! use metawatch::alert::LifeRules;
//! use metawatch::event::Monitor;
//! use metawatch::pipeline::Settings;
//! use metawatch::recording::{Item, Player, items};
//! use metawatch::rules::Rules;
//!
//! let monitor = Monitor { name: "example".into(), version: "1".into(), instance: "1".into() };
//! let life = LifeRules::default();
//! let settings = Settings { rules: Rules::default(), life, monitor, prefix: "metawatch".into() };
//! let mut player = Player::new(settings, None, 0);
//!
//! // One epoch: the leader answers, and its list calls the other peer offline.
//! let text = br#"{"v":1,"epoch":1,"opened":"2026-01-01T00:00:00Z","elapsed_ms":5,"replies":[{"server":{"name":"s1",
//!     "id":"N1","cluster":"c","ver":"2.12.0"},"data":{"meta_cluster":{"name":"c","leader":"s1","peer":"k2My6qdB",
//!     "cluster_size":2,"replicas":[{"name":"s2","current":false,"offline":true,"active":9000000000,
//!     "peer":"noC8kOtg"}]}}}]}"#;
//! let mut told = Vec::new();
//! for item in items(text, 1) {
//!     if let Ok(Item::Epoch(epoch)) = item {
//!         told.extend(player.play(&epoch).events);
//!     }
//! }
//! assert!(told.iter().any(|event| event.subject == "metawatch.alert.META_001.default.s2.firing"));
//! ```

mod player;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::epoch::{Ended, Epoch, Gathered, Heard, Plan};
use crate::name::printable;
use crate::stamp::{Stamp, parse_wall_ns};
pub use player::{BadLines, BareReplies, Player, SAMPLED_EPOCHS, interval, median_spacing};

/// An epoch does not last longer, and no two are further apart by plan.
const MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// The highest number of an epoch that is believed.
const EPOCH_MAX: u64 = 1 << 48;

/// One epoch of a recording. Unknown fields are ignored.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedEpoch<'a> {
    /// The version of the format.
    #[serde(default)]
    pub v: u32,
    /// The number of the epoch.
    #[serde(default)]
    pub epoch: u64,
    /// When its requests were sent. RFC 3339.
    #[serde(default, borrow)]
    pub opened: Cow<'a, str>,
    /// How long it took.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// The nominal time between two epochs, where the recorder said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Why it ended, where the recorder said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// The server the recorder was connected to.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub connected_to: Option<Cow<'a, str>>,
    /// The replies to `JSZ`.
    #[serde(borrow)]
    pub replies: Vec<&'a RawValue>,
    /// The replies to `STATSZ`; absent when it was not asked.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub statsz: Option<Vec<&'a RawValue>>,
    /// The replies to `STATSZ` of the recorder's own server, where that alone was asked: in a first epoch.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub own_statsz: Vec<&'a RawValue>,
    /// The events that came before the epoch ended.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<RecordedEvent<'a>>,
}

/// An event of a recording.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordedEvent<'a> {
    /// Its subject.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// When it came. RFC 3339.
    #[serde(default, borrow)]
    pub at: Cow<'a, str>,
    /// Its payload.
    #[serde(borrow)]
    pub payload: &'a RawValue,
}

/// The steady clock of a recording: it follows the recorded times and never goes backwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordingClock {
    last: Option<Stamp>,
}

impl RecordingClock {
    /// The opening of the next epoch. One that lies before the end of the last was written by a clock that jumped:
    /// it follows the last one directly. Without a time, `fallback` is taken.
    fn opening(&mut self, opened: &str, elapsed: Duration, fallback: Stamp) -> Stamp {
        let wall_ns = parse_wall_ns(opened).unwrap_or(fallback.wall_ns());
        let opening = match self.last {
            None => Stamp::at_wall(wall_ns, fallback),
            Some(last) if wall_ns < last.wall_ns() => {
                let next = last.plus(Duration::from_nanos(1));
                Stamp::new(next.steady_ns(), wall_ns)
            }
            Some(last) => Stamp::at_wall(wall_ns, last),
        };
        self.last = Some(opening.plus(elapsed));
        opening
    }
}

impl RecordedEpoch<'_> {
    /// When the epoch opened, in nanoseconds since 1970, where the recording tells.
    pub fn opened_ns(&self) -> Option<i64> {
        parse_wall_ns(&self.opened)
    }

    /// Refuses numbers that no recorder writes: they would stretch the clock of all that follows.
    fn check(&self) -> Result<(), String> {
        let millis = [("elapsed_ms", Some(self.elapsed_ms)), ("interval_ms", self.interval_ms)];
        for (field, millis) in millis {
            if let Some(beyond) = millis.filter(|millis| *millis > MILLIS_MAX) {
                return Err(format!("{field} is {beyond}, more than the {MILLIS_MAX} of a day"));
            }
        }
        if self.epoch > EPOCH_MAX {
            return Err(format!("epoch is {}: nobody has counted so far", self.epoch));
        }
        if !self.opened.is_empty() && self.opened_ns().is_none() {
            let opened: String = printable(&self.opened).chars().take(64).collect();
            return Err(format!("opened is {opened:?}, no moment between 1970 and 2262"));
        }
        Ok(())
    }

    /// Plays the epoch. `plan` is asked with the opening time; `fallback` is the time of an epoch that tells none.
    pub fn play(
        &self,
        clock: &mut RecordingClock,
        fallback: Stamp,
        plan: impl FnOnce(Stamp) -> Plan,
    ) -> Gathered {
        let elapsed = Duration::from_millis(self.elapsed_ms);
        let opened = clock.opening(&self.opened, elapsed, fallback);
        let closed = opened.plus(elapsed);
        let plan = Plan { ask_statsz: self.statsz.is_some(), ..plan(opened) };
        let number = plan.number;
        let mut epoch = Epoch::open(plan, opened);
        for event in &self.events {
            let at = parse_wall_ns(&event.at).map_or(closed, |wall_ns| Stamp::at_wall(wall_ns, opened));
            let payload = event.payload.get().as_bytes();
            epoch.hear(closed, Heard::Event { at, subject: &event.subject, payload });
        }
        for reply in &self.replies {
            epoch.hear(closed, Heard::Jsz { epoch: number, payload: reply.get().as_bytes() });
        }
        for reply in self.statsz.iter().flatten().chain(&self.own_statsz) {
            epoch.hear(closed, Heard::Statsz { epoch: number, payload: reply.get().as_bytes() });
        }
        let ended = self.ended.unwrap_or_else(|| epoch.ended_of_a_recording());
        epoch.close(closed, ended)
    }
}

/// One value of a file.
#[derive(Debug)]
pub enum Item<'a> {
    /// A recorded epoch, or a capture: anything with `replies`.
    Epoch(Box<RecordedEpoch<'a>>),
    /// A bare reply to `JSZ`.
    Jsz(&'a RawValue),
    /// A bare reply to `STATSZ`.
    Statsz(&'a RawValue),
}

/// A value that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail}")]
pub struct BadLine {
    /// The line on which it starts, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub detail: String,
}

/// What tells the kinds of values apart.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    replies: Option<&'a RawValue>,
    #[serde(borrow)]
    server: Option<&'a RawValue>,
    #[serde(borrow)]
    statsz: Option<&'a RawValue>,
}

/// Reads the values of `text`, which starts at line `first_line` of its file. After a value that cannot be read it
/// goes on with the next line.
pub fn items(text: &[u8], first_line: u64) -> Items<'_> {
    Items { text, at: 0, line: first_line }
}

/// The iterator of [`items`].
#[derive(Debug)]
pub struct Items<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at + self.text[self.at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.move_to(start);
        let line = self.line;
        let mut values = serde_json::Deserializer::from_slice(&self.text[start..]).into_iter::<&RawValue>();
        let item = match values.next()? {
            Ok(value) => {
                let end = start + values.byte_offset();
                self.move_to(end);
                item_of(value)
            }
            Err(error) => {
                let rest = &self.text[start..];
                let line_end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
                self.move_to(start + line_end);
                Err(error.to_string())
            }
        };
        Some(item.map_err(|detail| BadLine { line, detail }))
    }
}

impl Items<'_> {
    fn move_to(&mut self, at: usize) {
        self.line += self.text[self.at..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = at;
    }
}

fn item_of(value: &RawValue) -> Result<Item<'_>, String> {
    let kind: Kind<'_> = serde_json::from_str(value.get())
        .map_err(|_| "neither a recorded epoch nor a reply of a server".to_owned())?;
    match kind {
        Kind { replies: Some(_), .. } => {
            let epoch: Box<RecordedEpoch<'_>> =
                serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
            epoch.check()?;
            Ok(Item::Epoch(epoch))
        }
        Kind { statsz: Some(_), server: Some(_), .. } => Ok(Item::Statsz(value)),
        Kind { server: Some(_), .. } => Ok(Item::Jsz(value)),
        _ => Err("neither a recorded epoch (`replies`) nor a reply of a server (`server`)".to_owned()),
    }
}

#[cfg(test)]
mod tests;
