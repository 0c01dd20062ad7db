//! An hour of ordinary life, or of hardship that is no fault, or less. What is critical for a server that was up is a
//! false alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metawatch::alert::State;
use metawatch::check::Severity;
use metawatch::event::heartbeat::Status;

use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Seen, Watch, Watching};
use crate::figures::{progress, say};
use crate::stress::{Scene, Stress};
use crate::tools;
use crate::witness::{Truth, Witness};

/// How often the progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(300);
/// How long it takes at most until all is well after everything is left alone.
const CALM: Duration = Duration::from_secs(90);

/// What the command line says.
pub(crate) struct Churn {
    pub(crate) length: Duration,
    pub(crate) stress: Stress,
    pub(crate) seed: u64,
    /// Where every epoch is recorded.
    pub(crate) record: Option<PathBuf>,
}

/// Lives so long and prints how often which alert fired, and how often falsely.
pub(crate) async fn run(churn: &Churn) -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    let Some(mut scene) = Scene::start(churn.stress, churn.seed).await? else {
        return say(&format!("{}: left out; it takes root, loop devices and fsfreeze", churn.stress.label()));
    };
    let mut watch = scene.cluster.observe(Watching::default()).await?;
    let sidecar = sidecar(&scene, &metawatch, churn.record.as_deref())?;
    watch.expect_status(Status::Ok).await;
    let version = scene.version().await?;
    progress(&format!("churn: {} for {:?} on nats-server {version}", churn.stress.label(), churn.length));
    scene.begin().await?;
    let witness = Witness::start(&scene.cluster).await?;
    let first = epoch_of(&mut watch).await;
    let begun = Instant::now();
    let mut told = begun;
    while begun.elapsed() < churn.length {
        scene.round().await?;
        watch.seen();
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let tally = Tally::new(watch.seen(), &witness.truth().with(&scene.away));
            progress(&format!("  {:.0} minutes: {}", begun.elapsed().as_secs_f64() / 60.0, tally.summary()));
        }
    }
    scene.end().await?;
    let last = epoch_of(&mut watch).await;
    let calm = tokio::time::timeout(CALM, watch.expect_status(Status::Ok)).await.is_ok();
    let truth = witness.truth().with(&scene.away);
    let tally = Tally::new(watch.seen(), &truth);
    say(&format!(
        "{:.0} minutes of {} on 3 servers {version}: {}",
        begun.elapsed().as_secs_f64() / 60.0,
        churn.stress.label(),
        scene.done()
    ))?;
    say(&format!("  {} epochs; {}", last.saturating_sub(first), tally.summary()))?;
    say(&format!("  {}; all is well at the end: {}", truth.summary(), if calm { "yes" } else { "NO" }))?;
    if churn.stress == Stress::None {
        say(&format!("  restarts not told: {}", tally.untold(watch.seen(), &scene)))?;
    }
    for line in &tally.falsely {
        say(&format!("  FALSE: {line}"))?;
    }
    drop(sidecar);
    Ok(())
}

fn sidecar(scene: &Scene, metawatch: &Path, record: Option<&Path>) -> io::Result<Sidecar> {
    let record = record.map(|file| file.display().to_string());
    let more: Vec<&str> = record.iter().flat_map(|file| ["--record", file.as_str()]).collect();
    Sidecar::start(&scene.cluster, metawatch, "alone", &scene.cluster.urls(), &more)
}

/// The number of the next epoch that is told.
async fn epoch_of(watch: &mut Watch) -> u64 {
    let beat = watch.expect_heartbeat("the next one", |_| true).await;
    beat.epoch.id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// What a subscriber was told, held against what happened.
struct Tally {
    events: usize,
    suspected: usize,
    withdrawn: usize,
    critical: usize,
    by_check: BTreeMap<String, usize>,
    falsely: Vec<String>,
}

impl Tally {
    fn new(seen: &[Seen], truth: &Truth) -> Self {
        let incidents = |fits: &dyn Fn(&Seen) -> bool| {
            let fit = seen.iter().filter(|seen| fits(seen)).map(|seen| &seen.event.incident);
            fit.collect::<BTreeSet<_>>()
        };
        let fires =
            |seen: &Seen| seen.event.state == State::Firing && seen.event.severity == Severity::Critical;
        let suspected = incidents(&|seen| seen.event.state == State::Suspected);
        let fired = incidents(&|seen| seen.event.state == State::Firing);
        let mut known = BTreeSet::new();
        let mut tally = Self {
            events: seen.len(),
            suspected: suspected.len(),
            withdrawn: suspected.difference(&fired).count(),
            critical: 0,
            by_check: BTreeMap::new(),
            falsely: Vec::new(),
        };
        for seen in seen {
            // An incident that is over may fire anew.
            let key = (&seen.event.incident, seen.event.flaps);
            if fires(seen) && known.insert(key) {
                tally.critical += 1;
                *tally.by_check.entry(seen.event.check.clone()).or_default() += 1;
                let about = seen.event.peer.as_ref().and_then(|peer| peer.name.as_deref());
                if !truth.explains(about, seen.at) {
                    let line = format!("{} {} {}", seen.event.timestamp, seen.subject, seen.summary);
                    tally.falsely.push(line);
                }
            }
        }
        tally
    }

    fn summary(&self) -> String {
        let by_check: Vec<String> =
            self.by_check.iter().map(|(check, count)| format!("{check} {count}")).collect();
        let by_check =
            if by_check.is_empty() { String::new() } else { format!(" ({})", by_check.join(", ")) };
        format!(
            "{} events; {} suspicions, {} of them withdrawn; critical {}{by_check}; false criticals {}",
            self.events,
            self.suspected,
            self.withdrawn,
            self.critical,
            self.falsely.len()
        )
    }

    /// How many orderly stops nobody was told of.
    fn untold(&self, seen: &[Seen], scene: &Scene) -> usize {
        let told = |name: &str, from: Instant, until: Instant| {
            seen.iter().any(|seen| {
                let about = seen.event.peer.as_ref().and_then(|peer| peer.name.as_deref());
                seen.event.state == State::Firing
                    && about == Some(name)
                    && seen.at >= from
                    && seen.at <= until
            })
        };
        let stops = scene.away.iter().filter(|away| away.announced);
        stops.filter(|away| !told(&away.name, away.from, away.until)).count()
    }
}
