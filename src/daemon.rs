//! What a watcher does next: [`Daemon::handle`] takes what woke it and gives what is to be done.
//!
//! It is a pure function of its state, the [`Wake`] and the time: it waits for nothing. Whoever carries the
//! [`Effect`]s out (`shell::daemon`) does each in a task of its own and reports with another wake, so no disk, no
//! connection and no flood can hold up an epoch, the lease or the end. **Invariants:** an epoch that is due opens in
//! the first call after its time; what is decided is in the outbox before the call returns, and is published only
//! when the state file (or a disk that does not answer) and the other watchers have it.

mod coordinator;
mod dispatch;
mod effect;
mod losses;
mod persistence;
mod status;
mod supervision;

use std::time::Duration;

use crate::diagnosis::Replies;
use crate::election::{Me, PeerMessage, Role};
use crate::event::heartbeat::Status;
use crate::event::{Heartbeat, Monitor, Outgoing};
use crate::outbox::Outbox;
use crate::pipeline::{FollowUp, Pipeline, Settings, Step};
use crate::replicated_state::{ReplicatedState, StateVersion};
use crate::stamp::Stamp;
use crate::system::SystemId;
use crate::wire::AnnouncementKind;
use coordinator::Coordinator;
pub use dispatch::{Dispatcher, Mode};
pub use effect::{
    AlertLink, DeliveryReport, Effect, EpochEnd, Level, Line, LinkNews, Order, Published, Stored, Wake,
};
pub use losses::LossKind;
use losses::Losses;
use persistence::Persistence;
use status::Shown;
pub use supervision::{Progress, Supervision};

/// What is announced brings the next epoch forward, but not closer than this to the last one.
const EPOCHS_APART_MIN: Duration = Duration::from_millis(100);
/// Epochs that are asked for are not closer than this: a flood of requests is one load.
const CHECKS_APART_MIN: Duration = Duration::from_millis(250);
/// An epoch that takes so much longer than it may was kept from running (the host slept, the process was stopped):
/// what came in that time may be lost, and silence says nothing.
const OVERSLEPT: Duration = Duration::from_secs(1);
/// An epoch that has not ended so long after its time never will: this watcher sees nothing.
const STUCK: Duration = Duration::from_secs(2);
/// How long the end may take, with the last events and the last state.
const GOODBYE_MAX: Duration = Duration::from_millis(1_500);
/// Of that, the time for the last events.
const LAST_EVENTS_MAX: Duration = Duration::from_secs(1);

/// What the daemon is told once.
#[derive(Clone, Debug)]
pub struct Options {
    /// The checks, the life of alerts, and who watches.
    pub settings: Settings,
    /// Which system it is, where its watchers are told so.
    pub system: Option<SystemId>,
    /// When an alert counts as delivered.
    pub mode: Mode,
    /// Alerts go over the observing connection.
    pub shared: bool,
    /// How long an epoch may take.
    pub timeout: Duration,
    /// There is a state file.
    pub persistent: bool,
    /// The largest message that the server of the observing connection takes, in bytes.
    pub peer_limit: usize,
}

/// What the daemon is waiting for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For the end of an epoch that opened then and may take so long.
    Gathering(Stamp, Duration),
    /// For the next one, which is due at this time.
    Resting(Stamp),
    /// For the end, which comes at this time at the latest.
    Leaving(Stamp),
}

/// The decisions of one watcher.
#[derive(Clone, Debug)]
pub struct Daemon {
    pipeline: Pipeline,
    coordinator: Coordinator,
    dispatcher: Dispatcher,
    persistence: Persistence,
    timeout: Duration,
    phase: Phase,
    /// When the last epoch opened.
    opened: Stamp,
    number: u64,
    /// What the last epoch led to: the scene of answers that come in after it.
    last: Option<Box<Step>>,
    asking: bool,
    status: Option<Status>,
    losses: Losses,
    /// The alerts or the outbox may be others than what was kept.
    changed: bool,
    /// The largest message that the server of the observing connection takes, in bytes.
    peer_limit: usize,
    /// All other watchers are heard, or only the active one.
    hears_all: bool,
    /// The last message to the others is out.
    farewell: bool,
    /// What is remembered to be shown.
    shown: Shown,
    lines: Vec<Line>,
}

