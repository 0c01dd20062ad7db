//! Random histories of a cluster: servers crash, stop, freeze and restart, leaders change, replies are lost, late,
//! duplicated and shuffled. Whatever happens, who is well is never called offline, and who is dead is.

use std::collections::BTreeMap;
use std::time::Duration;

use metawatch::alert::{Reason, State};
use metawatch::epoch::{Epoch, Heard};
use metawatch::event::Outgoing;
use metawatch::pipeline::Pipeline;
use metawatch::stamp::Stamp;

use crate::model::{Answers, Group, Said, World, announcement, server};
use crate::support::{Random, pipeline};

const STEP: Duration = Duration::from_millis(500);
/// A server counts as well once it has been up and answering for so many steps: the flag and the old contact are
/// gone within a second of a restart.
const SETTLED: u32 = 4;
/// A dead one must be firing after so many steps of its death with a leader: 20 s.
const DEAD: u32 = 40;

/// What really is with a server.
#[derive(Clone, Copy, Default)]
struct Truth {
    /// Steps since it went down; it is up when 0.
    down: u32,
    /// How it went: its routes are gone, and whether it said so.
    cut: bool,
    announced: bool,
    /// Steps since it came up.
    up: u32,
    /// Steps it has been down while a leader was there and heard.
    down_led: u32,
}

/// A cluster as `facts` describe it: who leads, since when, and what the leader knows.
struct Cluster {
    world: World,
    truth: Vec<Truth>,
    /// Steps since this leader was elected; steps until the next election ends.
    term: u32,
    election: u32,
    /// In which step of its term the leader last heard of each.
    heard: Vec<Option<u32>>,
}

impl Cluster {
    fn new(size: usize, random: &mut Random) -> Self {
        let mut group = Group::default();
        for index in 0..size {
            let minor = [9, 10, 12, 14, 15][random.below(5)];
            group.servers.push(server(&format!("s{index}"), "c1", "", minor));
            group.members.insert(format!("s{index}"));
        }
        group.leader = Some("s0".into());
        let truth = vec![Truth { up: 100, ..Truth::default() }; size];
        Self {
            world: World { groups: vec![group], ..World::default() },
            truth,
            term: 100,
            election: 0,
            heard: vec![Some(100); size],
        }
    }

    fn leader(&self) -> Option<usize> {
        let leader = self.world.groups[0].leader.as_ref()?;
        self.world.groups[0].servers.iter().position(|server| server.name == *leader)
    }

    fn up(&self) -> usize {
        self.truth.iter().filter(|truth| truth.down == 0).count()
    }

    /// Something happens now and then; gives what was announced.
    fn happen(&mut self, random: &mut Random) -> Option<(String, String)> {
        let mut said = None;
        let majority = self.truth.len() / 2 + 1;
        if random.one_in(40) {
            let who = random.below(self.truth.len());
            if self.truth[who].down > 0 {
                self.truth[who] = Truth::default();
                self.world.groups[0].servers[who].run += 1;
            } else if self.up() > majority || random.one_in(4) {
                let how = random.below(3);
                self.truth[who] = Truth { down: 1, cut: how != 2, announced: how == 0, ..Truth::default() };
                said = (how == 0).then(|| announcement(&self.world.groups[0].servers[who], "SHUTDOWN"));
            }
        }
        for truth in &mut self.truth {
            if truth.down > 0 { truth.down += 1 } else { truth.up += 1 }
        }
        self.lead(majority, random);
        self.tell();
        said
    }

    /// Elects a leader 4 to 7 s after the last one went, if a majority is up.
    fn lead(&mut self, majority: usize, random: &mut Random) {
        let lost = self.leader().is_none_or(|leader| self.truth[leader].down > 0);
        if lost && self.election == 0 {
            self.election = 8 + random.below(7) as u32;
        }
        self.term += 1;
        if self.election > 0 {
            self.election -= 1;
            if self.election == 0 {
                self.world.groups[0].leader = None;
                let candidates: Vec<usize> =
                    (0..self.truth.len()).filter(|at| self.truth[*at].down == 0).collect();
                if candidates.len() >= majority {
                    let leader = candidates[random.below(candidates.len())];
                    self.world.groups[0].leader = Some(format!("s{leader}"));
                    (self.term, self.heard) = (0, vec![None; self.truth.len()]);
                }
            }
        }
        for (at, truth) in self.truth.iter().enumerate() {
            if truth.down == 0 && (self.term > 0 || at % 2 == 0) {
                self.heard[at] = Some(self.term);
            }
        }
    }

