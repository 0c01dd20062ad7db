//! How a connection that carries nothing but events tells that they have arrived.
//!
//! A server takes what comes over one connection in order. Whatever it says to a request therefore comes after the
//! events before that request were taken: an answer, "nobody answers this" (503), and just as well its refusal. So the
//! barrier needs no right but to the inbox of an answer; without the right to ask, the server notes a violation in its
//! log each time.
//!
//! The client may carry a request over into its next connection, where it is no barrier for what was lost with the last.
//! An answer is therefore only believed on the connection it was asked on, and a refusal, which names nothing but the
//! subject, only on a subject that is used once.

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use tokio::task::JoinSet;

/// Every user of every account gets an answer to this, from the server it is connected to. Source: nats-server 2.10 to
/// 2.15, `server/events.go` (`userDirectReqSubj`).
pub(super) const SUBJECT: &str = "$SYS.REQ.USER.INFO";

/// What the refusal of a subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was the present request: the events before it were taken.
    Passed,
    /// It was an earlier one; whether it is the first.
    Asked {
        /// That we may not ask was not known.
        news: bool,
    },
    /// It was something else.
    Other,
}

/// A request behind the events, one at a time. It ends with this.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    asking: JoinSet<(u64, bool)>,
    /// We may not ask.
    refused: bool,
    number: u64,
}

impl Barrier {
    /// Whether an answer is awaited. What is published meanwhile would not be covered by it.
    pub(super) fn is_up(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Asks behind everything that was published on this connection, which is the `generation`th.
    pub(super) fn put(&mut self, client: Client, generation: u64) {
        self.number += 1;
        let subject = self.subject();
        self.asking.spawn(async move {
            let answered = match client.request(subject, "".into()).await {
                Ok(_) => true,
                Err(error) => error.kind() == RequestErrorKind::NoResponders,
            };
            // A refusal of an event comes before the answer, but by another way.
            tokio::task::yield_now().await;
            (generation, answered)
        });
    }

    /// Whoever may not ask is refused on any subject below it just as well.
    fn subject(&self) -> String {
        if self.refused { format!("{SUBJECT}.{}", self.number) } else { SUBJECT.to_owned() }
    }

    /// Takes that the server refused a subject: what that says of the events before it.
    pub(super) fn take_refusal(&mut self, subject: &str) -> Answer {
        if !subject.starts_with(SUBJECT) {
            return Answer::Other;
        }
        let is_answer = self.refused && self.is_up() && subject == self.subject();
        let news = !std::mem::replace(&mut self.refused, true);
        if is_answer || news {
            self.take_down();
        }
        if is_answer { Answer::Passed } else { Answer::Asked { news } }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_refusal_of_the_present_request_counts_as_an_answer() {
        let mut barrier = Barrier::default();
        let up = |barrier: &mut Barrier| {
            barrier.number += 1;
            barrier.asking.spawn(std::future::pending());
            barrier.subject()
        };
        assert_eq!(barrier.take_refusal("metawatch.alert.x"), Answer::Other);
        let first = up(&mut barrier);
        assert_eq!(first, SUBJECT);
        assert_eq!(barrier.take_refusal(&first), Answer::Asked { news: true });
        assert!(!barrier.is_up());
        let second = up(&mut barrier);
        barrier.take_down();
        let third = up(&mut barrier);
        // Both were on their way when the connection broke.
        assert_eq!(barrier.take_refusal(&first), Answer::Asked { news: false });
        assert_eq!(barrier.take_refusal(&second), Answer::Asked { news: false });
        assert!(barrier.is_up());
        assert_eq!(barrier.take_refusal(&third), Answer::Passed);
        assert_eq!(barrier.take_refusal(&third), Answer::Asked { news: false });
    }
}