impl Daemon {
    /// A daemon that goes on where `restored` stands.
    pub fn new(options: Options, restored: Option<ReplicatedState>, now: Stamp) -> Self {
        let Options { settings, system, mode, shared, timeout, persistent, peer_limit } = options;
        let Monitor { name, instance, .. } = settings.monitor.clone();
        let me = Me::new(instance, name, now.wall_ns());
        let known = restored.clone().unwrap_or_default();
        let coordinator = Coordinator::new(me, settings.rules.interval, &settings.prefix, known, now);
        let dispatcher = Dispatcher::new(mode, shared, &settings.prefix);
        let pipeline = Pipeline::new(settings);
        let mut daemon = Self {
            pipeline: match system {
                Some(name) => pipeline.of_system(name),
                None => pipeline,
            },
            coordinator,
            dispatcher,
            persistence: Persistence::new(persistent),
            timeout,
            phase: Phase::Resting(now),
            opened: now,
            number: 0,
            last: None,
            asking: false,
            status: None,
            losses: Losses::default(),
            changed: false,
            peer_limit,
            hears_all: false,
            farewell: false,
            shown: Shown::new(now),
            lines: Vec::new(),
        };
        if let Some(state) = restored {
            daemon.restore(state, now);
        }
        daemon
    }

    /// Goes on where the last run stopped.
    fn restore(&mut self, state: ReplicatedState, now: Stamp) {
        let (waiting, _) = self.pipeline.adopt(state, now);
        let (open, events) = (self.pipeline.alert_table().active().count(), waiting.len());
        if open > 0 || events > 0 {
            let text = format!(
                "going on with the incidents of the last run: {open} are open, {events} of their events wait"
            );
            self.lines.push(Line::info(text));
        }
        self.losses.raise(LossKind::SavedEntries, self.pipeline.disbelieved());
        if let Some(other) = self.pipeline.take_other_system() {
            let own = self.pipeline.system().unwrap_or("none");
            let text =
                format!("the state file is of the system {other}, and --system says {own}: {own} it is");
            let hint = "where that is another system, give it a --state file of its own";
            self.lines.push(Line::warn(text).hint(hint));
        }
        self.dispatcher.outbox.replace(waiting);
        self.changed = true;
    }

    /// The alerts as they stand, and the settings.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The events on their way out.
    pub fn outbox(&self) -> &Outbox {
        &self.dispatcher.outbox
    }

    /// What this watcher is to the others.
    pub fn role(&self) -> Role {
        self.coordinator.role()
    }

    /// Whether this watcher may publish: it is the active one, and has not said farewell.
    pub fn is_active(&self, now: Stamp) -> bool {
        self.coordinator.is_active(now) && !self.farewell
    }

    /// Whether this watcher answers who asks what is seen: it sees the servers.
    pub fn answers_requests(&self, now: Stamp) -> bool {
        self.coordinator.collects(now)
    }

    /// Which version of the replicated state this watcher holds.
    pub fn version(&self) -> Option<&StateVersion> {
        self.coordinator.version()
    }

    /// What the last epoch led to.
    pub fn last(&self) -> Option<&Step> {
        self.last.as_deref()
    }

    /// The number of the last epoch.
    pub fn epochs(&self) -> u64 {
        self.number
    }

    /// The state as it was kept last: what the state file is to hold.
    pub fn kept(&self) -> &ReplicatedState {
        self.coordinator.to_be_saved()
    }

    /// Takes what woke it, and gives what is to be done, in this order.
    pub fn handle(&mut self, wake: Wake, now: Stamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(wake, now, &mut effects);
        self.advance(now, &mut effects);
        effects.extend(self.lines.drain(..).map(Effect::Log));
        effects
    }

    /// When it is to be woken though nothing happens.
    pub fn next_wake(&self, now: Stamp) -> Stamp {
        let phase = match self.phase {
            Phase::Gathering(opened, patience) => opened.plus(patience).plus(STUCK),
            Phase::Resting(due) => due,
            Phase::Leaving(until) => until,
        };
        let tick = self.coordinator.next_tick(now);
        let times = [self.persistence.next_due(), self.dispatcher.next_due(now)].into_iter().flatten();
        let earlier = |one: Stamp, other: Stamp| if other.has_reached(one) { one } else { other };
        let next = times.chain([phase]).filter(|time| !now.has_reached(*time)).fold(tick, earlier);
        // What is due now was looked at; what still is due then has to wait for something else.
        if self.is_due(now) { now } else { next }
    }

    fn take(&mut self, wake: Wake, now: Stamp, effects: &mut Vec<Effect>) {
        match wake {
            Wake::Time => {}
            Wake::Gathered(end) => self.digest(*end, now, effects),
            Wake::Urgent => self.bring_forward(self.opened.plus(EPOCHS_APART_MIN), now),
            Wake::Connected(news) => {
                self.hear_of_links(&news, now);
                self.coordinator.reconnected(now);
                self.bring_forward(now, now);
            }
            Wake::Heartbeat(instance) => self.coordinator.hear_heartbeat(&instance, now),
            Wake::HeartbeatsRefused => self.coordinator.hear_no_heartbeats(),
            Wake::OtherVersion(name) => self.coordinator.hear_other_version(&name, &mut self.lines),
            Wake::CheckWanted => self.bring_forward(self.opened.plus(CHECKS_APART_MIN), now),
            Wake::Peers(messages) => self.hear(messages, now),
            Wake::Answered(answered) => self.take_answers(&answered.0, &answered.1, now, effects),
            Wake::Delivery(report) => {
                if let DeliveryReport::Link(link) = &report {
                    self.coordinator.take_alert_link(link.up, now);
                }
                self.dispatcher.hear(report, now, &mut self.lines);
            }
            Wake::Saved(saved) => self.persistence.saved(saved, now, &mut self.lines),
            Wake::PeersTold(sent) => self.coordinator.told(sent, now),
            Wake::Lost(totals) => {
                totals.into_iter().for_each(|(kind, total)| self.losses.raise(kind, total));
            }
            Wake::Shutdown => {
                if !matches!(self.phase, Phase::Leaving(_)) {
                    self.phase = Phase::Leaving(now.plus(GOODBYE_MAX));
                    self.changed = true;
                }
            }
        }
    }

