//! From a fault to the alert, and until the nats CLI says critical.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;

use crate::cluster::tiny_disk::can_mount;
use crate::cluster::watch::{Seen, Watch, Watching};
use crate::cluster::{Cluster, LONG, Layout, Mode, User, binary};
use crate::figures::{Samples, progress, say};
use crate::tools;

/// How often the nats CLI is asked.
const POLL: Duration = Duration::from_millis(500);
/// A server that was frozen answers late at first, and for some epochs metawatch waits longer for every
/// server.
const CALM_AFTER_FREEZE: Duration = Duration::from_secs(10);
/// What metawatch runs with.
const INTERVAL: Duration = Duration::from_secs(1);

/// Later versions do not always switch JetStream off, or never.
const FILLED_VERSION: &str = "2.10.25";

/// What the name of every renamed server ends with.
const RENAMED: &str = "renamed";

/// What is done to a server, or to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    StopFollower,
    KillFollower,
    KillLeader,
    KillSeenByJszAlone,
    FreezeFollower,
    FreezeLeader,
    FreezeOwn,
    CutOffFollower,
    FillDisk,
    RenameAll,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::StopFollower,
        Self::KillFollower,
        Self::KillLeader,
        Self::KillSeenByJszAlone,
        Self::FreezeFollower,
        Self::FreezeLeader,
        Self::FreezeOwn,
        Self::CutOffFollower,
        Self::FillDisk,
        Self::RenameAll,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::StopFollower => "orderly stop of a follower (SIGTERM)",
            Self::KillFollower => "crash of a follower (kill -9)",
            Self::KillLeader => "crash of the leader (kill -9)",
            Self::KillSeenByJszAlone => "crash of a follower, with the right to ask JSZ alone",
            Self::FreezeFollower => "frozen follower (SIGSTOP)",
            Self::FreezeLeader => "frozen leader (SIGSTOP)",
            Self::FreezeOwn => "the frozen server is the one we talk to",
            Self::CutOffFollower => "partition of a follower",
            Self::FillDisk => "full disk of a follower, which switches JetStream off (2.10.25)",
            Self::RenameAll => "all servers renamed at once",
        }
    }

    /// When the servers' own `offline` flag appears: it takes minutes, so it was measured once, on 2.10 to 2.15.
    fn flagged_after(self) -> &'static str {
        match self {
            Self::StopFollower => "< 0.6",
            Self::KillFollower | Self::KillLeader | Self::KillSeenByJszAlone => "142–239",
            Self::FreezeFollower | Self::FreezeLeader | Self::FreezeOwn | Self::CutOffFollower => "140–240",
            Self::FillDisk => "never: the server answers",
            // There is no leader any more whose list would count.
            Self::RenameAll => "—",
        }
    }

    /// What is told of it: the offline peer, or the group that has lost its quorum.
    fn check(self) -> &'static str {
        if self == Self::RenameAll { "META_006" } else { "META_001" }
    }

    fn layout(self) -> Layout {
        let layout = Layout::cluster(3);
        match self {
            Self::CutOffFollower => layout.proxied(),
            Self::KillSeenByJszAlone => layout.user(jsz_alone()),
            Self::FillDisk => {
                let mut layout = layout.version(Some(FILLED_VERSION));
                layout.nodes[2].tiny_disk = true;
                layout
            }
            Self::StopFollower
            | Self::KillFollower
            | Self::KillLeader
            | Self::FreezeFollower
            | Self::FreezeLeader
            | Self::FreezeOwn
            | Self::RenameAll => layout,
        }
    }

    /// Gives the moment of the fault, where that is not the moment before.
    async fn make(self, cluster: &mut Cluster, victim: &str) -> io::Result<Option<Instant>> {
        match self {
            Self::FillDisk => return fill(cluster, victim).await.map(Some),
            Self::StopFollower => cluster.stop(victim).await,
            Self::KillFollower | Self::KillLeader | Self::KillSeenByJszAlone => cluster.kill(victim),
            Self::FreezeFollower | Self::FreezeLeader | Self::FreezeOwn => cluster.freeze(victim),
            Self::CutOffFollower => {
                cluster.routes(victim, Mode::Hold);
                Ok(())
            }
            Self::RenameAll => rename_all(cluster, |name| format!("{name}-{RENAMED}")),
        }
        .map(|()| None)
    }

    fn mend(self, cluster: &mut Cluster, victim: &str) -> io::Result<()> {
        match self {
            // Its disk is a new one then.
            Self::FillDisk => {
                cluster.kill(victim)?;
                cluster.boot(victim)
            }
            Self::StopFollower | Self::KillFollower | Self::KillLeader | Self::KillSeenByJszAlone => {
                cluster.boot(victim)
            }
            Self::FreezeFollower | Self::FreezeLeader | Self::FreezeOwn => cluster.thaw(victim),
            Self::CutOffFollower => {
                cluster.routes(victim, Mode::Pass);
                Ok(())
            }
            Self::RenameAll => {
                let old = |name: &str| name.trim_end_matches(RENAMED).trim_end_matches('-').to_owned();
                rename_all(cluster, old)
            }
        }
    }
}

