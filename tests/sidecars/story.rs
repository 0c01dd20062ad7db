//! The servers, the watchers, what happens to them, and what reached the subscribers.

use std::collections::BTreeSet;
use std::time::Duration;

use metawatch::daemon::{
    AlertLink, DeliveryReport, Effect, EpochEnd, LinkNews, Mode, Order, Published, Stored, Wake,
};
use metawatch::election::{Audience, PeerMessage};
use metawatch::event::Outgoing;
use metawatch::outbox::Dispatched;
use metawatch::replicated_state::{ReplicatedState, StateVersion};
use metawatch::stamp::Stamp;

use super::node::{Node, Pending, Way, stamp};
use super::{SERVERS, TICK};
use crate::model::{Answers, Group, Said, World, server};
use crate::support::Random;

/// A fault of a server: from when to when it was down.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) server: String,
    pub(super) from: i64,
    pub(super) to: i64,
}

pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: i64,
    pub(super) order: u64,
    pub(super) world: World,
    pub(super) nodes: Vec<Node>,
    pub(super) faults: Vec<Fault>,
    /// What reached the subscribers, who published it, and when.
    pub(super) arrived: Vec<(i64, usize, Outgoing)>,
    /// What was announced in a log.
    pub(super) announced: BTreeSet<String>,
    /// Times without an active watcher, the longest.
    pub(super) mute_since: Option<i64>,
    pub(super) longest_mute: i64,
    pub(super) runs: u64,
    /// What the active watcher knew last.
    pub(super) newest: Option<StateVersion>,
    pub(super) partitions: bool,
    /// A reserve that knows everything is enough to go on with.
    pub(super) whoever: bool,
    /// Connections break, disks hang, floods come.
    pub(super) rough: bool,
    /// How long a message between watchers takes at most, and which part of them is lost: one of so many.
    pub(super) latency: i64,
    pub(super) loses: Option<usize>,
    /// What was logged, and by whom.
    pub(super) lines: Vec<(usize, String)>,
}

impl Story {
    pub(super) fn new(seed: u64, watchers: usize) -> Self {
        Self::with_flap_window(seed, watchers, Duration::ZERO)
    }

    /// What fires again within this time after its end goes on as the same incident.
    pub(super) fn with_flap_window(seed: u64, watchers: usize, flap_window: Duration) -> Self {
        let mut random = Random::new(seed);
        let mut group = Group::default();
        for index in 0..SERVERS {
            group.servers.push(server(&format!("s{index}"), "c1", "", 15));
            group.members.insert(format!("s{index}"));
        }
        group.leader = Some("s0".into());
        let (mode, shared) =
            [(Mode::Core, true), (Mode::Core, false), (Mode::JetStream, false)][seed as usize % 3];
        let way = Way { mode, shared, flap_window };
        let nodes = (0..watchers)
            .map(|at| {
                let skew = random.below(4_000) as i64 - 2_000;
                Node::new(
                    &format!("w{at}"),
                    0,
                    random.below(200) as i64,
                    skew,
                    ReplicatedState::default(),
                    way,
                )
            })
            .collect();
        Self {
            seed,
            random,
            now: 0,
            order: 1,
            world: World { groups: vec![group], ..World::default() },
            nodes,
            faults: Vec::new(),
            arrived: Vec::new(),
            announced: BTreeSet::new(),
            mute_since: None,
            longest_mute: 0,
            runs: 0,
            newest: None,
            partitions: false,
            whoever: false,
            rough: true,
            latency: 60,
            loses: None,
            lines: Vec::new(),
        }
    }

    pub(super) fn is_down(&self, server: &str) -> bool {
        self.faults.iter().any(|fault| fault.server == server && fault.to == i64::MAX)
    }

    pub(super) fn set_down(&mut self, server: &str, down: bool) {
        let group = &mut self.world.groups[0];
        let names: Vec<String> = group.servers.iter().map(|server| server.name.clone()).collect();
        for reporter in names.iter().filter(|name| *name != server) {
            group.say(reporter, server, |said| *said = Said { offline: down, ..Said::WELL });
        }
        let known = group.server(server).expect("a server");
        known.answers = if down { Answers::Not } else { Answers::Member };
        known.cut = down;
        if down {
            self.faults.push(Fault { server: server.to_owned(), from: self.now, to: i64::MAX });
        } else if let Some(fault) = self.faults.iter_mut().rfind(|fault| fault.server == server) {
            fault.to = self.now;
        }
    }

