//! The main job: what a subscriber receives when a server stops, returns, or is removed.

use futures_util::StreamExt;
use metawatch::alert::{Reason, State};
use metawatch::check::{CauseKind, Grounds};
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;

use super::three;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, Mode, User, tested_version};

#[tokio::test]
async fn a_stopped_follower_fires_and_its_restart_resolves() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.basis, Some(Grounds::Reported));
    assert_eq!(firing.event.cause.as_ref().map(|cause| cause.kind), Some(CauseKind::Stopping));
    assert_eq!(firing.event.group.failures_left, Some(0));
    assert_eq!(firing.subject, format!("metawatch.alert.META_001.default.{follower}.firing"));
    assert_eq!(firing.summary, firing.event.summary);
    watch.expect_status(Status::Alerting).await;
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.reason, Reason::Recovered);
    assert_eq!(resolved.event.incident, firing.event.incident);
    assert_eq!(resolved.event.seq, firing.event.seq + 1);
    watch.expect_status(Status::Ok).await;
    let about_others = |seen: &&crate::cluster::watch::Seen| {
        seen.event.peer.as_ref().is_none_or(|peer| peer.name.as_deref() != Some(&follower))
    };
    let all = watch.stop().await;
    assert_eq!(all.iter().filter(about_others).count(), 0, "{all:#?}");
}

#[tokio::test]
async fn a_subscriber_whose_own_server_stops_is_told_of_it() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    let mut names = cluster.names();
    names.sort_by_key(|name| *name != follower);
    let urls: Vec<String> = names.iter().map(|name| cluster.url(name)).collect();
    let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
    let client = options.retain_servers_order().connect(urls).await.unwrap();
    assert_eq!(client.server_info().server_name, follower);
    let mut alerts = client.subscribe("metawatch.alert.>").await.unwrap();
    client.flush().await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    // It was looking for another server when the alert went out.
    let told = async {
        loop {
            let message = alerts.next().await.unwrap();
            let event: AlertEvent = serde_json::from_slice(&message.payload).unwrap();
            if event.id == firing.event.id {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(LONG, told).await.is_ok(), "the alert is told once more");
}

#[tokio::test]
async fn a_stopped_leader_fires_under_its_successor() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let leader = cluster.leader().await.unwrap().unwrap();
    cluster.stop(&leader).await.unwrap();
    watch.expect_peer(&leader, State::Firing).await;
    cluster.boot(&leader).unwrap();
    watch.expect_peer(&leader, State::Resolved).await;
}

#[tokio::test]
async fn a_peer_that_is_removed_resolves_as_removed() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    cluster.peer_remove(&follower).await.unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(resolved.event.reason, Reason::Removed);
    assert_eq!(resolved.event.group.size, Some(2));
}

#[tokio::test]
async fn a_server_that_comes_later_and_goes_and_comes_again_is_watched() {
    let layout = Layout::cluster(3).version(tested_version().as_deref());
    let mut cluster = Cluster::prepare(layout).await.unwrap();
    // Nobody is there yet.
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    for name in cluster.names() {
        cluster.boot(&name).unwrap();
    }
    cluster.wait_until_well().await.unwrap();
    watch.expect_status(Status::Ok).await;
    // The server it is connected to dies; it goes on through another.
    cluster.kill("s1").unwrap();
    watch.expect_peer("s1", State::Firing).await;
    cluster.boot("s1").unwrap();
    watch.expect_peer("s1", State::Resolved).await;
    watch.expect_status(Status::Ok).await;
}

#[tokio::test]
async fn without_any_server_the_status_is_unknown_and_no_alert_is_made_up() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    for name in cluster.names() {
        cluster.kill(&name).unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    for name in cluster.names() {
        cluster.boot(&name).unwrap();
    }
    cluster.wait_until_well().await.unwrap();
    watch.expect_status(Status::Ok).await;
    let fired = watch.stop().await.into_iter().filter(|seen| seen.event.state == State::Firing).count();
    assert_eq!(fired, 0);
}

