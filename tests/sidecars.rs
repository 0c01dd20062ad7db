//! Several watchers of one system, in random histories: they crash, freeze, restart, lose sight of the servers and of
//! each other, at any moment. Every fault is told once, whoever speaks.
//!
//! The watchers are real pipelines and companies; the messages between them, the clocks and the servers are not.
//! What [`metawatch::shell::sidecar`] does between them is done here the same way, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metawatch::alert::{LifeRules, State};
use metawatch::company::{Company, Heard, Me, Role, Word};
use metawatch::epoch::{Epoch, Gathered};
use metawatch::event::Outgoing;
use metawatch::ledger::Ledger;
use metawatch::pipeline::Pipeline;
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

use crate::model::{Answers, Group, Said, World, server};
use crate::support::{Random, pipeline_with};

/// One step of the simulated time, in milliseconds.
const TICK: i64 = 25;
const INTERVAL: i64 = 1_000;
const START: i64 = 1_795_380_222_000;
const SERVERS: usize = 5;

/// A fault of a server: from when to when it was down.
#[derive(Debug)]
struct Fault {
    server: String,
    from: i64,
    to: i64,
}

struct Node {
    pipeline: Pipeline,
    company: Company,
    number: u64,
    /// How far its wall clock is off, in milliseconds.
    skew: i64,
    running: bool,
    frozen: bool,
    blind: bool,
    blind_epochs: u32,
    inherited: Vec<Outgoing>,
    /// Published, and not known to have arrived.
    undelivered: Vec<Outgoing>,
    /// Decided and kept, about to be published.
    decided: Option<(i64, Vec<Outgoing>)>,
    inbox: Vec<(i64, Word)>,
    next_epoch: i64,
    next_word: i64,
    latest: Option<Word>,
    role: Role,
    /// Which side of a partition it is on.
    side: u8,
    /// What a restart finds.
    state: Ledger,
}

impl Node {
    fn new(name: &str, run: u64, now: i64, skew: i64, state: Ledger) -> Self {
        let life = LifeRules { flap_window: Duration::ZERO, ..LifeRules::default() };
        let rules = Rules { interval: Duration::from_millis(INTERVAL as u64), ..Rules::default() };
        let mut pipeline = pipeline_with(rules, life);
        let stamp = stamp(now, skew);
        let me = Me { instance: format!("{name}run{run}"), name: name.into(), started_ns: stamp.wall_ns() };
        let (inherited, refused) = pipeline.adopt(state.clone(), stamp);
        assert_eq!(refused, 0, "what was saved is believed");
        Self {
            pipeline,
            company: Company::new(me, Duration::from_millis(INTERVAL as u64)),
            number: 0,
            skew,
            running: true,
            frozen: false,
            blind: false,
            blind_epochs: 0,
            inherited,
            undelivered: Vec::new(),
            decided: None,
            inbox: Vec::new(),
            next_epoch: now,
            next_word: now,
            latest: None,
            role: Role::Joining,
            side: 0,
            state,
        }
    }

    fn moves(&self) -> bool {
        self.running && !self.frozen
    }

    fn turn(&mut self, now: Stamp) -> bool {
        let before = self.role;
        self.role = self.company.turn(self.blind_epochs < 2, now);
        self.pipeline.set_silent(self.role != Role::Speaking);
        self.role == Role::Speaking && before != Role::Speaking
    }

    fn hear(&mut self, word: Word, now: Stamp) {
        match self.company.hear(word, now) {
            Heard::Nothing => {}
            Heard::Adopt(ledger) => self.inherited = self.pipeline.adopt(ledger, now).0,
            Heard::Merge(ledger) => {
                self.pipeline.merge(ledger, now);
            }
        }
    }

    /// Gives the words to be sent at once.
    fn keep(&mut self, events: &[Outgoing], changed_role: bool, now: Stamp) -> Vec<Word> {
        let waiting: Vec<&Outgoing> = self.inherited.iter().chain(&self.undelivered).chain(events).collect();
        let ledger = self.pipeline.ledger(waiting.into_iter());
        if self.company.keep(ledger) {
            self.state = self.company.ledger().clone();
        }
        self.latest = Some(self.company.word(now));
        if changed_role || self.company.owes_ledger(now) { self.company.words(now) } else { Vec::new() }
    }

