//! Where events go: over the observing connection, or over one of its own into the account where subscribers live.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::task::JoinHandle;

use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Link, LinkEvent, Retry, connect};
use crate::shell::failure::Failure;

/// A connection that cannot be used as it is configured is tried again after this long.
const AGAIN: Duration = Duration::from_secs(30);

/// The connection that events are published on.
#[derive(Debug)]
pub enum Road {
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
    connecting: JoinHandle<Link>,
}

impl Road {
    /// A connection of their own.
    pub fn own(config: ConnectConfig) -> Self {
        Self::Own(Own { link: None, lent: false, connecting: tokio::spawn(reach(config)) })
    }

    /// Whether it is the observing connection, of which others tell what happens to it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// The client, while there is a connection.
    pub async fn client(&mut self) -> Option<Client> {
        let client = match self {
            Self::Shared(client) => client.clone(),
            Self::Own(own) => own.client().await?,
        };
        (client.connection_state() == State::Connected).then_some(client)
    }

    /// The client of a connection of their own, once, when it has come up.
    pub fn lend(&mut self) -> Option<Client> {
        let Self::Own(Own { link: Some(link), lent, .. }) = self else { return None };
        (!std::mem::replace(lent, true)).then(|| link.client.clone())
    }

    /// What has happened to a connection of their own.
    pub fn news(&mut self) -> Vec<LinkEvent> {
        let mut news = Vec::new();
        if let Self::Own(Own { link: Some(link), .. }) = self {
            while let Ok(event) = link.events.try_recv() {
                news.push(event);
            }
        }
        news
    }
}

impl Own {
    async fn client(&mut self) -> Option<Client> {
        if self.link.is_none() && self.connecting.is_finished() {
            match (&mut self.connecting).await {
                Ok(link) => self.link = Some(link),
                Err(error) => tracing::error!(%error, "the connection for alerts cannot be made any more"),
            }
        }
        self.link.as_ref().map(|link| link.client.clone())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.connecting.abort();
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
