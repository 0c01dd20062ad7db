//! Many servers: strangers, which whoever may answer can invent and no epoch may wait for, and so many real
//! ones that not everything said of them can be told. All of it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use metawatch::alert::{AlertTable, State};
use metawatch::epoch::{Ended, Epoch, Heard, Plan};
use metawatch::event::heartbeat::Status;
use metawatch::event::{AlertEvent, Heartbeat};
use metawatch::pipeline::{Pipeline, Step};
use metawatch::report::style::Style;
use metawatch::report::table::{self, Shown};
use metawatch::report::{self, CheckReport, nagios, selection};
use metawatch::stamp::Stamp;

use crate::model::{Answers, Group, World, server};
use crate::support::pipeline;

const INTERVAL: Duration = Duration::from_secs(1);

/// A watcher, and the time.
struct Watch {
    pipeline: Pipeline,
    now: Stamp,
    number: u64,
}

/// How an epoch went.
struct Epochs {
    took: Duration,
    ended: Ended,
    heartbeat: Heartbeat,
    step: Step,
}

impl Watch {
    fn new() -> Self {
        Self { pipeline: pipeline(INTERVAL), now: Stamp::new(0, 1_795_380_222_000_000_000), number: 0 }
    }

    /// An epoch that asked for routes, too; what it tells.
    fn epoch_with_routes(&mut self, jsz: &[String], statsz: &[String]) -> Vec<AlertEvent> {
        self.number += 1;
        let plan = self.pipeline.plan(self.number, self.now, Duration::from_secs(5));
        let mut epoch = Epoch::open(Plan { ask_statsz: true, ..plan }, self.now);
        for reply in jsz {
            epoch.hear(self.now, Heard::Jsz { epoch: self.number, payload: reply.as_bytes() });
        }
        for reply in statsz {
            epoch.hear(self.now, Heard::Statsz { epoch: self.number, payload: reply.as_bytes() });
        }
        let step = self.pipeline.step(&epoch.close(self.now, Ended::AllHeard));
        self.now = self.now.plus(INTERVAL);
        step.events.into_iter().map(|outgoing| outgoing.event).collect()
    }

    /// An epoch in which every reply comes so long after its opening.
    fn epoch<'a>(&mut self, replies: impl Iterator<Item = (&'a String, u64)>) -> Epochs {
        self.number += 1;
        let opened = self.now;
        let mut epoch = Epoch::open(self.pipeline.plan(self.number, opened, Duration::from_secs(5)), opened);
        let mut ended = None;
        for (reply, millis) in replies {
            let at = opened.plus(Duration::from_millis(millis));
            if let Some(before) = epoch.ended(at) {
                ended = Some((epoch.wake_at(), before));
                break;
            }
            epoch.hear(at, Heard::Jsz { epoch: self.number, payload: reply.as_bytes() });
        }
        let (at, ended) = ended.unwrap_or_else(|| {
            let at = epoch.wake_at();
            (at, epoch.ended(at).expect("an end"))
        });
        let step = self.pipeline.step(&epoch.close(at, ended));
        self.now = opened.plus(INTERVAL);
        Epochs { took: at.since(opened), ended, heartbeat: step.heartbeat.clone(), step }
    }
}

fn three() -> World {
    let servers: Vec<_> = ["s1", "s2", "s3"].map(|name| server(name, "c1", "", 14)).into();
    let members = servers.iter().map(|server| server.name.clone()).collect();
    let leader = Some("s1".to_owned());
    World {
        groups: vec![Group { servers, members, leader, said: BTreeMap::new(), rescue: false, quorum: None }],
        ..World::default()
    }
}

/// Replies of servers that nobody knows.
fn strangers(names: impl Iterator<Item = String>, answers: Answers) -> Vec<String> {
    let mut group = Group::default();
    for name in names {
        let mut stranger = server(&name, "elsewhere", "", 14);
        stranger.answers = answers;
        group.members.insert(name.clone());
        group.servers.push(stranger);
    }
    World { groups: vec![group], ..World::default() }.jsz()
}

#[test]
fn a_server_that_answers_once_and_never_again_is_awaited_once_at_most() {
    let own = three().jsz();
    let once = strangers(["once".to_owned()].into_iter(), Answers::Standalone);
    let mut watch = Watch::new();
    for number in 1..=40 {
        let guests = once.iter().filter(|_| number == 10 || number == 1);
        let epoch = watch.epoch(guests.chain(&own).map(|reply| (reply, 3)));
        let waited = epoch.took > Duration::from_millis(20);
        // The first epoch learns, and the second waits for everybody who answered it.
        assert!(!waited || number <= 2, "epoch {number} took {:?}", epoch.took);
    }
}

