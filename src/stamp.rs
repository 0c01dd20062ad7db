//! Time as a value. Nothing in the core reads a clock: the shell reads both and passes a [`Stamp`] in.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// One moment, read from two clocks at once.
///
/// Durations are always taken from the steady clock, so a wall clock that jumps never ages an alert; the wall
/// clock is for people and for other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Nanoseconds on a clock that never goes backwards. Its zero is arbitrary and may lie in the future of a
    /// stamp (a remembered one), hence the sign.
    steady_ns: i64,
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    wall_ns: i64,
}

impl Stamp {
    /// A stamp of `steady` (since any fixed zero) and `wall` (since 1970), both in nanoseconds.
    pub fn new(steady_ns: i64, wall_ns: i64) -> Self {
        Self { steady_ns, wall_ns }
    }

    /// How long ago `earlier` was, by the steady clock; zero when it was later.
    pub fn since(self, earlier: Self) -> Duration {
        let elapsed = self.steady_ns.saturating_sub(earlier.steady_ns);
        Duration::from_nanos(u64::try_from(elapsed).unwrap_or(0))
    }

    /// Whether this is `moment` or later, by the steady clock alone.
    pub fn has_reached(self, moment: Self) -> bool {
        self.steady_ns >= moment.steady_ns
    }

    /// The stamp `duration` later, on both clocks.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        Self { steady_ns: self.steady_ns.saturating_add(nanos), wall_ns: self.wall_ns.saturating_add(nanos) }
    }

    /// The wall clock in nanoseconds since 1970.
    pub fn wall_ns(self) -> i64 {
        self.wall_ns
    }

    /// The steady clock in nanoseconds since its zero.
    pub fn steady_ns(self) -> i64 {
        self.steady_ns
    }

    /// The stamp of a wall-clock moment, placed on the steady clock by its distance to `reference`.
    ///
    /// This is how moments that others wrote down (a recording, an event) enter the core.
    pub fn at_wall(wall_ns: i64, reference: Self) -> Self {
        let distance = wall_ns.saturating_sub(reference.wall_ns);
        Self { steady_ns: reference.steady_ns.saturating_add(distance), wall_ns }
    }
}

/// RFC 3339, UTC, milliseconds.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_1970 = Duration::from_nanos(u64::try_from(self.wall_ns).unwrap_or(0));
        humantime::format_rfc3339_millis(UNIX_EPOCH + since_1970).fmt(f)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Nanoseconds since 1970 of an RFC 3339 moment, or `None` when it is none.
pub fn parse_wall_ns(text: &str) -> Option<i64> {
    let (text, ahead_ns) = split_offset(text).unwrap_or((text, 0));
    let moment = humantime::parse_rfc3339_weak(text).ok()?;
    let since_1970 = moment.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_nanos()).ok()?.checked_sub(ahead_ns)
}

/// Parts the offset of a time zone (`+01:00`) from a moment, as nanoseconds ahead of UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let (moment, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some((moment, sign * minutes * 60_000_000_000))
}

/// A duration as people read it: whole seconds from ten on, tenths below, minutes from two on.
pub(crate) fn human_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_does_not_change_a_duration() {
        let before = Stamp::new(1_000_000_000, 500_000_000_000);
        let after = Stamp::new(3_000_000_000, 100_000_000_000);
        assert_eq!(after.since(before), Duration::from_secs(2));
        assert_eq!(before.since(after), Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn no_number_makes_time_wrap_or_panic(
            steady: i64, wall: i64, other: i64, more: u64, nanos in 0_u32..1_000_000_000,
        ) {
            let (stamp, earlier) = (Stamp::new(steady, wall), Stamp::new(other, wall));
            let duration = Duration::new(more, nanos);
            proptest::prop_assert!(stamp.plus(duration).has_reached(stamp));
            proptest::prop_assert!(stamp.since(earlier).is_zero() || stamp.has_reached(earlier));
            proptest::prop_assert_eq!(Stamp::at_wall(other, stamp).wall_ns(), other);
            let placed = Stamp::at_wall(other, stamp).has_reached(stamp);
            proptest::prop_assert_eq!(placed, other >= wall || steady == i64::MIN);
            let read = parse_wall_ns(&stamp.to_string());
            proptest::prop_assert_eq!(read, Some(wall.max(0) / 1_000_000 * 1_000_000));
        }

        #[test]
        fn no_text_makes_a_moment_panic(
            text in ".{0,40}", year in 0_u32..99_999, offset in "[+-][0-9]{2}:[0-9]{2}",
        ) {
            let _ = parse_wall_ns(&text);
            let moment = format!("{year:04}-12-31T23:59:59.999999999{offset}");
            let read = parse_wall_ns(&moment);
            proptest::prop_assert!(read.is_none() || (1969..=2_262).contains(&year), "{moment} is {read:?}");
        }
    }

    #[test]
    fn a_stamp_reads_as_rfc_3339_and_back() {
        let stamp = Stamp::new(0, 1_795_380_222_300_000_000);
        assert_eq!(stamp.to_string(), "2026-11-22T20:43:42.300Z");
        assert_eq!(parse_wall_ns(&stamp.to_string()), Some(stamp.wall_ns()));
        assert_eq!(parse_wall_ns("yesterday"), None);
        assert_eq!(parse_wall_ns("2026-11-22T21:43:42.300+01:00"), Some(stamp.wall_ns()));
        assert_eq!(parse_wall_ns("2026-11-22T15:13:42.300-05:30"), Some(stamp.wall_ns()));
        assert_eq!(Stamp::new(0, i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
    }
}
