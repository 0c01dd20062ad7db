//! Publishing into a JetStream stream: an event counts as delivered when the stream has acknowledged it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::{Request, RequestErrorKind};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::message::headers_of;
use crate::event::Outgoing;
use crate::stamp::Stamp;

/// The pause after a first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is in the stream, or was before.
    Done,
    /// It is not, and why; it is to be tried again.
    NotYet {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It never will be, and why.
    Never(String),
}

/// What JetStream answers to a publisher. Source: nats-server 2.9 to 2.15, `server/stream.go` (`JSPubAckResponse`).
#[derive(Debug, Deserialize)]
struct PubAck {
    error: Option<Refusal>,
    stream: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

/// Nobody answered. Where others are subscribed to the subject, this is how a missing stream looks.
const SILENCE: &str = "no stream has acknowledged it in time";
const NO_STREAM: &str = "create one: nats stream add ALERTS --subjects 'metawatch.alert.>' --defaults, or see \
    with `nats stream report` whether it has a leader; the system account has no JetStream: name another account with \
    --alert-context or --alert-user";
const SEE_STREAM: &str = "see `nats stream report` and the limits of the stream";

/// Publishes one event and waits for its acknowledgement.
async fn store(client: &Client, event: &Outgoing) -> Stored {
    let payload = match serde_json::to_vec(&event.event) {
        Ok(payload) => payload,
        Err(error) => return Stored::Never(error.to_string()),
    };
    let request = Request::new().headers(headers_of(event)).payload(payload.into());
    let not_yet = |reason: String, hint| Stored::NotYet { reason, hint };
    match client.send_request(event.subject.clone(), request).await {
        Ok(message) => read_ack(&message.payload),
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => not_yet("no stream has this subject".to_owned(), NO_STREAM),
            RequestErrorKind::TimedOut => not_yet(SILENCE.to_owned(), NO_STREAM),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                Stored::Never(error.to_string())
            }
            RequestErrorKind::Other => not_yet(error.to_string(), SEE_STREAM),
        },
    }
}

fn read_ack(payload: &[u8]) -> Stored {
    let not_yet = |reason: String, hint| Stored::NotYet { reason, hint };
    match serde_json::from_slice(payload) {
        Ok(PubAck { error: None, stream: Some(_) }) => Stored::Done,
        Ok(PubAck { error: Some(refusal), .. }) => {
            not_yet(format!("the stream refused it: {}", refusal.description), SEE_STREAM)
        }
        Ok(PubAck { error: None, stream: None }) | Err(_) => not_yet(
            "what answered is no stream".to_owned(),
            "somebody replies to alert events: let only a stream have these subjects, or use --publish-mode core",
        ),
    }
}

/// The requests to streams that are under way. They end with this.
#[derive(Debug, Default)]
pub(super) struct Storing {
    asking: JoinSet<(Outgoing, Stored)>,
    /// The ids of their events.
    asked: BTreeSet<String>,
    /// When to try again what failed.
    pub(super) backoff: Backoff,
}

impl Storing {
    /// Whether an acknowledgement is awaited.
    pub(super) fn is_busy(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Whether this event may be sent now: it is not under way, and its incident has no trouble that must be waited for.
    pub(super) fn may_send(&self, event: &Outgoing, now: Stamp) -> bool {
        !self.asked.contains(&event.event.id) && self.backoff.allows(&event.event.incident, now)
    }

    /// Sends an event, and does not wait.
    pub(super) fn send(&mut self, client: Client, event: Outgoing) {
        self.asked.insert(event.event.id.clone());
        self.asking.spawn(async move {
            let stored = store(&client, &event).await;
            (event, stored)
        });
    }

    /// What became of one of the events; never, when none is under way. Nothing is lost when the future is dropped.
    pub(super) async fn outcome(&mut self) -> (Outgoing, Stored) {
        while let Some(done) = self.asking.join_next().await {
            if let Ok((event, stored)) = done {
                self.asked.remove(&event.event.id);
                return (event, stored);
            }
        }
        std::future::pending().await
    }

    /// No answer will come any more to what was sent over another connection.
    pub(super) fn restart(&mut self) {
        self.asking = JoinSet::new();
        self.asked.clear();
        self.backoff.end();
    }
}

/// When to try again what failed. Other incidents do not wait: they may belong into another stream.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    until: Option<Stamp>,
    failures: u32,
    said: Option<String>,
    /// Their event was the last to fail.
    incidents: BTreeSet<String>,
}

impl Backoff {
    /// Whether events of this incident may be tried.
    pub(super) fn allows(&self, incident: &str, now: Stamp) -> bool {
        self.until.is_none_or(|until| now.has_reached(until)) || !self.incidents.contains(incident)
    }

    /// When the pause is over; `None` when nothing failed.
    pub(super) fn until(&self) -> Option<Stamp> {
        self.until
    }

    /// Ends the pause, as after a new connection.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// It worked, or was given up: nothing of this incident waits for the pause.
    pub(super) fn settled(&mut self, incident: &str) {
        self.incidents.remove(incident);
        if self.failures > 0 && self.incidents.is_empty() {
            tracing::warn!("alert events are stored again");
            *self = Self::default();
        }
    }

    /// It failed. Each reason is said once, and those that fail together make one pause.
    pub(super) fn failed(&mut self, incident: &str, now: Stamp, reason: &str, hint: &str) {
        self.incidents.insert(incident.to_owned());
        if self.until.is_none_or(|until| now.has_reached(until)) {
            let pause = PAUSE_MIN * 2_u32.pow(self.failures.min(10));
            self.until = Some(now.plus(pause.min(PAUSE_MAX)));
            self.failures = self.failures.saturating_add(1);
        }
        if self.said.as_deref() != Some(reason) {
            tracing::error!(hint, "alert events are not stored: {reason}; they wait and are tried again");
            self.said = Some(reason.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_acknowledgement_of_a_stream_counts() {
        let done = |text: &str| read_ack(text.as_bytes()) == Stored::Done;
        assert!(done(r#"{"stream":"ALERTS","seq":7}"#));
        assert!(done(r#"{"stream":"ALERTS","seq":7,"duplicate":true}"#));
        for bad in
            ["", "+OK", "{}", "null", r#"{"error":{"code":503,"description":"no"},"stream":"A","seq":0}"#]
        {
            assert!(!done(bad), "{bad}");
        }
    }

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let mut now = Stamp::new(0, 0);
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            // What fails together counts once.
            backoff.failed("a", now, "reason", "hint");
            backoff.failed("b", now, "reason", "hint");
            let until = backoff.until().unwrap();
            assert!(!backoff.allows("a", now) && backoff.allows("a", until));
            pauses.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[test]
    fn an_incident_that_fails_holds_up_no_other_and_the_pause_ends_with_the_last_one() {
        let now = Stamp::new(0, 0);
        let mut backoff = Backoff::default();
        backoff.failed("a", now, "reason", "hint");
        backoff.failed("b", now, "reason", "hint");
        assert!(backoff.allows("c", now));
        backoff.settled("c");
        backoff.settled("a");
        assert!(backoff.allows("a", now) && !backoff.allows("b", now));
        backoff.settled("b");
        assert!(backoff.allows("b", now) && backoff.until().is_none());
    }
}