#[test]
fn invented_names_stretch_no_epoch_however_many_and_however_slow() {
    let own = three().jsz();
    for (many, answers, millis) in
        [(20_000, Answers::Standalone, 3), (300, Answers::Member, 3), (300, Answers::Standalone, 400)]
    {
        let mut watch = Watch::new();
        let mut took = Vec::new();
        for number in 0..8 {
            let names = (0..many).map(|stranger| format!("x{number}-{stranger}"));
            let invented = if number < 2 { Vec::new() } else { strangers(names, answers) };
            // What comes before the last known server has answered is heard.
            let guests = invented.iter().map(|reply| (reply, millis));
            let mut replies: Vec<_> = guests.chain(own.iter().map(|reply| (reply, 3))).collect();
            replies.sort_by_key(|(_, millis)| *millis);
            let epoch = watch.epoch(replies.into_iter());
            if number >= 2 {
                assert!(
                    epoch.took < Duration::from_millis(50),
                    "{many}: epoch {number} took {:?}",
                    epoch.took
                );
                assert_eq!(epoch.ended, Ended::AllHeard);
                took.push(epoch.took);
            }
        }
        assert_eq!(took.len(), 6);
    }
}

#[test]
fn a_new_server_that_stays_is_awaited_as_the_others_are() {
    let own = three().jsz();
    let newcomer = strangers(["new".to_owned()].into_iter(), Answers::Standalone);
    let mut watch = Watch::new();
    for _ in 0..3 {
        watch.epoch(own.iter().map(|reply| (reply, 3)));
    }
    for _ in 0..3 {
        watch.epoch(newcomer.iter().chain(&own).map(|reply| (reply, 3)));
    }
    let slow = own.iter().map(|reply| (reply, 3)).chain(newcomer.iter().map(|reply| (reply, 200)));
    let epoch = watch.epoch(slow);
    assert_eq!((epoch.took, epoch.heartbeat.epoch.heard), (Duration::from_millis(200), 4));
}

#[test]
fn a_heartbeat_lists_a_lost_quorum_before_everything_else_and_counts_what_it_leaves_out() {
    let names: Vec<String> = (1..=40).map(|number| format!("s{number:02}")).collect();
    let servers = names.iter().map(|name| server(name, "c1", "", 14)).collect();
    let members = names.iter().cloned().collect();
    let leader = Some("s01".to_owned());
    let mut group = Group { servers, members, leader, said: BTreeMap::new(), rescue: false, quorum: None };
    let mut watch = Watch::new();
    watch.epoch(
        World { groups: vec![group.clone()], ..World::default() }.jsz().iter().map(|reply| (reply, 3)),
    );
    for name in &names[1..26] {
        group.say("s01", name, |said| (said.offline, said.current, said.active_ms) = (true, false, 200_000));
        group.server(name).expect("a server").answers = Answers::Not;
    }
    let replies = World { groups: vec![group], ..World::default() }.jsz();
    let mut last = None;
    for _ in 0..4 {
        last = Some(watch.epoch(replies.iter().map(|reply| (reply, 3))).heartbeat);
    }
    let heartbeat = last.expect("a heartbeat");
    assert_eq!((heartbeat.status, heartbeat.incidents), (Status::Alerting, 26));
    assert_eq!(heartbeat.active.len(), 16);
    assert_eq!(heartbeat.active[0].check, "META_006");
    assert_eq!(heartbeat.left_out, BTreeMap::from([("active".to_owned(), 10)]));
    let json = serde_json::to_string(&heartbeat).expect("JSON");
    assert!(json.len() < 6_000, "{} bytes", json.len());
}

