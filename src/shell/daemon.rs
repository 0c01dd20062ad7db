//! Carries out what the daemon decides ([`crate::daemon`]): every effect in a task or a thread of its own, each of
//! which reports with a wake. The loop itself waits for nothing but the next wake.

mod epochs;
mod page;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::Client;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::Span;

use crate::alert::{Reason, State};
use crate::check::Severity;
use crate::daemon::{Daemon, Effect, Level, Line, LinkNews, LossKind, Options, Wake};
use crate::epoch::Plan;
use crate::event::AlertEvent;
use crate::pipeline::Settings;
use crate::replicated_state::ReplicatedState;
use crate::shell::clock::Clock;
use crate::shell::collect::{Collector, CollectorOptions};
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{LinkEvent, Operation, Retry, connect};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::follow_up::FollowUpTask;
use crate::shell::http::HttpOptions;
use crate::shell::peer_channel::PeerChannel;
use crate::shell::publish::{AlertConnection, Mode, Publisher, PublisherReport};
use crate::shell::record::Recorder;
use crate::shell::service::{Request, Requests, Service};
use crate::shell::service_manager::{NotifyOptions, ServiceManager};
use crate::shell::state_file::{StateFile, StateLocation, StateWriter};
use crate::system::SystemId;
use epochs::{EpochReport, Epochs};
use page::{Page, TURN_MAX};

/// How long the recording and the connection may take to end, after everything else has.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// Reports that may wait. Who reports waits then; nobody waits for who reports.
const REPORTS_MAX: usize = 1_024;

/// What the watcher is told once.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The checks, the life of alerts, and who watches.
    pub settings: Settings,
    /// Which system it is, where its watchers are told so.
    pub system: Option<SystemId>,
    /// Where open incidents are kept for the next run.
    pub state: StateLocation,
    /// The connection that alerts and heartbeats are published on; `None` for the observing one.
    pub alerts: Option<ConnectConfig>,
    /// When an alert counts as delivered.
    pub mode: Mode,
    /// Where every epoch is recorded.
    pub record: Option<PathBuf>,
    /// Where the status page is served.
    pub page: Option<HttpOptions>,
    /// The service manager to tell how far it is, if there is one.
    pub notify: Option<NotifyOptions>,
}

/// Watches until `shutdown` is ready. It fails when a file cannot be used at the start, and when a part of it has ended
/// that it cannot do without.
///
/// Without a connection it waits for one, for as long as it takes.
pub async fn run(
    config: &ConnectConfig,
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(shutdown);
    let clock = Clock::new();
    let RunOptions { settings, system, state, alerts, mode, record, page, notify } = options;
    let mut service_manager = ServiceManager::open(notify.as_ref());
    let page = page.map(Page::start).transpose()?;
    let interval = settings.rules.interval;
    let config = &config.watching_every(interval);
    let recorder = record.as_deref().map(|path| Recorder::open(path, interval)).transpose()?;
    let (state, held) = StateFile::open(&state)?.unzip();
    let (saved, saves) = mpsc::channel(REPORTS_MAX);
    let writer = state.map(|state| writer_of(state, saved)).transpose()?;
    let link = tokio::select! {
        biased;
        () = &mut shutdown => {
            tracing::info!("stopped before there was a connection");
            return Ok(());
        }
        link = connect(config, Retry::Forever) => link?,
        never = service_manager.wait(clock) => match never {},
    };
    let options = CollectorOptions { events: true, raw: recorder.is_some(), again: true };
    let collector = Collector::new(link, clock, options).await;
    say_what_begins(&settings, &collector.server_name());
    let (shared, persistent) = (alerts.is_none(), writer.is_some());
    let prefix = settings.prefix.clone();
    let instance = settings.monitor.instance.clone();
    let client = collector.client().clone();
    let peer_limit = client.server_info().max_payload;
    let timeout = config.timeout;
    let options = Options { settings, system, mode, shared, timeout, persistent, peer_limit };
    let daemon = Daemon::new(options, held.flatten(), clock.now());
    let connection = connection_of(alerts, &client, interval);
    let (published, publications) = mpsc::channel(REPORTS_MAX);
    let (plans, planned) = mpsc::channel(1);
    let (ended, epochs) = mpsc::channel(REPORTS_MAX);
    let task = Epochs { collector, recorder, clock, inbox_prefix: config.inbox_prefix.clone() };
    let task = task.start(planned, ended);
    let mut driver = Driver {
        publisher: Publisher::start(connection, clock, &prefix, published),
        peers: PeerChannel::start(client.clone(), clock, &prefix, &instance).await,
        follow_ups: FollowUpTask::new(client.clone()),
        requests: Requests::new(clock),
        clients: Vec::new(),
        services: Vec::new(),
        daemon,
        clock,
        plans,
        writer,
        saves,
        publications,
        epochs,
        prefix,
        page,
        login: config.login(),
        instance,
        undone: VecDeque::new(),
        service_manager,
    };
    if shared {
        driver.peers.hear_heartbeats(client.clone());
    }
    driver.clients.push(client);
    let driven = driver.drive(shutdown).await;
    let Driver { daemon, plans, .. } = driver;
    drop(plans);
    close(task).await;
    tracing::info!("stopped; incidents open: {}", daemon.pipeline().alert_table().active().count());
    driven
}

