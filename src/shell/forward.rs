//! Hears alerts and heartbeats and posts them where [`crate::forward`] says, each post in a task of its own.

mod receiver;
mod saver;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::event::{AlertEvent, Heartbeat};
use crate::forward::answer::Answer;
use crate::forward::{Forward, ForwardRules, ReceiverKind};
use crate::name::printable;
use crate::shell::clock::Clock;
use crate::shell::config::{ConnectConfig, Env, Secret};
use crate::shell::connect::{Link, Retry, connect};
use crate::shell::daemon::log;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::listen::{overdue, read, refused, subscribe};
use crate::shell::state_file::StateLocation;
use receiver::{Header, Receiver, trust};
use saver::Saver;

/// What is left when it is told to stop may take so long ...
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// ... and the state file so much longer.
const SAVE_MAX: Duration = Duration::from_secs(3);

/// Where alerts are posted to.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// First part of the subjects.
    pub prefix: String,
    /// What is passed on.
    pub rules: ForwardRules,
    /// Addresses of Alertmanagers, or where they are kept.
    pub alertmanagers: Vec<Secret>,
    /// Addresses of webhooks, or where they are kept.
    pub webhooks: Vec<Secret>,
    /// What Alertmanagers are sent along: `Name: value`.
    pub alertmanager_headers: Vec<Secret>,
    /// What webhooks are sent along.
    pub webhook_headers: Vec<Secret>,
    /// Authorities to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Where what has not arrived is kept; `None` for the usual place.
    pub state: Option<StateLocation>,
}

/// Forwards until `shutdown` is ready. It waits for a connection, for as long as it takes.
///
/// # Errors
///
/// No receiver or a wrong one is given, the state file that is named cannot be used, or the user may not subscribe to
/// alerts.
pub async fn forward(
    config: &ConnectConfig,
    options: ForwardOptions,
    around: &Env,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(shutdown);
    let receivers = receivers(&options, around)?;
    let clock = Clock::new();
    let names: Vec<_> = receivers.iter().map(|(kind, receiver)| (*kind, receiver.name.clone())).collect();
    let usual = || {
        let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        StateLocation::usual_of_forward(around, config, &options.prefix, &names)
    };
    let (saver, held) = Saver::open(&options.state.clone().unwrap_or_else(usual))?;
    let mut forward = Forward::new(names, options.rules.clone(), clock.now());
    if let Some(held) = held {
        forward.restore(held, clock.now()).iter().for_each(log);
    }
    let receivers = receivers.into_iter().map(|(_, receiver)| Arc::new(receiver)).collect();
    let mut driver = Driver { forward, receivers, clock, saver, posts: JoinSet::new() };
    // Also without a connection it is told that nobody can be heard.
    let link = tokio::select! {
        biased;
        () = &mut shutdown => {
            driver.leave().await;
            return Ok(());
        }
        link = connect(config, Retry::Forever) => link?,
        never = driver.forever() => match never {},
    };
    let Link { client, mut events, .. } = link;
    let (alerts_on, heartbeats_on) =
        (format!("{}.alert.>", options.prefix), format!("{}.heartbeat", options.prefix));
    let mut alerts = subscribe(&client, &alerts_on).await?;
    let mut heartbeats = subscribe(&client, &heartbeats_on).await?;
    let server = client.server_info().server_name;
    for receiver in &driver.receivers {
        tracing::info!(subject = alerts_on, server, "forwarding to {}", receiver.name);
    }
    let mut deaf = false;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(event) = events.recv() => refused(&event, &alerts_on, &heartbeats_on, &mut deaf)?,
            () = driver.hear(&mut alerts, &mut heartbeats) => {}
        }
    }
    driver.leave().await;
    Ok(())
}

