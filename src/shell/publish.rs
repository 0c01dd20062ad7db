//! Delivers what is to be told: alert events in order and at least once, heartbeats when there is a connection.
//!
//! An event is *published* when the client has sent it, and *confirmed* when it has surely arrived. In core mode that
//! is when the server has answered a request that was sent after it on the same connection: a server takes what comes
//! over one connection in order. On the observing connection that is any request of a later epoch, on one of its own a
//! `fence`. In JetStream mode it is when a stream has acknowledged it (`store`). What was published and not confirmed
//! before a connection was lost is published again; its `Nats-Msg-Id` is the same.
//!
//! In core mode, what is told while the clients of a stopping server look for another one is told once more (`encore`).
//!
//! The watcher waits for none of this: [`Publisher::deliver`] sends and returns, and [`Publisher::drive`] takes the
//! answers while the watcher does something else.

mod encore;
mod fence;
mod flight;
mod message;
mod road;
mod store;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use async_nats::Client;
use futures_util::FutureExt;
use tokio::time::{sleep_until, timeout};

use crate::event::outbox::Outbox;
use crate::event::{Heartbeat, Outgoing};
use crate::name::printable;
use crate::shell::clock::Clock;
use crate::shell::connect::{LinkEvent, Operation};
use crate::stamp::Stamp;
use encore::Encore;
use fence::{Fence, Refusal};
use flight::{FLIGHT_MAX, Flight, Gate};
use message::{Sent, header_map, publish};
pub use road::Road;
use store::{Stored, Storing};

/// Events that may wait for their delivery.
const OUTBOX_MAX: usize = 10_000;
/// News of the connection that nobody has fetched; more is dropped.
const NEWS_MAX: usize = 64;
/// Handing over to the client takes this long at most.
const DELIVERY_MAX: Duration = Duration::from_secs(1);

/// When an event counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When a server has taken it: whoever is subscribed gets it.
    #[default]
    Core,
    /// When a stream has acknowledged it.
    JetStream,
}

/// Publishes alert events and heartbeats.
#[derive(Debug)]
pub struct Publisher {
    road: Road,
    mode: Mode,
    clock: Clock,
    prefix: String,
    outbox: Outbox,
    flight: Flight,
    encore: Encore,
    fence: Fence,
    storing: Storing,
    /// The connection of our own that was heard to come up: what is still heard of an earlier one is not taken for
    /// news of this.
    heard_of: u64,
    /// The connection that there was at the last delivery.
    stood: u64,
    /// Events that no server will ever take, and that were given up.
    given_up: u64,
    alerts: Gate,
    heartbeats: Gate,
    /// What may not be heard on a connection of our own, for others to take.
    news: VecDeque<LinkEvent>,
    said_deaf: bool,
}

impl Publisher {
    /// A publisher to `<prefix>.alert.…` and `<prefix>.heartbeat`.
    pub fn new(road: Road, mode: Mode, clock: Clock, prefix: &str) -> Self {
        Self {
            road,
            mode,
            clock,
            prefix: prefix.to_owned(),
            outbox: Outbox::new(OUTBOX_MAX),
            flight: Flight::default(),
            encore: Encore::default(),
            fence: Fence::default(),
            storing: Storing::default(),
            heard_of: 0,
            stood: 0,
            given_up: 0,
            alerts: Gate::default(),
            heartbeats: Gate::default(),
            news: VecDeque::new(),
            said_deaf: false,
        }
    }

    /// The client of the connection for alerts, once, when that is not the observing one and has come up.
    pub fn lend(&mut self) -> Option<Client> {
        self.road.lend()
    }

    /// What a connection of our own may not hear, since the last call.
    pub fn take_news(&mut self) -> VecDeque<LinkEvent> {
        std::mem::take(&mut self.news)
    }

    /// Takes events to be delivered.
    pub fn queue(&mut self, events: impl IntoIterator<Item = Outgoing>) {
        for event in events {
            // A stream keeps an event for who is away.
            if self.mode == Mode::Core {
                self.encore.note(&event, self.clock.now());
            }
            self.outbox.push(event);
        }
    }

    /// A server has said that it stops: its clients look for another one.
    pub fn server_stopped(&mut self, at: Stamp) {
        self.encore.server_stopped(at);
    }

    /// Whether events were published whose arrival at the server is not certain yet.
    pub fn is_unsure(&self) -> bool {
        self.flight.published > 0
    }

    /// The events that may not have arrived, in order.
    pub fn undelivered(&self) -> impl DoubleEndedIterator<Item = &Outgoing> {
        self.flight.events.iter().chain(self.outbox.iter())
    }

    /// How many events wait to be published.
    pub fn waiting(&self) -> usize {
        self.outbox.len() + self.flight.events.len() - self.flight.published
    }

