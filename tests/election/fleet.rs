//! A system of watchers in virtual time: the pure machine alone, with messages that take their time. What is counted is
//! what the servers of a real system would deliver, and whom each server is asked by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metawatch::election::{Audience, Election, Heard, Me, Notice, PeerMessage, Role};
use metawatch::replicated_state::ReplicatedState;
use metawatch::stamp::Stamp;

use crate::support::Random;

const START: i64 = 1_795_380_222_000;
pub(crate) const INTERVAL: i64 = 2_000;

/// One watcher.
pub(crate) struct Watcher {
    pub(crate) election: Election,
    pub(crate) server: usize,
    pub(crate) runs: bool,
    /// It beats and sees nothing.
    pub(crate) blind: bool,
    pub(crate) hears_all: bool,
    /// Its heartbeats are heard.
    pub(crate) heartbeats: bool,
    pub(crate) wake_at: i64,
    pub(crate) side: u8,
}

/// A system of watchers.
pub(crate) struct Fleet {
    pub(crate) now: i64,
    pub(crate) order: u64,
    pub(crate) random: Random,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) index: BTreeMap<String, usize>,
    /// Messages on their way: when, to whom.
    pub(crate) mail: BTreeMap<(i64, u64), (usize, std::rc::Rc<PeerMessage>)>,
    pub(crate) wakes: BTreeSet<(i64, usize)>,
    pub(crate) delivered: u64,
    /// How often a watcher asked the servers, once in an interval.
    pub(crate) asked: u64,
    /// What was worth a line, and to whom.
    pub(crate) notices: Vec<(usize, Notice)>,
    /// States of others that were merged: when, by whom, whose.
    pub(crate) merges: Vec<(i64, usize, String, ReplicatedState)>,
}

pub(crate) fn stamp(now: i64) -> Stamp {
    Stamp::new(now * 1_000_000, (START + now) * 1_000_000)
}

impl Fleet {
    pub(crate) fn new(seed: u64, count: usize, within: i64) -> Self {
        let mut fleet = Self {
            now: 0,
            order: 0,
            random: Random::new(seed),
            watchers: Vec::new(),
            index: BTreeMap::new(),
            mail: BTreeMap::new(),
            wakes: BTreeSet::new(),
            delivered: 0,
            asked: 0,
            notices: Vec::new(),
            merges: Vec::new(),
        };
        for at in 0..count {
            let starts = fleet.random.below(within.max(1) as usize) as i64;
            fleet.start(at, starts);
        }
        fleet
    }

    pub(crate) fn start(&mut self, at: usize, starts: i64) {
        let instance = format!("w{at}-{starts}");
        self.index.retain(|_, index| *index != at);
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

    pub(crate) fn say(&mut self, from: usize, message: PeerMessage) {
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
    pub(crate) fn act(&mut self, at: usize) {
        let now = stamp(self.now);
        let watcher = &mut self.watchers[at];
        watcher.election.tick(!watcher.blind, now);
        drop(watcher.election.take_unmerged());
        self.notices.extend(watcher.election.take_notices().into_iter().map(|notice| (at, notice)));
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

    pub(crate) fn pass(&mut self, millis: i64) {
        let until = self.now + millis;
        let mut beat = self.now;
        while self.now < until {
            let next_mail = self.mail.first_key_value().map_or(until, |((at, _), _)| *at);
            let next_wake = self.wakes.first().map_or(until, |(at, _)| *at);
            self.now = next_mail.min(next_wake).min(until).max(self.now);
            if self.now >= beat {
                // Whoever is active sends a heartbeat in every interval, and all that look ask the servers.
                beat = self.now + INTERVAL;
                self.heartbeats();
                let looks = |watcher: &&Watcher| watcher.runs && watcher.election.collects(stamp(self.now));
                self.asked += self.watchers.iter().filter(looks).count() as u64;
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

    pub(crate) fn heartbeats(&mut self) {
        for at in self.active() {
            let instance = self.index.iter().find(|(_, index)| **index == at && self.watchers[at].heartbeats);
            let Some(instance) = instance.map(|(name, _)| name.clone()) else { continue };
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.runs) {
                watcher.election.hear_heartbeat(&instance, stamp(self.now));
            }
        }
    }

    /// What this watcher says again and again.
    pub(crate) fn beat(&self, at: usize) -> PeerMessage {
        PeerMessage { leaving: false, ..self.watchers[at].election.farewell(stamp(self.now)) }
    }

    pub(crate) fn with_role(&self, role: Role) -> Vec<usize> {
        let has = |(_, watcher): &(usize, &Watcher)| watcher.runs && watcher.election.role() == role;
        self.watchers.iter().enumerate().filter(has).map(|(at, _)| at).collect()
    }

    pub(crate) fn active(&self) -> Vec<usize> {
        let is_active = |(at, watcher): (usize, &Watcher)| {
            (watcher.runs && watcher.election.is_active(stamp(self.now))).then_some(at)
        };
        self.watchers.iter().enumerate().filter_map(is_active).collect()
    }

    /// The active watcher and its standbys end at once.
    pub(crate) fn lose_electors(&mut self) {
        for at in self.active().into_iter().chain(self.with_role(Role::Standby)) {
            self.watchers[at].runs = false;
        }
    }

    /// Each watcher that this is true of is on the other side.
    pub(crate) fn part(&mut self, is_other: impl Fn(usize) -> bool) {
        for (at, watcher) in self.watchers.iter_mut().enumerate() {
            watcher.side = u8::from(is_other(at));
        }
    }

    /// How long it takes until one is active, and the deliveries until then and for a while after.
    pub(crate) fn takeover(&mut self, limit: i64) -> (i64, u64) {
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
    pub(crate) fn rate(&mut self, seconds: i64) -> u64 {
        let before = self.delivered;
        self.pass(seconds * 1_000);
        (self.delivered - before) / seconds as u64
    }
}
