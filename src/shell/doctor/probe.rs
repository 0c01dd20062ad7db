//! Tries what a user may do on a connection, and tells what came of it. Every wait has an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::doctor::Operation;
use crate::doctor::judge::{Reach, reached};
use crate::doctor::rights::{Tried, knows_traces, trace_only};
use crate::doctor::user_info::{USER_INFO, UserInfo};
use crate::shell::clock::Clock;
use crate::shell::connect::{Link, LinkEvent};
use crate::shell::publish::header_map;
use crate::stamp::Stamp;

/// Nothing is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where no answer can arrive, a refusal is waited for this long.
const DEAF_PATIENCE: Duration = Duration::from_millis(500);
/// After the last of several answers, more are waited for this long at least.
const QUIET: Duration = Duration::from_millis(300);
/// What the server said before an answer may come by another way a little later.
const AFTERWARDS: Duration = Duration::from_millis(30);
/// So many answers to one question are taken.
const ANSWERS_MAX: usize = 10_000;

/// How many answers there will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    One,
    /// Of everybody: until no more come.
    All,
}

/// An answer: its payload, and when it was here.
pub(super) type Answer = (Vec<u8>, Stamp);

/// What came of one question.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) asked: Option<Stamp>,
    pub(super) came: Vec<Answer>,
    /// Nobody is there to answer (503).
    pub(super) nobody: bool,
    pub(super) refused: bool,
}

impl Answers {
    fn is_over(&self) -> bool {
        self.nobody || self.refused || self.came.len() >= ANSWERS_MAX
    }

    /// What came of the trial.
    pub(super) fn tried(&self) -> Tried {
        match self.came.len() {
            _ if self.refused => Tried::Refused,
            0 if self.nobody => Tried::NobodyThere,
            0 => Tried::Silence,
            count => Tried::Answered(count),
        }
    }
}

/// One connection whose rights are tried.
#[derive(Debug)]
pub(super) struct Probe {
    link: Link,
    clock: Clock,
    inbox: String,
    /// Where undelivered messages are reported to; `None` where there is no such place, unset before it was looked for.
    destination: Option<Option<String>>,
    answers: Option<Subscriber>,
    number: u64,
    refused: BTreeSet<(Operation, String)>,
    heard: BTreeMap<u64, Answers>,
    reports: Vec<Vec<u8>>,
    patience: Duration,
}

impl Probe {
    pub(super) async fn new(link: Link, clock: Clock) -> Self {
        let inbox = link.client.new_inbox();
        let answers = link.client.subscribe(format!("{inbox}.*")).await.ok();
        let (heard, refused) = (BTreeMap::new(), BTreeSet::new());
        let mut probe = Self {
            link,
            clock,
            inbox,
            destination: None,
            answers,
            number: 0,
            refused,
            heard,
            reports: Vec::new(),
            patience: PATIENCE,
        };
        probe.barrier().await;
        probe
    }

    pub(super) fn client(&self) -> &Client {
        &self.link.client
    }

    /// Asks, and waits for the answers.
    pub(super) async fn ask(&mut self, subject: &str, payload: &str, wanted: Wanted) -> Answers {
        let number = self.send(subject, payload, &[]).await;
        let until = self.until(self.patience);
        let mut quiet_at = until;
        loop {
            let refused = self.refused.contains(&(Operation::Publish, subject.to_owned()));
            let heard = self.heard.entry(number).or_default();
            heard.refused |= refused;
            if heard.is_over() || (wanted == Wanted::One && !heard.came.is_empty()) {
                break;
            }
            let before = heard.came.len();
            if !self.hear(quiet_at).await {
                break;
            }
            let heard = self.heard.entry(number).or_default();
            if heard.came.len() > before
                && let Some(asked) = heard.asked
            {
                let quiet = self.clock.now().since(asked).max(QUIET);
                quiet_at = self.until(quiet).min(until);
            }
        }
        self.heard.remove(&number).unwrap_or_default()
    }

    /// Subscribes to each of these, and tells which of them the server refused.
    pub(super) async fn subscribe(&mut self, subjects: impl Iterator<Item = String>) -> BTreeSet<String> {
        let mut subscribers = Vec::new();
        for subject in subjects {
            subscribers.push(self.link.client.subscribe(subject).await);
        }
        self.barrier().await;
        let refused = self.refused.iter().filter(|(operation, _)| *operation == Operation::Subscribe);
        refused.map(|(_, subject)| subject.clone()).collect()
    }

    /// Tries to publish what no server delivers, and tells whom it would have reached.
    pub(super) async fn publish_undelivered(
        &mut self,
        subject: &str,
        prefix: &str,
        info: Option<&UserInfo>,
    ) -> (Tried, Reach) {
        let told = |why| match info {
            Some(info) if info.may(Operation::Publish, subject) => Tried::Granted,
            Some(_) => Tried::Refused,
            None => Tried::NotTried(why),
        };
        if !knows_traces(&self.link.client.server_info().version) {
            return (told("servers before 2.11 would deliver a trial"), Reach::TooOld);
        }
        let candidates = match &self.destination {
            Some(known) => known.iter().cloned().collect(),
            None => self.destinations(prefix, info),
        };
        for destination in candidates {
            let number = self.send(subject, "", &trace_only(&destination)).await;
            self.barrier().await;
            let refused = |subject: &str| (Operation::Publish, subject.to_owned());
            if self.refused.contains(&refused(&destination)) {
                continue;
            }
            let reports_to_us = destination.starts_with(&self.inbox);
            self.destination = Some(Some(destination));
            let heard = self.heard.remove(&number).unwrap_or_default();
            if self.refused.contains(&refused(subject)) {
                return (Tried::Refused, Reach::Unknown("this user may not publish it"));
            }
            if heard.nobody {
                return (Tried::Granted, Reach::Nobody);
            }
            return (Tried::Granted, self.reach(reports_to_us).await);
        }
        self.destination = Some(None);
        let why = "this user has no subject that nobody hears, to try it with";
        (told(why), Reach::Unknown(why))
    }

