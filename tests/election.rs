//! Elections among any number of watchers: the pure machine alone, with messages that take their time, in virtual time.
//!
//! What is counted is what the servers of a real system would deliver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metawatch::election::{Audience, Election, Heard, Me, PeerMessage, Role};
use metawatch::replicated_state::ReplicatedState;
use metawatch::stamp::Stamp;

use crate::support::Random;

const START: i64 = 1_795_380_222_000;
const INTERVAL: i64 = 2_000;

struct Watcher {
    election: Election,
    server: usize,
    runs: bool,
    /// It beats and sees nothing.
    blind: bool,
    hears_all: bool,
    /// Its heartbeats are heard.
    heartbeats: bool,
    wake_at: i64,
    side: u8,
}

/// A system of watchers.
struct Fleet {
    now: i64,
    order: u64,
    random: Random,
    watchers: Vec<Watcher>,
    index: BTreeMap<String, usize>,
    /// Messages on their way: when, to whom.
    mail: BTreeMap<(i64, u64), (usize, std::rc::Rc<PeerMessage>)>,
    wakes: BTreeSet<(i64, usize)>,
    delivered: u64,
    /// States of others that were merged: when, by whom, whose.
    merges: Vec<(i64, usize, String, ReplicatedState)>,
}

fn stamp(now: i64) -> Stamp {
    Stamp::new(now * 1_000_000, (START + now) * 1_000_000)
}

impl Fleet {
    fn new(seed: u64, count: usize, within: i64) -> Self {
        let mut fleet = Self {
            now: 0,
            order: 0,
            random: Random::new(seed),
            watchers: Vec::new(),
            index: BTreeMap::new(),
            mail: BTreeMap::new(),
            wakes: BTreeSet::new(),
            delivered: 0,
            merges: Vec::new(),
        };
        for at in 0..count {
            let starts = fleet.random.below(within.max(1) as usize) as i64;
            fleet.start(at, starts);
        }
        fleet
    }

    fn start(&mut self, at: usize, starts: i64) {
        let instance = format!("w{at}-{starts}");
        let seed = self.random.below(1 << 30) as u64;
        let me = Me { instance: instance.clone(), name: format!("w{at}"), started_ns: START + starts, seed };
        let election = Election::new(
            me,
            Duration::from_millis(INTERVAL as u64),
            ReplicatedState::default(),
            stamp(starts),
        );
        let watcher = Watcher {
            election,
            server: at % 3,
            runs: true,
            blind: false,
            hears_all: false,
            heartbeats: true,
            wake_at: starts,
            side: 0,
        };
        self.index.insert(instance, at);
        self.wakes.insert((starts, at));
        if at < self.watchers.len() { self.watchers[at] = watcher } else { self.watchers.push(watcher) }
    }

    fn say(&mut self, from: usize, message: PeerMessage) {
        let sender = &self.watchers[from];
        let (side, server) = (sender.side, sender.server);
        let message = PeerMessage { server: format!("s{server}"), ..message };
        let message = std::rc::Rc::new(message);
        for to in 0..self.watchers.len() {
            let hearer = &self.watchers[to];
            let hears = message.audience == Audience::All || hearer.hears_all || to == from;
            if hears && hearer.runs && hearer.side == side {
                self.order += 1;
                self.delivered += 1;
                let delay = 1 + self.random.below(4) as i64;
                self.mail.insert((self.now + delay, self.order), (to, message.clone()));
            }
        }
    }

    /// What the daemon does on every wake.
    fn act(&mut self, at: usize) {
        let now = stamp(self.now);
        let watcher = &mut self.watchers[at];
        watcher.election.tick(!watcher.blind, now);
        drop(watcher.election.take_unmerged());
        let mut messages = match watcher.election.state_messages(now, 1 << 20) {
            Some(messages) => messages.expect("room"),
            None => Vec::new(),
        };
        messages.extend(watcher.election.due_message(now));
        watcher.hears_all = watcher.election.hears_all();
        let wake_at = watcher.election.next_tick(now).steady_ns() / 1_000_000;
        self.wakes.remove(&(watcher.wake_at, at));
        watcher.wake_at = wake_at.max(self.now + 1);
        self.wakes.insert((watcher.wake_at, at));
        for message in messages {
            self.say(at, message);
        }
    }

