//! Where alerts go: into other accounts, into streams, over connections that come and go.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_nats::Client;
use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use serde_json::{Value, json};

use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, tested_version};

const APP: [&str; 4] = ["--alert-user", "app", "--alert-password", "app"];

async fn three() -> Cluster {
    Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap()
}

fn watcher(cluster: &Cluster, more: &[&str]) -> Sidecar {
    let binary = Path::new(env!("CARGO_BIN_EXE_metawatch"));
    Sidecar::start(cluster, binary, "alone", &cluster.urls(), more).unwrap()
}

fn in_app() -> Watching {
    Watching { user: "app", ..Watching::default() }
}

async fn api(client: &Client, subject: &str, request: Value) -> Value {
    let answer = client.request(subject.to_owned(), request.to_string().into()).await;
    answer.ok().and_then(|message| serde_json::from_slice(&message.payload).ok()).unwrap_or_default()
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "not within {LONG:?}: {what}");
}

/// The ids of the events in a stream, in order.
async fn stored(client: &Client, stream: &str) -> Vec<String> {
    let info = api(client, &format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await;
    let mut ids = Vec::new();
    for seq in 1..=info["state"]["last_seq"].as_u64().unwrap_or(0) {
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let message = api(client, &subject, json!({ "seq": seq })).await;
        let headers = message["message"]["hdrs"].as_str().unwrap_or_default();
        use base64::Engine;
        let headers = base64::engine::general_purpose::STANDARD.decode(headers).unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let id = headers.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id: "));
        ids.push(id.unwrap_or("none").to_owned());
    }
    ids
}

#[tokio::test]
async fn alerts_and_heartbeats_reach_an_application_account_over_a_connection_of_their_own() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(in_app()).await.unwrap();
    let mut system = cluster.observe(Watching::default()).await.unwrap();
    let _watcher = watcher(&cluster, &APP);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(watch.expect_status(Status::Alerting).await.waiting, 0);
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    assert!(system.seen().is_empty(), "nothing is told in the system account: {}", system.story());
}

#[tokio::test]
async fn a_stream_keeps_each_event_once_though_its_leader_is_restarted() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(in_app()).await.unwrap();
    let app = cluster.client("app").await.unwrap();
    let more: Vec<&str> = APP.into_iter().chain(["--publish-mode", "jetstream"]).collect();
    let sidecar = watcher(&cluster, &more);
    watch.expect_status(Status::Ok).await;
    // Without a stream alerts wait, and it is said what is missing.
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_heartbeat("an alert that waits", |beat| beat.waiting > 0).await;
    until("what is missing in the log", || async { sidecar.log().contains("no stream has") }).await;
    assert!(sidecar.log().contains("nats stream add"), "{}", sidecar.log());
    cluster.boot(&follower).unwrap();
    cluster.wait_until_well().await.unwrap();
    let create = json!({
        "name": "ALERTS", "subjects": ["metawatch.alert.>"], "num_replicas": 3, "duplicate_window": 120_000_000_000_u64,
    });
    until("a stream", || async {
        !api(&app, "$JS.API.STREAM.CREATE.ALERTS", create.clone()).await["config"].is_null()
    })
    .await;
    watch.expect_heartbeat("nothing waits", |beat| beat.waiting == 0 && beat.status == Status::Ok).await;
    until("the first alert in the stream", || async { stored(&app, "ALERTS").await.len() >= 2 }).await;
    // Now the stream's own leader goes: its alert is stored once there is another one.
    let info = api(&app, "$JS.API.STREAM.INFO.ALERTS", json!({})).await;
    let leader = info["cluster"]["leader"].as_str().unwrap().to_owned();
    cluster.kill(&leader).unwrap();
    watch.expect_peer(&leader, State::Firing).await;
    cluster.boot(&leader).unwrap();
    watch.expect_peer(&leader, State::Resolved).await;
    watch.expect_heartbeat("nothing waits", |beat| beat.waiting == 0 && beat.status == Status::Ok).await;
    let app = cluster.client("app").await.unwrap();
    until("an answer of the stream", || async { !stored(&app, "ALERTS").await.is_empty() }).await;
    let ids = stored(&app, "ALERTS").await;
    let once: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "{ids:?}");
    let told: BTreeSet<String> = watch.seen().iter().map(|seen| seen.event.id.clone()).collect();
    assert_eq!(once, told.iter().collect(), "the stream holds what was told, and nothing else");
}

#[tokio::test]
async fn a_server_for_alerts_that_comes_late_and_goes_loses_nothing() {
    let mut cluster = three().await;
    let mut place = Cluster::prepare(Layout::cluster(1).version(tested_version().as_deref())).await.unwrap();
    let url = place.url("s1");
    let more: Vec<&str> = APP.into_iter().chain(["--alert-server", url.as_str()]).collect();
    let sidecar = watcher(&cluster, &more);
    let follower = cluster.follower("").await.unwrap();
    until("a watcher that speaks", || async { sidecar.log().contains("watching") }).await;
    cluster.wait_until_well().await.unwrap();
    cluster.stop(&follower).await.unwrap();
    until("an alert in the log", || async { sidecar.log().contains("is offline") }).await;
    // It was told, and there was nowhere to tell it.
    place.boot("s1").unwrap();
    let mut watch = place.observe(in_app()).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    // Gone again, while the end is told.
    place.kill("s1").unwrap();
    cluster.boot(&follower).unwrap();
    until("the end in the log", || async { sidecar.log().contains("is back") }).await;
    place.boot("s1").unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.incident, firing.event.incident);
    let seqs: BTreeSet<u64> = watch.seen().iter().map(|seen| seen.event.seq).collect();
    assert_eq!(seqs, (1..=resolved.event.seq).collect(), "without holes: {}", watch.story());
    let ids: BTreeSet<(u64, String)> =
        watch.seen().iter().map(|seen| (seen.event.seq, seen.event.id.clone())).collect();
    assert_eq!(ids.len(), seqs.len(), "one id each: {}", watch.story());
}

#[tokio::test]
async fn wrong_credentials_for_alerts_are_told_and_the_watching_goes_on() {
    let mut cluster = three().await;
    let sidecar = watcher(&cluster, &["--alert-user", "app", "--alert-password", "wrong"]);
    until("the trouble in the log", || async { sidecar.log().contains("not connected") }).await;
    assert!(sidecar.log().contains("hint"), "{}", sidecar.log());
    let follower = cluster.follower("").await.unwrap();
    until("a first epoch", || async { sidecar.log().contains("servers answered") }).await;
    cluster.stop(&follower).await.unwrap();
    until("an alert in the log", || async { sidecar.log().contains("is offline") }).await;
}
