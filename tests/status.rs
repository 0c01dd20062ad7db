//! What people look at: the document of the page, and the lines of the terminal.

#![allow(clippy::disallowed_methods, reason = "what a status costs is real time")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metawatch::epoch::{Epoch, Heard};
use metawatch::event::Monitor;
use metawatch::pipeline::{Pipeline, Step};
use metawatch::report::Status;
use metawatch::report::selection::ChosenGroups;
use metawatch::screen::{Key, Line, Reaction, Size, Sort, Viewer, plain_line};
use metawatch::stamp::Stamp;
use metawatch::status::numbers::{LeaderChanges, Numbers, Seen};
use metawatch::status::{Limits, PublishingStatus, RecentEvents, StatusContext, SystemStatus, Totals, page};

use crate::model::{Answers, Group, World, server};
use crate::support::{Random, golden, path, pipeline};

const START: i64 = 1_795_380_222_000_000_000;

/// Somebody who watches a model of a system.
pub(crate) struct Looking {
    pipeline: Pipeline,
    recent: RecentEvents,
    totals: Totals,
    leaders: LeaderChanges,
    now: Stamp,
    number: u64,
    limits: Limits,
    step: Option<Step>,
}

impl Looking {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            pipeline: pipeline(Duration::from_secs(1)),
            recent: RecentEvents::default(),
            totals: Totals::default(),
            leaders: LeaderChanges::default(),
            now: Stamp::new(0, START),
            number: 0,
            limits,
            step: None,
        }
    }

    fn epoch(&mut self, jsz: &[String], statsz: &[String]) {
        self.number += 1;
        let mut plan = self.pipeline.plan(self.number, self.now, Duration::from_secs(5));
        plan.ask_statsz = true;
        let mut epoch = Epoch::open(plan, self.now);
        for reply in jsz {
            epoch.hear(self.now, Heard::Jsz { epoch: self.number, payload: reply.as_bytes() });
        }
        for reply in statsz {
            epoch.hear(self.now, Heard::Statsz { epoch: self.number, payload: reply.as_bytes() });
        }
        let closed = self.now.plus(Duration::from_millis(4));
        let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
        let step = self.pipeline.step(&epoch.close(closed, ended));
        self.totals.take(&step.view.epoch);
        self.leaders.take(&step.view);
        for outgoing in &step.events {
            self.recent.take(&outgoing.event);
        }
        self.step = Some(step);
        self.now = self.now.plus(Duration::from_secs(1));
    }

    pub(crate) fn watch(&mut self, world: &World, epochs: usize) {
        for _ in 0..epochs {
            self.epoch(&world.jsz(), &world.statsz());
        }
    }

    pub(crate) fn status(&self) -> SystemStatus {
        let publishing = PublishingStatus { role: "active", watchers: 1, ..PublishingStatus::default() };
        self.with_context(|step, context| SystemStatus::new(step, Some(publishing), context))
    }

    fn status_of(&self, chosen: &ChosenGroups) -> SystemStatus {
        self.with_context(|step, context| SystemStatus::of_groups(step, chosen, context))
    }

    /// The same in numbers.
    pub(crate) fn numbers(&self) -> Numbers {
        let step = self.last();
        Numbers {
            monitor: monitor(),
            since: Stamp::new(0, START),
            system: Some("prod".to_owned()),
            interval: Duration::from_secs(1),
            role: "active",
            totals: self.totals,
            epochs_took: Duration::from_millis(4 * self.number),
            complete: Some(step.view.epoch.closed),
            reconnects: 0,
            publishing: PublishingStatus::default(),
            losses: vec![("replies", 0)],
            seen: Some(self.with_context(|step, context| Seen::new(step, &self.leaders, context))),
        }
    }

    fn last(&self) -> &Step {
        self.step.as_ref().expect("an epoch")
    }

    fn with_context<T>(&self, make: impl FnOnce(&Step, &StatusContext<'_>) -> T) -> T {
        let monitor = monitor();
        let context = StatusContext {
            alerts: self.pipeline.alert_table(),
            recent: &self.recent,
            totals: &self.totals,
            monitor: &monitor,
            since: Stamp::new(0, START),
            system: Some("prod"),
            login: "--context system",
            limits: self.limits,
        };
        make(self.last(), &context)
    }

    fn viewer(&self) -> Viewer {
        let mut viewer = Viewer::default();
        viewer.take(Arc::new(self.status()));
        viewer
    }

    fn wall_ns(&self) -> i64 {
        self.now.wall_ns()
    }
}

fn monitor() -> Monitor {
    Monitor { name: "metawatch".into(), version: "0.1.0".into(), instance: "i1".into() }
}

