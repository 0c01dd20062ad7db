//! Puts further questions while the epochs go on: a few at once, each within one limit of time, count and size.
//!
//! A refusal, an absent endpoint and silence are all the same here: no answer, and nobody is any worse off.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::diagnosis::{Question, Replies};
use crate::pipeline::FollowUp;

/// A server that has not answered by then does not.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// So many replies to one question are taken ...
const REPLIES_MAX: usize = 256;
/// ... none of them larger than this: a real one is about 1 kB, and 100 bytes a peer.
const REPLY_BYTES_MAX: usize = 64 << 10;

/// What was heard of one question.
#[derive(Debug, Default)]
struct Heard {
    replies: Vec<Vec<u8>>,
    too_large: u64,
}

/// Asks, one follow-up at a time.
#[derive(Debug)]
pub struct FollowUpTask {
    client: Client,
    follow_up: Option<FollowUp>,
    replies: Replies,
    /// One task a question. They end with this.
    asking: JoinSet<(Question, Heard)>,
}

impl FollowUpTask {
    /// One that asks over this connection.
    pub fn new(client: Client) -> Self {
        Self { client, follow_up: None, replies: Replies::default(), asking: JoinSet::new() }
    }

    /// Whether nothing is being asked.
    pub fn is_free(&self) -> bool {
        self.follow_up.is_none()
    }

    /// Puts the questions of a follow-up, and does not wait. The one before, if it is not over, is given up.
    pub fn ask(&mut self, follow_up: FollowUp) {
        self.asking = JoinSet::new();
        self.replies = Replies::default();
        for question in &follow_up.questions {
            let (client, question, answering) = (self.client.clone(), question.clone(), follow_up.answering);
            self.asking.spawn(async move {
                let replies = put(&client, &question, answering).await;
                (question, replies)
            });
        }
        self.follow_up = Some(follow_up);
    }

    /// The replies to the present follow-up, once all questions are answered or given up; never, when there is none.
    /// Nothing is lost when the future is dropped.
    pub async fn answered(&mut self) -> (FollowUp, Replies) {
        while let Some(done) = self.asking.join_next().await {
            let Ok((question, heard)) = done else { continue };
            tracing::debug!(?question, replies = heard.replies.len(), "asked");
            self.replies.rejected += heard.too_large;
            for payload in &heard.replies {
                self.replies.hear(&question, payload);
            }
        }
        match self.follow_up.take() {
            Some(follow_up) => (follow_up, std::mem::take(&mut self.replies)),
            None => std::future::pending().await,
        }
    }
}

async fn put(client: &Client, question: &Question, answering: usize) -> Heard {
    let wanted = match question {
        Question::Health(_) => 1,
        Question::Raft => answering.clamp(1, REPLIES_MAX),
    };
    let mut heard = Heard::default();
    // What came in time counts, also when not everybody answered.
    if timeout(ANSWER_MAX, exchange(client, question, wanted, &mut heard)).await.is_err() {
        tracing::debug!(?question, replies = heard.replies.len(), "not everybody answered in time");
    }
    heard
}

async fn exchange(client: &Client, question: &Question, wanted: usize, heard: &mut Heard) {
    let inbox = client.new_inbox();
    let asked = async {
        let subscriber = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let (subject, payload) = (question.subject(), question.payload().into());
        let published = client.publish_with_reply(subject, inbox, payload).await;
        published.map(|()| subscriber).map_err(|error| error.to_string())
    };
    let mut subscriber = match asked.await {
        Ok(subscriber) => subscriber,
        Err(error) => return tracing::debug!(error, ?question, "could not be asked"),
    };
    let mut came = 0;
    while let Some(message) = subscriber.next().await {
        // A status instead of data: nobody has such an endpoint.
        if message.status.is_some() {
            return;
        }
        if message.payload.len() <= REPLY_BYTES_MAX {
            heard.replies.push(message.payload.to_vec());
        } else {
            heard.too_large += 1;
        }
        came += 1;
        if came >= wanted {
            return;
        }
    }
}
