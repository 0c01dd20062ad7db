//! Connects to the servers, keeps the connection, and says what happens to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

mod diagnose;
mod event;
mod identity;
mod port;
mod servers;
mod tls;

pub use event::{LinkEvent, Operation};

use crate::epoch::REPLIES_MAX;
use crate::shell::config::ConnectConfig;
use crate::shell::failure::{Failure, FailureKind};
use event::{State, Watcher};
use identity::Identity;

/// A server that accepts a connection and says nothing for this long is frozen or far away: the next one is
/// tried. As long as other NATS clients wait, too (nats.go, `DefaultTimeout`). Where every server needs
/// longer, later tries wait longer, up to the timeout of the configuration.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Messages that may wait in one subscription: as many as make an epoch full, for both of its questions. So the client
/// drops none of an epoch that could still take it.
const SUBSCRIPTION_CAPACITY: usize = 2 * REPLIES_MAX;

/// Events that may wait to be read.
const EVENT_CAPACITY: usize = 256;

/// What to do when no connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try every server once, within the timeout of the configuration, then fail: for commands that give one answer.
    Once,
    /// Try for ever, and say once why it does not work: for a watcher, which may start before its server does.
    Forever,
}

/// A connection that mends itself for as long as it is held.
#[derive(Debug)]
pub struct Link {
    /// The client. It reconnects for ever, whatever the reason of the loss.
    pub client: Client,
    /// What happens to the connection; the first one is `Connected`. When nobody reads, events are dropped.
    pub events: mpsc::Receiver<LinkEvent>,
    state: Arc<State>,
}

impl Link {
    /// A question was sent. When the connection is lost before anything [came](Self::heard), the server is
    /// taken for frozen or cut off, and tried again after all others.
    pub(crate) fn asked(&self) {
        self.state.set_unanswered(true);
    }

    /// Something came.
    pub(crate) fn heard(&self) {
        self.state.set_unanswered(false);
    }

    /// How many events of the connection had no room: nobody has read them for long.
    pub(crate) fn dropped(&self) -> u64 {
        self.state.dropped()
    }

    /// Leaves a server that is about to stop for another one, if any other is known. Whether it did.
    pub(crate) async fn leave(&self) -> bool {
        let another = self.client.server_pool().await.is_ok_and(|known| known.len() > 1);
        if !another {
            return false;
        }
        self.state.leave();
        // It fails where the client has ended.
        self.client.force_reconnect().await.is_ok()
    }
}

/// Connects as `config` says.
///
/// Files that the configuration names are checked first, in both modes: no server can mend them. With
/// [`Retry::Forever`] nothing else ends the waiting but dropping the future.
pub async fn connect(config: &ConnectConfig, retry: Retry) -> Result<Link, Failure> {
    let word = |failure| config.role.word(failure);
    let prefix = config.role.prefix();
    tls::check(&config.tls).await.map_err(word)?;
    identity::check(&config.auth).await.map_err(word)?;
    let (sender, events) = mpsc::channel(EVENT_CAPACITY);
    let mut said: Option<FailureKind> = None;
    for attempt in 2.. {
        // Every round has its own watcher: one that belongs to a failed try must not speak for the next.
        let watcher = Watcher::new(sender.clone(), config);
        let failure = match round(config, patience(config, retry, attempt), &watcher).await {
            Ok((client, passed_over)) => {
                let server = address_of(&client);
                match passed_over {
                    _ if said.is_some() => tracing::warn!(server, "{prefix}connected at last"),
                    Some(failure) => {
                        let reason = word(failure).to_string();
                        tracing::warn!(server, reason, "{prefix}connected to another server");
                    }
                    None => {}
                }
                return Ok(Link { client, events, state: watcher.state() });
            }
            Err(failure) => word(failure),
        };
        if retry == Retry::Once {
            return Err(failure);
        }
        // Once for every kind of failure in a row: a refused login after a missing server is news.
        if said != Some(failure.kind()) {
            tracing::warn!(reason = %failure, hint = failure.hint(), "{prefix}not connected; trying again for as long as it takes");
            said = Some(failure.kind());
        }
        sleep(pause(attempt, failure.kind() == FailureKind::Credentials)).await;
    }
    unreachable!("the attempts never run out")
}

