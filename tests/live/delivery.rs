//! Where alerts go: into other accounts, into streams, over connections that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::daemon::{Dispatcher, Effect, Mode};
use metawatch::event::heartbeat::Status;
use metawatch::event::{AlertEvent, Outgoing};
use metawatch::shell::clock::Clock;
use metawatch::shell::config::{ConnectConfig, ConnectFlags, Env};
use metawatch::shell::publish::{AlertConnection, Publisher, PublisherReport};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::three;
use crate::cluster::Mode::{Pass, Reset};
use crate::cluster::proxy::Proxy;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, User, tested_version};

const APP: [&str; 4] = ["--alert-user", "app", "--alert-password", "app"];

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

/// A client of the account where subscribers live, as soon as there can be one.
async fn app_of(cluster: &Cluster) -> Client {
    cluster.client_soon("app").await
}

/// Makes the stream that keeps alerts.
async fn keep_alerts(app: &Client, replicas: u64) {
    let create = json!({
        "name": "ALERTS", "subjects": ["metawatch.alert.>"], "num_replicas": replicas,
        "duplicate_window": 120_000_000_000_u64,
    });
    until("a stream", || async {
        !api(app, "$JS.API.STREAM.CREATE.ALERTS", create.clone()).await["config"].is_null()
    })
    .await;
}

/// How many events the stream holds.
async fn count(client: &Client) -> u64 {
    let info = api(client, "$JS.API.STREAM.INFO.ALERTS", json!({})).await;
    info["state"]["last_seq"].as_u64().unwrap_or(0)
}

/// The ids of the events in the stream, in order.
async fn stored(client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    for seq in 1..=count(client).await {
        let subject = "$JS.API.STREAM.MSG.GET.ALERTS".to_owned();
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
    keep_alerts(&app, 3).await;
    watch.expect_heartbeat("nothing waits", |beat| beat.waiting == 0 && beat.status == Status::Ok).await;
    until("the first alert in the stream", || async { stored(&app).await.len() >= 2 }).await;
    // Now the stream's own leader goes: its alert is stored once there is another one.
    let info = api(&app, "$JS.API.STREAM.INFO.ALERTS", json!({})).await;
    let leader = info["cluster"]["leader"].as_str().unwrap().to_owned();
    cluster.kill(&leader).unwrap();
    watch.expect_peer(&leader, State::Firing).await;
    cluster.boot(&leader).unwrap();
    watch.expect_peer(&leader, State::Resolved).await;
    watch.expect_heartbeat("nothing waits", |beat| beat.waiting == 0 && beat.status == Status::Ok).await;
    let app = cluster.client("app").await.unwrap();
    until("an answer of the stream", || async { !stored(&app).await.is_empty() }).await;
    let ids = stored(&app).await;
    let once: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "{ids:?}");
    let told: BTreeSet<String> = watch.seen().iter().map(|seen| seen.event.id.clone()).collect();
    assert_eq!(once, told.iter().collect(), "the stream holds what was told, and nothing else");
}

#[tokio::test]
async fn a_server_for_alerts_that_comes_late_and_goes_loses_nothing() {
    let mut cluster = three().await;
    // A stream there is the witness: it hears what is published before any subscriber is back.
    let mut place = Cluster::prepare(Layout::cluster(1).version(tested_version().as_deref())).await.unwrap();
    place.boot("s1").unwrap();
    keep_alerts(&app_of(&place).await, 1).await;
    place.stop("s1").await.unwrap();
    let url = place.url("s1");
    let more: Vec<&str> = APP.into_iter().chain(["--alert-server", url.as_str()]).collect();
    let sidecar = watcher(&cluster, &more);
    let follower = cluster.follower("").await.unwrap();
    until("a watcher that sees all", || async { sidecar.log().contains("3 of 3") }).await;
    assert!(sidecar.log().contains("alerts: not connected"), "{}", sidecar.log());
    cluster.stop(&follower).await.unwrap();
    until("an alert in the log", || async { sidecar.log().contains("is offline") }).await;
    // It was told, and there was nowhere to tell it.
    place.boot("s1").unwrap();
    let app = app_of(&place).await;
    until("the alert in the stream", || async { count(&app).await > 0 }).await;
    // Gone again, while the end is told.
    place.stop("s1").await.unwrap();
    cluster.boot(&follower).unwrap();
    until("the end in the log", || async { sidecar.log().contains("is back") }).await;
    place.boot("s1").unwrap();
    let told = told_by(&sidecar);
    until("every event in the stream", || async { count(&app).await >= told.len() as u64 }).await;
    assert_eq!(stored(&app).await, told, "each once, in order");
}