pub(crate) fn group(names: &[&str], cluster: &str, domain: &str) -> Group {
    let servers: Vec<_> = names.iter().map(|name| server(name, cluster, domain, 14)).collect();
    let members = names.iter().map(|name| (*name).to_owned()).collect();
    let leader = Some(names[0].to_owned());
    Group { servers, members, leader, said: BTreeMap::new(), rescue: false, quorum: None }
}

/// Two groups, and a leaf group without a fault.
pub(crate) fn healthy() -> World {
    World {
        groups: vec![
            group(&["s1", "s2", "s3"], "c1", ""),
            group(&["leaf-1", "leaf-2", "leaf-3"], "l1", "edge"),
        ],
        ..World::default()
    }
}

/// A server that is gone at once: no route to it is left.
pub(crate) fn crash(world: &mut World, name: &str) {
    crash_in(&mut world.groups[0], name);
}

pub(crate) fn crash_in(group: &mut Group, name: &str) {
    let lost = group.server(name).expect("a server");
    (lost.answers, lost.cut) = (Answers::Not, true);
    let leader = group.leader.clone().expect("a leader");
    group.say(&leader, name, |said| (said.current, said.active_ms) = (false, 12_400));
}

fn outage() -> Looking {
    let mut looking = Looking::new(Limits::SCREEN);
    let mut world = healthy();
    looking.watch(&world, 3);
    crash(&mut world, "s3");
    looking.watch(&world, 12);
    looking
}

/// The lines, and then what is coloured in them.
fn drawn(lines: &[Line]) -> String {
    let mut text: String = lines.iter().map(|line| format!("{}\n", line.text().trim_end())).collect();
    text.push_str("-- tones\n");
    for (number, line) in lines.iter().enumerate() {
        let toned = line.spans.iter().filter_map(|span| Some((span.tone?, span.text.trim())));
        let toned: Vec<String> = toned.map(|(tone, text)| format!("{tone:?} {text:?}")).collect();
        if !toned.is_empty() {
            text.push_str(&format!("{}: {}\n", number + 1, toned.join(", ")));
        }
    }
    text
}

const SIZES: [Size; 3] =
    [Size { columns: 80, rows: 24 }, Size { columns: 40, rows: 10 }, Size { columns: 200, rows: 60 }];

#[track_caller]
fn as_in(name: &str, viewer: &Viewer, now_ns: i64) {
    for size in SIZES {
        let lines = viewer.draw(size, now_ns);
        assert!(lines.len() <= size.rows, "{name}: {} lines", lines.len());
        assert!(lines.iter().all(|line| line.width() <= size.columns), "{name} at {}", size.columns);
        let file = path(&format!("screen/{name}-{}x{}.txt", size.columns, size.rows));
        golden(&file, &drawn(&lines));
    }
}

#[test]
fn the_screen_shows_what_is_well_and_what_is_not() {
    let mut looking = Looking::new(Limits::SCREEN);
    looking.watch(&healthy(), 3);
    as_in("healthy", &looking.viewer(), looking.wall_ns());
    let looking = outage();
    let mut viewer = looking.viewer();
    as_in("outage", &viewer, looking.wall_ns());
    assert_eq!(viewer.press(Key::Char('o'), SIZES[0]), Reaction::Redraw);
    as_in("problems", &viewer, looking.wall_ns());
    viewer.press(Key::Char('?'), SIZES[0]);
    as_in("help", &viewer, looking.wall_ns());
}

#[test]
fn the_screen_tells_when_it_shows_the_past_or_nothing_yet() {
    let looking = outage();
    let mut viewer = looking.viewer();
    viewer.set_trouble(Some("no connection to a server".to_owned()));
    as_in("stale", &viewer, looking.wall_ns() + 95_000_000_000);
    let mut nothing = Viewer::default();
    as_in("waiting", &nothing, 0);
    nothing.set_trouble(Some("connecting to nats://127.0.0.1:4222".to_owned()));
    assert_eq!(nothing.draw(SIZES[0], 0)[0].text(), "connecting to nats://127.0.0.1:4222");
}

#[test]
fn a_group_without_a_leader_is_never_well_on_the_screen() {
    let mut looking = Looking::new(Limits::SCREEN);
    let mut world = healthy();
    looking.watch(&world, 3);
    for name in ["s1", "s2"] {
        world.groups[0].server(name).expect("a server").answers = Answers::Not;
    }
    world.groups[0].leader = None;
    looking.watch(&world, 15);
    as_in("leaderless", &looking.viewer(), looking.wall_ns());
    assert_eq!(looking.status().status, Status::Critical);
    looking.epoch(&[], &[]);
    let blind = looking.status();
    assert_eq!(blind.status, Status::Unknown, "an epoch that saw nothing shows nobody well");
    assert!(blind.groups.iter().all(|group| group.status != Status::Ok));
}