    /// The next epoch is wanted at this time, if it is not due before.
    fn bring_forward(&mut self, at: Stamp, now: Stamp) {
        if let Phase::Resting(due) = &mut self.phase {
            let at = if now.has_reached(at) { now } else { at };
            if due.has_reached(at) {
                *due = at;
            }
        }
    }

    fn hear(&mut self, messages: Vec<PeerMessage>, now: Stamp) {
        for message in messages {
            let outbox = &mut self.dispatcher.outbox;
            if self.coordinator.hear(message, &mut self.pipeline, outbox, now, &mut self.lines) {
                self.changed = true;
                self.persistence.change();
            }
        }
    }

    /// Takes an epoch through the pipeline; what comes of it is in the outbox then.
    fn digest(&mut self, end: EpochEnd, now: Stamp, effects: &mut Vec<Effect>) {
        let EpochEnd { mut gathered, generation, max_payload, news } = end;
        let patience = match self.phase {
            Phase::Gathering(_, patience) => patience,
            Phase::Resting(_) | Phase::Leaving(_) => self.timeout,
        };
        if gathered.closed.since(gathered.opened) > patience + OVERSLEPT {
            gathered.counts.dropped += 1;
            self.lines
                .push(Line::warn("this watcher was kept from running: silence in that time says nothing"));
        }
        self.opened = gathered.opened;
        if max_payload > 0 {
            self.peer_limit = max_payload;
        }
        self.hear_of_links(&news, now);
        let answered = gathered.heard > 0;
        self.dispatcher.epoch_ended(answered, generation, gathered.opened);
        for (at, announcement) in &gathered.announcements {
            if announcement.kind == AnnouncementKind::Shutdown {
                self.dispatcher.server_stopped(*at);
            }
        }
        self.coordinator.epoch_ended(answered);
        self.tick(now);
        // What has not changed since the last epoch is taken from it.
        let last = self.last.take().map(|last| *last);
        let mut step = self.pipeline.step_after(&gathered, last);
        self.tell_status(&step.heartbeat, !step.events.is_empty());
        self.count_losses(&gathered);
        self.shown.take(&step.view);
        let events = std::mem::take(&mut step.events);
        self.decide(events, now, effects);
        self.changed = true;
        self.persistence.epoch_ended();
        if self.is_active(now) {
            effects.extend(self.heartbeat(&step.heartbeat, now));
        }
        if !self.asking
            && let Some(follow_up) = self.pipeline.follow_ups(&step)
        {
            self.asking = true;
            effects.push(Effect::Ask(follow_up));
        }
        // A tick that fell into the epoch is skipped: the next one counts from now on.
        let due = self.opened.plus(step.next_in);
        self.last = Some(Box::new(step));
        if matches!(self.phase, Phase::Gathering(..)) {
            self.phase = Phase::Resting(if now.has_reached(due) { now } else { due });
        }
    }

    fn heartbeat(&self, heartbeat: &Heartbeat, now: Stamp) -> Option<Effect> {
        let heartbeat = Heartbeat {
            watchers: self.coordinator.watchers(),
            refused: self.refused(),
            lost: self.losses.totals(),
            unreplicated: self.coordinator.unreplicated(),
            unsaved: self.persistence.is_failing(),
            ..heartbeat.clone()
        };
        self.dispatcher.heartbeat(heartbeat, now)
    }

    /// Takes the answers to further questions; what comes of them is in the outbox then.
    fn take_answers(
        &mut self,
        follow_up: &FollowUp,
        replies: &Replies,
        now: Stamp,
        effects: &mut Vec<Effect>,
    ) {
        self.asking = false;
        let Some(step) = &self.last else { return };
        let events = self.pipeline.answer(follow_up, replies, step, now);
        self.losses.add(LossKind::FollowUps, replies.rejected);
        self.changed |= !events.is_empty();
        self.decide(events, now, effects);
    }

