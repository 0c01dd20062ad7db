//! Where events go: over the observing connection, or over one of its own into the account where subscribers live.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::task::JoinSet;

use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Link, LinkEvent, Retry, connect};
use crate::shell::failure::Failure;

/// A connection that cannot be used as it is configured is tried again after this long.
const AGAIN: Duration = Duration::from_secs(30);

/// The connection that events are published on.
#[derive(Debug)]
pub enum AlertConnection {
    /// The observing one.
    Shared(Client),
    /// One of their own.
    Own(Own),
}

/// A connection that comes up by itself, whenever that is, and mends itself. Nobody waits for it.
#[derive(Debug)]
pub struct Own {
    link: Option<Link>,
    /// Its client was given to others.
    lent: bool,
    /// The first part of its inboxes.
    inbox_prefix: String,
    /// Makes the link; empty when that is done.
    connecting: JoinSet<Link>,
}

impl AlertConnection {
    /// A connection of their own.
    pub fn own(config: ConnectConfig) -> Self {
        let inbox_prefix = config.inbox_prefix.clone();
        let mut connecting = JoinSet::new();
        connecting.spawn(reach(config));
        Self::Own(Own { link: None, lent: false, inbox_prefix, connecting })
    }

    /// Whether it is the observing connection, of which others tell what happens to it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// The client, while there is a connection.
    pub fn client(&self) -> Option<Client> {
        self.held().filter(|client| client.connection_state() == State::Connected).cloned()
    }

    /// Counts the connections that the client has had.
    pub fn generation(&self) -> u64 {
        self.held().map_or(0, |client| client.statistics().connects.load(Ordering::Relaxed))
    }

    fn held(&self) -> Option<&Client> {
        match self {
            Self::Shared(client) => Some(client),
            Self::Own(own) => own.link.as_ref().map(|link| &link.client),
        }
    }

    /// The client of a connection of their own, once, when it has come up.
    pub fn lend(&mut self) -> Option<Client> {
        let Self::Own(Own { link: Some(link), lent, .. }) = self else { return None };
        (!std::mem::replace(lent, true)).then(|| link.client.clone())
    }

    /// How many events of a connection of their own had no room.
    pub fn dropped(&self) -> u64 {
        match self {
            Self::Shared(_) => 0,
            Self::Own(own) => own.link.as_ref().map_or(0, Link::dropped),
        }
    }

    /// The first part of the inboxes of a connection of their own.
    pub fn inbox_prefix(&self) -> Option<&str> {
        match self {
            Self::Shared(_) => None,
            Self::Own(own) => Some(&own.inbox_prefix),
        }
    }

    /// The next thing that happens to a connection of their own; the first is that it comes up. Nothing is lost when
    /// the future is dropped.
    pub async fn news(&mut self) -> LinkEvent {
        let Self::Own(own) = self else { return std::future::pending().await };
        while own.link.is_none()
            && let Some(done) = own.connecting.join_next().await
        {
            own.link = done.ok();
        }
        match &mut own.link {
            Some(link) => match link.events.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

/// Connects, however long it takes: a file that is missing now may be there later.
async fn reach(config: ConnectConfig) -> Link {
    let mut said: Option<Failure> = None;
    loop {
        match connect(&config, Retry::Forever).await {
            Ok(link) => {
                tracing::info!(
                    server = link.client.server_info().server_name,
                    "alerts have a connection of their own"
                );
                return link;
            }
            Err(failure) => {
                if said.as_ref() != Some(&failure) {
                    let hint = failure.hint();
                    tracing::error!(hint, "no connection for alerts: {failure}; they wait");
                    said = Some(failure);
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
