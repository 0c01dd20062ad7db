//! One meta group: whose list counts, how many peers there are, and since when something has been wrong with it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::answers::Answers;
use super::link::{Linked, claims, complete};
use super::memory::{GroupMemory, Memory};
use super::peer::{self, Witnesses};
use super::{Answer, Authority, GroupView, Opinion, PeerView, Standing};
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::wire::{Meta, Reply, Row};

/// More peers than this are not remembered, unless an epoch shows them or a complete list has them.
const PEERS_MAX: usize = 4_096;
/// More clusters of one group are not remembered.
const CLUSTERS_MAX: usize = 256;

/// Makes the view of every group: of those that answered, and of those that are remembered.
pub(super) fn merge_all(
    gathered: &Gathered,
    mut links: BTreeMap<Name, Linked<'_>>,
    memory: &mut Memory,
    rules: &Rules,
    inconsistent: &mut Vec<String>,
) -> Vec<GroupView> {
    for (key, group) in memory.groups() {
        let linked = links.entry(key.clone()).or_default();
        // A group keeps its domain for life; its key was made from it.
        linked.domain = group.domain.clone();
    }
    let answers = Answers::new(gathered);
    let mut views = Vec::with_capacity(links.len());
    // Those that somebody answers for come first: they may have taken over peers of the others.
    let (heard, unheard): (Vec<_>, Vec<_>) =
        links.into_iter().partition(|(_, linked)| !linked.members.is_empty());
    for (key, linked) in heard.into_iter().chain(unheard) {
        let mut group = memory.take(&key);
        group.domain = linked.domain.clone();
        let moved = moved_away(&key, &group, linked.members.is_empty(), memory);
        group.members.retain(|peer| !moved.contains(peer));
        let merge = Merge { gathered, answers: &answers, rules, memory, moved };
        let (view, gone) = merge.group(&key, &linked, &mut group, inconsistent);
        for peer in gone {
            memory.forget_peer(&ServerKey { peer, domain: group.domain.clone() }, &key);
        }
        memory.put(key, group);
        views.push(view);
    }
    views.sort_by(|a, b| a.key.cmp(&b.key));
    views
}

/// The peers of a group nobody answers for that another group has now: two groups have become one.
fn moved_away(key: &Name, group: &GroupMemory, unheard: bool, memory: &Memory) -> BTreeSet<PeerId> {
    let elsewhere = |peer: &&PeerId| {
        let server = ServerKey { peer: **peer, domain: group.domain.clone() };
        memory.group_of(&server).is_some_and(|home| home != key)
    };
    if unheard { group.peers.keys().filter(elsewhere).copied().collect() } else { BTreeSet::new() }
}

/// What merging one group needs besides the group.
struct Merge<'a> {
    gathered: &'a Gathered,
    answers: &'a Answers<'a>,
    rules: &'a Rules,
    memory: &'a Memory,
    /// The peers that belong to another group now.
    moved: BTreeSet<PeerId>,
}

/// The members' replies of one group, one a peer.
type Members<'a> = BTreeMap<PeerId, (&'a Reply, &'a Meta)>;

