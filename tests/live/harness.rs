//! The harness itself: what the other live tests rely on.

use std::time::Duration;

use crate::cluster::{Cluster, Layout, Mode, tested_version};

#[tokio::test]
async fn a_cluster_can_be_broken_and_mended() {
    let layout = Layout::cluster(3).version(tested_version().as_deref()).proxied();
    let mut cluster = Cluster::start(layout).await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    assert_eq!(cluster.jsz().await.unwrap().len(), 2);
    cluster.boot(&follower).unwrap();
    cluster.wait_until_well().await.unwrap();
    let leader = cluster.leader().await.unwrap().unwrap();
    cluster.routes(&follower, Mode::Hold);
    cluster.wait_for_replies(&leader, 2).await.unwrap();
    cluster.routes(&follower, Mode::Pass);
    cluster.wait_until_well().await.unwrap();
    cluster.routes(&follower, Mode::Reset);
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.routes(&follower, Mode::Pass);
    cluster.wait_until_well().await.unwrap();
}
