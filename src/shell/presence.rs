//! Carries the words of the watchers to each other: `<prefix>.watcher.<instance>`, on the observing connection.
//!
//! A task of its own sends the latest word at a steady pace, so that a long epoch makes nobody believe that this
//! watcher is gone. It falls silent when the watcher itself does no longer move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::company::Word;
use crate::name::subject_token;
use crate::shell::clock::Clock;
use crate::stamp::Stamp;

/// Words that may wait for the watcher. More are dropped: the next ones say the same.
const WAITING_MAX: usize = 1_024;
/// A longer message is no word.
const BYTES_MAX: usize = 1 << 20;
/// A watcher that has not moved for so long is stuck, and no longer there for the others.
const STUCK: Duration = Duration::from_secs(15);
/// Telling the others delays nothing by more than this.
const SAY_MAX: Duration = Duration::from_millis(250);

/// The way to the other watchers.
#[derive(Debug)]
pub struct Presence {
    client: Client,
    clock: Clock,
    subject: String,
    heard: mpsc::Receiver<Word>,
    latest: watch::Sender<Option<(Word, Stamp)>>,
    unreadable: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Presence {
    /// Starts to listen, and to tell what [`Self::repeat`] is given.
    pub async fn new(client: Client, clock: Clock, prefix: &str, instance: &str, pace: Duration) -> Self {
        let subject = format!("{prefix}.watcher.{}", subject_token(instance));
        let words = match client.subscribe(format!("{prefix}.watcher.*")).await {
            Ok(words) => Some(words),
            Err(error) => {
                tracing::error!(%error, "other watchers cannot be heard");
                None
            }
        };
        let (tell, heard) = mpsc::channel(WAITING_MAX);
        let (latest, repeated) = watch::channel(None);
        let unreadable = Arc::new(AtomicU64::new(0));
        let carrier = Carrier {
            client: client.clone(),
            clock,
            subject: subject.clone(),
            tell,
            repeated,
            unreadable: unreadable.clone(),
        };
        let task = tokio::spawn(carrier.carry(words, pace));
        Self { client, clock, subject, heard, latest, unreadable, task }
    }

    /// The next word that is there, without waiting.
    pub fn ready(&mut self) -> Option<Word> {
        self.heard.try_recv().ok()
    }

    /// The next word.
    pub async fn next(&mut self) -> Word {
        match self.heard.recv().await {
            Some(word) => word,
            // Nobody can be heard: never.
            None => std::future::pending().await,
        }
    }

    /// How many messages on the subjects of the watchers were no words.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// The word to be sent from now on.
    pub fn repeat(&self, word: Word) {
        self.latest.send_replace(Some((word, self.clock.now())));
    }

    /// Whether there is a connection to say anything on.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends words at once, and sees them off. Whether that was possible.
    pub async fn say(&self, words: Vec<Word>) -> bool {
        let saying = async {
            for word in words {
                say(&self.client, &self.subject, &word).await;
            }
            if let Err(error) = self.client.flush().await {
                tracing::debug!(%error, "the words to the other watchers could not be flushed");
            }
        };
        let said = timeout(SAY_MAX, saying).await.is_ok();
        if !said {
            tracing::debug!("the connection does not take the words to the other watchers");
        }
        said && self.is_connected()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task works with.
struct Carrier {
    client: Client,
    clock: Clock,
    subject: String,
    tell: mpsc::Sender<Word>,
    repeated: watch::Receiver<Option<(Word, Stamp)>>,
    unreadable: Arc<AtomicU64>,
}

impl Carrier {
    async fn carry(self, mut words: Option<Subscriber>, pace: Duration) {
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let incoming = async {
                match &mut words {
                    Some(words) => words.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = ticks.tick() => self.repeat().await,
                message = incoming => match message {
                    Some(message) => self.take(&message.payload),
                    None => words = None,
                },
            }
        }
    }

    fn take(&self, payload: &[u8]) {
        let word = if payload.len() > BYTES_MAX { None } else { serde_json::from_slice(payload).ok() };
        match word {
            // A full channel drops it.
            Some(word) => {
                self.tell.try_send(word).ok();
            }
            None => {
                self.unreadable.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn repeat(&self) {
        let latest = self.repeated.borrow().clone();
        let now = self.clock.now();
        if let Some((word, since)) = latest
            && now.since(since) < STUCK
        {
            say(&self.client, &self.subject, &Word { sent_ns: now.steady_ns(), ..word }).await;
        }
    }
}

async fn say(client: &Client, subject: &str, word: &Word) {
    // What is said while there is no connection would be heard much too late.
    if client.connection_state() != State::Connected {
        return;
    }
    match serde_json::to_vec(word) {
        Ok(bytes) => {
            if let Err(error) = client.publish(subject.to_owned(), bytes.into()).await {
                tracing::debug!(%error, "a word to the other watchers was not sent");
            }
        }
        Err(error) => tracing::error!(%error, "a word to the other watchers cannot be written"),
    }
}
