//! What happens to a connection, in types instead of words.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{
    ClientError, ConnectErrorKind, Event, ReconnectToServer, Server, ServerAddr, ServerError, ServerInfo,
};
use tokio::sync::mpsc;

pub use crate::doctor::Operation;

use super::servers::{Loss, LostConnection, Servers, Try};
use super::{diagnose, pause};
use crate::shell::config::{Auth, ConnectConfig, ConnectionRole};

/// Something that happened to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, for the first time or again.
    Connected,
    /// The connection is lost; it is being made again.
    Disconnected,
    /// The server refused one publish or subscribe. It says so late and to nobody in particular.
    PermissionDenied {
        /// What was refused.
        operation: Operation,
        /// On which subject.
        subject: String,
    },
    /// A subscription was not read fast enough, and messages were dropped.
    SlowConsumer,
    /// The server refuses the login, now or while reconnecting.
    AuthorizationViolation,
    /// The server is about to stop and asks its clients to go elsewhere.
    LameDuck,
    /// The connection was ended on our side.
    Closed,
    /// Anything else, in the words of the server or the client.
    Error(String),
}

impl LinkEvent {
    /// Whether many of these may come in a row. They must not crowd out the ones that come once.
    fn is_noise(&self) -> bool {
        matches!(self, Self::SlowConsumer | Self::Error(_) | Self::PermissionDenied { .. })
    }
}

/// The first failures of an outage say nothing: a server that restarts is away for a second or two.
const ROUNDS_BEFORE_SAID: usize = 7;

/// Hears what the client says about its connection, passes it on, chooses where to go after a loss, and says
/// once an outage what is wrong.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    sender: mpsc::Sender<LinkEvent>,
    auth: Arc<Auth>,
    role: ConnectionRole,
    state: Arc<State>,
}

/// What is known of the connection, by whoever holds it and by the client.
#[derive(Debug)]
pub(super) struct State {
    /// The last try was refused for its login.
    refused: AtomicBool,
    /// Why the tries to reconnect fail has been said.
    said_why: AtomicBool,
    /// Nothing has come since a question was sent.
    unanswered: AtomicBool,
    /// The server is being left, because it is about to stop.
    leaving: AtomicBool,
    servers: Mutex<Servers>,
    /// Events that had no room.
    dropped: AtomicU64,
}

impl State {
    fn new(given: &[ServerAddr]) -> Self {
        Self {
            refused: AtomicBool::new(false),
            said_why: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            servers: Mutex::new(Servers::new(given)),
            dropped: AtomicU64::new(0),
        }
    }

    /// A question was sent, or something came.
    pub(super) fn set_unanswered(&self, unanswered: bool) {
        self.unanswered.store(unanswered, Ordering::Relaxed);
    }

    /// The connection is about to be ended on our side, for another server.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// How many events had no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_loss(&self) -> Loss {
        let unanswered = self.unanswered.swap(false, Ordering::Relaxed);
        match self.leaving.swap(false, Ordering::Relaxed) {
            true => Loss::LameDuck,
            false if unanswered => Loss::Silent,
            false => Loss::Closed,
        }
    }
}

impl Watcher {
    pub(super) fn new(sender: mpsc::Sender<LinkEvent>, config: &ConnectConfig) -> Self {
        let state = Arc::new(State::new(&config.servers));
        Self { sender, auth: Arc::new(config.auth.clone()), role: config.role, state }
    }

    /// What is known of the connection.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// The first connection has come about, to this server.
    pub(super) fn begin(&self, server: &ServerAddr) {
        self.state.servers().begin(server);
    }

