//! What a watcher shows over HTTP, and how often it says that it is alive.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;

use crate::daemon::Daemon;
use crate::shell::failure::Failure;
use crate::shell::http::{HttpOptions, HttpServer};
use crate::stamp::Stamp;
use crate::status::Limits;

/// The loop turns at least so often, for whoever asks whether it hangs; what is shown is never older.
pub(super) const TURN_MAX: Duration = Duration::from_secs(2);

/// The HTTP side of one watcher.
#[derive(Debug)]
pub(super) struct Page {
    server: HttpServer,
    /// When something was shown last.
    shown: Option<Stamp>,
}

impl Page {
    pub(super) fn start(options: HttpOptions) -> Result<Self, Failure> {
        Ok(Self { server: HttpServer::start(options)?, shown: None })
    }

    /// Shows how things stand where there is `news`, and from time to time where no epochs bring any. `login` holds the
    /// flags of the `nats` CLI that reach the same servers; `client` is the observing connection.
    pub(super) fn show(
        &mut self,
        daemon: &Daemon,
        news: bool,
        login: &str,
        client: Option<&Client>,
        now: Stamp,
    ) {
        self.server.beat(daemon.vitals(now));
        let waits =
            daemon.answers_requests(now) || self.shown.is_some_and(|shown| now.since(shown) < TURN_MAX);
        if !news && waits {
            return;
        }
        self.shown = Some(now);
        let connects = client.map_or(0, |client| client.statistics().connects.load(Ordering::Relaxed));
        let numbers = daemon.numbers(connects.saturating_sub(1), now);
        self.server.publish(daemon.status(login, Limits::PAGE), Some(numbers));
    }
}
