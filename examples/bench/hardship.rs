//! What arrives when what is around a watcher fails it: stops of the process, floods, a disk that hangs.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use tokio::task::JoinSet;

use crate::cluster::disk::Disk;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Watch, Watching};
use crate::cluster::{Cluster, Layout};
use crate::delivery::{Moments, Tally, tell};
use crate::figures::{progress, say};
use crate::tools;

/// So many faults, each with its end, are made in each part.
const FAULTS: usize = 10;
/// So many messages a second in a flood, on all subjects together.
const FLOOD: u32 = 10_000;
const FLOODED: [&str; 5] =
    ["metawatch.view", "metawatch.check", "metawatch.alerts", "$SRV.PING", "metawatch.watcher.stranger"];

/// Runs all three.
pub(crate) async fn run() -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    stalls(&metawatch).await?;
    floods(&metawatch).await?;
    disk(&metawatch).await
}

/// A cluster, a subscriber, and a watcher of it.
struct Scene {
    cluster: Cluster,
    watch: Watch,
    sidecar: Sidecar,
    follower: String,
    moments: Moments,
    tally: Tally,
}

impl Scene {
    async fn new(cluster: Cluster, metawatch: &Path, more: &[&str]) -> io::Result<Self> {
        let mut watch = cluster.observe(Watching::default()).await?;
        let sidecar = Sidecar::start(&cluster, metawatch, "alone", &cluster.urls(), more)?;
        watch.expect_status(Status::Ok).await;
        let follower = cluster.follower("").await?;
        let (moments, tally) = (Moments::new(7), Tally::default());
        Ok(Self { cluster, watch, sidecar, follower, moments, tally })
    }

    /// A server stops, or comes back.
    async fn change(&mut self, state: State) -> io::Result<()> {
        match state {
            State::Suspected | State::Firing => self.cluster.stop(&self.follower).await,
            State::Resolved => self.cluster.boot(&self.follower),
        }
    }

    /// Waits until that is told, and counts.
    async fn count(&mut self, state: State) -> io::Result<()> {
        tell(&mut self.watch, &self.tally, state).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.tally.count(&mut self.watch, state);
        if state == State::Resolved { self.cluster.wait_until_well().await } else { Ok(()) }
    }
}

/// The process is stopped for 3 s while something changes.
async fn stalls(metawatch: &Path) -> io::Result<()> {
    progress(&format!("hardship: {} stalls, about {} minutes …", 2 * FAULTS, FAULTS * 14 / 60));
    let cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut scene = Scene::new(cluster, metawatch, &["--interval", "500ms"]).await?;
    for _ in 0..FAULTS {
        for state in [State::Firing, State::Resolved] {
            scene.change(state).await?;
            tokio::time::sleep(scene.moments.between(0, 1_500)).await;
            scene.sidecar.signal("STOP")?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            scene.sidecar.signal("CONT")?;
            scene.count(state).await?;
        }
    }
    let verdict = scene.tally.verdict();
    say(&format!("{} stalls of 3 s (SIGSTOP) around a change, at --interval 500ms: {verdict}", 2 * FAULTS))
}

/// Strangers send on every subject that metawatch listens to.
async fn floods(metawatch: &Path) -> io::Result<()> {
    progress(&format!("hardship: {FAULTS} faults in a flood, about {} minutes …", FAULTS * 10 / 60));
    let cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut scene = Scene::new(cluster, metawatch, &[]).await?;
    let client = scene.cluster.admin().await?;
    let mut flood = JoinSet::new();
    for subject in FLOODED {
        let client = client.clone();
        flood.spawn(async move {
            let inbox = client.new_inbox();
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
                for _ in 0..FLOOD / 100 / FLOODED.len() as u32 {
                    client.publish_with_reply(subject, inbox.clone(), "{}".into()).await.ok();
                }
            }
        });
    }
    let begin = Instant::now();
    let mut beats = Beats::subscribe(&scene.cluster).await?;
    for _ in 0..FAULTS {
        for state in [State::Firing, State::Resolved] {
            scene.change(state).await?;
            scene.count(state).await?;
        }
    }
    let beat = scene.watch.expect_heartbeat("one more", |_| true).await;
    let memory = scene
        .sidecar
        .resident()
        .map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)));
    flood.shutdown().await;
    say(&format!(
        "{} changes in a flood of {FLOOD} requests and foreign messages a second for {} s: {}; longest time without a \
         heartbeat {:.1} s, at an interval of 1 s; refused {}; memory {memory} MiB",
        2 * FAULTS,
        begin.elapsed().as_secs(),
        scene.tally.verdict(),
        beats.longest().as_secs_f64(),
        beat.refused
    ))
}

/// The disk of the state file hangs.
async fn disk(metawatch: &Path) -> io::Result<()> {
    progress(&format!(
        "hardship: {FAULTS} faults beside a hanging disk, about {} minutes …",
        FAULTS * 10 / 60
    ));
    let cluster = Cluster::start(Layout::cluster(3)).await?;
    let Some(mut disk) = Disk::new(&cluster.folder()) else {
        return say("a hanging disk: left out; it takes root, loop devices and fsfreeze");
    };
    let state = disk.folder().join("watcher.state");
    let mut scene = Scene::new(cluster, metawatch, &["--state", &state.to_string_lossy()]).await?;
    if !disk.set_frozen(true) {
        return Err(io::Error::other("the disk cannot be frozen"));
    }
    let mut beats = Beats::subscribe(&scene.cluster).await?;
    for _ in 0..FAULTS {
        for state in [State::Firing, State::Resolved] {
            scene.change(state).await?;
            scene.count(state).await?;
        }
    }
    let longest = beats.longest().as_secs_f64();
    disk.set_frozen(false);
    scene.watch.expect_heartbeat("one that tells that all is saved", |beat| !beat.unsaved).await;
    scene.sidecar.signal("TERM")?;
    scene.sidecar.wait()?;
    say(&format!(
        "{} changes while the disk of the state file hangs: {}; longest time without a heartbeat {longest:.1} s, at an \
         interval of 1 s",
        2 * FAULTS,
        scene.tally.verdict()
    ))
}

/// When heartbeats came.
struct Beats {
    task: JoinSet<()>,
    longest: tokio::sync::watch::Receiver<Duration>,
}

impl Beats {
    async fn subscribe(cluster: &Cluster) -> io::Result<Self> {
        let client = cluster.admin().await?;
        let mut beats = client.subscribe("metawatch.heartbeat").await.map_err(io::Error::other)?;
        let (tell, longest) = tokio::sync::watch::channel(Duration::ZERO);
        let mut task = JoinSet::new();
        task.spawn(async move {
            use futures_util::StreamExt;
            let mut last = Instant::now();
            while beats.next().await.is_some() {
                let gap = last.elapsed();
                last = Instant::now();
                tell.send_if_modified(|longest| {
                    gap > *longest && {
                        *longest = gap;
                        true
                    }
                });
            }
        });
        Ok(Self { task, longest })
    }

    fn longest(&mut self) -> Duration {
        self.task.abort_all();
        *self.longest.borrow()
    }
}
