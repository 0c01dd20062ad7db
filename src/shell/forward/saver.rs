//! Keeps in a file what a restarted `forward` goes on with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::forward::{Forward, SavedForward};
use crate::shell::clock::Clock;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::state_file::{StateFile, StateLocation, StateWriter};
use crate::stamp::Stamp;

/// The first change is saved at once, the next ones with a pause of at least this, ...
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... of so many times what it took to write the state out, ...
const TAKES: u32 = 20;
/// ... and of this after the disk did not take it.
const PAUSE_FAILED: Duration = Duration::from_secs(10);
/// How often it is looked whether the last state is written.
const LOOK: Duration = Duration::from_millis(10);

/// Writes the state, where there is a file for it.
#[derive(Debug, Default)]
pub(super) struct Saver {
    file: Option<(StateWriter<SavedForward>, Arc<Outcome>)>,
    /// How many states were given to the writer.
    given: u64,
    /// The revision that was.
    revision: u64,
    again_at: Option<Stamp>,
}

/// What became of the states.
#[derive(Debug, Default)]
struct Outcome {
    done: AtomicU64,
    failing: AtomicBool,
}

impl Saver {
    /// Opens the file, and gives what it holds.
    pub(super) fn open(location: &StateLocation) -> Result<(Self, Option<SavedForward>), Failure> {
        let Some((file, held)) = StateFile::open(location)? else { return Ok((Self::default(), None)) };
        let path = file.path().display().to_string();
        tracing::debug!(file = path, "what has not arrived is kept");
        let outcome = Arc::new(Outcome::default());
        let (told, of_thread) = (outcome.clone(), path);
        let saved = move |result: Result<(), String>| {
            let failing = told.failing.swap(result.is_err(), Ordering::SeqCst);
            told.done.fetch_add(1, Ordering::SeqCst);
            match result {
                Err(why) if !failing => tracing::error!(
                    hint = "see the disk and the folder; until then a restart loses what has not arrived",
                    "the state file {of_thread} cannot be written: {why}"
                ),
                Ok(()) if failing => tracing::warn!("the state file {of_thread} can be written again"),
                _ => {}
            }
        };
        let writer = file.into_writer(saved).map_err(|error| {
            let message = format!("cannot start the thread that writes the state file: {error}");
            let hint = "see whether this process may start more threads (ulimit -u)";
            Failure::new(FailureKind::Io, message, hint)
        })?;
        Ok((Self { file: Some((writer, outcome)), ..Self::default() }, held))
    }

    /// When there is something to save.
    pub(super) fn next_at(&self, forward: &Forward, now: Stamp) -> Option<Stamp> {
        let (_, outcome) = self.file.as_ref()?;
        let due = forward.revision() != self.revision || outcome.failing.load(Ordering::SeqCst);
        due.then(|| self.again_at.filter(|at| !now.has_reached(*at)).unwrap_or(now))
    }

    /// Saves what is due.
    pub(super) fn save(&mut self, forward: &Forward, clock: &Clock) {
        let now = clock.now();
        if self.next_at(forward, now).is_some_and(|at| now.has_reached(at)) {
            self.save_now(forward, clock);
        }
    }

    /// Whether it was given to the writer.
    fn save_now(&mut self, forward: &Forward, clock: &Clock) -> bool {
        let Some((writer, outcome)) = &self.file else { return true };
        let began = clock.now();
        let given = writer.save(forward.save());
        if given {
            (self.given, self.revision) = (self.given + 1, forward.revision());
        }
        let took = clock.now().since(began).saturating_mul(TAKES);
        let failing = outcome.failing.load(Ordering::SeqCst);
        let pause = if failing { PAUSE_FAILED } else { PAUSE_MIN }.max(took);
        self.again_at = Some(clock.now().plus(pause));
        given
    }

    /// Saves the last state, and waits until it is written.
    pub(super) async fn finish(&mut self, forward: &Forward, clock: &Clock) {
        while !self.save_now(forward, clock) {
            sleep(LOOK).await;
        }
        let Some((_, outcome)) = &self.file else { return };
        while outcome.done.load(Ordering::SeqCst) < self.given {
            sleep(LOOK).await;
        }
    }
}
