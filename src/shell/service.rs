//! The NATS micro service `metawatch`: anyone can ask what is seen, which alerts stand, and for a verdict now.
//!
//! It reads and never writes. Requests wait in a short queue for the watcher, which answers between two epochs; where
//! several watchers run, any one of them answers. **Invariant:** nothing that is asked makes metawatch publish
//! anywhere but to the inbox of who asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use async_nats::service::error::Error;
use async_nats::service::{Request, Service as Micro, ServiceExt};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::event::heartbeat::ActiveIncident;
use crate::event::{Monitor, Snapshot};
use crate::pipeline::{Pipeline, Step};
use crate::shell::connect::{LinkEvent, Operation};
use crate::shell::verdict::Judgement;

/// The name of the service.
const NAME: &str = "metawatch";
/// Requests that may wait; whoever asks more is told to come again.
const WAITING_MAX: usize = 64;
/// A request may carry this much, which is ignored: clients send `{}` or nothing.
const BODY_MAX: usize = 1_024;
/// So many alerts fit into an answer; the rest is counted.
const ALERTS_MAX: usize = 1_000;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
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
pub struct Asked {
    /// What is asked.
    pub topic: Topic,
    request: Request,
    limit: usize,
}

/// The alerts that stand, as the service tells them.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    v: u32,
    /// When the last epoch ended.
    timestamp: &'a str,
    status: crate::event::heartbeat::Status,
    summary: &'a str,
    /// How many incidents are open.
    incidents: usize,
    alerts: Vec<ActiveIncident>,
    monitor: &'a Monitor,
}

/// The service on one connection. It ends with this.
#[derive(Debug)]
pub struct Service {
    _micro: Micro,
    tasks: Vec<JoinHandle<()>>,
}

/// The waiting requests of all connections.
#[derive(Debug)]
pub struct Requests {
    ask: mpsc::Sender<Asked>,
    asked: mpsc::Receiver<Asked>,
    refused: Arc<AtomicU64>,
    denied: bool,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        Self { ask, asked, refused: Arc::default(), denied: false }
    }

    /// The next request.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // It holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Takes what happened to the observing connection: whether the service may be offered there.
    pub fn hear_of(&mut self, news: &LinkEvent, prefix: &str) {
        let LinkEvent::PermissionDenied { operation: Operation::Subscribe, subject } = news else { return };
        let own = subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let ours = subject.starts_with("$SRV.") || TOPICS.iter().any(|(name, _)| own == Some(name));
        if ours && !std::mem::replace(&mut self.denied, true) {
            let hint = format!(
                "let the user subscribe to \"$SRV.>\", \"{prefix}.view\", \"{prefix}.alerts\" and \"{prefix}.check\", \
                 and publish to the inboxes of who asks (allow_responses)"
            );
            tracing::warn!(subject, hint, "nobody can ask this watcher (the micro service is not offered)");
        }
    }

    /// How many requests were not answered as they were meant.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Offers the service on this connection.
    pub async fn serve(
        &self,
        client: Client,
        prefix: &str,
        version: &str,
    ) -> Result<Service, async_nats::Error> {
        let description = "Watches the JetStream meta group: view, alerts, check";
        let micro = client.service_builder().description(description).start(NAME, version).await?;
        let mut tasks = Vec::new();
        for (name, topic) in TOPICS {
            let endpoint = micro.endpoint_builder().name(name).add(format!("{prefix}.{name}")).await?;
            let door = Door {
                topic,
                client: client.clone(),
                ask: self.ask.clone(),
                refused: self.refused.clone(),
                own: format!("{prefix}."),
            };
            tasks.push(tokio::spawn(door.open(endpoint)));
        }
        Ok(Service { _micro: micro, tasks })
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Lets requests of one kind in.
struct Door {
    topic: Topic,
    client: Client,
    ask: mpsc::Sender<Asked>,
    refused: Arc<AtomicU64>,
    /// Nobody is answered here.
    own: String,
}

impl Door {
    async fn open(self, mut requests: impl StreamExt<Item = Request> + Unpin) {
        while let Some(request) = requests.next().await {
            if !self.may_answer(&request) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if request.message.payload.len() > BODY_MAX {
                self.refuse(&request, 400, "a request carries nothing").await;
                continue;
            }
            let limit = self.client.server_info().max_payload;
            let asked = Asked { topic: self.topic, request, limit };
            if let Err(error) = self.ask.try_send(asked) {
                let (mpsc::error::TrySendError::Full(asked) | mpsc::error::TrySendError::Closed(asked)) =
                    error;
                self.refuse(&asked.request, 429, "too many requests wait; ask again in a second").await;
            }
        }
    }

    /// Whether an answer can go where it is wanted: never to the servers, to JetStream or to our own subjects.
    fn may_answer(&self, request: &Request) -> bool {
        let reply = request.message.reply.as_deref();
        reply.is_some_and(|reply| {
            !reply.starts_with("$SYS.") && !reply.starts_with("$JS.") && !reply.starts_with(&self.own)
        })
    }

    async fn refuse(&self, request: &Request, code: usize, why: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        respond(request, Err(Error { status: why.to_owned(), code })).await;
    }
}

impl Asked {
    /// Answers from the last epoch; one that has ended since the request, for a verdict.
    pub async fn answer(self, step: Option<&Step>, pipeline: &Pipeline, epochs: u64) {
        let unavailable =
            || Error { status: "no epoch has ended yet; ask again in a second".into(), code: 503 };
        let body = step.ok_or_else(unavailable).and_then(|step| {
            let written = match self.topic {
                Topic::View => {
                    serde_json::to_vec(&Snapshot::new(&step.view, &step.findings, &step.heartbeat.monitor))
                }
                Topic::Alerts => serde_json::to_vec(&standing(step, pipeline)),
                Topic::Check => serde_json::to_vec(&Judgement::new(step, epochs)),
            };
            written.map_err(|error| Error { status: error.to_string(), code: 500 })
        });
        let body = body.and_then(|body| {
            if body.len() <= self.limit {
                return Ok(body);
            }
            let status = format!("the answer has {} bytes, and the server takes {}", body.len(), self.limit);
            Err(Error { status, code: 507 })
        });
        respond(&self.request, body).await;
    }
}

fn standing<'a>(step: &'a Step, pipeline: &Pipeline) -> Standing<'a> {
    let heartbeat = &step.heartbeat;
    let active = || pipeline.book().active();
    Standing {
        v: 1,
        timestamp: &heartbeat.timestamp,
        status: heartbeat.status,
        summary: &heartbeat.summary,
        incidents: active().count(),
        alerts: active().take(ALERTS_MAX).map(ActiveIncident::of).collect(),
        monitor: &heartbeat.monitor,
    }
}

async fn respond(request: &Request, response: Result<Vec<u8>, Error>) {
    if let Err(error) = request.respond(response.map(Into::into)).await {
        tracing::debug!(%error, "a request to the service was not answered");
    }
}
