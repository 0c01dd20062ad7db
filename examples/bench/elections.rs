//! What the election of any number of watchers costs and how long takeovers last, in virtual time: the pure machine
//! alone, as many of it as wanted. Real processes are `bench -- watchers`.

use std::io;

use metawatch::election::Role;

use crate::figures::{progress, say};
use crate::fleet::{Fleet, INTERVAL};

/// How it went for one number of watchers.
#[derive(Default)]
struct Outcome {
    messages: u64,
    asked: f64,
    speakers: usize,
    takeovers: u64,
    slowest: i64,
    all_lost: u64,
    slowest_all_lost: i64,
    partitions: u64,
}

/// Runs so many seeds for each of these numbers of watchers.
pub(crate) fn run(counts: &[usize], seeds: u64) -> io::Result<()> {
    say(&format!(
        "elections in virtual time, interval {} s, {seeds} seeds each; {} s without trouble are counted in each",
        INTERVAL / 1_000,
        HEALTHY / 1_000
    ))?;
    say(
        "| watchers | messages/s of all servers | JSZ an interval a server | speakers | takeovers by a standby, the slowest | by a reserve, the slowest | partitions healed |",
    )?;
    say("|---|---|---|---|---|---|---|")?;
    for count in counts {
        let mut outcome = Outcome::default();
        for seed in 0..seeds {
            progress(&format!("elections: {count} watchers, seed {seed}"));
            one(seed, *count, &mut outcome);
        }
        say(&format!(
            "| {count} | {} | {:.1} | {} | {}, {:.1} s | {}, {:.1} s | {} |",
            outcome.messages,
            outcome.asked,
            outcome.speakers,
            outcome.takeovers,
            outcome.slowest as f64 / 1e3,
            outcome.all_lost,
            outcome.slowest_all_lost as f64 / 1e3,
            outcome.partitions,
        ))?;
    }
    Ok(())
}

/// How long is counted.
const HEALTHY: i64 = 30_000;
/// No takeover lasts longer.
const LIMIT: i64 = 60_000;

fn one(seed: u64, count: usize, outcome: &mut Outcome) {
    let mut fleet = Fleet::new(seed, count, 1_000);
    fleet.pass(40_000);
    let (delivered, asked) = (fleet.delivered, fleet.asked);
    fleet.pass(HEALTHY);
    outcome.messages = outcome.messages.max((fleet.delivered - delivered) / (HEALTHY / 1_000) as u64);
    outcome.asked = outcome.asked.max((fleet.asked - asked) as f64 / (HEALTHY / INTERVAL) as f64);
    outcome.speakers = outcome.speakers.max(fleet.active().len());

    let active = fleet.active()[0];
    fleet.watchers[active].runs = false;
    outcome.slowest = outcome.slowest.max(fleet.takeover(LIMIT).0);
    outcome.takeovers += 1;
    fleet.start(active, fleet.now);
    fleet.pass(20_000);

    if !fleet.with_role(Role::Reserve).is_empty() {
        let lost: Vec<usize> = fleet.active().into_iter().chain(fleet.with_role(Role::Standby)).collect();
        fleet.lose_electors();
        outcome.slowest_all_lost = outcome.slowest_all_lost.max(fleet.takeover(LIMIT).0);
        outcome.all_lost += 1;
        lost.into_iter().for_each(|at| fleet.start(at, fleet.now));
        fleet.pass(20_000);
    }

    fleet.part(|at| at % 3 == 0);
    fleet.pass(30_000);
    let sides = fleet.active().len();
    fleet.part(|_| false);
    fleet.pass(4 * INTERVAL);
    let healed = fleet.active().len();
    outcome.speakers = outcome.speakers.max(healed);
    outcome.partitions += u64::from(sides == 2 && healed == 1);
}
