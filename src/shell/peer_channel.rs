//! Carries the messages of the watchers to each other, on the observing connection: `<prefix>.watcher.all` for all of
//! them, `<prefix>.watcher.<instance>` for those that hear all subjects ([`crate::election`]).
//!
//! Tasks of its own, so that none waits for another: one hears, one says what is to be said now, one sends states, one
//! hears heartbeats where those go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::Wake;
use crate::election::{Audience, MESSAGE_VERSION, PeerMessage};
use crate::name::{printable, subject_token};
use crate::shell::clock::Clock;

/// Messages that may wait for the daemon. More are dropped and counted: the next ones say the same.
const WAITING_MAX: usize = 1_024;
/// Of that, the room for own messages that come back: the lease depends on them, whoever floods the subject.
const OWN_ROOM: usize = 64;
/// So many messages are taken at once.
const BATCH: usize = 64;
/// A longer message is none of ours.
const BYTES_MAX: usize = 1 << 20;
/// Heartbeats and strange messages that may wait.
const NEWS_MAX: usize = 64;
/// Sending takes this long at most.
const TELL_MAX: Duration = Duration::from_secs(2);
/// Batches that may wait to be sent.
const BATCHES_MAX: usize = 4;
/// The longest name of a server that is told to others.
const SERVER_MAX: usize = 128;

/// The way to the other watchers. Its tasks end with it.
#[derive(Debug)]
pub struct PeerChannel {
    heard: mpsc::Receiver<PeerMessage>,
    news: mpsc::Receiver<Wake>,
    tell_news: mpsc::Sender<Wake>,
    hears_all: watch::Sender<bool>,
    latest: watch::Sender<Option<PeerMessage>>,
    batches: mpsc::Sender<Vec<PeerMessage>>,
    told: mpsc::Receiver<bool>,
    refused: Arc<AtomicU64>,
    heartbeats: String,
    tasks: JoinSet<()>,
}

impl PeerChannel {
    /// Starts to listen, to the active watcher and to oneself at first.
    pub async fn start(client: Client, clock: Clock, prefix: &str, instance: &str) -> Self {
        let subjects = Subjects {
            every: format!("{prefix}.watcher.*"),
            all: format!("{prefix}.watcher.all"),
            own: format!("{prefix}.watcher.{}", subject_token(instance)),
        };
        let (tell, heard) = mpsc::channel(WAITING_MAX);
        let (tell_news, news) = mpsc::channel(NEWS_MAX);
        let (hears_all, wanted) = watch::channel(false);
        let (latest, said) = watch::channel(None);
        let (batches, ordered) = mpsc::channel(BATCHES_MAX);
        let (report, told) = mpsc::channel(BATCHES_MAX);
        let refused = Arc::new(AtomicU64::new(0));
        let hearer = Hearer {
            client: client.clone(),
            subjects: subjects.clone(),
            instance: instance.to_owned(),
            tell,
            news: tell_news.clone(),
            refused: refused.clone(),
        };
        let sender = Sender { client, clock, subjects };
        let mut tasks = JoinSet::new();
        // What is sent first is to come back: the server is to know of the subscription before.
        let subscribed = hearer.subscribe(false).await;
        tasks.spawn(hearer.hear(subscribed, wanted));
        tasks.spawn(sender.clone().say(said));
        tasks.spawn(sender.tell(ordered, report));
        let heartbeats = format!("{prefix}.heartbeat");
        Self { heard, news, tell_news, hears_all, latest, batches, told, refused, heartbeats, tasks }
    }

