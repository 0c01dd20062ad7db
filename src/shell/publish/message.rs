//! What goes over the wire: payloads with their headers.

use std::str::FromStr;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap, HeaderValue};

use crate::event::Outgoing;

/// What became of a message.
pub(super) enum Sent {
    /// The client has it.
    Done,
    /// The client does not take it now.
    NotNow,
    /// No client will ever take it, and why.
    Never(String),
}

/// Publishes an event.
pub(super) async fn publish(client: &Client, outgoing: &Outgoing) -> Sent {
    let payload = match serde_json::to_vec(&outgoing.event) {
        Ok(payload) => payload,
        Err(error) => return Sent::Never(error.to_string()),
    };
    match client.publish_with_headers(outgoing.subject.clone(), headers_of(outgoing), payload.into()).await {
        Ok(()) => Sent::Done,
        Err(error) => match error.kind() {
            PublishErrorKind::Send => Sent::NotNow,
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                Sent::Never(error.to_string())
            }
        },
    }
}

/// The headers of an event.
pub(super) fn headers_of(outgoing: &Outgoing) -> HeaderMap {
    header_map(outgoing.headers.iter().map(|(name, value)| (*name, value.as_str())))
}

/// No value breaks its line: it could not be sent then.
pub(in crate::shell) fn header_map<'a>(
    headers: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value.replace(['\r', '\n'], " ")) {
            map.insert(name, value);
        }
    }
    map
}
