//! The watcher: one epoch after the other, for as long as it is let.
//!
//! Everything that can wake it is a `Wake`, and `Daemon::handle` is the one place that answers. No fault of the
//! cluster, of the connection or of our rights ends it; only its owner does.

use std::future::Future;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::Client;
use tokio::time::timeout;

use crate::alert::State;
use crate::company::Word;
use crate::diagnosis::Replies;
use crate::epoch::Gathered;
use crate::event::heartbeat::Status;
use crate::event::{AlertEvent, Heartbeat, Outgoing};
use crate::ledger::Ledger;
use crate::pipeline::{Inquiry, Pipeline, Settings, Step};
use crate::shell::ask::Asker;
use crate::shell::clock::Clock;
use crate::shell::collect::{Access, Also, Collector, Woken};
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Retry, connect};
use crate::shell::failure::Failure;
use crate::shell::publish::{Mode, Publisher, Road};
use crate::shell::record::Recorder;
use crate::shell::service::{Asked, Requests, Service};
use crate::shell::sidecar::Sidecar;
use crate::shell::state::{Keep, StateFile};
use crate::stamp::Stamp;
use crate::system::SystemId;
use crate::wire::AnnouncementKind;

/// An event of a server that stops brings the next epoch forward, but not closer than this to the last one.
const EPOCHS_APART_MIN: Duration = Duration::from_millis(100);
/// Epochs that are asked for are not closer than this: a flood of requests is one load.
const CHECKS_APART_MIN: Duration = Duration::from_millis(250);
/// How long the end may take: the last events, the last lines of the recording.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// What the watcher is told once.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The checks, the life of alerts, and who watches.
    pub settings: Settings,
    /// Which system it is, where its watchers are told so.
    pub system: Option<SystemId>,
    /// Where open incidents are kept for the next run.
    pub state: Keep,
    /// The connection that alerts and heartbeats are published on; `None` for the observing one.
    pub alerts: Option<ConnectConfig>,
    /// When an alert counts as delivered.
    pub mode: Mode,
    /// Where every epoch is recorded.
    pub record: Option<PathBuf>,
}

/// Watches until `shutdown` is ready. It fails only before it has begun: when a file cannot be used.
///
/// Without a connection it waits for one, for as long as it takes.
pub async fn run(
    config: &ConnectConfig,
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(shutdown);
    let clock = Clock::new();
    let interval = options.settings.rules.interval;
    let config = &config.watching_every(interval);
    let recorder = options.record.as_deref().map(|path| Recorder::open(path, interval)).transpose()?;
    let (state, held) = StateFile::open(&options.state)?.unzip();
    let link = tokio::select! {
        biased;
        () = &mut shutdown => {
            tracing::info!("stopped before there was a connection");
            return Ok(());
        }
        link = connect(config, Retry::Forever) => link?,
    };
    let also = Also { events: true, raw: recorder.is_some() };
    let collector = Collector::new(link, clock, also).await;
    let road = match options.alerts {
        Some(config) => Road::own(config.watching_every(interval)),
        None => Road::Shared(collector.client().clone()),
    };
    let publisher = Publisher::new(road, options.mode, clock, &options.settings.prefix);
    let asker = Asker::new(collector.client().clone());
    let mut pipeline = Pipeline::new(options.settings);
    if let Some(name) = options.system {
        pipeline = pipeline.of_system(name);
    }
    let waiting = held.flatten().map(|ledger| go_on(&mut pipeline, ledger, clock.now())).unwrap_or_default();
    let sidecar = Sidecar::new(collector.client().clone(), clock, &pipeline, state, waiting).await;
    say_what_begins(&pipeline, &collector.server_name());
    let mut daemon = Daemon {
        requests: Requests::new(clock),
        services: Vec::new(),
        pipeline,
        sidecar,
        phase: Phase::Gathering,
        opened: clock.now(),
        collector,
        publisher,
        asker,
        last: None,
        recorder,
        clock,
        number: 0,
        timeout: config.timeout,
        inbox_prefix: config.inbox_prefix.clone(),
        access: Access::default(),
        status: None,
    };
    daemon.offer(daemon.collector.client().clone()).await;
    loop {
        let wake = tokio::select! {
            biased;
            () = &mut shutdown => Wake::Shutdown,
            wake = daemon.next_wake() => wake,
        };
        if daemon.handle(wake).await.is_break() {
            break;
        }
    }
    daemon.goodbye().await;
    Ok(())
}

fn say_what_begins(pipeline: &Pipeline, server: &str) {
    let Settings { rules, monitor, prefix, .. } = pipeline.settings();
    tracing::info!(
        server,
        name = monitor.name,
        instance = monitor.instance,
        interval = %humantime::format_duration(rules.interval),
        subjects = format!("{prefix}.>"),
        "watching"
    );
}

/// Goes on where the last run stopped. Gives the events that it could not deliver.
fn go_on(pipeline: &mut Pipeline, ledger: Ledger, now: Stamp) -> Vec<Outgoing> {
    let (waiting, refused) = pipeline.adopt(ledger, now);
    let open = pipeline.book().active().count();
    if open > 0 || !waiting.is_empty() {
        tracing::info!(open, waiting = waiting.len(), "going on with the incidents of the last run");
    }
    if refused > 0 {
        tracing::warn!(refused, "a part of the state file is not believed, and left out");
    }
    waiting
}

