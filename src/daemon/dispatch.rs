//! Drives the outbox: what is published when, over which connection, and what the answers mean for it.

use std::time::Duration;

use super::effect::{AlertLink, DeliveryReport, Effect, Line, LinkNews, Order, Published, Stored};
use crate::event::{Fit, Heartbeat, Outgoing, fit_heartbeat, fit_to, header_bytes};
use crate::name::printable;
use crate::outbox::{Dispatched, Outbox};
use crate::stamp::Stamp;

/// Events that may wait for their delivery.
const OUTBOX_MAX: usize = 10_000;
/// Events that may be published and not confirmed. Further ones wait until some are.
const IN_FLIGHT_MAX: usize = 1_000;
/// Events that may be on their way to streams ...
const STORING_MAX: usize = 256;
/// ... and so many of them may have failed before.
const STORING_AGAIN_MAX: usize = 64;
/// The pause of an event after its first failure; it doubles with each further one ...
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long after the server refused a subject it is tried again.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// By then the clients of a server that stops are connected to another one: they try one at once, and wait 2 s before
/// they try one again. The alert about that server goes out at the very moment when they lose their connection, and
/// core NATS keeps nothing for who is away: what is told in that time is told once more after it.
const AWAY: Duration = Duration::from_secs(3);
/// An event that says the least there is, with its headers, has about so many bytes.
const MESSAGE_NEEDED: usize = 1_024;

/// When an event counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When a server has taken it: whoever is subscribed gets it.
    #[default]
    Core,
    /// When a stream has acknowledged it.
    JetStream,
}

/// Whether a kind of subject may be published to.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    shut: Option<Stamp>,
    /// It was refused, and nothing has got through since: one event at a time is tried.
    in_doubt: bool,
    said: bool,
}

impl Gate {
    fn is_open(&self, now: Stamp) -> bool {
        self.shut.is_none_or(|shut| now.since(shut) >= REFUSED_AGAIN)
    }
}

/// The outbox and what is known of the way out.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    /// The events on their way out.
    pub outbox: Outbox,
    mode: Mode,
    /// Alerts go over the observing connection, where epochs confirm them.
    shared: bool,
    prefix: String,
    link: AlertLink,
    /// A batch is on its way over a connection of its own, and its confirmation is awaited.
    busy: bool,
    alerts: Gate,
    heartbeats: Gate,
    /// That the copies of critical events may not be published was said.
    critical_said: bool,
    /// The client did not take events, and is tried again then.
    paused: Option<Stamp>,
    stopped: Option<Stamp>,
    /// Why events are not stored; each reason is said once.
    said: Option<String>,
    said_small: bool,
    shortened: u64,
}

impl Dispatcher {
    /// One with nothing in it. `shared` tells that alerts go over the observing connection.
    pub fn new(mode: Mode, shared: bool, prefix: &str) -> Self {
        Self {
            outbox: Outbox::new(OUTBOX_MAX),
            mode,
            shared,
            prefix: prefix.to_owned(),
            link: AlertLink::default(),
            busy: false,
            alerts: Gate::default(),
            heartbeats: Gate::default(),
            critical_said: false,
            paused: None,
            stopped: None,
            said: None,
            said_small: false,
            shortened: 0,
        }
    }

    /// Takes an event that was decided now. While the clients of a stopping server look for another one, it is to be
    /// told once more; a stream keeps it for who is away.
    pub fn decide(&mut self, outgoing: Outgoing, now: Stamp) {
        let away = self.stopped.is_some_and(|at| now.since(at) <= AWAY) && self.mode == Mode::Core;
        self.outbox.decide(outgoing, away.then(|| now.plus(AWAY)));
    }

    /// A server has said that it stops.
    pub fn server_stopped(&mut self, at: Stamp) {
        let later = |before: &Stamp| before.has_reached(at);
        if !self.stopped.as_ref().is_some_and(later) {
            self.stopped = Some(at);
        }
    }

    /// Whether nothing is on its way whose answer may come soon.
    pub fn is_settled(&self) -> bool {
        match self.mode {
            Mode::JetStream => self.outbox.in_flight() == 0,
            Mode::Core => !self.busy,
        }
    }

    /// Takes what became of deliveries, or of the connection.
    pub fn hear(&mut self, report: DeliveryReport, now: Stamp, lines: &mut Vec<Line>) {
        match report {
            DeliveryReport::Link(link) => self.link(link, lines),
            DeliveryReport::Published(published) => self.published(published, now),
            DeliveryReport::Confirmed { generation, passed } => self.confirmed(generation, passed, now),
            DeliveryReport::Stored { place, generation, outcome } => {
                self.stored(place, generation, outcome, now, lines);
            }
            DeliveryReport::Refused { subject } => self.refused(&subject, now, lines),
        }
    }

