//! The micro service: what anyone can ask a running watcher.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use serde_json::Value;

use super::three;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, User, tested_version};

async fn ask(client: &Client, topic: &str, body: Vec<u8>) -> (Option<String>, Value) {
    let asked = client.request(format!("metawatch.{topic}"), body.into());
    let answer = tokio::time::timeout(LONG, asked).await.unwrap().unwrap();
    let headers = answer.headers.unwrap_or_default();
    let code = headers.get("Nats-Service-Error-Code").map(ToString::to_string);
    (code, serde_json::from_slice(&answer.payload).unwrap_or_default())
}

#[tokio::test]
async fn anyone_can_ask_for_the_view_the_alerts_and_a_verdict() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let client = cluster.admin().await.unwrap();
    let (code, verdict) = ask(&client, "check", Vec::new()).await;
    assert_eq!((code, verdict["status"].as_str(), verdict["code"].as_u64()), (None, Some("OK"), Some(0)));
    let (code, view) = ask(&client, "view", b"{}".to_vec()).await;
    assert_eq!((code, view["groups"][0]["peers"].as_array().map(Vec::len)), (None, Some(3)), "{view:#}");
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    let client = cluster.admin().await.unwrap();
    let (_, alerts) = ask(&client, "alerts", Vec::new()).await;
    assert_eq!(alerts["status"], "alerting");
    assert_eq!(alerts["alerts"][0]["incident"], firing.event.incident.as_str(), "{alerts:#}");
    assert_eq!(alerts["alerts"][0]["name"], follower.as_str());
    let (_, verdict) = ask(&client, "check", Vec::new()).await;
    assert_eq!((verdict["status"].as_str(), verdict["code"].as_u64()), (Some("CRITICAL"), Some(2)));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_a_flood_is_one_epoch_in_a_while() {
    let cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let client = cluster.admin().await.unwrap();
    for nonsense in [vec![b'x'; 100_000], b"}{".to_vec(), b"[]".to_vec(), vec![0xff]] {
        let (code, _) = ask(&client, "view", nonsense).await;
        assert_eq!(code.as_deref(), Some("400"));
    }
    assert_eq!(ask(&client, "view", b" {} ".to_vec()).await.0, None);
    // No reply subject, or one that belongs to others: nobody is answered there.
    let mut own = client.subscribe("metawatch.alert.>").await.unwrap();
    client.publish("metawatch.view", "".into()).await.unwrap();
    for reply in ["metawatch.alert.META_001.default.s1.firing", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.LIST"]
    {
        client.publish_with_reply("metawatch.check", reply, "".into()).await.unwrap();
    }
    let before = watch.expect_heartbeat("refused requests", |beat| beat.refused >= 8).await;
    let asking: Vec<_> = (0..200).map(|_| ask(&client, "check", Vec::new())).collect();
    let answers = futures_util::future::join_all(asking).await;
    let answered = answers.iter().filter(|(code, _)| code.is_none()).count();
    let busy = answers.iter().filter(|(code, _)| code.as_deref() == Some("429")).count();
    assert!(answered > 0 && answered + busy == 200, "{answered} answered, {busy} sent away");
    let after = watch.expect_status(Status::Ok).await;
    let number = |beat: &metawatch::event::Heartbeat| {
        beat.epoch.id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap()
    };
    assert!(number(&after) - number(&before) < 60, "200 requests are not 200 epochs");
    let strange = tokio::time::timeout(Duration::from_millis(500), own.next()).await;
    assert!(strange.is_err(), "an answer went to an alert subject: {strange:?}");
}

/// Everything that answers within a while, as a client gathers it.
async fn ask_all(client: &Client, subject: &str) -> Vec<Value> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let mut all = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(1), answers.next()).await {
        all.push(serde_json::from_slice(&answer.payload).unwrap_or_default());
    }
    all
}