    /// Takes what happened to the observing connection.
    pub fn hear(&mut self, news: &LinkEvent) {
        if self.road.is_shared() {
            self.heed(news);
        }
    }

    fn heed(&mut self, news: &LinkEvent) {
        match news {
            LinkEvent::Connected => {
                self.heard_of = self.road.generation();
                self.storing.restart();
                self.fence.take_down();
                self.alerts.shut = None;
                self.heartbeats.shut = None;
            }
            LinkEvent::PermissionDenied { operation: Operation::Publish, subject } => {
                match self.fence.take_refusal(subject) {
                    Refusal::Passed => self.confirm(self.road.generation(), true),
                    Refusal::Asked { news: true } => tell_unfenced(),
                    Refusal::Asked { news: false } => {}
                    Refusal::Other => self.refused(subject),
                }
            }
            LinkEvent::PermissionDenied { operation: Operation::Subscribe, subject } => {
                self.deaf(subject);
                if !self.road.is_shared() && self.news.len() < NEWS_MAX {
                    self.news.push_back(news.clone());
                }
            }
            LinkEvent::Disconnected
            | LinkEvent::SlowConsumer
            | LinkEvent::AuthorizationViolation
            | LinkEvent::LameDuck
            | LinkEvent::Closed
            | LinkEvent::Error(_) => {}
        }
    }

    /// Takes the end of an epoch: whether a server answered its request.
    ///
    /// To be called after [`Self::hear`] and before the next [`Self::deliver`].
    pub fn epoch_ended(&mut self, answered: bool) {
        if self.road.is_shared() && self.mode == Mode::Core {
            self.confirm(self.road.generation(), answered);
        }
    }

    fn confirm(&mut self, generation: u64, answered: bool) {
        if self.flight.settle(generation, answered) > 0 {
            self.alerts.in_doubt = false;
        }
    }

    /// Publishes what waits, and the heartbeat. It waits for no answer; what cannot be published now stays in order.
    pub async fn deliver(&mut self, heartbeat: Option<Heartbeat>) {
        while let Some(news) = self.road.news().now_or_never() {
            self.heed(&news);
        }
        // The client may drop its word of a new connection in a flood of others: what has stood for a while counts.
        let generation = self.road.generation();
        let stands = std::mem::replace(&mut self.stood, generation) == generation;
        if stands && !self.road.is_shared() && self.heard_of != generation {
            self.heed(&LinkEvent::Connected);
        }
        let handing_over = async {
            // The sign of life waits for nothing.
            if let (Some(client), Some(heartbeat)) = (self.road.client(), heartbeat)
                && self.heartbeats.is_open(self.clock.now())
            {
                self.send_heartbeat(&client, heartbeat).await;
            }
            self.send().await;
            if let Road::Shared(client) = &self.road
                && let Err(error) = client.flush().await
            {
                tracing::debug!(%error, "the connection could not be flushed");
            }
        };
        if timeout(DELIVERY_MAX, handing_over).await.is_err() {
            tracing::debug!(waiting = self.waiting(), "the connection does not take the events");
        }
    }

    /// Takes the answers of servers and streams, and sends on. It never ends, and may be dropped at any time: nothing is
    /// lost, and nothing waits for it.
    pub async fn drive(&mut self) -> Infallible {
        loop {
            self.advance().await;
        }
    }

    /// Gives what waits a last chance, within `limit`.
    pub async fn finish(&mut self, limit: Duration) {
        self.deliver(None).await;
        let answers = async {
            while self.storing.is_busy() || self.fence.is_up() {
                self.advance().await;
            }
        };
        if timeout(limit, answers).await.is_err() {
            tracing::debug!("the last answers have not come in time");
        }
    }

    async fn advance(&mut self) {
        let now = self.clock.now();
        let retry = self.storing.backoff.until().filter(|until| !now.has_reached(*until));
        let due = retry.into_iter().chain(self.encore.due()).min();
        let again = self.clock.instant(due.unwrap_or(now));
        tokio::select! {
            // Of what came together, a refusal was said before the answer.
            biased;
            news = self.road.news() => self.heed(&news),
            (event, stored) = self.storing.outcome() => self.take_outcome(&event, stored),
            (asked_on, answered) = self.fence.passed() => {
                let generation = self.road.generation();
                self.confirm(generation, answered && asked_on == generation);
            }
            () = sleep_until(again), if due.is_some() => {}
        }
        for event in self.encore.take(self.clock.now()) {
            self.outbox.push(event);
        }
        self.send().await;
    }

