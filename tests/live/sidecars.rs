//! Several watchers, restarts and crashes of watchers: every transition is told once, under one incident.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use metawatch::alert::{Reason, State};
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;

use super::three;
use crate::cluster::Cluster;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Seen, Watch, Watching};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

/// A watcher beside each server, which it prefers.
fn beside_each(cluster: &Cluster) -> BTreeMap<String, Sidecar> {
    let start = |name: String| {
        let others =
            cluster.names().into_iter().filter(|other| *other != name).map(|other| cluster.url(&other));
        let servers: Vec<String> = std::iter::once(cluster.url(&name)).chain(others).collect();
        let watcher = format!("beside-{name}");
        let sidecar = Sidecar::start(cluster, Path::new(BINARY), &watcher, &servers.join(","), &[]).unwrap();
        (watcher, sidecar)
    };
    cluster.names().into_iter().map(start).collect()
}

fn alone(cluster: &Cluster) -> Sidecar {
    Sidecar::start(cluster, Path::new(BINARY), "alone", &cluster.urls(), &[]).unwrap()
}

/// Who speaks, once all three know of each other.
async fn speaker(watch: &mut Watch, watchers: u64) -> String {
    watch.expect_heartbeat(&format!("{watchers} watchers"), |beat| beat.watchers == watchers).await.speaker
}

/// Waits for an event that is no repetition of these.
async fn expect_new(watch: &mut Watch, known: &[Seen], state: State) {
    let new = |event: &AlertEvent| event.state == state && known.iter().all(|seen| seen.event.id != event.id);
    if !watch.seen().iter().any(|seen| new(&seen.event)) {
        watch.expect(&format!("a new {}", state.as_str()), new).await;
    }
}

/// Each event came under one id, and nothing is told twice under two.
#[track_caller]
fn check_told_once(seen: &[Seen], expected: &[(&str, State)]) {
    let mut told: Vec<(String, State, String)> = Vec::new();
    for Seen { event, .. } in seen {
        let name = event.peer.as_ref().and_then(|peer| peer.name.clone()).unwrap_or_default();
        let firing_or_over = event.check == "META_001" && event.state != State::Suspected;
        let step = !matches!(event.reason, Reason::Updated | Reason::Diagnosed | Reason::Reminder);
        if firing_or_over && step && !told.iter().any(|(_, _, id)| *id == event.id) {
            told.push((name, event.state, event.id.clone()));
        }
    }
    let told: Vec<(&str, State)> = told.iter().map(|(name, state, _)| (name.as_str(), *state)).collect();
    assert_eq!(told, expected, "{seen:#?}");
}

#[tokio::test]
async fn when_the_speaker_is_killed_another_one_goes_on_with_its_incidents() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let mut sidecars = beside_each(&cluster);
    let first = speaker(&mut watch, 3).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.monitor.name, first);
    sidecars.get_mut(&first).unwrap().kill().unwrap();
    let second = watch.expect_heartbeat("another speaker", |beat| beat.speaker != first).await;
    assert_eq!((second.status, second.incidents), (Status::Alerting, 1), "{second:?}");
    assert_eq!(second.active[0].incident, firing.event.incident);
    // The one that was killed comes back, and listens.
    sidecars.get_mut(&first).unwrap().again().unwrap();
    assert_eq!(speaker(&mut watch, 3).await, second.speaker);
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    assert_eq!(resolved.event.monitor.name, second.speaker);
    let seen = watch.stop().await;
    check_told_once(&seen, &[(&follower, State::Firing), (&follower, State::Resolved)]);
}

#[tokio::test]
async fn a_speaker_that_was_frozen_finds_another_one_speaking_and_says_nothing_twice() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecars = beside_each(&cluster);
    let first = speaker(&mut watch, 3).await;
    sidecars[&first].signal("STOP").unwrap();
    let second = watch.expect_heartbeat("another speaker", |beat| beat.speaker != first).await.speaker;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    sidecars[&first].signal("CONT").unwrap();
    assert_eq!(speaker(&mut watch, 3).await, second);
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = watch.stop().await;
    check_told_once(&seen, &[(&follower, State::Firing), (&follower, State::Resolved)]);
}

#[tokio::test]
async fn the_speaker_loses_its_server_and_the_loss_is_told_once() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let _sidecars = beside_each(&cluster);
    let first = speaker(&mut watch, 3).await;
    let server = first.strip_prefix("beside-").unwrap().to_owned();
    cluster.kill(&server).unwrap();
    watch.expect_peer(&server, State::Firing).await;
    cluster.boot(&server).unwrap();
    watch.expect_peer(&server, State::Resolved).await;
    speaker(&mut watch, 3).await;
    let seen = watch.stop().await;
    check_told_once(&seen, &[(&server, State::Firing), (&server, State::Resolved)]);
}

