//! metawatch at work: a real cluster, faults, and what a subscriber receives.
//!
//! `cargo run --release --example demo [-- --keep]`

#[expect(unreachable_pub, dead_code, unused_imports, reason = "the tests use the rest of the harness")]
#[path = "../../tests/cluster/mod.rs"]
mod cluster;

use std::io::{self, Write};
use std::time::Duration;

use cluster::watch::{Seen, Watch, Watching};
use cluster::{Cluster, Layout};
use metawatch::alert::State;
use metawatch::event::heartbeat::Status;

const HELP: &str = "\
Starts three real nats-servers on loopback, watches them with metawatch, breaks them one way after the other and
prints what a subscriber of `metawatch.alert.>` receives. Ends by itself within two minutes and cleans up.

usage: demo [--keep]

  --keep   leave the cluster and metawatch running at the end, with the commands to try by hand, until Ctrl-C
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        ["--help" | "-h"] => return write!(io::stdout(), "{HELP}"),
        _ => return Err(io::Error::other(format!("what is {arguments:?}?\n\n{HELP}"))),
    };
    tokio::select! {
        done = show(keep) => done,
        _ = tokio::signal::ctrl_c() => say("\nStopped; every server is ended and every file removed."),
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

async fn show(keep: bool) -> io::Result<()> {
    say("Starting three nats-servers with JetStream and a system account on loopback …")?;
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let leader = cluster.leader().await?.unwrap_or_default();
    say(&format!("  s1, s2 and s3 run; the meta leader is {leader}."))?;
    say("Starting metawatch (an epoch every second) and an independent subscriber of `metawatch.>` …")?;
    let mut watch = cluster.watch(Watching::default()).await?;
    let heartbeat = watch.expect_status(Status::Ok).await;
    say(&format!("  the heartbeat says: {}", heartbeat.summary))?;

    let follower = cluster.follower("").await?;
    say(&format!(
        "\n1. Stopping the follower {follower} in an orderly way (SIGTERM). Expect: critical at once, «stopped»."
    ))?;
    let begun = Moment::now();
    cluster.stop(&follower).await?;
    broken(&mut watch, &follower, begun).await?;
    mended(&mut cluster, &mut watch, &follower).await?;

    let leader = cluster.leader().await?.unwrap_or_default();
    say(&format!(
        "\n2. Stopping the leader {leader} in an orderly way. Expect: the same, under a new leader."
    ))?;
    let begun = Moment::now();
    cluster.stop(&leader).await?;
    broken(&mut watch, &leader, begun).await?;
    mended(&mut cluster, &mut watch, &leader).await?;

    let leader = cluster.leader().await?.unwrap_or_default();
    say(&format!(
        "\n3. Killing the leader {leader} (kill -9). Nobody announces this: the servers' own flag would come in 2 to 4 \
         minutes.\n   Expect: critical in about 3 seconds, «crashed»."
    ))?;
    let begun = Moment::now();
    cluster.kill(&leader)?;
    broken(&mut watch, &leader, begun).await?;
    mended(&mut cluster, &mut watch, &leader).await?;

    let heartbeat = watch.expect_status(Status::Ok).await;
    say(&format!("\nDone. The heartbeat says: {}", heartbeat.summary))?;
    if keep {
        keep_running(&cluster)?;
        std::future::pending::<()>().await;
    }
    watch.stop().await;
    Ok(())
}

/// Prints what arrives until the peer's alert fires, and how long that took.
async fn broken(watch: &mut Watch, name: &str, begun: Moment) -> io::Result<()> {
    let firing = watch.expect_peer(name, State::Firing).await;
    received(watch, begun)?;
    let cause = firing.event.cause.as_ref().map_or("unknown", |cause| cause.kind.as_str());
    let grounds = firing.event.basis.map_or("unknown", |basis| basis.as_str());
    say(&format!("   → critical after {:.1} s; basis: {grounds}, cause: {cause}", begun.until(&firing)))?;
    for advice in &firing.event.advice {
        match &advice.command {
            Some(command) => say(&format!("     next: {} — `{command}`", advice.action))?,
            None => say(&format!("     next: {}", advice.action))?,
        }
    }
    Ok(())
}

/// Starts the server again and waits for the resolution.
async fn mended(cluster: &mut Cluster, watch: &mut Watch, name: &str) -> io::Result<()> {
    say(&format!("   Starting {name} again. Expect: resolved a moment after it is current."))?;
    let begun = Moment::now();
    cluster.boot(name)?;
    let resolved = watch.expect_peer(name, State::Resolved).await;
    received(watch, begun)?;
    say(&format!("   → resolved after {:.1} s", begun.until(&resolved)))?;
    cluster.wait_until_well().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// Prints the events since a moment as they arrived.
fn received(watch: &mut Watch, begun: Moment) -> io::Result<()> {
    for seen in watch.seen().iter().filter(|seen| seen.at >= begun.0) {
        say(&format!("   {:>5.1} s  {}\n            {}", begun.until(seen), seen.subject, seen.summary))?;
    }
    Ok(())
}

/// When a step began.
#[derive(Clone, Copy)]
struct Moment(std::time::Instant);

impl Moment {
    #[expect(clippy::disallowed_methods, reason = "the demo runs in real time")]
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn until(self, seen: &Seen) -> f64 {
        seen.at.saturating_duration_since(self.0).as_secs_f64()
    }
}

fn keep_running(cluster: &Cluster) -> io::Result<()> {
    let login = format!("--server {} --user admin --password admin", cluster.urls());
    let configuration = cluster.folder();
    say(&format!(
        "\nEverything goes on running until Ctrl-C. In another terminal, try:\n\n  \
         nats {login} sub 'metawatch.alert.>'\n  \
         nats {login} sub --headers-only metawatch.heartbeat\n  \
         nats {login} server list\n  \
         cargo run --release -- {login} view\n  \
         cargo run --release -- {login} check\n  \
         cargo run --release -- {login} listen\n\n\
         Configuration and logs: {}\n\
         Break a server by its process: `pgrep -af 'nats-server -c {}'`, then `kill`, `kill -9` or `kill -STOP`.",
        configuration.display(),
        configuration.display()
    ))
}
