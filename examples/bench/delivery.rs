//! What arrives when watchers are killed, frozen and cut off: every transition once, under one id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use metawatch::alert::{Reason, State};
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;

use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Watch, Watching};
use crate::cluster::{Cluster, Layout};
use crate::figures::{Samples, progress, say};
use crate::tools;

/// Kills a watcher this often, at random moments.
const KILLS: usize = 200;
/// Takes the word from the speaking watcher this often: by kill -9 and by freezing, in turn.
const CHANGES: usize = 50;
/// Kills the server that alerts are published to this often.
const LOSSES: usize = 20;

/// Runs all three.
pub(crate) async fn run() -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    kills(&metawatch).await?;
    changes(&metawatch).await?;
    losses(&metawatch).await
}

/// Moments that look random and are the same in every run.
pub(crate) struct Moments(u64);

impl Moments {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One between the two, in milliseconds.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(least + (self.0 >> 33) % (most - least))
    }
}

/// What a subscriber was told, held against what happened.
#[derive(Default)]
pub(crate) struct Tally {
    faults: usize,
    lost: usize,
    repeated: usize,
    ids: BTreeSet<String>,
}

impl Tally {
    /// The ids of the events that tell this for the first time.
    fn untold(&self, watch: &mut Watch, state: State) -> BTreeSet<String> {
        let tells = |event: &AlertEvent| {
            let step = !matches!(event.reason, Reason::Updated | Reason::Diagnosed | Reason::Reminder);
            step && event.state == state && event.check == "META_001" && !self.ids.contains(&event.id)
        };
        let events = watch.seen().iter().map(|seen| &seen.event);
        events.filter(|event| tells(event)).map(|event| event.id.clone()).collect()
    }

    /// A fault has begun, or is over: exactly one new event tells it. Whether any does.
    pub(crate) fn count(&mut self, watch: &mut Watch, state: State) -> bool {
        let new = self.untold(watch, state);
        let told = !new.is_empty();
        self.faults += 1;
        self.lost += usize::from(!told);
        self.repeated += new.len().saturating_sub(1);
        self.ids.extend(new);
        told
    }

    pub(crate) fn verdict(&self) -> String {
        format!(
            "{} transitions, {} lost, {} told again under a new id",
            self.faults, self.lost, self.repeated
        )
    }
}

/// One watcher with a state file, killed at random moments while a server goes and comes.
async fn kills(metawatch: &Path) -> io::Result<()> {
    progress(&format!("delivery: {KILLS} kills of a watcher, about {} minutes …", KILLS * 3 / 60));
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut watch = cluster.observe(Watching::default()).await?;
    let mut sidecar = Sidecar::start(&cluster, metawatch, "killed", &cluster.urls(), &[])?;
    watch.expect_status(Status::Ok).await;
    let (mut moments, mut tally, mut killed) = (Moments::new(1), Tally::default(), 0);
    let follower = cluster.follower("").await?;
    while killed < KILLS {
        for (state, stop) in [(State::Firing, true), (State::Resolved, false)] {
            if stop {
                cluster.stop(&follower).await?;
            } else {
                cluster.boot(&follower)?;
            }
            // At any moment from before the transition until it is told, and published, and confirmed.
            for _ in 0..3 {
                tokio::time::sleep(moments.between(0, 2_500)).await;
                sidecar.again()?;
                killed += 1;
            }
            tell(&mut watch, &tally, state).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            if !tally.count(&mut watch, state) {
                let log = sidecar.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(12)..].join("\n");
                progress(&format!(
                    "no new {} after {killed} kills; the log of the watcher:\n{last}",
                    state.as_str()
                ));
            }
        }
        cluster.wait_until_well().await?;
    }
    say(&format!("{killed} kills of metawatch at random moments: {}", tally.verdict()))
}

