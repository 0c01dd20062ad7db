//! Who is a member of a meta group, and how large the group is by the last agreement.
//!
//! A leader's complete list says who is a member. One that lacks somebody counts only if those who had to agree on the
//! removal could: a leader that has lost its majority shrinks its own list all the same (measured: 2.10.25 down to
//! itself, 2.12.8 and 2.15.1 by one), while nothing is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group::Members;
use super::history::{GroupHistory, History};
use super::opinions::Opinions;
use super::peer::leader_still_hears;
use super::reply_index::ReplyIndex;
use super::{Answer, Authority, Held, PeerView, Streak};
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::STANDING_EPOCHS_MIN;
use crate::wire::{Meta, Reply, Row};

/// More peers than this are not remembered, unless an epoch shows them or a complete list has them.
const PEERS_MAX: usize = 4_096;
/// More clusters of one group are not remembered.
const CLUSTERS_MAX: usize = 256;
/// A smaller list that was held counts after so long when all that it holds answer, follow its leader and tell its
/// size: they are a group that works.
const HELD_MAX: Duration = Duration::from_secs(600);

/// What one epoch tells of the members of one group.
pub(super) struct Roll<'a> {
    pub(super) gathered: &'a Gathered,
    pub(super) reply_index: &'a ReplyIndex<'a>,
    pub(super) history: &'a History,
    pub(super) members: &'a Members<'a>,
    pub(super) authority: Option<&'a Authority>,
    /// The reply of the authority.
    pub(super) leader: Option<(&'a Reply, &'a Meta)>,
    /// The rows of its list.
    pub(super) list: &'a BTreeMap<PeerId, &'a Row>,
}