    /// A server that is not the leader fails, or comes back after long enough to be told of.
    pub(super) fn trouble_servers(&mut self) {
        if !self.random.one_in(120) {
            return;
        }
        let who = format!("s{}", 1 + self.random.below(SERVERS - 1));
        let fault = self.faults.iter().rfind(|fault| fault.server == who);
        let since = fault.map_or(i64::MIN, |fault| if fault.to == i64::MAX { fault.from } else { fault.to });
        let down = self.faults.iter().filter(|fault| fault.to == i64::MAX).count();
        let quorum_stays = self.is_down(&who) || down < SERVERS / 2;
        if quorum_stays && self.now.saturating_sub(since) > 15_000 {
            self.set_down(&who, !self.is_down(&who));
        }
    }

    pub(super) fn trouble_watchers(&mut self) {
        if !self.random.one_in(160) {
            return;
        }
        let who = self.random.below(self.nodes.len());
        // One that knows everything stays: what only the dead and the frozen know, nobody can go on with.
        let side = self.nodes[who].side;
        let newest = if self.partitions { self.newest_of(side) } else { self.newest.clone() };
        let goes_on = |(at, node): &(usize, &Node)| {
            *at != who && node.side == side && node.is_healthy(newest.as_ref(), self.whoever)
        };
        let healthy = self.nodes.iter().enumerate().filter(goes_on).count();
        let action = self.random.below(4);
        // A takeover is measured from the last thing that happened to anyone.
        self.mute_since = self.mute_since.map(|_| self.now);
        if !self.nodes[who].running {
            return self.start_again(who);
        }
        let node = &mut self.nodes[who];
        if node.frozen || node.blind {
            (node.frozen, node.blind) = (false, false);
        } else if healthy > 0 {
            match action {
                0 => node.running = false,
                1 => node.frozen = true,
                2 => node.blind = true,
                _ => self.wake(who, Wake::Shutdown),
            }
        }
    }

    /// What the active watcher of a side of a partition knows.
    fn newest_of(&self, side: u8) -> Option<StateVersion> {
        let active = self.active().into_iter().find(|at| self.nodes[*at].side == side)?;
        self.nodes[active].daemon.version().cloned()
    }

    /// One that ended begins anew, with what its disk holds.
    pub(super) fn start_again(&mut self, who: usize) {
        self.runs += 1;
        let node = &mut self.nodes[who];
        let fresh = Node::new(&node.name, self.runs, self.now, node.skew, node.disk.clone(), node.way);
        *node = Node { side: node.side, ..fresh };
    }

    /// A disk hangs, a connection breaks, a flood comes.
    pub(super) fn trouble_surroundings(&mut self) {
        if !self.rough || !self.random.one_in(80) {
            return;
        }
        let who = self.random.below(self.nodes.len());
        match self.random.below(3) {
            0 => self.nodes[who].disk_hangs_until = self.now + 200 + self.random.below(6_000) as i64,
            1 => self.break_connection(who),
            _ => self.flood(who),
        }
    }

    pub(super) fn break_connection(&mut self, who: usize) {
        self.nodes[who].generation += 1;
        let after = self.random.below(400) as i64;
        self.later(who, after, Pending::Connect);
    }

    /// What strangers write on the subject of the watchers, and requests for verdicts.
    pub(super) fn flood(&mut self, who: usize) {
        let strange = Wake::OtherVersion("stranger".into());
        for _ in 0..64 {
            self.later(who, 0, Pending::Wake(strange.clone()));
        }
        for _ in 0..20 {
            self.later(who, 0, Pending::Wake(Wake::CheckWanted));
        }
    }

    pub(super) fn later(&mut self, who: usize, after: i64, pending: Pending) {
        self.order += 1;
        self.nodes[who].tasks.insert((self.now + after, self.order), pending);
    }

    pub(super) fn soon(&mut self) -> i64 {
        if self.rough { self.random.below(4) as i64 * TICK } else { 0 }
    }

    pub(super) fn wake(&mut self, who: usize, wake: Wake) {
        let node = &mut self.nodes[who];
        if !node.moves() {
            return;
        }
        let now = stamp(self.now, node.skew);
        let effects = node.daemon.handle(wake, now);
        node.wake_at = node.daemon.next_wake(now);
        for effect in effects {
            self.carry_out(who, effect, now);
        }
    }

