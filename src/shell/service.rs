//! The NATS micro service `metawatch`: anyone can ask what is seen, which alerts stand, and for a verdict now.
//!
//! It reads and never writes. Requests wait in a short queue for the watcher, which answers between two epochs; where
//! several watchers run, any one of them answers. **Invariant:** nothing that is asked makes metawatch publish
//! anywhere but to the inbox of who asked.

mod micro;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::subject::Subject;
use async_nats::{Client, Message, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::alert::AlertTable;
use crate::event::heartbeat::{ActiveIncident, Status, worst_first};
use crate::event::{Monitor, Snapshot};
use crate::pipeline::{Pipeline, Settings, Step};
use crate::report::CheckReport;
use crate::shell::clock::Clock;
use crate::shell::connect::{LinkEvent, Operation};
use micro::{Answer, Endpoint, Micro, PendingRequest, QUEUE, Refusal, Verb};

/// Requests that may wait, for the watcher and for an epoch; whoever asks more is told to come again.
const WAITING_MAX: usize = 64;
/// Answers that may wait for the connection: of everything that waited, and as many refusals.
const ANSWERS_MAX: usize = 4 * WAITING_MAX;
/// A request may carry so many bytes.
const BODY_MAX: usize = 1_024;
/// So many alerts fit into an answer; the rest is counted.
const ALERTS_MAX: usize = 1_000;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    /// The cluster view of the last epoch, as `metawatch view --format json` prints it.
    View,
    /// The alerts that stand.
    Alerts,
    /// A verdict of an epoch that is run for it, as `metawatch check --format json` prints it.
    Check,
}

const TOPICS: [(&str, Topic); 3] =
    [("view", Topic::View), ("alerts", Topic::Alerts), ("check", Topic::Check)];

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Request {
    topic: Topic,
    pending: PendingRequest,
    /// No answer may be larger.
    limit: usize,
    answers: mpsc::Sender<Answer>,
    refused: Arc<AtomicU64>,
}

/// The alerts that stand, as the service tells them.
#[derive(Debug, Serialize)]
struct Overview<'a> {
    v: u32,
    /// When the last epoch ended.
    timestamp: &'a str,
    status: Status,
    summary: &'a str,
    /// How many incidents are open.
    incidents: usize,
    alerts: Vec<ActiveIncident>,
    monitor: &'a Monitor,
}

/// The service on one connection. It ends with this, but for answers that are on their way.
#[derive(Debug, Default)]
pub struct Service {
    tasks: Vec<JoinHandle<()>>,
}

/// The waiting requests of all connections.
#[derive(Debug)]
pub struct Requests {
    ask: mpsc::Sender<Request>,
    asked: mpsc::Receiver<Request>,
    /// Requests for a verdict that wait for the end of an epoch.
    checks: Vec<Request>,
    /// What was answered since the last epoch: everyone gets the same, and however many wait, it is in memory once.
    answered: BTreeMap<Topic, Result<Bytes, Refusal>>,
    refused: Arc<AtomicU64>,
    clock: Clock,
    /// There will be no epoch.
    stands_by: bool,
    /// The connections of which it was said that the service is not offered there.
    denied: BTreeSet<&'static str>,
}