impl Merge<'_> {
    fn group(
        &self,
        key: &Name,
        linked: &Linked<'_>,
        group: &mut GroupMemory,
        inconsistent: &mut Vec<String>,
    ) -> (GroupView, Vec<PeerId>) {
        let members = one_each(linked, inconsistent);
        false_claims(&members, inconsistent);
        let claimants: Vec<_> =
            members.values().copied().filter(|(reply, meta)| claims(reply, meta)).collect();
        let leader = authority(&claimants, &members);
        let list = leader.map(|(reply, meta)| list_of(reply, meta, inconsistent)).unwrap_or_default();
        let authority = leader.map(|(reply, meta)| Authority {
            peer: reply.server.peer,
            name: reply.server.name.clone(),
            complete: complete(meta) && i64::try_from(list.len() + 1) == Ok(meta.size),
        });
        self.learn(group, &members, authority.as_ref(), leader.map(|(_, meta)| meta), &list);
        let answering = members.keys().filter(|peer| group.members.contains(peer)).count() as u64;
        self.stand(group, &members, !claimants.is_empty());

        let opinions = Opinions::new(&members, authority.as_ref());
        let ids = peer_ids(group, &members, &list, &opinions);
        let mut view = GroupView {
            key: key.clone(),
            domain: group.domain.clone(),
            clusters: group.clusters.clone(),
            claimants: claimants.iter().map(|(reply, _)| reply.server.name.clone()).collect(),
            named_leaders: named_leaders(&members),
            size: group.size,
            quorum: group.quorum,
            rescue: group.rescue,
            answering,
            online: None,
            leaderless: group.leaderless,
            followed: followed(&members, group.quorum),
            unreadable_leader: self.unreadable_leader(group, &members),
            short: None,
            disagreement: group.disagreement,
            peers: Vec::new(),
            authority,
        };
        learn_names(group, &members, &ids);
        view.peers = self.peers(
            &view,
            group,
            ids,
            |id| (list.get(&id).copied(), members.get(&id).copied()),
            &opinions,
        );
        view.online = online(&view);
        group.short = match (view.online, view.quorum) {
            (Some(online), Some(quorum)) if online < quorum => {
                Some(Standing::again(group.short, self.gathered))
            }
            (None, _) => group.short,
            _ => None,
        };
        view.short = group.short.filter(|_| view.online.is_some());
        let mut gone = forget_absent(group, &view.peers);
        gone.extend(forget_surplus(group, &view.peers));
        (view, gone)
    }

    /// The view of every peer. `heard` gives its row in the authoritative list, and its own reply.
    fn peers<'b>(
        &self,
        view: &GroupView,
        group: &mut GroupMemory,
        ids: BTreeSet<PeerId>,
        heard: impl Fn(PeerId) -> (Option<&'b Row>, Option<(&'b Reply, &'b Meta)>),
        opinions: &Opinions<'_>,
    ) -> Vec<PeerView> {
        let others_answer = self.members_that_answer(group, &ids);
        let mut peers = Vec::with_capacity(ids.len());
        for id in ids {
            let (row, reply) = heard(id);
            let memory = group.peers.entry(id).or_default();
            let witnesses = Witnesses {
                gathered: self.gathered,
                answers: self.answers,
                rules: self.rules,
                authority: view.authority.as_ref(),
                row,
                reply,
                server: self.memory.server(&ServerKey { peer: id, domain: group.domain.clone() }),
                others_answer: others_answer.iter().any(|peer| *peer != id),
                moved: self.moved.contains(&id),
                quorum_answers: !view.quorum_gone(),
                member: group.members.contains(&id),
                clusters: &group.clusters,
                domain: &group.domain,
                opinions: opinions.of(id),
                lists: opinions.lists_besides(id),
            };
            peers.push(peer::merge(id, &witnesses, memory));
        }
        peers
    }

    /// Learns members, size and quorum from a list, or, before there was any, from who answers.
    fn learn(
        &self,
        group: &mut GroupMemory,
        members: &Members<'_>,
        authority: Option<&Authority>,
        meta: Option<&Meta>,
        list: &BTreeMap<PeerId, &Row>,
    ) {
        if !members.is_empty() {
            group.first_heard.get_or_insert(self.gathered.closed);
            group.last_heard = Some(self.gathered.closed);
        }
        group.clusters.extend(
            members
                .values()
                .map(|(reply, _)| reply.server.cluster.clone())
                .filter(|cluster| !cluster.is_empty())
                .take(CLUSTERS_MAX.saturating_sub(group.clusters.len())),
        );
        for (id, (reply, _)) in members {
            group.peers.entry(*id).or_default().name = Some(reply.server.name.clone());
        }
        for (id, row) in list {
            let peer = group.peers.entry(*id).or_default();
            if peer.name.is_none() || row.name.is_some() {
                peer.name.clone_from(&row.name);
            }
        }
        if let (Some(authority), Some(meta)) = (authority, meta) {
            if authority.complete {
                group.members = list.keys().copied().chain([authority.peer]).collect();
                group.has_list = true;
            }
            group.rescue = meta.rescue;
            // A size smaller than the list it comes with is no size.
            let told = u64::try_from(meta.size).ok().filter(|size| *size > list.len() as u64);
            if let Some(size) = told {
                group.size = Some(size);
                group.quorum = Some(quorum_of(meta.quorum_needed, size));
            }
        }
        if !group.has_list {
            // Who tells of no group at all may be anybody.
            let tells = |meta: &Meta| meta.size > 0 || meta.leader_id.is_some();
            let telling = members.iter().filter(|(_, (_, meta))| tells(meta));
            group.members.extend(telling.map(|(id, _)| *id));
            if group.size.is_none() || authority.is_none() {
                let told = members.values().filter_map(|(_, meta)| u64::try_from(meta.size).ok()).max();
                let told = told.filter(|size| *size >= group.members.len() as u64);
                group.size = told.or(group.size);
                let needed = members.values().filter_map(|(_, meta)| meta.quorum_needed).max();
                group.quorum = group.size.map(|size| quorum_of(needed, size));
            }
        }
    }

    /// Runs the clocks of the group as a whole.
    fn stand(&self, group: &mut GroupMemory, members: &Members<'_>, led: bool) {
        if members.is_empty() {
            return;
        }
        group.leaderless = if led { None } else { Some(Standing::again(group.leaderless, self.gathered)) };
        let named: BTreeSet<_> = members.values().filter_map(|(_, meta)| meta.leader_id).collect();
        let claimants = members.values().filter(|(reply, meta)| claims(reply, meta)).count();
        let disagree = named.len() > 1 || claimants > 1;
        group.disagreement = disagree.then(|| Standing::again(group.disagreement, self.gathered));
    }

    /// The leader that members name, when it answered something that cannot be read.
    fn unreadable_leader(&self, group: &GroupMemory, members: &Members<'_>) -> Option<Name> {
        let named = members.values().filter_map(|(_, meta)| meta.leader_id.zip(meta.leader.as_ref()));
        let named: BTreeMap<PeerId, &Name> = named.collect();
        let unreadable = |(peer, name): (PeerId, &Name)| {
            let server = ServerKey { peer, domain: group.domain.clone() };
            let answer = self.answers.of(&server, self.memory.server(&server), &group.clusters);
            (answer == Answer::Unreadable).then(|| name.clone())
        };
        named.into_iter().find_map(unreadable)
    }

    /// The members that gave any sign of life: two are enough to know for each peer whether another answered.
    fn members_that_answer(&self, group: &GroupMemory, ids: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let answers = |id: &&PeerId| {
            let server = ServerKey { peer: **id, domain: group.domain.clone() };
            let answer = || self.answers.of(&server, self.memory.server(&server), &group.clusters);
            group.members.contains(*id) && answer() != Answer::None
        };
        ids.iter().filter(answers).take(2).copied().collect()
    }
}

