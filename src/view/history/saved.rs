//! What is remembered, as a document that another watcher goes on with: who there is, when each was last heard, and
//! since when somebody is silent.
//!
//! Clocks differ, so a document holds ages and no times; whoever was heard in the last epoch has none, and counts as
//! heard when its watcher last said that it still knows the same. What nobody saw between that moment and the next epoch
//! counts against nobody. Streaks of a whole group (no leader, a smaller list) begin anew.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    ANSWERED_MIN, GATEWAYS_MAX, GROUPS_MAX, GroupHistory, History, PeerHistory, ServerHistory, Tenure,
};
use crate::epoch::{REPLIES_MAX, ServerKey};
use crate::name::{Name, PeerId};
use crate::stamp::Stamp;
use crate::view::Streak;
use crate::view::contact::TermBegan;
use crate::view::load::RunHistory;
use crate::wire::AnnouncementKind;

/// The version of the document. Another one is left out: what it tells is learned anew.
const SAVED_VERSION: u32 = 1;
/// About so many bytes are written at most; groups beyond that are left out, the last ones first.
const BYTES_MAX: usize = 4 << 20;
/// A peer takes about so many bytes besides its names.
const PEER_BYTES: usize = 64;
/// More clusters of one group are not believed.
const CLUSTERS_MAX: usize = 256;
/// A larger group is not believed.
const SIZE_MAX: u64 = 100_000;
/// Delays below this change no patience.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// What one watcher remembers of the servers, for those that may go on in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHistory {
    v: u32,
    groups: Vec<SavedGroup>,
    /// The clusters that servers have told of gateway connections to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gateways: Vec<Name>,
}

/// Where on the clock of this watcher a document of another one belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// When it was received: ages count from here.
    pub received: Stamp,
    /// When its watcher last said that it stands.
    pub confirmed: Stamp,
    /// When this watcher begins to look.
    pub now: Stamp,
}

