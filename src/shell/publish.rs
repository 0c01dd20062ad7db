//! Delivers what is to be told: alert events in order and at least once, heartbeats when there is a connection.
//!
//! An event is *published* when the client has sent it, and *confirmed* when it has surely arrived. In core mode that
//! is when the server has answered a request that was sent after it on the same connection: a server takes what comes
//! over one connection in order. In JetStream mode it is when a stream has acknowledged it ([`store`]). What was
//! published and not confirmed before a connection was lost is published again; its `Nats-Msg-Id` is the same.

mod road;
mod store;

use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap, HeaderValue};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::event::outbox::Outbox;
use crate::event::{Heartbeat, Outgoing};
use crate::name::printable;
use crate::shell::clock::Clock;
use crate::shell::connect::{LinkEvent, Operation};
use crate::stamp::Stamp;
pub use road::Road;
use store::{Backoff, Stored, store};

/// Events that may wait for their delivery.
const OUTBOX_MAX: usize = 10_000;
/// Events that may be published and not confirmed. Further ones wait for the next epoch.
const FLIGHT_MAX: usize = 1_000;
/// Publishing delays the next epoch by this much at most.
const DELIVERY_MAX: Duration = Duration::from_secs(1);
/// Events of different incidents that are stored at once.
const STORED_AT_ONCE: usize = 64;
/// Asked after events on a connection of their own: the answer comes after they were taken. Every user of every
/// account gets one. Source: nats-server 2.10 to 2.15, `server/events.go` (`userDirectReqSubj`).
const FENCE: &str = "$SYS.REQ.USER.INFO";
/// How long after the server refused a subject it is tried again.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

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
    storing: Backoff,
    clock: Clock,
    prefix: String,
    outbox: Outbox,
    flight: Flight,
    /// Events that no server will ever take, and that were given up.
    given_up: u64,
    alerts: Gate,
    heartbeats: Gate,
}

impl Publisher {
    /// A publisher to `<prefix>.alert.…` and `<prefix>.heartbeat`.
    pub fn new(road: Road, mode: Mode, clock: Clock, prefix: &str) -> Self {
        Self {
            road,
            mode,
            storing: Backoff::default(),
            clock,
            prefix: prefix.to_owned(),
            outbox: Outbox::new(OUTBOX_MAX),
            flight: Flight::default(),
            given_up: 0,
            alerts: Gate::default(),
            heartbeats: Gate::default(),
        }
    }

    /// The client of the connection for alerts, once, when that is not the observing one and has come up.
    pub fn lend(&mut self) -> Option<Client> {
        self.road.lend()
    }

