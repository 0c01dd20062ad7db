//! The protocol of NATS micro services: who is there, what it offers, and how often it was asked.
//!
//! It is spoken here and not left to the client library. That answers wherever a request wants, the servers' own
//! subjects included, where `allow_responses` would lend our rights to whoever asks; and it falls silent for good at
//! the first answer that cannot be sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::subject::Subject;
use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;

use super::ReplyPolicy;
use crate::event::Monitor;
use crate::shell::clock::Clock;
use crate::stamp::Stamp;

/// The name of the service.
const NAME: &str = "metawatch";
const DESCRIPTION: &str = "Watches the JetStream meta group: view, alerts, check";
/// Where several watchers run, one of this group answers.
pub(super) const QUEUE: &str = "q";

/// What anyone may ask a service of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Who is there?
    Ping,
    /// What is offered?
    Info,
    /// How often was it asked?
    Stats,
}

impl Verb {
    pub(super) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    fn kind(self) -> &'static str {
        match self {
            Self::Ping => "io.nats.micro.v1.ping_response",
            Self::Info => "io.nats.micro.v1.info_response",
            Self::Stats => "io.nats.micro.v1.stats_response",
        }
    }

    fn token(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }

    /// Where it is asked: of all services, of all with our name, and of us alone.
    pub(super) fn subjects(self, id: &str) -> [String; 3] {
        let verb = self.token();
        [format!("$SRV.{verb}"), format!("$SRV.{verb}.{NAME}"), format!("$SRV.{verb}.{NAME}.{id}")]
    }
}

/// One service on one connection.
#[derive(Debug)]
pub(super) struct Micro {
    pub(super) id: String,
    version: String,
    /// Which watcher it is.
    metadata: BTreeMap<&'static str, String>,
    started: String,
    endpoints: Vec<Arc<Endpoint>>,
}

/// Something that can be asked, and what is counted of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    name: &'static str,
    pub(super) subject: String,
    stats: Mutex<EndpointStats>,
}

#[derive(Debug, Default)]
struct EndpointStats {
    requests: u64,
    errors: u64,
    last_error: String,
    nanoseconds: u64,
}

/// A request that is to be answered.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) reply: Subject,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) came: Stamp,
    /// What is told of it belongs to it.
    pub(super) span: tracing::Span,
}

/// Why a request gets an error for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) why: String,
}

/// What is answered.
pub(super) type Answer = (PendingRequest, Result<Bytes, Refusal>);

#[derive(Serialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    id: &'a str,
    version: &'a str,
    metadata: &'a BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<SaidEndpoint<'a>>>,
}

#[derive(Serialize)]
struct SaidEndpoint<'a> {
    name: &'static str,
    subject: &'a str,
    queue_group: &'static str,
    #[serde(flatten)]
    numbers: Option<Numbers>,
}

#[derive(Serialize)]
struct Numbers {
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

impl Micro {
    /// A service of this watcher. `id` tells it from the others.
    pub(super) fn new(id: String, monitor: &Monitor, started: Stamp, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let metadata =
            BTreeMap::from([("name", monitor.name.clone()), ("instance", monitor.instance.clone())]);
        let version = monitor.version.clone();
        Self { id, version, metadata, started: started.to_string(), endpoints }
    }

    fn say(&self, verb: Verb) -> Said<'_> {
        let endpoints = self.endpoints.iter().map(|known| SaidEndpoint {
            name: known.name,
            subject: &known.subject,
            queue_group: QUEUE,
            numbers: (verb == Verb::Stats).then(|| known.numbers()),
        });
        Said {
            kind: verb.kind(),
            name: NAME,
            id: &self.id,
            version: &self.version,
            metadata: &self.metadata,
            description: (verb == Verb::Info).then_some(DESCRIPTION),
            started: (verb == Verb::Stats).then_some(&self.started),
            endpoints: (verb != Verb::Ping).then(|| endpoints.collect()),
        }
    }

    /// What is answered to `verb`.
    pub(super) fn answer(&self, verb: Verb) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.say(verb))
    }

    /// Answers whoever asks `verb`, for as long as the subscription lives.
    pub(super) async fn tell(self: Arc<Self>, verb: Verb, mut asked: Subscriber, policy: ReplyPolicy) {
        while let Some(message) = asked.next().await {
            let Some(reply) = policy.reply_of(&message) else { continue };
            let answered = match self.answer(verb) {
                Ok(body) => {
                    policy.client.publish(reply, body.into()).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = answered {
                tracing::debug!(error, verb = verb.token(), "a question to the service was not answered");
                policy.count_refused();
            }
        }
    }
}

impl Endpoint {
    pub(super) fn new(name: &'static str, prefix: &str) -> Self {
        Self { name, subject: format!("{prefix}.{name}"), stats: Mutex::default() }
    }

    pub(super) fn count(&self, answer: &Result<Bytes, Refusal>, took: Duration) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.requests += 1;
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        stats.nanoseconds = stats.nanoseconds.saturating_add(took);
        if let Err(Refusal { code, why }) = answer {
            stats.errors += 1;
            stats.last_error = format!("{code}:{why}");
        }
    }

    fn numbers(&self) -> Numbers {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        Numbers {
            num_requests: stats.requests,
            num_errors: stats.errors,
            last_error: stats.last_error.clone(),
            processing_time: stats.nanoseconds,
            average_processing_time: stats.nanoseconds.checked_div(stats.requests).unwrap_or(0),
        }
    }
}

/// Sends answers: the watcher itself waits for no connection.
pub(super) async fn deliver(policy: ReplyPolicy, clock: Clock, mut answers: mpsc::Receiver<Answer>) {
    let client = &policy.client;
    while let Some((pending, answer)) = answers.recv().await {
        pending.endpoint.count(&answer, clock.now().since(pending.came));
        let span = pending.span;
        let sent = match answer {
            Ok(body) => client.publish(pending.reply, body).await,
            Err(Refusal { code, why }) => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Service-Error", why.as_str());
                headers.insert("Nats-Service-Error-Code", code.to_string().as_str());
                client.publish_with_headers(pending.reply, headers, "".into()).await
            }
        };
        if let Err(error) = sent {
            tracing::debug!(parent: &span, %error, "a request to the service was not answered");
            policy.count_refused();
        }
    }
}
