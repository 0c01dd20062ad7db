//! What one watcher remembers of the servers, and another one goes on with: a document of ages, written and read.

use std::time::Duration;

use metawatch::alert::State;
use metawatch::epoch::{Ended, Epoch, Heard, Plan};
use metawatch::event::AlertEvent;
use metawatch::pipeline::Pipeline;
use metawatch::replicated_state::ReplicatedState;
use metawatch::stamp::Stamp;
use metawatch::view::{Moments, SavedHistory};

use crate::model::{Answers, Group, World, server};
use crate::support::pipeline;

const INTERVAL: Duration = Duration::from_secs(1);

fn at(millis: i64) -> Stamp {
    Stamp::new(millis * 1_000_000, 1_795_380_222_000_000_000 + millis * 1_000_000)
}

/// The same moment on a clock that is an hour ahead, of a host that has run for another time.
fn elsewhere(millis: i64) -> Stamp {
    Stamp::new((millis + 77_000) * 1_000_000, 1_795_383_822_000_000_000 + millis * 1_000_000)
}

fn fleet(groups: usize) -> World {
    let group = |number: usize| {
        let domain = format!("d{number}");
        let names: Vec<String> = (1..=9).map(|peer| format!("{domain}s{peer}")).collect();
        let servers = names.iter().map(|name| server(name, &format!("c{number}"), &domain, 14)).collect();
        let (members, leader) = (names.iter().cloned().collect(), Some(names[0].clone()));
        Group { servers, members, leader, ..Group::default() }
    };
    World { groups: (0..groups).map(group).collect(), ..World::default() }
}