/// The ids of the events that a watcher has logged.
fn told_by(sidecar: &Sidecar) -> Vec<String> {
    let value = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}="))?.1;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let log = sidecar.log();
    log.lines()
        .filter_map(|line| Some(format!("{}.{}", value(line, "incident")?, value(line, "seq")?)))
        .collect()
}

#[tokio::test]
async fn wrong_credentials_for_alerts_are_told_and_the_watching_goes_on() {
    let mut cluster = three().await;
    let sidecar = watcher(&cluster, &["--alert-user", "app", "--alert-password", "wrong"]);
    until("the trouble in the log", || async { sidecar.log().contains("alerts: not connected") }).await;
    assert!(sidecar.log().contains("check --alert-user and --alert-password"), "{}", sidecar.log());
    let follower = cluster.follower("").await.unwrap();
    until("a watcher that sees all", || async { sidecar.log().contains("3 of 3") }).await;
    cluster.stop(&follower).await.unwrap();
    until("an alert in the log", || async { sidecar.log().contains("is offline") }).await;
    cluster.boot(&follower).unwrap();
    until("the end in the log", || async { sidecar.log().contains("is back") }).await;
    assert_eq!(sidecar.log().matches("alerts: not connected").count(), 1, "{}", sidecar.log());
}

const FIRING: &str = include_str!("../events/v1/meta_001-firing-reported.json");

/// A storm: so many incidents with so many events each, one after the other of each in turn.
fn burst(incidents: u64, events: u64) -> Vec<Outgoing> {
    let model: AlertEvent = serde_json::from_str(FIRING).unwrap();
    let each = |seq, number| {
        let mut event = model.clone();
        event.incident = format!("storm{number}");
        event.seq = seq;
        event.id = format!("{}.{seq}", event.incident);
        let subject = event.subject("metawatch", &format!("s{number}"));
        Outgoing { headers: event.headers(&subject), subject, event }
    };
    (1..=events)
        .flat_map(|seq| (1..=incidents).map(move |number| (seq, number)))
        .map(|(s, n)| each(s, n))
        .collect()
}

/// Of each incident the sequence of its events.
fn sequences(ids: &[String]) -> BTreeMap<String, Vec<u64>> {
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for id in ids {
        let (incident, seq) = id.split_once('.').unwrap();
        sequences.entry(incident.to_owned()).or_default().push(seq.parse().unwrap());
    }
    sequences
}

/// Delivers these events over a connection of their own, as the watcher does, until all are confirmed.
fn deliver(url: &str, user: &'static str, inbox: &str, mode: Mode, events: Vec<Outgoing>) -> JoinHandle<()> {
    let flags = ConnectFlags {
        server: Some(url.into()),
        user: Some(user.into()),
        password: Some(user.into()),
        inbox_prefix: Some(inbox.to_owned()),
        no_context: true,
        ..ConnectFlags::default()
    };
    let nothing: [(&str, &str); 0] = [];
    let config = ConnectConfig::resolve(&flags, &Env::new(nothing)).unwrap();
    tokio::spawn(async move {
        let (clock, mut lines) = (Clock::new(), Vec::new());
        let (reports, mut reported) = mpsc::channel(1_024);
        let publisher = Publisher::start(AlertConnection::own(config), clock, "metawatch", reports);
        let mut dispatcher = Dispatcher::new(mode, false, "metawatch");
        for event in events {
            dispatcher.decide(event, clock.now());
        }
        dispatcher.outbox.release();
        while !dispatcher.outbox.is_empty() {
            let mut effects = Vec::new();
            dispatcher.advance(clock.now(), &mut effects);
            for effect in effects {
                let Effect::Deliver(effect) = effect else { panic!("{effect:?}") };
                assert!(publisher.order(effect).is_none(), "there is room for every order");
            }
            let report = tokio::time::timeout(Duration::from_millis(50), reported.recv()).await;
            if let Ok(Some(PublisherReport::Delivery(report))) = report {
                dispatcher.hear(report, clock.now(), &mut lines);
            }
        }
        assert_eq!(dispatcher.outbox.dropped(), 0, "{lines:?}");
    })
}

async fn done(delivery: JoinHandle<()>) {
    tokio::time::timeout(LONG, delivery).await.expect("every event is confirmed").unwrap();
}

