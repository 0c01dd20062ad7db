//! One watcher alone, driven through its daemon: what it does when something never answers.

use std::time::Duration;

use metawatch::alert::{LifeRules, State};
use metawatch::daemon::{
    AlertLink, Daemon, DeliveryReport, Effect, EpochEnd, Level, Line, Mode, Options, Order, Published, Wake,
};
use metawatch::election::{Chunk, MESSAGE_VERSION, PeerMessage, Role};
use metawatch::epoch::{Epoch, Heard, Plan};
use metawatch::event::{AlertEvent, Heartbeat, Monitor, Outgoing, PREFIX};
use metawatch::name::PeerId;
use metawatch::outbox::Dispatched;
use metawatch::pipeline::Settings;
use metawatch::replicated_state::StateVersion;
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;
use metawatch::system::SystemId;

const START: i64 = 1_795_380_222_000;
const STEP: i64 = 10;

/// A daemon whose effects are carried out at once, but for those that a test holds back.
struct Alone {
    daemon: Daemon,
    wake_at: Stamp,
    now: i64,
    /// What the leader's list says.
    list: Vec<(String, bool)>,
    /// The disk answers.
    disk: bool,
    /// Epochs end.
    epochs: bool,
    said: Option<PeerMessage>,
    arrived: Vec<Outgoing>,
    heartbeats: Vec<(i64, Heartbeat)>,
    announced: Vec<AlertEvent>,
    lines: Vec<(Level, String)>,
    stopped: Option<i64>,
    /// The longest that one call took.
    longest: Duration,
}

fn stamp(millis: i64) -> Stamp {
    Stamp::new(millis * 1_000_000, (START + millis) * 1_000_000)
}

fn options(instance: &str, system: Option<SystemId>) -> Options {
    let rules = Rules { interval: Duration::from_secs(1), ..Rules::default() };
    let monitor = Monitor { name: "w".into(), version: "0".into(), instance: instance.into() };
    let settings = Settings { rules, life: LifeRules::default(), monitor, prefix: PREFIX.into() };
    let timeout = Duration::from_secs(5);
    Options {
        settings,
        system,
        mode: Mode::Core,
        shared: false,
        timeout,
        persistent: true,
        peer_limit: 1 << 20,
    }
}

impl Alone {
    fn new(peers: usize) -> Self {
        let mut alone = Self {
            daemon: Daemon::new(options("i", None), None, stamp(0)),
            wake_at: stamp(0),
            now: 0,
            list: (2..=peers).map(|number| (format!("s{number}"), false)).collect(),
            disk: true,
            epochs: true,
            said: None,
            arrived: Vec::new(),
            heartbeats: Vec::new(),
            announced: Vec::new(),
            lines: Vec::new(),
            stopped: None,
            longest: Duration::ZERO,
        };
        let link = AlertLink { generation: 1, up: true, max_payload: 1 << 20 };
        alone.wake(Wake::Delivery(DeliveryReport::Link(link)));
        alone.pass(3_000);
        assert!(alone.daemon.is_active(stamp(alone.now)), "it is alone, and active");
        alone
    }