    /// Hears the heartbeats on this connection, too.
    pub fn hear_heartbeats(&mut self, client: Client) {
        let (subject, news) = (self.heartbeats.clone(), self.tell_news.clone());
        self.tasks.spawn(async move {
            match client.subscribe(subject).await {
                Ok(mut heartbeats) => {
                    while let Some(message) = heartbeats.next().await {
                        if let Some(instance) = instance_of(&message) {
                            // One more or less is nothing.
                            news.try_send(Wake::Heartbeat(instance)).ok();
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "heartbeats cannot be heard"),
            }
        });
    }

    /// What is heard next, or whether the oldest batch was sent. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Wake {
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            Some(told) = self.told.recv() => Wake::PeersTold(told),
            Some(news) = self.news.recv() => news,
            1.. = self.heard.recv_many(&mut messages, BATCH) => Wake::Peers(messages),
            // Nobody can be heard, and nothing was sent: never.
            else => std::future::pending().await,
        }
    }

    /// How many messages on the subjects of the watchers could not be read or had no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Hears the subjects of all watchers from now on, or only the one for all and its own.
    pub fn hear_all(&self, all: bool) {
        self.hears_all.send_replace(all);
    }

    /// Says this now, in place of what could not be said before.
    pub fn say(&self, message: PeerMessage) {
        self.latest.send_replace(Some(message));
    }

    /// Sends messages now; [`Self::next`] tells whether that was possible. False when too many wait.
    pub fn tell(&self, messages: Vec<PeerMessage>) -> bool {
        self.batches.try_send(messages).is_ok()
    }
}

/// Who sent a heartbeat.
fn instance_of(message: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct Monitor {
        instance: String,
    }
    #[derive(Deserialize)]
    struct Heartbeat {
        monitor: Monitor,
    }
    let short = message.payload.len() <= BYTES_MAX;
    let heartbeat = short.then(|| serde_json::from_slice::<Heartbeat>(&message.payload).ok());
    heartbeat.flatten().map(|heartbeat| heartbeat.monitor.instance)
}

#[derive(Clone, Debug)]
struct Subjects {
    /// Those of all watchers.
    every: String,
    all: String,
    own: String,
}

/// What is heard of the subjects of the watchers.
enum Subscribed {
    Every(Subscriber),
    Few { all: Subscriber, own: Subscriber },
}

impl Subscribed {
    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Every(every) => every.next().await,
            // In the order in which the server sent them, as far as that matters: what the others said before an own
            // message comes before it.
            Self::Few { all, own } => tokio::select! {
                biased;
                message = all.next() => message,
                message = own.next() => message,
            },
        }
    }
}

/// Hears the other watchers.
struct Hearer {
    client: Client,
    subjects: Subjects,
    instance: String,
    tell: mpsc::Sender<PeerMessage>,
    news: mpsc::Sender<Wake>,
    refused: Arc<AtomicU64>,
}

impl Hearer {
    async fn subscribe(&self, every: bool) -> Result<Subscribed, SubscribeError> {
        let Subjects { every: subjects, all, own } = &self.subjects;
        Ok(if every {
            Subscribed::Every(self.client.subscribe(subjects.clone()).await?)
        } else {
            let all = self.client.subscribe(all.clone()).await?;
            Subscribed::Few { all, own: self.client.subscribe(own.clone()).await? }
        })
    }

    async fn hear(self, subscribed: Result<Subscribed, SubscribeError>, mut wanted: watch::Receiver<bool>) {
        let mut subscribed = subscribed;
        loop {
            let heard = match &mut subscribed {
                Ok(subscribed) => tokio::select! {
                    biased;
                    changed = wanted.changed() => match changed {
                        Ok(()) => None,
                        Err(_) => return,
                    },
                    message = subscribed.next() => match message {
                        Some(message) => Some(message),
                        None => return,
                    },
                },
                Err(error) => {
                    tracing::error!(%error, "other watchers cannot be heard");
                    return;
                }
            };
            match heard {
                Some(message) => self.take(&message),
                // The new subscription first: what comes by both is heard twice, which does no harm.
                None => {
                    let every = *wanted.borrow_and_update();
                    subscribed = self.subscribe(every).await;
                }
            }
        }
    }