/// Everything that can wake the watcher.
#[derive(Debug)]
enum Wake {
    /// The epoch is over.
    Gathered(Box<Gathered>),
    /// The next epoch is due, or something makes it urgent.
    Rested(Woken),
    /// Another watcher says something.
    Word(Box<Word>),
    /// Somebody asks.
    Asked(Box<Asked>),
    /// Further questions are answered, or given up.
    Answered(Inquiry, Replies),
    /// It is time to go.
    Shutdown,
}

/// What the watcher is waiting for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For the end of an epoch.
    Gathering,
    /// For the next one, which is due at this time.
    Resting(Stamp),
}

#[derive(Debug)]
struct Daemon {
    pipeline: Pipeline,
    phase: Phase,
    /// When the last epoch opened.
    opened: Stamp,
    collector: Collector,
    publisher: Publisher,
    asker: Asker,
    sidecar: Sidecar,
    requests: Requests,
    services: Vec<Service>,
    /// What the last epoch led to: the scene of answers that come in after it.
    last: Option<Step>,
    recorder: Option<Recorder>,
    clock: Clock,
    number: u64,
    timeout: Duration,
    inbox_prefix: String,
    access: Access,
    status: Option<Status>,
}

impl Daemon {
    async fn next_wake(&mut self) -> Wake {
        match self.phase {
            Phase::Gathering => {
                let plan = self.pipeline.plan(self.number, self.clock.now(), self.timeout);
                tokio::select! {
                    biased;
                    gathered = self.collector.epoch(plan) => Wake::Gathered(Box::new(gathered)),
                    never = self.publisher.drive() => match never {},
                }
            }
            // An epoch is never interrupted: answers that come in meanwhile wait for its end.
            Phase::Resting(due) => {
                let until = due.min(self.sidecar.next_turn());
                tokio::select! {
                biased;
                word = self.sidecar.heard() => Wake::Word(Box::new(word)),
                asked = self.requests.next() => Wake::Asked(Box::new(asked)),
                (inquiry, replies) = self.asker.answered() => Wake::Answered(inquiry, replies),
                woken = self.collector.idle_until(until) => Wake::Rested(woken),
                never = self.publisher.drive() => match never {},
                }
            }
        }
    }

    async fn handle(&mut self, wake: Wake) -> ControlFlow<()> {
        match wake {
            Wake::Shutdown => return ControlFlow::Break(()),
            Wake::Rested(Woken::Time) if !self.is_due() => self.turn().await,
            Wake::Rested(Woken::Time | Woken::Connected) => self.next_epoch(),
            Wake::Word(word) => {
                self.sidecar.take(*word, &mut self.pipeline);
                self.turn().await;
            }
            Wake::Rested(Woken::Event) => {
                let earliest = self.opened.plus(EPOCHS_APART_MIN);
                tokio::time::sleep_until(self.clock.instant(earliest)).await;
                self.next_epoch();
            }
            Wake::Asked(asked) => self.take_request(*asked),
            Wake::Answered(inquiry, replies) => self.take_answer(&inquiry, &replies).await,
            Wake::Gathered(gathered) => self.digest(&gathered).await,
        }
        ControlFlow::Continue(())
    }

    /// Whether the next epoch is due, and not only a look at the other watchers.
    fn is_due(&self) -> bool {
        match self.phase {
            Phase::Gathering => true,
            Phase::Resting(due) => self.clock.now() >= due,
        }
    }

    /// Decides anew whether this watcher speaks. One that begins to looks at once.
    async fn turn(&mut self) {
        if self.sidecar.turn(&mut self.pipeline) {
            self.next_epoch();
        }
        self.keep(&[]).await;
    }

    fn next_epoch(&mut self) {
        self.number += 1;
        self.phase = Phase::Gathering;
    }

    /// Takes an epoch through the pipeline, and tells what comes of it.
    async fn digest(&mut self, gathered: &Gathered) {
        self.opened = gathered.opened;
        if let Some(recorder) = &mut self.recorder {
            recorder.record(gathered, self.collector.take_raw());
        }
        self.settle(gathered).await;
        let trouble = self.collector.trouble(gathered);
        self.access.take(trouble, self.collector.generation(), &self.inbox_prefix);
        self.sidecar.epoch_ended(gathered);
        self.sidecar.turn(&mut self.pipeline);
        let mut step = self.pipeline.step(gathered);
        self.tell_status(&step.heartbeat);
        let events = std::mem::take(&mut step.events);
        self.tell_all(events, Some(step.heartbeat.clone())).await;
        // The alerts are out; what they leave open may be asked now.
        if self.asker.is_free()
            && let Some(inquiry) = self.pipeline.inquire(&step)
        {
            self.asker.ask(inquiry);
        }
        // A tick that fell into the epoch or the delivery is skipped: the next one counts from now on.
        let due = gathered.opened.plus(step.next_in);
        self.requests.epoch_ended(&step, self.number + 1, self.pipeline.book());
        self.last = Some(step);
        if let Some(client) = self.publisher.lend() {
            self.offer(client).await;
        }
        let now = self.clock.now();
        self.phase = Phase::Resting(if due < now { now } else { due });
    }

