//! What a server says of its connections to other servers (`STATSZ`): only what a witness needs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::fields::{Fields, Flaws};
use super::shapes::{Bounded, Object};
use crate::name::{Name, PeerId};

/// A reply to `STATSZ` that could be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statsz {
    /// Who answered.
    pub server: super::Server,
    /// The servers of its own cluster it holds a route to, in the order of their ids and each once; none when it holds no
    /// route.
    pub routes: Vec<RouteTo>,
    /// How many routes could not be read, or were too many: then a server that is not among [`Self::routes`] may
    /// have one.
    pub unreadable_routes: u32,
    /// The other clusters it holds a gateway connection to, in order and each once.
    pub gateways: Vec<Name>,
    /// How many gateway connections could not be read, or were too many.
    pub unreadable_gateways: u32,
    /// How many servers share the system account, itself included. Counts crashed ones for minutes.
    pub active_servers: i64,
    /// What was wrong with the answer, as in [`super::Reply::flaws`].
    pub flaws: Vec<String>,
}

/// The route to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteTo {
    /// Which one.
    pub peer: PeerId,
    /// How many messages have come from it, over all connections of the route together; `None` where that is not told.
    pub received: Option<u64>,
}

impl Statsz {
    /// The route to this server, where it holds one.
    pub fn route_to(&self, peer: PeerId) -> Option<&RouteTo> {
        let place = self.routes.binary_search_by_key(&peer, |route| route.peer).ok()?;
        Some(&self.routes[place])
    }

    /// Whether it holds a gateway connection to this cluster.
    pub fn has_gateway_to(&self, cluster: &Name) -> bool {
        self.gateways.binary_search(cluster).is_ok()
    }
}

#[derive(Deserialize)]
pub(super) struct StatszData<'a> {
    #[serde(borrow)]
    routes: Option<Bounded<Object<Route<'a>>>>,
    #[serde(borrow)]
    gateways: Option<Bounded<Object<Gateway<'a>>>>,
    #[serde(default)]
    active_servers: i64,
}

#[derive(Deserialize)]
struct Route<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    received: Option<Object<Traffic>>,
}

#[derive(Deserialize)]
struct Gateway<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Traffic {
    msgs: Option<u64>,
}

impl StatszData<'static> {
    /// Reads it field by field.
    pub(super) fn lenient(statsz: &Fields<'_>, flaws: &mut Flaws) -> Self {
        let route = |route: &Fields<'_>, flaws: &mut Flaws| {
            let received = route.object("received", flaws);
            let received = received.map(|traffic| Object(Traffic { msgs: traffic.count("msgs", flaws) }));
            Some(Object(Route { name: route.text("name", flaws).into(), received }))
        };
        let gateway = |gateway: &Fields<'_>, flaws: &mut Flaws| {
            Some(Object(Gateway { name: gateway.text("name", flaws).into() }))
        };
        StatszData {
            routes: statsz.each("routes", flaws, route),
            gateways: statsz.each("gateways", flaws, gateway),
            active_servers: statsz.number("active_servers", flaws).unwrap_or_default(),
        }
    }
}

impl StatszData<'_> {
    pub(super) fn into_statsz(self, server: super::Server, flaws: Flaws) -> Statsz {
        let count = |unreadable: usize| u32::try_from(unreadable).unwrap_or(u32::MAX);
        let routes = self.routes.unwrap_or_default();
        let named = || routes.entries.iter().filter(|Object(route)| !route.name.is_empty());
        let unreadable_routes = routes.entries.len() - named().count() + routes.unread;
        // One row a pooled connection: names repeat.
        let mut by_peer: BTreeMap<PeerId, Option<u64>> = BTreeMap::new();
        for Object(route) in named() {
            let received = route.received.as_ref().and_then(|Object(traffic)| traffic.msgs);
            let sum = by_peer.entry(PeerId::of_server(&route.name)).or_insert(Some(0));
            *sum = sum.zip(received).map(|(sum, received)| sum.saturating_add(received));
        }
        let sent = self.gateways.unwrap_or_default();
        let named = sent.entries.iter().filter(|Object(gateway)| !gateway.name.is_empty());
        let mut gateways: Vec<Name> = named.map(|Object(gateway)| Name::new(&gateway.name)).collect();
        let unreadable_gateways = sent.entries.len() - gateways.len() + sent.unread;
        gateways.sort_unstable();
        gateways.dedup();
        Statsz {
            server,
            routes: by_peer.into_iter().map(|(peer, received)| RouteTo { peer, received }).collect(),
            unreadable_routes: count(unreadable_routes),
            gateways,
            unreadable_gateways: count(unreadable_gateways),
            active_servers: self.active_servers,
            flaws: flaws.into_words(),
        }
    }
}