#[tokio::test]
async fn every_watcher_is_found_as_a_service_and_one_of_them_answers() {
    let cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_metawatch"));
    let _other = Sidecar::start(&cluster, binary, "other", &cluster.urls(), &[]).unwrap();
    watch.expect_heartbeat("two watchers", |beat| beat.watchers == 2).await;
    let client = cluster.admin().await.unwrap();
    for subject in ["$SRV.PING", "$SRV.PING.metawatch"] {
        let found = ask_all(&client, subject).await;
        let names: std::collections::BTreeSet<&str> =
            found.iter().filter_map(|found| found["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["metawatch", "other"].into(), "{subject}: {found:#?}");
    }
    assert_eq!(ask_all(&client, "metawatch.check").await.len(), 1, "one of them answers");
    let info = &ask_all(&client, "$SRV.INFO.metawatch").await[0];
    let subjects: Vec<_> = info["endpoints"].as_array().unwrap().iter().map(|one| &one["subject"]).collect();
    assert_eq!(subjects, ["metawatch.view", "metawatch.alerts", "metawatch.check"], "{info:#}");
    let stats = ask_all(&client, "$SRV.STATS.metawatch").await;
    let checks: u64 = stats.iter().filter_map(|one| one["endpoints"][2]["num_requests"].as_u64()).sum();
    assert_eq!(checks, 1, "{stats:#?}");
    let own = format!("$SRV.PING.metawatch.{}", info["id"].as_str().unwrap());
    assert_eq!(ask_all(&client, &own).await.len(), 1);
    // Neither is led to answer elsewhere, nor silenced by an answer that cannot be sent.
    let mut strange = client.subscribe("metawatch.alert.>").await.unwrap();
    for reply in
        ["metawatch.alert.META_001.default.s1.firing", "$JS.API.STREAM.PURGE.A", "a..b", "a.*", ".", ">"]
    {
        for verb in ["PING", "INFO", "STATS"] {
            client.publish_with_reply(format!("$SRV.{verb}"), reply, "".into()).await.ok();
        }
        client.publish_with_reply("metawatch.alerts", reply, "".into()).await.ok();
    }
    client.publish("$SRV.PING", "".into()).await.unwrap();
    assert_eq!(ask_all(&client, "$SRV.PING").await.len(), 2);
    let heard = tokio::time::timeout(Duration::from_millis(500), strange.next()).await;
    assert!(heard.is_err(), "an answer went to an alert subject: {heard:?}");
    watch.expect_heartbeat("refused requests", |beat| beat.refused >= 6).await;
}

#[tokio::test]
async fn the_nats_cli_finds_the_service() {
    let cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let url = cluster.url("s1");
    for (words, expected) in [
        (["service", "ls"].as_slice(), "metawatch"),
        (&["service", "info", "metawatch"], "metawatch.check"),
        (&["service", "stats", "metawatch"], "metawatch"),
        (&["req", "metawatch.alerts", ""], r#""alerts":[]"#),
    ] {
        let login = ["--server", &url, "--user", "admin", "--password", "admin"];
        let mut nats = tokio::process::Command::new("nats");
        let done = nats.args(login).args(words).kill_on_drop(true).output().await;
        let Ok(done) = done else {
            crate::support::skipped("the nats CLI is not on the PATH");
            return;
        };
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains(expected), "{words:?}: {done:?}");
    }
}

#[tokio::test]
async fn without_the_right_to_offer_the_service_the_watching_goes_on() {
    let user = User {
        account: "SYS",
        name: "least",
        publish: vec!["$SYS.REQ.SERVER.PING.JSZ".into(), "metawatch.>".into()],
        subscribe: vec!["_INBOX.>".into()],
    };
    let layout = Layout::cluster(3).version(tested_version().as_deref()).user(user);
    let cluster = Cluster::start(layout).await.unwrap();
    let mut watch = cluster.watch(Watching { user: "least", ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let client = cluster.admin().await.unwrap();
    let asked = client.request("metawatch.view", "".into()).await;
    assert!(asked.is_err(), "nobody offers it: {asked:?}");
    watch.stop().await;
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_metawatch"));
    let least = ["--user", "least", "--password", "least"];
    let sidecar = Sidecar::start(&cluster, binary, "least", &cluster.urls(), &least).unwrap();
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let said = |word: &str| sidecar.log().lines().filter(|line| line.contains(word)).count();
    assert_eq!(said("micro service is not offered"), 1, "{}", sidecar.log());
    assert_eq!(said("allow_responses"), 1, "with a hint: {}", sidecar.log());
}
