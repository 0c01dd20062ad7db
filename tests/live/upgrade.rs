//! A rolling upgrade from 0.1.0: watchers of both versions side by side. They do not understand each other, so each
//! kind speaks once, and the new ones say so; once all are new, one speaks, with the incidents that stand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use metawatch::alert::State;

use super::three;
use crate::cluster::Cluster;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;

const NEW: &str = env!("CARGO_BIN_EXE_metawatch");

fn start(cluster: &Cluster, binary: &Path, number: usize) -> Sidecar {
    let names = cluster.names();
    let order = (0..names.len()).map(|at| cluster.url(&names[(number + at) % names.len()]));
    let servers: Vec<String> = order.collect();
    Sidecar::start(cluster, binary, &format!("watcher-{number}"), &servers.join(","), &[]).unwrap()
}

/// Who speaks within a few intervals.
async fn speakers(heartbeats: &mut async_nats::Subscriber) -> BTreeSet<String> {
    let mut speakers = BTreeSet::new();
    while heartbeats.next().now_or_never().is_some() {}
    tokio::time::sleep(Duration::from_secs(5)).await;
    while let Some(Some(message)) = heartbeats.next().now_or_never() {
        let beat: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        speakers.insert(beat["monitor"]["name"].as_str().unwrap().to_owned());
    }
    speakers
}

/// `METAWATCH_OLD=/path/to/metawatch-0.1.0 cargo test --test metawatch -- --ignored upgrade`
#[tokio::test]
#[ignore = "needs a binary of 0.1.0, named by METAWATCH_OLD"]
async fn while_watchers_of_0_1_0_run_beside_new_ones_each_alert_comes_twice_at_most_and_that_is_said() {
    let old = PathBuf::from(std::env::var("METAWATCH_OLD").expect("METAWATCH_OLD names a binary of 0.1.0"));
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut heartbeats = admin.subscribe("metawatch.heartbeat").await.unwrap();
    let mut olds: Vec<Sidecar> = (0..2).map(|number| start(&cluster, &old, number)).collect();
    let news: Vec<Sidecar> = (2..4).map(|number| start(&cluster, Path::new(NEW), number)).collect();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let both = speakers(&mut heartbeats).await;
    assert_eq!(both.len(), 2, "{both:?}");

    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let fired: BTreeSet<String> = watch
        .seen()
        .iter()
        .filter(|seen| seen.event.state == State::Firing)
        .map(|seen| seen.event.incident.clone())
        .collect();
    assert!((1..=2).contains(&fired.len()), "{fired:?}");
    let told =
        |sidecar: &Sidecar| sidecar.log().contains("is of a version that does not understand this one");
    assert!(news.iter().any(told), "{}", news[0].log());

    // The old ones are renewed, one after the other, and go on with their state.
    for (number, sidecar) in olds.iter_mut().enumerate() {
        sidecar.signal("TERM").unwrap();
        assert_eq!(sidecar.wait().unwrap(), Some(0), "{}", sidecar.log());
        *sidecar = start(&cluster, Path::new(NEW), number);
    }
    watch.expect_heartbeat("four watchers", |beat| beat.watchers == 4 && beat.incidents > 0).await;
    let one = speakers(&mut heartbeats).await;
    assert_eq!(one.len(), 1, "{one:?}");
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Every incident that anybody was told of is over, or part of one that is.
    let seen = watch.stop().await;
    let over = seen.iter().filter(|seen| seen.event.state == State::Resolved);
    let over: BTreeSet<&String> =
        over.flat_map(|seen| std::iter::once(&seen.event.incident).chain(&seen.event.merged)).collect();
    assert!(fired.iter().all(|incident| over.contains(incident)), "{fired:?} {over:?}");
}