fn receivers(options: &ForwardOptions, around: &Env) -> Result<Vec<(ReceiverKind, Receiver)>, Failure> {
    let tls = trust(options.tls_ca.as_deref())?;
    let headers = |flag: &str, given: &[Secret]| -> Result<Vec<Header>, Failure> {
        given.iter().map(|text| Header::parse(flag, text, around)).collect()
    };
    let mut receivers = Vec::new();
    for (kind, addresses, flag, given) in [
        (
            ReceiverKind::Alertmanager,
            &options.alertmanagers,
            "--alertmanager-header",
            &options.alertmanager_headers,
        ),
        (ReceiverKind::Webhook, &options.webhooks, "--webhook-header", &options.webhook_headers),
    ] {
        for address in addresses {
            let headers = headers(flag, given)?;
            receivers.push((kind, Receiver::parse(kind, address, headers, &tls, around)?));
        }
    }
    if receivers.is_empty() {
        let hint = "give --alertmanager http://HOST:9093, or --webhook https://HOST/PATH, or several of both";
        return Err(Failure::new(FailureKind::Config, "there is nobody to forward to", hint));
    }
    Ok(receivers)
}

/// The state machine, and what carries out its posts.
struct Driver {
    forward: Forward,
    receivers: Vec<Arc<Receiver>>,
    clock: Clock,
    saver: Saver,
    posts: JoinSet<(usize, Answer)>,
}

/// Nothing is ever this.
enum Never {}

impl Driver {
    /// Does what is due, without anything being heard.
    async fn forever(&mut self) -> Never {
        loop {
            self.step(std::future::pending::<()>()).await;
        }
    }

    /// Does what is due, and takes what is heard next. Nothing is lost when the future is dropped.
    async fn hear(&mut self, alerts: &mut Subscriber, heartbeats: &mut Subscriber) {
        enum Came {
            Alert(async_nats::Message),
            Heartbeat(async_nats::Message),
        }
        let next = async {
            tokio::select! {
                biased;
                Some(message) = alerts.next() => Came::Alert(message),
                Some(message) = heartbeats.next() => Came::Heartbeat(message),
                else => std::future::pending().await,
            }
        };
        let Some(came) = self.step(next).await else { return };
        let now = self.clock.now();
        let (Came::Alert(message) | Came::Heartbeat(message)) = &came;
        let unreadable = |detail: String| {
            tracing::warn!(subject = %printable(&message.subject), detail, "this is no message of metawatch");
            Vec::new()
        };
        let lines = match &came {
            Came::Alert(message) => {
                match (read::<AlertEvent>(&message.payload), str::from_utf8(&message.payload)) {
                    (Ok(event), Ok(raw)) => self.forward.event(&event, raw, now),
                    (Err(detail), _) => unreadable(detail),
                    (_, Err(error)) => unreadable(error.to_string()),
                }
            }
            Came::Heartbeat(message) => match read::<Heartbeat>(&message.payload) {
                Ok(heartbeat) => self.forward.heartbeat(&heartbeat, now),
                Err(detail) => unreadable(detail),
            },
        };
        lines.iter().for_each(log);
    }

    /// Does what is due, then waits for the first of: what comes, an answer, a time.
    async fn step<T>(&mut self, next: impl Future<Output = T>) -> Option<T> {
        let now = self.clock.now();
        self.forward.wake(now).iter().for_each(log);
        while let Some(post) = self.forward.next(now) {
            let Some(receiver) = self.receivers.get(post.receiver).cloned() else { continue };
            self.posts.spawn(async move {
                let answer = receiver.post(post.key.as_deref(), post.body).await;
                (post.receiver, answer)
            });
        }
        self.saver.save(&self.forward, &self.clock);
        let wakes = [self.forward.next_wake(now), self.saver.next_at(&self.forward, now)];
        let until =
            wakes.into_iter().flatten().min_by_key(|at| at.steady_ns()).map(|at| self.clock.instant(at));
        tokio::select! {
            biased;
            Some(done) = self.posts.join_next() => {
                if let Ok((receiver, answer)) = done {
                    self.forward.done(receiver, &answer, self.clock.now()).iter().for_each(log);
                }
                None
            }
            next = next => Some(next),
            () = overdue(until) => None,
        }
    }

    /// Posts what is left, as far as that is possible in time.
    async fn leave(mut self) {
        let posting = async {
            while !self.forward.is_idle(self.clock.now()) {
                self.step(std::future::pending::<()>()).await;
            }
        };
        if timeout(LEAVE_MAX, posting).await.is_err() {
            tracing::warn!(waiting = self.forward.waiting(), "stopped before every alert had arrived");
        }
        if timeout(SAVE_MAX, self.saver.finish(&self.forward, &self.clock)).await.is_err() {
            tracing::error!("stopped before the state file was written");
        }
    }
}