    pub(super) fn carry_out(&mut self, who: usize, effect: Effect, now: Stamp) {
        let after = self.soon();
        match effect {
            Effect::OpenEpoch(plan) => self.later(who, after, Pending::Epoch(Box::new(plan), now)),
            Effect::Save(state) => {
                let hangs = self.nodes[who].disk_hangs_until - self.now;
                self.later(who, after.max(hangs), Pending::Write(state));
            }
            Effect::SayToPeers(message) => self.later(who, 0, Pending::Say(message)),
            Effect::TellPeers(messages) => self.later(who, after, Pending::Tell(messages)),
            // One after the other.
            Effect::HearAllPeers(all) => self.later(who, TICK, Pending::HearAll(all)),
            Effect::Deliver(Order::Publish { batch, generation, confirm }) => {
                self.later(who, after, Pending::Publish(batch, generation, confirm));
            }
            Effect::Deliver(Order::Confirm { generation }) => {
                let passed = generation == self.nodes[who].generation;
                self.later(
                    who,
                    after,
                    Pending::Wake(Wake::Delivery(DeliveryReport::Confirmed { generation, passed })),
                );
            }
            Effect::Deliver(Order::Store { event, generation }) => {
                self.later(who, after, Pending::Store(event, generation))
            }
            Effect::Announce(event) => {
                self.announced.insert(event.id.clone());
            }
            Effect::Stop => self.nodes[who].running = false,
            Effect::Deliver(Order::Heartbeat(heartbeat)) => {
                self.later(who, after, Pending::Heartbeat(heartbeat.monitor.instance));
            }
            Effect::Log(line) => {
                self.lines.push((who, line.text));
            }
            Effect::Ask(_) => {}
        }
    }

    /// A task of a watcher does what it is to do, and reports.
    pub(super) fn run_task(&mut self, who: usize, pending: Pending) {
        let node = &mut self.nodes[who];
        let (now, current) = (stamp(self.now, node.skew), node.generation);
        let wake = match pending {
            Pending::Wake(wake) => wake,
            Pending::Connect => {
                let link = AlertLink { generation: current, up: true, max_payload: 1 << 20 };
                Wake::Delivery(DeliveryReport::Link(link))
            }
            Pending::Epoch(..) if node.stuck => return,
            Pending::Epoch(plan, opened) => {
                let gathered = node.gathered(&self.world, *plan, opened, now);
                let news: Vec<LinkNews> = Vec::new();
                Wake::Gathered(Box::new(EpochEnd {
                    gathered,
                    generation: current,
                    max_payload: 1 << 14,
                    news,
                }))
            }
            Pending::Write(state) => {
                node.disk = state;
                Wake::Saved(Ok(()))
            }
            Pending::Say(message) => return self.send(who, vec![*message]),
            Pending::Tell(messages) => {
                self.send(who, messages);
                Wake::PeersTold(true)
            }
            Pending::HearAll(all) => {
                node.hears_all = all;
                return;
            }
            Pending::Heartbeat(_) if node.without_heartbeats => return,
            Pending::Heartbeat(instance) => return self.spread_heartbeat(who, &instance),
            Pending::Publish(batch, generation, confirm) => {
                let mut published = Published { generation, ..Published::default() };
                for Dispatched { place, outgoing } in batch {
                    // The connection may break at any of them, and what was sent last may be lost with it.
                    if self.rough && self.random.one_in(40) {
                        self.break_connection(who);
                    }
                    if self.nodes[who].generation == generation {
                        published.handed.push((place, now));
                        self.arrive(who, outgoing);
                    } else if self.random.one_in(2) {
                        published.handed.push((place, now));
                    } else {
                        published.not_taken.push(place);
                    }
                }
                let passed = self.nodes[who].generation == generation;
                self.wake(who, Wake::Delivery(DeliveryReport::Published(published)));
                if !confirm {
                    return;
                }
                Wake::Delivery(DeliveryReport::Confirmed { generation, passed })
            }
            Pending::Store(event, generation) => {
                let Dispatched { place, outgoing } = *event;
                let outcome = if current == generation && !(self.rough && self.random.one_in(5)) {
                    self.arrive(who, outgoing);
                    Stored::Done
                } else {
                    Stored::NotYet { reason: "no leader".into(), hint: "", refused: false }
                };
                Wake::Delivery(DeliveryReport::Stored { place, generation, outcome })
            }
        };
        self.wake(who, wake);
    }

    /// Everybody on the same side hears a heartbeat.
    fn spread_heartbeat(&mut self, from: usize, instance: &str) {
        let side = self.nodes[from].side;
        for to in 0..self.nodes.len() {
            if self.nodes[to].side == side && self.nodes[to].running {
                self.later(to, 0, Pending::Wake(Wake::Heartbeat(instance.to_owned())));
            }
        }
    }