    /// Offers the micro service on a connection.
    async fn offer(&mut self, client: Client) {
        match self.requests.serve(client, self.pipeline.settings()).await {
            Ok(service) => self.services.push(service),
            Err(error) => tracing::warn!(%error, "the micro service is not offered"),
        }
    }

    /// Answers a request, or brings the epoch forward that it asks for.
    fn take_request(&mut self, asked: Asked) {
        let wanted = self.requests.take(asked, self.last.as_ref(), &self.pipeline);
        if wanted && let Phase::Resting(due) = self.phase {
            let earliest = self.opened.plus(CHECKS_APART_MIN).max(self.clock.now());
            self.phase = Phase::Resting(due.min(earliest));
        }
    }

    /// Takes the answers to further questions, and tells what comes of them.
    async fn take_answer(&mut self, inquiry: &Inquiry, replies: &Replies) {
        let Some(step) = &self.last else { return };
        let events = self.pipeline.answer(inquiry, replies, step, self.clock.now());
        tracing::debug!(
            events = events.len(),
            unreadable = replies.rejected,
            "further questions are answered"
        );
        if !events.is_empty() {
            self.tell_all(events, None).await;
        }
    }

    async fn tell_all(&mut self, events: Vec<Outgoing>, heartbeat: Option<Heartbeat>) {
        for outgoing in &events {
            tell(&outgoing.event);
        }
        self.keep(&events).await;
        // Whoever was frozen meanwhile is not the speaker any more: another one tells it.
        if !self.sidecar.may_speak() {
            return self.publisher.deliver(None).await;
        }
        // Nothing is published before the others know of it: they may have to go on from here.
        self.sidecar.hold(events);
        if self.sidecar.has_told() {
            self.publisher.queue(self.sidecar.inherit());
        }
        let company = self.sidecar.company();
        let watchers = company.size() as u64;
        let refused = self.sidecar.refused() + self.requests.refused();
        self.publisher.deliver(heartbeat.map(|heartbeat| Heartbeat { watchers, refused, ..heartbeat })).await;
    }

    /// Writes down how things stand before anybody is told: `events` are about to be published.
    async fn keep(&mut self, events: &[Outgoing]) {
        let waiting = self.publisher.undelivered().chain(events).collect();
        self.sidecar.keep(&self.pipeline, waiting).await;
    }

    /// Learns which events have arrived, and which must be published again.
    async fn settle(&mut self, gathered: &Gathered) {
        if self.publisher.is_unsure() {
            // A refusal comes before the answer, but by another way.
            tokio::task::yield_now().await;
            self.collector.drain();
        }
        let prefix = &self.pipeline.settings().prefix;
        for news in self.collector.take_news() {
            self.publisher.hear(&news);
            self.sidecar.hear_of(&news);
            self.requests.hear_of(&news, "the observing connection", prefix);
        }
        for news in self.publisher.take_news() {
            self.requests.hear_of(&news, "the connection for alerts", prefix);
        }
        self.publisher.epoch_ended(!gathered.delays.is_empty());
        for (at, announcement) in &gathered.announcements {
            if announcement.kind == AnnouncementKind::Shutdown {
                self.publisher.server_stopped(*at);
            }
        }
    }

    fn tell_status(&mut self, heartbeat: &Heartbeat) {
        let (status, summary) = (heartbeat.status, heartbeat.summary.as_str());
        // What keeps us from knowing is told with its reason, by the connection or by `Access`.
        if status == Status::Unknown {
            return tracing::debug!(summary, "epoch");
        }
        match self.status.replace(status) {
            Some(before) if before == status => tracing::debug!(summary, "epoch"),
            _ if status == Status::Ok => tracing::info!("{summary}"),
            _ => tracing::warn!("{summary}"),
        }
    }

    async fn goodbye(mut self) {
        self.publisher.finish(GOODBYE_MAX).await;
        self.keep(&[]).await;
        self.sidecar.leave().await;
        let waiting = self.publisher.waiting();
        if waiting > 0 {
            tracing::warn!(waiting, "alert events could not be delivered");
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.finish(GOODBYE_MAX).await;
        }
        let close = self.collector.close();
        if timeout(GOODBYE_MAX, close).await.is_err() {
            tracing::debug!("the connection was not closed in time");
        }
        tracing::info!("stopped; incidents open: {}", self.pipeline.book().active().count());
    }
}

/// One line for one event.
fn tell(event: &AlertEvent) {
    let AlertEvent { summary, check, incident, seq, .. } = event;
    match event.state {
        State::Suspected => tracing::warn!(check, incident, seq, "{summary}"),
        State::Firing => tracing::error!(check, incident, seq, "{summary}"),
        State::Resolved => tracing::info!(check, incident, seq, "{summary}"),
    }
}
