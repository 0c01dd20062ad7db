//! What a service manager (systemd) is told of a watcher, in the words of `sd_notify(3)`.
//!
//! It is ready once it has seen the servers in a whole epoch, or knows that another watcher does and stands by. What it
//! should be started again for is that it works no more: its loop does not turn, or an epoch does not end. Servers that
//! are away are no such reason: it looks for them itself, and a new process could do no more. So the watchdog is fed for
//! as long as the loop turns and no epoch is overdue; while it is not ready yet, more time to start is asked for instead,
//! on the same condition.

use std::time::Duration;

use super::{Daemon, Phase};
use crate::election::Role;
use crate::name::printable;
use crate::stamp::Stamp;

/// Before it is ready, a watcher says so often that it still works ...
const START_TOLD_EVERY: Duration = Duration::from_secs(5);
/// ... and asks for so much more time to start.
const START_EXTENDED_BY: Duration = Duration::from_secs(30);
/// The watchdog is fed so many times within its time: one or two may be late.
const FED_TIMES: u32 = 3;
/// More characters of a status are not told: a service manager ignores messages of more than 4,096 bytes (systemd 252,
/// `src/core/manager.h`, `NOTIFY_BUFFER_MAX`).
const STATUS_MAX: usize = 500;

/// How far a watcher is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It watches, or stands by for one that does.
    pub ready: bool,
    /// Its epochs end.
    pub works: bool,
    /// It has been told to stop.
    pub stopping: bool,
    /// One line for people.
    pub status: String,
}

impl Progress {
    /// That of a watcher that looks for its first server.
    pub fn connecting() -> Self {
        let status = "looking for a server; why none is found is in the log".to_owned();
        Self { ready: false, works: true, stopping: false, status }
    }
}

impl Daemon {
    /// How far this watcher is.
    pub fn progress(&self, now: Stamp) -> Progress {
        let vitals = self.vitals(now);
        let role = self.role();
        let seen = self.last().map(|step| step.heartbeat.summary.as_str());
        let status = match (role, seen) {
            (Role::Reserve, _) => "in reserve: another watcher is active".to_owned(),
            (Role::Standby, Some(seen)) => format!("standby; {seen}"),
            (Role::Joining | Role::Candidate | Role::Active, Some(seen)) => seen.to_owned(),
            (Role::Standby | Role::Joining | Role::Candidate | Role::Active, None) => {
                "connected; nothing seen yet".to_owned()
            }
        };
        Progress {
            ready: vitals.complete.is_some() || vitals.follows,
            works: !vitals.stuck,
            stopping: matches!(self.phase, Phase::Leaving(_)),
            status,
        }
    }
}

/// What was told so far.
#[derive(Clone, Debug, Default)]
struct Told {
    ready: bool,
    stopping: bool,
    status: String,
    /// When it was last looked at whether the watcher works.
    looked: Option<Stamp>,
}

/// Decides what a service manager is to be told.
#[derive(Clone, Debug, Default)]
pub struct Supervision {
    /// When the service manager takes the watcher for dead without a word; `None` when it never does.
    watchdog: Option<Duration>,
    told: Told,
}

impl Supervision {
    /// `watchdog` is the time of the service manager's watchdog, if it has one.
    pub fn new(watchdog: Option<Duration>) -> Self {
        Self { watchdog, told: Told::default() }
    }

    /// Passes what is to be told now to `send`, if anything is. What was not taken is told again the next time.
    pub fn tell(&mut self, progress: &Progress, now: Stamp, send: impl FnOnce(&str) -> bool) {
        let mut message = String::new();
        let mut told = self.told.clone();
        if progress.ready && !told.ready {
            told.ready = true;
            message.push_str("READY=1\n");
        }
        if progress.stopping && !told.stopping {
            told.stopping = true;
            message.push_str("STOPPING=1\n");
        }
        let status: String = printable(&progress.status).chars().take(STATUS_MAX).collect();
        if status != told.status {
            message.push_str(&format!("STATUS={status}\n"));
            told.status = status;
        }
        let due = self.due().is_none_or(|due| now.has_reached(due)) || told.ready != self.told.ready;
        if due {
            match (progress.works, told.ready) {
                (true, false) => {
                    message.push_str(&format!("EXTEND_TIMEOUT_USEC={}\n", START_EXTENDED_BY.as_micros()));
                }
                (true, true) if self.watchdog.is_some() => message.push_str("WATCHDOG=1\n"),
                (true, true) | (false, _) => {}
            }
            told.looked = Some(now);
        }
        if message.is_empty() || send(&message) {
            self.told = told;
        }
    }