#[tokio::test]
async fn a_speaker_that_is_stopped_hands_over_at_once() {
    let cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let mut sidecars = beside_each(&cluster);
    let first = speaker(&mut watch, 3).await;
    let leaving = sidecars.get_mut(&first).unwrap();
    leaving.signal("TERM").unwrap();
    assert_eq!(leaving.wait().unwrap(), Some(0), "{}", leaving.log());
    watch.expect_heartbeat("another speaker", |beat| beat.speaker != first).await;
    // It may not have heard the third one yet.
    watch.expect_heartbeat("both that are left", |beat| beat.speaker != first && beat.watchers == 2).await;
}

/// The watcher of this name ends as by a crash.
fn kill(sidecars: &mut BTreeMap<String, Sidecar>, name: &str) {
    sidecars.remove(name).unwrap().kill().unwrap();
}

#[tokio::test]
async fn of_eight_watchers_one_speaks_and_when_it_and_its_standbys_are_killed_at_once_another_one_goes_on() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let names = cluster.names();
    let start = |number: usize| {
        let order = (0..names.len()).map(|at| cluster.url(&names[(number + at) % names.len()]));
        let servers: Vec<String> = order.collect();
        let watcher = format!("watcher-{number}");
        let sidecar = Sidecar::start(&cluster, Path::new(BINARY), &watcher, &servers.join(","), &["-v"]);
        (watcher, sidecar.unwrap())
    };
    let mut sidecars: BTreeMap<String, Sidecar> = (0..8).map(start).collect();
    let first = speaker(&mut watch, 8).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.monitor.name, first, "the others are silent");
    let named = "names this watcher as one that takes over";
    let standbys: Vec<String> = sidecars
        .iter()
        .filter(|(name, sidecar)| **name != first && sidecar.log().contains(named))
        .map(|(name, _)| name.clone())
        .collect();
    assert!((2..8).contains(&standbys.len()), "{standbys:?}");
    for name in standbys.iter().chain([&first]) {
        kill(&mut sidecars, name);
    }
    let second = watch.expect_heartbeat("another speaker", |beat| beat.speaker != first).await;
    assert!(sidecars.contains_key(&second.speaker), "{}", second.speaker);
    assert_eq!(second.active[0].incident, firing.event.incident);
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    let seen = watch.stop().await;
    check_told_once(&seen, &[(&follower, State::Firing), (&follower, State::Resolved)]);
}

#[tokio::test]
async fn what_recovers_while_no_watcher_runs_is_resolved_by_the_next_run_under_the_same_incident() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let mut sidecar = alone(&cluster);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    sidecar.kill().unwrap();
    cluster.boot(&follower).unwrap();
    cluster.wait_until_well().await.unwrap();
    sidecar.again().unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    let seen = watch.stop().await;
    check_told_once(&seen, &[(&follower, State::Firing), (&follower, State::Resolved)]);
}

#[tokio::test]
async fn a_watcher_killed_many_times_around_an_alert_tells_it_once() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let mut sidecar = alone(&cluster);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    let mut expected = Vec::new();
    for round in 0..4_u64 {
        let known = watch.seen().to_vec();
        cluster.stop(&follower).await.unwrap();
        // From before the alert to after it; the first epoch of a run comes about two seconds after its start.
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        sidecar.again().unwrap();
        tokio::time::sleep(Duration::from_millis(1_700 + round * 60)).await;
        sidecar.again().unwrap();
        expect_new(&mut watch, &known, State::Firing).await;
        sidecar.again().unwrap();
        cluster.boot(&follower).unwrap();
        cluster.wait_until_well().await.unwrap();
        expect_new(&mut watch, &known, State::Resolved).await;
        expected.extend([(follower.as_str(), State::Firing), (follower.as_str(), State::Resolved)]);
    }
    let seen = watch.stop().await;
    check_told_once(&seen, &expected);
}

#[tokio::test]
async fn a_damaged_state_file_is_set_aside_with_a_word_and_watching_starts_anew() {
    let cluster = three().await;
    let state = cluster.folder().join("alone.state");
    std::fs::write(&state, "not a state file\n").unwrap();
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecar = alone(&cluster);
    watch.expect_status(Status::Ok).await;
    let log = sidecar.log();
    assert!(log.contains("was not written by metawatch: it is set aside"), "{log}");
    assert_eq!(
        std::fs::read_to_string(cluster.folder().join("alone.state.set-aside-1")).unwrap(),
        "not a state file\n"
    );
}
