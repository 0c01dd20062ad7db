//! Several watchers of one system, in random histories: they crash, freeze, restart, lose sight of the servers and of
//! each other, have slow disks and disks that hang, connections that break, and floods of messages, at any moment.
//! Every fault is told, in order, under one incident, whoever is active.
//!
//! The watchers are the real [`metawatch::daemon::Daemon`], which decides everything; what carries its effects out is
//! simulated here: the disk, the connections, the messages between watchers, the clocks and the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metawatch::alert::{LifeRules, State};
use metawatch::company::{Edition, Role, Word};
use metawatch::daemon::{
    AlertLink, Daemon, DeliveryReport, Effect, EpochEnd, LinkNews, Mode, Options, Order, Published, Stored,
    Wake,
};
use metawatch::epoch::{Epoch, Gathered, Heard, Plan};
use metawatch::event::{Monitor, Outgoing, PREFIX};
use metawatch::ledger::Ledger;
use metawatch::outbox::Dispatched;
use metawatch::pipeline::Settings;
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

use crate::model::{Answers, Group, Said, World, server};
use crate::support::Random;

/// One step of the simulated time, in milliseconds.
const TICK: i64 = 25;
const INTERVAL: i64 = 1_000;
const START: i64 = 1_795_380_222_000;
const SERVERS: usize = 5;
/// The message is repeated while the daemon has moved within this time.
const STUCK: i64 = 1_500;

/// A fault of a server: from when to when it was down.
#[derive(Debug)]
struct Fault {
    server: String,
    from: i64,
    to: i64,
}

/// What the tasks of a watcher are about to do.
enum Pending {
    Wake(Wake),
    Connect,
    Epoch(Box<Plan>, Stamp),
    Write(Ledger),
    Tell(Vec<Word>, bool),
    Publish(Vec<Dispatched>, u64, bool),
    Store(Box<Dispatched>, u64),
}

struct Node {
    name: String,
    daemon: Daemon,
    mode: Mode,
    shared: bool,
    /// How far its wall clock is off, in milliseconds.
    skew: i64,
    running: bool,
    frozen: bool,
    blind: bool,
    /// Which side of a partition it is on.
    side: u8,
    tasks: BTreeMap<(i64, u64), Pending>,
    /// The connection for alerts.
    generation: u64,
    /// What a restart finds.
    disk: Ledger,
    /// The disk answers to nothing before this time.
    disk_hangs_until: i64,
    repeated: Option<(Word, i64)>,
    next_repetition: i64,
    stopped: bool,
}

impl Node {
    fn new(name: &str, run: u64, now: i64, skew: i64, disk: Ledger, way: (Mode, bool)) -> Self {
        let life = LifeRules { flap_window: Duration::ZERO, ..LifeRules::default() };
        let rules = Rules { interval: Duration::from_millis(INTERVAL as u64), ..Rules::default() };
        let monitor = Monitor { name: name.into(), version: "0".into(), instance: format!("{name}run{run}") };
        let settings = Settings { rules, life, monitor, prefix: PREFIX.into() };
        let (mode, shared) = way;
        let options = Options {
            settings,
            mode,
            shared,
            timeout: Duration::from_secs(5),
            persistent: true,
            system: None,
        };
        let daemon = Daemon::new(options, Some(disk.clone()), stamp(now, skew));
        let tasks = BTreeMap::from([((now, 0), Pending::Connect)]);
        Self {
            name: name.to_owned(),
            daemon,
            mode,
            shared,
            skew,
            running: true,
            frozen: false,
            blind: false,
            side: 0,
            tasks,
            generation: 1,
            disk,
            disk_hangs_until: 0,
            repeated: None,
            next_repetition: now,
            stopped: false,
        }
    }

    fn moves(&self) -> bool {
        self.running && !self.frozen
    }

    /// Sees the servers, and knows what the active watcher knew last.
    fn is_healthy(&self, newest: Option<&Edition>) -> bool {
        let settled = matches!(self.daemon.role(), Role::Silent | Role::Speaking);
        let knows =
            |(word, _): &(Word, i64)| !word.behind && word.keeps.as_ref() == newest && newest.is_some();
        self.moves() && !self.blind && settled && self.repeated.as_ref().is_some_and(knows)
    }

