//! Thousands of servers that answer at once: not one of their replies is lost.

use std::time::Duration;

use metawatch::pipeline::Pipeline;
use metawatch::shell::clock::Clock;
use metawatch::shell::collect::{Collector, CollectorOptions};
use metawatch::shell::connect::{Retry, connect};

use crate::cluster::watch::{Watching, settings};
use crate::cluster::{Cluster, LONG, Layout, Node, tested_version};

#[expect(unreachable_pub, clippy::disallowed_methods, reason = "the example uses it, too, in real time")]
#[path = "../../examples/fleet/fleet.rs"]
mod fleet;
#[expect(unreachable_pub, reason = "the example uses it, too")]
#[path = "../../examples/fleet/system.rs"]
mod system;

const SERVERS: usize = 10_000;

#[tokio::test]
async fn ten_thousand_replies_at_once_are_all_heard() {
    let node = Node { jetstream: false, version: tested_version(), ..Node::new("hub", "hub") };
    let mut cluster = Cluster::prepare(Layout { nodes: vec![node], ..Layout::default() }).await.unwrap();
    cluster.boot("hub").unwrap();
    let address = cluster.url("hub").trim_start_matches("nats://").to_owned();
    let listening = async {
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, listening).await.unwrap();
    let shape =
        system::Shape { servers: SERVERS, group: 9, versions: vec!["2.14.6".to_owned()], dead: 0, seed: 1 };
    let _fleet = fleet::Fleet::start(&address, ("admin", "admin"), &shape, fleet::Way::default(), 2).unwrap();
    let config = cluster.connection(&Watching::default()).unwrap();
    let clock = Clock::new();
    let link = connect(&config, Retry::Once).await.unwrap();
    let mut collector = Collector::new(link, clock, CollectorOptions::default()).await;
    let mut pipeline = Pipeline::new(settings(Duration::from_secs(1)));
    let mut lost = Vec::new();
    // The first epochs may come before the real server has counted all of them.
    let (mut number, mut whole) = (0, 0);
    while whole < 3 {
        number += 1;
        assert!(number < 100, "no epoch heard everybody");
        let gathered = collector.epoch(pipeline.plan(number, clock.now(), config.timeout)).await;
        whole = if gathered.replies.len() == SERVERS + 1 { whole + 1 } else { 0 };
        lost.push(gathered.counts.dropped);
        pipeline.step(&gathered);
    }
    assert!(lost.iter().all(|lost| *lost == 0), "times that messages were lost, by epoch: {lost:?}");
    collector.close().await;
}