    fn take(&self, message: &Message) {
        let payload = &message.payload;
        let read = (payload.len() <= BYTES_MAX).then(|| serde_json::from_slice::<PeerMessage>(payload).ok());
        let taken = match read.flatten() {
            Some(message) => {
                let has_room = self.tell.capacity() > OWN_ROOM || message.instance == self.instance;
                has_room && self.tell.try_send(message).is_ok()
            }
            None => {
                if let Some(name) = other_version(payload) {
                    self.news.try_send(Wake::OtherVersion(name)).ok();
                }
                false
            }
        };
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The name of a watcher whose messages are of another version.
fn other_version(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Other {
        v: u32,
        name: String,
        #[serde(rename = "instance")]
        _instance: String,
    }
    let other = serde_json::from_slice::<Other>(payload).ok()?;
    (other.v != MESSAGE_VERSION).then(|| printable(&other.name).into_owned())
}

/// Speaks to the other watchers.
#[derive(Clone)]
struct Sender {
    client: Client,
    clock: Clock,
    subjects: Subjects,
}

impl Sender {
    async fn say(self, mut latest: watch::Receiver<Option<PeerMessage>>) {
        while latest.changed().await.is_ok() {
            let message = latest.borrow_and_update().clone();
            if let Some(message) = message {
                self.send(message).await;
            }
        }
    }

    async fn tell(self, mut batches: mpsc::Receiver<Vec<PeerMessage>>, report: mpsc::Sender<bool>) {
        while let Some(messages) = batches.recv().await {
            let telling = async {
                for message in messages {
                    if !self.send(message).await {
                        return false;
                    }
                }
                self.client.flush().await.is_ok()
            };
            let told = timeout(TELL_MAX, telling).await.unwrap_or(false);
            if !told {
                tracing::debug!("the connection does not take the messages to the other watchers");
            }
            if report.send(told).await.is_err() {
                return;
            }
        }
    }

    /// Whether the client took it. What is said while there is no connection would be heard much too late.
    async fn send(&self, mut message: PeerMessage) -> bool {
        if self.client.connection_state() != State::Connected {
            return false;
        }
        let subject = match message.audience {
            Audience::All => &self.subjects.all,
            Audience::Electors => &self.subjects.own,
        };
        message.sent_ns = self.clock.now().steady_ns();
        message.server = self.client.server_info().server_name.chars().take(SERVER_MAX / 4).collect();
        match serde_json::to_vec(&message) {
            Ok(bytes) => self.client.publish(subject.clone(), bytes.into()).await.is_ok(),
            Err(error) => {
                tracing::error!(%error, "a message to the other watchers cannot be written");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As watchers of 0.1.0 sent them: joining, standing by, speaking, with and without a state.
    const OLD: &str = include_str!("../../tests/peers/0.1.0.ndjson");

    #[test]
    fn messages_of_watchers_of_0_1_0_are_known_for_what_they_are_and_none_is_taken_for_one_of_ours() {
        let named: Vec<Option<String>> = OLD.lines().map(|line| other_version(line.as_bytes())).collect();
        assert!(named.len() >= 4);
        for (line, name) in OLD.lines().zip(named) {
            assert!(name.is_some_and(|name| name.starts_with("watcher-")), "{line}");
            assert!(serde_json::from_str::<PeerMessage>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_no_message_of_any_watcher_is_none_of_another_version() {
        let ours = format!(r#"{{"v":{MESSAGE_VERSION},"instance":"a","name":"a"}}"#);
        for text in ["", "no JSON", "{}", r#"{"v":1}"#, r#"{"v":"1","instance":"a","name":"a"}"#, &ours] {
            assert_eq!(other_version(text.as_bytes()), None, "{text}");
        }
        let hostile = "{\"v\":9,\"instance\":\"a\",\"name\":\"\\u001b[31m\"}";
        assert_eq!(other_version(hostile.as_bytes()).as_deref(), Some("\\u{1b}[31m"));
    }
}
