//! What many watchers of one system cost it, and whether they speak as one.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::event::{AlertEvent, Heartbeat};
use serde_json::Value;
use tokio::time::timeout_at;

use crate::cluster::sidecar::Sidecar;
use crate::cluster::{Cluster, Layout};
use crate::figures::{progress, say};
use crate::tools;

const INTERVAL: Duration = Duration::from_secs(2);
/// For so long is measured.
const LASTS: Duration = Duration::from_secs(30);
/// How long the loss of a server may take to be told.
const TOLD: Duration = Duration::from_secs(20);
const PING_STATSZ: &str = "$SYS.REQ.SERVER.PING.STATSZ";

/// Runs so many watchers, one number after the other.
pub(crate) async fn run(counts: &[usize]) -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    say(&format!(
        "watchers on three servers, --interval {} s, for {} s each",
        INTERVAL.as_secs(),
        LASTS.as_secs()
    ))?;
    say(
        "| watchers | messages/s of all servers | JSZ requests an interval | CPU of a server | CPU of a watcher | speakers | heartbeats an interval | counted | incidents of one kill -9 |",
    )?;
    say("|---|---|---|---|---|---|---|---|---|")?;
    for count in counts {
        say(&measure(&metawatch, *count).await?)?;
    }
    Ok(())
}

async fn measure(metawatch: &Path, count: usize) -> io::Result<String> {
    progress(&format!("watchers: {count} …"));
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let client = cluster.admin().await?;
    let subscribe =
        async |subject: &str| client.subscribe(subject.to_owned()).await.map_err(io::Error::other);
    let watchers = start(&cluster, metawatch, count)?;
    // They start one after the other; then the reserves say that they are there, one after the other.
    tokio::time::sleep(Duration::from_secs(15) + Duration::from_millis(100) * count as u32).await;
    let mut heartbeats = subscribe("metawatch.heartbeat").await?;
    let mut requests = subscribe("$SYS.REQ.SERVER.PING.JSZ").await?;
    client.flush().await.map_err(io::Error::other)?;
    let (sent, spent, begin) = (sent(&client).await?.0, cpu(&watchers)?, Instant::now());
    tokio::time::sleep(LASTS).await;
    let (sent_after, server_cpu) = crate::watchers::sent(&client).await?;
    let took = begin.elapsed().as_secs_f64();
    let spent = cpu(&watchers)?.saturating_sub(spent);
    let intervals = took / INTERVAL.as_secs_f64();
    let heard = ready(&mut heartbeats).await;
    let asked = ready(&mut requests).await.len();
    let beats: Vec<Heartbeat> =
        heard.iter().filter_map(|payload| serde_json::from_slice(payload).ok()).collect();
    let speakers: BTreeSet<&str> = beats.iter().map(|beat| beat.monitor.instance.as_str()).collect();
    let incidents = incidents_of_a_kill(&mut cluster, &client).await?;
    Ok(format!(
        "| {count} | {:.0} | {:.1} | {server_cpu:.1} % | {:.2} % | {} | {:.1} | {} | {incidents} |",
        (sent_after - sent) as f64 / took,
        asked as f64 / intervals,
        spent.as_secs_f64() / took / count as f64 * 100.0,
        speakers.len(),
        beats.len() as f64 / intervals,
        beats.last().map_or(0, |beat| beat.watchers),
    ))
}

/// A third of the watchers beside each server.
fn start(cluster: &Cluster, metawatch: &Path, count: usize) -> io::Result<Vec<Sidecar>> {
    let names = cluster.names();
    let start = |number: usize| {
        let order = (0..names.len()).map(|at| cluster.url(&names[(number + at) % names.len()]));
        let servers: Vec<String> = order.collect();
        let name = format!("watcher-{number}");
        Sidecar::start(cluster, metawatch, &name, &servers.join(","), &["--interval", "2s"])
    };
    (0..count).map(start).collect()
}

/// How many messages all servers have sent, and how much CPU one of them takes, in percent.
async fn sent(client: &Client) -> io::Result<(u64, f64)> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
    client.publish_with_reply(PING_STATSZ, inbox, "".into()).await.map_err(io::Error::other)?;
    let (mut messages, mut cpu, mut servers) = (0, 0.0, 0.0);
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while let Ok(Some(reply)) = timeout_at(until, replies.next()).await {
        let reply: Value = serde_json::from_slice(&reply.payload)?;
        messages += reply["statsz"]["sent"]["msgs"].as_u64().unwrap_or(0);
        cpu += reply["statsz"]["cpu"].as_f64().unwrap_or(0.0);
        servers += 1.0;
    }
    Ok((messages, cpu / servers))
}

/// What has come so far.
async fn ready(subscriber: &mut Subscriber) -> Vec<bytes::Bytes> {
    let mut heard = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_millis(50);
    while let Ok(Some(message)) = timeout_at(until, subscriber.next()).await {
        heard.push(message.payload);
    }
    heard
}

/// The CPU time of all of them since their start.
fn cpu(watchers: &[Sidecar]) -> io::Result<Duration> {
    // The unit of /proc/<pid>/stat is 10 ms on every Linux.
    let ticks = |id: u32| -> io::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(field(11) + field(12))
    };
    let mut sum = 0;
    for id in watchers.iter().filter_map(Sidecar::id) {
        sum += ticks(id)?;
    }
    Ok(Duration::from_millis(sum * 10))
}

/// Kills a follower: how many incidents it leads to.
async fn incidents_of_a_kill(cluster: &mut Cluster, client: &Client) -> io::Result<usize> {
    let through = client.server_info().server_name;
    let follower = cluster.follower(&through).await?;
    let mut alerts = client.subscribe("metawatch.alert.META_001.>").await.map_err(io::Error::other)?;
    client.flush().await.map_err(io::Error::other)?;
    cluster.kill(&follower)?;
    tokio::time::sleep(TOLD).await;
    let heard = ready(&mut alerts).await;
    let events = heard.iter().filter_map(|payload| serde_json::from_slice::<AlertEvent>(payload).ok());
    let incidents: BTreeSet<String> =
        events.filter(|event| event.state == State::Firing).map(|event| event.incident).collect();
    Ok(incidents.len())
}
