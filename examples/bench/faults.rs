//! From a fault to the alert, and until the nats CLI says critical.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;

use crate::cluster::watch::{Seen, Watch, Watching};
use crate::cluster::{Cluster, LONG, Layout, Mode};
use crate::figures::{Samples, progress, say};
use crate::tools;

/// How often the nats CLI is asked.
const POLL: Duration = Duration::from_millis(500);
/// What metawatch runs with.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    StopFollower,
    KillFollower,
    KillLeader,
    FreezeFollower,
    CutOffFollower,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::StopFollower,
        Self::KillFollower,
        Self::KillLeader,
        Self::FreezeFollower,
        Self::CutOffFollower,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::StopFollower => "orderly stop of a follower (SIGTERM)",
            Self::KillFollower => "crash of a follower (kill -9)",
            Self::KillLeader => "crash of the leader (kill -9)",
            Self::FreezeFollower => "frozen follower (SIGSTOP)",
            Self::CutOffFollower => "partition of a follower",
        }
    }

    /// When the servers' own `offline` flag appears: it takes minutes, so it was measured once, on 2.10 to 2.15.
    fn flagged_after(self) -> &'static str {
        match self {
            Self::StopFollower => "< 0.6",
            Self::KillFollower | Self::KillLeader => "142–239",
            Self::FreezeFollower | Self::CutOffFollower => "140–240",
        }
    }

    fn layout(self) -> Layout {
        let layout = Layout::cluster(3);
        if self == Self::CutOffFollower { layout.proxied() } else { layout }
    }

    async fn make(self, cluster: &mut Cluster, victim: &str) -> io::Result<()> {
        match self {
            Self::StopFollower => cluster.stop(victim).await,
            Self::KillFollower | Self::KillLeader => cluster.kill(victim),
            Self::FreezeFollower => cluster.freeze(victim),
            Self::CutOffFollower => {
                cluster.routes(victim, Mode::Hold);
                Ok(())
            }
        }
    }

    fn mend(self, cluster: &mut Cluster, victim: &str) -> io::Result<()> {
        match self {
            Self::StopFollower | Self::KillFollower | Self::KillLeader => cluster.boot(victim),
            Self::FreezeFollower => cluster.thaw(victim),
            Self::CutOffFollower => {
                cluster.routes(victim, Mode::Pass);
                Ok(())
            }
        }
    }
}

/// What the rounds of one fault gave.
#[derive(Debug, Default)]
struct Row {
    suspected: Samples,
    critical: Samples,
    nats: Samples,
    /// What the nats CLI said when it first said critical, in the last round.
    nats_said: String,
}

/// An answer of the nats CLI.
struct Said {
    at: Instant,
    line: String,
}

pub(crate) async fn run(rounds: usize, nats: Option<&Path>) -> io::Result<()> {
    if nats.is_none() {
        progress("faults: there is no nats CLI to compare with");
    }
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        rows.push((fault, measure(fault, rounds, nats).await?));
    }
    say(&format!(
        "seconds from a fault to … (3 servers; median, and max in brackets, of {rounds} rounds)\n"
    ))?;
    say(
        "| fault | metawatch: suspected | metawatch: critical | `nats server check meta` ¹: critical | the servers' `offline` flag ² |",
    )?;
    say("|---|---|---|---|---|")?;
    for (fault, row) in &rows {
        let cell = |samples: &Samples| match samples.count() {
            0 => "—".to_owned(),
            count if count < rounds => {
                format!("{:.1} ({:.1}) in {count} rounds", samples.median(), samples.max())
            }
            _ => format!("{:.1} ({:.1})", samples.median(), samples.max()),
        };
        say(&format!(
            "| {} | {} | {} | {} | {} |",
            fault.label(),
            cell(&row.suspected),
            cell(&row.critical),
            cell(&row.nats),
            fault.flagged_after()
        ))?;
    }
    say("\nmetawatch runs with `--interval 1s`; times are taken at a subscriber of its alerts.")?;
    say(
        "¹ `--expect 3 --lag-critical 10 --seen-critical 10s`, asked twice a second through a server that stays.",
    )?;
    say("² not measured in this run: a constant, measured on nats-server 2.10 to 2.15.")?;
    let asked = rows.iter().filter(|(_, row)| !row.nats_said.is_empty());
    for (fault, row) in asked {
        say(&format!("  {}: the nats CLI first said «{}»", fault.label(), row.nats_said))?;
    }
    Ok(())
}