/// The connection that alerts are published on.
fn connection_of(own: Option<ConnectConfig>, shared: &Client, interval: Duration) -> AlertConnection {
    match own {
        Some(config) => AlertConnection::own(config.watching_every(interval)),
        None => AlertConnection::Shared(shared.clone()),
    }
}

/// Ends the recording and the connection, as far as that is possible in time.
async fn close(task: tokio::task::JoinHandle<Epochs>) {
    let closing = async {
        let Ok(Epochs { collector, recorder, .. }) = task.await else { return };
        let recording = async {
            if let Some(recorder) = recorder {
                recorder.finish(CLOSE_MAX).await;
            }
        };
        tokio::join!(recording, collector.close());
    };
    if timeout(CLOSE_MAX, closing).await.is_err() {
        tracing::warn!("the recording or the connection could not be ended in time");
    }
}

fn writer_of(
    state: StateFile,
    saved: mpsc::Sender<Result<(), String>>,
) -> Result<StateWriter<ReplicatedState>, Failure> {
    // One state at a time is written, so there is room; without a daemon there is nobody to tell.
    let writer = state.into_writer(move |result| drop(saved.try_send(result)));
    writer.map_err(|error| {
        let message = format!("cannot start the thread that writes the state file: {error}");
        Failure::new(FailureKind::Io, message, "see whether this process may start more threads (ulimit -u)")
    })
}

fn say_what_begins(settings: &Settings, server: &str) {
    let Settings { rules, monitor, prefix, .. } = settings;
    tracing::info!(
        server,
        name = monitor.name,
        instance = monitor.instance,
        interval = %humantime::format_duration(rules.interval),
        subjects = format!("{prefix}.>"),
        "watching"
    );
}

/// The daemon, and everything that does what it wants.
struct Driver {
    daemon: Daemon,
    clock: Clock,
    plans: mpsc::Sender<Plan>,
    epochs: mpsc::Receiver<EpochReport>,
    publisher: Publisher,
    publications: mpsc::Receiver<PublisherReport>,
    peers: PeerChannel,
    writer: Option<StateWriter<ReplicatedState>>,
    saves: mpsc::Receiver<Result<(), String>>,
    follow_ups: FollowUpTask,
    requests: Requests,
    /// The connections that the service is for ...
    clients: Vec<Client>,
    /// ... and where it is offered: nowhere, where other watchers know better.
    services: Vec<Service>,
    prefix: String,
    page: Option<Page>,
    /// The flags of the `nats` CLI that reach the same servers.
    login: String,
    instance: String,
    /// What the daemon is to be told next, in this order.
    undone: VecDeque<Wake>,
    service_manager: ServiceManager,
}

/// What came first.
enum Next {
    Wake(Wake),
    Epoch(EpochReport),
    Publication(PublisherReport),
    Request(Request),
}

