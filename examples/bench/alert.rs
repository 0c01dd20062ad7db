//! From a server's announcement that it stops to the critical alert, both at one subscriber; and from the verdict to
//! the subscriber.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;

use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout};
use crate::figures::{Samples, ms, progress, say};

const STOPS: usize = 10;

pub(crate) async fn run() -> io::Result<()> {
    progress("alert: starting three servers …");
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let leader = cluster.leader().await?.unwrap_or_default();
    let followers: Vec<String> = cluster.names().into_iter().filter(|name| *name != leader).collect();
    // Through the server that stays: a client of the one that stops has to connect anew first.
    let servers = cluster.url(&leader);
    let client = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into())
        .connect(&servers)
        .await
        .map_err(io::Error::other)?;
    let mut watch = cluster.watch(Watching { servers, ..Watching::default() }).await?;
    let (mut samples, mut deliveries) = (Samples::default(), Samples::default());
    for stop in 0..STOPS {
        watch.expect_status(Status::Ok).await;
        // At another moment between two epochs each time.
        tokio::time::sleep(Duration::from_millis(100 * stop as u64)).await;
        let follower = &followers[stop % followers.len()];
        progress(&format!("alert: stop {} of {STOPS} …", stop + 1));
        let measured = tokio::spawn(announced_to_alerted(client.clone(), follower.clone()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.stop(follower).await?;
        let (alerted, delivered) = measured.await??;
        samples.push(alerted);
        deliveries.push(delivered);
        watch.expect_peer(follower, State::Firing).await;
        cluster.boot(follower)?;
        watch.expect_peer(follower, State::Resolved).await;
        cluster.wait_until_well().await?;
    }
    watch.stop().await;
    say(&format!(
        "orderly stop of a follower: announcement to critical alert, at one subscriber ({STOPS} stops)"
    ))?;
    say(&format!("  median {}  max {}", ms(samples.median()), ms(samples.max())))?;
    say("verdict (the event's timestamp, in whole milliseconds) to the subscriber")?;
    say(&format!("  median {}  max {}", ms(deliveries.median()), ms(deliveries.max())))
}

/// The time between the two messages, and the one from the verdict to the second.
async fn announced_to_alerted(client: async_nats::Client, name: String) -> io::Result<(Duration, Duration)> {
    let announcements = client.subscribe("$SYS.SERVER.*.SHUTDOWN").await.map_err(io::Error::other)?;
    let alerts = format!("metawatch.alert.META_001.*.{name}.firing");
    let alerts = client.subscribe(alerts).await.map_err(io::Error::other)?;
    client.flush().await.map_err(io::Error::other)?;
    let mut messages = futures_util::stream::select(announcements, alerts);
    let mut announced = None;
    loop {
        let next = tokio::time::timeout(LONG, messages.next()).await?;
        let message = next.ok_or_else(|| io::Error::other("the connection ended"))?;
        match announced {
            _ if message.subject.ends_with("SHUTDOWN") => announced = Some(Instant::now()),
            Some(announced) => {
                let (alerted, now) = (announced.elapsed(), SystemTime::now());
                let event: AlertEvent = serde_json::from_slice(&message.payload)?;
                let judged = humantime::parse_rfc3339(&event.timestamp).map_err(io::Error::other)?;
                return Ok((alerted, now.duration_since(judged).unwrap_or_default()));
            }
            None => return Err(io::Error::other("the alert came before the announcement")),
        }
    }
}
