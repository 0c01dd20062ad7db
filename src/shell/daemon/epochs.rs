//! Runs the epochs in a task of its own: whatever holds one up holds up nothing else.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::daemon::{EpochEnd, LossKind};
use crate::epoch::Plan;
use crate::shell::clock::Clock;
use crate::shell::collect::{Access, Collector, WakeReason};
use crate::shell::connect::LinkEvent;
use crate::shell::record::Recorder;
use crate::stamp::Stamp;

/// Between two epochs the servers are listened to; this only ends the waiting from time to time.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the task tells.
#[derive(Debug)]
pub(super) enum EpochReport {
    /// An epoch has ended.
    Ended {
        /// What was gathered.
        end: Box<EpochEnd>,
        /// What happened to the connection.
        news: Vec<LinkEvent>,
        /// What was lost since the start.
        lost: Vec<(LossKind, u64)>,
    },
    /// The next one is to see something soon.
    Urgent,
    /// The connection is there again; what happened to it since the last report.
    Connected(Vec<LinkEvent>),
}

/// What the task works with, and gives back at its end.
#[derive(Debug)]
pub(super) struct Epochs {
    pub(super) collector: Collector,
    pub(super) recorder: Option<Recorder>,
    pub(super) clock: Clock,
    pub(super) inbox_prefix: String,
}

impl Epochs {
    /// Starts the task. It ends when `plans` does.
    pub(super) fn start(
        self,
        plans: mpsc::Receiver<Plan>,
        reports: mpsc::Sender<EpochReport>,
    ) -> JoinHandle<Self> {
        tokio::spawn(self.run(plans, reports))
    }

    async fn run(mut self, mut plans: mpsc::Receiver<Plan>, reports: mpsc::Sender<EpochReport>) -> Self {
        let mut access = Access::default();
        // What is urgent is told once: the next epoch sees it, if there is one. A watcher in reserve opens none.
        let mut urgent = false;
        loop {
            let until = self.clock.now().plus(IDLE);
            let report = tokio::select! {
                biased;
                plan = plans.recv() => {
                    let Some(plan) = plan else { return self };
                    urgent = false;
                    let span = tracing::debug_span!("epoch", number = plan.number);
                    let gathered = tokio::select! {
                        gathered = self.collector.epoch(plan).instrument(span) => gathered,
                        // One plan at a time is given: this is the end.
                        _ = plans.recv() => return self,
                    };
                    // A refusal comes before the answer, but by another way.
                    tokio::task::yield_now().await;
                    self.collector.drain();
                    let raw = self.collector.take_capture();
                    if let Some(recorder) = &mut self.recorder {
                        recorder.record(&gathered, raw);
                    }
                    let generation = self.collector.generation();
                    access.take(self.collector.trouble(&gathered), generation, &self.inbox_prefix);
                    let max_payload = self.collector.client().server_info().max_payload;
                    let news = self.collector.take_news().into();
                    let end = EpochEnd { gathered, generation, max_payload, news: Vec::new() };
                    let mut lost = self.collector.lost().to_vec();
                    lost.extend(self.recorder.iter().map(|recorder| (LossKind::Recorded, recorder.left_out())));
                    EpochReport::Ended { end: Box::new(end), news, lost }
                }
                woken = idle(&mut self.collector, until, !urgent) => match woken {
                    WakeReason::Time => continue,
                    WakeReason::Event => {
                        urgent = true;
                        EpochReport::Urgent
                    }
                    WakeReason::Connected => EpochReport::Connected(self.collector.take_news().into()),
                },
            };
            if reports.send(report).await.is_err() {
                return self;
            }
        }
    }
}

/// Listens; what is urgent ends that only where it is to be told.
async fn idle(collector: &mut Collector, until: Stamp, or_urgent: bool) -> WakeReason {
    if or_urgent { collector.idle_until(until).await } else { collector.listen_until(until).await }
}