/// A user with the least rights there are.
fn jsz_alone() -> User {
    let all = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect();
    User {
        account: "SYS",
        name: "jsz",
        publish: all(&["$SYS.REQ.SERVER.PING.JSZ", "metawatch.>"]),
        subscribe: all(&["_METAWATCH.>", "metawatch.>"]),
    }
}

/// Fills the disk of a server; gives the moment from which on it said that its JetStream is off.
async fn fill(cluster: &Cluster, victim: &str) -> io::Result<Instant> {
    let client = cluster.admin().await?;
    let filter = format!(r#"{{"server_name":"{victim}"}}"#);
    let is_off = async {
        loop {
            let asked = client.request("$SYS.REQ.SERVER.PING.JSZ", filter.clone().into());
            let reply = tokio::time::timeout(Duration::from_millis(500), asked).await;
            let off = |payload: &[u8]| payload.windows(15).any(|part| part == br#""disabled":true"#);
            if matches!(reply, Ok(Ok(reply)) if off(&reply.payload)) {
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (off, filled) = tokio::join!(tokio::time::timeout(LONG, is_off), cluster.fill(victim));
    filled?;
    // A new disk would be filled by what the others have.
    let app = cluster.client("app").await?;
    app.publish("$JS.API.STREAM.DELETE.FILL", "".into()).await.map_err(io::Error::other)?;
    app.flush().await.map_err(io::Error::other)?;
    off.map_err(io::Error::other)
}

/// Kills every server and starts it again under another name, with what it has stored.
fn rename_all(cluster: &mut Cluster, new: impl Fn(&str) -> String) -> io::Result<()> {
    let names = cluster.names();
    for name in &names {
        cluster.kill(name)?;
    }
    let folder = cluster.folder();
    for name in &names {
        std::fs::rename(folder.join(name), folder.join(new(name)))?;
        cluster.rename(name, &new(name))?;
    }
    Ok(())
}

/// Whether there is a server that switches its JetStream off, and a disk to fill.
fn can_be_filled() -> bool {
    can_mount() && binary::nats_server(Some(FILLED_VERSION)).is_ok()
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

/// Makes every fault whose label holds `only`.
pub(crate) async fn run(rounds: usize, only: &str, nats: Option<&Path>) -> io::Result<()> {
    if nats.is_none() {
        progress("faults: there is no nats CLI to compare with");
    }
    let mut rows = Vec::new();
    for fault in Fault::ALL.into_iter().filter(|fault| fault.label().contains(only)) {
        if fault == Fault::FillDisk && !can_be_filled() {
            progress("faults: no disk can be filled: that takes a mount and nats-server 2.10.25");
            continue;
        }
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
    // The CLI would be told to ask a server whose name is another one then.
    let nats = nats.filter(|_| fault != Fault::RenameAll);
    let mut cluster = Cluster::start(fault.layout()).await?;
    // Everybody looks through one server, which is never broken, unless that is the fault.
    let mut stays = cluster.names().into_iter().next().unwrap_or_default();
    let servers = if fault == Fault::FreezeOwn { cluster.urls() } else { cluster.url(&stays) };
    let watching = Watching { servers, interval: INTERVAL, ..Watching::default() };
    let watching = if fault == Fault::KillSeenByJszAlone {
        Watching { user: "jsz", inbox_prefix: Some("_METAWATCH"), ..watching }
    } else {
        watching
    };
    let mut watch = cluster.watch(watching).await?;
    let mut row = Row::default();
    for round in 0..rounds {
        let victim = victim(fault, &cluster, &stays).await?;
        if victim == stays {
            stays = cluster.names().into_iter().find(|name| *name != victim).unwrap_or_default();
        }
        if let Some(nats) = nats {
            nats_says(nats, &cluster, &stays, 0).await?;
        }
        watch.expect_status(Status::Ok).await;
        // Spread over the time between two epochs.
        tokio::time::sleep(INTERVAL * (2 * round as u32 + 1) / (2 * rounds as u32)).await;
        let begun = Instant::now();
        let begun = fault.make(&mut cluster, &victim).await?.unwrap_or(begun);
        let (firing, nats_critical) = {
            let asked = async {
                match nats {
                    Some(nats) => nats_says(nats, &cluster, &stays, 2).await.map(Some),
                    None => Ok(None),
                }
            };
            tokio::join!(expect(fault, &mut watch, &victim, State::Firing), asked)
        };
        let suspected = suspected(&mut watch, begun, &firing);
        let nats_critical = nats_critical?;
        let after = |at: Option<Instant>| {
            at.map_or("–".to_owned(), |at| {
                format!("{:.2} s", at.saturating_duration_since(begun).as_secs_f64())
            })
        };
        progress(&format!(
            "faults: {}: round {}: metawatch suspects after {}, critical after {}, the nats CLI after {}",
            fault.label(),
            round + 1,
            after(suspected),
            after(Some(firing.at)),
            after(nats_critical.as_ref().map(|said| said.at))
        ));
        row.take(begun, suspected, firing.at, nats_critical);
        fault.mend(&mut cluster, &victim)?;
        expect(fault, &mut watch, &victim, State::Resolved).await;
        cluster.wait_until_well().await?;
        if matches!(fault, Fault::FreezeFollower | Fault::FreezeLeader | Fault::FreezeOwn) {
            tokio::time::sleep(CALM_AFTER_FREEZE).await;
        }
    }
    watch.stop().await;
    Ok(row)
}

async fn expect(fault: Fault, watch: &mut Watch, victim: &str, state: State) -> Seen {
    if fault.check() == "META_001" {
        return watch.expect_peer(victim, state).await;
    }
    let what = format!("{} {}", fault.check(), state.as_str());
    watch.expect(&what, |event| event.check == fault.check() && event.state == state).await
}

/// When what fires was suspected, if it was.
fn suspected(watch: &mut Watch, begun: Instant, firing: &Seen) -> Option<Instant> {
    let suspected = |seen: &&Seen| {
        let (seen_of, fired_of) = (&seen.event, &firing.event);
        let same = (&seen_of.check, &seen_of.peer) == (&fired_of.check, &fired_of.peer);
        seen.at >= begun && seen_of.state == State::Suspected && same
    };
    watch.seen().iter().find(suspected).map(|seen| seen.at)
}

impl Row {
    fn take(&mut self, begun: Instant, suspected: Option<Instant>, firing: Instant, nats: Option<Said>) {
        if let Some(suspected) = suspected {
            self.suspected.push(suspected.saturating_duration_since(begun));
        }
        self.critical.push(firing.saturating_duration_since(begun));
        if let Some(said) = nats {
            self.nats.push(said.at.saturating_duration_since(begun));
            self.nats_said = said.line;
        }
    }
}

/// Whom it hits: never the server that everybody looks through, unless that is the fault.
async fn victim(fault: Fault, cluster: &Cluster, stays: &str) -> io::Result<String> {
    match fault {
        Fault::KillLeader | Fault::FreezeLeader => led_by_another(cluster, stays).await,
        // The one whose disk is small; it must not lead, or the stream only stops to store.
        Fault::FillDisk => led_by_another(cluster, "s3").await.map(|_| "s3".to_owned()),
        Fault::FreezeOwn => {
            let own = cluster.server_of("metawatch").await?;
            led_by_another(cluster, &own).await.map(|_| own)
        }
        Fault::StopFollower
        | Fault::KillFollower
        | Fault::KillSeenByJszAlone
        | Fault::FreezeFollower
        | Fault::CutOffFollower
        | Fault::RenameAll => cluster.follower(stays).await,
    }
}

/// The leader, once it is another server than this one.
async fn led_by_another(cluster: &Cluster, server: &str) -> io::Result<String> {
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline {
        match cluster.leader().await? {
            Some(leader) if leader != server => return Ok(leader),
            Some(_) => cluster.step_down().await?,
            None => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(io::Error::other(format!("{server} does not stop leading")))
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