/// How many peers must agree: what a server says, where that is possible at all, else more than half.
fn quorum_of(needed: Option<i64>, size: u64) -> u64 {
    let needed = needed.and_then(|needed| u64::try_from(needed).ok());
    needed.filter(|needed| (1..=size).contains(needed)).unwrap_or(size / 2 + 1)
}

/// One reply a peer; two servers under one name are said, and the later one counts.
fn one_each<'a>(linked: &Linked<'a>, inconsistent: &mut Vec<String>) -> Members<'a> {
    let mut members: Members<'a> = BTreeMap::new();
    for (reply, meta) in &linked.members {
        match members.entry(reply.server.peer) {
            Entry::Vacant(entry) => {
                entry.insert((*reply, *meta));
            }
            Entry::Occupied(mut entry) => {
                let (other, _) = *entry.get();
                inconsistent.push(format!(
                    "two servers answer as {} ({} and {})",
                    reply.server.name, other.server.id, reply.server.id
                ));
                if *reply > other {
                    entry.insert((*reply, *meta));
                }
            }
        }
    }
    members
}

/// Says who calls itself the leader and gives the peer id of another: that is no claim.
fn false_claims(members: &Members<'_>, inconsistent: &mut Vec<String>) {
    for (reply, meta) in members.values() {
        let name = &reply.server.name;
        let id = meta.leader_id.filter(|id| meta.leader.as_ref() == Some(name) && *id != reply.server.peer);
        if let Some(id) = id {
            inconsistent.push(format!(
                "{name} says that it leads, under the peer id {id}; its own is {}",
                reply.server.peer
            ));
        }
    }
}

