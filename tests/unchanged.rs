//! What has not changed since the last epoch is neither read nor merged again: whatever happens, that leads to what
//! reading and merging everything leads to.

use std::time::Duration;

use metawatch::alert::LifeRules;
use metawatch::check::CHECKS;
use metawatch::epoch::{Epoch, Gathered, Heard, LastReplies, Plan};
use metawatch::pipeline::{Pipeline, Step};
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;
use serde_json::{Value, json};

use crate::model::{Answers, Group, World, announcement, server};
use crate::recordings::{Line, lines, read};
use crate::support::{Random, files, pipeline_with};

/// Two watchers of one system: one remembers what was answered, the other reads and merges all anew.
struct Both {
    fresh: Pipeline,
    remembering: Pipeline,
    last_replies: LastReplies,
    last: Option<Step>,
    number: u64,
    /// How many answers, and how many groups, were taken from the epoch before.
    unchanged: (usize, usize),
}

/// A pipeline that evaluates every check but one: a group with an open alert about a condition is looked at anew each
/// time, and these have servers of different versions from the beginning.
fn pipeline(interval: Duration) -> Pipeline {
    let checks = CHECKS.iter().map(|check| check.code).filter(|code| *code != "SERVER_002");
    let checks = Some(checks.collect());
    pipeline_with(Rules { interval, checks, ..Rules::default() }, LifeRules::default())
}

/// What an epoch hears.
type Hear<'a> = &'a dyn Fn(&mut Epoch, u64);

impl Both {
    fn new(interval: Duration) -> Self {
        Self {
            fresh: pipeline(interval),
            remembering: pipeline(interval),
            last_replies: LastReplies::new(),
            last: None,
            number: 0,
            unchanged: (0, 0),
        }
    }

    /// One epoch of both, which must lead to the same.
    #[track_caller]
    fn epoch(&mut self, what: &str, opened: Stamp, closed: Stamp, statsz: bool, hear: Hear<'_>) {
        self.number += 1;
        let plan = |pipeline: &Pipeline| {
            let plan = pipeline.plan(self.number, opened, Duration::from_secs(5));
            Plan { ask_statsz: statsz || plan.ask_statsz, ..plan }
        };
        let (plan, other) = (plan(&self.fresh), plan(&self.remembering));
        assert_eq!(plan, other, "{what}: the plan of epoch {}", self.number);
        let (fresh, _) = gather(plan, opened, closed, LastReplies::default(), hear);
        let last_replies = std::mem::take(&mut self.last_replies);
        let (remembering, last_replies) = gather(other, opened, closed, last_replies, hear);
        self.last_replies = last_replies;
        let place = format!("{what}: epoch {}", self.number);
        check_same(&place, &shown(&fresh), &shown(&remembering));
        self.unchanged.0 += remembering.respondents.iter().filter(|heard| heard.unchanged).count();
        let step = self.fresh.step(&fresh);
        let mut again = self.remembering.step_after(&remembering, self.last.take());
        self.unchanged.1 += std::mem::take(&mut again.unchanged_groups);
        check_same(&place, &format!("{step:#?}"), &format!("{again:#?}"));
        self.last = Some(again);
    }

    /// Both go on with what they would have saved.
    fn restart(&mut self, now: Stamp) {
        let saved = self.fresh.replicated_state(std::iter::empty());
        self.fresh.adopt(saved.clone(), now);
        self.remembering.adopt(saved, now);
    }
}

fn gather(
    plan: Plan,
    opened: Stamp,
    closed: Stamp,
    last: LastReplies,
    hear: Hear<'_>,
) -> (Gathered, LastReplies) {
    let number = plan.number;
    let mut epoch = Epoch::open_after(plan, opened, last);
    hear(&mut epoch, number);
    let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
    epoch.close_with_replies(closed, ended)
}

/// An epoch, without what it knows of the one before.
fn shown(gathered: &Gathered) -> String {
    let mut gathered = gathered.clone();
    gathered.respondents.iter_mut().for_each(|respondent| respondent.unchanged = false);
    gathered.new_loads = false;
    format!("{gathered:#?}")
}

#[track_caller]
fn check_same(place: &str, fresh: &str, remembering: &str) {
    if fresh != remembering {
        let differs = fresh.lines().zip(remembering.lines()).position(|(one, other)| one != other);
        let line = differs.unwrap_or(0);
        let around = |text: &str| -> Vec<String> {
            text.lines().skip(line.saturating_sub(12)).take(16).map(str::to_owned).collect()
        };
        panic!("{place}, line {line}:\n{:#?}\nbecame\n{:#?}", around(fresh), around(remembering));
    }
}