impl Driver {
    /// Until the daemon says that it is over. It fails when a task that it cannot do without has ended.
    async fn drive(
        &mut self,
        mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        let mut leaving = false;
        let mut wake = Some(Wake::Time);
        loop {
            if let Some(wake) = wake.take().or_else(|| self.undone.pop_front())
                && self.handle(wake)
            {
                return Ok(());
            }
            let now = self.clock.now();
            self.service_manager.tell(|| self.daemon.progress(now), now);
            let (next, latest) = (self.daemon.next_wake(now), now.plus(TURN_MAX));
            let next = if next.has_reached(latest) { latest } else { next };
            let until = self.clock.instant(self.service_manager.wake_by(next));
            let next = tokio::select! {
                biased;
                () = &mut shutdown, if !leaving => {
                    leaving = true;
                    Next::Wake(Wake::Shutdown)
                }
                () = sleep_until(until) => Next::Wake(Wake::Time),
                () = std::future::ready(()), if !self.undone.is_empty() => continue,
                report = self.epochs.recv() => Next::Epoch(report.ok_or_else(|| ended("asks the servers"))?),
                report = self.publications.recv() => {
                    Next::Publication(report.ok_or_else(|| ended("publishes"))?)
                }
                Some(saved) = self.saves.recv() => Next::Wake(Wake::Saved(saved)),
                wake = self.peers.next() => Next::Wake(wake),
                answered = self.follow_ups.answered() => Next::Wake(Wake::Answered(Box::new(answered))),
                request = self.requests.next() => Next::Request(request),
            };
            self.offer().await;
            wake = match next {
                Next::Wake(wake) => Some(wake),
                Next::Epoch(report) => {
                    self.take_epoch(report);
                    None
                }
                Next::Publication(report) => self.take_publication(report),
                Next::Request(request) => self
                    .requests
                    .take(request, self.daemon.last(), self.daemon.pipeline())
                    .then_some(Wake::CheckWanted),
            };
        }
    }

    /// Lets the daemon decide, and does what it wants. True when it is over.
    fn handle(&mut self, wake: Wake) -> bool {
        let (ended, role) = (number_of(&wake), self.daemon.role());
        let epoch = ended.map_or_else(Span::none, |number| tracing::debug_span!("epoch", number)).entered();
        let effects = self.daemon.handle(wake, self.clock.now());
        let election = match self.daemon.role() {
            same if same == role => Span::none(),
            role => tracing::debug_span!("election", ?role, instance = self.instance),
        };
        let election = election.entered();
        if ended.is_some()
            && let Some(step) = self.daemon.last()
        {
            let alerts = self.daemon.pipeline().alert_table();
            self.requests.epoch_ended(step, self.daemon.epochs(), alerts);
        }
        let news = ended.is_some() || self.daemon.role() != role;
        if let Some(page) = &mut self.page {
            page.show(&self.daemon, news, &self.login, self.clients.first(), self.clock.now());
        }
        let mut over = false;
        for effect in effects {
            over |= self.carry_out(effect);
        }
        drop((election, epoch));
        over
    }

    fn carry_out(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::OpenEpoch(plan) => {
                if self.plans.try_send(plan).is_err() {
                    tracing::error!("the last epoch has not ended");
                }
            }
            Effect::Save(state) => {
                if self.writer.as_ref().is_some_and(|writer| !writer.save(state)) {
                    self.undone.push_back(Wake::Saved(Err("the last state is not written yet".to_owned())));
                }
            }
            Effect::SayToPeers(message) => self.peers.say(*message),
            Effect::TellPeers(messages) => {
                if !self.peers.tell(messages) {
                    self.undone.push_back(Wake::PeersTold(false));
                }
            }
            Effect::HearAllPeers(all) => self.peers.hear_all(all),
            Effect::Deliver(order) => self.undone.extend(self.publisher.order(order).map(Wake::Delivery)),
            Effect::Ask(follow_up) => self.follow_ups.ask(follow_up),
            Effect::Announce(event) => announce(&event),
            Effect::Log(line) => log(&line),
            Effect::Stop => return true,
        }
        false
    }

    fn take_epoch(&mut self, report: EpochReport) {
        match report {
            EpochReport::Urgent => self.undone.push_back(Wake::Urgent),
            EpochReport::Connected(news) => {
                let news = self.take_news(&news);
                self.undone.push_back(Wake::Connected(news));
            }
            EpochReport::Ended { mut end, news, lost } => {
                end.news = self.take_news(&news);
                self.undone.push_back(Wake::Lost(self.lost(lost)));
                self.undone.push_back(Wake::Gathered(end));
            }
        }
    }

    /// What happened to the observing connection, as far as the daemon is to know.
    fn take_news(&mut self, news: &[LinkEvent]) -> Vec<LinkNews> {
        for news in news {
            self.requests.hear_of(news, "the observing connection", &self.prefix);
        }
        news.iter().filter_map(link_news).collect()
    }

    /// What was lost since the start, by all who carry effects out; `seen` is what the epochs lost.
    fn lost(&self, seen: Vec<(LossKind, u64)>) -> Vec<(LossKind, u64)> {
        let unsynced = self.writer.as_ref().map_or(0, StateWriter::unsynced);
        let own = [
            (LossKind::PeerMessages, self.peers.refused()),
            (LossKind::Requests, self.requests.refused()),
            (LossKind::Unsynced, unsynced),
        ];
        let parts = own.into_iter().chain(self.publisher.lost()).chain(seen);
        let mut totals = BTreeMap::<LossKind, u64>::new();
        for (kind, total) in parts {
            let sum = totals.entry(kind).or_default();
            *sum = sum.saturating_add(total);
        }
        totals.into_iter().collect()
    }

    fn take_publication(&mut self, report: PublisherReport) -> Option<Wake> {
        match report {
            PublisherReport::Delivery(report) => return Some(Wake::Delivery(report)),
            PublisherReport::Client(client) => {
                self.peers.hear_heartbeats(client.clone());
                self.services.clear();
                self.clients.push(client);
            }
            PublisherReport::News(news) => {
                self.requests.hear_of(&news, "the connection for alerts", &self.prefix);
                let refused = link_news(&news);
                if let Some(LinkNews::Refused { subject, publish: false }) = refused
                    && subject == format!("{}.heartbeat", self.prefix)
                {
                    return Some(Wake::HeartbeatsRefused);
                }
            }
        }
        None
    }

    /// Offers the micro service where this watcher sees the servers, and nowhere else.
    async fn offer(&mut self) {
        let answers = self.daemon.answers_requests(self.clock.now());
        self.requests.stand_by(!answers);
        if !answers {
            self.services.clear();
            return;
        }
        while let Some(client) = self.clients.get(self.services.len()).cloned() {
            let serving = self.requests.serve(client, self.daemon.pipeline().settings());
            let service = match timeout(CLOSE_MAX, serving).await {
                Ok(Ok(service)) => service,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the micro service is not offered");
                    Service::default()
                }
                Err(_) => {
                    tracing::warn!("the micro service is not offered: the connection does not take it");
                    Service::default()
                }
            };
            self.services.push(service);
        }
    }
}