impl Roll<'_> {
    /// Learns names, members, size and quorum from a list, or, before there was any, from who answers and whom they
    /// list.
    pub(super) fn learn(&self, group: &mut GroupHistory) {
        self.learn_names_and_clusters(group);
        match (self.authority, self.leader) {
            (Some(authority), Some((_, meta))) if authority.complete => {
                self.take_list(group, authority, meta)
            }
            (Some(_), Some((_, meta))) => self.take_size(group, meta),
            (_, _) => {}
        }
        if !group.has_list {
            self.learn_without_a_list(group);
        }
    }

    fn learn_names_and_clusters(&self, group: &mut GroupHistory) {
        let clusters = self.members.values().map(|(reply, _)| &reply.server.cluster);
        let room = CLUSTERS_MAX.saturating_sub(group.clusters.len());
        group.clusters.extend(clusters.filter(|cluster| !cluster.is_empty()).take(room).cloned());
        for (id, (reply, _)) in self.members {
            group.peers.entry(*id).or_default().name = Some(reply.server.name.clone());
        }
        for (id, row) in self.list {
            let peer = group.peers.entry(*id).or_default();
            if peer.name.is_none() || row.name.is_some() {
                peer.name.clone_from(&row.name);
            }
            peer.met |= row.name.is_some() || row.lag > 0 || row.current || row.active_ns > 0;
        }
    }

    /// Takes a complete list, if those who had to agree on it could.
    fn take_list(&self, group: &mut GroupHistory, authority: &Authority, meta: &Meta) {
        let listed: BTreeSet<PeerId> = self.list.keys().copied().chain([authority.peer]).collect();
        let lacks: BTreeSet<PeerId> = group.members.difference(&listed).copied().collect();
        if group.has_list && !lacks.is_empty() && !self.is_agreed(group, &listed, &lacks, meta) {
            let streak = group.held.as_ref().map(|held| held.streak);
            let streak = Streak::again(streak, self.gathered);
            group.held = Some(Held { streak, told: listed.len() as u64, lacks });
            group.members.extend(listed);
            let size = group.members.len() as u64;
            group.size = Some(group.size.map_or(size, |known| known.max(size)));
            return;
        }
        if group.has_list && !lacks.is_empty() {
            let from = group.size.unwrap_or(group.members.len() as u64);
            group.changes.take_smaller(&lacks, &group.peers, from, self.gathered.closed);
        }
        (group.members, group.has_list, group.held) = (listed, true, None);
        group.rescue = meta.rescue;
        let size = group.members.len() as u64;
        (group.size, group.quorum) = (Some(size), Some(quorum_of(meta.quorum_needed, size)));
    }

    /// Takes the size that comes with a list which does not name everybody. It makes no group smaller.
    fn take_size(&self, group: &mut GroupHistory, meta: &Meta) {
        let told = u64::try_from(meta.size).ok().filter(|size| *size > self.list.len() as u64);
        let Some(size) = told else { return };
        if !group.has_list || group.size.is_none_or(|known| known < size) {
            group.rescue = meta.rescue;
            (group.size, group.quorum) = (Some(size), Some(quorum_of(meta.quorum_needed, size)));
        }
    }

    /// Whether as many members of the group as it was could have agreed to the smaller list: those that are in it and
    /// answer, or were heard by its leader since they fell silent to us; and those that answer that they are out.
    fn is_agreed(
        &self,
        group: &GroupHistory,
        listed: &BTreeSet<PeerId>,
        lacks: &BTreeSet<PeerId>,
        meta: &Meta,
    ) -> bool {
        let old = group.size.unwrap_or(group.members.len() as u64);
        let needed = match meta.quorum_needed {
            // An operator lowered the quorum on purpose, to be able to remove the dead.
            Some(needed) if meta.rescue => u64::try_from(needed).unwrap_or(1),
            _ => group.quorum.unwrap_or(old / 2 + 1),
        };
        let agrees = |id: &&PeerId| {
            let silent = group.peers.get(id).and_then(|peer| peer.silence);
            let heard = |row: &&Row| {
                !row.offline && !row.offline_unreadable && leader_still_hears(row, silent, self.gathered)
            };
            group.members.contains(*id)
                && (self.members.contains_key(*id) || self.list.get(*id).is_some_and(heard))
        };
        let is_out = |id: &&PeerId| {
            let server = ServerKey { peer: **id, domain: group.domain.clone() };
            let answer = self.reply_index.of(&server, self.history.server(&server), &group.clusters);
            matches!(answer, Answer::Disabled | Answer::Standalone)
        };
        let agreeing = listed.iter().filter(agrees).count() + lacks.iter().filter(is_out).count();
        // The quorum that the leader tells shrinks with an agreed removal only (measured, 2.15.1).
        let lowered = meta.quorum_needed.and_then(|told| u64::try_from(told).ok());
        let lowered = lowered.is_some_and(|told| told > 0 && told < needed && !meta.rescue);
        lowered || agreeing as u64 >= needed || self.works(group, listed, meta)
    }

    /// Whether a held list has stood for long as a group that works.
    fn works(&self, group: &GroupHistory, listed: &BTreeSet<PeerId>, meta: &Meta) -> bool {
        let stood = group.held.as_ref().is_some_and(|held| held.streak.lasted() >= HELD_MAX);
        let follows = |id: &PeerId| {
            self.members.get(id).is_some_and(|(_, other)| {
                other.leader_id == self.authority.map(|authority| authority.peer) && other.size == meta.size
            })
        };
        // A leader of 2.12 or later that has lost its majority steps down within 20 s (measured, 2.12.8).
        let steps_down =
            self.leader.is_some_and(|(reply, _)| steps_down_without_a_majority(&reply.server.version));
        stood && (listed.len() >= 2 || steps_down) && listed.iter().all(follows)
    }

    /// Before any complete list, whoever is in somebody's list is a member; where nobody sends a list, whoever
    /// answers as one.
    fn learn_without_a_list(&self, group: &mut GroupHistory) {
        let rows = self.members.values().flat_map(|(_, meta)| &meta.rows);
        let listed: BTreeSet<PeerId> = rows.map(|row| row.peer).collect();
        if !listed.is_empty() {
            // Under a leader nobody lists itself; without one, servers of 2.15 do.
            let led = self.members.iter().filter(|(_, (_, meta))| meta.leader_id.is_some());
            group.members = led.map(|(id, _)| *id).chain(listed).collect();
        } else if self.come_and_go(group) {
            group.members.clear();
        } else {
            // Who tells of no group at all may be anybody.
            let tells = |meta: &Meta| meta.size > 0 || meta.leader_id.is_some();
            let telling = self.members.iter().filter(|(_, (_, meta))| tells(meta));
            group.members.extend(telling.map(|(id, _)| *id));
            // There are no more members than they tell: who is silent then was none, or has another name now.
            if self.told_size().is_some_and(|size| group.members.len() as u64 > size) {
                group.members.retain(|id| self.members.contains_key(id));
            }
        }
        if group.size.is_none() || self.authority.is_none() {
            let told = self.told_size().filter(|size| *size >= group.members.len() as u64);
            group.size = told.or(group.size);
            let needed = self.members.values().filter_map(|(_, meta)| meta.quorum_needed).max();
            group.quorum = group.size.map(|size| quorum_of(needed, size));
        }
    }

    /// The size that most members tell; of two that as many tell, the greater.
    fn told_size(&self) -> Option<u64> {
        let mut told: BTreeMap<u64, usize> = BTreeMap::new();
        let sizes = self.members.values().filter_map(|(_, meta)| u64::try_from(meta.size).ok());
        for size in sizes.filter(|size| *size > 0) {
            *told.entry(size).or_default() += 1;
        }
        told.into_iter().max_by_key(|(size, count)| (*count, *size)).map(|(size, _)| size)
    }

    /// Leaders without a list come and go although enough servers answer: none of them is a peer of the group whose
    /// size they tell.
    fn come_and_go(&self, group: &GroupHistory) -> bool {
        // Somebody who is missing may be what they lack.
        let enough = self.told_size().is_some_and(|size| self.members.len() as u64 >= size);
        let lasting = group.leaderless.is_some_and(|leaderless| leaderless.epochs > STANDING_EPOCHS_MIN);
        enough && lasting && !group.listless.is_empty()
    }
}