fn play(both: &mut Both, what: &str, line: &Line) {
    let opened = Stamp::new(line.opened_ns, line.opened_ns);
    let closed = opened.plus(line.elapsed);
    both.epoch(what, opened, closed, line.statsz.is_some(), &|epoch, number| {
        for (at, subject, payload) in &line.events {
            epoch.hear(closed, Heard::Event { at: Stamp::new(*at, *at), subject, payload });
        }
        for payload in &line.replies {
            epoch.hear(closed, Heard::Jsz { epoch: number, payload });
        }
        for payload in line.statsz.iter().flatten() {
            epoch.hear(closed, Heard::Statsz { epoch: number, payload });
        }
    });
}

#[test]
fn recordings_lead_to_the_same_with_and_without_a_memory() {
    let mut unchanged = (0, 0);
    for file in files("recordings", ".ndjson.gz") {
        let what = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // As they are, and without the questions for routes, so that quiet times are quiet.
        for asks in [true, false] {
            let mut both = Both::new(Duration::from_secs(1));
            for line in &lines(&read(&file)) {
                let line = Line { statsz: line.statsz.clone().filter(|_| asks), ..line.clone() };
                play(&mut both, &what, &line);
            }
            unchanged = (unchanged.0 + both.unchanged.0, unchanged.1 + both.unchanged.1);
        }
    }
    assert!(unchanged.0 > 1_000 && unchanged.1 > 100, "hardly anything was unchanged: {unchanged:?}");
}

/// A system of groups that share domains and names, or do not.
fn world(random: &mut Random) -> World {
    let mut world = World::default();
    for (number, domain) in ["", "d1", "d2", "d2"].into_iter().enumerate() {
        let mut group = Group::default();
        for index in 0..2 + random.below(3) {
            // The names of d1 and d2 are those of servers without a domain, too.
            let name = if number == 3 { format!("t{index}") } else { format!("s{index}") };
            let minor = [10, 12, 14, 15][random.below(4)];
            group.servers.push(server(&name, &format!("c{number}"), domain, minor));
            group.members.insert(name);
        }
        group.leader = group.members.first().cloned();
        world.groups.push(group);
    }
    // And one that is in no group.
    world.groups.push(Group { servers: vec![server("x", "c9", "", 14)], ..Group::default() });
    world.groups[4].servers[0].answers = Answers::Disabled;
    world
}

/// Something changes somewhere. Gives what was announced.
fn change(world: &mut World, random: &mut Random) -> Option<(String, String)> {
    let count = world.groups.len();
    let other = random.below(count);
    let other = world.groups[other].servers[0].clone();
    let group = &mut world.groups[random.below(count)];
    let place = random.below(group.servers.len());
    let names: Vec<String> = group.servers.iter().map(|server| server.name.clone()).collect();
    let name = names[random.below(names.len())].clone();
    let reporter = group.leader.clone().unwrap_or_else(|| names[0].clone());
    let server = &mut group.servers[place];
    match random.below(22) {
        0 => server.answers = Answers::Not,
        1 => server.answers = Answers::Disabled,
        2 => server.answers = Answers::Standalone,
        3 => server.answers = Answers::Unreadable,
        4 => server.answers = Answers::Error,
        5..=8 => server.answers = Answers::Member,
        9 => server.run += 1,
        10 => server.forged = !server.forged,
        11 => server.size = if server.size.is_some() { None } else { Some(random.below(6) as i64) },
        12 => server.also_lists = if server.also_lists.is_empty() { vec![other.name] } else { Vec::new() },
        13 => server.domain = other.domain,
        14 => server.follows = if server.follows.is_some() { None } else { Some(Some(name)) },
        15 => group.leader = if random.one_in(4) { None } else { Some(name) },
        16 => {
            if !group.members.remove(&name) {
                group.members.insert(name);
            }
        }
        17 => group.say(&reporter, &name, |said| said.offline = !said.offline),
        18 => group.say(&reporter, &name, |said| said.current = !said.current),
        19 => group.say(&reporter, &name, |said| said.active_ms = 15_000 - said.active_ms),
        20 => group.say(&reporter, &name, |said| said.lag = 7 - said.lag),
        _ => {
            let kind = if random.one_in(2) { "SHUTDOWN" } else { "LAMEDUCK" };
            return Some(announcement(server, kind));
        }
    }
    None
}

/// Everything is well again.
fn mend(world: &mut World) {
    for (number, group) in world.groups.iter_mut().enumerate().take(4) {
        group.said.clear();
        group.members = group.servers.iter().map(|server| server.name.clone()).collect();
        group.leader = group.members.first().cloned();
        for server in &mut group.servers {
            let domain = ["", "d1", "d2", "d2"][number];
            *server = crate::model::Server {
                run: server.run,
                ..self::server(&server.name, &server.cluster, domain, server.minor)
            };
        }
    }
}

