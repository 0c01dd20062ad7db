//! Further questions, after the alert went out: what real servers answer, and that nobody is worse off without.

use std::time::Duration;

use metawatch::alert::{Reason, State};
use metawatch::check::CauseKind;
use metawatch::event::heartbeat::Status;

use crate::cluster::watch::{Seen, Watch, Watching};
use crate::cluster::{Cluster, Layout, User, tested_version};

/// Up to 2.10.25 no server answers `RAFTZ`.
fn has_raftz() -> bool {
    tested_version().is_none_or(|version| version != "2.10.25")
}

async fn watched(cluster: &Cluster, watching: Watching) -> Watch {
    let mut watch = cluster.watch(watching).await.unwrap();
    watch.expect_status(Status::Ok).await;
    watch
}

fn diagnosed(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|seen| seen.event.reason == Reason::Diagnosed).collect()
}

#[track_caller]
fn check_seq(seen: &[Seen], incident: &str) {
    let seqs = seen.iter().filter(|seen| seen.event.incident == incident).map(|seen| seen.event.seq);
    let seqs: Vec<u64> = seqs.collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "seq has holes: {seen:#?}");
}

#[tokio::test]
async fn what_the_leader_knows_of_a_frozen_follower_follows_the_alert() {
    let mut cluster = Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap();
    let leader = cluster.leader().await.unwrap().unwrap();
    let follower = cluster.follower("").await.unwrap();
    let servers = cluster.url(&leader);
    let mut watch = watched(&cluster, Watching { servers, ..Watching::default() }).await;
    cluster.freeze(&follower).unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.cause.as_ref().map(|cause| cause.kind), Some(CauseKind::FrozenOrPartitioned));
    assert!(firing.event.diagnosis.is_empty(), "an alert waits for no answer: {firing:#?}");
    if has_raftz() {
        let update = watch.expect("the diagnosis", |event| event.reason == Reason::Diagnosed).await;
        assert_eq!(update.event.incident, firing.event.incident);
        assert_eq!((update.event.seq, update.event.state), (firing.event.seq + 1, State::Firing));
        let said = &update.event.diagnosis[0];
        assert_eq!((said.server.as_str(), said.asked.as_str()), (leader.as_str(), "RAFTZ"));
        assert!(said.says.starts_with(&format!("last saw {follower} ")), "{said:?}");
        assert!(update.summary.ends_with(&format!("; {leader} says: {}", said.says)), "{}", update.summary);
        let after = update.at.duration_since(firing.at);
        assert!(after < Duration::from_secs(3), "it took {after:?}");
    }
    cluster.thaw(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert!(resolved.event.diagnosis.is_empty(), "{resolved:#?}");
    let seen = watch.stop().await;
    assert_eq!(diagnosed(&seen).len(), usize::from(has_raftz()), "{seen:#?}");
    check_seq(&seen, &firing.event.incident);
}

#[tokio::test]
async fn what_the_last_member_knows_of_a_lost_quorum_follows_the_alert() {
    let mut cluster = Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap();
    let mut watch = watched(&cluster, Watching::default()).await;
    let survivor = cluster.leader().await.unwrap().unwrap();
    for name in cluster.names().iter().filter(|name| **name != survivor) {
        cluster.kill(name).unwrap();
    }
    let of_group = |event: &metawatch::event::AlertEvent| event.check == "META_006";
    let firing = watch.expect("META_006", |event| of_group(event) && event.state == State::Firing).await;
    if has_raftz() {
        let update =
            watch.expect("the diagnosis", |event| of_group(event) && event.reason == Reason::Diagnosed).await;
        assert_eq!(update.event.seq, firing.event.seq + 1);
        assert_eq!(update.event.diagnosis[0].server, survivor);
    }
    check_seq(&watch.stop().await, &firing.event.incident);
}

#[tokio::test]
async fn a_server_that_comes_back_without_jetstream_says_itself_why() {
    let mut cluster = Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    let mut watch = watched(&cluster, Watching::default()).await;
    cluster.take_jetstream(&follower);
    cluster.kill(&follower).unwrap();
    cluster.boot(&follower).unwrap();
    let update = watch.expect("the diagnosis", |event| event.reason == Reason::Diagnosed).await;
    let said = &update.event.diagnosis[0];
    assert_eq!((said.server.as_str(), said.asked.as_str()), (follower.as_str(), "HEALTHZ"));
    assert!(said.says.contains("its configuration has no JetStream"), "{said:?}");
    if update.event.state != State::Firing {
        let firing = watch.expect_peer(&follower, State::Firing).await;
        assert_eq!(firing.event.diagnosis, update.event.diagnosis, "later events keep it");
    }
    let seen = watch.stop().await;
    check_seq(&seen, &update.event.incident);
}

#[tokio::test]
async fn without_the_rights_there_is_no_diagnosis_and_nothing_else_is_missing() {
    let owned = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect();
    let user = User {
        account: "SYS",
        name: "modest",
        publish: owned(&["$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.STATSZ", "metawatch.>"]),
        subscribe: owned(&["_MW.>", "$SYS.SERVER.*.SHUTDOWN", "$SYS.SERVER.*.LAMEDUCK"]),
    };
    let layout = Layout::cluster(3).version(tested_version().as_deref()).user(user);
    let mut cluster = Cluster::start(layout).await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    let servers = cluster.url(&cluster.leader().await.unwrap().unwrap());
    let watching = Watching { user: "modest", inbox_prefix: Some("_MW"), servers, ..Watching::default() };
    let mut watch = watched(&cluster, watching).await;
    cluster.freeze(&follower).unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.cause.as_ref().map(|cause| cause.kind), Some(CauseKind::FrozenOrPartitioned));
    tokio::time::sleep(Duration::from_secs(4)).await;
    watch.expect_status(Status::Alerting).await;
    cluster.thaw(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    watch.expect_status(Status::Ok).await;
    let seen = watch.stop().await;
    assert!(diagnosed(&seen).is_empty(), "{seen:#?}");
    check_seq(&seen, &firing.event.incident);
}