/// Whose list counts. A sole claimant does, however stale its list. Among several, one whose list is all stale
/// loses; then the one that more members name wins; then the one that is in contact with a majority. Where that
/// leaves two, nobody's list counts.
fn authority<'a>(
    claimants: &[(&'a Reply, &'a Meta)],
    members: &BTreeMap<PeerId, (&Reply, &Meta)>,
) -> Option<(&'a Reply, &'a Meta)> {
    let rank = |(reply, meta): &(&Reply, &Meta)| {
        let fresh = meta.rows.iter().filter(|row| row.current).count() as i64;
        let named_by =
            members.values().filter(|(_, other)| other.leader_id == Some(reply.server.peer)).count();
        (fresh > 0, named_by, fresh + 1 > meta.size / 2)
    };
    let best = claimants.iter().max_by_key(|claimant| rank(claimant))?;
    let equals = claimants.iter().filter(|claimant| rank(claimant) == rank(best)).count();
    (equals == 1).then_some(*best)
}

/// The rows of a leader's list, one a peer and without its own.
fn list_of<'a>(reply: &Reply, meta: &'a Meta, inconsistent: &mut Vec<String>) -> BTreeMap<PeerId, &'a Row> {
    let leader = &reply.server.name;
    let mut list = BTreeMap::new();
    let mut repeated = 0;
    for row in &meta.rows {
        if row.peer == reply.server.peer {
            inconsistent.push(format!("the leader {leader} lists itself"));
        } else if let Some(other) = list.insert(row.peer, row) {
            repeated += 1;
            // The worse of two rows counts: offline, then not current, then the longer without contact.
            let badness = |row: &Row| (row.offline, !row.current, row.active_ns, row.lag);
            if badness(other) > badness(row) {
                list.insert(row.peer, other);
            }
        }
    }
    if repeated > 0 {
        inconsistent.push(format!("the leader {leader} lists {repeated} peers twice"));
    }
    match meta.unreadable_rows {
        0 => {}
        1 => inconsistent.push(format!("the leader {leader} lists 1 peer that cannot be read")),
        lost => inconsistent.push(format!("the leader {leader} lists {lost} peers that cannot be read")),
    }
    if i64::try_from(list.len() + 1).is_ok_and(|peers| peers > meta.size) {
        inconsistent.push(format!(
            "the leader {leader} lists {} peers besides itself but gives a cluster size of {}",
            list.len(),
            meta.size
        ));
    }
    if let Some(needed) = meta.quorum_needed.filter(|needed| !(1..=meta.size.max(1)).contains(needed)) {
        inconsistent
            .push(format!("the leader {leader} says that {needed} of {} peers must agree", meta.size));
    }
    list
}

/// Names the peers that neither answered nor were named by a leader, from what anybody's list calls them. A name
/// is believed when it belongs to the id.
fn learn_names(group: &mut GroupMemory, members: &Members<'_>, ids: &BTreeSet<PeerId>) {
    for row in members.values().flat_map(|(_, meta)| &meta.rows).filter(|row| ids.contains(&row.peer)) {
        let memory = group.peers.entry(row.peer).or_default();
        if memory.name.is_none() {
            let named = row.name.as_ref().filter(|name| PeerId::of_server(name.as_str()) == row.peer);
            memory.name = named.cloned();
        }
    }
}