    fn gathered(&self, world: &World, plan: Plan, opened: Stamp, now: Stamp) -> Gathered {
        let number = plan.number;
        let mut epoch = Epoch::open(plan, opened);
        if self.blind {
            epoch.hear(now, Heard::Disconnected);
        } else {
            for reply in world.jsz() {
                epoch.hear(now, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
            }
        }
        let ended = epoch.ended(now.plus(Duration::from_secs(60))).expect("an end");
        epoch.close(now, ended)
    }
}

fn stamp(now: i64, skew: i64) -> Stamp {
    Stamp::new(now * 1_000_000, (START + now + skew) * 1_000_000)
}

struct Story {
    seed: u64,
    random: Random,
    now: i64,
    order: u64,
    world: World,
    nodes: Vec<Node>,
    faults: Vec<Fault>,
    /// What reached the subscribers, who published it, and when.
    arrived: Vec<(i64, usize, Outgoing)>,
    /// What was announced in a log.
    announced: BTreeSet<String>,
    /// Times without an active watcher, the longest.
    mute_since: Option<i64>,
    longest_mute: i64,
    runs: u64,
    /// What the active watcher knew last.
    newest: Option<Edition>,
    partitions: bool,
    /// Connections break, disks hang, floods come.
    rough: bool,
}

impl Story {
    fn new(seed: u64, watchers: usize) -> Self {
        let mut random = Random::new(seed);
        let mut group = Group::default();
        for index in 0..SERVERS {
            group.servers.push(server(&format!("s{index}"), "c1", "", 15));
            group.members.insert(format!("s{index}"));
        }
        group.leader = Some("s0".into());
        let way = [(Mode::Core, true), (Mode::Core, false), (Mode::JetStream, false)][seed as usize % 3];
        let nodes = (0..watchers)
            .map(|at| {
                let skew = random.below(4_000) as i64 - 2_000;
                Node::new(&format!("w{at}"), 0, random.below(200) as i64, skew, Ledger::default(), way)
            })
            .collect();
        Self {
            seed,
            random,
            now: 0,
            order: 1,
            world: World { groups: vec![group] },
            nodes,
            faults: Vec::new(),
            arrived: Vec::new(),
            announced: BTreeSet::new(),
            mute_since: None,
            longest_mute: 0,
            runs: 0,
            newest: None,
            partitions: false,
            rough: true,
        }
    }

    fn is_down(&self, server: &str) -> bool {
        self.faults.iter().any(|fault| fault.server == server && fault.to == i64::MAX)
    }

    fn set_down(&mut self, server: &str, down: bool) {
        let group = &mut self.world.groups[0];
        let names: Vec<String> = group.servers.iter().map(|server| server.name.clone()).collect();
        for reporter in names.iter().filter(|name| *name != server) {
            group.say(reporter, server, |said| *said = Said { offline: down, ..Said::WELL });
        }
        let known = group.server(server).expect("a server");
        known.answers = if down { Answers::Not } else { Answers::Member };
        if down {
            self.faults.push(Fault { server: server.to_owned(), from: self.now, to: i64::MAX });
        } else if let Some(fault) = self.faults.iter_mut().rfind(|fault| fault.server == server) {
            fault.to = self.now;
        }
    }