    fn reply(&self) -> String {
        let rows: Vec<String> = self
            .list
            .iter()
            .map(|(name, offline)| {
                let flag = if *offline { r#""offline":true,"# } else { "" };
                let (current, id) = (!offline, PeerId::of_server(name));
                format!(r#"{{"name":"{name}","current":{current},{flag}"active":500000000,"peer":"{id}"}}"#)
            })
            .collect();
        let (size, id, rows) = (rows.len() + 1, PeerId::of_server("s1"), rows.join(","));
        format!(
            r#"{{"server":{{"name":"s1","id":"Ns1","cluster":"c1","ver":"2.14.6","seq":7}},"data":{{"meta_cluster":{{"name":"c1","leader":"s1","peer":"{id}","replicas":[{rows}],"cluster_size":{size}}}}}}}"#
        )
    }

    fn wake(&mut self, wake: Wake) {
        #[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
        let begin = std::time::Instant::now();
        let effects = self.daemon.handle(wake, stamp(self.now));
        self.longest = self.longest.max(begin.elapsed());
        self.wake_at = self.daemon.next_wake(stamp(self.now));
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::OpenEpoch(plan) if self.epochs => self.epoch(plan),
            Effect::OpenEpoch(_) => {}
            Effect::Save(_) if self.disk => self.wake(Wake::Saved(Ok(()))),
            Effect::Save(_) => {}
            Effect::SayToPeers(message) => {
                self.said = Some(*message.clone());
                self.wake(Wake::Peers(vec![*message]));
            }
            Effect::HearAllPeers(_) => {}
            Effect::TellPeers(messages) => {
                self.wake(Wake::PeersTold(true));
                self.wake(Wake::Peers(messages));
            }
            Effect::Deliver(Order::Publish { batch, generation, confirm }) => {
                let handed = batch.iter().map(|event| (event.place, stamp(self.now))).collect();
                self.arrived.extend(batch.into_iter().map(|Dispatched { outgoing, .. }| outgoing));
                let published = Published { generation, handed, ..Published::default() };
                self.wake(Wake::Delivery(DeliveryReport::Published(published)));
                if confirm {
                    self.wake(Wake::Delivery(DeliveryReport::Confirmed { generation, passed: true }));
                }
            }
            Effect::Deliver(Order::Heartbeat(heartbeat)) => self.heartbeats.push((self.now, *heartbeat)),
            Effect::Deliver(Order::Confirm { .. } | Order::Store { .. }) => {}
            Effect::Announce(event) => self.announced.push(*event),
            Effect::Log(line) => self.lines.push((line.level, line.text)),
            Effect::Stop => {
                self.stopped.get_or_insert(self.now);
            }
            Effect::Ask(_) => {}
        }
    }

    fn epoch(&mut self, plan: Plan) {
        let (now, number, reply) = (stamp(self.now), plan.number, self.reply());
        let mut epoch = Epoch::open(plan, now);
        epoch.hear(now, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
        // In a small system everybody answers; of a large one, only the leader.
        for (name, _) in self.list.iter().filter(|(_, offline)| !offline && self.list.len() < 10) {
            let (id, size) = (PeerId::of_server("s1"), self.list.len() + 1);
            let follower = format!(
                r#"{{"server":{{"name":"{name}","id":"N{name}","cluster":"c1","ver":"2.14.6","seq":7}},"data":{{"meta_cluster":{{"name":"c1","leader":"s1","peer":"{id}","cluster_size":{size}}}}}}}"#
            );
            epoch.hear(now, Heard::Jsz { epoch: number, payload: follower.as_bytes() });
        }
        self.end(epoch, now);
    }

    fn end(&mut self, epoch: Epoch, now: Stamp) {
        let ended = epoch.ended(now.plus(Duration::from_secs(60))).expect("an end");
        let gathered = epoch.close(now, ended);
        let end = EpochEnd { gathered, generation: 1, max_payload: 1 << 20, news: Vec::new() };
        self.wake(Wake::Gathered(Box::new(end)));
    }

    /// Lets time pass; own messages come back.
    fn pass(&mut self, millis: i64) {
        let until = self.now + millis;
        while self.now < until {
            self.now += STEP;
            let now = stamp(self.now);
            if now.has_reached(self.wake_at) {
                self.wake(Wake::Time);
            }
        }
    }

    /// Lets time pass until this holds, but not for ever.
    #[track_caller]
    fn pass_until(&mut self, limit: i64, holds: impl Fn(&Self) -> bool) {
        let until = self.now + limit;
        while !holds(self) {
            assert!(self.now < until, "not within {limit} ms");
            self.pass(STEP);
        }
    }

    fn fail(&mut self, count: usize) {
        self.list.iter_mut().take(count).for_each(|(_, offline)| *offline = true);
    }

    fn arrived(&self, state: State) -> usize {
        self.arrived.iter().filter(|outgoing| outgoing.event.state == state).count()
    }

    /// How many peers were told to be in this state.
    fn arrived_about(&self, state: State) -> usize {
        let told = self.arrived.iter().filter(|outgoing| outgoing.event.state == state);
        let peers = told.filter_map(|outgoing| outgoing.event.peer.as_ref().map(|peer| &peer.id));
        peers.collect::<std::collections::BTreeSet<_>>().len()
    }

    fn said(&self, words: &str) -> usize {
        self.lines.iter().filter(|(level, text)| *level >= Level::Warn && text.contains(words)).count()
    }

    /// The longest time without a heartbeat.
    fn longest_quiet(&self) -> i64 {
        self.heartbeats.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or(0)
    }
}

#[test]
fn a_disk_that_never_answers_holds_an_alert_up_once_and_for_a_second() {
    let mut alone = Alone::new(3);
    alone.disk = false;
    alone.fail(1);
    alone.pass_until(2_000, |alone| !alone.announced.is_empty());
    alone.pass(900);
    assert!(alone.arrived.is_empty(), "it may still answer");
    alone.pass_until(200, |alone| alone.arrived(State::Firing) == 1);
    alone.list[0].1 = false;
    alone.pass_until(3_000, |alone| {
        !alone.announced.is_empty()
            && alone.announced.last().is_some_and(|event| event.state == State::Resolved)
    });
    alone.pass(2 * STEP);
    assert_eq!(alone.arrived(State::Resolved), 1, "at once");
    assert_eq!(alone.said("the disk does not answer"), 1);
    assert!(alone.heartbeats.last().is_some_and(|(_, beat)| beat.unsaved));
    assert!(alone.longest_quiet() <= 1_000);
    alone.disk = true;
    alone.wake(Wake::Saved(Ok(())));
    alone.pass(1_100);
    assert_eq!(alone.said("the state file is written again"), 1);
    assert!(alone.heartbeats.last().is_some_and(|(_, beat)| !beat.unsaved));
}

#[test]
fn the_end_comes_in_time_though_nothing_answers() {
    for disk in [true, false] {
        let mut alone = Alone::new(3);
        (alone.disk, alone.epochs) = (disk, false);
        alone.fail(1);
        alone.epochs = true;
        alone.pass_until(2_000, |alone| !alone.announced.is_empty());
        alone.epochs = false;
        let begin = alone.now;
        alone.wake(Wake::Shutdown);
        alone.pass(5_000);
        let took = alone.stopped.expect("an end") - begin;
        assert!(took <= 1_600, "{took} ms");
    }
}

#[test]
fn an_epoch_that_never_ends_makes_room_for_another_watcher() {
    let mut alone = Alone::new(3);
    alone.epochs = false;
    alone.pass(10_000);
    let message = alone.said.clone().expect("a message");
    assert!(!message.sees_servers, "others see that it sees nothing: {message:?}");
}

#[test]
fn what_is_silent_while_the_host_sleeps_says_nothing() {
    let mut alone = Alone::new(3);
    alone.epochs = false;
    alone.pass(1_100);
    // An epoch is open. An hour later it ends, and nobody has answered it.
    let plan = alone.daemon.pipeline().plan(alone.daemon.epochs(), stamp(alone.now), Duration::from_secs(5));
    let epoch = Epoch::open(plan, stamp(alone.now));
    alone.now += 3_600_000;
    assert!(!alone.daemon.is_active(stamp(alone.now)), "the lease is over");
    let now = stamp(alone.now);
    alone.epochs = true;
    alone.end(epoch, now);
    alone.pass(5_000);
    assert!(alone.announced.is_empty(), "{:?}", alone.announced);
    assert_eq!(alone.said("kept from running"), 1);
    assert!(alone.daemon.is_active(stamp(alone.now)));
    alone.fail(1);
    alone.pass_until(2_000, |alone| alone.arrived(State::Firing) == 1);
}

#[test]
fn a_list_of_thousands_of_dead_peers_holds_up_nothing_and_every_one_of_them_is_told() {
    let mut alone = Alone::new(3_000);
    alone.fail(2_999);
    alone.longest = Duration::ZERO;
    // Each epoch tells a part.
    alone.pass_until(60_000, |alone| alone.arrived_about(State::Firing) == 2_999);
    assert!(alone.longest_quiet() <= 1_000);
    let last = &alone.heartbeats.last().expect("a heartbeat").1;
    assert_eq!((last.undelivered, last.overflow), (0, 0));
    // All 10,000 at once took 37 s where a part takes one.
    assert!(alone.longest < Duration::from_secs(15), "{:?}", alone.longest);
}

#[test]
fn a_watcher_that_calls_the_system_by_another_name_is_told_of_once() {
    let other = Alone::new(3).said.expect("a message");
    assert_eq!((other.v, other.role), (MESSAGE_VERSION, Role::Active));
    let own = SystemId::parse("ours").expect("an id");
    let mut daemon = Daemon::new(options("another", Some(own)), None, stamp(3_000));
    let mut hear = |revision: u64, system: &str| {
        let version = StateVersion { term: 1, revision, writer: other.instance.clone() };
        let text = format!(
            r#"{{"alerts":[],"system":"{system}","version":{}}}"#,
            serde_json::to_string(&version).expect("JSON")
        );
        let chunk = Some(Chunk { version, index: 0, count: 1, text });
        let effects = daemon.handle(Wake::Peers(vec![PeerMessage { chunk, ..other.clone() }]), stamp(3_010));
        let mut warnings = Vec::new();
        for effect in effects {
            if let Effect::Log(Line { level: Level::Warn, text, .. }) = effect {
                warnings.push(text);
            }
        }
        assert_eq!(daemon.pipeline().system(), Some("ours"));
        warnings
    };
    let warnings = hear(1, "theirs");
    assert!(
        warnings.len() == 1 && warnings[0].contains("calls this system theirs, not ours"),
        "{warnings:?}"
    );
    assert!(hear(2, "theirs").is_empty(), "once");
    assert_eq!(hear(3, "no id at all"), ["1 entries of what w knows are not believed"]);
}

#[test]
fn watchers_of_another_version_are_told_of_once_however_often_they_speak() {
    let mut alone = Alone::new(3);
    for _ in 0..1_000 {
        alone.wake(Wake::OtherVersion("old".into()));
    }
    alone.pass(3_000);
    assert_eq!(
        alone.said("old, is of a version that does not understand this one: alerts may come twice"),
        1
    );
    assert_eq!(alone.daemon.role(), Role::Active);
}
