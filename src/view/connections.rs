//! What other servers say of their connections to a peer that is silent to us: whether they hold one, and whether
//! anything comes over it.
//!
//! Source: `STATSZ` of nats-server, measured on 2.10.25, 2.12.8 and 2.15.1. After kill -9 no server lists a route, or a
//! gateway connection, to a server any more within 0.5 s; while it is frozen both stay. Every follower receives a message
//! from its leader each second; between two followers a route can stand still for 12.5 s in health.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Route;
use super::history::PeerHistory;
use super::peer::{PeerEvidence, TOLD_MAX};
use crate::epoch::Gathered;
use crate::name::{Name, PeerId};
use crate::rules::{HEARD_LATELY, STANDING_EPOCHS_MIN};
use crate::stamp::Stamp;
use crate::wire::Statsz;

/// The counters of so many servers are remembered for one peer.
const COUNTED_MAX: usize = 256;

/// Who holds a connection to a silent peer.
#[derive(Default)]
pub(super) struct Connections {
    /// The servers of its cluster; the first of them.
    pub(super) routes: BTreeMap<Name, Route>,
    /// How many more there are.
    pub(super) more_routes: usize,
    /// The servers of other clusters, where none of its own answers; the first of them.
    pub(super) gateways: BTreeMap<Name, Route>,
}

impl PeerEvidence<'_> {
    /// Who holds a connection to the peer. Routes join servers of one cluster only, so the word of other clusters says
    /// nothing of them; where nobody of its cluster answers, what counts is whether others hold a gateway connection to
    /// that. And where less than a quorum answers, the cut-off side may be ours.
    pub(super) fn connections(&self, id: PeerId, lives: bool, history: &mut PeerHistory) -> Connections {
        let cluster = self.cluster();
        if history.silence.is_none() || !self.gathered.asked_statsz || cluster.is_empty() {
            return Connections::default();
        }
        let own = self.reply_index.statsz(self.domain, &cluster).iter();
        let own: Vec<&Statsz> = own.copied().filter(|statsz| statsz.server.peer != id).collect();
        for statsz in &own {
            if let Some(received) = statsz.route_to(id).and_then(|route| route.received) {
                history.received.take(statsz, received, self.gathered);
            }
        }
        let mut routes: Vec<_> = own.into_iter().filter_map(|statsz| route(statsz, id)).collect();
        // Whether the cluster has gateways at all must be known from before.
        let by_gateway = routes.is_empty() && self.has_gateways;
        if by_gateway {
            let others = self.reply_index.statsz_of_others(self.domain, &cluster);
            routes = others.filter_map(|statsz| gateway(statsz, &cluster)).collect();
        }
        if routes.is_empty() {
            return Connections::default();
        }
        // Whoever answers this question lives, whatever became of its other reply.
        if lives || routes.iter().any(|(_, route)| *route == Route::Held) {
            // One whose connections had all closed was not frozen, but is being started.
            (history.disconnected_epochs, history.routes_held) = (0, lives || !history.routes_closed);
        } else if self.quorum_answers {
            history.disconnected_epochs = history.disconnected_epochs.saturating_add(1);
            // What they held earlier in this silence says nothing any more.
            history.routes_held &= history.disconnected_epochs < STANDING_EPOCHS_MIN;
            history.routes_closed |= history.disconnected_epochs >= STANDING_EPOCHS_MIN;
        }
        routes.sort_by_key(|(_, route)| *route == Route::Lost);
        let more = routes.len().saturating_sub(TOLD_MAX);
        // Of two runs of one reporter, the one that holds a connection counts.
        let told: BTreeMap<Name, Route> = routes.into_iter().take(TOLD_MAX).rev().collect();
        if by_gateway {
            Connections { gateways: told, ..Connections::default() }
        } else {
            Connections { routes: told, more_routes: more, ..Connections::default() }
        }
    }
}

/// A route that could not be read may be the one to this peer.
fn route(statsz: &Statsz, id: PeerId) -> Option<(Name, Route)> {
    let held = statsz.route_to(id).is_some();
    told(statsz, held, statsz.unreadable_routes == 0)
}

fn gateway(statsz: &Statsz, cluster: &Name) -> Option<(Name, Route)> {
    told(statsz, statsz.has_gateway_to(cluster), statsz.unreadable_gateways == 0)
}

fn told(statsz: &Statsz, held: bool, whole: bool) -> Option<(Name, Route)> {
    (held || whole).then(|| (statsz.server.name.clone(), if held { Route::Held } else { Route::Lost }))
}

/// How many messages servers have received over their routes from one peer, since that fell silent to us.
#[derive(Clone, Debug, Default)]
pub(super) struct Received(BTreeMap<Name, Count>);

/// What one run of a server has received.
#[derive(Clone, Debug)]
struct Count {
    server: Name,
    messages: u64,
    /// The end of the first epoch that showed this number.
    since: Stamp,
    /// It was smaller before.
    grew: bool,
}

impl Received {
    fn take(&mut self, statsz: &Statsz, messages: u64, gathered: &Gathered) {
        let known = self.0.get(&statsz.server.id);
        if known.is_some_and(|known| known.messages == messages)
            || (known.is_none() && self.0.len() >= COUNTED_MAX)
        {
            return;
        }
        // A number that goes back is one of new connections: it says nothing yet.
        let grew = known.is_some_and(|known| known.messages < messages);
        let count = Count { server: statsz.server.name.clone(), messages, since: gathered.closed, grew };
        self.0.insert(statsz.server.id.clone(), count);
    }

    /// The peer has answered: what came before is over.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Who has received nothing, for how long at least.
    pub(super) fn nothing_for(&self, gathered: &Gathered) -> BTreeMap<Name, Duration> {
        let lasted = |count: &Count| (count.server.clone(), gathered.opened.since(count.since));
        self.0.values().map(lasted).filter(|(_, lasted)| *lasted > HEARD_LATELY).collect()
    }

    /// Who has received something lately, while the peer was silent to us.
    pub(super) fn lately(&self, gathered: &Gathered) -> BTreeSet<Name> {
        let lately = |count: &&Count| count.grew && gathered.opened.since(count.since) <= HEARD_LATELY;
        self.0.values().filter(lately).map(|count| count.server.clone()).collect()
    }
}