    /// Sends what may be sent now.
    async fn send(&mut self) {
        let Some(client) = self.road.client() else { return };
        let generation = self.road.generation();
        self.flight.settle(generation, false);
        self.flight.generation = generation;
        if !self.alerts.is_open(self.clock.now()) || (!self.road.is_shared() && self.heard_of != generation) {
            return;
        }
        match self.mode {
            Mode::JetStream => self.store_alerts(&client),
            Mode::Core if self.road.is_shared() => self.send_alerts(&client).await,
            Mode::Core if self.fence.is_up() => {}
            Mode::Core => {
                // Behind a fence that got no answer, only the question is put again.
                if !self.is_unsure() {
                    self.send_alerts(&client).await;
                }
                if self.is_unsure() {
                    self.fence.put(client, generation);
                }
            }
        }
    }

    async fn send_alerts(&mut self, client: &Client) {
        let at_once = if self.alerts.in_doubt { 1 } else { FLIGHT_MAX };
        // What the client has not sent when a connection breaks, it sends on the next one, ahead of what we publish
        // again. One event of each incident at a time keeps their order; only a fence answers soon enough for that.
        let mut incidents = (!self.road.is_shared()).then(BTreeSet::new);
        while self.flight.published < at_once
            && let Some(next) = self.flight.next(&mut self.outbox)
            && incidents.as_mut().is_none_or(|incidents| incidents.insert(next.event.incident.clone()))
        {
            match publish(client, next).await {
                Sent::Done => self.flight.published += 1,
                Sent::NotNow => return,
                Sent::Never(error) => {
                    tracing::error!(subject = next.subject, error, "an alert event cannot be published");
                    self.flight.give_up();
                    self.given_up += 1;
                }
            }
        }
    }

    fn store_alerts(&mut self, client: &Client) {
        let now = self.clock.now();
        for event in self.flight.batch(&mut self.outbox, |event| self.storing.may_send(event, now)) {
            self.storing.send(client.clone(), event);
        }
    }

    fn take_outcome(&mut self, event: &Outgoing, stored: Stored) {
        match stored {
            Stored::Done => {
                self.flight.forget(&event.event.id);
                self.storing.backoff.settled(&event.event.incident);
            }
            // Without a connection, or where we may not publish, it says nothing of a stream.
            Stored::NotYet { .. } if self.road.client().is_none() || self.alerts.shut.is_some() => {}
            Stored::NotYet { reason, hint } => {
                self.storing.backoff.failed(&event.event.incident, self.clock.now(), &reason, hint);
            }
            Stored::Never(error) => {
                tracing::error!(subject = event.subject, error, "an alert event cannot be stored");
                self.flight.forget(&event.event.id);
                self.storing.backoff.settled(&event.event.incident);
                self.given_up += 1;
            }
        }
    }

    async fn send_heartbeat(&mut self, client: &Client, mut heartbeat: Heartbeat) {
        heartbeat.undelivered = self.outbox.dropped() + self.given_up;
        heartbeat.waiting = self.waiting() as u64;
        let payload = match serde_json::to_vec(&heartbeat) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(%error, "a heartbeat cannot be written"),
        };
        let headers = header_map([
            ("Content-Type", "application/json"),
            ("Metawatch-Summary", printable(&heartbeat.summary).as_ref()),
        ]);
        let subject = format!("{}.heartbeat", self.prefix);
        if let Err(error) = client.publish_with_headers(subject, headers, payload.into()).await {
            tracing::debug!(%error, "a heartbeat was not published");
        }
    }

    /// The server does not let us publish there. What it refused is published again when it may be.
    fn refused(&mut self, subject: &str) {
        let Some(rest) = subject.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.')) else {
            return;
        };
        let (gate, what) = if rest.starts_with("alert.") {
            self.flight.published = 0;
            self.fence.take_down();
            (&mut self.alerts, "alert events wait, and are tried again every minute")
        } else {
            (&mut self.heartbeats, "nobody can tell whether this watcher lives")
        };
        gate.shut = Some(self.clock.now());
        gate.in_doubt = true;
        if !std::mem::replace(&mut gate.said, true) {
            let hint = format!(
                "add \"{}.>\" to the user's permissions {{ publish: {{ allow: [ … ] }} }}, \
                 or choose another --prefix",
                self.prefix
            );
            tracing::error!(subject, hint, "this user may not publish: {what}");
        }
    }

    /// The server keeps answers from us.
    fn deaf(&mut self, subject: &str) {
        let Some(inbox) = self.road.inbox_prefix().filter(|inbox| subject.starts_with(inbox)) else { return };
        if !std::mem::replace(&mut self.said_deaf, true) {
            let hint =
                format!("add \"{inbox}.>\" to what the user may subscribe to, or give --alert-inbox-prefix");
            tracing::error!(
                subject,
                hint,
                "whether alerts arrive cannot be told: they are sent again and again"
            );
        }
    }
}

fn tell_unfenced() {
    let hint = format!("add \"{}\" to what the user may publish", fence::SUBJECT);
    tracing::warn!(hint, "alerts arrive, but the server notes a violation in its log each time");
}

#[cfg(test)]
mod tests;