impl Requests {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        Self {
            ask,
            asked,
            checks: Vec::new(),
            answered: BTreeMap::new(),
            refused: Arc::default(),
            clock,
            stands_by: false,
            denied: BTreeSet::new(),
        }
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        match self.asked.recv().await {
            Some(asked) => asked,
            // It holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Answers what the last epoch tells. True when an epoch is to be run for the request, which then waits for its
    /// end; a flood of such takes no more room than a few.
    pub fn take(&mut self, asked: Request, last: Option<&Step>, pipeline: &Pipeline) -> bool {
        let answer = match (asked.topic, last) {
            _ if self.stands_by => refusal(503, STANDS_BY),
            (Topic::Check, _) if self.checks.len() < WAITING_MAX => {
                self.checks.push(asked);
                return true;
            }
            (Topic::Check, _) => refusal(429, BUSY),
            (Topic::View | Topic::Alerts, None) => {
                refusal(503, "no epoch has ended yet; ask again in a second")
            }
            (topic, Some(step)) => {
                let written = || match topic {
                    Topic::Alerts => written(&overview(step, pipeline)),
                    Topic::View | Topic::Check => {
                        written(&Snapshot::new(&step.view, &step.findings, &step.heartbeat.monitor))
                    }
                };
                self.answered.entry(topic).or_insert_with(written).clone()
            }
        };
        asked.respond(answer);
        false
    }

    /// Answers everyone who waited for an epoch, all with one verdict.
    pub fn epoch_ended(&mut self, step: &Step, epochs: u64, alerts: &AlertTable) {
        self.answered.clear();
        if self.checks.is_empty() {
            return;
        }
        let verdict = written(&CheckReport::new(step, epochs, alerts));
        for asked in self.checks.drain(..) {
            asked.respond(verdict.clone());
        }
    }

    /// Whether this watcher stands by while others look at the servers: whoever waits for an epoch is told so.
    pub fn stand_by(&mut self, stands_by: bool) {
        self.stands_by = stands_by;
        if stands_by {
            self.checks.drain(..).for_each(|asked| asked.respond(refusal(503, STANDS_BY)));
        }
    }

    /// Takes what happened to a connection, in words: whether the service may be offered there.
    pub fn hear_of(&mut self, news: &LinkEvent, connection: &'static str, prefix: &str) {
        let LinkEvent::PermissionDenied { operation: Operation::Subscribe, subject } = news else { return };
        let own = subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let ours = subject.starts_with("$SRV.") || TOPICS.iter().any(|(name, _)| own == Some(name));
        if ours && self.denied.insert(connection) {
            let hint = format!(
                "let the user subscribe to \"$SRV.>\", \"{prefix}.view\", \"{prefix}.alerts\" and \"{prefix}.check\", \
                 and publish to the inboxes of who asks (allow_responses)"
            );
            tracing::warn!(subject, hint, "the micro service is not offered as a whole on {connection}");
        }
    }

    /// How many requests were not answered as they were meant.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Offers the service on this connection.
    pub async fn serve(&self, client: Client, settings: &Settings) -> Result<Service, SubscribeError> {
        let Settings { monitor, prefix, .. } = settings;
        let mut service = Service::default();
        let policy =
            ReplyPolicy { client: client.clone(), own: format!("{prefix}."), refused: self.refused.clone() };
        let (answers, outgoing) = mpsc::channel(ANSWERS_MAX);
        // It ends by itself, once the last answer is out.
        tokio::spawn(micro::deliver(policy.clone(), self.clock, outgoing));
        let mut endpoints = Vec::new();
        for (name, topic) in TOPICS {
            let endpoint = Arc::new(Endpoint::new(name, prefix));
            endpoints.push(endpoint.clone());
            let requests = client.queue_subscribe(endpoint.subject.clone(), QUEUE.to_owned()).await?;
            let door = EndpointTask {
                topic,
                endpoint,
                policy: policy.clone(),
                clock: self.clock,
                ask: self.ask.clone(),
                answers: answers.clone(),
            };
            service.tasks.push(tokio::spawn(door.open(requests)));
        }
        // An inbox ends with a token that nobody else has.
        let inbox = client.new_inbox();
        let id = inbox.rsplit('.').next().unwrap_or(&inbox).to_owned();
        let micro = Arc::new(Micro::new(id, monitor, self.clock.now(), endpoints));
        for verb in Verb::ALL {
            for subject in verb.subjects(&micro.id) {
                let asked = client.subscribe(subject).await?;
                service.tasks.push(tokio::spawn(micro.clone().tell(verb, asked, policy.clone())));
            }
        }
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// One connection, and who may be answered on it.
#[derive(Clone, Debug)]
struct ReplyPolicy {
    client: Client,
    /// The subjects of metawatch begin so.
    own: String,
    refused: Arc<AtomicU64>,
}

impl ReplyPolicy {
    /// Where the answer to `message` goes. Nowhere, which is counted, when it wants none or wants it where it may not
    /// go.
    fn reply_of(&self, message: &Message) -> Option<Subject> {
        let reply = message.reply.clone().filter(|reply| may_answer(reply, &self.own));
        if reply.is_none() {
            self.count_refused();
        }
        reply
    }

    fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an answer can go there: never to the servers, to JetStream, to other services or to our own subjects.
fn may_answer(reply: &str, own: &str) -> bool {
    !reply.starts_with('$') && !reply.starts_with(own)
}

/// Whether a request may carry this. It is ignored: some clients send `{}` where others send nothing.
fn may_carry(body: &[u8]) -> bool {
    let is_object = || serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).is_ok();
    body.len() <= BODY_MAX && (body.trim_ascii().is_empty() || is_object())
}

/// Lets requests of one kind in.
struct EndpointTask {
    topic: Topic,
    endpoint: Arc<Endpoint>,
    policy: ReplyPolicy,
    clock: Clock,
    ask: mpsc::Sender<Request>,
    answers: mpsc::Sender<Answer>,
}

const STANDS_BY: &str = "this watcher stands by for others that look at the servers; ask again";
const BUSY: &str = "too many requests wait; ask again in a second";

impl EndpointTask {
    async fn open(self, mut requests: Subscriber) {
        while let Some(message) = requests.next().await {
            let Some(reply) = self.policy.reply_of(&message) else { continue };
            let span =
                tracing::debug_span!("request", subject = self.endpoint.subject, reply = reply.as_str());
            let (endpoint, came) = (self.endpoint.clone(), self.clock.now());
            let asked = Request {
                topic: self.topic,
                pending: PendingRequest { reply, endpoint, came, span },
                limit: self.policy.client.server_info().max_payload,
                answers: self.answers.clone(),
                refused: self.policy.refused.clone(),
            };
            if !may_carry(&message.payload) {
                asked.respond(refusal(400, "a request carries nothing, or a small JSON object"));
            } else if let Err(error) = self.ask.try_send(asked) {
                error.into_inner().respond(refusal(429, BUSY));
            }
        }
    }
}

impl Request {
    fn respond(self, answer: Result<Bytes, Refusal>) {
        let answer = answer.and_then(|body| match body.len() {
            size if size > self.limit => {
                refusal(507, &format!("the answer has {size} bytes, and the server takes {}", self.limit))
            }
            _ => Ok(body),
        });
        let span = self.pending.span.clone();
        let _request = span.enter();
        let mut failed = answer.is_err();
        if self.answers.try_send((self.pending, answer)).is_err() {
            tracing::debug!("the connection takes no more answers");
            failed = true;
        }
        self.refused.fetch_add(failed.into(), Ordering::Relaxed);
    }
}

fn refusal(code: u16, why: &str) -> Result<Bytes, Refusal> {
    Err(Refusal { code, why: why.to_owned() })
}

fn written(answer: &impl Serialize) -> Result<Bytes, Refusal> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| Refusal { code: 500, why: error.to_string() })
}

fn overview<'a>(step: &'a Step, pipeline: &Pipeline) -> Overview<'a> {
    let heartbeat = &step.heartbeat;
    let alerts = worst_first(pipeline.alert_table());
    Overview {
        v: 1,
        timestamp: &heartbeat.timestamp,
        status: heartbeat.status,
        summary: &heartbeat.summary,
        incidents: alerts.len(),
        alerts: alerts.into_iter().take(ALERTS_MAX).map(ActiveIncident::of).collect(),
        monitor: &heartbeat.monitor,
    }
}

#[cfg(test)]
mod tests;
