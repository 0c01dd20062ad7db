//! Carries events and heartbeats to a server, in a task of its own, and reports what became of them.
//!
//! It decides nothing: what is published when, and what an answer means, is the dispatcher's part
//! ([`crate::daemon::Dispatcher`]). In core mode an event has surely arrived when the server has answered a request
//! that was sent after it on the same connection: a server takes what comes over one connection in order. On the
//! observing connection that is any request of a later epoch, on one of its own a `barrier`. In JetStream mode it is
//! when a stream has acknowledged it.

mod alert_connection;
mod barrier;
mod jetstream;
mod message;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout, timeout_at};
use tracing::{Instrument, Span};

pub use crate::daemon::Mode;
use crate::daemon::{AlertLink, DeliveryReport, LossKind, Order, Published, Stored};
use crate::event::{Heartbeat, Outgoing};
use crate::name::printable;
use crate::outbox::Dispatched;
use crate::shell::clock::Clock;
use crate::shell::connect::{LinkEvent, Operation};
pub use alert_connection::AlertConnection;
use barrier::{Answer, Barrier};
pub(super) use message::header_map;
use message::{Sent, publish};

/// Orders that may wait: heartbeats beyond it are left out, everything else is limited by who gives them.
const ORDERS_MAX: usize = 2_048;
/// Handing over to the client takes this long at most.
const HANDING_MAX: Duration = Duration::from_secs(1);
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What the publisher tells.
#[derive(Debug)]
pub enum PublisherReport {
    /// What the daemon is to know.
    Delivery(DeliveryReport),
    /// The client of a connection of our own, once, when it has come up.
    Client(Client),
    /// Something that a connection of our own may not hear.
    News(LinkEvent),
}

/// The way to the task that publishes. The task ends with it.
#[derive(Debug)]
pub struct Publisher {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    lost: Arc<Lost>,
}

/// What was lost since the start.
#[derive(Debug, Default)]
struct Lost {
    heartbeats: AtomicU64,
    connection_events: AtomicU64,
}

impl Publisher {
    /// Starts a publisher to `<prefix>.alert.…` and `<prefix>.heartbeat`.
    pub fn start(
        connection: AlertConnection,
        clock: Clock,
        prefix: &str,
        reports: mpsc::Sender<PublisherReport>,
    ) -> Self {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let lost = Arc::new(Lost::default());
        let task = Task {
            connection,
            clock,
            prefix: prefix.to_owned(),
            reports,
            barrier: Barrier::default(),
            storing: JoinSet::new(),
            known: AlertLink::default(),
            heard_of: 0,
            stood: 0,
            said_deaf: false,
            lost: lost.clone(),
        };
        Self { orders, task: tokio::spawn(task.run(ordered)), lost }
    }

