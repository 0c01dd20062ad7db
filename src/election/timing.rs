//! How long everything takes, in units of the lease, and the chance in it.
//!
//! The unit is the interval, between half a second and two. A message of an active watcher, a standby or a candidate
//! comes twice in a unit. Bounds that follow, from the loss of the active watcher to the next one:
//!
//! | what is lost | at most, in units |
//! |---|---|
//! | the active watcher, by its own word | 0.3 and 150 ms |
//! | the active watcher | 2 and 150 ms |
//! | the active watcher and its first standby | 2.25 and 150 ms |
//! | the active watcher and all standbys | 3 + the spread + 1 and 300 ms |
//!
//! The spread of a reserve is a random part of a window that grows with the number of watchers, a quarter of a unit at
//! least and 4 at most (of a thousand), so that a few of a thousand speak and the others hear them.

use std::time::Duration;

/// The least unit ...
pub(super) const LEASE_UNIT_MIN: Duration = Duration::from_millis(500);
/// ... and the greatest.
pub(super) const LEASE_UNIT_MAX: Duration = Duration::from_secs(2);
/// How long a candidate that was a standby waits for a better one before it is active; another one waits twice as long.
pub(super) const SETTLE: Duration = Duration::from_millis(150);
/// Who holds a newer state than a candidate says so within this time.
pub(super) const ANSWER_WINDOW: Duration = Duration::from_millis(60);
/// A watcher that sees the servers and in so many units hears not even itself never will.
pub(super) const ISOLATED_UNITS: u32 = 3;
/// How many bytes of state may be delivered to all watchers together in a unit.
const STATE_BYTES_PER_UNIT: u64 = 8 << 20;

/// The times of one watcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) unit: Duration,
}

impl Timing {
    pub(super) fn new(interval: Duration) -> Self {
        Self { unit: interval.clamp(LEASE_UNIT_MIN, LEASE_UNIT_MAX) }
    }

    /// How often an active watcher, a standby, a candidate and one that joins say that they are there.
    pub(super) fn pace(self) -> Duration {
        self.unit / 2
    }

    /// How long a watcher listens before it may be active: longer than an active one is quiet.
    pub(super) fn listening(self) -> Duration {
        self.unit * 3 / 4
    }

    /// How long after its last message that came back a watcher may be active.
    pub(super) fn lease(self) -> Duration {
        self.unit * 3 / 2
    }

    /// How long after its last message an active watcher counts: longer than its lease.
    pub(super) fn silence(self) -> Duration {
        self.unit * 2
    }

    /// How long others wait for a candidate after its last message.
    pub(super) fn candidacy(self) -> Duration {
        self.unit * 5 / 4
    }

    /// How much later than the first standby this one takes over.
    pub(super) fn turn_of(self, standby: usize) -> Duration {
        self.unit / 4 * u32::try_from(standby).unwrap_or(u32::MAX)
    }

    /// In what time reserves of so many watchers come forward when nobody is active.
    pub(super) fn spread(self, watchers: u64) -> Duration {
        let quarters = (watchers / 60).clamp(1, 16);
        self.unit / 4 * u32::try_from(quarters).unwrap_or(16)
    }

    /// In what time reserves of so many watchers tell a new active one that they are there.
    pub(super) fn roll_call(self, watchers: u64) -> Duration {
        let quarters = (watchers / 25).clamp(1, 80);
        self.unit / 4 * u32::try_from(quarters).unwrap_or(80)
    }

    /// How often a reserve of so many watchers says that it is there: those of all together stay at about four a unit.
    pub(super) fn sign_of_life(self, watchers: u64) -> Duration {
        let units = (watchers / 4).clamp(15, 120);
        self.unit * u32::try_from(units).unwrap_or(120)
    }

    /// How long after its last message a watcher in this state counts as one.
    pub(super) fn counted(self, reserve: bool, watchers: u64) -> Duration {
        if reserve { self.sign_of_life(watchers) * 5 / 2 } else { self.silence() }
    }

    /// How long a state of so many bytes that went to so many watchers stands before the next one goes to all.
    pub(super) fn state_rest(self, bytes: usize, watchers: u64) -> Duration {
        let delivered = (bytes as u64).saturating_mul(watchers);
        let eighths = (delivered / (STATE_BYTES_PER_UNIT / 8)).min(80);
        self.unit / 8 * u32::try_from(eighths).unwrap_or(80)
    }
}

/// A source of chance that is a value: the same seed gives the same numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Any part of a time.
    pub(super) fn part_of(&mut self, whole: Duration) -> Duration {
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == 0 { 0 } else { self.next() % nanos })
    }
}
