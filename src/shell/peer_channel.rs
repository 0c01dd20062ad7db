//! Carries the messages of the watchers to each other: `<prefix>.watcher.<instance>`, on the observing connection.
//!
//! Three tasks of its own, so that none waits for another: one hears, one repeats the latest message at a steady pace,
//! one sends what is to be told at once. The repetition falls silent when the daemon does no longer move: the others
//! then take it for gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::company::Word;
use crate::daemon::Wake;
use crate::name::subject_token;
use crate::shell::clock::Clock;
use crate::stamp::Stamp;

/// Messages that may wait for the daemon. More are dropped and counted: the next ones say the same.
const WAITING_MAX: usize = 1_024;
/// Of that, the room for own messages that come back: the lease depends on them, whoever floods the subject.
const OWN_ROOM: usize = 64;
/// So many messages are taken at once.
const BATCH: usize = 64;
/// A longer message is none of ours.
const BYTES_MAX: usize = 1 << 20;
/// After so many repetitions without a move of the daemon, it is stuck: as long as its lease.
const STUCK_REPETITIONS: u32 = 3;
/// Telling the others takes this long at most.
const TELL_MAX: Duration = Duration::from_secs(2);
/// Batches that may wait to be told.
const BATCHES_MAX: usize = 4;

/// What is to be told at once.
#[derive(Debug)]
struct Batch {
    messages: Vec<Word>,
    /// Nothing is repeated after it.
    last: bool,
}

/// The way to the other watchers. Its tasks end with it.
#[derive(Debug)]
pub struct PeerChannel {
    heard: mpsc::Receiver<Word>,
    latest: watch::Sender<Option<(Word, Stamp)>>,
    batches: mpsc::Sender<Batch>,
    told: mpsc::Receiver<bool>,
    clock: Clock,
    refused: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl PeerChannel {
    /// Starts to listen. Messages are repeated at this pace.
    pub async fn start(client: Client, clock: Clock, prefix: &str, instance: &str, pace: Duration) -> Self {
        let subject = format!("{prefix}.watcher.{}", subject_token(instance));
        let messages = match client.subscribe(format!("{prefix}.watcher.*")).await {
            Ok(messages) => Some(messages),
            Err(error) => {
                tracing::error!(%error, "other watchers cannot be heard");
                None
            }
        };
        let (tell, heard) = mpsc::channel(WAITING_MAX);
        let (latest, repeated) = watch::channel(None);
        let (batches, ordered) = mpsc::channel(BATCHES_MAX);
        let (report, told) = mpsc::channel(BATCHES_MAX);
        let refused = Arc::new(AtomicU64::new(0));
        let sender = Sender { client, clock, subject };
        let mut tasks = JoinSet::new();
        if let Some(messages) = messages {
            let hearer = Hearer { instance: instance.to_owned(), tell, refused: refused.clone() };
            tasks.spawn(hearer.hear(messages));
        }
        tasks.spawn(sender.clone().repeat(repeated, pace));
        tasks.spawn(sender.tell(ordered, report, latest.clone()));
        Self { heard, latest, batches, told, clock, refused, _tasks: tasks }
    }

    /// What is heard next, or whether the oldest batch was sent. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Wake {
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            Some(told) = self.told.recv() => Wake::PeersTold(told),
            1.. = self.heard.recv_many(&mut messages, BATCH) => Wake::Peers(messages),
            // Nobody can be heard, and nothing was sent: never.
            else => std::future::pending().await,
        }
    }

    /// How many messages on the subjects of the watchers could not be read or had no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The message to be sent from now on.
    pub fn repeat(&self, message: Word) {
        self.latest.send_replace(Some((message, self.clock.now())));
    }

    /// Sends messages at once; [`Self::next`] tells whether that was possible. False when too many wait. After the
    /// `last` ones nothing is repeated.
    pub fn tell(&self, messages: Vec<Word>, last: bool) -> bool {
        self.batches.try_send(Batch { messages, last }).is_ok()
    }
}

/// Hears the other watchers.
struct Hearer {
    instance: String,
    tell: mpsc::Sender<Word>,
    refused: Arc<AtomicU64>,
}

impl Hearer {
    async fn hear(self, mut messages: Subscriber) {
        while let Some(message) = messages.next().await {
            let payload = &message.payload;
            let read = (payload.len() <= BYTES_MAX).then(|| serde_json::from_slice::<Word>(payload).ok());
            let taken = read.flatten().is_some_and(|word| {
                let has_room = self.tell.capacity() > OWN_ROOM || word.instance == self.instance;
                has_room && self.tell.try_send(word).is_ok()
            });
            if !taken {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Speaks to the other watchers.
#[derive(Clone)]
struct Sender {
    client: Client,
    clock: Clock,
    subject: String,
}

impl Sender {
    /// Repeats the latest message, as long as the daemon moves.
    async fn repeat(self, latest: watch::Receiver<Option<(Word, Stamp)>>, pace: Duration) {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let latest = latest.borrow().clone();
            let now = self.clock.now();
            if let Some((message, since)) = latest
                && now.since(since) < pace * STUCK_REPETITIONS
            {
                self.send(&Word { sent_ns: now.steady_ns(), ..message }).await;
            }
        }
    }

    async fn tell(
        self,
        mut batches: mpsc::Receiver<Batch>,
        report: mpsc::Sender<bool>,
        latest: watch::Sender<Option<(Word, Stamp)>>,
    ) {
        while let Some(Batch { messages, last }) = batches.recv().await {
            if last {
                latest.send_replace(None);
            }
            let telling = async {
                for message in &messages {
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
    async fn send(&self, message: &Word) -> bool {
        if self.client.connection_state() != State::Connected {
            return false;
        }
        match serde_json::to_vec(message) {
            Ok(bytes) => self.client.publish(self.subject.clone(), bytes.into()).await.is_ok(),
            Err(error) => {
                tracing::error!(%error, "a message to the other watchers cannot be written");
                false
            }
        }
    }
}