    fn link(&mut self, link: AlertLink, lines: &mut Vec<Line>) {
        if link.generation != self.link.generation {
            self.outbox.reconnected(link.generation);
            self.busy = false;
            self.paused = None;
            (self.alerts.shut, self.heartbeats.shut) = (None, None);
        }
        if link.up && link.max_payload < MESSAGE_NEEDED && !std::mem::replace(&mut self.said_small, true) {
            let text = format!(
                "the server takes messages of {} bytes at most: alert events and heartbeats are shortened, and those \
                 that do not fit are dropped",
                link.max_payload
            );
            let hint =
                format!("raise max_payload of the servers that alerts go to, to {MESSAGE_NEEDED} at least");
            lines.push(Line::error(text).hint(hint));
        }
        self.link = link;
    }

    /// Takes what happened to the observing connection.
    pub fn hear_of(&mut self, news: &LinkNews, now: Stamp, lines: &mut Vec<Line>) {
        if let LinkNews::Refused { subject, publish: true } = news
            && self.shared
        {
            self.refused(subject, now, lines);
        }
    }

    /// Takes the end of an epoch: whether a server answered its request, which was sent after `opened` over this
    /// connection. A server takes what comes over one connection in order.
    pub fn epoch_ended(&mut self, answered: bool, generation: u64, opened: Stamp) {
        if self.shared && self.mode == Mode::Core && answered {
            self.confirm(generation, opened);
        }
    }

    fn confirm(&mut self, generation: u64, before: Stamp) {
        if self.outbox.confirm(generation, before) > 0 {
            self.alerts.in_doubt = false;
        }
    }

    /// Takes what the client did with events.
    fn published(&mut self, published: Published, now: Stamp) {
        let Published { generation, handed, not_taken, impossible } = published;
        for (place, at) in handed {
            self.outbox.handed(place, generation, at);
        }
        for (place, why) in impossible {
            self.outbox.give_up(place, why);
        }
        if !not_taken.is_empty() {
            self.paused = Some(now.plus(PAUSE_MIN));
        }
        for place in not_taken {
            self.outbox.not_taken(place, generation);
        }
    }

    /// Takes what was answered behind the events of this connection.
    fn confirmed(&mut self, generation: u64, passed: bool, now: Stamp) {
        if generation != self.link.generation {
            return;
        }
        self.busy = false;
        if passed {
            self.confirm(generation, now);
        } else {
            self.paused = Some(now.plus(PAUSE_MIN));
        }
    }

    /// Takes what became of an event on its way to a stream.
    fn stored(&mut self, place: u64, generation: u64, outcome: Stored, now: Stamp, lines: &mut Vec<Line>) {
        if !self.outbox.is_in_flight(place, generation) {
            return;
        }
        match outcome {
            Stored::Done => {
                if self.outbox.failures(place) > 0 && self.said.take().is_some() {
                    lines.push(Line::warn("alert events are stored again"));
                }
                self.outbox.arrived(place, generation);
            }
            // Without a connection, or where we may not publish, it says nothing of a stream.
            Stored::NotYet { .. } if !self.link.up || !self.alerts.is_open(now) => {
                self.outbox.not_taken(place, generation);
            }
            Stored::NotYet { reason, hint, refused } => {
                let doublings = self.outbox.failures(place).min(10);
                let pause = (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX);
                self.outbox.park(place, now.plus(pause), refused);
                if self.said.as_deref() != Some(reason.as_str()) {
                    let text =
                        format!("alert events are not stored: {reason}; they wait and are tried again");
                    lines.push(Line::error(text).hint(hint));
                    self.said = Some(reason);
                }
            }
            Stored::Never(why) => self.outbox.give_up(place, why),
        }
    }