    /// Where the report on an undelivered message may go, the best first: to us, else where nobody hears it. A server does
    /// nothing with a request that has no place for its answer (nats-server 2.11 to 2.15, `server/events.go`).
    fn destinations(&self, prefix: &str, info: Option<&UserInfo>) -> Vec<String> {
        let own = format!("{prefix}.doctor.{}", self.inbox.rsplit('.').next().unwrap_or_default());
        let mut all = vec![format!("{}.trace", self.inbox), own];
        all.extend(info.map(|_| USER_INFO.to_owned()));
        all.push(super::PING_JSZ.to_owned());
        all
    }

    /// Whom the servers report to have reached, where their reports come to us.
    async fn reach(&mut self, reports_to_us: bool) -> Reach {
        if !reports_to_us {
            return Reach::Somebody(BTreeSet::new());
        }
        let until = self.until(QUIET);
        while self.hear(until).await {}
        let reports = std::mem::take(&mut self.reports);
        let who: BTreeSet<String> = reports.iter().flat_map(|report| reached(report)).collect();
        // A server that does not know who is behind a gateway sends on the chance that somebody is.
        if who.is_empty() && !reports.is_empty() { Reach::Nobody } else { Reach::Somebody(who) }
    }

    async fn send(&mut self, subject: &str, payload: &str, headers: &[(&'static str, String)]) -> u64 {
        self.number += 1;
        let reply = format!("{}.{}", self.inbox, self.number);
        let asked = Some(self.clock.now());
        self.heard.insert(self.number, Answers { asked, ..Answers::default() });
        let (client, subject, payload) = (&self.link.client, subject.to_owned(), payload.to_owned().into());
        let sent = if headers.is_empty() {
            client.publish_with_reply(subject, reply, payload).await
        } else {
            let headers = header_map(headers.iter().map(|(name, value)| (*name, value.as_str())));
            client.publish_with_reply_and_headers(subject, reply, headers, payload).await
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a question could not be sent");
        }
        self.number
    }

    /// Waits until the server has said everything about what was sent before. It answers what comes over one
    /// connection in order, if only by "nobody answers that" or by a refusal.
    async fn barrier(&mut self) {
        let subject = format!("{USER_INFO}.doctor.{}", self.number + 1);
        let number = self.send(&subject, "", &[]).await;
        let until = self.until(self.patience);
        let key = (Operation::Publish, subject);
        while !self.refused.contains(&key) && !self.heard.get(&number).is_some_and(Answers::is_over) {
            if !self.hear(until).await {
                break;
            }
        }
        let until = self.until(AFTERWARDS);
        while self.hear(until).await {}
        self.heard.remove(&number);
    }

    /// Takes what comes next; false when nothing came until then.
    async fn hear(&mut self, until: Instant) -> bool {
        enum Came {
            Event(LinkEvent),
            Message(Message),
        }
        let Self { link, answers, .. } = self;
        let next = async {
            tokio::select! {
                biased;
                Some(event) = link.events.recv() => Came::Event(event),
                Some(message) = next_of(answers) => Came::Message(message),
                else => std::future::pending().await,
            }
        };
        match timeout_at(until, next).await {
            Ok(Came::Event(LinkEvent::PermissionDenied { operation, subject })) => {
                if operation == Operation::Subscribe && subject.starts_with(&self.inbox) {
                    self.patience = DEAF_PATIENCE;
                }
                self.refused.insert((operation, subject));
                true
            }
            Ok(Came::Event(_)) => true,
            Ok(Came::Message(message)) => {
                self.take(&message);
                true
            }
            Err(_) => false,
        }
    }

    fn take(&mut self, message: &Message) {
        let Some(token) = message.subject.rsplit('.').next() else { return };
        if token == "trace" {
            self.reports.push(message.payload.to_vec());
            return;
        }
        let now = self.clock.now();
        let Some(heard) = token.parse().ok().and_then(|number: u64| self.heard.get_mut(&number)) else {
            return;
        };
        match message.status {
            Some(StatusCode::NO_RESPONDERS) => heard.nobody = true,
            Some(_) => {}
            None => heard.came.push((message.payload.to_vec(), now)),
        }
    }

    fn until(&self, duration: Duration) -> Instant {
        self.clock.instant(self.clock.now().plus(duration))
    }
}

async fn next_of(subscriber: &mut Option<Subscriber>) -> Option<Message> {
    match subscriber {
        Some(subscriber) => subscriber.next().await,
        None => std::future::pending().await,
    }
}
