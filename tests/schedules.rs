//! One watcher in random schedules: its own modules, and everything around it made up. The process stalls, the disk
//! hangs or fails, the connection breaks, refuses and floods, a stream takes only some of what it is given, servers die
//! and come back. Whatever happens, nothing that was decided is lost without a word, and no epoch is opened late.
//!
//! `METAWATCH_SCHEDULES=20000 cargo test --test metawatch -- schedules::` runs more of them; `METAWATCH_SCHEDULE=17`
//! runs that one alone. Several watchers and their takeovers are the matter of `sidecars`.

mod delivery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use metawatch::alert::{LifeRules, State};
use metawatch::daemon::{Daemon, Effect, EpochEnd, Level, LinkNews, Mode, Options, Wake};
use metawatch::diagnosis::Replies;
use metawatch::election::PeerMessage;
use metawatch::epoch::{Epoch, Gathered, Heard, Plan};
use metawatch::event::{AlertEvent, Heartbeat, Monitor, Outgoing, PREFIX};
use metawatch::name::PeerId;
use metawatch::outbox::Dispatched;
use metawatch::pipeline::Settings;
use metawatch::replicated_state::ReplicatedState;
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

use crate::support::Random;

const START: i64 = 1_795_380_222_000;
const INTERVAL: i64 = 1_000;
/// For so long things happen at random, and for so long everything works again after that.
const TROUBLE: i64 = 20_000;
const CALM: i64 = 20_000;
/// So many wakes at one moment are a loop without an end.
const AT_ONCE_MAX: usize = 5_000;

fn stamp(millis: i64) -> Stamp {
    Stamp::new(millis * 1_000_000, (START + millis) * 1_000_000)
}

struct Gathering {
    opened: i64,
    ends: i64,
    over: (u64, bool),
    plan: Plan,
}