    /// Takes an order. Gives the report that tells of its failure when the task takes no more.
    pub fn order(&self, order: Order) -> Option<DeliveryReport> {
        let error = self.orders.try_send(order).err()?;
        tracing::debug!("the publisher takes no more orders");
        match error.into_inner() {
            Order::Publish { batch, generation, confirm: false } => {
                let not_taken = batch.iter().map(|event| event.place).collect();
                Some(DeliveryReport::Published(Published { generation, not_taken, ..Published::default() }))
            }
            Order::Publish { generation, .. } | Order::Confirm { generation } => {
                Some(DeliveryReport::Confirmed { generation, passed: false })
            }
            Order::Store { event, generation } => {
                let (reason, hint) = ("the connection takes no more".to_owned(), "");
                let outcome = Stored::NotYet { reason, hint, refused: false };
                Some(DeliveryReport::Stored { place: event.place, generation, outcome })
            }
            Order::Heartbeat(_) => {
                self.lost.heartbeats.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Heartbeats that could not be sent, and what a connection of our own had to tell beyond what was kept.
    pub fn lost(&self) -> [(LossKind, u64); 2] {
        let Lost { heartbeats, connection_events } = &*self.lost;
        let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [(LossKind::Heartbeats, total(heartbeats)), (LossKind::ConnectionEvents, total(connection_events))]
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task works with.
struct Task {
    connection: AlertConnection,
    clock: Clock,
    prefix: String,
    reports: mpsc::Sender<PublisherReport>,
    barrier: Barrier,
    /// The requests to streams that are under way.
    storing: JoinSet<(u64, u64, Stored)>,
    /// The connection as it was reported last.
    known: AlertLink,
    /// The connection of our own that was heard to come up: what is still heard of an earlier one is not taken for
    /// news of this.
    heard_of: u64,
    /// The connection that there was at the last look.
    stood: u64,
    said_deaf: bool,
    lost: Arc<Lost>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.report_link().await;
            tokio::select! {
                // Of what came together, a refusal was said before the answer.
                biased;
                news = self.connection.news() => self.heed(&news).await,
                Some(Ok((place, generation, outcome))) = self.storing.join_next() => {
                    self.report(DeliveryReport::Stored { place, generation, outcome }).await;
                }
                (generation, passed) = self.barrier.passed() => {
                    let passed = passed && generation == self.connection.generation();
                    self.report(DeliveryReport::Confirmed { generation, passed }).await;
                }
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => return,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    async fn report(&self, report: DeliveryReport) {
        // Without a daemon there is nobody to tell.
        self.reports.send(PublisherReport::Delivery(report)).await.ok();
    }

    /// The client may drop its word of a new connection in a flood of others: what has stood for a while counts.
    async fn look(&mut self) {
        let generation = self.connection.generation();
        let stands = std::mem::replace(&mut self.stood, generation) == generation;
        if stands && !self.connection.is_shared() && self.heard_of != generation {
            self.heed(&LinkEvent::Connected).await;
        }
        self.lost.connection_events.store(self.connection.dropped(), Ordering::Relaxed);
        if let Some(client) = self.connection.lend() {
            self.reports.send(PublisherReport::Client(client)).await.ok();
        }
    }

    async fn report_link(&mut self) {
        let client = self.connection.client();
        let generation = self.connection.generation();
        let heard = self.connection.is_shared() || self.heard_of == generation;
        let max_payload =
            client.as_ref().map_or(self.known.max_payload, |client| client.server_info().max_payload);
        let link = AlertLink { generation, up: client.is_some() && heard, max_payload };
        if link != self.known {
            self.known = link;
            self.report(DeliveryReport::Link(link)).await;
        }
    }

    /// Takes what happened to a connection of our own.
    async fn heed(&mut self, news: &LinkEvent) {
        match news {
            LinkEvent::Connected => {
                self.heard_of = self.connection.generation();
                self.storing = JoinSet::new();
                self.barrier.take_down();
            }
            LinkEvent::PermissionDenied { operation: Operation::Publish, subject } => {
                let generation = self.connection.generation();
                match self.barrier.take_refusal(subject) {
                    Answer::Passed => {
                        self.report(DeliveryReport::Confirmed { generation, passed: true }).await
                    }
                    Answer::Asked { news } => {
                        if news {
                            tell_unconfirmed();
                        }
                        self.report(DeliveryReport::Confirmed { generation, passed: false }).await;
                    }
                    Answer::Other => {
                        if subject.starts_with(&format!("{}.alert.", self.prefix)) {
                            self.barrier.take_down();
                        }
                        self.report(DeliveryReport::Refused { subject: subject.clone() }).await;
                    }
                }
            }
            LinkEvent::PermissionDenied { operation: Operation::Subscribe, subject } => {
                self.deaf(subject);
                self.reports.send(PublisherReport::News(news.clone())).await.ok();
            }
            LinkEvent::Disconnected
            | LinkEvent::SlowConsumer
            | LinkEvent::AuthorizationViolation
            | LinkEvent::LameDuck
            | LinkEvent::Closed
            | LinkEvent::Error(_) => {}
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Publish { batch, generation, confirm } => self.publish(batch, generation, confirm).await,
            Order::Confirm { generation } => self.confirm(generation).await,
            Order::Store { event, generation } => self.store(*event, generation).await,
            Order::Heartbeat(heartbeat) => self.send_heartbeat(&heartbeat).await,
        }
    }

    /// The client, while its connection is still this one.
    fn client_of(&self, generation: u64) -> Option<Client> {
        self.connection.client().filter(|_| self.connection.generation() == generation)
    }

    async fn publish(&mut self, batch: Vec<Dispatched>, generation: u64, confirm: bool) {
        let mut published = Published { generation, ..Published::default() };
        let deadline = self.clock.instant(self.clock.now()) + HANDING_MAX;
        let mut client = self.client_of(generation);
        for Dispatched { place, outgoing } in batch {
            let Some(taking) = &client else {
                published.not_taken.push(place);
                continue;
            };
            let span = span_of(&outgoing);
            match timeout_at(deadline, publish(taking, &outgoing)).instrument(span.clone()).await {
                Ok(Sent::Done) => {
                    tracing::trace!(parent: &span, "handed to the client");
                    published.handed.push((place, self.clock.now()));
                    publish_critical(taking, &outgoing).instrument(span).await;
                }
                Ok(Sent::Never(why)) => published.impossible.push((place, why)),
                Ok(Sent::NotNow) | Err(_) => {
                    published.not_taken.push(place);
                    client = None;
                }
            }
        }
        let any = !published.handed.is_empty();
        self.report(DeliveryReport::Published(published)).await;
        if confirm && any {
            self.confirm(generation).await;
        } else if confirm {
            self.report(DeliveryReport::Confirmed { generation, passed: false }).await;
        } else if let Some(client) = client
            && !matches!(timeout_at(deadline, client.flush()).await, Ok(Ok(())))
        {
            tracing::debug!("the connection could not be flushed");
        }
    }

    async fn confirm(&mut self, generation: u64) {
        match self.client_of(generation) {
            Some(client) => self.barrier.put(client, generation),
            None => self.report(DeliveryReport::Confirmed { generation, passed: false }).await,
        }
    }

    async fn store(&mut self, event: Dispatched, generation: u64) {
        let Dispatched { place, outgoing } = event;
        match self.client_of(generation) {
            Some(client) => {
                let span = span_of(&outgoing);
                publish_critical(&client, &outgoing).instrument(span.clone()).await;
                let store = async move { (place, generation, jetstream::store(&client, &outgoing).await) };
                self.storing.spawn(store.instrument(span));
            }
            None => {
                let reason = "there is no connection".to_owned();
                let outcome = Stored::NotYet { reason, hint: "", refused: false };
                self.report(DeliveryReport::Stored { place, generation, outcome }).await;
            }
        }
    }

    async fn send_heartbeat(&self, heartbeat: &Heartbeat) {
        let Some(client) = self.connection.client() else {
            return self.lose_heartbeat("there is no connection");
        };
        let payload = match serde_json::to_vec(heartbeat) {
            Ok(payload) => payload,
            Err(error) => return self.lose_heartbeat(&error.to_string()),
        };
        let headers = header_map([
            ("Content-Type", "application/json"),
            ("Metawatch-Summary", printable(&heartbeat.summary).as_ref()),
        ]);
        let subject = format!("{}.heartbeat", self.prefix);
        match timeout(HANDING_MAX, client.publish_with_headers(subject, headers, payload.into())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.lose_heartbeat(&error.to_string()),
            Err(_) => self.lose_heartbeat("the connection does not take it"),
        }
    }

    fn lose_heartbeat(&self, reason: &str) {
        tracing::debug!(reason, "a heartbeat was not published");
        self.lost.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    /// The server keeps answers from us.
    fn deaf(&mut self, subject: &str) {
        let Some(inbox) = self.connection.inbox_prefix().filter(|inbox| subject.starts_with(inbox)) else {
            return;
        };
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

/// Publishes the copy of an event that is for those who want to hear of nothing less than critical. It is published as
/// often as the event itself, and what becomes of it is the event's: it goes after it over the same connection.
async fn publish_critical(client: &Client, outgoing: &Outgoing) {
    let Some(copy) = outgoing.critical_copy() else { return };
    match timeout(HANDING_MAX, publish(client, &copy)).await {
        Ok(Sent::Done) => {}
        Ok(Sent::NotNow) | Err(_) => tracing::debug!(subject = copy.subject, "the copy was not taken"),
        Ok(Sent::Never(why)) => {
            tracing::warn!(subject = copy.subject, why, "a critical alert is told on its usual subject only");
        }
    }
}

/// What is told while this event is published belongs to it.
fn span_of(outgoing: &Outgoing) -> Span {
    tracing::debug_span!("publish", event = outgoing.event.id, subject = outgoing.subject)
}

fn tell_unconfirmed() {
    let hint = format!("add \"{}\" to what the user may publish", barrier::SUBJECT);
    tracing::warn!(hint, "alerts arrive, but the server notes a violation in its log each time");
}
