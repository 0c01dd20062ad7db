//! Whether a watcher works, and whether it can be relied on: what `/healthz` and `/readyz` say.
//!
//! Neither depends on how the servers are: a watcher that sees a dead cluster is healthy, and one that sees two of three
//! servers is ready.

use std::time::Duration;

use crate::stamp::human_duration;

/// A watcher that has not turned its loop for so long hangs. It turns it every few seconds when nothing happens.
pub const STALLED: Duration = Duration::from_secs(30);
/// A watcher whose last complete epoch is older than so many intervals is not ready.
pub const INTERVALS: u32 = 3;

/// What a watcher knows of itself each time that its loop turns.
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    /// The time between two epochs, as it was asked for.
    pub interval: Duration,
    /// How long ago the last complete epoch ended; `None` when there was none.
    pub complete: Option<Duration>,
    /// It stands by, and hears the active watcher.
    pub follows: bool,
    /// An epoch does not end: it sees nothing any more.
    pub stuck: bool,
}

/// Whether it works: `Err` holds one sentence for people. `age` is how long ago the loop turned and told `vitals`;
/// `None` while there was no connection yet.
///
/// # Errors
///
/// Its loop hangs, or its epochs do not end.
pub fn health(vitals: Option<&Vitals>, age: Duration) -> Result<(), String> {
    match vitals {
        Some(_) if age > STALLED => {
            Err(format!("the watcher has done nothing for {}: it hangs", human_duration(age)))
        }
        Some(Vitals { stuck: true, .. }) => Err("an epoch does not end: it sees nothing any more".to_owned()),
        _ => Ok(()),
    }
}

/// Whether it can be relied on: `Err` holds one sentence for people. The arguments are those of [`health`].
///
/// # Errors
///
/// It has not seen its servers lately, and stands by for nobody who does.
pub fn readiness(vitals: Option<&Vitals>, age: Duration) -> Result<(), String> {
    health(vitals, age)?;
    let Some(Vitals { interval, complete, follows, .. }) = vitals else {
        return Err("no server has been reached yet".to_owned());
    };
    let limit = *interval * INTERVALS;
    match complete.map(|complete| complete + age) {
        _ if *follows => Ok(()),
        None => Err("there was no complete epoch yet: no server has answered".to_owned()),
        Some(since) if since > limit => Err(format!(
            "the last complete epoch ended {} ago, longer than {INTERVALS} intervals ({})",
            human_duration(since),
            human_duration(limit)
        )),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_watcher_without_servers_is_healthy_and_not_ready() {
        let vitals = |complete, follows| Vitals { interval: seconds(2), complete, follows, stuck: false };
        let none = "no server has been reached yet";
        let never = "there was no complete epoch yet: no server has answered";
        let old = "the last complete epoch ended 7.0 s ago, longer than 3 intervals (6.0 s)";
        for (vitals, age, ready) in [
            (None, 0, Err(none)),
            (None, 3_600, Err(none)),
            (Some(vitals(None, false)), 0, Err(never)),
            (Some(vitals(Some(seconds(0)), false)), 0, Ok(())),
            (Some(vitals(Some(seconds(6)), false)), 0, Ok(())),
            (Some(vitals(Some(seconds(7)), false)), 0, Err(old)),
            (Some(vitals(Some(seconds(4)), false)), 3, Err(old)),
            (Some(vitals(Some(seconds(7)), true)), 0, Ok(())),
            (Some(vitals(None, true)), 0, Ok(())),
        ] {
            let told = readiness(vitals.as_ref(), seconds(age));
            assert_eq!(
                told.as_ref().map_err(String::as_str),
                ready.as_ref().map_err(|text| *text),
                "{vitals:?}"
            );
            assert_eq!(health(vitals.as_ref(), seconds(age)), Ok(()), "{vitals:?}");
        }
    }

    #[test]
    fn a_watcher_that_hangs_is_neither() {
        let vitals =
            Vitals { interval: seconds(3_600), complete: Some(seconds(0)), follows: true, stuck: false };
        let stuck = Vitals { stuck: true, ..vitals };
        assert!(health(Some(&stuck), seconds(0)).is_err_and(|why| why.contains("does not end")));
        for told in [health(Some(&vitals), seconds(31)), readiness(Some(&vitals), seconds(31))] {
            assert_eq!(told, Err("the watcher has done nothing for 31 s: it hangs".to_owned()));
        }
    }
}