/// Waits, but not for ever, until a new event tells this state.
pub(crate) async fn tell(watch: &mut Watch, tally: &Tally, state: State) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if !tally.untold(watch, state).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Three watchers; the one that speaks is killed or frozen, while a server goes or comes.
async fn changes(metawatch: &Path) -> io::Result<()> {
    progress(&format!("delivery: {CHANGES} changes of the speaker, about {} minutes …", CHANGES * 8 / 60));
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut watch = cluster.observe(Watching::default()).await?;
    let mut sidecars = BTreeMap::new();
    for name in ["a", "b", "c"] {
        sidecars.insert(name.to_owned(), Sidecar::start(&cluster, metawatch, name, &cluster.urls(), &[])?);
    }
    let follower = cluster.follower("").await?;
    let (mut moments, mut tally, mut takeovers) = (Moments::new(2), Tally::default(), Samples::default());
    for round in 0..CHANGES {
        let all = watch.expect_heartbeat("three watchers", |beat| beat.watchers == 3).await;
        let (stop, state) = if round % 2 == 0 { (true, State::Firing) } else { (false, State::Resolved) };
        if stop {
            cluster.stop(&follower).await?;
        } else {
            cluster.boot(&follower)?;
        }
        tokio::time::sleep(moments.between(0, 1_500)).await;
        let Some(speaker) = sidecars.get_mut(&all.speaker) else {
            return Err(io::Error::other(format!("nobody is called {}", all.speaker)));
        };
        let freeze = round % 4 >= 2;
        let from = Instant::now();
        if freeze {
            speaker.signal("STOP")?;
        } else {
            speaker.kill()?;
        }
        watch.expect_heartbeat("another speaker", |beat| beat.speaker != all.speaker).await;
        takeovers.push(from.elapsed());
        tell(&mut watch, &tally, state).await;
        if freeze {
            speaker.signal("CONT")?;
        } else {
            speaker.again()?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        tally.count(&mut watch, state);
        if !stop {
            cluster.wait_until_well().await?;
        }
    }
    say(&format!(
        "{CHANGES} changes of the speaker of three watchers: {}; takeover after {:.1} s (median), {:.1} s (worst), \
         at an interval of 1 s",
        tally.verdict(),
        takeovers.median(),
        takeovers.max()
    ))
}

/// Alerts go into a stream of another server, which is killed again and again while they come.
async fn losses(metawatch: &Path) -> io::Result<()> {
    progress(&format!(
        "delivery: {LOSSES} losses of the connection for alerts, about {} minutes …",
        LOSSES * 9 / 60
    ));
    let mut cluster = Cluster::start(Layout::cluster(3)).await?;
    let mut place = Cluster::prepare(Layout::cluster(1)).await?;
    place.boot("s1")?;
    let create = r#"{"name":"ALERTS","subjects":["metawatch.alert.>"],"storage":"file","num_replicas":1}"#;
    ask(&place, "$JS.API.STREAM.CREATE.ALERTS", create).await?;
    let url = place.url("s1");
    let login = ["--alert-user", "app", "--alert-password", "app", "--publish-mode", "jetstream"];
    let more = [["--alert-server", url.as_str()].as_slice(), &login].concat();
    let _sidecar = Sidecar::start(&cluster, metawatch, "alone", &cluster.urls(), &more)?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let follower = cluster.follower("").await?;
    let (mut moments, mut expected) = (Moments::new(3), 0);
    for round in 0..LOSSES {
        if round % 2 == 0 {
            cluster.stop(&follower).await?;
        } else {
            cluster.boot(&follower)?;
        }
        expected += 1;
        tokio::time::sleep(moments.between(0, 2_500)).await;
        place.kill("s1")?;
        tokio::time::sleep(moments.between(0, 2_500)).await;
        place.boot("s1")?;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (mut told, mut ids, mut twice) = (0, BTreeSet::new(), 0);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut holes = 0;
    for seq in 1.. {
        let asked = format!(r#"{{"seq":{seq}}}"#);
        let message = ask(&place, "$JS.API.STREAM.MSG.GET.ALERTS", &asked).await?;
        let Some(data) = message["message"]["data"].as_str() else { break };
        let event: AlertEvent = serde_json::from_slice(&STANDARD.decode(data).map_err(io::Error::other)?)?;
        twice += usize::from(!ids.insert(event.id.clone()));
        let before = last.insert(event.incident.clone(), event.seq).unwrap_or(0);
        holes += usize::from(event.seq != before + 1);
        let step = !matches!(event.reason, Reason::Updated | Reason::Diagnosed | Reason::Reminder);
        told += usize::from(step && event.check == "META_001" && event.state != State::Suspected);
    }
    say(&format!(
        "{LOSSES} losses of the server that stores the alerts: {expected} transitions, {told} told; the stream holds \
         {} events, {twice} twice, {holes} out of order or missing",
        ids.len()
    ))
}

/// Asks until there is an answer: a server that has just been started may not listen yet.
async fn ask(place: &Cluster, subject: &'static str, request: &str) -> io::Result<serde_json::Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let asked = async {
            let client = place.client("app").await?;
            let reply = client.request(subject, request.to_owned().into()).await.map_err(io::Error::other)?;
            io::Result::Ok(serde_json::from_slice(&reply.payload)?)
        };
        match asked.await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            done => return done,
        }
    }
}
