//! Elections among any number of watchers: the pure machine alone, with messages that take their time, in virtual time.
//!
//! What is counted is what the servers of a real system would deliver.
//!
//! A thousand of them, and as many seeds as are wanted: `cargo run --release --example bench -- elections`.

pub(crate) mod fleet;

use std::collections::BTreeSet;

use metawatch::election::{Notice, PeerMessage, Role};

use fleet::{Fleet, INTERVAL, stamp};

/// A beat to n, every second; four signs of life in two seconds, heard by three; standbys, heard by three.
fn healthy_rate(count: u64) -> u64 {
    count + count / 8 + 30
}

#[test]
fn of_any_number_of_watchers_one_is_active_two_stand_by_and_messages_grow_with_their_number() {
    for (seed, count) in [(1, 1), (2, 2), (3, 3), (4, 8), (5, 30), (6, 150), (7, 400)] {
        // All at once, as after an upgrade: what that costs is what it costs a reserve to join.
        let mut fleet = Fleet::new(seed, count, 50);
        fleet.pass(30_000);
        assert_eq!(fleet.active().len(), 1, "{count}");
        assert_eq!(fleet.with_role(Role::Standby).len(), (count - 1).min(2), "{count}");
        assert_eq!(fleet.with_role(Role::Reserve).len(), count.saturating_sub(3), "{count}");
        let first = fleet.delivered;
        assert!(first <= 60 * count as u64 + 100 * 30, "{count}: {first} deliveries in the first 30 s");
        let rate = fleet.rate(60);
        assert!(rate <= healthy_rate(count as u64), "{count}: {rate} deliveries a second");
        let servers: BTreeSet<usize> = fleet
            .with_role(Role::Standby)
            .into_iter()
            .chain(fleet.active())
            .map(|at| fleet.watchers[at].server)
            .collect();
        assert_eq!(servers.len(), count.min(3), "{count}: each on a server of its own");
        let counted = fleet.watchers[fleet.active()[0]].election.watchers();
        assert_eq!(counted, count as u64);
    }
}

#[test]
fn a_standby_takes_over_within_three_intervals_whatever_the_number() {
    for (seed, count) in [(11, 3), (12, 30), (13, 300)] {
        let mut fleet = Fleet::new(seed, count, 500);
        fleet.pass(60_000);
        for round in 0..3 {
            let active = fleet.active()[0];
            fleet.watchers[active].runs = false;
            let (took, delivered) = fleet.takeover(3 * INTERVAL);
            assert!(took <= INTERVAL * 5 / 2, "{count}: {took} ms");
            assert!(delivered <= 40 * count as u64 + 1_000, "{count}, {round}: {delivered} deliveries");
            fleet.start(active, fleet.now);
            fleet.pass(20_000);
        }
    }
}

#[test]
fn when_the_active_watcher_and_all_standbys_are_lost_at_once_a_reserve_takes_over_within_the_stated_bound() {
    for (seed, count, spread) in
        [(21, 4, 500), (22, 8, 500), (23, 30, 500), (24, 150, 1_000), (25, 300, 2_500)]
    {
        for round in 0..2 {
            let mut fleet = Fleet::new(seed + round, count, 500);
            fleet.pass(40_000);
            fleet.lose_electors();
            // 3 units, the spread, 1 unit and the settling.
            let (took, delivered) = fleet.takeover(4 * INTERVAL + spread + 400);
            assert!(delivered <= 60 * count as u64 + 1_000, "{count}: {delivered} deliveries, {took} ms");
            fleet.pass(60_000);
            assert_eq!(fleet.with_role(Role::Standby).len(), (count - 4).min(2), "{count}");
        }
    }
}

#[test]
fn a_partition_has_one_active_watcher_on_each_side_and_one_when_it_heals() {
    for (seed, count) in [(31, 4), (32, 30), (33, 100)] {
        let mut fleet = Fleet::new(seed, count, 500);
        fleet.pass(60_000);
        fleet.part(|at| at % 3 == 0);
        fleet.pass(30_000);
        let sides: BTreeSet<u8> = fleet.active().iter().map(|at| fleet.watchers[*at].side).collect();
        assert_eq!((fleet.active().len(), sides.len()), (2, 2), "{count}");
        fleet.part(|_| false);
        fleet.pass(2 * INTERVAL);
        assert_eq!(fleet.active().len(), 1, "{count}");
        fleet.pass(120_000);
        let counted = fleet.watchers[fleet.active()[0]].election.watchers();
        assert_eq!(counted, count as u64);
    }
}

#[test]
fn an_active_watcher_that_sees_nothing_or_sends_no_heartbeats_gives_way() {
    let mut fleet = Fleet::new(41, 30, 500);
    fleet.pass(30_000);
    let first = fleet.active()[0];
    fleet.watchers[first].blind = true;
    fleet.pass(INTERVAL);
    let second = fleet.active()[0];
    assert!(second != first && fleet.active().len() == 1, "at once");
    fleet.watchers[first].blind = false;
    fleet.pass(5_000);
    fleet.watchers[second].heartbeats = false;
    fleet.pass(INTERVAL * 3 + 3_000);
    assert!(fleet.merges.is_empty(), "each knew what the one before had told: {:?}", fleet.merges);
    assert!(!fleet.active().contains(&second), "it beats, and that is all");
    assert!(fleet.notices.contains(&(first, Notice::Resigned)), "{:?}", fleet.notices);
    let overtaken = Notice::WithoutHeartbeats(format!("w{second}"));
    assert!(fleet.notices.iter().any(|(_, notice)| *notice == overtaken), "{:?}", fleet.notices);
    fleet.pass(30_000);
    assert_eq!(fleet.active().len(), 1);
}