/// What saved alerts tell of a group before any epoch does: whom they are about, and how large it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The key of the group.
    pub group: Name,
    /// Its domain.
    pub domain: Name,
    /// The peer that the alert is about, with its name; `None` for the whole group.
    pub peer: Option<(PeerId, Name)>,
    /// The last agreed size, and how many must agree.
    pub size: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedGroup {
    key: Name,
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    domain: Name,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    clusters: Vec<Name>,
    /// Its members are those of a complete list.
    #[serde(default)]
    listed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "is_false")]
    rescue: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<PeerId>,
    /// For how long it has led at most and at least; absent when it was there before anybody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    led_ms: Option<(u64, u64)>,
    /// Nobody of it has been heard for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unheard_ms: Option<u64>,
    peers: Vec<SavedPeer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedPeer {
    /// Absent when the name gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<PeerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    /// It is shown, and no member.
    #[serde(default, skip_serializing_if = "is_false")]
    outside: bool,
    /// No leader has ever met it.
    #[serde(default, skip_serializing_if = "is_false")]
    unmet: bool,
    /// Absent when it has never answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<SavedServer>,
    /// Since when it has been silent, and for how many epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent_ms: Option<(u64, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shutdown_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lameduck_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down_ms: Option<u64>,
    /// Since when a leader's row has told no contact in its term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_contact_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    flag_epochs: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    flag_announced: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    off_since_start: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_by_routes: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedServer {
    /// The id of its run.
    run: Name,
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    cluster: Name,
    /// The run in which it was a member last; absent when that is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member_run: Option<Name>,
    /// It has never answered as a member.
    #[serde(default, skip_serializing_if = "is_false")]
    no_member: bool,
    /// How long ago it was heard; absent when that was in the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard_ms: Option<u64>,
    /// How long it takes to answer, where that is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The stamp so long before another one.
fn before(stamp: Stamp, age_ms: u64) -> Stamp {
    let age = i64::try_from(age_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Stamp::at_wall(stamp.wall_ns().saturating_sub(age), stamp)
}

/// Reads a document; one of another version, or that cannot be read, is as good as none.
pub fn read_leniently<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SavedHistory>, D::Error> {
    let document = Option::<serde_json::Value>::deserialize(deserializer)?;
    let read = document.and_then(|document| serde_json::from_value::<SavedHistory>(document).ok());
    Ok(read.filter(SavedHistory::is_sound))
}

impl SavedHistory {
    fn is_sound(&self) -> bool {
        let peers: usize = self.groups.iter().map(|group| group.peers.len()).sum();
        self.v == SAVED_VERSION
            && self.groups.len() <= GROUPS_MAX
            && self.gateways.len() <= GATEWAYS_MAX
            && peers <= REPLIES_MAX
            && self.groups.iter().all(SavedGroup::is_sound)
    }

    /// Whether another one tells the same, but for ages and counts that grow by themselves.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        self.groups.len() == other.groups.len()
            && self.gateways == other.gateways
            && self.groups.iter().zip(&other.groups).all(|(one, other)| one.tells_the_same(other))
    }
}

impl SavedGroup {
    fn is_sound(&self) -> bool {
        self.clusters.len() <= CLUSTERS_MAX
            && self.size.is_none_or(|(size, quorum)| (1..=size).contains(&quorum) && size <= SIZE_MAX)
            && self.peers.iter().all(|peer| peer.id.is_some() || peer.name.is_some())
    }

    fn tells_the_same(&self, other: &Self) -> bool {
        let of = |group: &Self| {
            let is_unheard = group.unheard_ms.is_some();
            (group.listed, group.size, group.rescue, group.leader, is_unheard, group.peers.len())
        };
        of(self) == of(other)
            && (&self.key, &self.domain, &self.clusters) == (&other.key, &other.domain, &other.clusters)
            && self.peers.iter().zip(&other.peers).all(|(one, other)| one.tells_the_same(other))
    }

    fn of(key: &Name, group: &GroupHistory, history: &History, now: Stamp) -> Self {
        let age = |at: Stamp| millis(now.since(at));
        let is_old = |at: &Stamp| history.last_informative.is_some_and(|last| !at.has_reached(last));
        let shown = group.peers.iter().filter(|(id, peer)| {
            group.members.contains(*id) || peer.silence.is_some() || peer.announced.is_some()
        });
        Self {
            key: key.clone(),
            domain: group.domain.clone(),
            clusters: group.clusters.iter().cloned().collect(),
            listed: group.has_list,
            size: group.size.zip(group.quorum),
            rescue: group.rescue,
            leader: group.tenure.and_then(|tenure| tenure.leader),
            led_ms: group
                .tenure
                .and_then(|tenure| tenure.began)
                .map(|term| (age(term.after), age(term.seen))),
            unheard_ms: group.last_heard.filter(is_old).map(age),
            peers: shown.map(|(id, peer)| SavedPeer::of(*id, peer, group, history, now)).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let of = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.as_str().len());
        let of_server = |server: &SavedServer| server.run.as_str().len() + server.cluster.as_str().len();
        let of_peer =
            |peer: &SavedPeer| PEER_BYTES + of(&peer.name) + peer.server.as_ref().map_or(0, of_server);
        self.peers.iter().map(of_peer).sum::<usize>() + PEER_BYTES
    }

    fn restore(self, history: &mut History, at: Moments) {
        let known = history.group(&self.key);
        let is_news = |known: &GroupHistory| {
            known.first_heard.is_none()
                || known.last_heard.is_none_or(|heard| at.confirmed.has_reached(heard))
        };
        if !known.is_none_or(is_news) {
            return;
        }
        let heard = self.unheard_ms.map_or(at.confirmed, |age| before(at.received, age));
        let mut group = GroupHistory {
            domain: self.domain,
            clusters: self.clusters.into_iter().collect(),
            has_list: self.listed,
            size: self.size.map(|(size, _)| size),
            quorum: self.size.map(|(_, quorum)| quorum),
            rescue: self.rescue,
            tenure: self.leader.map(|leader| Tenure {
                leader: Some(leader),
                began: self.led_ms.map(|(after, seen)| TermBegan {
                    after: before(at.received, after),
                    seen: before(at.received, seen.min(after)),
                }),
            }),
            first_heard: Some(heard),
            last_heard: Some(heard),
            ..GroupHistory::default()
        };
        for peer in self.peers {
            let named = peer.name.as_ref().map(|name| PeerId::of_server(name.as_str()));
            let Some(id) = peer.id.or(named) else { continue };
            if !peer.outside {
                group.members.insert(id);
            }
            if let Some(server) = peer.server.as_ref().filter(|_| history.servers.len() < REPLIES_MAX) {
                let key = ServerKey { peer: id, domain: group.domain.clone() };
                let name = peer.name.clone().unwrap_or_default();
                history.servers.insert(key, server.restore(name, at));
            }
            group.peers.insert(id, peer.restore(at));
        }
        history.put(self.key, group);
    }
}

impl SavedPeer {
    fn of(id: PeerId, peer: &PeerHistory, group: &GroupHistory, history: &History, now: Stamp) -> Self {
        let age = |at: Stamp| millis(now.since(at));
        let key = ServerKey { peer: id, domain: group.domain.clone() };
        let server = history.server(&key);
        let name = peer.name.clone().or_else(|| server.map(|server| server.name.clone()));
        let is_of_name = name.as_ref().is_some_and(|name| PeerId::of_server(name.as_str()) == id);
        let announced = |kind| peer.announced.filter(|(_, told)| *told == kind).map(|(at, _)| age(at));
        Self {
            id: (!is_of_name).then_some(id),
            name,
            outside: !group.members.contains(&id),
            unmet: !peer.met,
            server: server.map(|server| SavedServer::of(server, history, now)),
            silent_ms: peer.silence.map(|silence| (age(silence.since), silence.epochs)),
            shutdown_ms: announced(AnnouncementKind::Shutdown),
            lameduck_ms: announced(AnnouncementKind::Lameduck),
            down_ms: peer.down_since.map(age),
            no_contact_ms: peer.no_contact_since.map(age),
            flag_epochs: peer.flag_epochs,
            flag_announced: peer.flag_announced,
            off_since_start: peer.off_since_start,
            cluster_by_routes: peer.cluster_by_routes.clone(),
        }
    }

    fn tells_the_same(&self, other: &Self) -> bool {
        let of = |peer: &Self| {
            let stands = [
                peer.silent_ms.is_some(),
                peer.shutdown_ms.is_some(),
                peer.lameduck_ms.is_some(),
                peer.down_ms.is_some(),
                peer.flag_epochs > 0,
            ];
            (peer.id, peer.outside, peer.unmet, peer.flag_announced, peer.off_since_start, stands)
        };
        let of_server = |peer: &Self| {
            let server = peer.server.as_ref()?;
            let SavedServer { run, cluster, member_run, no_member, .. } = server;
            Some((run.clone(), cluster.clone(), member_run.clone(), *no_member))
        };
        of(self) == of(other)
            && (&self.name, &self.cluster_by_routes) == (&other.name, &other.cluster_by_routes)
            && of_server(self) == of_server(other)
    }

    fn restore(self, at: Moments) -> PeerHistory {
        let ago = |age: u64| before(at.received, age);
        let shutdown = self.shutdown_ms.map(|age| (ago(age), AnnouncementKind::Shutdown));
        let lameduck = self.lameduck_ms.map(|age| (ago(age), AnnouncementKind::Lameduck));
        PeerHistory {
            name: self.name,
            flag_epochs: self.flag_epochs,
            flag_announced: self.flag_announced,
            no_contact_since: self.no_contact_ms.map(ago),
            silence: self.silent_ms.map(|(age, epochs)| Streak {
                since: ago(age),
                until: at.confirmed,
                epochs,
            }),
            announced: shutdown.or(lameduck),
            down_since: self.down_ms.map(ago),
            off_since_start: self.off_since_start,
            cluster_by_routes: self.cluster_by_routes,
            met: !self.unmet,
            ..PeerHistory::default()
        }
    }
}

impl SavedServer {
    fn of(server: &ServerHistory, history: &History, now: Stamp) -> Self {
        let is_old = history.last_informative.is_some_and(|last| !server.last_heard.has_reached(last));
        Self {
            run: server.id.clone(),
            cluster: server.cluster.clone(),
            member_run: (server.member_run != server.id).then(|| server.member_run.clone()),
            no_member: !server.member,
            heard_ms: is_old.then(|| millis(now.since(server.last_heard))),
            delay_ms: (server.delay >= DELAY_MIN).then(|| millis(server.delay)),
        }
    }

    fn restore(&self, name: Name, at: Moments) -> ServerHistory {
        ServerHistory {
            name,
            id: self.run.clone(),
            cluster: self.cluster.clone(),
            last_heard: self.heard_ms.map_or(at.confirmed, |age| before(at.received, age)),
            missed: u32::from(self.heard_ms.is_some()),
            alone: false,
            answered: if self.heard_ms.is_some() { 0 } else { ANSWERED_MIN },
            delay: Duration::from_millis(self.delay_ms.unwrap_or(0)).min(super::LATENESS_MAX),
            stopped: false,
            member: !self.no_member,
            member_run: self.member_run.clone().unwrap_or_else(|| self.run.clone()),
            // Its version is not known: a restart in the meantime may have been an upgrade, and is not told.
            runs: RunHistory::default(),
        }
    }
}

impl History {
    /// Remembers what saved alerts tell, as far as nothing better is known.
    pub fn remember(&mut self, remembered: impl IntoIterator<Item = Remembered>, now: Stamp) {
        for told in remembered {
            let mut group = self.take(&told.group);
            group.settled = false;
            if group.first_heard.is_none() {
                group.domain = told.domain;
                group.last_heard = group.last_heard.or(Some(now));
                group.size = group.size.max(told.size.map(|(size, _)| size));
                group.quorum = group.quorum.max(told.size.map(|(_, quorum)| quorum));
                // Whoever is missing from a list must have been removed by agreement.
                group.has_list |= told.size.is_some();
                group.members.extend(told.peer.iter().map(|(id, _)| *id));
            }
            if let Some((id, name)) = told.peer {
                let peer = group.peers.entry(id).or_default();
                // The name of a peer that nobody named is its id.
                let named = (name.as_str() != id.as_str()).then_some(name);
                peer.name = peer.name.take().or(named);
            }
            self.put(told.group, group);
        }
    }

    /// What another watcher needs to go on in this one's place.
    pub fn save(&self, now: Stamp) -> SavedHistory {
        let (mut bytes, mut peers) = (0, 0);
        // What only saved alerts tell of travels with them.
        let heard = self.groups.iter().filter(|(_, group)| group.first_heard.is_some());
        let groups = heard.map(|(key, group)| SavedGroup::of(key, group, self, now)).take_while(|group| {
            bytes += group.bytes();
            peers += group.peers.len();
            bytes <= BYTES_MAX && peers <= REPLIES_MAX
        });
        SavedHistory {
            v: SAVED_VERSION,
            groups: groups.collect(),
            gateways: self.gateways.iter().cloned().collect(),
        }
    }

    /// Goes on with what another watcher remembered, where that is newer than what is known here.
    pub fn restore(&mut self, saved: SavedHistory, at: Moments) {
        if self.last_informative.is_none_or(|last| at.confirmed.has_reached(last)) {
            self.last_informative = Some(at.confirmed);
        }
        self.blind_until = Some(at.now);
        if self.gateways.is_empty() {
            self.gateways.extend(saved.gateways);
        }
        for group in saved.groups {
            group.restore(self, at);
        }
    }
}