fn restricted(name: &'static str, besides: &[&str]) -> User {
    let owned = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect::<Vec<_>>();
    let mut publish = owned(&["$SYS.REQ.SERVER.PING.JSZ", "metawatch.>"]);
    publish.extend(owned(besides));
    let subscribe = owned(&["_MW.>", "$SYS.SERVER.*.SHUTDOWN", "$SYS.SERVER.*.LAMEDUCK"]);
    User { account: "SYS", name, publish, subscribe }
}

#[tokio::test]
async fn a_user_with_the_least_rights_is_enough_and_statsz_only_makes_it_faster() {
    let statsz = ["$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.*.STATSZ"];
    let layout = Layout::cluster(3).version(tested_version().as_deref());
    let layout = layout.user(restricted("least", &[])).user(restricted("better", &statsz));
    let mut cluster = Cluster::start(layout).await.unwrap();
    for (user, cause) in [("least", CauseKind::CrashedOrUnreachable), ("better", CauseKind::Crashed)] {
        let watching = Watching { user, inbox_prefix: Some("_MW"), ..Watching::default() };
        let mut watch = cluster.watch(watching).await.unwrap();
        watch.expect_status(Status::Ok).await;
        let follower = cluster.follower("").await.unwrap();
        cluster.kill(&follower).unwrap();
        let firing = watch.expect_peer(&follower, State::Firing).await;
        assert_eq!(firing.event.basis, Some(Grounds::Observed), "{user}");
        assert_eq!(firing.event.cause.as_ref().map(|cause| cause.kind), Some(cause), "{user}");
        cluster.boot(&follower).unwrap();
        watch.expect_peer(&follower, State::Resolved).await;
        cluster.wait_until_well().await.unwrap();
        watch.stop().await;
    }
}

#[tokio::test]
async fn a_user_of_another_account_or_without_the_inbox_knows_nothing_and_says_so() {
    let mut deaf = restricted("deaf", &[]);
    deaf.subscribe = vec!["_ELSEWHERE.>".to_owned()];
    let mut mute = restricted("mute", &[]);
    mute.publish = vec!["metawatch.>".to_owned()];
    let layout = Layout::cluster(3).version(tested_version().as_deref()).user(deaf).user(mute);
    let cluster = Cluster::start(layout).await.unwrap();
    for user in ["deaf", "mute"] {
        let watching = Watching { user, inbox_prefix: Some("_MW"), ..Watching::default() };
        let mut watch = cluster.watch(watching).await.unwrap();
        let heartbeat = watch.expect_status(Status::Unknown).await;
        assert_eq!(heartbeat.epoch.ended, "denied", "{user}: {heartbeat:?}");
        assert_eq!(watch.stop().await.len(), 0);
    }
    let connection = cluster.connection(&Watching { user: "app", ..Watching::default() }).unwrap();
    let looked = metawatch::shell::one_shot::look(
        &connection,
        crate::cluster::watch::settings(std::time::Duration::from_secs(1)),
        metawatch::shell::one_shot::Look::Once,
    );
    let failure = looked.await.expect_err("the account APP is not the system account");
    assert_eq!(failure.kind(), metawatch::shell::failure::FailureKind::NotSystemAccount, "{failure}");
}

#[tokio::test]
async fn routes_that_are_reset_and_heal_raise_nothing() {
    let layout = Layout::cluster(3).version(tested_version().as_deref()).proxied();
    let mut cluster = Cluster::start(layout).await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    let servers = cluster.url(&cluster.leader().await.unwrap().unwrap());
    let mut watch = cluster.watch(Watching { servers, ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    for _ in 0..3 {
        cluster.routes(&follower, Mode::Reset);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        cluster.routes(&follower, Mode::Pass);
        cluster.wait_until_well().await.unwrap();
        watch.expect_status(Status::Ok).await;
    }
    let all = watch.stop().await;
    assert!(all.iter().all(|seen| seen.event.state != State::Firing), "{all:#?}");
}