/// What a stranger says.
fn claim(instance: &str, term: u64, like: &PeerMessage) -> PeerMessage {
    PeerMessage {
        instance: instance.into(),
        name: "stranger".into(),
        term,
        standbys: Vec::new(),
        started_ns: 0,
        ..like.clone()
    }
}

#[test]
fn strangers_that_say_they_are_active_silence_nobody_for_long() {
    for pace in [300, 1_000, 6_000] {
        let mut fleet = Fleet::new(51, 8, 500);
        fleet.pass(30_000);
        let active = fleet.active()[0];
        let like = fleet.beat(active);
        let mut silent = 0;
        for round in 0..600_000 / pace {
            // Another name each time, and the highest term there is.
            let stranger = claim(&format!("x{round}"), (1 << 48) - 1, &like);
            for watcher in &mut fleet.watchers {
                watcher.election.hear(stranger.clone(), stamp(fleet.now));
            }
            fleet.pass(pace);
            silent += if fleet.active().is_empty() { pace } else { 0 };
        }
        assert!(silent <= 30_000, "a claim every {pace} ms: nobody for {silent} ms of ten minutes");
        fleet.pass(30_000);
        assert_eq!(fleet.active().len(), 1, "{pace}");
    }
}

#[test]
fn a_thousand_strangers_that_pretend_to_be_watchers_change_nothing() {
    let mut fleet = Fleet::new(61, 8, 500);
    fleet.pass(30_000);
    let active = fleet.active()[0];
    let like = fleet.beat(active);
    for number in 0..10_000 {
        for role in [Role::Joining, Role::Reserve, Role::Standby, Role::Candidate] {
            let stranger = PeerMessage { role, ..claim(&format!("x{number}"), 1, &like) };
            fleet.watchers[active].election.hear(stranger, stamp(fleet.now));
        }
    }
    assert!(fleet.watchers[active].election.watchers() <= 4_097, "they are not remembered without limit");
    assert!(fleet.watchers[active].election.refused() > 0, "and counted");
    fleet.pass(60_000);
    assert_eq!(fleet.active(), [active]);
}

#[test]
fn a_thousand_strangers_that_say_they_stand_by_keep_nobody_from_taking_over() {
    let mut fleet = Fleet::new(71, 8, 500);
    fleet.pass(30_000);
    let active = fleet.active()[0];
    let like = fleet.beat(active);
    let all_say = |fleet: &mut Fleet| {
        for number in 0..1_000 {
            let said = claim(&format!("x{number}"), 1, &like);
            let stranger = PeerMessage { role: Role::Standby, server: format!("s{}", number % 3), ..said };
            for watcher in fleet.watchers.iter_mut().filter(|watcher| watcher.runs && watcher.hears_all) {
                watcher.election.hear(stranger.clone(), stamp(fleet.now));
            }
        }
        fleet.pass(INTERVAL / 2);
    };
    for _ in 0..20 {
        all_say(&mut fleet);
        assert_eq!(fleet.active(), [active]);
    }
    fleet.watchers[active].runs = false;
    let begin = fleet.now;
    while fleet.active().is_empty() {
        all_say(&mut fleet);
        // As where all standbys are lost, of as many watchers as there seem to be.
        assert!(fleet.now - begin <= 8 * INTERVAL + 400, "nobody for {} ms", fleet.now - begin);
    }
}

/// A seed of random losses, partitions and strangers' words, each of which ends with one active watcher.
#[test]
fn whatever_happens_one_is_active_in_the_end() {
    for seed in 0..12 {
        let mut random = crate::support::Random::new(seed);
        let mut fleet = Fleet::new(seed, 3 + random.below(28), 2_000);
        fleet.pass(20_000);
        for _ in 0..6 {
            let who = random.below(fleet.watchers.len());
            match random.below(5) {
                0 => fleet.lose_electors(),
                1 => fleet.watchers[who].runs = false,
                2 => fleet.part(|at| (at + who).is_multiple_of(3)),
                3 => fleet.part(|_| false),
                _ => fleet.watchers[who].blind ^= true,
            }
            let pause = 500 + random.below(12_000) as i64;
            fleet.pass(pause);
            let dead: Vec<usize> = (0..fleet.watchers.len()).filter(|at| !fleet.watchers[*at].runs).collect();
            dead.into_iter().for_each(|at| fleet.start(at, fleet.now));
        }
        fleet.part(|_| false);
        fleet.watchers.iter_mut().for_each(|watcher| watcher.blind = false);
        fleet.pass(30_000);
        assert_eq!(fleet.active().len(), 1, "seed {seed}");
    }
}
