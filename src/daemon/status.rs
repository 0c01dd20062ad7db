//! What a watcher shows of itself and of its system.

use super::Daemon;
use super::effect::Line;
use crate::election::Role;
use crate::event::Heartbeat;
use crate::event::heartbeat::Status;
use crate::stamp::Stamp;
use crate::status::{Limits, PublishingStatus, RecentEvents, StatusContext, SystemStatus, Totals};

/// What is remembered to be shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// When this watcher started.
    pub(super) since: Stamp,
    /// The last events.
    pub(super) recent: RecentEvents,
    /// What happened in all epochs together.
    pub(super) totals: Totals,
}

impl Daemon {
    /// Logs the status where it has changed.
    pub(super) fn tell_status(&mut self, heartbeat: &Heartbeat) {
        let (status, summary) = (heartbeat.status, heartbeat.summary.as_str());
        // What keeps us from knowing is told with its reason, by whoever holds the connection.
        if status == Status::Unknown {
            self.lines.push(Line::debug(summary));
            return;
        }
        let line = match self.status.replace(status) {
            Some(before) if before == status => Line::debug(summary),
            _ if status == Status::Ok => Line::info(summary),
            _ => Line::warn(summary),
        };
        self.lines.push(line);
    }

    /// How the system stands, and this watcher; `None` before the first epoch. `login` holds the flags of the `nats` CLI
    /// that whoever takes the advice logs in with.
    pub fn status(&self, login: &str, limits: Limits) -> Option<SystemStatus> {
        let context = StatusContext {
            alerts: self.pipeline.alert_table(),
            recent: &self.shown.recent,
            totals: &self.shown.totals,
            monitor: &self.pipeline.settings().monitor,
            since: self.shown.since,
            system: self.pipeline.system(),
            login,
            limits,
        };
        Some(SystemStatus::new(self.last()?, Some(self.publishing()), &context))
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