    /// Takes an event of the client.
    pub(super) fn hear(&self, event: Event) {
        let (state, prefix) = (&self.state, self.role.prefix());
        match &event {
            Event::Connected => {
                state.refused.store(false, Ordering::Relaxed);
                state.said_why.store(false, Ordering::Relaxed);
                let mut servers = state.servers();
                if let Some(found) = servers.found() {
                    let to = servers.current().map(url);
                    match found.unsaid {
                        Some(LostConnection { loss, server, address }) => {
                            let (reason, what) = (loss.reason(), loss.what());
                            tracing::warn!(server, address, reason, to, "{prefix}{what}, connected again");
                        }
                        None => tracing::info!(to, "{prefix}connected again"),
                    }
                }
            }
            // Only tries to reconnect end up here, and each ends one way.
            Event::ClientError(ClientError::Other(text)) => {
                state.refused.store(is_refusal(text), Ordering::Relaxed);
            }
            // That, and why, is said where the next server is chosen.
            Event::Disconnected
            | Event::LameDuckMode
            | Event::Draining
            | Event::Closed
            | Event::SlowConsumer(_)
            | Event::ServerError(_)
            | Event::ClientError(_) => {}
        }
        // A login that cannot even be sent is told with its reason, in `choose`.
        let unsent = matches!(&event, Event::ClientError(ClientError::Other(text)) if is_unsent(text));
        let Some(event) = translate(event) else { return };
        let news = event == LinkEvent::AuthorizationViolation && !unsent;
        if news && !self.state.said_why.swap(true, Ordering::Relaxed) {
            let failure = self.role.word(diagnose::refused(None, &self.auth, self.role));
            tracing::error!(reason = %failure, hint = failure.hint(), "{prefix}trying again for as long as it takes");
        }
        tracing::debug!(?event, "connection");
        // Room is kept for the events that come once; nobody may be reading at all, and that is fine.
        let full = self.sender.capacity() <= self.sender.max_capacity() / 4;
        if (full && event.is_noise()) || self.sender.try_send(event).is_err() {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Chooses the server of the next try to reconnect among those that the client knows. `last` is what the
    /// server told of itself that we were connected to. `None` leaves it to the client: the first try of all.
    ///
    /// It is the only place that learns at once that a connection is lost, and why tries to reconnect fail.
    pub(super) fn choose(&self, known: &[Server], last: &ServerInfo) -> Option<ReconnectToServer> {
        let (state, prefix) = (&self.state, self.role.prefix());
        let mut servers = state.servers();
        servers.current()?;
        servers.lost(state.take_loss(), &last.server_name);
        let Try { server, round, opens_round } = servers.next(known)?;
        if let Some(LostConnection { loss, server, address }) = servers.take_unsaid(known) {
            let (reason, what) = (loss.reason(), loss.what());
            tracing::warn!(
                server,
                address,
                reason,
                "{prefix}{what}; trying to connect for as long as it takes"
            );
        }
        let failing = round >= ROUNDS_BEFORE_SAID && opens_round;
        if failing && !state.said_why.swap(true, Ordering::Relaxed) {
            let of = known.iter().find(|known| known.addr == server);
            let reason = of.and_then(|known| known.last_error.as_deref()).unwrap_or("no reason is known");
            tracing::warn!(server = url(&server), reason, "{prefix}still not connected");
        }
        let delay = pause(round.saturating_add(1), state.refused.load(Ordering::Relaxed));
        Some(ReconnectToServer { addr: server, delay: Some(delay) })
    }
}

/// An address, as people write it.
fn url(server: &ServerAddr) -> String {
    server.as_url_str().to_owned()
}

/// Whether this is how the client tells that a try to reconnect failed for the login.
fn is_refusal(text: &str) -> bool {
    text == ConnectErrorKind::AuthorizationViolation.to_string() || is_unsent(text)
}

/// Whether this is how the client tells that it could not sign: a file is gone or broken.
fn is_unsent(text: &str) -> bool {
    text == ConnectErrorKind::Authentication.to_string()
}

fn translate(event: Event) -> Option<LinkEvent> {
    Some(match event {
        Event::Connected => LinkEvent::Connected,
        Event::Disconnected => LinkEvent::Disconnected,
        Event::LameDuckMode => LinkEvent::LameDuck,
        Event::Draining => return None,
        Event::Closed => LinkEvent::Closed,
        Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => LinkEvent::SlowConsumer,
        Event::ServerError(ServerError::AuthorizationViolation) => LinkEvent::AuthorizationViolation,
        Event::ServerError(ServerError::Other(text)) => server_error(text),
        Event::ClientError(ClientError::Other(text)) if is_refusal(&text) => {
            LinkEvent::AuthorizationViolation
        }
        Event::ClientError(error) => LinkEvent::Error(error.to_string()),
    })
}

/// The words of a server, as far as they are known.
fn server_error(text: String) -> LinkEvent {
    if diagnose::is_login_error(&text) {
        return LinkEvent::AuthorizationViolation;
    }
    denied(&text).unwrap_or(LinkEvent::Error(text))
}

/// Reads `Permissions Violation for Publish to "subject"`, and the same for `Subscription`.
fn denied(text: &str) -> Option<LinkEvent> {
    let lower = text.to_ascii_lowercase();
    let operation = match lower.strip_prefix("permissions violation for ")? {
        rest if rest.starts_with("publish") => Operation::Publish,
        rest if rest.starts_with("subscription") => Operation::Subscribe,
        _ => return None,
    };
    // Subjects are case-sensitive: they are taken from the text as it came.
    let subject = text.split('"').nth(1)?.to_owned();
    Some(LinkEvent::PermissionDenied { operation, subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_server(text: &str) -> Option<LinkEvent> {
        translate(Event::ServerError(ServerError::Other(text.to_owned())))
    }

    #[test]
    fn errors_of_a_server_get_a_type() {
        let denied =
            |operation, subject: &str| LinkEvent::PermissionDenied { operation, subject: subject.to_owned() };
        for (text, event) in [
            (
                "Permissions Violation for Publish to \"$SYS.REQ.SERVER.PING.JSZ\"",
                denied(Operation::Publish, "$SYS.REQ.SERVER.PING.JSZ"),
            ),
            ("permissions violation for publish with reply of \"A.b\"", denied(Operation::Publish, "A.b")),
            (
                "Permissions Violation for Subscription to \"_INBOX.x.>\"",
                denied(Operation::Subscribe, "_INBOX.x.>"),
            ),
            (
                "Permissions Violation for Subscription to \"a\" using queue \"q\"",
                denied(Operation::Subscribe, "a"),
            ),
            (
                "Permissions Violation for Publish",
                LinkEvent::Error("Permissions Violation for Publish".into()),
            ),
            ("User Authentication Expired", LinkEvent::AuthorizationViolation),
            ("Account Authentication Expired", LinkEvent::AuthorizationViolation),
            ("Stale Connection", LinkEvent::Error("Stale Connection".into())),
        ] {
            assert_eq!(from_server(text), Some(event), "{text}");
        }
    }

    #[test]
    fn refused_tries_to_reconnect_are_told_from_other_failures() {
        let client =
            |kind: ConnectErrorKind| translate(Event::ClientError(ClientError::Other(kind.to_string())));
        assert_eq!(client(ConnectErrorKind::AuthorizationViolation), Some(LinkEvent::AuthorizationViolation));
        assert_eq!(client(ConnectErrorKind::Authentication), Some(LinkEvent::AuthorizationViolation));
        assert!(matches!(client(ConnectErrorKind::Io), Some(LinkEvent::Error(_))));
    }

    #[tokio::test]
    async fn a_flood_of_noise_leaves_room_for_what_comes_once() {
        let (sender, mut events) = mpsc::channel(8);
        let watcher = Watcher {
            sender,
            auth: Arc::default(),
            role: ConnectionRole::Watching,
            state: Arc::new(State::new(&[])),
        };
        for sid in 0..100 {
            watcher.hear(Event::SlowConsumer(sid));
        }
        watcher.hear(Event::Disconnected);
        let mut heard = Vec::new();
        while let Ok(event) = events.try_recv() {
            heard.push(event);
        }
        assert_eq!(heard.last(), Some(&LinkEvent::Disconnected));
        assert!(heard.len() < 8, "{heard:?}");
        assert_eq!(watcher.state.dropped() as usize, 101 - heard.len());
    }
}
