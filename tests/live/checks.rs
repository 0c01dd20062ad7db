//! The checks besides META_001, against real servers that give them a reason.

use std::time::Duration;

use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::check::{CHECKS, Severity};
use metawatch::diagnosis::Diagnosis;
use metawatch::event::heartbeat::Status;
use metawatch::event::{AlertEvent, Outgoing};
use metawatch::rules::{Limits, Rules};

use super::three;
use crate::cluster::watch::{Seen, Watch, Watching};
use crate::cluster::{Cluster, Layout, tested_version};

/// Every check, with limits that a test comes to.
fn all(limits: Limits) -> Watching {
    let checks = Some(CHECKS.iter().map(|check| check.code).collect());
    Watching { rules: Rules { checks, limits, ..Rules::default() }, ..Watching::default() }
}

async fn expect(watch: &mut Watch, check: &str, state: State) -> Seen {
    let what = format!("{check} {}", state.as_str());
    watch.expect(&what, |event| event.check == check && event.state == state).await
}

/// One request of an application to the JetStream API.
async fn ask(client: &async_nats::Client, subject: &str, payload: impl Into<Vec<u8>>) -> String {
    let reply = client.request(subject.to_owned(), payload.into().into()).await.unwrap();
    String::from_utf8_lossy(&reply.payload).into_owned()
}

#[tokio::test]
async fn what_is_stored_is_told_at_its_limits_and_once_more_where_it_is_critical() {
    let cluster = three().await;
    let admin = cluster.admin().await.unwrap();
    let mut critical = admin.subscribe("metawatch.critical.>").await.unwrap();
    admin.flush().await.unwrap();
    // Of 256 MB: a warning from 7.7 MB on, critical from 12.8 MB on.
    let limits = Limits { assets: 2, storage_warning: 3, storage_critical: 5, ..Limits::default() };
    let mut watch = cluster.watch(all(limits)).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let app = cluster.client("app").await.unwrap();
    let create = r#"{"name":"S","subjects":["s"],"num_replicas":3,"storage":"file"}"#;
    let created = ask(&app, "$JS.API.STREAM.CREATE.S", create).await;
    assert!(!created.contains("\"error\""), "{created}");
    let grown = expect(&mut watch, "META_005", State::Firing).await;
    assert_eq!(grown.event.severity, Severity::Warning);
    let store = async |blocks: usize| {
        for _ in 0..blocks {
            ask(&app, "s", vec![b'x'; 500_000]).await;
        }
    };
    store(19).await;
    let warned = expect(&mut watch, "SERVER_019", State::Firing).await.event;
    assert_eq!(
        (warned.severity, warned.cause.unwrap().kind.as_str()),
        (Severity::Warning, "storage_filling")
    );
    let calm = watch.expect_heartbeat("calm", |heartbeat| heartbeat.calm).await;
    assert_eq!(calm.status, Status::Alerting);
    store(14).await;
    let worse = |event: &AlertEvent| event.check == "SERVER_019" && event.severity == Severity::Critical;
    let worse = watch.expect("a critical storage", worse).await;
    assert!(
        worse.event.seq > 1 && worse.event.summary.contains("of its JetStream storage limit"),
        "{worse:?}"
    );
    watch.expect_heartbeat("no calm", |heartbeat| !heartbeat.calm).await;
    let copy = critical.next().await.unwrap();
    let copied: AlertEvent = serde_json::from_slice(&copy.payload).unwrap();
    let original = Outgoing { subject: worse.subject.clone(), headers: Vec::new(), event: copied.clone() };
    assert_eq!(copied.severity, Severity::Critical);
    assert!(copy.subject.starts_with("metawatch.critical.SERVER_019.default."), "{}", copy.subject);
    assert_eq!(original.critical_copy().map(|copy| copy.event), Some(copied));
    ask(&app, "$JS.API.STREAM.DELETE.S", "").await;
    let over = |event: &AlertEvent| worse.event.incident == event.incident && event.state == State::Resolved;
    let over = watch.expect("room in the storage", over).await;
    assert_eq!(over.event.severity, Severity::Critical);
    watch.expect_status(Status::Ok).await;
    // The end comes where the beginning came, for each of the servers.
    let mut open = 1;
    while open > 0 {
        let copy = tokio::time::timeout(Duration::from_secs(30), critical.next()).await.unwrap().unwrap();
        let event: AlertEvent = serde_json::from_slice(&copy.payload).unwrap();
        match event.state {
            State::Resolved => open -= 1,
            State::Firing | State::Suspected => open += 1,
        }
    }
    watch.stop().await;
}

