//! How a connection that carries nothing but events tells that they have arrived.
//!
//! A server takes what comes over one connection in order. Whatever it says to a request therefore comes after the
//! events before that request were taken: an answer, "nobody answers this" (503), and just as well its refusal. So the
//! fence needs no right but to the inbox of an answer; without the right to ask, the server notes a violation in its
//! log each time.

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use tokio::task::JoinSet;

/// Every user of every account gets an answer to this, from the server it is connected to. Source: nats-server 2.10 to
/// 2.15, `server/events.go` (`userDirectReqSubj`).
pub(super) const SUBJECT: &str = "$SYS.REQ.USER.INFO";

/// A request behind the events, one at a time. It ends with this.
#[derive(Debug, Default)]
pub(super) struct Fence {
    asking: JoinSet<(u64, bool)>,
}

impl Fence {
    /// Whether an answer is awaited. What is published meanwhile would not be covered by it.
    pub(super) fn is_up(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Asks behind everything that was published on this connection, which is the `generation`th.
    pub(super) fn put(&mut self, client: Client, generation: u64) {
        self.asking.spawn(async move {
            let answered = match client.request(SUBJECT, "".into()).await {
                Ok(_) => true,
                Err(error) => error.kind() == RequestErrorKind::NoResponders,
            };
            // A refusal of an event comes before the answer, but by another way.
            tokio::task::yield_now().await;
            (generation, answered)
        });
    }

    /// The generation that was asked on, and whether an answer came in time; never, when nothing is asked.
    /// Nothing is lost when the future is dropped.
    pub(super) async fn passed(&mut self) -> (u64, bool) {
        while let Some(asked) = self.asking.join_next().await {
            if let Ok(passed) = asked {
                return passed;
            }
        }
        std::future::pending().await
    }

    /// What was asked does not matter any more.
    pub(super) fn take_down(&mut self) {
        self.asking = JoinSet::new();
    }
}
