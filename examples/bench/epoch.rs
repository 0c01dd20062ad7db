//! How soon an epoch ends after the last reply, on a healthy cluster.

use std::io;
use std::time::Duration;

use metawatch::pipeline::Pipeline;
use metawatch::shell::clock::Clock;
use metawatch::shell::collect::{Collector, CollectorOptions};
use metawatch::shell::connect::{Retry, connect};

use crate::cluster::watch::{Watching, settings};
use crate::cluster::{Cluster, Layout};
use crate::figures::{Samples, ms, progress, say};

const EPOCHS: u64 = 300;
/// Epochs in which the collector gets to know who answers, and how fast.
const LEARNING: u64 = 10;
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn run() -> io::Result<()> {
    progress("epoch: starting three servers …");
    let cluster = Cluster::start(Layout::cluster(3)).await?;
    let config = cluster.connection(&Watching::default())?;
    let clock = Clock::new();
    let link = connect(&config, Retry::Once).await.map_err(io::Error::other)?;
    let mut collector = Collector::new(link, clock, CollectorOptions::default()).await;
    let mut pipeline = Pipeline::new(settings(Duration::from_secs(1)));
    progress(&format!("epoch: {EPOCHS} epochs …"));
    let (mut waits, mut answers) = (Samples::default(), Samples::default());
    for number in 1..=LEARNING + EPOCHS {
        let gathered = collector.epoch(pipeline.plan(number, clock.now(), config.timeout)).await;
        pipeline.step(&gathered);
        let slowest = gathered.delays().max().unwrap_or_default();
        if gathered.replies.len() != 3 {
            return Err(io::Error::other(format!("{} of 3 servers answered", gathered.replies.len())));
        }
        if number > LEARNING {
            answers.push(slowest);
            waits.push(gathered.closed.since(gathered.opened.plus(slowest)));
        }
        tokio::time::sleep(PAUSE).await;
    }
    collector.close().await;
    say(&format!("epochs of 3 healthy servers ({} of them)", waits.count()))?;
    say(&format!("  request to last reply       median {}", ms(answers.median())))?;
    say(&format!(
        "  last reply to end of epoch  median {}  p99 {}  max {}",
        ms(waits.median()),
        ms(waits.quantile(0.99)),
        ms(waits.max())
    ))
}