    /// The server does not let us publish there. What it refused is published again when it may be.
    fn refused(&mut self, subject: &str, now: Stamp, lines: &mut Vec<Line>) {
        let Some(rest) = subject.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.')) else {
            return;
        };
        let (gate, what) = if rest.starts_with("alert.") {
            self.outbox.take_back();
            self.busy = false;
            (&mut self.alerts, "alert events wait, and are tried again every minute")
        } else if rest.starts_with("critical.") {
            // The event itself goes its own way.
            if !std::mem::replace(&mut self.critical_said, true) {
                let text =
                    format!("this user may not publish on {subject}: who subscribes to it hears nothing");
                let hint = format!("add \"{}.>\" to what the user may publish", self.prefix);
                lines.push(Line::warn(text).hint(hint));
            }
            return;
        } else if rest == "heartbeat" {
            (&mut self.heartbeats, "nobody can tell whether this watcher lives")
        } else {
            return;
        };
        gate.shut = Some(now);
        gate.in_doubt = true;
        if !std::mem::replace(&mut gate.said, true) {
            let hint = format!(
                "add \"{}.>\" to the user's permissions {{ publish: {{ allow: [ … ] }} }}, or choose another --prefix",
                self.prefix
            );
            lines.push(Line::error(format!("this user may not publish on {subject}: {what}")).hint(hint));
        }
    }

    /// Publishes what may be published now.
    pub fn advance(&mut self, now: Stamp, effects: &mut Vec<Effect>) {
        self.outbox.wake(now);
        self.paused.take_if(|until| now.has_reached(*until));
        if !self.link.up || self.paused.is_some() || !self.alerts.is_open(now) {
            return;
        }
        let generation = self.link.generation;
        let at_once = if self.alerts.in_doubt { 1 } else { IN_FLIGHT_MAX };
        match self.mode {
            Mode::JetStream => {
                let room = at_once.min(STORING_MAX).saturating_sub(self.outbox.in_flight());
                let again = STORING_AGAIN_MAX.saturating_sub(self.outbox.in_flight_again());
                let batch = self.outbox.dispatch_to_stream(room, again, generation);
                let stores = self
                    .fitted(batch)
                    .into_iter()
                    .map(|event| Effect::Deliver(Order::Store { event: Box::new(event), generation }));
                effects.extend(stores);
            }
            Mode::Core if self.shared => {
                let room = at_once.saturating_sub(self.outbox.in_flight());
                let batch = self.outbox.dispatch(room, generation, false);
                self.publish(batch, false, effects);
            }
            Mode::Core if self.busy => {}
            // Behind a question that got no answer, only the question is put again.
            Mode::Core if self.outbox.in_flight() > 0 => {
                self.busy = true;
                effects.push(Effect::Deliver(Order::Confirm { generation }));
            }
            Mode::Core => {
                // What the client has not sent when a connection breaks, it sends on the next one, ahead of what is
                // published again. One event of each incident at a time keeps their order.
                let batch = self.outbox.dispatch(at_once, generation, true);
                self.busy = self.publish(batch, true, effects);
            }
        }
    }

    fn publish(&mut self, batch: Vec<Dispatched>, confirm: bool, effects: &mut Vec<Effect>) -> bool {
        let batch = self.fitted(batch);
        let any = !batch.is_empty();
        if any {
            let generation = self.link.generation;
            effects.push(Effect::Deliver(Order::Publish { batch, generation, confirm }));
        }
        any
    }

    /// The events as the server takes them; those that it never will are dropped.
    fn fitted(&mut self, mut batch: Vec<Dispatched>) -> Vec<Dispatched> {
        let limit = self.link.max_payload;
        batch.retain_mut(|event| match fit_to(&mut event.outgoing, limit) {
            Fit::Whole => true,
            Fit::Shortened => {
                self.shortened += 1;
                true
            }
            Fit::TooLarge(bytes) => {
                let why = format!("it has {bytes} bytes, and the server takes {limit}");
                self.outbox.give_up(event.place, why);
                false
            }
        });
        batch
    }

    /// Whether the connection for alerts is there.
    pub fn is_connected(&self) -> bool {
        self.link.up
    }

    /// A sign of life, with what is known of deliveries; nothing where it cannot be sent.
    pub fn heartbeat(&self, mut heartbeat: Heartbeat, now: Stamp) -> Option<Effect> {
        if !self.link.up || !self.heartbeats.is_open(now) {
            return None;
        }
        heartbeat.undelivered = self.outbox.dropped();
        heartbeat.waiting = self.outbox.waiting() as u64;
        heartbeat.shortened = self.shortened;
        let summary = printable(&heartbeat.summary).into_owned();
        let headers = [("Content-Type", "application/json"), ("Metawatch-Summary", summary.as_str())];
        // One that does not fit at all is refused by the client, which is told at the start.
        fit_heartbeat(&mut heartbeat, header_bytes(headers.into_iter()), self.link.max_payload);
        Some(Effect::Deliver(Order::Heartbeat(Box::new(heartbeat))))
    }

    /// How many events were shortened so that the server takes them.
    pub fn shortened(&self) -> u64 {
        self.shortened
    }

    /// Lines about what was dropped.
    pub fn tell_losses(&mut self, lines: &mut Vec<Line>) {
        let dropped = self.outbox.dropped();
        for (id, loss) in self.outbox.take_losses() {
            lines.push(Line::warn(format!("alert event {id} is dropped: {loss}; {dropped} so far")));
        }
    }

    /// When something is to be done though nothing happens.
    pub fn next_due(&self, now: Stamp) -> Option<Stamp> {
        let earlier = |one: Stamp, other: Stamp| if other.has_reached(one) { one } else { other };
        let due = self.outbox.next_due(now).filter(|_| self.link.up);
        due.into_iter().chain(self.paused).reduce(earlier)
    }
}