    /// A server that is not the leader fails, or comes back after long enough to be told of.
    fn trouble_servers(&mut self) {
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

    fn trouble_watchers(&mut self) {
        if !self.random.one_in(160) {
            return;
        }
        let who = self.random.below(self.nodes.len());
        // One that knows everything stays: what only the dead and the frozen know, nobody can go on with.
        let healthy = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, node)| *at != who && node.is_healthy(self.newest.as_ref()))
            .count();
        let (now, action) = (self.now, self.random.below(4));
        // A takeover is measured from the last thing that happened to anyone.
        self.mute_since = self.mute_since.map(|_| now);
        let node = &mut self.nodes[who];
        if !node.running {
            self.runs += 1;
            let way = (node.mode, node.shared);
            let fresh = Node::new(&node.name, self.runs, now, node.skew, node.disk.clone(), way);
            *node = Node { side: node.side, ..fresh };
        } else if node.frozen || node.blind {
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

    /// A disk hangs, a connection breaks, a flood comes.
    fn trouble_surroundings(&mut self) {
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

    fn break_connection(&mut self, who: usize) {
        self.nodes[who].generation += 1;
        let after = self.random.below(400) as i64;
        self.later(who, after, Pending::Connect);
    }

    /// What strangers write on the subject of the watchers, and requests for verdicts.
    fn flood(&mut self, who: usize) {
        if let Some((word, _)) = self.nodes[who].repeated.clone() {
            let strange = Word { v: 9, instance: "stranger".into(), page: None, ..word };
            self.later(who, 0, Pending::Wake(Wake::Peers(vec![strange; 64])));
        }
        for _ in 0..20 {
            self.later(who, 0, Pending::Wake(Wake::CheckWanted));
        }
    }

    fn later(&mut self, who: usize, after: i64, pending: Pending) {
        self.order += 1;
        self.nodes[who].tasks.insert((self.now + after, self.order), pending);
    }

    fn soon(&mut self) -> i64 {
        if self.rough { self.random.below(4) as i64 * TICK } else { 0 }
    }

    fn wake(&mut self, who: usize, wake: Wake) {
        let node = &mut self.nodes[who];
        if !node.moves() {
            return;
        }
        let now = stamp(self.now, node.skew);
        for effect in node.daemon.handle(wake, now) {
            self.carry_out(who, effect, now);
        }
    }

    fn carry_out(&mut self, who: usize, effect: Effect, now: Stamp) {
        let after = self.soon();
        match effect {
            Effect::OpenEpoch(plan) => self.later(who, after, Pending::Epoch(Box::new(plan), now)),
            Effect::Save(ledger) => {
                let hangs = self.nodes[who].disk_hangs_until - self.now;
                self.later(who, after.max(hangs), Pending::Write(ledger));
            }
            Effect::RepeatToPeers(word) => self.nodes[who].repeated = Some((*word, self.now)),
            Effect::TellPeers(words) => self.later(who, after, Pending::Tell(words, false)),
            Effect::Farewell(word) => self.later(who, after, Pending::Tell(vec![*word], true)),
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
            Effect::Stop => (self.nodes[who].running, self.nodes[who].stopped) = (false, true),
            Effect::Deliver(Order::Heartbeat(_)) | Effect::Ask(_) | Effect::Log(_) => {}
        }
    }

    /// A task of a watcher does what it is to do, and reports.
    fn run_task(&mut self, who: usize, pending: Pending) {
        let node = &mut self.nodes[who];
        let (now, current) = (stamp(self.now, node.skew), node.generation);
        let wake = match pending {
            Pending::Wake(wake) => wake,
            Pending::Connect => {
                let link = AlertLink { generation: current, up: true, max_payload: 1 << 20 };
                Wake::Delivery(DeliveryReport::Link(link))
            }
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
            Pending::Write(ledger) => {
                node.disk = ledger;
                Wake::Saved(Ok(()))
            }
            Pending::Tell(words, last) => {
                if last {
                    node.repeated = None;
                }
                self.send(who, words);
                Wake::PeersTold(true)
            }
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

    fn arrive(&mut self, who: usize, outgoing: Outgoing) {
        self.arrived.push((self.now, who, outgoing));
    }

    fn send(&mut self, from: usize, words: Vec<Word>) {
        for word in words {
            for to in 0..self.nodes.len() {
                if self.nodes[to].side != self.nodes[from].side || !self.nodes[to].running {
                    continue;
                }
                // In order from each to each.
                let from_same = |pending: &Pending| matches!(pending, Pending::Wake(Wake::Peers(words)) if words[0].instance == word.instance);
                let tasks = self.nodes[to].tasks.iter().rev();
                let last = tasks.filter(|(_, pending)| from_same(pending)).map(|((at, _), _)| *at).next();
                let at = (self.now + self.random.below(60) as i64).max(last.unwrap_or(0));
                self.later(to, at - self.now, Pending::Wake(Wake::Peers(vec![word.clone()])));
            }
        }
    }

    fn act(&mut self, who: usize) {
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
        if now.has_reached(node.daemon.next_wake(now)) {
            self.wake(who, Wake::Time);
        }
        let node = &mut self.nodes[who];
        if node.moves() && node.next_repetition <= self.now {
            node.next_repetition = self.now + INTERVAL / 2;
            if let Some((word, since)) = node.repeated.clone()
                && self.now - since < STUCK
            {
                self.send(who, vec![Word { sent_ns: now.steady_ns(), ..word }]);
            }
        }
    }

    fn active(&self) -> Vec<usize> {
        let is_active = |(at, node): (usize, &Node)| {
            (node.moves() && node.daemon.is_active(stamp(self.now, node.skew))).then_some(at)
        };
        self.nodes.iter().enumerate().filter_map(is_active).collect()
    }

    fn tick(&mut self) {
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
        if let Some((word, _)) = active.first().and_then(|at| self.nodes[*at].repeated.as_ref()) {
            self.newest.clone_from(&word.keeps);
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
    fn end(&mut self) {
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
                open, 0,
                "seed {seed}: {open} incidents are open for {}, and nothing is wrong",
                node.name
            );
            let waiting: Vec<_> = node.daemon.outbox().stages().collect();
            assert!(waiting.is_empty(), "seed {seed}: {} still holds {waiting:?}", node.name);
            assert_eq!(node.daemon.outbox().dropped(), 0, "seed {seed}: {} has dropped events", node.name);
            assert_eq!(&node.disk, node.daemon.kept(), "seed {seed}: {} has saved all it knows", node.name);
        }
    }

    /// What reached subscribers of each incident: seq → state, and about which peer.
    fn told(&self) -> BTreeMap<String, (String, BTreeMap<u64, State>)> {
        let seed = self.seed;
        let mut told: BTreeMap<String, (String, BTreeMap<u64, State>)> = BTreeMap::new();
        for (at, who, outgoing) in &self.arrived {
            let event = &outgoing.event;
            let name = event.peer.as_ref().and_then(|peer| peer.name.clone()).expect("a known peer");
            let (_, seen) = told.entry(event.incident.clone()).or_insert_with(|| (name, BTreeMap::new()));
            let before = seen.insert(event.seq, event.state);
            assert!(
                self.partitions || before.is_none_or(|before| before == event.state),
                "seed {seed}: {} stands for two events",
                event.id
            );
            assert!(
                self.partitions || event.seq == 1 || seen.contains_key(&(event.seq - 1)),
                "seed {seed}, {at} ms: w{who} tells {} before the one before it",
                event.id
            );
        }
        told
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
    let told = story.told();
    for (incident, (name, seen)) in &told {
        let seqs: Vec<u64> = seen.keys().copied().collect();
        let without_holes: Vec<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(seqs, without_holes, "seed {seed}: {incident} of {name}: {seen:?}");
        assert_eq!(seen.values().last(), Some(&State::Resolved), "seed {seed}: {incident} of {name} ends");
    }
    for server in (1..SERVERS).map(|at| format!("s{at}")) {
        let fired = |seen: &BTreeMap<u64, State>| seen.values().any(|state| *state == State::Firing);
        let incidents = told.values().filter(|(name, seen)| *name == server && fired(seen)).count();
        let faults = story.faults.iter().filter(|fault| fault.server == server).count();
        assert_eq!(incidents, faults, "seed {seed}: {server}: {:?}\n{told:#?}", story.faults);
    }
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

fn check_partition(seed: u64) {
    let mut story = Story::new(seed, 4);
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
        assert_eq!(story.active().len(), sides.len(), "seed {seed}: one is active on each side");
    }
    story.end();
    // Whoever heard of an incident hears of its end, by its own id or by that of the one it was merged into.
    let resolved = story.arrived.iter().filter(|(_, _, outgoing)| outgoing.event.state == State::Resolved);
    let ended: BTreeSet<&String> = resolved
        .flat_map(|(_, _, outgoing)| std::iter::once(&outgoing.event.incident).chain(&outgoing.event.merged))
        .collect();
    for (at, who, outgoing) in &story.arrived {
        let event = &outgoing.event;
        assert!(ended.contains(&event.incident), "seed {seed}: {} never ends ({at} ms, w{who})", event.id);
    }
}

#[test]
fn in_a_partition_each_side_speaks_and_after_it_every_incident_ends() {
    seeds(8).for_each(check_partition);
}