#[test]
fn whoever_chose_a_group_sees_it_alone_and_never_well_without_evidence() {
    let mut looking = outage();
    let choose = |looking: &Looking, name: &str| {
        let mut chosen = ChosenGroups::new(&[name.to_owned()]);
        chosen.learn(looking.last()).map(|()| chosen)
    };
    let mut edge = choose(&looking, "edge").expect("a group");
    let status = looking.status_of(&edge);
    assert_eq!((status.status, status.counts.groups, status.counts.peers), (Status::Ok, 1, 3));
    assert!(status.incidents.is_empty() && status.recent.is_empty(), "{:?}", status.recent);
    assert!(!status.summary.contains("s3"), "{}", status.summary);
    let status = looking.status_of(&choose(&looking, "default").expect("a group"));
    assert_eq!((status.status, status.incidents.len(), status.groups.len()), (Status::Critical, 1, 1));
    let mut viewer = Viewer::default();
    viewer.take(Arc::new(status));
    assert!(viewer.draw(SIZES[0], looking.wall_ns())[1].text().contains("only default"));
    let problems = looking.status().only_problems();
    assert_eq!((problems.groups.len(), problems.counts.groups), (1, 2), "the well one is counted");
    let unknown = choose(&looking, "edgy").expect_err("no such group");
    assert!(unknown.there_are.contains("edge"), "{unknown:?}");
    // Nobody answers for it any more: it is still the one that is meant.
    looking.watch(&World { groups: vec![group(&["s1", "s2", "s3"], "c1", "")], ..World::default() }, 20);
    edge.learn(looking.last()).ok();
    let status = looking.status_of(&edge);
    assert!(matches!(status.status, Status::Warning | Status::Unknown), "{:?}", status.summary);
    assert!(status.incidents.iter().all(|open| open.incident.group == "edge"), "{:?}", status.incidents);
}

#[test]
fn keys_sort_pause_and_scroll() {
    let looking = outage();
    let mut viewer = looking.viewer();
    let size = Size { columns: 80, rows: 10 };
    let first = viewer.draw(size, looking.wall_ns());
    assert_eq!(viewer.press(Key::Up, size), Reaction::Nothing, "it is at the top");
    assert_eq!(viewer.press(Key::Char('x'), size), Reaction::Nothing);
    assert_eq!(viewer.press(Key::PageDown, size), Reaction::Redraw);
    assert_eq!(viewer.controls().scroll, 7);
    assert_ne!(viewer.draw(size, looking.wall_ns()), first);
    viewer.press(Key::End, size);
    let last = viewer.controls().scroll;
    assert_eq!(viewer.press(Key::Down, size), Reaction::Nothing, "it is at the end");
    assert_eq!(viewer.controls().scroll, last);
    assert_eq!(viewer.press(Key::Char('s'), size), Reaction::Redraw);
    assert_eq!((viewer.controls().sort, viewer.controls().scroll), (Sort::Name, 0));
    assert_eq!(viewer.press(Key::Char('p'), size), Reaction::Redraw);
    let paused = viewer.draw(size, looking.wall_ns());
    let mut well = Looking::new(Limits::SCREEN);
    well.watch(&healthy(), 2);
    viewer.take(Arc::new(well.status()));
    assert_eq!(viewer.draw(size, looking.wall_ns()), paused, "it stays as it is");
    viewer.press(Key::Char(' '), size);
    assert!(viewer.draw(size, well.wall_ns())[0].text().starts_with("OK  "));
    assert_eq!(viewer.press(Key::Char('?'), size), Reaction::Redraw);
    assert_eq!(viewer.press(Key::Escape, size), Reaction::Redraw, "out of the help");
    for key in [Key::Escape, Key::Interrupt, Key::Char('q')] {
        assert_eq!(viewer.press(key, size), Reaction::Quit);
    }
}