/// The number of the epoch that has ended, where one has.
fn number_of(wake: &Wake) -> Option<u64> {
    match wake {
        Wake::Gathered(end) => Some(end.gathered.number),
        Wake::Time
        | Wake::Urgent
        | Wake::Connected(_)
        | Wake::Peers(_)
        | Wake::Heartbeat(_)
        | Wake::HeartbeatsRefused
        | Wake::OtherVersion(_)
        | Wake::CheckWanted
        | Wake::Answered(_)
        | Wake::Delivery(_)
        | Wake::Saved(_)
        | Wake::PeersTold(_)
        | Wake::Lost(_)
        | Wake::Shutdown => None,
    }
}

/// A part of this process is gone, and the rest would watch for nothing: whoever runs it starts it again.
fn ended(part: &str) -> Failure {
    let message = format!("the task that {part} has ended before its time");
    Failure::new(
        FailureKind::Io,
        message,
        "what it said before is in the log; start metawatch again, and report it",
    )
}

fn link_news(event: &LinkEvent) -> Option<LinkNews> {
    match event {
        LinkEvent::Connected => Some(LinkNews::Connected),
        LinkEvent::PermissionDenied { operation, subject } => {
            let publish = *operation == Operation::Publish;
            Some(LinkNews::Refused { subject: subject.clone(), publish })
        }
        LinkEvent::Disconnected
        | LinkEvent::SlowConsumer
        | LinkEvent::AuthorizationViolation
        | LinkEvent::LameDuck
        | LinkEvent::Closed
        | LinkEvent::Error(_) => None,
    }
}

pub(super) fn log(line: &Line) {
    let Line { level, text, hint } = line;
    let hint = (!hint.is_empty()).then_some(hint.as_str());
    match level {
        Level::Debug => tracing::debug!(hint, "{text}"),
        Level::Info => tracing::info!(hint, "{text}"),
        Level::Warn => tracing::warn!(hint, "{text}"),
        Level::Error => tracing::error!(hint, "{text}"),
    }
}

/// One line for one thing that happened: what servers say of it when they are asked is no other.
fn announce(event: &AlertEvent) {
    let AlertEvent { summary, check, incident, seq, .. } = event;
    match (event.state, event.severity) {
        _ if event.reason == Reason::Diagnosed => tracing::debug!(check, incident, seq, "{summary}"),
        (State::Resolved, _) => tracing::info!(check, incident, seq, "{summary}"),
        (State::Firing, Severity::Critical) => tracing::error!(check, incident, seq, "{summary}"),
        (State::Suspected | State::Firing, _) => tracing::warn!(check, incident, seq, "{summary}"),
    }
}