    /// These events are to be told: they are in the outbox from now on.
    fn decide(&mut self, events: Vec<Outgoing>, now: Stamp, effects: &mut Vec<Effect>) {
        for outgoing in events {
            self.shown.recent.take(&outgoing.event);
            effects.push(Effect::Announce(Box::new(outgoing.event.clone())));
            self.dispatcher.decide(outgoing, now);
        }
    }

    /// Decides anew whether this watcher is active. One that becomes so looks at once.
    fn tick(&mut self, now: Stamp) {
        self.coordinator.take_disk(!self.persistence.is_failing());
        let outbox = &mut self.dispatcher.outbox;
        if self.coordinator.tick(&mut self.pipeline, outbox, now, &mut self.lines) {
            self.changed = true;
            // Its version is a new one, whatever it holds.
            self.persistence.change();
            self.bring_forward(now, now);
        }
    }

    /// Whether an epoch is to be opened now. A watcher that others come before opens none.
    fn is_due(&self, now: Stamp) -> bool {
        matches!(self.phase, Phase::Resting(due) if now.has_reached(due)) && self.coordinator.collects(now)
    }

    /// Whether an epoch should have ended long ago.
    fn is_stuck(&self, now: Stamp) -> bool {
        matches!(self.phase, Phase::Gathering(opened, patience) if now.since(opened) > patience + STUCK)
    }

    /// Does what can be done now, whatever it was that woke the daemon.
    fn advance(&mut self, now: Stamp, effects: &mut Vec<Effect>) {
        if self.is_stuck(now) {
            self.coordinator.epoch_is_stuck();
        }
        self.tick(now);
        if self.is_due(now) {
            self.number += 1;
            if let Some((history, at)) = self.coordinator.take_inherited(now) {
                self.pipeline.inherit(history, at);
            }
            let plan = self.pipeline.plan(self.number, now, self.timeout);
            self.phase = Phase::Gathering(now, plan.patience);
            effects.push(Effect::OpenEpoch(plan));
        }
        self.keep(now, effects);
        if !self.farewell {
            self.tell_peers(now, effects);
        }
        // What is told of a takeover, and what was decided before a stall, waits for nothing else.
        let known = self.coordinator.has_told() && self.persistence.is_safe();
        if known && self.dispatcher.outbox.has_held() && self.is_active(now) {
            self.dispatcher.outbox.release();
        }
        if self.is_active(now) {
            self.dispatcher.advance(now, effects);
        }
        self.dispatcher.tell_losses(&mut self.lines);
        self.losses.tell(now, &mut self.lines);
        if let Phase::Leaving(until) = self.phase {
            self.leave(until, now, effects);
        }
    }

    /// Writes down how things stand, where that has changed.
    fn keep(&mut self, now: Stamp, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.changed) {
            let mut state = self.pipeline.replicated_state(self.dispatcher.outbox.iter());
            let others = self.coordinator.watchers() > 1;
            state.history = (others && self.is_active(now)).then(|| self.pipeline.saved_history(now));
            if self.coordinator.keep(state, now) {
                self.persistence.change();
            }
        }
        if self.persistence.wants_to_save() {
            effects.push(Effect::Save(self.coordinator.to_be_saved().clone()));
        }
        self.persistence.advance(now, &mut self.lines);
    }

    fn tell_peers(&mut self, now: Stamp, effects: &mut Vec<Effect>) {
        let hears_all = self.coordinator.hears_all();
        if std::mem::replace(&mut self.hears_all, hears_all) != hears_all {
            effects.push(Effect::HearAllPeers(hears_all));
        }
        if let Some(messages) = self.coordinator.state_messages(now, self.peer_limit, &mut self.lines) {
            effects.push(Effect::TellPeers(messages));
        }
        if let Some(message) = self.coordinator.due_message(now) {
            effects.push(Effect::SayToPeers(Box::new(message)));
        }
    }

    /// Ends when the last events, the last state and the last message are out, or when it is time.
    fn leave(&mut self, until: Stamp, now: Stamp, effects: &mut Vec<Effect>) {
        let late = now.plus(GOODBYE_MAX.saturating_sub(LAST_EVENTS_MAX)).has_reached(until);
        let settled = self.dispatcher.is_settled() && !self.dispatcher.outbox.has_held();
        if !self.farewell && (settled || late || !self.is_active(now)) {
            self.farewell = true;
            self.changed = true;
            self.keep(now, effects);
            effects.push(Effect::TellPeers(vec![self.coordinator.farewell(now)]));
            return;
        }
        let done = self.farewell && self.coordinator.is_quiet() && self.persistence.is_safe();
        if done || now.has_reached(until) {
            let waiting = self.dispatcher.outbox.waiting();
            if waiting > 0 {
                self.lines.push(Line::warn(format!("{waiting} alert events are not known to have arrived")));
            }
            effects.push(Effect::Stop);
        }
    }
}