    pub(super) fn arrive(&mut self, who: usize, outgoing: Outgoing) {
        self.arrived.push((self.now, who, outgoing));
    }

    pub(super) fn send(&mut self, from: usize, messages: Vec<PeerMessage>) {
        for message in messages {
            let sent_ns = stamp(self.now, self.nodes[from].skew).steady_ns();
            let message = PeerMessage { sent_ns, server: format!("s{}", from % SERVERS), ..message };
            for to in 0..self.nodes.len() {
                let node = &self.nodes[to];
                let hears = message.audience == Audience::All || node.hears_all || to == from;
                if !hears || node.side != self.nodes[from].side || !node.running {
                    continue;
                }
                if self.loses.is_some_and(|part| self.random.one_in(part)) {
                    continue;
                }
                // In order from each to each.
                let from_same = |pending: &Pending| matches!(pending, Pending::Wake(Wake::Peers(before)) if before[0].instance == message.instance);
                let tasks = self.nodes[to].tasks.iter().rev();
                let last = tasks.filter(|(_, pending)| from_same(pending)).map(|((at, _), _)| *at).next();
                let at = (self.now + self.random.below(self.latency as usize) as i64).max(last.unwrap_or(0));
                self.later(to, at - self.now, Pending::Wake(Wake::Peers(vec![message.clone()])));
            }
        }
    }

    pub(super) fn act(&mut self, who: usize) {
        while let Some(entry) = self.nodes[who].tasks.first_entry()
            && entry.key().0 <= self.now
        {
            if !self.nodes[who].moves() {
                return;
            }
            let (_, pending) = self.nodes[who].tasks.pop_first().expect("a task");
            self.run_task(who, pending);
        }
        let node = &mut self.nodes[who];
        if !node.moves() {
            return;
        }
        let now = stamp(self.now, node.skew);
        if now.has_reached(node.wake_at) {
            self.wake(who, Wake::Time);
        }
    }

    pub(super) fn active(&self) -> Vec<usize> {
        let is_active = |(at, node): (usize, &Node)| {
            (node.moves() && node.daemon.is_active(stamp(self.now, node.skew))).then_some(at)
        };
        self.nodes.iter().enumerate().filter_map(is_active).collect()
    }

    pub(super) fn tick(&mut self) {
        self.now += TICK;
        for who in 0..self.nodes.len() {
            self.act(who);
        }
        let (seed, active) = (self.seed, self.active());
        assert!(
            self.partitions || active.len() <= 1,
            "seed {seed}, {} ms: {active:?} are active at once",
            self.now
        );
        if let Some(active) = active.first() {
            self.newest = self.nodes[*active].daemon.version().cloned();
        }
        match (active.is_empty(), self.mute_since) {
            (true, None) => self.mute_since = Some(self.now),
            (true, Some(_)) => {}
            (false, since) => {
                self.longest_mute = self.longest_mute.max(since.map_or(0, |since| self.now - since));
                self.mute_since = None;
            }
        }
    }

    /// Everything is mended, and stays so for a while.
    pub(super) fn end(&mut self) {
        let seed = self.seed;
        for server in (1..SERVERS).map(|at| format!("s{at}")) {
            if self.is_down(&server) {
                self.set_down(&server, false);
            }
        }
        self.rough = false;
        for node in &mut self.nodes {
            (node.frozen, node.blind, node.side, node.disk_hangs_until) = (false, false, 0, 0);
        }
        for _ in 0..15_000 / TICK {
            self.tick();
        }
        self.partitions = false;
        // What was parked is tried again within half a minute.
        for _ in 0..40_000 / TICK {
            self.tick();
        }
        assert_eq!(self.active().len(), 1, "seed {seed}: one is active in the end");
        for node in self.nodes.iter().filter(|node| node.running) {
            let open = node.daemon.pipeline().alert_table().active().count();
            assert_eq!(
                open,
                0,
                "seed {seed}: {open} incidents are open for {}, and nothing is wrong: {}",
                node.name,
                self.roles()
            );
            let waiting: Vec<_> = node.daemon.outbox().stages().collect();
            assert!(waiting.is_empty(), "seed {seed}: {} still holds {waiting:?}", node.name);
            assert_eq!(node.daemon.outbox().dropped(), 0, "seed {seed}: {} has dropped events", node.name);
            assert_eq!(&node.disk, node.daemon.kept(), "seed {seed}: {} has saved all it knows", node.name);
        }
    }
}
