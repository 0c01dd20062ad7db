//! What servers may never send, and somebody might: arbitrary bytes, mutated replies, hostile names, and far too much.

use std::time::Duration;

use metawatch::epoch::{Epoch, Heard};
use metawatch::event::Outgoing;
use metawatch::pipeline::{Pipeline, Step};
use metawatch::recording::items;
use metawatch::stamp::Stamp;
use serde_json::{Value, json};

use crate::model::{World, server};
use crate::support::{Random, files, pipeline};

const HOSTILE: &[&str] = &[
    "",
    " ",
    "a.b.>",
    "*",
    ">",
    "..",
    "\u{1b}[31mred",
    "n\r\nPUB x 0\r\n",
    "\u{202e}evil",
    "s3'; reboot #",
    "--force",
    "Server name unknown at this time (peerID: 3ahZoO2Q)",
    "\u{0}",
    "größe",
    "💥💥💥",
];

/// Plays one epoch in which these replies come.
fn play(pipeline: &mut Pipeline, number: u64, jsz: &[String], statsz: &[String]) -> Step {
    let opened =
        Stamp::new(number as i64 * 1_000_000_000, 1_795_380_222_000_000_000 + number as i64 * 1_000_000_000);
    let closed = opened.plus(Duration::from_millis(5));
    let mut plan = pipeline.plan(number, opened, Duration::from_secs(5));
    plan.ask_statsz = true;
    let mut epoch = Epoch::open(plan, opened);
    for payload in jsz {
        epoch.hear(closed, Heard::Jsz { epoch: number, payload: payload.as_bytes() });
    }
    for payload in statsz {
        epoch.hear(closed, Heard::Statsz { epoch: number, payload: payload.as_bytes() });
    }
    for (subject, payload) in [("$SYS.SERVER.x.SHUTDOWN", jsz), ("$SYS.SERVER.x.LAMEDUCK", statsz)] {
        if let Some(payload) = payload.first() {
            epoch.hear(closed, Heard::Event { at: opened, subject, payload: payload.as_bytes() });
        }
    }
    let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
    pipeline.step(&epoch.close(closed, ended))
}

/// Some value that is not what a server sends.
fn odd(random: &mut Random) -> Value {
    match random.below(14) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(i64::MAX),
        5 => json!(1e300),
        6 => json!(true),
        7 => json!([]),
        8 => json!({}),
        9 => json!(0),
        10 => json!("x".repeat(10_000)),
        11 => json!("fqA4S4SK"),
        _ => json!(HOSTILE[random.below(HOSTILE.len())]),
    }
}

/// Changes one field somewhere in a reply: another value, none, or one of its list twice.
fn mutate(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = random.below(fields.len());
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            if random.one_in(6) {
                fields.remove(&key);
            } else if random.one_in(3) {
                fields.insert(key, odd(random));
            } else if let Some(field) = fields.get_mut(&key) {
                mutate(field, random);
            }
        }
        Value::Array(entries) if !entries.is_empty() => {
            let at = random.below(entries.len());
            if random.one_in(4) {
                let again = entries[at].clone();
                entries.push(again);
            }
            mutate(&mut entries[at], random);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => *value = odd(random),
    }
}

fn real_replies() -> Vec<Value> {
    let mut replies = Vec::new();
    for file in files("wire", ".json") {
        let capture: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        replies.extend(capture["replies"].as_array().unwrap().iter().cloned());
    }
    replies
}

#[test]
fn mutated_replies_of_real_servers_break_nothing() {
    let seed = 7;
    let mut random = Random::new(seed);
    let real = real_replies();
    let mut pipeline = pipeline(Duration::from_secs(1));
    let mut told: Vec<Outgoing> = Vec::new();
    for number in 1..=700 {
        let few = 1 + random.below(6);
        let replies: Vec<String> = (0..few)
            .map(|_| {
                let mut reply = real[random.below(real.len())].clone();
                for _ in 0..random.below(4) {
                    mutate(&mut reply, &mut random);
                }
                reply.to_string()
            })
            .collect();
        let step = play(&mut pipeline, number, &replies, &replies);
        let shown = serde_json::to_string(&step.heartbeat).expect("a heartbeat");
        assert!(shown.len() < 64 << 10, "seed {seed}, epoch {number}: a heartbeat of {} bytes", shown.len());
        told.extend(step.events);
    }
    for outgoing in &told {
        crate::contract::check_subject(&outgoing.subject);
        let fine = outgoing.headers.iter().all(|(_, value)| !value.chars().any(char::is_control));
        assert!(fine, "seed {seed}: {:?}", outgoing.headers);
    }
}

#[test]
fn arbitrary_bytes_break_nothing() {
    let mut random = Random::new(11);
    let real = real_replies();
    for number in 1..=1_000_u64 {
        let mut bytes = real[random.below(real.len())].to_string().into_bytes();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        let now = Stamp::new(0, 0);
        let mut pipeline = pipeline(Duration::from_secs(1));
        let plan = pipeline.plan(number, now, Duration::from_secs(5));
        let mut epoch = Epoch::open(plan, now);
        epoch.hear(now, Heard::Jsz { epoch: number, payload: &bytes });
        epoch.hear(now, Heard::Jsz { epoch: number.wrapping_sub(1), payload: &bytes });
        epoch.hear(now, Heard::Statsz { epoch: number, payload: &bytes });
        epoch.hear(now, Heard::Event { at: now, subject: "$SYS.SERVER.N.SHUTDOWN", payload: &bytes });
        let ended = epoch.ended(now.plus(Duration::from_secs(60))).expect("an end");
        pipeline.step(&epoch.close(now, ended));
        // A file of it is read to its end.
        assert!(items(&bytes, 1).count() <= bytes.len());
    }
}