    /// When the watcher is to be looked at though nothing happens; `None` when it need not be, or at once.
    pub fn due(&self) -> Option<Stamp> {
        let every = if self.told.ready { self.watchdog? / FED_TIMES } else { START_TOLD_EVERY };
        self.told.looked.map(|looked| looked.plus(every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp::new(seconds * 1_000_000_000, 0)
    }

    /// What is told at these seconds of a watcher in this state, each with its second.
    fn told(
        supervision: &mut Supervision,
        progress: &Progress,
        seconds: impl Iterator<Item = i64>,
    ) -> String {
        let mut all = String::new();
        for second in seconds {
            supervision.tell(progress, at(second), |message| {
                all.push_str(&format!("{second} {} ", message.trim_end().replace('\n', " ")));
                true
            });
        }
        all.trim_end().to_owned()
    }

    fn watching(status: &str) -> Progress {
        Progress { ready: true, works: true, stopping: false, status: status.to_owned() }
    }

    #[test]
    fn more_time_is_asked_for_until_it_is_ready_and_then_the_watchdog_is_fed() {
        let mut supervision = Supervision::new(Some(Duration::from_secs(30)));
        let starting = Progress { status: "a".into(), ..Progress::connecting() };
        assert_eq!(
            told(&mut supervision, &starting, 0..12),
            "0 STATUS=a EXTEND_TIMEOUT_USEC=30000000 5 EXTEND_TIMEOUT_USEC=30000000 10 EXTEND_TIMEOUT_USEC=30000000"
        );
        assert_eq!(
            told(&mut supervision, &watching("a"), 12..40),
            "12 READY=1 WATCHDOG=1 22 WATCHDOG=1 32 WATCHDOG=1"
        );
        assert_eq!(supervision.due().map(Stamp::steady_ns), Some(42_000_000_000));
        let leaving = Progress { stopping: true, ..watching("b") };
        assert_eq!(told(&mut supervision, &leaving, 40..42), "40 STOPPING=1 STATUS=b");
    }

    #[test]
    fn a_watcher_whose_epochs_do_not_end_feeds_no_watchdog_and_asks_for_no_more_time() {
        let mut supervision = Supervision::new(Some(Duration::from_secs(30)));
        let stuck = |progress: Progress| Progress { works: false, ..progress };
        let starting = Progress { status: String::new(), ..Progress::connecting() };
        assert_eq!(told(&mut supervision, &stuck(starting), 0..60), "");
        assert_eq!(told(&mut supervision, &watching(""), 60..61), "60 READY=1 WATCHDOG=1");
        assert_eq!(told(&mut supervision, &stuck(watching("")), 61..120), "");
        assert_eq!(told(&mut supervision, &watching(""), 120..121), "120 WATCHDOG=1");
    }

    #[test]
    fn what_is_not_taken_is_told_again_and_without_a_watchdog_only_what_is_new_is() {
        let mut supervision = Supervision::new(None);
        supervision.tell(&watching("a"), at(0), |_| false);
        assert_eq!(told(&mut supervision, &watching("a"), 1..100), "1 READY=1 STATUS=a");
        assert_eq!(supervision.due(), None);
        let long = "ä\nREADY=1".repeat(2_000);
        let message = told(&mut supervision, &watching(&long), 100..101);
        assert!(message.len() < 4_000 && !message.contains('\n'), "{message}");
    }
}
