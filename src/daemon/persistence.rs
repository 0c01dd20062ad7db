//! When the state is written to its file, and how long anything waits for that.

use std::time::Duration;

use super::effect::Line;
use crate::stamp::Stamp;

/// Publishing waits for the new state file for this long at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the state file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Persistence {
    present: bool,
    /// It does not hold what it should.
    behind: bool,
    /// It is being written; since when, once that is known.
    saving: bool,
    since: Option<Stamp>,
    /// The last try failed, or has not ended in time: nothing waits for the file until it is written again.
    failing: bool,
    /// A try failed, and the next one is made after the next epoch.
    resting: bool,
}

impl Persistence {
    pub(super) fn new(present: bool) -> Self {
        Self { present, behind: false, saving: false, since: None, failing: false, resting: false }
    }

    /// The state is another one.
    pub(super) fn change(&mut self) {
        self.behind = self.present;
    }

    /// What failed is tried again after every epoch.
    pub(super) fn epoch_ended(&mut self) {
        self.resting = false;
    }

    /// Whether the state is to be written now; it counts as being written from then on.
    pub(super) fn wants_to_save(&mut self) -> bool {
        let wants = self.behind && !self.saving && !self.resting;
        if wants {
            (self.saving, self.behind, self.since) = (true, false, None);
        }
        wants
    }

    /// Gives a disk up that does not answer.
    pub(super) fn advance(&mut self, now: Stamp, lines: &mut Vec<Line>) {
        if !self.saving {
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) >= PATIENCE {
            self.fail("the disk does not answer", lines);
        }
    }

    /// The file was written, or why not.
    pub(super) fn saved(&mut self, saved: Result<(), String>, _now: Stamp, lines: &mut Vec<Line>) {
        self.saving = false;
        match saved {
            Ok(()) if std::mem::take(&mut self.failing) => {
                lines.push(Line::warn("the state file is written again"));
            }
            Ok(()) => {}
            Err(why) => {
                (self.behind, self.resting) = (true, true);
                self.fail(&why, lines);
            }
        }
    }

    fn fail(&mut self, why: &str, lines: &mut Vec<Line>) {
        if !std::mem::replace(&mut self.failing, true) {
            let text = format!(
                "the state cannot be saved: {why}; a restart would forget open incidents, and the watching goes on"
            );
            lines.push(
                Line::error(text).hint("make room or mend the file; it is tried again after every epoch"),
            );
        }
    }

    /// Whether the file holds what it should, or cannot.
    pub(super) fn is_safe(&self) -> bool {
        !self.present || self.failing || (!self.behind && !self.saving)
    }

    /// Whether the file cannot be written.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// When a disk is to be given up that has not answered.
    pub(super) fn next_due(&self) -> Option<Stamp> {
        let since = self.since.filter(|_| self.saving && !self.failing)?;
        Some(since.plus(PATIENCE))
    }
}