/// How long to wait before this attempt since the connection was lost; the first one is not delayed.
///
/// It grows to one second only, because the server that is most often lost is the one next door, being restarted.
/// A server that refuses the login logs each refusal, so it is asked more seldom.
pub(crate) fn pause(attempt: usize, refused: bool) -> Duration {
    let Some(step) = attempt.checked_sub(2) else { return Duration::ZERO };
    let doublings = u32::try_from(step).unwrap_or(u32::MAX).min(10);
    let longest = if refused { Duration::from_secs(5) } else { Duration::from_secs(1) };
    (Duration::from_millis(50) * 2_u32.pow(doublings)).min(longest)
}

/// How long a try may take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// With one server, however many addresses it has.
    Server(Duration),
    /// With each address of a server, now and whenever the connection is made again.
    Address(Duration),
}

/// How long a try of this attempt may take. The first one is number 2.
fn patience(config: &ConnectConfig, retry: Retry, attempt: usize) -> Patience {
    match retry {
        Retry::Once => {
            let servers = u32::try_from(config.servers.len()).unwrap_or(u32::MAX).max(1);
            Patience::Server(config.timeout / servers)
        }
        Retry::Forever => {
            let doublings = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX).min(10);
            Patience::Address((ANSWER_MAX * 2_u32.pow(doublings)).min(config.timeout))
        }
    }
}

/// Tries every server once, in their order. Gives the client, and what kept us from the servers before.
async fn round(
    config: &ConnectConfig,
    patience: Patience,
    watcher: &Watcher,
) -> Result<(Client, Option<Failure>), Failure> {
    let mut failures = Vec::new();
    for server in &config.servers {
        match attempt(config, server, patience, watcher).await {
            Ok(client) => {
                widen_pool(&client, config).await;
                let passed_over = (!failures.is_empty()).then(|| diagnose::most_telling(failures));
                return Ok((client, passed_over));
            }
            Err(failure) => failures.push(failure),
        }
    }
    Err(diagnose::most_telling(failures))
}

/// Tries one server, at each of its addresses.
///
/// One server at a time, because a try of several at once tells neither whose error it returns nor the others.
async fn attempt(
    config: &ConnectConfig,
    server: &ServerAddr,
    patience: Patience,
    watcher: &Watcher,
) -> Result<Client, Failure> {
    let (Patience::Server(limit) | Patience::Address(limit)) = patience;
    let addresses: Vec<SocketAddr> = match timeout(limit, server.socket_addrs()).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(diagnose::unknown_host(server, &error)),
        Err(_) => return Err(diagnose::too_late(server, limit)),
    };
    // The timeout of the options is for one address; one that swallows packets must leave time for the next.
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let (each, share) = match patience {
        Patience::Server(share) => (share / count, share),
        Patience::Address(each) => (each, each * count),
    };
    let connecting = timeout(share, options(config, each, watcher).connect(server.clone()));
    let asking = async {
        match addresses.first() {
            Some(address) => port::speaks_http(*address, each / 2).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = connecting => outcome,
        () = asking => return Err(diagnose::http_port(server)),
    };
    let failure = match outcome {
        Ok(Ok(client)) => {
            watcher.begin(server);
            return Ok(client);
        }
        Ok(Err(error)) => diagnose::failure(server, config, share, &error),
        Err(_) => diagnose::too_late(server, share),
    };
    if failure.kind() != FailureKind::Unreachable || addresses.len() < 2 {
        return Err(failure);
    }
    Err(refused_at_one(config, server, &addresses, each).await.unwrap_or(failure))
}