#[tokio::test]
async fn changes_of_leader_run_and_size_are_told_and_a_rolling_restart_by_default_is_not() {
    let mut cluster = three().await;
    let mut usual = cluster.watch(Watching::default()).await.unwrap();
    usual.expect_status(Status::Ok).await;
    // A rolling restart: its alerts are META_001's.
    for name in cluster.names() {
        cluster.stop(&name).await.unwrap();
        usual.expect_peer(&name, State::Firing).await;
        cluster.boot(&name).unwrap();
        usual.expect_peer(&name, State::Resolved).await;
        cluster.wait_until_well().await.unwrap();
    }
    usual.expect_status(Status::Ok).await;
    let told = usual.stop().await;
    assert!(told.iter().all(|seen| seen.event.check == "META_001"), "{told:?}");

    let mut watch = cluster.watch(all(Limits::default())).await.unwrap();
    watch.expect_status(Status::Ok).await;
    for _ in 0..2 {
        let before = cluster.leader().await.unwrap();
        cluster.step_down().await.unwrap();
        while cluster.leader().await.unwrap().is_none_or(|leader| Some(leader) == before) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Each leader is seen.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let flapping = expect(&mut watch, "META_003", State::Firing).await.event;
    assert_eq!(flapping.measure.map(|measure| measure.value), Some(2), "{flapping:?}");
    if tested_version().is_none_or(|version| version != "2.10.25") {
        let diagnosed = |event: &AlertEvent| event.check == "META_003" && !event.diagnosis.is_empty();
        let diagnosed = watch.expect("the terms", diagnosed).await.event.diagnosis;
        let leads = |said: &Diagnosis| said.asked == "RAFTZ" && said.says.starts_with("leads in term ");
        assert!(diagnosed.iter().any(leads), "{diagnosed:?}");
    }
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    cluster.boot(&follower).unwrap();
    let restarted = expect(&mut watch, "SERVER_008", State::Firing).await.event;
    assert_eq!(restarted.peer.and_then(|peer| peer.name), Some(follower.clone()));
    cluster.wait_until_well().await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    cluster.peer_remove(&follower).await.unwrap();
    let smaller = expect(&mut watch, "META_007", State::Firing).await.event;
    assert_eq!(smaller.summary, "meta group default has 2 peers, 3 before");
    let because = smaller.cause.unwrap().because;
    assert_eq!(because, [format!("{follower} was removed while it was down")]);
    watch.stop().await;
}

#[tokio::test]
async fn a_member_of_another_version_is_told() {
    let mut layout = Layout::cluster(3).version(tested_version().as_deref());
    let other = if tested_version().as_deref() == Some("2.12.8") { "2.15.1" } else { "2.12.8" };
    if metawatch::shell::demo::binary::nats_server(Some(other)).is_err() {
        crate::support::skipped("mixed versions: the other version cannot be had");
        return;
    }
    layout.nodes[2].version = Some(other.to_owned());
    let cluster = Cluster::start(layout).await.unwrap();
    let mut watch = cluster.watch(all(Limits::default())).await.unwrap();
    let told = expect(&mut watch, "SERVER_002", State::Firing).await.event;
    assert_eq!(told.peer.and_then(|peer| peer.name).as_deref(), Some("s3"));
    assert!(
        told.summary.starts_with(&format!("s3 runs nats-server {other}, its group ")),
        "{}",
        told.summary
    );
    watch.stop().await;
}

#[tokio::test]
async fn a_quorum_that_an_operator_lowers_is_told_and_ends_the_loss_of_it_alone() {
    // 2.15 has this way out, no version before.
    if tested_version().is_some_and(|version| !version.starts_with("2.15")) {
        return;
    }
    let mut cluster = three().await;
    let survivor = cluster.follower("").await.unwrap();
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let dead: Vec<String> = cluster.names().into_iter().filter(|name| *name != survivor).collect();
    for name in &dead {
        cluster.kill(name).unwrap();
    }
    let lost = expect(&mut watch, "META_006", State::Firing).await.event;
    let admin = cluster.client_soon("admin").await;
    let mut answer = String::new();
    // As long as the survivor knows a leader it refuses.
    for _ in 0..60 {
        answer = ask(&admin, "$JS.API.META.RESCUE", r#"{"quorum_needed":1}"#).await;
        if answer.contains(r#""new_quorum":1"#) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(answer.contains(r#""new_quorum":1"#), "{answer}");
    let stands = "an operator lowered the quorum of meta group default: 1 of 3 must agree (rescue)";
    let beat = watch
        .expect_heartbeat("the lowered quorum", |beat| beat.notes.iter().any(|note| note == stands))
        .await;
    assert_eq!(beat.status, Status::Alerting);
    let over =
        watch.expect("the end", |event| event.incident == lost.incident && event.state == State::Resolved);
    over.await;
    let beat = watch.expect_heartbeat("the dead", |_| true).await;
    let still: Vec<&str> = beat.active.iter().map(|open| open.check.as_str()).collect();
    assert_eq!(still, ["META_001", "META_001"], "{beat:?}");
    watch.stop().await;
}
