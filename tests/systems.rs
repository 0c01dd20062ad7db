//! Which system a watcher speaks of: the same id from all its watchers, after restarts and takeovers, and
//! another one from the watchers of every other system, however alike the two are.

use std::collections::BTreeMap;
use std::time::Duration;

use metawatch::epoch::{Epoch, Heard};
use metawatch::event::Heartbeat;
use metawatch::pipeline::{Pipeline, Step};
use metawatch::replicated_state::ReplicatedState;
use metawatch::stamp::Stamp;
use metawatch::system::SystemId;

use crate::model::{Answers, Group, World, server};
use crate::support::pipeline;

fn at(seconds: u64) -> Stamp {
    Stamp::new(0, 1_795_380_222_000_000_000).plus(Duration::from_secs(seconds))
}

/// Three servers with the names that servers have everywhere, in their `run`-th run.
fn world(run: u32) -> World {
    let servers: Vec<_> = ["s1", "s2", "s3"].map(|name| server(name, "c1", "", 14)).into();
    let members = servers.iter().map(|server| server.name.clone()).collect();
    let mut group = Group {
        servers,
        members,
        leader: Some("s1".to_owned()),
        said: BTreeMap::new(),
        rescue: false,
        quorum: None,
    };
    for server in &mut group.servers {
        server.run = run;
    }
    World { groups: vec![group], ..World::default() }
}

/// One epoch of a watcher.
fn step(pipeline: &mut Pipeline, world: &World, second: u64) -> Step {
    let plan = pipeline.plan(second, at(second), Duration::from_secs(5));
    let mut epoch = Epoch::open(plan, at(second));
    for reply in world.jsz() {
        epoch.hear(at(second), Heard::Jsz { epoch: second, payload: reply.as_bytes() });
    }
    let ended = epoch.ended(at(second + 60)).expect("an end");
    pipeline.step(&epoch.close(at(second), ended))
}

fn speaks_of(pipeline: &mut Pipeline, world: &World, second: u64) -> Option<String> {
    let Step { heartbeat, events, .. } = step(pipeline, world, second);
    for outgoing in events {
        assert_eq!(outgoing.event.system, heartbeat.system);
    }
    heartbeat.system
}

fn state(pipeline: &Pipeline) -> ReplicatedState {
    let state = pipeline.replicated_state([].iter());
    serde_json::from_str(&serde_json::to_string(&state).expect("JSON")).expect("a state")
}

#[test]
fn the_id_outlives_watchers_and_servers_and_is_in_every_message() {
    let mut first = pipeline(Duration::from_secs(1));
    let id = speaks_of(&mut first, &world(1), 0).expect("an id");
    let mut stopped = world(1);
    stopped.groups[0].say("s1", "s3", |said| said.offline = true);
    stopped.groups[0].server("s3").expect("a server").answers = Answers::Not;
    let told = step(&mut first, &stopped, 1);
    assert_eq!(told.events[0].event.system.as_deref(), Some(id.as_str()));
    assert_eq!(told.heartbeat.system.as_deref(), Some(id.as_str()));
    // Another watcher takes over, when every server has been started anew.
    let mut next = pipeline(Duration::from_secs(1));
    next.set_active(false);
    assert_eq!(speaks_of(&mut next, &world(2), 2), None, "it has not heard it yet, and nobody hears this");
    assert_eq!(next.adopt(state(&first), at(3)).1, 0);
    next.set_active(true);
    assert_eq!(speaks_of(&mut next, &world(2), 4), Some(id.clone()));
    // A run without any memory, while a server still runs: the same again.
    let mut anew = pipeline(Duration::from_secs(1));
    assert_eq!(speaks_of(&mut anew, &world(1), 5), Some(id));
}

#[test]
fn systems_of_the_same_names_have_ids_of_their_own() {
    let ids = [1, 2].map(|run| speaks_of(&mut pipeline(Duration::from_secs(1)), &world(run), 0));
    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn who_sees_nothing_speaks_of_no_system() {
    let mut pipeline = pipeline(Duration::from_secs(1));
    assert_eq!(speaks_of(&mut pipeline, &World::default(), 0), None);
    assert!(speaks_of(&mut pipeline, &world(1), 1).is_some());
}

#[test]
fn a_name_that_is_given_counts_and_goes_to_the_others() {
    let name = SystemId::parse("prod").expect("a name");
    let mut named = pipeline(Duration::from_secs(1)).of_system(name);
    let mut other = pipeline(Duration::from_secs(1));
    let made_up = speaks_of(&mut other, &world(1), 0);
    assert_eq!(named.adopt(state(&other), at(1)).1, 0);
    assert_eq!(speaks_of(&mut named, &world(1), 1).as_deref(), Some("prod"));
    // One that speaks goes on with its own; one that stands by takes that of the one that speaks.
    assert_eq!(other.merge(state(&named), at(2)), (Vec::new(), 0));
    assert_eq!(speaks_of(&mut other, &world(1), 2), made_up);
    other.adopt(state(&named), at(3));
    assert_eq!(speaks_of(&mut other, &world(1), 3).as_deref(), Some("prod"));
}

#[test]
fn an_id_that_cannot_be_one_is_not_taken_over() {
    let mut pipeline = pipeline(Duration::from_secs(1));
    let id = speaks_of(&mut pipeline, &world(1), 0);
    let bad = ReplicatedState { system: Some("\u{1b}[2J".to_owned()), ..ReplicatedState::default() };
    assert_eq!(pipeline.adopt(bad, at(1)).1, 1, "it is counted");
    assert_eq!(speaks_of(&mut pipeline, &world(1), 2), id);
}

#[test]
fn heartbeats_of_versions_that_told_no_system_are_read() {
    let mut heartbeat =
        serde_json::to_value(step(&mut pipeline(Duration::from_secs(1)), &world(1), 0).heartbeat)
            .expect("a heartbeat");
    heartbeat.as_object_mut().expect("an object").remove("system").expect("a system");
    let read: Heartbeat = serde_json::from_value(heartbeat).expect("a heartbeat");
    assert_eq!(read.system, None);
}