/// The load of a server: mostly the same, at times a little different, and now and then near its limits.
fn load(data: &mut Value, number: u64, random: &mut Random) {
    let stored = match random.below(200) {
        0 => 990 + random.next() % 30,
        1 => random.next() % 1_000,
        2 => u64::MAX,
        _ => 10 + number / 9,
    };
    data["config"] = json!({"max_storage": if random.one_in(200) { -1 } else { 1_000 }});
    data["storage"] = stored.into();
    data["reserved_storage"] = 800.into();
    data["streams"] = (number / 20 % 7).into();
    data["consumers"] = 3.into();
    if data["meta_cluster"].is_object() {
        data["meta_cluster"]["pending"] = if random.one_in(200) { 900 } else { 0 }.into();
        if random.one_in(200) {
            data["meta_cluster"]["snapshot"] = json!({"last_duration": 6_000_000_000_u64});
        }
    }
}

/// The reply as a server spells it, at this time: the server first, then the data; `active` a little different.
fn spelled(reply: &str, number: u64, random: &mut Random) -> String {
    let mut reply: Value = serde_json::from_str(reply).expect("JSON");
    reply["server"]["seq"] = (number * 10).into();
    reply["server"]["time"] = format!("2026-11-26T14:00:{:02}.{number}Z", number % 60).into();
    if reply["data"].is_object() {
        reply["data"]["messages"] = (random.next() % 1_000).into();
        load(&mut reply["data"], number, random);
        for row in reply["data"]["meta_cluster"]["replicas"].as_array_mut().into_iter().flatten() {
            let active = row["active"].as_i64().filter(|active| *active > 0);
            if let Some(active) = active {
                row["active"] = (active + (random.next() % 100_000_000) as i64).into();
            }
        }
    }
    let part = |name: &str| {
        let value = reply.get(name).filter(|value| !value.is_null())?;
        Some(format!("\"{name}\":{value}"))
    };
    let parts: Vec<String> = ["server", "data", "error"].into_iter().filter_map(part).collect();
    format!("{{{}}}", parts.join(","))
}

#[track_caller]
fn check_history(seed: u64) -> (usize, usize) {
    let mut random = Random::new(seed);
    let (mut world, interval) = (world(&mut random), Duration::from_secs(1));
    let mut both = Both::new(interval);
    let mut opened = Stamp::new(0, 1_795_380_222_000_000_000);
    for number in 0..220_u64 {
        let said = if number > 6 && random.one_in(6) { change(&mut world, &mut random) } else { None };
        if random.one_in(30) {
            mend(&mut world);
        }
        let mut replies: Vec<String> =
            world.jsz().iter().map(|reply| spelled(reply, number, &mut random)).collect();
        random.shuffle(&mut replies);
        match random.below(40) {
            0 => replies.truncate(replies.len() / 2),
            1 => replies.clear(),
            2 => replies.extend(replies.first().cloned()),
            3 => replies.extend(replies.first().map(|reply| reply.replace("\"seq\":", "\"seq\":9"))),
            4 => replies.extend(replies.first().map(|reply| format!("{reply}}}"))),
            5 => replies.push(replies[0].replacen("\"id\":\"N", "\"id\":\"NN", 1)),
            _ => {}
        }
        let elapsed = Duration::from_millis(5 + random.next() % 20);
        let (closed, dropped) = (opened.plus(elapsed), random.one_in(50));
        let statsz = random.one_in(20);
        let what = format!("seed {seed}, step {number}");
        both.epoch(&what, opened, closed, statsz, &|epoch, number| {
            if let Some((subject, payload)) = &said {
                epoch.hear(closed, Heard::Event { at: opened, subject, payload: payload.as_bytes() });
            }
            for payload in &replies {
                epoch.hear(closed, Heard::Jsz { epoch: number, payload: payload.as_bytes() });
            }
            for payload in world.statsz().iter().filter(|_| statsz) {
                epoch.hear(closed, Heard::Statsz { epoch: number, payload: payload.as_bytes() });
            }
            if dropped {
                epoch.hear(closed, Heard::Dropped);
            }
        });
        match random.below(60) {
            // An epoch is lost, or the watcher sleeps.
            0 => both.number += 1,
            1 => opened = opened.plus(Duration::from_secs(20)),
            2 => both.restart(closed),
            _ => {}
        }
        opened = opened.plus(interval);
    }
    both.unchanged
}

/// `SEEDS=2000` looks at more of them.
#[test]
fn random_histories_lead_to_the_same_with_and_without_a_memory() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(8);
    let mut unchanged = (0, 0);
    for seed in 0..seeds {
        let (answers, groups) = check_history(seed);
        unchanged = (unchanged.0 + answers, unchanged.1 + groups);
    }
    assert!(unchanged.0 > 1_000 && unchanged.1 > 200, "hardly anything was unchanged: {unchanged:?}");
}
