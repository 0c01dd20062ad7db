//! An hour of ordinary life, or less: rolling restarts, crashes with a restart at once, elections, many new streams.
//! Whatever fires for a server that was up is a false alarm.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;

use crate::cluster::watch::{Seen, Watching};
use crate::cluster::{Cluster, Layout};

/// When a server was away: from its stop until it was current again.
struct Away {
    name: String,
    from: Instant,
    until: Instant,
    announced: bool,
}

/// Lives `minutes` long and prints how often which alert fired, and how often falsely.
pub(crate) async fn run(minutes: u64) -> io::Result<()> {
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut watch = cluster.watch(Watching::default()).await?;
    watch.expect_status(Status::Ok).await;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let (mut away, mut elections, mut streams, mut round) = (Vec::new(), 0, 0, 0_usize);
    while Instant::now() < end {
        let names = cluster.names();
        let name = &names[round % names.len()];
        let from = Instant::now();
        match round % 4 {
            0 | 2 => {
                cluster.stop(name).await?;
                tokio::time::sleep(Duration::from_secs(3)).await;
                cluster.boot(name)?;
            }
            1 => {
                cluster.kill(name)?;
                cluster.boot(name)?;
            }
            _ => {
                cluster.step_down().await?;
                elections += 1;
            }
        }
        cluster.wait_until_well().await?;
        if round % 4 != 3 {
            away.push(Away { name: name.clone(), from, until: Instant::now(), announced: round % 4 != 1 });
        }
        if round.is_multiple_of(8) {
            cluster.churn(200).await?;
            streams += 200;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        round += 1;
        if round.is_multiple_of(20) {
            writeln!(io::stderr(), "  {round} rounds, {} events so far", watch.seen().len())?;
        }
    }
    watch.expect_status(Status::Ok).await;
    let seen = watch.stop().await;
    let fired: Vec<&Seen> = seen.iter().filter(|seen| seen.event.state == State::Firing).collect();
    let falsely: Vec<&&Seen> =
        fired.iter().filter(|seen| !away.iter().any(|away| explains(away, seen))).collect();
    let told = |away: &&Away| fired.iter().any(|seen| explains(away, seen));
    let stops = away.iter().filter(|away| away.announced);
    let missed = stops.clone().filter(|away| !told(away)).count();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{minutes} minutes of churn on 3 servers: {} restarts of 3 s, {} crashes with a restart at once, {elections} \
         elections, {streams} new streams",
        stops.count(),
        away.iter().filter(|away| !away.announced).count(),
    )?;
    writeln!(
        out,
        "  fired {} times; false alarms {}; restarts not told {missed}",
        fired.len(),
        falsely.len()
    )?;
    for seen in falsely {
        writeln!(out, "  FALSE: {} {}", seen.subject, seen.summary)?;
    }
    Ok(())
}

/// Whether a server was away when an alert about it fired.
fn explains(away: &Away, seen: &Seen) -> bool {
    let about = seen.event.peer.as_ref().and_then(|peer| peer.name.as_ref());
    about == Some(&away.name) && seen.at >= away.from && seen.at <= away.until
}