/// One epoch, in which everybody answers at once who does; what it tells.
fn epoch(pipeline: &mut Pipeline, world: &World, number: u64, now: Stamp) -> Vec<AlertEvent> {
    let plan = pipeline.plan(number, now, Duration::from_secs(5));
    let ask_statsz = plan.ask_statsz;
    let mut epoch = Epoch::open(Plan { ..plan }, now);
    for reply in &world.jsz() {
        epoch.hear(now, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
    }
    for reply in world.statsz().iter().filter(|_| ask_statsz) {
        epoch.hear(now, Heard::Statsz { epoch: number, payload: reply.as_bytes() });
    }
    let step = pipeline.step(&epoch.close(now, Ended::AllHeard));
    step.events.into_iter().map(|outgoing| outgoing.event).collect()
}

fn sent(history: SavedHistory) -> String {
    let state = ReplicatedState { history: Some(history), ..ReplicatedState::default() };
    serde_json::to_string(&state).expect("JSON")
}

fn received(text: &str) -> Option<SavedHistory> {
    serde_json::from_str::<ReplicatedState>(text).expect("a state").history
}

/// Who took over this long after the last word of the other, which had looked for a minute.
fn heir(world: &World, gap: i64) -> (Pipeline, i64) {
    let mut first = pipeline(INTERVAL);
    for number in 0..60 {
        epoch(&mut first, world, number, at(number as i64 * 1_000));
    }
    let history = received(&sent(first.saved_history(at(59_000)))).expect("a history");
    let mut second = pipeline(INTERVAL);
    let moment = elsewhere(59_000);
    second.inherit(history, Moments { received: moment, confirmed: moment, now: elsewhere(59_000 + gap) });
    (second, 59_000 + gap)
}

#[test]
fn who_goes_on_expects_the_same_servers_and_writes_down_the_same() {
    let world = fleet(3);
    let mut first = pipeline(INTERVAL);
    for number in 0..3 {
        epoch(&mut first, &world, number, at(number as i64 * 1_000));
    }
    let history = first.saved_history(at(2_000));
    let (second, _) = heir(&world, 1_000);
    assert!(second.saved_history(elsewhere(60_000)).tells_the_same(&history));
    let expected = |pipeline: &Pipeline, now| pipeline.plan(9, now, INTERVAL).expected;
    assert_eq!(expected(&second, elsewhere(60_000)), expected(&first, at(3_000)));
    assert_eq!(expected(&second, elsewhere(60_000)).len(), 27);
}

/// The same as for one that has looked all the time: two epochs and two seconds.
#[test]
fn a_crash_in_the_gap_is_critical_after_two_seconds_of_silence_on_the_clock_of_who_goes_on() {
    for gap in [500, 5_000, 60_000] {
        let mut world = fleet(2);
        let (mut second, begins) = heir(&world, gap);
        let dead = world.groups[1].server("d1s4").expect("a server");
        (dead.answers, dead.cut) = (Answers::Not, true);
        let mut fired = None;
        for step in 0..10 {
            let now = elsewhere(begins + step * 1_000);
            world.groups[1].say("d1s1", "d1s4", |said| said.active_ms = 400 + step * 1_000);
            let events = epoch(&mut second, &world, 100 + step as u64, now);
            if events.iter().any(|event| event.state == State::Firing) && fired.is_none() {
                fired = Some(step);
            }
        }
        assert!(fired.is_some_and(|step| (2..=3).contains(&step)), "{gap}: after {fired:?} s");
    }
}

/// Nobody looked for a minute, and all are well.
#[test]
fn what_nobody_saw_counts_against_nobody() {
    for gap in [500, 60_000, 86_400_000] {
        let world = fleet(2);
        let (mut second, begins) = heir(&world, gap);
        for step in 0..10 {
            let now = elsewhere(begins + step * 1_000);
            let events = epoch(&mut second, &world, 100 + step as u64, now);
            assert!(events.is_empty(), "{gap}: {events:?}");
        }
    }
}

#[test]
fn who_has_been_silent_for_long_is_so_for_the_next_one_too_and_only_changes_are_worth_a_word() {
    let mut world = fleet(1);
    let mut first = pipeline(INTERVAL);
    epoch(&mut first, &world, 1, at(0));
    epoch(&mut first, &world, 2, at(1_000));
    let healthy = first.saved_history(at(1_000));
    epoch(&mut first, &world, 3, at(2_000));
    assert!(first.saved_history(at(2_000)).tells_the_same(&healthy));
    world.groups[0].server("d0s4").expect("a server").answers = Answers::Not;
    epoch(&mut first, &world, 4, at(3_000));
    let silent = first.saved_history(at(3_000));
    assert!(!silent.tells_the_same(&healthy));
    epoch(&mut first, &world, 5, at(4_000));
    assert!(first.saved_history(at(4_000)).tells_the_same(&silent), "it only grows older");
    let text = sent(first.saved_history(at(4_000)));
    assert!(text.contains(r#""silent_ms":[1000,2]"#), "{text}");
}

#[test]
fn a_document_of_another_version_or_of_a_stranger_is_as_good_as_none_and_the_state_is_taken_all_the_same() {
    let mut first = pipeline(INTERVAL);
    epoch(&mut first, &fleet(1), 1, at(0));
    let good = sent(first.saved_history(at(0)));
    assert!(received(&good).is_some());
    for (from, to) in [
        (r#""v":1"#, r#""v":2"#),
        (r#""size":[9,5]"#, r#""size":[9,10]"#),
        (r#""size":[9,5]"#, r#""size":[18446744073709551615,1]"#),
        (r#""peers":["#, r#""peers":[{},"#),
        (r#""peers":["#, r#""peers":[{"id":"far too long for a peer id"},"#),
        (r#""groups":["#, r#""groups":[7,"#),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(received(&bad).is_none(), "{to}");
    }
    // Ages beyond reason only lie far back.
    let aged =
        good.replacen(r#""peers":[{"#, r#""peers":[{"silent_ms":[18446744073709551615,4294967295],"#, 1);
    let mut second = pipeline(INTERVAL);
    let history = received(&aged).expect("a history");
    second.inherit(history, Moments { received: at(0), confirmed: at(0), now: at(0) });
    epoch(&mut second, &fleet(1), 1, at(1_000));
}

#[test]
fn ten_thousand_servers_take_little_more_than_a_megabyte() {
    let world = fleet(1_112);
    let mut first = pipeline(INTERVAL);
    epoch(&mut first, &world, 1, at(0));
    let bytes = sent(first.saved_history(at(0))).len();
    assert!(bytes <= 1_500_000, "{bytes} bytes");
}
