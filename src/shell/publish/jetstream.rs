//! Publishing into a JetStream stream: an event counts as delivered when the stream has acknowledged it.

use async_nats::Client;
use async_nats::client::{Request, RequestErrorKind};
use serde::Deserialize;

use super::message::headers_of;
use crate::daemon::Stored;
use crate::event::Outgoing;

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
pub(super) async fn store(client: &Client, event: &Outgoing) -> Stored {
    let payload = match serde_json::to_vec(&event.event) {
        Ok(payload) => payload,
        Err(error) => return Stored::Never(error.to_string()),
    };
    let request = Request::new().headers(headers_of(event)).payload(payload.into());
    let not_yet = |reason: String, hint| Stored::NotYet { reason, hint, refused: false };
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
    let not_yet = |reason: String, hint| Stored::NotYet { reason, hint, refused: false };
    match serde_json::from_slice(payload) {
        Ok(PubAck { error: None, stream: Some(_) }) => Stored::Done,
        Ok(PubAck { error: Some(refusal), .. }) => {
            let reason = format!("the stream refused it: {}", refusal.description);
            Stored::NotYet { reason, hint: SEE_STREAM, refused: true }
        }
        Ok(PubAck { error: None, stream: None }) | Err(_) => not_yet(
            "what answered is no stream".to_owned(),
            "somebody replies to alert events: let only a stream have these subjects, or use --publish-mode core",
        ),
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
}
