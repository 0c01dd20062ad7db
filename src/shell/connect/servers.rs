//! Which server to try next, while there is no connection. It reads no clock and opens no socket.

use std::cmp::Reverse;

use async_nats::{ConnectErrorKind, Server, ServerAddr};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was closed, by the server or on the way. Where nobody asked a question, unanswered pings look the
    /// same.
    Closed,
    /// The server left a question and our pings unanswered: it is frozen, or cut off.
    Silent,
    /// The server is about to stop, and we left before it did.
    LameDuck,
}

impl Loss {
    /// What happened, in words.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Closed => "connection lost",
            Self::Silent => "connection given up",
            Self::LameDuck => "connection ended",
        }
    }

    /// Why, in words.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed at the other end or on the way, or pings were not answered",
            Self::Silent => "neither questions nor pings are answered: the server is frozen or cut off",
            Self::LameDuck => "the server is in lame duck mode, about to stop",
        }
    }
}

/// The servers, and how the search for one goes.
#[derive(Debug)]
pub(super) struct Servers {
    /// Those of the configuration, in its order.
    given: Vec<ServerAddr>,
    /// The one that we are connected to or tried last; `None` before the first connection.
    current: Option<ServerAddr>,
    search: Option<Search>,
}

/// A search for a server, from the loss of a connection to the next one.
#[derive(Debug)]
struct Search {
    /// The server that was left. It may still accept connections, each of which would cost the whole timeout.
    left: Option<ServerAddr>,
    /// How many times every server has been tried.
    round: usize,
    /// The servers that were tried in this round.
    tried: Vec<ServerAddr>,
    /// What was lost, until that is said.
    unsaid: Option<LostConnection>,
}

/// A connection that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostConnection {
    /// Why.
    pub(super) loss: Loss,
    /// The name of the server that was left.
    pub(super) server: String,
    /// Its address, as people write it.
    pub(super) address: String,
}

/// A search has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What was lost, where that was not said before.
    pub(super) unsaid: Option<LostConnection>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Try {
    /// The server to connect to.
    pub(super) server: ServerAddr,
    /// How many times every server has been tried before.
    pub(super) round: usize,
    /// Whether it is the first one of its round.
    pub(super) opens_round: bool,
}

impl Servers {
    pub(super) fn new(given: &[ServerAddr]) -> Self {
        Self { given: given.to_vec(), current: None, search: None }
    }

    /// The one that we are connected to or tried last; `None` before the first connection.
    pub(super) fn current(&self) -> Option<&ServerAddr> {
        self.current.as_ref()
    }

    /// The first connection has come about.
    pub(super) fn begin(&mut self, server: &ServerAddr) {
        self.current = Some(server.clone());
    }

    /// The connection is there again; `None` when it had not been lost.
    pub(super) fn found(&mut self) -> Option<Found> {
        self.search.take().map(|search| Found { unsaid: search.unsaid })
    }

    /// The connection to the server of this name is lost.
    pub(super) fn lost(&mut self, loss: Loss, server: &str) {
        let current = self.current.as_ref();
        self.search.get_or_insert_with(|| Search {
            left: current.filter(|_| loss != Loss::Closed).cloned(),
            round: 0,
            tried: Vec::new(),
            unsaid: current.map(|address| LostConnection {
                loss,
                server: server.to_owned(),
                address: address.as_url_str().to_owned(),
            }),
        });
    }

    /// What is to be said now of the loss: nothing while the search may still be over in a moment, which is told as one
    /// thing with its end. It lasts once every server was tried, or one kept a try waiting.
    pub(super) fn take_unsaid(&mut self, known: &[Server]) -> Option<LostConnection> {
        let search = self.search.as_mut()?;
        let slow = known.iter().any(|server| search.tried.contains(&server.addr) && timed_out(server));
        if search.round > 0 || slow { search.unsaid.take() } else { None }
    }

    /// The server to try now, of those that the client knows; `None` before the first connection.
    ///
    /// Each is tried once a round. Those of the configuration come first, in its order, because the first of
    /// them is the one next door. The one that was left, and those that kept the last try waiting, come last.
    pub(super) fn next(&mut self, known: &[Server]) -> Option<Try> {
        let (current, search) = (self.current.as_mut()?, self.search.as_mut()?);
        let untried = |search: &Search| {
            let servers = known.iter().enumerate().filter(|(_, server)| !search.tried.contains(&server.addr));
            let rank = |(index, server): &(usize, &Server)| {
                let slow = timed_out(server) || search.left.as_ref() == Some(&server.addr);
                let given = self.given.iter().position(|given| *given == server.addr);
                // A server names its own addresses first, and we have just lost it (nats-server
                // `server/server.go`, updateServerINFOAndSendINFOToClients).
                (slow, given.is_none(), given, Reverse(*index))
            };
            servers.min_by_key(rank).map(|(_, server)| server.addr.clone())
        };
        let server = untried(search).or_else(|| {
            (search.round, search.tried) = (search.round.saturating_add(1), Vec::new());
            untried(search)
        })?;
        let opens_round = search.tried.is_empty();
        search.tried.push(server.clone());
        current.clone_from(&server);
        Some(Try { server, round: search.round, opens_round })
    }
}

