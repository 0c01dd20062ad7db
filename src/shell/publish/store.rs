//! Publishing into a JetStream stream: an event counts as delivered when the stream has acknowledged it.

use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{Client, HeaderMap};
use serde::Deserialize;

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
pub(super) const SILENCE: &str = "no stream has acknowledged it in time";
pub(super) const NO_STREAM: &str = "create one: nats stream add ALERTS --subjects 'metawatch.alert.>' --defaults, or see \
    with `nats stream report` whether it has a leader; the system account has no JetStream: name another account with \
    --alert-context or --alert-user";
const SEE_STREAM: &str = "see `nats stream report` and the limits of the stream";

/// Publishes one event and waits for its acknowledgement.
pub(super) async fn store(client: &Client, subject: &str, headers: HeaderMap, payload: Vec<u8>) -> Stored {
    let request = Request::new().headers(headers).payload(payload.into());
    let not_yet = |reason: String, hint| Stored::NotYet { reason, hint };
    match client.send_request(subject.to_owned(), request).await {
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

/// When to try again what failed.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    until: Option<Stamp>,
    failures: u32,
    said: Option<String>,
}

impl Backoff {
    /// Whether the pause is over.
    pub(super) fn is_over(&self, now: Stamp) -> bool {
        self.until.is_none_or(|until| now.has_reached(until))
    }

    /// Ends the pause, as after a new connection.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// It worked.
    pub(super) fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::warn!("alert events are stored again");
        }
        *self = Self::default();
    }

    /// It failed. Each reason is said once.
    pub(super) fn failed(&mut self, now: Stamp, reason: &str, hint: &str) {
        let pause = PAUSE_MIN * 2_u32.pow(self.failures.min(10));
        self.until = Some(now.plus(pause.min(PAUSE_MAX)));
        self.failures = self.failures.saturating_add(1);
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
        let start = Stamp::new(0, 0);
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            backoff.failed(start, "reason", "hint");
            let over = |seconds: u64| backoff.is_over(start.plus(Duration::from_secs(seconds)));
            pauses.push((0..=60).find(|seconds| over(*seconds)).unwrap_or(99));
        }
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.succeeded();
        assert!(backoff.is_over(start));
    }
}