/// Only the last of a hundred servers still holds a route to the one that is silent: it is no crash.
#[test]
fn every_route_counts_as_evidence_however_many_tell_of_theirs() {
    let names: Vec<String> = (1..=100).map(|number| format!("s{number:03}")).collect();
    let servers = names.iter().map(|name| server(name, "c1", "", 14)).collect();
    let (members, leader) = (names.iter().cloned().collect(), Some("s001".to_owned()));
    let mut group = Group { servers, members, leader, said: BTreeMap::new(), rescue: false, quorum: None };
    for holder in [None, Some("s100")] {
        let mut watch = Watch::new();
        group.server("s050").expect("a server").answers = Answers::Member;
        watch.epoch(
            World { groups: vec![group.clone()], ..World::default() }.jsz().iter().map(|reply| (reply, 3)),
        );
        group.server("s050").expect("a server").answers = Answers::Not;
        let world = World { groups: vec![group.clone()], ..World::default() };
        let route = serde_json::json!({"name": "s050"});
        let statsz = world.statsz().into_iter().map(|reply| {
            let mut reply: serde_json::Value = serde_json::from_str(&reply).expect("JSON");
            let holds = reply["server"]["name"].as_str() == holder;
            let routes = reply["statsz"]["routes"].as_array_mut().expect("routes");
            routes.retain(|row| holds || *row != route);
            reply.to_string()
        });
        let statsz: Vec<String> = statsz.collect();
        let mut told = Vec::new();
        for _ in 0..6 {
            told.extend(watch.epoch_with_routes(&world.jsz(), &statsz));
        }
        let fired: Vec<_> = told.iter().filter(|event| event.state == State::Firing).collect();
        assert_eq!(fired.is_empty(), holder.is_some(), "{holder:?}: {told:?}");
        for event in &fired {
            let told = event.evidence.as_ref().expect("evidence").routes.len() as u64;
            assert_eq!(
                told + event.left_out.get("routes").copied().unwrap_or_default(),
                99,
                "none is cut unsaid"
            );
        }
    }
}

/// So many groups of nine servers, each its own domain.
fn fleet(groups: usize) -> World {
    let group = |number: usize| {
        let domain = format!("d{number}");
        let names: Vec<String> = (1..=9).map(|peer| format!("{domain}s{peer}")).collect();
        let servers = names.iter().map(|name| server(name, &format!("c{number}"), &domain, 14)).collect();
        let (members, leader) = (names.iter().cloned().collect(), Some(names[0].clone()));
        Group { servers, members, leader, said: BTreeMap::new(), rescue: false, quorum: None }
    };
    World { groups: (0..groups).map(group).collect(), ..World::default() }
}

/// The fleet after two good epochs and six in which these servers are silent.
fn fleet_without(groups: usize, dead: &[&str]) -> Step {
    let mut world = fleet(groups);
    let mut watch = Watch::new();
    for _ in 0..2 {
        watch.epoch(world.jsz().iter().map(|reply| (reply, 3)));
    }
    for name in dead {
        for group in &mut world.groups {
            let leader = group.leader.clone().expect("a leader");
            if group.members.contains(*name) {
                group.say(&leader, name, |said| {
                    (said.offline, said.current, said.active_ms) = (true, false, 200_000);
                });
                group.server(name).expect("a server").answers = Answers::Not;
            }
        }
    }
    let mut last = None;
    for _ in 0..6 {
        last = Some(watch.epoch(world.jsz().iter().map(|reply| (reply, 3))).step);
    }
    last.expect("an epoch")
}

#[test]
fn a_system_of_many_groups_is_told_in_sums_with_the_worst_by_name() {
    let lost = ["d7s2", "d7s3", "d7s4", "d7s5", "d7s6"];
    let dead: Vec<&str> = lost.into_iter().chain(["d3s2", "d5s2", "d5s3", "d9s9", "d11s4"]).collect();
    let step = fleet_without(120, &dead);
    let report = CheckReport::new(&step, 8, &AlertTable::default());
    let line = nagios::page(&report).lines().next().expect("a line").to_owned();
    assert!(line.len() <= 1_024, "{} bytes: {line}", line.len());
    let start = "CRITICAL metawatch 120 groups, 1,070 of 1,080 servers answered; d7: ";
    assert!(line.starts_with(start), "{line}");
    for part in ["; d5: ", "; 2 more are not well", "groups=120 groups_bad=5 peers=1080 online=1070;;;0;1080"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(step.heartbeat.summary.len() <= 600, "{}", step.heartbeat.summary);
    assert!(step.heartbeat.summary.contains("; d7: "), "{}", step.heartbeat.summary);
    assert_eq!(step.heartbeat.groups[0].name, "d7", "what is cut is well");

    let overview = table::report(&step, Shown::All, Style::new(false));
    assert!(overview.lines().count() < 130, "one line a group: {overview}");
    let first = overview.lines().nth(2).expect("a row");
    assert!(first.trim_start().starts_with("d7 "), "{first}");

    let mut one = step.clone();
    selection::only_groups(&mut one, &["d5".to_owned()]).expect("a group");
    let report = CheckReport::new(&one, 8, &AlertTable::default());
    assert_eq!((report.groups.len(), report.status, report.bad().count()), (1, report::Status::Critical, 2));
    let unknown = selection::only_groups(&mut step.clone(), &["d1200".to_owned()]).expect_err("no group");
    assert!(unknown.there_are.contains("d120") || unknown.there_are.contains("d12"), "{unknown:?}");

    let mut problems = step;
    selection::only_problems(&mut problems);
    assert_eq!(problems.view.groups.len(), 5);
}
