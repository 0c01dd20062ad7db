//! Writes every epoch into a recording: one line of JSON an epoch, as [`crate::recording`] reads it.
//!
//! A thread of its own writes, so that a slow or full disk never delays the watching. **Invariant:** no line is
//! ever appended to the rest of another: after a failure the next line starts with a line break.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::epoch::Gathered;
use crate::recording::{RecordedEpoch, RecordedEvent};
use crate::shell::atomic_file::open_itself;
use crate::shell::collect::Capture;
use crate::shell::config::reason;
use crate::shell::failure::{Failure, FailureKind};
use crate::stamp::Stamp;

/// Epochs that may wait for the disk; more are left out of the recording.
const WAITING_MAX: usize = 4;
/// How long after a failure the next try is made.
const PAUSE: Duration = Duration::from_secs(60);
/// How much is kept of a reply that is no JSON.
const UNREADABLE_BYTES_MAX: usize = 4_096;

/// The way into a recording.
#[derive(Debug)]
pub struct Recorder {
    epochs: mpsc::Sender<Job>,
    done: oneshot::Receiver<()>,
    interval: Duration,
    left_out: Arc<AtomicU64>,
}

/// One epoch to be written.
#[derive(Debug)]
struct Job {
    number: u64,
    opened: Stamp,
    closed: Stamp,
    ended: crate::epoch::Ended,
    asked_statsz: bool,
    interval: Duration,
    raw: Capture,
}

