//! What a watcher shows of itself and of its system.

use std::time::Duration;

use super::Daemon;
use super::effect::Line;
use super::losses::LossKind;
use crate::election::Role;
use crate::event::Heartbeat;
use crate::event::heartbeat::Status;
use crate::stamp::Stamp;
use crate::status::numbers::{LeaderChanges, Numbers, Seen};
use crate::status::vitals::Vitals;
use crate::status::{Limits, PublishingStatus, RecentEvents, StatusContext, SystemStatus, Totals};
use crate::view::ClusterView;

/// What was seen longer ago is the past: that is so long, or four intervals if that is longer, as for heartbeats.
const FRESH: Duration = Duration::from_secs(10);

/// What is remembered to be shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// When this watcher started.
    pub(super) since: Stamp,
    /// The last events.
    pub(super) recent: RecentEvents,
    /// What happened in all epochs together.
    totals: Totals,
    /// How long all epochs together took.
    took: Duration,
    /// When the last complete one ended.
    complete: Option<Stamp>,
    leaders: LeaderChanges,
}

impl Shown {
    pub(super) fn new(since: Stamp) -> Self {
        Self {
            since,
            recent: RecentEvents::default(),
            totals: Totals::default(),
            took: Duration::ZERO,
            complete: None,
            leaders: LeaderChanges::default(),
        }
    }

    /// Takes what an epoch shows that has ended.
    pub(super) fn take(&mut self, view: &ClusterView) {
        self.totals.take(&view.epoch);
        self.took = self.took.saturating_add(view.epoch.closed.since(view.epoch.opened));
        if view.epoch.is_complete() {
            self.complete = Some(view.epoch.closed);
        }
        self.leaders.take(view);
    }
}

impl Daemon {
    /// Logs the status where it has changed, and no events of the same epoch tell why.
    pub(super) fn tell_status(&mut self, heartbeat: &Heartbeat, told: bool) {
        let (status, summary) = (heartbeat.status, heartbeat.summary.as_str());
        // What keeps us from knowing is told with its reason, by whoever holds the connection.
        if status == Status::Unknown {
            self.lines.push(Line::debug(summary));
            return;
        }
        let line = match self.status.replace(status) {
            _ if told => Line::debug(summary),
            Some(before) if before == status => Line::debug(summary),
            _ if status == Status::Ok => Line::info(summary),
            _ => Line::warn(summary),
        };
        self.lines.push(line);
    }

    /// How the system stands, and this watcher; `None` before the first epoch. `login` holds the flags of the `nats` CLI
    /// that whoever takes the advice logs in with.
    pub fn status(&self, login: &str, limits: Limits) -> Option<SystemStatus> {
        let context = self.status_context(login, limits);
        Some(SystemStatus::new(self.last()?, Some(self.publishing()), &context))
    }

    /// The same in numbers. `reconnects` is how often the watching connection was made again.
    pub fn numbers(&self, reconnects: u64, now: Stamp) -> Numbers {
        let settings = self.pipeline.settings();
        let interval = settings.rules.interval;
        let is_fresh = |closed: Stamp| now.since(closed) <= FRESH.max(interval * 4);
        let last = self.last().filter(|last| is_fresh(last.view.epoch.closed));
        let last = last.filter(|_| self.coordinator.collects(now));
        let context = self.status_context("", Limits::PAGE);
        let publishing = self.publishing();
        Numbers {
            monitor: settings.monitor.clone(),
            since: self.shown.since,
            system: self.pipeline.system().map(str::to_owned),
            interval,
            role: publishing.role,
            totals: self.shown.totals,
            epochs_took: self.shown.took,
            complete: self.shown.complete,
            reconnects,
            publishing,
            losses: LossKind::ALL.map(|kind| (kind.as_str(), self.losses.total(kind))).to_vec(),
            seen: last.map(|last| Seen::new(last, &self.shown.leaders, &context)),
        }
    }

    /// What it knows of itself now.
    pub fn vitals(&self, now: Stamp) -> Vitals {
        Vitals {
            interval: self.pipeline.settings().rules.interval,
            complete: self.shown.complete.map(|at| now.since(at)),
            follows: matches!(self.role(), Role::Standby | Role::Reserve),
            stuck: self.is_stuck(now),
        }
    }

    fn status_context<'a>(&'a self, login: &'a str, limits: Limits) -> StatusContext<'a> {
        StatusContext {
            alerts: self.pipeline.alert_table(),
            recent: &self.shown.recent,
            totals: &self.shown.totals,
            monitor: &self.pipeline.settings().monitor,
            since: self.shown.since,
            system: self.pipeline.system(),
            login,
            limits,
        }
    }

    fn publishing(&self) -> PublishingStatus {
        let outbox = self.outbox();
        PublishingStatus {
            role: match self.role() {
                Role::Joining => "joining",
                Role::Standby => "standby",
                Role::Reserve => "reserve",
                Role::Candidate => "taking_over",
                Role::Active => "active",
            },
            watchers: self.coordinator.watchers(),
            prefix: self.pipeline.settings().prefix.clone(),
            connected: self.dispatcher.is_connected(),
            sent: outbox.delivered(),
            waiting: outbox.waiting() as u64,
            lost: outbox.dropped(),
            losses: self.losses.totals(),
            unreplicated: self.coordinator.unreplicated(),
            unsaved: self.persistence.is_failing(),
        }
    }
}