    /// Takes events to be delivered.
    pub fn queue(&mut self, events: impl IntoIterator<Item = Outgoing>) {
        for event in events {
            self.outbox.push(event);
        }
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
                self.storing.end();
                self.alerts.shut = None;
                self.heartbeats.shut = None;
            }
            LinkEvent::PermissionDenied { operation: Operation::Publish, subject } => self.refused(subject),
            LinkEvent::Disconnected
            | LinkEvent::PermissionDenied { .. }
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
        if let (Road::Shared(client), Mode::Core) = (&self.road, self.mode) {
            let generation = generation(client);
            self.confirm(generation, answered);
        }
    }

    fn confirm(&mut self, generation: u64, answered: bool) {
        if self.flight.settle(generation, answered) > 0 {
            self.alerts.in_doubt = false;
        }
    }

    /// Publishes what waits, and the heartbeat. Takes a second at most; what is left stays in order.
    pub async fn deliver(&mut self, heartbeat: Option<Heartbeat>) {
        for news in self.road.news() {
            self.heed(&news);
        }
        let Some(client) = self.road.client().await else { return };
        let generation = generation(&client);
        self.flight.settle(generation, false);
        self.flight.generation = generation;
        if timeout(DELIVERY_MAX, self.send(&client, heartbeat)).await.is_ok() {
            return;
        }
        match self.mode {
            Mode::Core => {
                tracing::debug!(waiting = self.waiting(), "the connection does not take the events")
            }
            Mode::JetStream => {
                self.storing.failed(self.clock.now(), store::SILENCE, store::NO_STREAM);
            }
        }
    }

    async fn send(&mut self, client: &Client, heartbeat: Option<Heartbeat>) {
        // The sign of life waits for no stream.
        if let Some(heartbeat) = heartbeat
            && self.heartbeats.is_open(self.clock.now())
        {
            self.send_heartbeat(client, heartbeat).await;
        }
        if self.alerts.is_open(self.clock.now()) {
            match self.mode {
                Mode::Core => self.send_alerts(client).await,
                Mode::JetStream => self.store_alerts(client).await,
            }
        }
        if let Err(error) = client.flush().await {
            tracing::debug!(%error, "the connection could not be flushed");
        }
        if self.mode == Mode::Core && !self.road.is_shared() && self.is_unsure() {
            self.fence(client).await;
        }
    }

    async fn send_alerts(&mut self, client: &Client) {
        let at_once = if self.alerts.in_doubt { 1 } else { FLIGHT_MAX };
        while self.flight.published < at_once
            && let Some(next) = self.flight.next(&mut self.outbox)
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

    /// On a connection of their own no epoch tells what has arrived.
    async fn fence(&mut self, client: &Client) {
        let before = generation(client);
        match client.request(FENCE, "".into()).await {
            Ok(_) => {
                // A refusal comes before the answer, but by another way.
                tokio::task::yield_now().await;
                for news in self.road.news() {
                    self.heed(&news);
                }
                self.confirm(before, generation(client) == before);
            }
            Err(error) => tracing::debug!(%error, "whether the events have arrived is not known"),
        }
    }

    /// Stores what waits: one event of each incident at a time, so that their order stays.
    async fn store_alerts(&mut self, client: &Client) {
        while self.storing.is_over(self.clock.now()) {
            let batch = self.flight.batch(&mut self.outbox);
            if batch.is_empty() {
                return;
            }
            let storing = batch.iter().map(|(_, event)| async move {
                match serde_json::to_vec(&event.event) {
                    Ok(payload) => store(client, &event.subject, headers_of(event), payload).await,
                    Err(error) => Stored::Never(error.to_string()),
                }
            });
            let stored = join_all(storing).await;
            let outcomes = batch.iter().map(|(at, _)| *at).zip(stored).collect();
            self.take_outcomes(outcomes);
        }
    }

    fn take_outcomes(&mut self, outcomes: Vec<(usize, Stored)>) {
        let mut trouble = None;
        // From the back, so that the places of those before stay.
        for (at, stored) in outcomes.into_iter().rev() {
            match stored {
                Stored::Done => drop(self.flight.events.remove(at)),
                Stored::NotYet { reason, hint } => trouble = Some((reason, hint)),
                Stored::Never(error) => {
                    tracing::error!(error, "an alert event cannot be stored");
                    self.flight.events.remove(at);
                    self.given_up += 1;
                }
            }
        }
        match trouble {
            Some((reason, hint)) => self.storing.failed(self.clock.now(), &reason, hint),
            None => self.storing.succeeded(),
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
}

/// Counts the connections that this client has had.
fn generation(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Whether a kind of subject may be published to.
#[derive(Debug, Default)]
struct Gate {
    shut: Option<Stamp>,
    /// It was refused, and nothing has got through since: one event at a time is tried.
    in_doubt: bool,
    said: bool,
}

impl Gate {
    fn is_open(&mut self, now: Stamp) -> bool {
        if self.shut.is_some_and(|shut| now.since(shut) < REFUSED_AGAIN) {
            return false;
        }
        self.shut = None;
        true
    }
}

/// The events that have left the outbox and are not confirmed.
#[derive(Debug, Default)]
struct Flight {
    events: VecDeque<Outgoing>,
    /// So many of them, from the front, were published on the present connection.
    published: usize,
    generation: u64,
}

impl Flight {
    /// On another connection nothing counts as published; an answer confirms what was.
    /// Gives how many were confirmed.
    fn settle(&mut self, generation: u64, answered: bool) -> usize {
        let confirmed = if answered && generation == self.generation { self.published } else { 0 };
        if answered || generation != self.generation {
            self.published = 0;
        }
        self.events.drain(..confirmed);
        confirmed
    }

    /// The event to publish next, from the outbox when none is left here.
    fn next(&mut self, outbox: &mut Outbox) -> Option<&Outgoing> {
        if self.published >= self.events.len() && self.events.len() < FLIGHT_MAX {
            self.events.push_back(outbox.take()?);
        }
        self.events.get(self.published)
    }

    /// The events that may be stored at once: the oldest of each incident, and where it is. A copy: an answer may come
    /// after this is dropped.
    fn batch(&mut self, outbox: &mut Outbox) -> Vec<(usize, Outgoing)> {
        while self.events.len() < STORED_AT_ONCE
            && let Some(next) = outbox.take()
        {
            self.events.push_back(next);
        }
        let mut incidents = BTreeSet::new();
        let oldest = |(_, event): &(usize, &Outgoing)| incidents.insert(event.event.incident.clone());
        self.events.iter().enumerate().filter(oldest).map(|(at, event)| (at, event.clone())).collect()
    }

    /// The event to publish next can never be.
    fn give_up(&mut self) {
        self.events.remove(self.published);
    }
}

enum Sent {
    Done,
    NotNow,
    Never(String),
}

async fn publish(client: &Client, outgoing: &Outgoing) -> Sent {
    let payload = match serde_json::to_vec(&outgoing.event) {
        Ok(payload) => payload,
        Err(error) => return Sent::Never(error.to_string()),
    };
    match client.publish_with_headers(outgoing.subject.clone(), headers_of(outgoing), payload.into()).await {
        Ok(()) => Sent::Done,
        Err(error) => match error.kind() {
            PublishErrorKind::Send => Sent::NotNow,
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                Sent::Never(error.to_string())
            }
        },
    }
}

fn headers_of(outgoing: &Outgoing) -> HeaderMap {
    header_map(outgoing.headers.iter().map(|(name, value)| (*name, value.as_str())))
}

/// A value that no header may have is left out: the event itself matters more.
fn header_map<'a>(headers: impl IntoIterator<Item = (&'static str, &'a str)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        match HeaderValue::from_str(value) {
            Ok(value) => map.insert(name, value),
            Err(error) => tracing::debug!(%error, name, "a header was left out"),
        }
    }
    map
}

#[cfg(test)]
mod tests;