async fn measure(fault: Fault, rounds: usize, nats: Option<&Path>) -> io::Result<Row> {
    progress(&format!("faults: {}: starting three servers …", fault.label()));
    let mut cluster = Cluster::start(fault.layout()).await?;
    // Everybody looks through one server, which is never broken.
    let stays = cluster.names().into_iter().next().unwrap_or_default();
    let servers = cluster.url(&stays);
    let mut watch = cluster.watch(Watching { servers, interval: INTERVAL, ..Watching::default() }).await?;
    let mut row = Row::default();
    for round in 0..rounds {
        let victim = victim(fault, &cluster, &stays).await?;
        if let Some(nats) = nats {
            nats_says(nats, &cluster, &stays, 0).await?;
        }
        watch.expect_status(Status::Ok).await;
        // Spread over the time between two epochs.
        tokio::time::sleep(INTERVAL * (2 * round as u32 + 1) / (2 * rounds as u32)).await;
        let begun = Instant::now();
        fault.make(&mut cluster, &victim).await?;
        let (firing, nats_critical) = {
            let asked = async {
                match nats {
                    Some(nats) => nats_says(nats, &cluster, &stays, 2).await.map(Some),
                    None => Ok(None),
                }
            };
            tokio::join!(watch.expect_peer(&victim, State::Firing), asked)
        };
        let nats_critical = nats_critical?;
        let after = |at: Instant| format!("{:.2} s", (at - begun).as_secs_f64());
        progress(&format!(
            "faults: {}: round {}: metawatch critical after {}, the nats CLI after {}",
            fault.label(),
            round + 1,
            after(firing.at),
            nats_critical.as_ref().map_or("–".to_owned(), |said| after(said.at))
        ));
        take(&mut row, &mut watch, begun, &firing, nats_critical);
        fault.mend(&mut cluster, &victim)?;
        watch.expect_peer(&victim, State::Resolved).await;
        cluster.wait_until_well().await?;
    }
    watch.stop().await;
    Ok(row)
}

fn take(row: &mut Row, watch: &mut Watch, begun: Instant, firing: &Seen, nats: Option<Said>) {
    let suspected = |seen: &&Seen| {
        seen.at >= begun && seen.event.state == State::Suspected && seen.event.peer == firing.event.peer
    };
    if let Some(suspected) = watch.seen().iter().find(suspected) {
        row.suspected.push(suspected.at - begun);
    }
    row.critical.push(firing.at - begun);
    if let Some(said) = nats {
        row.nats.push(said.at - begun);
        row.nats_said = said.line;
    }
}

/// Whom it hits: never the server that everybody looks through.
async fn victim(fault: Fault, cluster: &Cluster, stays: &str) -> io::Result<String> {
    if fault != Fault::KillLeader {
        return cluster.follower(stays).await;
    }
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        match cluster.leader().await? {
            Some(leader) if leader != stays => return Ok(leader),
            Some(_) => cluster.step_down().await?,
            None => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(io::Error::other(format!("{stays} does not stop leading")))
}

/// When the nats CLI first ended with this code, and what it said.
async fn nats_says(nats: &Path, cluster: &Cluster, through: &str, code: i32) -> io::Result<Said> {
    let (tool, home) = (tools::check_meta(nats, &cluster.url(through)), cluster.folder());
    let deadline = Instant::now() + LONG;
    let mut polls = tokio::time::interval(POLL);
    while Instant::now() < deadline {
        polls.tick().await;
        let output = tool.command(&home).stdout(Stdio::piped()).output().await?;
        if output.status.code() == Some(code) {
            let text = String::from_utf8_lossy(&output.stdout);
            let verdict = text.split('|').next().unwrap_or_default();
            let line = verdict.split_whitespace().collect::<Vec<_>>().join(" ");
            return Ok(Said { at: Instant::now(), line });
        }
    }
    Err(io::Error::other(format!("{} does not end with {code} within {LONG:?}", tool.label)))
}
