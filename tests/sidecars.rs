//! Several watchers of one system, in random histories: they crash, freeze, restart, lose sight of the servers and of
//! each other, have slow disks and disks that hang, connections that break, and floods of messages, at any moment.
//! Every fault is told, in order, under one incident, whoever is active.
//!
//! The watchers are the real [`metawatch::daemon::Daemon`], which decides everything; what carries its effects out is
//! simulated here: the disk, the connections, the messages between watchers, the clocks and the servers.

mod leader;
mod many;
mod node;
mod reserves;
mod story;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metawatch::alert::State;

use story::Story;

/// One step of the simulated time, in milliseconds.
const TICK: i64 = 25;
const INTERVAL: i64 = 1_000;
const START: i64 = 1_795_380_222_000;
const SERVERS: usize = 5;

/// Every fault was told, in order and once, and is over.
fn check_told(story: &Story) {
    let seed = story.seed;
    let told = story.told();
    for (incident, (name, seen)) in &told {
        let seqs: Vec<u64> = seen.keys().copied().collect();
        let without_holes: Vec<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(seqs, without_holes, "seed {seed}: {incident} of {name}: {seen:?}");
        assert_eq!(
            seen.values().last(),
            Some(&State::Resolved),
            "seed {seed}: {incident} of {name} ends: {}",
            story.history_of(incident)
        );
    }
    for server in (1..SERVERS).map(|at| format!("s{at}")) {
        let fired = |seen: &BTreeMap<u64, State>| seen.values().any(|state| *state == State::Firing);
        let incidents = told.values().filter(|(name, seen)| *name == server && fired(seen)).count();
        let faults = story.faults.iter().filter(|fault| fault.server == server).count();
        assert_eq!(incidents, faults, "seed {seed}: {server}: {:?}\n{told:#?}", story.faults);
    }
}

fn check_story(seed: u64) -> i64 {
    let mut story = Story::new(seed, 2 + (seed / 3 % 3) as usize);
    for step in 0..120_000 / TICK {
        if (4_000 / TICK..100_000 / TICK).contains(&step) {
            story.trouble_servers();
            story.trouble_watchers();
            story.trouble_surroundings();
        }
        story.tick();
    }
    story.end();
    check_told(&story);
    story.longest_mute
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let given = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = given("FIRST_SEED").unwrap_or(0);
    first..first + given("SEEDS").unwrap_or(usual)
}

#[test]
fn every_fault_is_told_once_whichever_watcher_dies_freezes_or_goes_blind() {
    let longest = seeds(24).map(check_story).max().expect("a story");
    // Two beats of silence, the settling, and the epoch; never three intervals.
    assert!(longest <= 3 * INTERVAL, "nobody spoke for {longest} ms");
}

/// Whoever heard of an incident hears of its end: the last event of it, or of the one that it was merged into, says
/// that it is over.
fn check_ended(story: &Story) {
    let seed = story.seed;
    let mut last: BTreeMap<&str, (u64, State)> = BTreeMap::new();
    let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, _, outgoing) in &story.arrived {
        let event = &outgoing.event;
        let known = last.entry(&event.incident).or_insert((event.seq, event.state));
        if event.seq >= known.0 {
            *known = (event.seq, event.state);
        }
        merged.extend(event.merged.iter().map(|id| (id.as_str(), event.incident.as_str())));
    }
    let is_over = |id: &str| last.get(id).is_some_and(|(_, state)| *state == State::Resolved);
    for (id, (seq, state)) in &last {
        let goes_on_as = merged.get(id);
        let ended = is_over(id) || goes_on_as.is_some_and(|other| is_over(other));
        assert!(
            ended,
            "seed {seed}: {id} ends as {state:?} with {seq}, {goes_on_as:?}: {}",
            story.history_of(id)
        );
    }
}

/// Where faults come back within the flap window they go on as the same incident, on either side.
fn check_partition(seed: u64, flap_window: Duration) {
    let mut story = Story::with_flap_window(seed, 4, flap_window);
    story.partitions = true;
    for _ in 0..6_000 / TICK {
        story.tick();
    }
    for round in 0..4 {
        for node in &mut story.nodes {
            node.side = u8::from(round % 2 == 0) * story.random.below(2) as u8;
        }
        for step in 0..30_000 / TICK {
            if step < 12_000 / TICK {
                story.trouble_servers();
                story.trouble_surroundings();
            }
            story.tick();
        }
        let sides: BTreeSet<u8> = story.nodes.iter().map(|node| node.side).collect();
        assert_eq!(
            story.active().len(),
            sides.len(),
            "seed {seed}: one is active on each side: {}",
            story.roles()
        );
    }
    story.end();
    check_ended(&story);
}

#[test]
fn in_a_partition_each_side_speaks_and_after_it_every_incident_ends() {
    seeds(6).for_each(|seed| check_partition(seed, Duration::ZERO));
}

#[test]
fn in_partitions_within_the_flap_window_every_incident_of_either_side_ends() {
    seeds(6).for_each(|seed| check_partition(seed, Duration::from_secs(120)));
}