/// Whether the last try to connect to a server was given up after the whole timeout.
fn timed_out(server: &Server) -> bool {
    server.last_error.as_ref() == Some(&ConnectErrorKind::TimedOut.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(name: &str) -> ServerAddr {
        format!("nats://{name}:4222").parse().expect("an address")
    }

    /// What the client knows; `slow` are those whose last try timed out.
    fn known(names: &[&str], slow: &[&str]) -> Vec<Server> {
        let server = |name: &&str| Server {
            addr: addr(name),
            failed_attempts: 0,
            did_connect: true,
            is_discovered: false,
            last_error: slow.contains(name).then(|| "timed out".to_owned()),
        };
        names.iter().map(server).collect()
    }

    fn connected(given: &[&str], to: &str) -> Servers {
        let mut servers = Servers::new(&given.iter().map(|name| addr(name)).collect::<Vec<_>>());
        servers.begin(&addr(to));
        servers
    }

    /// The next tries, as `round:host`.
    fn tries(servers: &mut Servers, known: &[Server], count: usize) -> Vec<String> {
        let mut next = || {
            let Try { server, round, .. } = servers.next(known).expect("a server");
            format!("{round}:{}", server.host())
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn after_a_loss_servers_are_tried_in_their_order_and_a_silent_one_last() {
        let all = known(&["a", "b", "c"], &[]);
        for (loss, connected_to, order) in [
            (Loss::Closed, "a", ["0:a", "0:b", "0:c", "1:a"]),
            (Loss::Silent, "a", ["0:b", "0:c", "0:a", "1:b"]),
            (Loss::LameDuck, "a", ["0:b", "0:c", "0:a", "1:b"]),
            (Loss::Silent, "b", ["0:a", "0:c", "0:b", "1:a"]),
        ] {
            let mut servers = connected(&["a", "b", "c"], connected_to);
            servers.lost(loss, "one");
            assert_eq!(tries(&mut servers, &all, 4), order, "{loss:?} of {connected_to}");
        }
    }

    #[test]
    fn a_server_that_kept_a_try_waiting_comes_after_those_that_did_not() {
        let mut servers = connected(&["a", "b", "c"], "a");
        servers.lost(Loss::Closed, "one");
        assert_eq!(tries(&mut servers, &known(&["a", "b", "c"], &["a"]), 3), ["0:b", "0:c", "0:a"]);
        assert_eq!(tries(&mut servers, &known(&["a", "b", "c"], &["a", "b"]), 3), ["1:c", "1:a", "1:b"]);
    }

    #[test]
    fn servers_that_the_lost_one_named_come_after_those_given_and_its_own_addresses_last() {
        // It is given by the name `door`, and calls itself `own` and `own6`.
        let all = known(&["door", "own", "own6", "b", "c"], &[]);
        let mut servers = connected(&["door"], "door");
        servers.lost(Loss::Silent, "one");
        assert_eq!(tries(&mut servers, &all, 5), ["0:c", "0:b", "0:own6", "0:own", "0:door"]);
        assert!(servers.found().is_some());
        servers.begin(&addr("door"));
        servers.lost(Loss::Closed, "one");
        assert_eq!(tries(&mut servers, &all, 2), ["0:door", "0:c"]);
    }

    #[test]
    fn a_single_server_is_tried_round_after_round() {
        let mut servers = connected(&["a"], "a");
        servers.lost(Loss::Silent, "one");
        assert_eq!(tries(&mut servers, &known(&["a"], &["a"]), 3), ["0:a", "1:a", "2:a"]);
    }

    #[test]
    fn a_loss_that_ends_at_once_is_told_with_its_end_and_one_that_lasts_before() {
        let mut servers = connected(&["a", "b"], "a");
        assert_eq!(servers.found(), None, "nothing was lost");
        let all = known(&["a", "b"], &[]);
        servers.lost(Loss::Silent, "one");
        servers.lost(Loss::Closed, "other");
        let first = servers.next(&all).expect("a server");
        assert!(first.opens_round && first.server == addr("b"));
        assert_eq!(servers.take_unsaid(&all), None, "it may be over in a moment");
        let lost = LostConnection {
            loss: Loss::Silent,
            server: "one".to_owned(),
            address: "nats://a:4222".to_owned(),
        };
        assert_eq!(servers.found(), Some(Found { unsaid: Some(lost) }));
        assert_eq!(servers.found(), None);
        // Now it is the other one that is left, and no server answers.
        servers.lost(Loss::Silent, "two");
        assert_eq!(tries(&mut servers, &all, 2), ["0:a", "0:b"]);
        assert_eq!(servers.take_unsaid(&all), None);
        assert_eq!(tries(&mut servers, &all, 1), ["1:a"]);
        let lost = servers.take_unsaid(&all).expect("a loss that lasts");
        assert_eq!((lost.server.as_str(), lost.address.as_str()), ("two", "nats://b:4222"));
        assert_eq!(servers.take_unsaid(&all), None, "said once");
        assert_eq!(servers.found(), Some(Found { unsaid: None }));
        // One that keeps us waiting is told of before all were tried.
        servers.lost(Loss::Closed, "one");
        servers.next(&all).expect("a server");
        assert!(servers.take_unsaid(&known(&["a", "b"], &["a", "b"])).is_some());
    }

    #[test]
    fn before_the_first_connection_there_is_nothing_to_choose() {
        let mut servers = Servers::new(&[addr("a")]);
        assert_eq!(servers.next(&known(&["a"], &[])), None);
        servers.lost(Loss::Closed, "one");
        assert_eq!(servers.next(&known(&["a"], &[])), None);
    }
}