    fn pass(&mut self, millis: i64) {
        let until = self.now + millis;
        let mut beat = self.now;
        while self.now < until {
            let next_mail = self.mail.first_key_value().map_or(until, |((at, _), _)| *at);
            let next_wake = self.wakes.first().map_or(until, |(at, _)| *at);
            self.now = next_mail.min(next_wake).min(until).max(self.now);
            if self.now >= beat {
                // Whoever is active sends a heartbeat in every interval.
                beat = self.now + INTERVAL;
                self.heartbeats();
            }
            while let Some(entry) = self.mail.first_entry()
                && entry.key().0 <= self.now
            {
                let (to, message) = entry.remove();
                if self.watchers[to].runs {
                    let heard = self.watchers[to].election.hear((*message).clone(), stamp(self.now));
                    if let Heard::Merge(state) = heard {
                        self.merges.push((self.now, to, message.name.clone(), state));
                    }
                    self.act(to);
                }
            }
            while let Some((at, who)) = self.wakes.first().copied()
                && at <= self.now
            {
                self.wakes.pop_first();
                if self.watchers[who].runs {
                    self.act(who);
                }
            }
        }
    }

    fn heartbeats(&mut self) {
        for at in self.active() {
            let instance = self.index.iter().find(|(_, index)| **index == at && self.watchers[at].heartbeats);
            let Some(instance) = instance.map(|(name, _)| name.clone()) else { continue };
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.runs) {
                watcher.election.hear_heartbeat(&instance, stamp(self.now));
            }
        }
    }

    /// What this watcher says again and again.
    fn beat(&self, at: usize) -> PeerMessage {
        PeerMessage { leaving: false, ..self.watchers[at].election.farewell(stamp(self.now)) }
    }

    fn with_role(&self, role: Role) -> Vec<usize> {
        let has = |(_, watcher): &(usize, &Watcher)| watcher.runs && watcher.election.role() == role;
        self.watchers.iter().enumerate().filter(has).map(|(at, _)| at).collect()
    }

    fn active(&self) -> Vec<usize> {
        let is_active = |(at, watcher): (usize, &Watcher)| {
            (watcher.runs && watcher.election.is_active(stamp(self.now))).then_some(at)
        };
        self.watchers.iter().enumerate().filter_map(is_active).collect()
    }

    /// How long it takes until one is active, and the deliveries until then and for a while after.
    fn takeover(&mut self, limit: i64) -> (i64, u64) {
        let (begin, delivered) = (self.now, self.delivered);
        while self.active().is_empty() {
            assert!(self.now - begin <= limit, "nobody for {limit} ms");
            self.pass(10);
        }
        let took = self.now - begin;
        self.pass(INTERVAL * 4);
        assert_eq!(self.active().len(), 1);
        (took, self.delivered - delivered)
    }

    /// The deliveries in each second of a while.
    fn rate(&mut self, seconds: i64) -> u64 {
        let before = self.delivered;
        self.pass(seconds * 1_000);
        (self.delivered - before) / seconds as u64
    }
}

/// A beat to n, every second; four signs of life in two seconds, heard by three; standbys, heard by three.
fn healthy_rate(count: u64) -> u64 {
    count + count / 8 + 30
}

#[test]
fn of_any_number_of_watchers_one_is_active_two_stand_by_and_messages_grow_with_their_number() {
    for (seed, count) in [(1, 1), (2, 2), (3, 3), (4, 8), (5, 30), (6, 150), (7, 1_000)] {
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
    for (seed, count) in [(11, 3), (12, 30), (13, 1_000)] {
        let mut fleet = Fleet::new(seed, count, 500);
        fleet.pass(60_000);
        for round in 0..4 {
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
        [(21, 4, 500), (22, 8, 500), (23, 30, 500), (24, 150, 1_000), (25, 1_000, 8_000)]
    {
        for round in 0..3 {
            let mut fleet = Fleet::new(seed + round, count, 500);
            fleet.pass(60_000);
            for at in fleet.active().into_iter().chain(fleet.with_role(Role::Standby)) {
                fleet.watchers[at].runs = false;
            }
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
    for (seed, count) in [(31, 4), (32, 30), (33, 300)] {
        let mut fleet = Fleet::new(seed, count, 500);
        fleet.pass(60_000);
        for at in 0..count {
            fleet.watchers[at].side = u8::from(at % 3 == 0);
        }
        fleet.pass(30_000);
        let sides: BTreeSet<u8> = fleet.active().iter().map(|at| fleet.watchers[*at].side).collect();
        assert_eq!((fleet.active().len(), sides.len()), (2, 2), "{count}");
        fleet.watchers.iter_mut().for_each(|watcher| watcher.side = 0);
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