impl Recorder {
    /// Opens the file, or makes it; what it holds stays.
    pub fn open(path: &Path, interval: Duration) -> Result<Self, Failure> {
        let path = path.to_owned();
        let failed = |error: &io::Error| {
            Failure::new(
                FailureKind::Io,
                format!("cannot write the recording {}: {}", path.display(), why(error)),
                "give --record a file in a directory that exists and that this user may write to",
            )
        };
        let first = open(&path).map_err(|error| failed(&error))?;
        let (epochs, jobs) = mpsc::channel(WAITING_MAX);
        let (ended, done) = oneshot::channel();
        let writer = LineWriter::new(Some(first), {
            let path = path.clone();
            move || open(&path)
        });
        let (name, left_out) = (path.clone(), Arc::new(AtomicU64::new(0)));
        let missing = left_out.clone();
        let write = move || {
            write_all(jobs, writer, &name, &missing);
            // Nobody may be waiting any more.
            ended.send(()).ok();
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(write);
        thread.map_err(|error| failed(&error))?;
        Ok(Self { epochs, done, interval, left_out })
    }

    /// Records an epoch. It never waits: when the disk is too slow the epoch is left out.
    pub fn record(&mut self, gathered: &Gathered, raw: Capture) {
        let job = Job {
            number: gathered.number,
            opened: gathered.opened,
            closed: gathered.closed,
            ended: gathered.ended,
            asked_statsz: gathered.asked_statsz,
            interval: self.interval,
            raw,
        };
        let mut left_out = job.raw.left_out;
        left_out += u64::from(self.epochs.try_send(job).is_err());
        self.left_out.fetch_add(left_out, Ordering::Relaxed);
    }

    /// How many epochs and payloads the recording lacks.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but not for ever.
    pub async fn finish(self, patience: Duration) {
        let Self { epochs, done, .. } = self;
        drop(epochs);
        if tokio::time::timeout(patience, done).await.is_err() {
            tracing::warn!("the end of the recording could not be written in time");
        }
    }
}

/// The life of the thread that writes.
fn write_all<O: FnMut() -> io::Result<Opened<File>>>(
    mut jobs: mpsc::Receiver<Job>,
    mut writer: LineWriter<File, O>,
    path: &Path,
    left_out: &AtomicU64,
) {
    while let Some(job) = jobs.blocking_recv() {
        let line = match line(&job) {
            Ok(line) => line,
            Err(error) => {
                tracing::warn!(%error, epoch = job.number, "an epoch could not be recorded");
                left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        let wrote = writer.write(&line, job.closed);
        let missing = matches!(wrote, Wrote::Failed(_) | Wrote::Nothing);
        left_out.fetch_add(missing.into(), Ordering::Relaxed);
        match wrote {
            Wrote::Failed(error) => tracing::error!(
                file = %path.display(),
                reason = why(&error),
                hint = "make room or mend the file; it is tried again every minute",
                "the recording pauses; the watching goes on",
            ),
            Wrote::Again => tracing::warn!(file = %path.display(), "the recording goes on"),
            Wrote::Line | Wrote::Nothing => {}
        }
    }
}

/// A file that was opened, and whether it ends within a line.
#[derive(Debug)]
struct Opened<W> {
    file: W,
    within_line: bool,
}

fn open(path: &Path) -> io::Result<Opened<File>> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = open_itself(path, &mut options)?;
    let metadata = file.metadata()?;
    let mut last = *b"\n";
    if metadata.is_file() && metadata.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok(Opened { file, within_line: last != *b"\n" })
}

/// What went wrong, in our own words where we have some.
fn why(error: &io::Error) -> String {
    error.get_ref().map_or_else(|| reason(error), ToString::to_string)
}

/// What became of a line.
#[derive(Debug)]
enum Wrote {
    /// It is written.
    Line,
    /// It is written, after a pause.
    Again,
    /// It could not be written. Told once a pause.
    Failed(io::Error),
    /// It was left out, because the last try failed not long ago or has been told.
    Nothing,
}

/// Writes whole lines, or pauses.
struct LineWriter<W, O> {
    file: Option<Opened<W>>,
    open: O,
    failed: Option<Stamp>,
}

impl<W: Write, O: FnMut() -> io::Result<Opened<W>>> LineWriter<W, O> {
    fn new(file: Option<Opened<W>>, open: O) -> Self {
        Self { file, open, failed: None }
    }

    fn write(&mut self, line: &[u8], now: Stamp) -> Wrote {
        if self.failed.is_some_and(|failed| now.since(failed) < PAUSE) {
            return Wrote::Nothing;
        }
        match self.try_write(line) {
            Ok(()) if self.failed.take().is_some() => Wrote::Again,
            Ok(()) => Wrote::Line,
            Err(error) => {
                // The file is opened anew: it may have been moved away, and it tells itself how it ends.
                self.file = None;
                let told = self.failed.replace(now).is_some();
                if told { Wrote::Nothing } else { Wrote::Failed(error) }
            }
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        let opened = match &mut self.file {
            Some(opened) => opened,
            None => self.file.insert((self.open)()?),
        };
        if opened.within_line {
            opened.file.write_all(b"\n")?;
        }
        opened.within_line = true;
        opened.file.write_all(line)?;
        opened.file.flush()?;
        opened.within_line = false;
        Ok(())
    }
}

/// What is written: an epoch, and the replies that are no JSON, as text.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    epoch: RecordedEpoch<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
}

/// One line, with its end.
fn line(job: &Job) -> serde_json::Result<Vec<u8>> {
    let raw = &job.raw;
    let mut unreadable = Vec::new();
    let replies = values(&raw.replies, &mut unreadable);
    let statsz = values(&raw.statsz, &mut unreadable);
    let mut events = Vec::with_capacity(raw.events.len());
    for (at, subject, payload) in &raw.events {
        match value(payload) {
            Some(value) => events.push((at.to_string(), subject, value)),
            None => unreadable.push(excerpt(payload)),
        }
    }
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let connected_to = (!raw.connected_to.is_empty()).then(|| raw.connected_to.as_str().into());
    let epoch = RecordedEpoch {
        v: 1,
        epoch: job.number,
        opened: job.opened.to_string().into(),
        elapsed_ms: millis(job.closed.since(job.opened)),
        interval_ms: Some(millis(job.interval)),
        ended: Some(job.ended),
        connected_to,
        replies: replies.iter().map(AsRef::as_ref).collect(),
        statsz: job.asked_statsz.then(|| statsz.iter().map(AsRef::as_ref).collect()),
        own_statsz: statsz.iter().filter(|_| !job.asked_statsz).map(AsRef::as_ref).collect(),
        events: events
            .iter()
            .map(|(at, subject, payload)| RecordedEvent {
                subject: subject.as_str().into(),
                at: at.as_str().into(),
                payload,
            })
            .collect(),
    };
    let mut bytes = serde_json::to_vec(&Line { epoch, unreadable })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The payloads that are JSON; the others are kept as text.
fn values(payloads: &[Vec<u8>], unreadable: &mut Vec<String>) -> Vec<Box<RawValue>> {
    let mut values = Vec::with_capacity(payloads.len());
    for payload in payloads {
        match value(payload) {
            Some(value) => values.push(value),
            None => unreadable.push(excerpt(payload)),
        }
    }
    values
}

/// A payload as it came, on one line. A line break in JSON can only stand between its tokens.
fn value(payload: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(payload).ok()?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

fn excerpt(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(UNREADABLE_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests;