    fn gathered(&mut self, world: &World, now: Stamp) -> Gathered {
        self.number += 1;
        let plan = self.pipeline.plan(self.number, now, Duration::from_secs(5));
        let mut epoch = Epoch::open(plan, now);
        if !self.blind {
            for reply in world.jsz() {
                let payload = reply.as_bytes();
                epoch.hear(now, metawatch::epoch::Heard::Jsz { epoch: self.number, payload });
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
    random: Random,
    now: i64,
    world: World,
    nodes: Vec<Node>,
    faults: Vec<Fault>,
    /// Who published what when.
    published: Vec<(i64, usize, Outgoing)>,
    /// Times without a speaker, the longest.
    mute_since: Option<i64>,
    longest_mute: i64,
    runs: u64,
    partitions: bool,
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
        let nodes = (0..watchers)
            .map(|at| {
                let skew = random.below(4_000) as i64 - 2_000;
                Node::new(&format!("w{at}"), 0, random.below(200) as i64, skew, Ledger::default())
            })
            .collect();
        Self {
            random,
            now: 0,
            world: World { groups: vec![group] },
            nodes,
            faults: Vec::new(),
            published: Vec::new(),
            mute_since: None,
            longest_mute: 0,
            runs: 0,
            partitions: false,
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
        let knows = |node: &Node| {
            let settled = matches!(node.role, Role::Silent | Role::Speaking);
            settled && node.latest.as_ref().is_some_and(|word| !word.behind && word.keeps.is_some())
        };
        let healthy = |node: &Node| node.moves() && !node.blind && knows(node);
        let others = self.nodes.iter().enumerate().filter(|(at, node)| *at != who && healthy(node)).count();
        let (now, action) = (self.now, self.random.below(4));
        let node = &mut self.nodes[who];
        if !node.running {
            self.runs += 1;
            let fresh = Node::new(&format!("w{who}"), self.runs, now, node.skew, node.state.clone());
            *node = Node { side: node.side, ..fresh };
        } else if node.frozen || node.blind {
            (node.frozen, node.blind) = (false, false);
        } else if others > 0 {
            match action {
                0 => node.running = false,
                1 => node.frozen = true,
                2 => node.blind = true,
                _ => self.leave(who),
            }
        }
    }

    fn leave(&mut self, who: usize) {
        let now = self.now;
        let node = &mut self.nodes[who];
        node.running = false;
        let word = node.company.farewell(stamp(now, node.skew));
        self.send(who, vec![word]);
    }

    fn send(&mut self, from: usize, words: Vec<Word>) {
        for word in words {
            for to in 0..self.nodes.len() {
                if self.nodes[to].side != self.nodes[from].side || !self.nodes[to].running {
                    continue;
                }
                // In order from each to each.
                let last =
                    self.nodes[to].inbox.iter().rev().find(|(_, earlier)| earlier.instance == word.instance);
                let earliest = last.map_or(0, |(at, _)| *at);
                let at = (self.now + self.random.below(60) as i64).max(earliest);
                self.nodes[to].inbox.push((at, word.clone()));
            }
        }
    }

    fn act(&mut self, who: usize) {
        let now = self.now;
        let node = &mut self.nodes[who];
        if !node.moves() {
            return;
        }
        let at = stamp(now, node.skew);
        let mut words = Vec::new();
        let due: Vec<Word>;
        (due, node.inbox) = {
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut node.inbox).into_iter().partition(|(when, _)| *when <= now);
            (due.into_iter().map(|(_, word)| word).collect(), later)
        };
        for word in due {
            node.hear(word, at);
        }
        if let Some((_, events)) = node.decided.take_if(|(when, _)| *when <= now) {
            // Here it may have been frozen, or cut off.
            if node.company.may_speak(at) {
                let first = std::mem::take(&mut node.inherited);
                let all: Vec<Outgoing> = first.into_iter().chain(events).collect();
                node.undelivered.extend(all.iter().cloned());
                self.published.extend(all.into_iter().map(|event| (now, who, event)));
            }
        } else if node.decided.is_none() {
            let before = node.role;
            let begins = node.turn(at);
            let epoch = node.next_epoch <= now || begins;
            let mut events = Vec::new();
            if epoch {
                node.next_epoch = now + INTERVAL;
                node.undelivered.clear();
                let gathered = node.gathered(&self.world, at);
                let saw = !gathered.delays.is_empty();
                node.blind_epochs = if saw { 0 } else { node.blind_epochs + 1 };
                node.turn(at);
                events = node.pipeline.step(&gathered).events;
            }
            words = node.keep(&events, node.role != before, at);
            if epoch {
                node.decided = Some((now + self.random.below(2) as i64 * TICK, events));
            }
        }
        let node = &mut self.nodes[who];
        if node.next_word <= now {
            node.next_word = now + INTERVAL / 2;
            words.extend(node.latest.clone().map(|word| Word { sent_ns: at.steady_ns(), ..word }));
        }
        self.send(who, words);
    }

    fn speakers(&self) -> Vec<usize> {
        let speaks = |(at, node): (usize, &Node)| {
            (node.moves() && node.company.may_speak(stamp(self.now, node.skew))).then_some(at)
        };
        self.nodes.iter().enumerate().filter_map(speaks).collect()
    }

    fn tick(&mut self, seed: u64) {
        self.now += TICK;
        for who in 0..self.nodes.len() {
            self.act(who);
        }
        let speakers = self.speakers();
        assert!(
            self.partitions || speakers.len() <= 1,
            "seed {seed}, {} ms: {speakers:?} speak at once",
            self.now
        );
        match (speakers.is_empty(), self.mute_since) {
            (true, None) => self.mute_since = Some(self.now),
            (true, Some(_)) => {}
            (false, since) => {
                self.longest_mute = self.longest_mute.max(since.map_or(0, |since| self.now - since));
                self.mute_since = None;
            }
        }
    }

    /// Everything is mended, and stays so for a while.
    fn end(&mut self, seed: u64) {
        for server in (1..SERVERS).map(|at| format!("s{at}")) {
            if self.is_down(&server) {
                self.set_down(&server, false);
            }
        }
        for node in &mut self.nodes {
            (node.frozen, node.blind, node.side) = (false, false, 0);
        }
        for _ in 0..15_000 / TICK {
            self.tick(seed);
        }
        self.partitions = false;
        for _ in 0..5_000 / TICK {
            self.tick(seed);
        }
        assert_eq!(self.speakers().len(), 1, "seed {seed}: one speaks in the end");
        for node in self.nodes.iter().filter(|node| node.running) {
            let open = node.pipeline.book().active().count();
            assert_eq!(open, 0, "seed {seed}: {open} incidents are open in a ledger, and nothing is wrong");
        }
    }

    /// What was published of each incident: seq → state, and about which peer.
    fn told(&self, seed: u64) -> BTreeMap<String, (String, BTreeMap<u64, State>)> {
        let mut told: BTreeMap<String, (String, BTreeMap<u64, State>)> = BTreeMap::new();
        for (_, _, outgoing) in &self.published {
            let event = &outgoing.event;
            let name = event.peer.as_ref().and_then(|peer| peer.name.clone()).expect("a known peer");
            let (_, seen) = told.entry(event.incident.clone()).or_insert_with(|| (name, BTreeMap::new()));
            let before = seen.insert(event.seq, event.state);
            assert!(
                self.partitions || before.is_none_or(|before| before == event.state),
                "seed {seed}: {} stands for two events",
                event.id
            );
        }
        told
    }
}

fn check_story(seed: u64) -> i64 {
    let mut story = Story::new(seed, 2 + (seed % 3) as usize);
    for step in 0..120_000 / TICK {
        if (4_000 / TICK..100_000 / TICK).contains(&step) {
            story.trouble_servers();
            story.trouble_watchers();
        }
        story.tick(seed);
    }
    story.end(seed);
    let told = story.told(seed);
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

fn seeds(usual: u64) -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

#[test]
fn every_fault_is_told_once_whichever_watcher_dies_freezes_or_goes_blind() {
    let longest = (0..seeds(40)).map(check_story).max().expect("a story");
    // Two beats of silence, the settling, and the epoch; never three intervals.
    assert!(longest <= 3 * INTERVAL, "nobody spoke for {longest} ms");
}

fn check_partition(seed: u64) {
    let mut story = Story::new(seed, 4);
    story.partitions = true;
    for _ in 0..6_000 / TICK {
        story.tick(seed);
    }
    for round in 0..4 {
        for node in &mut story.nodes {
            node.side = u8::from(round % 2 == 0) * story.random.below(2) as u8;
        }
        for step in 0..30_000 / TICK {
            if step < 12_000 / TICK {
                story.trouble_servers();
            }
            story.tick(seed);
        }
        let sides: BTreeSet<u8> = story.nodes.iter().map(|node| node.side).collect();
        assert_eq!(story.speakers().len(), sides.len(), "seed {seed}: one speaks on each side");
    }
    story.end(seed);
    // Whoever heard of an incident hears of its end, by its own id or by that of the one it was merged into.
    let resolved = story.published.iter().filter(|(_, _, outgoing)| outgoing.event.state == State::Resolved);
    let ended: BTreeSet<&String> = resolved
        .flat_map(|(_, _, outgoing)| std::iter::once(&outgoing.event.incident).chain(&outgoing.event.merged))
        .collect();
    for (at, who, outgoing) in &story.published {
        let event = &outgoing.event;
        assert!(ended.contains(&event.incident), "seed {seed}: {} never ends ({at} ms, w{who})", event.id);
    }
}

#[test]
fn in_a_partition_each_side_speaks_and_after_it_every_incident_ends() {
    (0..seeds(10)).for_each(check_partition);
}
