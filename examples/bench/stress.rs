//! What is done to a cluster that is well: ordinary life, or one of the hardships under which nobody is offline.

use std::io;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::disk::Disk;
use crate::cluster::{Cluster, Layout, Mode};
use crate::delivery::Moments;
use crate::witness::{AWAY, Away};

/// So many processes compute without end.
const BUSY: usize = 16;
/// The longest pause and the longest stall of a disk, in milliseconds.
const PAUSE_MAX: u64 = 2_900;
/// By then the servers have settled which routes they keep.
const SETTLED: Duration = Duration::from_secs(10);
/// A request that is not answered within this time is dropped: the next round asks again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stress {
    /// Restarts, crashes with a restart at once, elections, new streams.
    None,
    /// Servers stop for up to 2.9 s: now one, now two at once, now one while the leader changes.
    Pauses,
    /// 16 busy processes beside the servers, elections, new streams.
    Load,
    /// All routes delay everything by 150 to 300 ms each way.
    Wan,
    /// The file system of a server hangs for up to 2.9 s while streams come and go.
    Disk,
}

impl Stress {
    /// By its name on the command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Pauses, Self::Load, Self::Wan, Self::Disk];
        all.into_iter().find(|stress| stress.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pauses => "pauses",
            Self::Load => "load",
            Self::Wan => "wan",
            Self::Disk => "disk",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::None => "churn",
            Self::Pauses => "pauses of up to 2.9 s",
            Self::Load => "16 busy processes",
            Self::Wan => "routes of 150 to 300 ms each way",
            Self::Disk => "file systems that hang for up to 2.9 s",
        }
    }
}

/// A cluster, and what is done to it.
pub(crate) struct Scene {
    stress: Stress,
    moments: Moments,
    round: usize,
    counts: Counts,
    /// Who was away, and when.
    pub(crate) away: Vec<Away>,
    app: async_nats::Client,
    /// The streams that there are: from this number up to that one.
    streams: (usize, usize),
    pub(crate) cluster: Cluster,
    busy: Busy,
    // The servers end before their disks do.
    disks: Vec<(String, Option<Disk>)>,
    _folder: TempDir,
}

#[derive(Debug, Default)]
struct Counts {
    stops: usize,
    crashes: usize,
    elections: usize,
    streams: usize,
    pauses: usize,
}

