//! The clocks of the shell: the only place that reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::stamp::Stamp;

/// A sleep of fewer milliseconds is not noticed.
const SLEEP_MIN_MS: u64 = 100;

/// Reads the steady clock, counted from its own making, and the wall clock.
///
/// The steady one is tokio's, so that a test with a paused clock pauses this one too. That clock stands still while the
/// host sleeps; the time that the host has slept is added, so that a lease does not outlive it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// How many milliseconds the host had slept at the start.
    slept_before: i64,
    /// The wall clock at the start, where it shall follow the steady one.
    wall_at_start: Option<i64>,
}

impl Clock {
    /// A clock whose steady part starts now.
    pub fn new() -> Self {
        Self { start: read().0, slept_before: slept_since_boot(), wall_at_start: None }
    }

    /// A clock whose wall part follows the steady one, for tests that pause time.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { wall_at_start: Some(1_795_380_222_300_000_000), ..Self::new() }
    }

    /// This moment.
    pub fn now(&self) -> Stamp {
        let (steady, wall) = read();
        let steady_ns = nanos(steady.duration_since(self.start) + self.slept());
        let read_ns = || nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
        Stamp::new(
            steady_ns,
            self.wall_at_start.map_or_else(read_ns, |start| start.saturating_add(steady_ns)),
        )
    }

    /// The moment of `stamp`, for timers; one before the start of this clock is its start.
    pub fn instant(&self, stamp: Stamp) -> Instant {
        let since_start = Duration::from_nanos(u64::try_from(stamp.steady_ns()).unwrap_or(0));
        self.start + since_start.saturating_sub(self.slept())
    }

    /// How long the host has slept since the start.
    fn slept(&self) -> Duration {
        let slept = slept_since_boot().saturating_sub(self.slept_before);
        // The two clocks are read one after the other: less than this is no sleep.
        Duration::from_millis(u64::try_from(slept).ok().filter(|slept| *slept >= SLEEP_MIN_MS).unwrap_or(0))
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

/// How many milliseconds the host has slept since it was started; zero where that cannot be known.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn slept_since_boot() -> i64 {
    use rustix::time::{ClockId, clock_gettime};
    let millis = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000)
    };
    let (awake, all) = (millis(ClockId::Monotonic), millis(ClockId::Boottime));
    all.saturating_sub(awake)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn slept_since_boot() -> i64 {
    0
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_host_sleeps_passes_for_leases_and_not_for_timers() {
        let hour = Duration::from_secs(3_600);
        let mut clock = Clock::new();
        let before = clock.now();
        let timer = clock.instant(before.plus(hour * 2));
        // The same as an hour of sleep since then.
        clock.slept_before -= 3_600_000;
        let woken = clock.now();
        assert_eq!(woken.since(before), hour);
        assert_eq!(
            timer - clock.instant(before.plus(hour * 2)),
            hour,
            "what is due in two hours is due in one"
        );
        assert_eq!(clock.instant(woken), clock.start);
        // What is less than any sleep comes from reading two clocks one after the other.
        clock.slept_before += 3_600_000 - 50;
        assert_eq!(clock.now().since(before), Duration::ZERO);
    }

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
