//! What is around a watcher fails it: disks that hang, stops of the process, floods, servers that take only little.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;
use metawatch::name::PeerId;

use super::three;
use crate::cluster::disk::Disk;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Watch, Watching};
use crate::cluster::{Cluster, LONG, Layout, tested_version};
use crate::support::skipped;

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

fn watcher(cluster: &Cluster, more: &[&str]) -> Sidecar {
    Sidecar::start(cluster, Path::new(BINARY), "alone", &cluster.urls(), more).unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "not within {LONG:?}: {what}");
}

#[tokio::test]
async fn a_disk_that_hangs_costs_the_persistence_and_nothing_else() {
    let mut cluster = three().await;
    let Some(mut disk) = Disk::new(&cluster.folder()) else {
        return skipped(
            "a disk that hangs takes the rights to mount one and to freeze it (root, loop devices, fsfreeze)",
        );
    };
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let state = disk.folder().join("watcher.state");
    let mut sidecar = watcher(&cluster, &["--state", state.to_str().unwrap()]);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    assert!(disk.set_frozen(true));
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    let unsaved = watch.expect_heartbeat("one that tells of the disk", |beat| beat.unsaved).await;
    assert_eq!((unsaved.status, unsaved.waiting), (Status::Alerting, 0), "{unsaved:?}");
    // The next alert and the next end come as well.
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    assert_eq!(sidecar.log().matches("the disk does not answer").count(), 1, "{}", sidecar.log());
    // What was not saved is made up for when the disk answers.
    assert!(disk.set_frozen(false));
    watch.expect_heartbeat("one that tells that all is saved", |beat| !beat.unsaved).await;
    until("the state file written again", || sidecar.log().contains("the state file is written again")).await;
    // And the end comes, disk or no disk. (A thread that the kernel holds keeps the process from being collected,
    // though everything else in it is over.)
    assert!(disk.set_frozen(true));
    cluster.stop(&follower).await.unwrap();
    watch.expect_heartbeat("one that tells of the disk again", |beat| beat.unsaved).await;
    sidecar.signal("TERM").unwrap();
    until("the end", || sidecar.log().contains("stopped; incidents open: 1")).await;
    assert!(disk.set_frozen(false));
    assert_eq!(sidecar.wait().unwrap(), Some(0), "{}", sidecar.log());
}

#[tokio::test]
async fn a_watcher_that_is_stopped_for_seconds_around_an_alert_loses_nothing() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecar = watcher(&cluster, &["--interval", "500ms"]);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    for round in 0..3_u64 {
        let pause = Duration::from_millis(round * 15);
        let known = watch.seen().len();
        cluster.stop(&follower).await.unwrap();
        stall(&sidecar, pause).await;
        expect_next(&mut watch, known, State::Firing).await;
        let known = watch.seen().len();
        cluster.boot(&follower).unwrap();
        stall(&sidecar, Duration::from_millis(800) + pause * 10).await;
        expect_next(&mut watch, known, State::Resolved).await;
        cluster.wait_until_well().await.unwrap();
    }
    let beat = watch.expect_heartbeat("nothing open", |beat| beat.waiting == 0 && beat.incidents == 0).await;
    assert_eq!(beat.undelivered, 0, "{beat:?}");
    let told = announced(&sidecar.log());
    let heard: std::collections::BTreeSet<String> =
        watch.seen().iter().map(|seen| seen.event.id.clone()).collect();
    assert!(told.iter().all(|id| heard.contains(id)), "told {told:?}, heard {heard:?}");
}

async fn stall(sidecar: &Sidecar, after: Duration) {
    tokio::time::sleep(after).await;
    sidecar.signal("STOP").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    sidecar.signal("CONT").unwrap();
}

async fn expect_next(watch: &mut Watch, known: usize, state: State) {
    if !watch.seen()[known..].iter().any(|seen| seen.event.state == state) {
        watch.expect(&format!("a new {}", state.as_str()), |event| event.state == state).await;
    }
}

/// The ids of the events that a watcher has logged.
fn announced(log: &str) -> Vec<String> {
    let value = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}="))?.1;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let id = |line: &str| Some(format!("{}.{}", value(line, "incident")?, value(line, "seq")?));
    log.lines().filter_map(id).collect()
}

#[tokio::test]
async fn floods_of_requests_and_of_foreign_messages_hold_up_no_epoch_and_take_no_memory() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecar = watcher(&cluster, &[]);
    watch.expect_status(Status::Ok).await;
    let flood = cluster.admin().await.unwrap();
    let mut floods = tokio::task::JoinSet::new();
    for subject in
        ["metawatch.view", "metawatch.check", "metawatch.alerts", "$SRV.PING", "metawatch.watcher.stranger"]
    {
        let flood = flood.clone();
        floods.spawn(async move {
            let inbox = flood.new_inbox();
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
                // 10,000 a second, of all together.
                for _ in 0..20 {
                    flood.publish_with_reply(subject, inbox.clone(), "{}".into()).await.ok();
                }
            }
        });
    }
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    let before = watch.expect_heartbeat("refused messages", |beat| beat.refused > 10_000).await;
    let number = |id: &str| id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap();
    let first = number(&before.epoch.id);
    watch.expect_heartbeat("ten epochs more", |beat| number(&beat.epoch.id) >= first + 10).await;
    if let Some(bytes) = sidecar.resident() {
        assert!(bytes < 300 << 20, "{bytes} bytes");
    }
    floods.shutdown().await;
}