/// Whether one of several addresses refuses the login: the client tells only how the last one failed, and a
/// refusal matters more than an address where nobody listens.
async fn refused_at_one(
    config: &ConnectConfig,
    server: &ServerAddr,
    addresses: &[SocketAddr],
    each: Duration,
) -> Option<Failure> {
    // Nobody shall hear of these tries.
    let watcher = Watcher::new(mpsc::channel(1).0, config);
    for address in addresses {
        let single: ServerAddr = format!("{}://{address}", server.scheme()).parse().ok()?;
        let connecting = options(config, each, &watcher).connect(single.clone());
        if let Ok(Err(error)) = timeout(each, connecting).await {
            let failure = diagnose::failure(&single, config, each, &error);
            if failure.kind() == FailureKind::Credentials {
                return Some(failure);
            }
        }
    }
    None
}

fn options(config: &ConnectConfig, each: Duration, watcher: &Watcher) -> ConnectOptions {
    let mut options = match Identity::of(&config.auth) {
        // Read and signed at every connect, so that renewed files are used.
        Some(identity) => ConnectOptions::with_auth_callback(move |nonce| {
            let identity = identity.clone();
            async move { identity.answer(&nonce).await }
        }),
        None => ConnectOptions::new(),
    };
    if let Some(ca) = &config.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &config.tls.client {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    if config.tls.first {
        options = options.tls_first();
    }
    let (on_event, on_loss) = (watcher.clone(), watcher.clone());
    options
        .require_tls(config.tls.required())
        .name(&config.name)
        .custom_inbox_prefix(&config.inbox_prefix)
        .connection_timeout(each)
        .request_timeout(Some(config.timeout))
        // The client gives a connection up at the third ping without an answer.
        .ping_interval(config.ping_interval)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .event_callback(move |event| {
            on_event.hear(event);
            std::future::ready(())
        })
        .reconnect_to_server_callback(move |known, last| std::future::ready(on_loss.choose(&known, &last)))
}

/// Lets the client reconnect to all servers of the configuration, and to those it heard of.
async fn widen_pool(client: &Client, config: &ConnectConfig) {
    if config.servers.len() < 2 {
        return;
    }
    let mut pool = config.servers.clone();
    if let Ok(known) = client.server_pool().await {
        for server in known {
            if !pool.contains(&server.addr) {
                pool.push(server.addr);
            }
        }
    }
    if let Err(error) = client.set_server_pool(pool).await {
        tracing::warn!(%error, "after a loss of the connection, only the present server will be tried");
    }
}

/// Where the client is connected to, for people.
fn address_of(client: &Client) -> String {
    let info = client.server_info();
    if info.server_name.is_empty() { info.server_id } else { info.server_name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::config::{ConnectFlags, Env};

    #[test]
    fn a_watcher_waits_longer_for_servers_from_try_to_try_and_a_single_look_shares_its_time() {
        let flags = |servers: &str| ConnectFlags { server: Some(servers.into()), ..ConnectFlags::default() };
        let config = |servers| ConnectConfig::resolve(&flags(servers), &Env::default());
        let config = config("a,b").expect("a configuration");
        let millis = |retry| {
            [2, 3, 4, 99].map(|attempt| match patience(&config, retry, attempt) {
                Patience::Server(limit) | Patience::Address(limit) => limit.as_millis(),
            })
        };
        assert_eq!(millis(Retry::Forever), [2_000, 4_000, 5_000, 5_000]);
        assert_eq!(millis(Retry::Once), [2_500; 4]);
    }

    #[test]
    fn the_pause_grows_to_a_second_and_for_refused_logins_to_five() {
        let millis =
            |refused| [0, 1, 2, 3, 4, 6, 7, 9, 1000].map(|attempt| pause(attempt, refused).as_millis());
        assert_eq!(millis(false), [0, 0, 50, 100, 200, 800, 1000, 1000, 1000]);
        assert_eq!(millis(true), [0, 0, 50, 100, 200, 800, 1600, 5000, 5000]);
    }
}