#[test]
fn a_frame_fits_every_terminal_and_holds_nothing_that_does_something_to_it() {
    let hostile =
        ["\u{1b}[31mred\u{1b}[0m", "n\r\nx", "\u{202e}evil", "服务器服务器", "💥💥💥", "</script><b>", "a b"];
    let mut world =
        World { groups: vec![group(&hostile, "\u{9b}31mc", "d\u{7}\u{1b}]0;x\u{7}")], ..World::default() };
    let mut looking = Looking::new(Limits::SCREEN);
    looking.watch(&world, 3);
    crash(&mut world, "\u{202e}evil");
    looking.watch(&world, 12);
    let mut viewer = looking.viewer();
    let mut random = Random::new(7);
    let keys = ['s', 'o', 'p', '?', 'j', 'f', 'G', 'k', 'b', 'g'];
    for columns in (0..130).chain([1_000]) {
        for rows in [0, 1, 2, 3, 4, 5, 9, 24, 60] {
            let size = Size { columns, rows };
            viewer.press(Key::Char(keys[random.below(keys.len())]), size);
            let lines = viewer.draw(size, looking.wall_ns());
            assert!(lines.len() <= rows, "{columns}x{rows}: {} lines", lines.len());
            for line in &lines {
                assert!(line.width() <= columns, "{columns}x{rows}: {:?}", line.text());
                let hidden = |character: char| character.is_control() || character == '\u{202e}';
                assert!(!line.text().contains(hidden), "{:?}", line.text());
            }
        }
    }
    let line = plain_line(&looking.status()).text();
    assert!(line.contains("CRITICAL") && !line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn nothing_from_the_cluster_becomes_markup_in_the_page() {
    let hostile = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\"'&amp;<!--",
        "\u{2028}\u{1b}[2J",
    ];
    let mut world = World { groups: vec![group(&hostile, "</noscript><b>", "<i>")], ..World::default() };
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&world, 3);
    crash(&mut world, hostile[1]);
    looking.watch(&world, 12);
    let status = Arc::new(looking.status());
    let page = page::page(Some(&status), "0.1.0", looking.wall_ns());
    let empty = page::page(None, "0.1.0", 0);
    for mark in ["<script", "</script", "<img", "<b>", "<i>", "<!--", "</noscript", "onerror=alert(1)>"] {
        assert_eq!(page.matches(mark).count(), empty.matches(mark).count(), "{mark}");
    }
    assert!(!page.contains(['\u{1b}', '\u{2028}']));
    // What the script reads is what the document says.
    let (_, data) = page.split_once(r#"id="status">"#).expect("the data");
    let (data, _) = data.split_once("</script>").expect("its end");
    let read: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let document: serde_json::Value = serde_json::from_str(&page::document(Some(&status))).expect("JSON");
    assert_eq!(read, document);
    assert!(read["incidents"][0]["advice"].to_string().contains("--context system"), "the login of the call");
}

#[test]
fn ten_thousand_servers_make_no_large_page() {
    let mut groups = Vec::new();
    for number in 0..2_000 {
        let names: Vec<String> =
            (0..5).map(|server| format!("server-{server}.group-{number}.example.org")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        groups.push(group(&names, &format!("cluster-{number}"), &format!("domain-{number:04}")));
    }
    let mut world = World { groups, ..World::default() };
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&world, 1);
    for group in world.groups.iter_mut().skip(1_900) {
        let leader = group.leader.clone().expect("a leader");
        for name in group.members.clone().into_iter().skip(2) {
            group.say(&leader, &name, |said| {
                (said.offline, said.current, said.active_ms) = (true, false, 90_000)
            });
            group.server(&name).expect("a server").answers = Answers::Not;
        }
    }
    looking.watch(&world, 2);
    let began = Instant::now();
    let status = looking.status();
    let document = page::document(Some(&status));
    let took = began.elapsed();
    assert!(document.len() < 256 << 10, "{} bytes in {took:?}", document.len());
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!((status.counts.groups, status.counts.peers, status.groups.len()), (2_000, 10_000, 40));
    assert!(status.groups.iter().all(|group| group.status == Status::Critical), "the worst come first");
    assert_eq!(status.left_out["groups"], 1_960);
    assert_eq!(status.incidents.len(), 16);
    assert!(status.left_out["incidents"] > 100, "{:?}", status.left_out);
}

#[test]
fn what_is_kept_of_the_past_stays_small() {
    let mut looking = Looking::new(Limits::PAGE);
    let well = healthy();
    let mut broken = well.clone();
    crash(&mut broken, "s3");
    let mut sizes = Vec::new();
    for _ in 0..14 {
        looking.watch(&broken, 12);
        sizes.push(page::document(Some(&looking.status())).len());
        looking.watch(&well, 130);
    }
    let status = looking.status();
    assert_eq!(status.recent.len(), 30);
    assert!(status.recent.windows(2).all(|pair| pair[0].at >= pair[1].at), "the newest first");
    assert_eq!(looking.totals.epochs, 14 * 142);
    let grown = sizes[13].saturating_sub(sizes[11]);
    assert!(grown < 200, "{sizes:?}");
}
