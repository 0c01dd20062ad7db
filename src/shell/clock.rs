//! The clocks of the shell: the only place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::stamp::Stamp;

/// Reads the steady clock, counted from its own making, and the wall clock.
///
/// The steady one is tokio's, so that a test with a paused clock pauses this one too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The wall clock at the start, where it shall follow the steady one.
    wall_at_start: Option<i64>,
}

impl Clock {
    /// A clock whose steady part starts now.
    pub fn new() -> Self {
        Self { start: read().0, wall_at_start: None }
    }

    /// A clock whose wall part follows the steady one, for tests that pause time.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { wall_at_start: Some(1_795_380_222_300_000_000), ..Self::new() }
    }

    /// This moment.
    pub fn now(&self) -> Stamp {
        let (steady, wall) = read();
        let steady_ns = nanos(steady.duration_since(self.start));
        let read_ns = || nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
        Stamp::new(
            steady_ns,
            self.wall_at_start.map_or_else(read_ns, |start| start.saturating_add(steady_ns)),
        )
    }

    /// The moment of `stamp`, for timers; one before the start of this clock is its start.
    pub fn instant(&self, stamp: Stamp) -> Instant {
        self.start + Duration::from_nanos(u64::try_from(stamp.steady_ns()).unwrap_or(0))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
fn read() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stamp_becomes_the_instant_it_was_read_at() {
        let clock = Clock::new();
        let before = clock.now();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let after = clock.now();
        assert_eq!(after.since(before), Duration::from_millis(1500));
        assert_eq!(clock.instant(after) - clock.instant(before), Duration::from_millis(1500));
        assert_eq!(clock.instant(Stamp::new(-5, 0)), clock.instant(Stamp::new(0, 0)));
    }
}
