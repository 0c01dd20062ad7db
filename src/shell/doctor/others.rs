//! Listens for other watchers, while everything else is looked at.

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use tokio::time::{Instant, timeout_at};

use crate::doctor::watchers::Watchers;

/// So many messages are heard in all.
const HEARD_MAX: usize = 10_000;

/// The ears for other watchers.
pub(super) struct Others {
    subscribers: SelectAll<Subscriber>,
    pub(super) watchers: Watchers,
}

impl Others {
    /// Listens on the connection that watches.
    pub(super) async fn listen(client: &Client, prefix: &str) -> Self {
        let words = client.subscribe(format!("{prefix}.watcher.*")).await;
        let mut others = Self { subscribers: select_all(words), watchers: Watchers::default() };
        others.listen_beside(client, prefix).await;
        others
    }

    /// Listens for heartbeats on this connection, too.
    pub(super) async fn listen_beside(&mut self, client: &Client, prefix: &str) {
        if let Ok(subscriber) = client.subscribe(format!("{prefix}.heartbeat")).await {
            self.subscribers.push(subscriber);
        }
    }

    /// Hears what has come, and what comes until then.
    pub(super) async fn hear_until(&mut self, until: Instant) {
        for _ in 0..HEARD_MAX {
            match timeout_at(until, self.subscribers.next()).await {
                Ok(Some(message)) => self.take(&message),
                Ok(None) | Err(_) => return,
            }
            if self.watchers.tell_enough() {
                return;
            }
        }
    }

    fn take(&mut self, message: &Message) {
        if message.subject.ends_with(".heartbeat") {
            self.watchers.heartbeat(&message.payload);
        } else {
            self.watchers.message(&message.payload);
        }
    }
}