/// Whether as many members as must agree name one leader. Members stop naming one that is gone after some seconds
/// (measured: 3.5 to 7.5 s), so in the long run only a leader that runs is followed.
fn followed(members: &Members<'_>, quorum: Option<u64>) -> bool {
    let mut followers: BTreeMap<PeerId, u64> = BTreeMap::new();
    for leader in members.values().filter_map(|(_, meta)| meta.leader_id) {
        *followers.entry(leader).or_default() += 1;
    }
    followers.values().any(|count| quorum.is_some_and(|quorum| *count >= quorum))
}

fn named_leaders(members: &Members<'_>) -> BTreeMap<Name, Option<Name>> {
    members.values().map(|(reply, meta)| (reply.server.name.clone(), meta.leader.clone())).collect()
}

fn peer_ids(
    group: &GroupMemory,
    members: &Members<'_>,
    list: &BTreeMap<PeerId, &Row>,
    opinions: &Opinions<'_>,
) -> BTreeSet<PeerId> {
    // Hearsay can name peers only where nothing better is known.
    let hearsay = (!group.has_list).then(|| opinions.by_peer.keys()).into_iter().flatten();
    let known = group.members.iter().chain(group.peers.keys());
    // All at once: sorted runs are joined faster than peers are inserted one by one.
    known.chain(members.keys()).chain(list.keys()).chain(hearsay).copied().collect()
}

/// The leader and the rows that are neither offline nor out of contact; only a complete list tells.
fn online(view: &GroupView) -> Option<u64> {
    view.authority.as_ref().filter(|authority| authority.complete)?;
    let fresh = view.peers.iter().filter(|peer| {
        let fresh = peer.contact == super::Contact::Fresh;
        peer.row.as_ref().is_some_and(|row| !row.offline && fresh)
    });
    Some(1 + fresh.count() as u64)
}

/// Drops the peers that a complete list has lacked for long enough; their last view has told so.
fn forget_absent(group: &mut GroupMemory, peers: &[PeerView]) -> Vec<PeerId> {
    let gone = |peer: &&PeerView| {
        peer.absent_epochs >= crate::rules::STANDING_EPOCHS_MIN && !group.members.contains(&peer.id)
    };
    let gone: Vec<PeerId> = peers.iter().filter(gone).map(|peer| peer.id).collect();
    for peer in &gone {
        group.peers.remove(peer);
    }
    gone
}

/// Drops the peers that nobody shows any more, once there are too many of them.
fn forget_surplus(group: &mut GroupMemory, peers: &[PeerView]) -> Vec<PeerId> {
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

/// Who says what of whom.
struct Opinions<'a> {
    by_peer: BTreeMap<PeerId, Vec<(&'a Name, Opinion)>>,
    /// The reporters with a list, by peer id.
    reporters: BTreeSet<PeerId>,
}

impl<'a> Opinions<'a> {
    fn new(members: &Members<'a>, authority: Option<&Authority>) -> Self {
        let mut by_peer: BTreeMap<PeerId, Vec<_>> = BTreeMap::new();
        let mut reporters = BTreeSet::new();
        for (id, (reply, meta)) in members {
            let leads = authority.is_some_and(|authority| authority.peer == *id);
            // A server of 2.15 without a leader lists itself: that is no opinion.
            let rows = meta.rows.iter().filter(|row| row.peer != *id);
            for row in rows {
                reporters.insert(*id);
                by_peer.entry(row.peer).or_default().push((&reply.server.name, opinion(row, leads)));
            }
        }
        Self { by_peer, reporters }
    }

    fn of(&self, peer: PeerId) -> &[(&'a Name, Opinion)] {
        self.by_peer.get(&peer).map_or(&[], Vec::as_slice)
    }

    fn lists_besides(&self, peer: PeerId) -> u64 {
        (self.reporters.len() - usize::from(self.reporters.contains(&peer))) as u64
    }
}

fn opinion(row: &Row, leads: bool) -> Opinion {
    match (row.offline, leads, row.current) {
        (true, _, _) => Opinion::Offline,
        (false, false, _) => Opinion::Online,
        (false, true, true) => Opinion::Current,
        (false, true, false) => Opinion::NotCurrent,
    }
}