#[test]
fn hostile_names_split_no_subject_and_no_header() {
    for name in HOSTILE.iter().filter(|name| !name.is_empty()) {
        let mut world = World::default();
        let mut group = crate::model::Group::default();
        for each in ["a", name] {
            group.servers.push(server(each, name, name, 14));
            group.members.insert(each.to_owned());
        }
        group.leader = Some("a".into());
        group.say("a", name, |said| said.offline = true);
        world.groups.push(group);
        let mut pipeline = pipeline(Duration::from_secs(1));
        let mut told = Vec::new();
        for number in 1..5 {
            told.extend(play(&mut pipeline, number, &world.jsz(), &world.statsz()).events);
        }
        assert!(!told.is_empty(), "{name:?}");
        crate::contract::check_events(&told);
    }
}

/// Servers that nobody ever heard of before or hears of again; every fourth follows a leader called evil.
fn invented(count: usize, random: &mut Random) -> Vec<String> {
    let one = |index: usize, random: &mut Random| {
        let name = format!("x{:x}", random.next());
        let leader = match index % 4 {
            0 => name.clone(),
            1 => "evil".to_owned(),
            2 => format!("y{}", random.below(100)),
            _ => format!("z{:x}", random.next()),
        };
        let domain = if index.is_multiple_of(3) { format!("d{}", random.below(50)) } else { String::new() };
        let row = json!({"name": format!("w{:x}", random.next()), "offline": true, "active": 0});
        let meta = json!({"leader": leader, "cluster_size": 3, "replicas": [row]});
        let server =
            json!({"name": name, "id": name, "cluster": format!("c{:x}", random.next()), "domain": domain});
        json!({"server": server, "data": {"meta_cluster": meta}}).to_string()
    };
    (0..count).map(|index| one(index, random)).collect()
}

/// A leader whose list is never complete, and another one every time.
fn evil_leader(rows: usize, random: &mut Random) -> String {
    let rows: Vec<Value> =
        (0..rows).map(|_| json!({"name": format!("r{:x}", random.next()), "offline": true})).collect();
    let meta = json!({"leader": "evil", "cluster_size": 3, "replicas": rows});
    json!({"server": {"name": "evil", "id": "NEVIL"}, "data": {"meta_cluster": meta}}).to_string()
}

/// How many peers and clusters a step still knows of.
fn known(step: &Step) -> (usize, usize) {
    let peers = step.view.groups.iter().map(|group| group.peers.len()).sum();
    (peers, step.view.groups.iter().map(|group| group.clusters.len()).sum())
}

#[track_caller]
fn check_does_not_grow(epochs: u64, flood: impl Fn(&mut Random) -> Vec<String>) {
    let mut random = Random::new(3);
    let mut pipeline = pipeline(Duration::from_secs(1));
    let sizes: Vec<_> =
        (1..=epochs).map(|number| known(&play(&mut pipeline, number, &flood(&mut random), &[]))).collect();
    let (half, whole) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    let grows = |half: usize, whole: usize| whole > half + half / 4;
    assert!(!grows(half.0, whole.0) && !grows(half.1, whole.1), "it grows and grows: {sizes:?}");
}

#[test]
fn a_flood_of_invented_servers_does_not_stay() {
    check_does_not_grow(5, |random| invented(3_000, random));
}

#[test]
fn a_leader_that_invents_peers_does_not_fill_the_memory() {
    check_does_not_grow(20, |random| {
        let follower = |index| {
            let name = format!("f{index}x{:x}", random.next());
            let meta = json!({"leader": "evil", "cluster_size": 3});
            json!({"server": {"name": name, "cluster": name}, "data": {"meta_cluster": meta}}).to_string()
        };
        let mut replies: Vec<String> = (0..300).map(follower).collect();
        replies.push(evil_leader(2_000, random));
        replies
    });
}

#[test]
fn a_crash_is_told_in_the_middle_of_a_flood() {
    let mut random = Random::new(5);
    let mut pipeline = pipeline(Duration::from_secs(1));
    let mut script = crate::scenarios::Script::default();
    assert!(script.header("group s1 s2 s3 leader s1 version 2.14"));
    let mut told = Vec::new();
    for number in 1..=8 {
        if number == 3 {
            script.apply("s3 crashed").expect("a clause");
        }
        let mut replies = script.world.jsz();
        replies.extend(invented(500, &mut random));
        let step = play(&mut pipeline, number, &replies, &script.world.statsz());
        told.extend(step.events.into_iter().map(|outgoing| outgoing.event.summary));
    }
    assert!(told.iter().any(|summary| summary.starts_with("s3 is offline (crashed)")), "{}", told.len());
}

/// Only the first bad replies are kept as examples; whoever sent the others lives just as much.
#[test]
fn a_server_whose_reply_is_one_of_many_bad_ones_is_not_silent() {
    let mut script = crate::scenarios::Script::default();
    assert!(script.header("group s1 s2 s3 leader s1 version 2.14"));
    let mut pipeline = pipeline(Duration::from_secs(1));
    for number in 1..=10 {
        let mut replies = Vec::new();
        if number > 2 {
            let bad = |index| json!({"server": {"name": format!("bad{index}")}, "data": {"meta_cluster": 1}});
            replies.extend((0..300).map(|index| bad(index).to_string()));
            script.apply("s3 unreadable").expect("a clause");
        }
        replies.extend(script.world.jsz());
        let events = play(&mut pipeline, number, &replies, &[]).events;
        // Nothing of the announcements that go with every epoch here.
        let told: Vec<&String> = events.iter().map(|outgoing| &outgoing.event.summary).collect();
        assert!(!told.iter().any(|summary| summary.contains("does not answer")), "{told:?}");
    }
}