#[tokio::test]
async fn a_stream_gets_each_event_of_a_burst_once_and_in_order_though_its_server_is_killed() {
    let mut place = Cluster::prepare(Layout::cluster(1).version(tested_version().as_deref())).await.unwrap();
    place.boot("s1").unwrap();
    keep_alerts(&app_of(&place).await, 1).await;
    place.stop("s1").await.unwrap();
    let delivery = deliver(&place.url("s1"), "app", "_INBOX", Mode::JetStream, burst(40, 100));
    for reached in [1, 1_000, 2_000, 3_000] {
        place.boot("s1").unwrap();
        let app = app_of(&place).await;
        while count(&app).await < reached {
            assert!(!delivery.is_finished(), "the burst was over too soon");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        place.kill("s1").unwrap();
    }
    place.boot("s1").unwrap();
    done(delivery).await;
    let ids = stored(&app_of(&place).await).await;
    assert_eq!(ids.len(), 4_000);
    assert!(sequences(&ids).values().all(|seqs| *seqs == (1..=100).collect::<Vec<u64>>()), "{ids:?}");
}

#[tokio::test]
async fn a_stream_that_takes_only_some_subjects_holds_up_none_of_them() {
    let mut place = Cluster::prepare(Layout::cluster(1).version(tested_version().as_deref())).await.unwrap();
    place.boot("s1").unwrap();
    let app = app_of(&place).await;
    // The last of many incidents, behind more refused ones than may be under way.
    let subjects = ["metawatch.alert.*.*.s599.*", "metawatch.alert.*.*.s600.*"];
    let create = json!({ "name": "ALERTS", "subjects": subjects });
    until("a stream", || async {
        !api(&app, "$JS.API.STREAM.CREATE.ALERTS", create.clone()).await["config"].is_null()
    })
    .await;
    let delivery = deliver(&place.url("s1"), "app", "_INBOX", Mode::JetStream, burst(600, 3));
    until("all that the stream takes", || async { count(&app).await >= 6 }).await;
    assert!(!delivery.is_finished(), "the others wait");
    delivery.abort();
    let kept = sequences(&stored(&app).await);
    assert_eq!(kept, ["storm599", "storm600"].map(|one| (one.to_owned(), vec![1, 2, 3])).into());
}

#[tokio::test]
async fn a_subscriber_gets_each_event_of_a_burst_though_the_connection_breaks_again_and_again() {
    let mut place = Cluster::prepare(Layout::cluster(1).version(tested_version().as_deref())).await.unwrap();
    place.boot("s1").unwrap();
    let app = app_of(&place).await;
    let mut subscriber = app.subscribe("metawatch.alert.>").await.unwrap();
    app.flush().await.unwrap();
    let port = place.url("s1").rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await.unwrap();
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let delivery = deliver(&url, "app", "_INBOX", Mode::Core, burst(100, 100));
    let mut ids = Vec::new();
    let mut ends = BTreeSet::new();
    while ends.len() < 100 {
        let message = tokio::time::timeout(LONG, subscriber.next()).await.expect("the rest arrives").unwrap();
        let event: AlertEvent = serde_json::from_slice(&message.payload).unwrap();
        if event.seq == 100 {
            ends.insert(event.incident.clone());
        }
        ids.push(event.id);
        if ids.len() % 500 == 0 && !delivery.is_finished() {
            proxy.set(Reset);
            tokio::time::sleep(Duration::from_millis(20)).await;
            proxy.set(Pass);
        }
    }
    done(delivery).await;
    for (incident, seqs) in sequences(&ids) {
        let mut highest = 0;
        for seq in seqs {
            assert!(seq <= highest + 1, "{incident}: {seq} comes before {}", highest + 1);
            highest = highest.max(seq);
        }
        assert_eq!(highest, 100, "{incident}");
    }
}

#[tokio::test]
async fn whoever_may_publish_nothing_but_alerts_learns_all_the_same_that_they_arrived() {
    let user = |name, publish: &[&str]| User {
        account: "APP",
        name,
        publish: publish.iter().map(|subject| (*subject).to_owned()).collect(),
        subscribe: vec!["_ALERTS.>".to_owned()],
    };
    let layout = Layout::cluster(1)
        .user(user("least", &["metawatch.>"]))
        .user(user("usual", &["metawatch.>", "$SYS.REQ.USER.INFO"]));
    let mut place = Cluster::prepare(layout.version(tested_version().as_deref())).await.unwrap();
    place.boot("s1").unwrap();
    keep_alerts(&app_of(&place).await, 1).await;
    for (name, mode) in [("usual", Mode::Core), ("least", Mode::Core), ("least", Mode::JetStream)] {
        // More than may be published and not confirmed.
        done(deliver(&place.url("s1"), name, "_ALERTS", mode, burst(40, 50))).await;
    }
    let app = app_of(&place).await;
    until("the events in the stream", || async { count(&app).await >= 2_000 }).await;
    assert_eq!(stored(&app).await.len(), 2_000, "all three say the same");
}