impl Scene {
    /// `None` where this user may not have what it takes.
    pub(crate) async fn start(stress: Stress, seed: u64) -> io::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("metawatch-disks-").tempdir()?;
        let mut disks = Vec::new();
        let cluster = match stress {
            Stress::Disk => {
                let mut cluster = Cluster::prepare(Layout::cluster(3)).await?;
                for name in cluster.names() {
                    let place = folder.path().join(&name);
                    std::fs::create_dir(&place)?;
                    let Some(disk) = Disk::new(&place) else { return Ok(None) };
                    let home = cluster.folder().join(&name);
                    std::fs::create_dir_all(&home)?;
                    symlink(disk.folder(), home.join("js"))?;
                    disks.push((name, Some(disk)));
                }
                for name in cluster.names() {
                    cluster.boot(&name)?;
                }
                cluster.wait_until_well().await?;
                cluster
            }
            Stress::Wan => Cluster::start(Layout::cluster(3).proxied()).await?,
            Stress::None | Stress::Pauses | Stress::Load => Cluster::start(Layout::cluster(3)).await?,
        };
        let app = cluster.client("app").await?;
        Ok(Some(Self {
            stress,
            moments: Moments::new(seed),
            round: 0,
            counts: Counts::default(),
            away: Vec::new(),
            app,
            streams: (0, 0),
            cluster,
            busy: Busy::default(),
            disks,
            _folder: folder,
        }))
    }

    pub(crate) async fn version(&self) -> io::Result<String> {
        let replies = self.cluster.jsz().await?;
        let version = replies.first().and_then(|reply| reply["server"]["ver"].as_str());
        Ok(version.unwrap_or("?").to_owned())
    }

    /// What stands for as long as it goes on. Servers that meet over slow routes close them as duplicates of each other
    /// (seen on 2.12.8), so they have met before.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        match self.stress {
            Stress::Load => self.busy = Busy::start(BUSY)?,
            Stress::Wan => {
                tokio::time::sleep(SETTLED).await;
                self.cluster.names().iter().for_each(|name| self.cluster.routes(name, Mode::Slow));
            }
            Stress::None | Stress::Pauses | Stress::Disk => {}
        }
        Ok(())
    }

    /// One round of it: some seconds.
    pub(crate) async fn round(&mut self) -> io::Result<()> {
        self.round += 1;
        match self.stress {
            Stress::None => self.live().await?,
            Stress::Pauses => self.pause().await?,
            Stress::Disk => self.hang().await?,
            Stress::Load | Stress::Wan => tokio::time::sleep(self.moments.between(3_000, 6_000)).await,
        }
        if self.stress != Stress::None {
            if self.round.is_multiple_of(3) {
                self.elect().await;
            }
            self.create_streams(5).await;
        }
        Ok(())
    }

    /// Leaves everything alone.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.cluster.wait_until_well().await
    }

    pub(crate) fn done(&self) -> String {
        let Counts { stops, crashes, elections, streams, pauses } = &self.counts;
        let own = match self.stress {
            Stress::None => format!("{stops} restarts of 3 s, {crashes} crashes with a restart at once, "),
            Stress::Pauses | Stress::Disk => format!("{pauses} of them, "),
            Stress::Load | Stress::Wan => String::new(),
        };
        format!("{own}{elections} elections, {streams} streams created and deleted")
    }

    /// Rolling restarts, crashes with a restart at once, elections, many new streams.
    async fn live(&mut self) -> io::Result<()> {
        let names = self.cluster.names();
        let name = names[self.round % names.len()].clone();
        let from = Instant::now();
        let kind = self.round % 4;
        match kind {
            0 | 2 => {
                self.cluster.stop(&name).await?;
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.cluster.boot(&name)?;
                self.counts.stops += 1;
            }
            1 => {
                self.cluster.kill(&name)?;
                self.cluster.boot(&name)?;
                self.counts.crashes += 1;
            }
            _ => self.elect().await,
        }
        self.cluster.wait_until_well().await?;
        if kind != 3 {
            self.away.push(Away { name, from, until: Instant::now(), announced: kind != 1 });
        }
        if self.round.is_multiple_of(8) {
            self.create_streams(200).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// One server stops, or two do, or one does while the leader hands over and gets it back.
    async fn pause(&mut self) -> io::Result<()> {
        let names = self.cluster.names();
        let mut one = || self.moments.between(0, names.len() as u64).as_millis() as usize;
        let first = one();
        let second = (first + 1 + one() % (names.len() - 1)) % names.len();
        let two = self.round.is_multiple_of(5);
        let mut paused = vec![names[first].clone()];
        paused.extend(two.then(|| names[second].clone()));
        let length = self.moments.between(200, PAUSE_MAX);
        let from = Instant::now();
        for name in &paused {
            self.cluster.freeze(name)?;
        }
        if self.round % 5 == 1 {
            // The contacts of an earlier term are old when the leader comes back to an earlier one.
            self.elect().await;
        }
        tokio::time::sleep(length.saturating_sub(from.elapsed())).await;
        for name in &paused {
            self.cluster.thaw(name)?;
        }
        self.note(&paused, from);
        tokio::time::sleep(self.moments.between(500, 8_000)).await;
        Ok(())
    }

    /// The disk of a server hangs.
    async fn hang(&mut self) -> io::Result<()> {
        let which = self.moments.between(0, self.disks.len() as u64).as_millis() as usize;
        let length = self.moments.between(500, PAUSE_MAX);
        let from = Instant::now();
        self.set_frozen(which, true).await?;
        self.create_streams(5).await;
        tokio::time::sleep(length.saturating_sub(from.elapsed())).await;
        self.set_frozen(which, false).await?;
        let paused = [self.disks[which].0.clone()];
        self.note(&paused, from);
        tokio::time::sleep(self.moments.between(1_000, 6_000)).await;
        Ok(())
    }

    /// Without holding up those who look on.
    async fn set_frozen(&mut self, which: usize, frozen: bool) -> io::Result<()> {
        let mut disk = self.disks[which].1.take().ok_or_else(|| io::Error::other("there is no disk"))?;
        let set = tokio::task::spawn_blocking(move || (disk.set_frozen(frozen), disk));
        let (done, disk) = set.await.map_err(io::Error::other)?;
        self.disks[which].1 = Some(disk);
        if done { Ok(()) } else { Err(io::Error::other("the disk cannot be frozen")) }
    }

    /// A pause that took longer than it should is an outage.
    fn note(&mut self, names: &[String], from: Instant) {
        self.counts.pauses += names.len();
        if from.elapsed() >= AWAY {
            let until = Instant::now();
            let away = names.iter().map(|name| Away { name: name.clone(), from, until, announced: false });
            self.away.extend(away);
        }
    }

    async fn elect(&mut self) {
        let limit = match self.stress {
            // The pause goes on meanwhile, and must end in time.
            Stress::Pauses => Duration::from_millis(500),
            Stress::None | Stress::Load | Stress::Wan | Stress::Disk => PATIENCE,
        };
        let asked = tokio::time::timeout(limit, self.cluster.step_down()).await;
        self.counts.elections += usize::from(matches!(asked, Ok(Ok(()))));
    }

    /// Asks for so many new streams, and for the end of those before them: the meta layer is busy.
    async fn create_streams(&mut self, streams: usize) {
        let (old, new) = (self.streams.0..self.streams.1, self.streams.1..self.streams.1 + streams);
        let asked = async {
            for number in old {
                let subject = format!("$JS.API.STREAM.DELETE.C{number}");
                self.app.publish_with_reply(subject, self.app.new_inbox(), "".into()).await.ok()?;
            }
            for number in new.clone() {
                let create = format!(
                    r#"{{"name":"C{number}","subjects":["c{number}"],"num_replicas":3,"storage":"memory"}}"#
                );
                let subject = format!("$JS.API.STREAM.CREATE.C{number}");
                self.app.publish_with_reply(subject, self.app.new_inbox(), create.into()).await.ok()?;
            }
            self.app.flush().await.ok()
        };
        // What is not sent at once is sent when the server goes on.
        tokio::time::timeout(Duration::from_millis(500), asked).await.ok();
        self.streams = (new.start, new.end);
        self.counts.streams += streams;
    }
}

/// Processes that compute without end. They end with this value.
#[derive(Default)]
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> io::Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            busy.0.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