#[tokio::test]
async fn events_are_shortened_for_a_server_that_takes_little_and_counted_where_that_is_not_enough() {
    let mut cluster = three().await;
    for (limit, fits) in [(1_024, true), (600, false)] {
        let mut layout = Layout::cluster(1).version(tested_version().as_deref());
        layout.extra = format!("max_payload: {limit}\n");
        let mut place = Cluster::prepare(layout).await.unwrap();
        place.boot("s1").unwrap();
        let client = place.client_soon("app").await;
        let mut heard = client.subscribe("metawatch.alert.>").await.unwrap();
        client.flush().await.unwrap();
        let url = place.url("s1");
        let app = [
            "--alert-user",
            "app",
            "--alert-password",
            "app",
            "--alert-server",
            url.as_str(),
            "--state",
            "none",
        ];
        let sidecar = watcher(&cluster, &app);
        until("a watcher that sees all", || sidecar.log().contains("3 of 3")).await;
        let follower = cluster.follower("").await.unwrap();
        cluster.stop(&follower).await.unwrap();
        if fits {
            let message = tokio::time::timeout(LONG, heard.next()).await.expect("an event").unwrap();
            let event: AlertEvent = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(event.peer.and_then(|peer| peer.name), Some(follower.clone()));
            assert!(!event.left_out.is_empty());
        } else {
            let log = || sidecar.log();
            until("a word about the limit", || log().contains("messages of 600 bytes at most")).await;
            until("a word about the loss", || log().contains("is dropped: it can never be published")).await;
        }
        cluster.boot(&follower).unwrap();
        cluster.wait_until_well().await.unwrap();
        drop(sidecar);
    }
}

#[tokio::test]
async fn a_watcher_keeps_its_place_though_strangers_flood_the_subject_of_the_watchers() {
    let cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecar = watcher(&cluster, &["--state", "none"]);
    let first = watch.expect_status(Status::Ok).await;
    let flood = cluster.admin().await.unwrap();
    let flooding = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            // 10,000 a second.
            for number in 0..100 {
                let subject = format!("metawatch.watcher.stranger-{}", number % 10);
                flood.publish(subject, "{\"v\":1,\"name\":\"stranger\"}".into()).await.ok();
            }
        }
    });
    let number = |id: &str| id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap();
    let begin = number(&first.epoch.id);
    let last = watch.expect_heartbeat("30 epochs more", |beat| number(&beat.epoch.id) >= begin + 30).await;
    flooding.abort();
    let lost = last.lost.get("peer_messages").copied().unwrap_or_default();
    assert!(lost > 50_000, "{last:?}");
    // It never stopped speaking: every epoch has its heartbeat.
    let log = sidecar.log();
    assert!(!log.contains("lost touch") && !log.contains("cannot be heard"), "{log}");
    assert_eq!(
        log.matches("messages on the subjects of the watchers are none, or too many").count(),
        1,
        "{log}"
    );
}

/// A reply of a server that nobody knows, which leads a group of its own and calls its peers dead.
fn invented(number: usize, peers: usize) -> String {
    let id = PeerId::of_server(&format!("x{number}"));
    let rows: Vec<String> = (0..peers)
        .map(|peer| {
            let name = format!("x{number}-{peer}");
            let id = PeerId::of_server(&name);
            format!(
                r#"{{"name":"{name}","current":false,"offline":true,"active":99000000000,"peer":"{id}"}}"#
            )
        })
        .collect();
    let size = peers + 1;
    format!(
        r#"{{"server":{{"name":"x{number}","id":"NX{number}","cluster":"x{number}","domain":"d{number}","ver":"2.12.1"}},"data":{{"meta_cluster":{{"name":"x{number}","leader":"x{number}","peer":"{id}","cluster_size":{size},"replicas":[{}]}}}}}}"#,
        rows.join(",")
    )
}

#[tokio::test]
async fn a_real_fault_is_told_though_a_stranger_invents_more_than_ten_thousand_dead_peers() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let sidecar = watcher(&cluster, &["--state", "none"]);
    watch.expect_status(Status::Ok).await;
    let stranger = cluster.admin().await.unwrap();
    let mut questions = stranger.subscribe("$SYS.REQ.SERVER.PING.JSZ").await.unwrap();
    // One reply lists 10,000 peers, and a hundred others 30 each.
    let replies: Vec<String> =
        std::iter::once(invented(0, 10_000)).chain((1..=100).map(|number| invented(number, 30))).collect();
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let Some(inbox) = question.reply else { continue };
            for reply in &replies {
                stranger.publish(inbox.clone(), reply.clone().into()).await.ok();
            }
        }
    });
    watch.expect_heartbeat("hundreds of invented alerts", |beat| beat.incidents > 400).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.group.name, "default", "{:?}", firing.event);
    answering.abort();
    let beat = watch.expect_heartbeat("the next one", |_| true).await;
    assert_eq!(beat.undelivered, 0, "{beat:?}");
    drop(sidecar);
}