    /// Puts into everyone's mouth what it says now.
    fn tell(&mut self) {
        let leader = self.world.groups[0].leader.clone();
        let (truth, term, heard) = (&self.truth, self.term, &self.heard);
        let group = &mut self.world.groups[0];
        group.said.clear();
        for (at, server) in group.servers.iter_mut().enumerate() {
            server.answers = if truth[at].down == 0 { Answers::Member } else { Answers::Not };
            server.cut = truth[at].down > 0 && truth[at].cut;
        }
        let names: Vec<String> = group.servers.iter().map(|server| server.name.clone()).collect();
        for reporter in &names {
            for (at, peer) in names.iter().enumerate().filter(|(_, peer)| *peer != reporter) {
                // Announced, or found by the sweep after 150 s.
                let offline = truth[at].down > 0 && (truth[at].announced || truth[at].down > 300);
                let ago = heard[at].map_or(0, |heard| i64::from(term - heard) * 500 + 200);
                let said = if leader.as_ref() == Some(reporter) {
                    let current = heard[at].is_some() && ago < 10_000;
                    Said { offline, current, active_ms: ago, ..Said::WELL }
                } else {
                    Said { offline, current: false, active_ms: 0, ..Said::WELL }
                };
                group.say(reporter, peer, |all| *all = said);
            }
        }
    }
}

/// What the watcher told last of each server.
type Alerts = BTreeMap<String, State>;

struct Watcher {
    pipeline: Pipeline,
    alerts: Alerts,
    late: Vec<String>,
    told: Vec<Outgoing>,
    number: u64,
}

impl Watcher {
    /// One epoch; gives who was called offline, and who was said to be back, in it.
    fn watch(
        &mut self,
        cluster: &Cluster,
        said: &[(String, String)],
        random: &mut Random,
    ) -> Vec<(String, Reason)> {
        self.number += 1;
        let opened =
            Stamp::new(0, 1_795_380_222_000_000_000).plus(STEP * u32::try_from(self.number).unwrap());
        let closed = opened.plus(Duration::from_millis(5));
        let plan = self.pipeline.plan(self.number, opened, Duration::from_secs(5));
        let asks = plan.ask_statsz;
        let mut epoch = Epoch::open(plan, opened);
        for (subject, payload) in said {
            epoch.hear(closed, Heard::Event { at: opened, subject, payload: payload.as_bytes() });
        }
        let mut replies = cluster.world.jsz();
        random.shuffle(&mut replies);
        if random.one_in(10) {
            replies.extend(replies.first().cloned());
        }
        for payload in self.late.drain(..) {
            epoch.hear(closed, Heard::Jsz { epoch: self.number - 1, payload: payload.as_bytes() });
        }
        for payload in replies {
            match random.below(60) {
                0 => {}
                1 => self.late.push(payload),
                _ => epoch.hear(closed, Heard::Jsz { epoch: self.number, payload: payload.as_bytes() }),
            }
        }
        for payload in cluster.world.statsz().iter().filter(|_| asks) {
            epoch.hear(closed, Heard::Statsz { epoch: self.number, payload: payload.as_bytes() });
        }
        let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
        let events = self.pipeline.step(&epoch.close(closed, ended)).events;
        let mut told = Vec::new();
        for event in events.iter().map(|outgoing| &outgoing.event).filter(|event| event.check == "META_001") {
            let name = event.peer.as_ref().and_then(|peer| peer.name.clone()).expect("a known name");
            self.alerts.insert(name.clone(), event.state);
            told.push((name, event.reason));
        }
        self.told.extend(events);
        told
    }
}

#[track_caller]
fn check_history(seed: u64) {
    let mut random = Random::new(seed);
    let size = 3 + random.below(3);
    let mut cluster = Cluster::new(size, &mut random);
    let mut watcher = Watcher {
        pipeline: pipeline(Duration::from_secs(1)),
        alerts: Alerts::new(),
        late: Vec::new(),
        told: Vec::new(),
        number: 0,
    };
    for step in 0..600 {
        // The first epochs are quiet, so that everybody is known.
        let said = if step < 4 { None } else { cluster.happen(&mut random) };
        let told = watcher.watch(&cluster, said.as_slice(), &mut random);
        let at = format!("seed {seed}, step {step} ({} servers)", cluster.truth.len());
        let led = cluster.leader().is_some_and(|leader| cluster.truth[leader].down == 0);
        for (name, reason) in told {
            let who: usize = name[1..].parse().expect("a number");
            let truth = cluster.truth[who];
            let well = truth.down == 0 && truth.up > SETTLED;
            let accused = matches!(reason, Reason::Reported | Reason::Observed);
            assert!(!(accused && well), "{at}: {name} is up for {} steps and called offline", truth.up);
            let over = matches!(reason, Reason::Recovered | Reason::Withdrawn | Reason::Removed);
            assert!(!over || truth.down <= 1, "{at}: {name} is down for {} steps and {reason:?}", truth.down);
            assert!(!over || led, "{at}: {name} is {reason:?} without a leader");
        }
        for (who, truth) in cluster.truth.iter_mut().enumerate() {
            truth.down_led = if truth.down > 0 && led { truth.down_led + 1 } else { 0 };
            let firing = watcher.alerts.get(&format!("s{who}")) == Some(&State::Firing);
            assert!(
                truth.down_led < DEAD || firing,
                "{at}: s{who} is dead for {} steps and not firing",
                truth.down
            );
        }
    }
    crate::contract::check_events(&watcher.told);
}

/// `SEEDS=2000` looks at more of them.
#[test]
fn in_random_histories_who_is_well_is_never_accused_and_who_is_dead_always() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        check_history(seed);
    }
}