/// Whether a leader of this version gives up when it has lost its majority, instead of leading on alone as 2.10 does.
fn steps_down_without_a_majority(version: &Name) -> bool {
    let mut parts = version.as_str().split('.').map(|part| part.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(2), Some(12..)) | (Some(3..), _))
}

/// How many peers must agree: what a server says, where that is possible at all, else more than half.
fn quorum_of(needed: Option<i64>, size: u64) -> u64 {
    let needed = needed.and_then(|needed| u64::try_from(needed).ok());
    needed.filter(|needed| (1..=size).contains(needed)).unwrap_or(size / 2 + 1)
}

/// Everybody who is shown or remembered as a peer of the group, in order.
pub(super) fn peer_ids(
    group: &GroupHistory,
    members: &Members<'_>,
    list: &BTreeMap<PeerId, &Row>,
    opinions: &Opinions<'_>,
) -> Vec<PeerId> {
    // Hearsay can name peers only where nothing better is known.
    let hearsay = (!group.has_list).then(|| opinions.peers()).into_iter().flatten();
    let known = group.members.iter().chain(group.peers.keys());
    let mut ids: Vec<PeerId> =
        known.chain(members.keys()).chain(list.keys()).chain(hearsay).copied().collect();
    // Sorted runs are joined faster than peers are inserted one by one.
    ids.sort();
    ids.dedup();
    ids
}

/// Names the peers that neither answered nor were named by a leader, from what anybody's list calls them. A name
/// is believed when it belongs to the id.
pub(super) fn learn_names(group: &mut GroupHistory, members: &Members<'_>, ids: &[PeerId]) {
    for row in
        members.values().flat_map(|(_, meta)| &meta.rows).filter(|row| ids.binary_search(&row.peer).is_ok())
    {
        let history = group.peers.entry(row.peer).or_default();
        if history.name.is_none() {
            let named = row.name.as_ref().filter(|name| PeerId::of_server(name.as_str()) == row.peer);
            history.name = named.cloned();
        }
    }
}

/// The servers that answer in the group without being members of it, by name, where no leader can list them.
pub(super) fn outsiders(group: &GroupHistory, members: &Members<'_>, led: bool) -> BTreeSet<Name> {
    let outside = members.iter().filter(|(id, _)| !led && !group.members.contains(*id));
    outside.map(|(_, (reply, _))| reply.server.name.clone()).collect()
}

/// Drops the peers that a complete list has lacked for long enough; their last view has told so.
pub(super) fn forget_absent(group: &mut GroupHistory, peers: &[PeerView]) -> Vec<PeerId> {
    let gone =
        |peer: &&PeerView| peer.absent_epochs >= STANDING_EPOCHS_MIN && !group.members.contains(&peer.id);
    let gone: Vec<PeerId> = peers.iter().filter(gone).map(|peer| peer.id).collect();
    for peer in &gone {
        group.peers.remove(peer);
    }
    gone
}

/// Drops the peers that nobody shows any more, once there are too many of them.
pub(super) fn forget_surplus(group: &mut GroupHistory, peers: &[PeerView]) -> Vec<PeerId> {
    if group.peers.len() <= PEERS_MAX {
        return Vec::new();
    }
    let shown = |peer: &PeerView| {
        let member = group.has_list && group.members.contains(&peer.id);
        member || peer.row.is_some() || peer.answer != Answer::None
    };
    let surplus: Vec<PeerId> = peers.iter().filter(|peer| !shown(peer)).map(|peer| peer.id).collect();
    for peer in &surplus {
        group.peers.remove(peer);
        group.members.remove(peer);
    }
    surplus
}
