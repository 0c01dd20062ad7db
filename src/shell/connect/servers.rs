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

    /// The connection is there again. Whether it had been lost.
    pub(super) fn found(&mut self) -> bool {
        self.search.take().is_some()
    }

    /// The connection is lost. Whether that is news.
    pub(super) fn lost(&mut self, loss: Loss) -> bool {
        let news = self.search.is_none();
        self.search.get_or_insert_with(|| Search {
            left: if loss == Loss::Closed { None } else { self.current.clone() },
            round: 0,
            tried: Vec::new(),
        });
        news
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
                let timed_out = server.last_error.as_ref() == Some(&ConnectErrorKind::TimedOut.to_string());
                let slow = timed_out || search.left.as_ref() == Some(&server.addr);
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
            assert!(servers.lost(loss));
            assert_eq!(tries(&mut servers, &all, 4), order, "{loss:?} of {connected_to}");
        }
    }

    #[test]
    fn a_server_that_kept_a_try_waiting_comes_after_those_that_did_not() {
        let mut servers = connected(&["a", "b", "c"], "a");
        servers.lost(Loss::Closed);
        assert_eq!(tries(&mut servers, &known(&["a", "b", "c"], &["a"]), 3), ["0:b", "0:c", "0:a"]);
        assert_eq!(tries(&mut servers, &known(&["a", "b", "c"], &["a", "b"]), 3), ["1:c", "1:a", "1:b"]);
    }

    #[test]
    fn servers_that_the_lost_one_named_come_after_those_given_and_its_own_addresses_last() {
        // It is given by the name `door`, and calls itself `own` and `own6`.
        let all = known(&["door", "own", "own6", "b", "c"], &[]);
        let mut servers = connected(&["door"], "door");
        servers.lost(Loss::Silent);
        assert_eq!(tries(&mut servers, &all, 5), ["0:c", "0:b", "0:own6", "0:own", "0:door"]);
        assert!(servers.found());
        servers.begin(&addr("door"));
        servers.lost(Loss::Closed);
        assert_eq!(tries(&mut servers, &all, 2), ["0:door", "0:c"]);
    }

    #[test]
    fn a_single_server_is_tried_round_after_round() {
        let mut servers = connected(&["a"], "a");
        servers.lost(Loss::Silent);
        assert_eq!(tries(&mut servers, &known(&["a"], &["a"]), 3), ["0:a", "1:a", "2:a"]);
    }

    #[test]
    fn a_loss_is_news_once_and_ends_with_the_next_connection() {
        let mut servers = connected(&["a", "b"], "a");
        assert!(!servers.found(), "nothing was lost");
        assert!(servers.lost(Loss::Silent) && !servers.lost(Loss::Closed));
        let first = servers.next(&known(&["a", "b"], &[])).expect("a server");
        assert!(first.opens_round && first.server == addr("b"));
        assert!(servers.found() && !servers.found());
        // Now it is the other one that is left.
        assert!(servers.lost(Loss::Silent));
        assert_eq!(tries(&mut servers, &known(&["a", "b"], &[]), 2), ["0:a", "0:b"]);
    }

    #[test]
    fn before_the_first_connection_there_is_nothing_to_choose() {
        let mut servers = Servers::new(&[addr("a")]);
        assert_eq!(servers.next(&known(&["a"], &[])), None);
        assert_eq!((servers.lost(Loss::Closed), servers.next(&known(&["a"], &[]))), (true, None));
    }
}