/// What goes on around the watcher, and what came of it.
struct Schedule {
    seed: u64,
    random: Random,
    daemon: Daemon,
    options: Options,
    /// Its disk is sound, and it is killed and started again now and then.
    mortal: bool,
    now: i64,
    /// What will wake it, in order of time; equal times in the order of their making.
    queue: BTreeMap<(i64, u64), Wake>,
    made: u64,
    /// Who is down.
    down: BTreeSet<usize>,
    /// The epoch that is open: since when, until when, over which connection.
    gathering: Option<Gathering>,
    opened: i64,
    /// What is written to the disk, and when it is there.
    written: Vec<(i64, ReplicatedState)>,
    /// The disk takes nothing until then, and what it was given meanwhile.
    hangs_until: i64,
    said: Option<PeerMessage>,
    generation: u64,
    up: bool,
    refused: bool,
    /// What a client took and the server has not: of the present connection.
    under_way: VecDeque<Dispatched>,
    news: Vec<LinkNews>,
    decided: Vec<AlertEvent>,
    arrived: Vec<Outgoing>,
    last_heartbeat: Option<Heartbeat>,
    lines: Vec<(Level, String)>,
    restarts: usize,
    /// What earlier runs dropped.
    dropped_before: u64,
    leaving: bool,
    farewell: bool,
    stopped: Option<i64>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mode = if random.one_in(3) { Mode::JetStream } else { Mode::Core };
        let shared = mode == Mode::Core && random.one_in(2);
        let rules = Rules { interval: Duration::from_millis(INTERVAL as u64), ..Rules::default() };
        let monitor = Monitor { name: "w".into(), version: "0".into(), instance: "i".into() };
        let settings = Settings { rules, life: LifeRules::default(), monitor, prefix: PREFIX.into() };
        let timeout = Duration::from_secs(2);
        let mortal = random.one_in(3);
        let persistent = mortal || !random.one_in(4);
        let options =
            Options { settings, system: None, mode, shared, timeout, persistent, peer_limit: 1 << 20 };
        Self {
            seed,
            random,
            daemon: Daemon::new(options.clone(), None, stamp(0)),
            options,
            mortal,
            now: 0,
            queue: BTreeMap::new(),
            made: 0,
            down: BTreeSet::new(),
            gathering: None,
            opened: 0,
            written: Vec::new(),
            hangs_until: 0,
            said: None,
            generation: 0,
            up: false,
            refused: false,
            under_way: VecDeque::new(),
            news: Vec::new(),
            decided: Vec::new(),
            arrived: Vec::new(),
            last_heartbeat: None,
            lines: Vec::new(),
            restarts: 0,
            dropped_before: 0,
            leaving: false,
            farewell: false,
            stopped: None,
        }
    }

    fn later(&mut self, after: i64, wake: Wake) {
        self.made += 1;
        self.queue.insert((self.now + after, self.made), wake);
    }

    fn within(&mut self, limit: i64) -> i64 {
        self.random.below(limit as usize) as i64
    }

    fn wake(&mut self, wake: Wake) {
        let effects = self.daemon.handle(wake, stamp(self.now));
        let opens = effects.iter().any(|effect| matches!(effect, Effect::OpenEpoch(_)));
        let due = self.gathering.is_none() && self.now - self.opened >= INTERVAL && !self.leaving;
        assert!(
            !due || opens,
            "schedule {}: at {} no epoch opened in the first call: {:?}",
            self.seed,
            self.now,
            self.daemon.role()
        );
        for effect in effects {
            self.carry_out(effect);
        }
        assert!(self.daemon.outbox().iter().count() <= 10_000);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::OpenEpoch(plan) => {
                assert!(self.gathering.is_none(), "schedule {}: one epoch at a time", self.seed);
                let slow = self.random.one_in(10);
                let takes = 5 + self.within(if slow { 1_500 } else { 60 });
                self.opened = self.now;
                let (opened, ends, over) = (self.now, self.now + takes, (self.generation, self.up));
                self.gathering = Some(Gathering { opened, ends, over, plan });
            }
            Effect::Save(state) => self.save(state),
            Effect::SayToPeers(message) => {
                let after = self.within(50);
                self.said = Some(*message.clone());
                self.later(after, Wake::Peers(vec![*message]));
            }
            Effect::HearAllPeers(_) => {}
            Effect::TellPeers(messages) if messages.iter().any(|message| message.leaving) => {
                self.farewell = true;
                let after = self.within(40);
                self.later(after, Wake::PeersTold(true));
            }
            Effect::TellPeers(messages) => {
                let (after, told) = (self.within(40), !self.random.one_in(20));
                self.later(after, Wake::PeersTold(told));
                if told {
                    self.later(after, Wake::Peers(messages));
                }
            }
            Effect::Deliver(order) => self.deliver(order),
            Effect::Announce(event) => self.decided.push(*event),
            Effect::Log(line) => self.lines.push((line.level, line.text)),
            Effect::Stop => {
                self.stopped.get_or_insert(self.now);
            }
            Effect::Ask(follow_up) => {
                let after = 1 + self.within(2_000);
                self.later(after, Wake::Answered(Box::new((follow_up, Replies::default()))));
            }
        }
    }

    fn save(&mut self, state: ReplicatedState) {
        let hangs = (self.hangs_until - self.now).max(0);
        let after = hangs + self.within(if self.mortal { 80 } else { 20 });
        if self.now < TROUBLE && !self.mortal && self.random.one_in(20) {
            return self.later(after, Wake::Saved(Err("the disk is full".to_owned())));
        }
        let there = self.written.iter().rposition(|(at, _)| *at <= self.now).unwrap_or(0);
        self.written.drain(..there);
        self.written.push((self.now + after, state));
        self.later(after, Wake::Saved(Ok(())));
    }

    fn end_epoch(&mut self, Gathering { opened, over, plan, .. }: Gathering) {
        let connected = !self.options.shared || (over == (self.generation, self.up) && self.up);
        let gathered = self.gather(opened, plan, connected);
        if self.options.shared && connected {
            self.take_in();
        }
        let generation = self.generation;
        let news = std::mem::take(&mut self.news);
        let end = EpochEnd { gathered, generation, max_payload: 1 << 20, news };
        self.wake(Wake::Gathered(Box::new(end)));
    }

    fn gather(&self, opened: i64, plan: Plan, connected: bool) -> Gathered {
        let (number, now) = (plan.number, stamp(self.now));
        let mut epoch = Epoch::open(plan, stamp(opened));
        if !connected {
            epoch.hear(now, Heard::Disconnected);
        }
        let leader = PeerId::of_server("s0");
        let rows: Vec<String> = (1..4)
            .map(|peer| {
                let (name, down) = (format!("s{peer}"), self.down.contains(&peer));
                let (id, flag) = (PeerId::of_server(&name), if down { r#""offline":true,"# } else { "" });
                let (current, age) = if down { (false, 9_000_000_000_i64) } else { (true, 500_000_000) };
                format!(r#"{{"name":"{name}","current":{current},{flag}"active":{age},"peer":"{id}"}}"#)
            })
            .collect();
        for server in (0..4).filter(|server| connected && !self.down.contains(server)) {
            let list =
                if server == 0 { format!(r#","replicas":[{}]"#, rows.join(",")) } else { String::new() };
            let reply = format!(
                r#"{{"server":{{"name":"s{server}","id":"N{server}","cluster":"c","ver":"2.14.6"}},"data":{{"meta_cluster":{{"name":"c","leader":"s0","peer":"{leader}"{list},"cluster_size":4}}}}}}"#
            );
            epoch.hear(now, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
        }
        let ended = epoch.ended(now).or_else(|| epoch.ended(stamp(opened + 60_000))).expect("an end");
        epoch.close(now, ended)
    }

    /// Something happens now and then.
    fn happen(&mut self) {
        match self.random.below(36) {
            25..32 => {
                let peer = 1 + self.random.below(3);
                if !self.down.remove(&peer) && self.down.is_empty() {
                    self.down.insert(peer);
                }
            }
            // The process is stopped: everything is overdue when it goes on.
            3 => self.now += 300 + self.within(8_000),
            4 if !self.mortal => self.hangs_until = self.now + self.within(6_000),
            5 if self.up => self.disconnect(),
            5..8 if !self.up => self.connect(),
            8 => self.refused = self.up && !self.options.shared,
            9 => (0..100).for_each(|_| self.later(0, Wake::CheckWanted)),
            10 => self.flood(),
            11 => (0..20).for_each(|_| self.later(0, Wake::Urgent)),
            _ => {}
        }
    }

    /// It is killed and started again: what it had decided and not saved is decided anew, and was never published.
    fn restart(&mut self) {
        let (now, dropped) = (self.now, self.daemon.outbox().dropped());
        // What it had not written by now it never will.
        self.written.retain(|(at, _)| *at <= now);
        let saved = self.written.last().map_or_else(ReplicatedState::default, |(_, state)| state.clone());
        let document = serde_json::to_value(&saved).unwrap();
        let entries = |list: &str| document[list].as_array().cloned().unwrap_or_default();
        let known: BTreeMap<String, u64> = entries("alerts")
            .iter()
            .filter_map(|alert| Some((alert["incident"].as_str()?.to_owned(), alert["seq"].as_u64()?)))
            .collect();
        let is_saved = |event: &AlertEvent| known.get(&event.incident).is_some_and(|seq| event.seq <= *seq);
        let unsaved = self.arrived.iter().find(|outgoing| !is_saved(&outgoing.event));
        assert!(
            unsaved.is_none(),
            "schedule {}: published before it was saved: {:?}",
            self.seed,
            unsaved.map(|it| &it.event.id)
        );
        self.decided.retain(is_saved);
        self.queue.clear();
        self.under_way.clear();
        self.news.clear();
        (self.gathering, self.said, self.opened) = (None, None, self.now);
        self.daemon = Daemon::new(self.options.clone(), Some(saved), stamp(self.now));
        self.connect();
        self.restarts += 1;
        self.dropped_before += dropped;
    }

    /// Strangers talk on the watchers' subject.
    fn flood(&mut self) {
        let Some(own) = self.said.clone() else { return };
        for number in 0..50 {
            let strange = PeerMessage { v: 99, instance: format!("stranger-{number}"), ..own.clone() };
            self.later(0, Wake::Peers(vec![strange; 4]));
        }
    }

    fn run(&mut self, until: i64) {
        let mut at_once = 0;
        while self.now < until && self.stopped.is_none() {
            let before = self.now;
            let first = self.queue.first_key_value().map(|((due, _), _)| *due);
            let wake = self.daemon.next_wake(stamp(self.now)).since(stamp(0));
            let wake = i64::try_from(wake.as_nanos().div_ceil(1_000_000)).unwrap();
            let tick = (self.now / 500 + 1) * 500;
            let ends = self.gathering.as_ref().map(|gathering| gathering.ends);
            let next = [first, ends, Some(wake), Some(tick)].into_iter().flatten().min().unwrap();
            self.now = next.max(self.now);
            at_once = if self.now == before { at_once + 1 } else { 0 };
            assert!(at_once < AT_ONCE_MAX, "schedule {}: no end at {}", self.seed, self.now);
            if self.mortal && self.now < TROUBLE && self.random.one_in(100) {
                self.restart();
            } else if first.is_some_and(|due| due <= self.now)
                && let Some((_, wake)) = self.queue.pop_first()
            {
                self.wake(wake);
            } else if ends.is_some_and(|ends| ends <= self.now)
                && let Some(gathering) = self.gathering.take()
            {
                self.end_epoch(gathering);
            } else {
                if self.now == tick && self.now < TROUBLE {
                    self.happen();
                }
                self.wake(Wake::Time);
            }
        }
    }

    /// Everything works again; on another connection nothing waits for a refusal or a failure on the last.
    fn heal(&mut self) {
        self.hangs_until = 0;
        self.disconnect();
        self.connect();
    }

    fn check(&self) {
        let seed = self.seed;
        let arrived: BTreeSet<&str> = self.arrived.iter().map(|event| event.event.id.as_str()).collect();
        let dropped = self.daemon.outbox().dropped();
        let missing: Vec<&str> =
            self.decided.iter().map(|event| event.id.as_str()).filter(|id| !arrived.contains(id)).collect();
        assert!(
            missing.len() as u64 <= dropped + self.dropped_before,
            "schedule {seed}: {missing:?} are lost, {dropped} counted"
        );
        for id in &missing {
            let told = |(level, text): &(Level, String)| *level >= Level::Warn && text.contains(id);
            assert!(self.lines.iter().any(told), "schedule {seed}: no line tells that {id} is dropped");
        }
        assert_eq!(self.daemon.outbox().waiting(), 0, "schedule {seed}: nothing waits for ever");
        let heartbeat = self.last_heartbeat.as_ref().expect("a heartbeat");
        assert_eq!(heartbeat.undelivered, dropped, "schedule {seed}");
        let open: BTreeSet<&str> = heartbeat.active.iter().map(|incident| incident.name.as_str()).collect();
        let down: BTreeSet<String> = self.down.iter().map(|peer| format!("s{peer}")).collect();
        assert_eq!(open, down.iter().map(String::as_str).collect(), "schedule {seed}: what is open");
        self.check_numbers();
    }

    /// Something is decided that cannot be saved or delivered.
    fn leave_in_trouble(&mut self) {
        if self.random.one_in(2) {
            self.hangs_until = i64::MAX / 2;
        }
        if self.random.one_in(2) {
            self.disconnect();
        }
        self.down = BTreeSet::from([1 + self.random.below(3)]);
        let until = self.now + self.within(3_000);
        self.run(until);
    }

    /// Each incident's events have the numbers 1, 2, 3 …, and over one connection they come in that order.
    fn check_numbers(&self) {
        let mut decided = BTreeMap::<&str, u64>::new();
        for event in &self.decided {
            let last = decided.entry(&event.incident).or_default();
            assert_eq!(event.seq, *last + 1, "schedule {}: {} has a hole", self.seed, event.incident);
            *last = event.seq;
        }
        let mut known = BTreeMap::<&str, u64>::new();
        for Outgoing { event, .. } in self.arrived.iter().filter(|_| self.options.mode == Mode::Core) {
            let last = known.entry(&event.incident).or_default();
            assert!(event.seq <= *last + 1, "schedule {}: {} comes too early", self.seed, event.id);
            *last = event.seq.max(*last);
        }
    }
}

/// How often what happened, over all schedules: a test of nothing would show here.
#[derive(Default)]
struct Seen {
    decided: usize,
    resolved: usize,
    repeated: usize,
    restarts: usize,
    dropped: u64,
    warnings: BTreeMap<String, usize>,
}

impl Seen {
    fn of(seeds: impl Iterator<Item = u64>) -> Self {
        let mut seen = Self::default();
        for schedule in seeds.map(run) {
            let ends = schedule.decided.iter().filter(|event| event.state == State::Resolved);
            seen.decided += schedule.decided.len();
            seen.resolved += ends.count();
            seen.repeated += schedule.arrived.len().saturating_sub(schedule.decided.len());
            seen.restarts += schedule.restarts;
            seen.dropped += schedule.daemon.outbox().dropped();
            for (_, text) in schedule.lines.iter().filter(|(level, _)| *level >= Level::Warn) {
                let words: Vec<&str> = text.split(' ').take(5).filter(|word| !word.contains('.')).collect();
                *seen.warnings.entry(words.join(" ")).or_default() += 1;
            }
        }
        seen
    }

    fn and(mut self, other: Self) -> Self {
        for (words, count) in other.warnings {
            *self.warnings.entry(words).or_default() += count;
        }
        self.decided += other.decided;
        self.resolved += other.resolved;
        self.repeated += other.repeated;
        self.restarts += other.restarts;
        self.dropped += other.dropped;
        self
    }
}

fn run(seed: u64) -> Schedule {
    let mut schedule = Schedule::new(seed);
    schedule.connect();
    schedule.run(TROUBLE);
    // A stall may have gone beyond the time of trouble.
    let calm = schedule.now.max(TROUBLE);
    schedule.heal();
    schedule.run(calm + CALM);
    schedule.check();
    schedule.leave_in_trouble();
    let end = schedule.now;
    schedule.leaving = true;
    schedule.wake(Wake::Shutdown);
    schedule.run(end + 10_000);
    let took = schedule.stopped.map(|at| at - end);
    assert!(took.is_some_and(|took| took <= 1_600), "schedule {seed}: the end took {took:?} ms");
    schedule
}

#[test]
fn in_random_schedules_nothing_that_was_decided_is_lost_without_a_word() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = match number("METAWATCH_SCHEDULE") {
        Some(seed) => (seed, 1),
        None => (0, number("METAWATCH_SCHEDULES").unwrap_or(1_000)),
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8) as u64);
    let seen = std::thread::scope(|scope| {
        let part = |offset| (first + offset..first + count).step_by(threads as usize);
        let running: Vec<_> =
            (0..threads).map(|offset| scope.spawn(move || Seen::of(part(offset)))).collect();
        running.into_iter().map(|part| part.join().unwrap()).fold(Seen::default(), Seen::and)
    });
    let Seen { decided, resolved, repeated, restarts, dropped, warnings } = seen;
    #[expect(clippy::disallowed_macros, reason = "seen with --nocapture")]
    {
        println!("{count} schedules, {restarts} restarts: {decided} events, {resolved} of them ends");
        println!("{repeated} told again, {dropped} dropped; what was said: {warnings:#?}");
    }
    if count >= 1_000 {
        assert!(decided > 500 && resolved > 100 && repeated > 20 && restarts > 50, "too little has happened");
    }
}
