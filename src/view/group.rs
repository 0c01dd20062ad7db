//! One meta group: whose list counts, how many peers there are, and since when something has been wrong with it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::grouping::GroupReplies;
use super::history::{GroupHistory, History};
use super::leader::{
    authority, claimants, complete, false_claims, followed, list_of, named_leaders, silent_leader,
};
use super::membership::{Roll, forget_absent, forget_surplus, learn_names, outsiders, peer_ids};
use super::opinions::Opinions;
use super::peer::{self, PeerEvidence};
use super::reply_index::ReplyIndex;
use super::unchanged::is_settled;
use super::{Answer, Authority, Contact, GroupView, Inconsistencies, PeerView, Streak};
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::wire::{Meta, Reply, Row};

/// Makes the view of every group: of those that answered, and of those that are remembered. Gives the keys, too, of the
/// groups that go on under another key.
pub(super) fn merge_all(
    gathered: &Gathered,
    mut links: BTreeMap<Name, GroupReplies<'_>>,
    history: &mut History,
    rules: &Rules,
    inconsistent: &mut Inconsistencies,
    unchanged: Vec<GroupView>,
) -> (Vec<(GroupView, bool)>, BTreeSet<Name>) {
    let is_unchanged = |key: &Name| unchanged.binary_search_by(|view| view.key.cmp(key)).is_ok();
    for (key, group) in history.groups().filter(|(key, _)| !is_unchanged(key)) {
        let replies = links.entry(key.clone()).or_default();
        // A group keeps its domain for life; its key was made from it.
        replies.domain = group.domain.clone();
    }
    let reply_index = ReplyIndex::new(gathered);
    let mut views = Vec::with_capacity(links.len());
    let mut superseded = BTreeSet::new();
    // Those that somebody answers for come first: they may have taken over peers of the others.
    let (heard, unheard): (Vec<_>, Vec<_>) =
        links.into_iter().partition(|(_, replies)| !replies.members.is_empty());
    let mut merge_one =
        |key: Name, replies: &GroupReplies<'_>, mut group: GroupHistory, history: &mut History| {
            group.domain = replies.domain.clone();
            let moved = moved_away(&key, &group, replies.members.is_empty(), history);
            group.members.retain(|peer| !moved.contains(peer));
            let merge = Merge { gathered, reply_index: &reply_index, rules, history, moved };
            let told = inconsistent.told;
            let (view, gone) = merge.group(&key, replies, &mut group, inconsistent);
            group.settled = inconsistent.told == told && is_settled(&view, &group, gathered);
            for peer in gone {
                history.forget_peer(&ServerKey { peer, domain: group.domain.clone() }, &key);
            }
            history.put(key, group);
            view
        };
    for (key, replies) in heard {
        for (reply, _) in &replies.members {
            if reply.server.domain != replies.domain {
                history.mixed_domains.extend([reply.server.domain.clone(), replies.domain.clone()]);
            }
        }
        let group = history.take(&key);
        views.push(merge_one(key, &replies, group, history));
    }
    let successors = Successors::new(unchanged.iter().chain(&views));
    let mut silent = Vec::with_capacity(unheard.len());
    for (key, replies) in unheard {
        let group = history.take(&key);
        if successors.has_one_of(&group) {
            superseded.insert(key);
        } else {
            silent.push(merge_one(key, &replies, group, history));
        }
    }
    drop(successors);
    views.extend(silent);
    let mut views: Vec<_> = views.into_iter().map(|view| (view, false)).collect();
    views.extend(unchanged.into_iter().map(|view| (view, true)));
    views.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    (views, superseded)
}

/// The groups that somebody answers for, by their clusters.
struct Successors<'a>(BTreeMap<&'a Name, Vec<&'a GroupView>>);

impl<'a> Successors<'a> {
    fn new(views: impl Iterator<Item = &'a GroupView>) -> Self {
        let mut by_cluster: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for view in views.filter(|view| view.answering > 0) {
            view.clusters.iter().for_each(|cluster| by_cluster.entry(cluster).or_default().push(view));
        }
        Self(by_cluster)
    }

    /// Whether a group that nobody answers for goes on as another one in one of its clusters: most of its members are
    /// members there (a new domain for the same servers), or the other one leads a whole group in the same domain (new
    /// servers).
    fn has_one_of(&self, group: &GroupHistory) -> bool {
        let is_member = |view: &GroupView, peer: &PeerId| view.peer(*peer).is_some_and(|peer| peer.member);
        let in_its_place = group.clusters.iter().filter_map(|cluster| self.0.get(cluster)).flatten();
        !group.members.is_empty()
            && in_its_place.into_iter().any(|view| {
                let whole = view.authority.as_ref().is_some_and(|authority| authority.complete);
                if view.domain == group.domain {
                    // One cluster has one group in a domain; its servers may have been installed anew.
                    return whole;
                }
                let members = group.members.iter().filter(|peer| is_member(view, peer)).count();
                members * 2 > group.members.len()
            })
    }
}

/// The peers of a group nobody answers for that another group has now: two groups have become one.
fn moved_away(key: &Name, group: &GroupHistory, unheard: bool, history: &History) -> BTreeSet<PeerId> {
    let elsewhere = |peer: &&PeerId| {
        let server = ServerKey { peer: **peer, domain: group.domain.clone() };
        history.group_of(&server).is_some_and(|home| home != key)
    };
    if unheard { group.peers.keys().filter(elsewhere).copied().collect() } else { BTreeSet::new() }
}

/// What merging one group needs besides the group.
struct Merge<'a> {
    gathered: &'a Gathered,
    reply_index: &'a ReplyIndex<'a>,
    rules: &'a Rules,
    history: &'a History,
    /// The peers that belong to another group now.
    moved: BTreeSet<PeerId>,
}

/// The members' replies of one group, one a peer.
pub(super) type Members<'a> = BTreeMap<PeerId, (&'a Reply, &'a Meta)>;

impl Merge<'_> {
    fn group(
        &self,
        key: &Name,
        replies: &GroupReplies<'_>,
        group: &mut GroupHistory,
        inconsistent: &mut Inconsistencies,
    ) -> (GroupView, Vec<PeerId>) {
        let members = one_each(replies, inconsistent);
        false_claims(&members, inconsistent);
        let heard = self.is_heard(group, &members);
        self.begin(group, heard);
        let claimants = claimants(&members);
        let leader = authority(&claimants, &members);
        let list = leader.map(|(reply, meta)| list_of(reply, meta, inconsistent)).unwrap_or_default();
        let authority = leader.map(|(reply, meta)| Authority {
            peer: reply.server.peer,
            name: reply.server.name.clone(),
            complete: !self.is_contradicted(reply)
                && complete(meta)
                && i64::try_from(list.len() + 1) == Ok(meta.size),
            accounts_for_all: i64::try_from(list.len() + 1 + meta.unreadable_rows as usize) == Ok(meta.size),
            uncertain: u64::from(meta.unreadable_rows)
                + list.values().filter(|row| row.offline_unreadable).count() as u64,
        });
        group.take_leader(authority.as_ref(), &members, self.gathered);
        let roll = Roll {
            gathered: self.gathered,
            reply_index: self.reply_index,
            history: self.history,
            members: &members,
            authority: authority.as_ref(),
            leader,
            list: &list,
        };
        roll.learn(group);
        if heard {
            group.first_heard.get_or_insert(self.gathered.closed);
            group.last_heard = Some(self.gathered.closed);
        }
        let opinions = Opinions::new(&members, authority.as_ref());
        let ids = peer_ids(group, &members, &list, &opinions);
        learn_names(group, &members, &ids);
        let mut view = self.frame(key, group, &members, authority);
        view.claimants = claimants.iter().map(|(reply, _)| reply.server.name.clone()).collect();
        let rows = |id| (list.get(&id).copied(), members.get(&id).copied());
        view.peers = self.peers(&view, group, ids, rows, &opinions);
        self.finish(&mut view, group, &members, heard);
        let pending = leader.and_then(|(_, meta)| meta.usage.pending);
        group.changes.finish(&mut view, pending, self.gathered, self.rules);
        let mut gone = forget_absent(group, &view.peers);
        gone.extend(forget_surplus(group, &view.peers));
        (view, gone)
    }

    /// Whether anybody of the group gave a sign of life in this epoch, be it with JetStream off.
    fn is_heard(&self, group: &GroupHistory, members: &Members<'_>) -> bool {
        let answers = |id: &PeerId| self.answer_of(group, *id) != Answer::None;
        !members.is_empty() || group.members.iter().any(answers)
    }

    /// Whether its server gave two different answers in this epoch: then neither ends anything.
    fn is_contradicted(&self, reply: &Reply) -> bool {
        let server = ServerKey::of(&reply.server);
        self.gathered.conflicts.iter().any(|conflict| conflict.server == server)
    }

    fn answer_of(&self, group: &GroupHistory, peer: PeerId) -> Answer {
        if self.moved.contains(&peer) {
            return Answer::None;
        }
        let server = ServerKey { peer, domain: group.domain.clone() };
        self.reply_index.of(&server, self.history.server(&server), &group.clusters)
    }

    /// Notices that nothing was seen of the group for a while, or that nobody of it is heard while others are.
    fn begin(&self, group: &mut GroupHistory, heard: bool) {
        let gap = group
            .last_heard
            .is_some_and(|last| heard && self.gathered.opened.since(last) > self.rules.interval * 3);
        if gap {
            group.restart_clocks();
        }
        let others = !self.gathered.replies.is_empty() && self.gathered.counts_absence();
        if heard {
            group.unheard = None;
        } else if others && group.last_heard.is_some() {
            group.unheard = Some(Streak::again(group.unheard, self.gathered));
        }
    }

    /// The view of the group without its peers and its clocks.
    fn frame(
        &self,
        key: &Name,
        group: &GroupHistory,
        members: &Members<'_>,
        authority: Option<Authority>,
    ) -> GroupView {
        let lately = |at: Stamp| self.gathered.opened.since(at) <= self.rules.interval * 3;
        let last = group.last_online.as_ref().filter(|(_, at)| lately(*at));
        GroupView {
            key: key.clone(),
            domain: group.domain.clone(),
            clusters: group.clusters.clone(),
            outsiders: outsiders(group, members, authority.is_some()),
            claimants: Vec::new(),
            named_leaders: named_leaders(members),
            size: group.size,
            quorum: group.quorum,
            rescue: group.rescue,
            answering: members.keys().filter(|peer| group.members.contains(peer)).count() as u64,
            online: None,
            last_online: last.map(|(online, _)| online.clone()),
            leaderless: None,
            claimed: None,
            claim_followed: false,
            enough: None,
            listless: BTreeSet::new(),
            led: false,
            led_for: group.tenure.and_then(|tenure| tenure.led_for(self.gathered.closed)),
            heard_by_leader: 0,
            silent_leader: silent_leader(members),
            followed: followed(members, group.quorum) && !group.leader_unseen,
            unreadable_leader: self.unreadable_leader(group, members),
            held: group.held.clone(),
            heard: false,
            unheard: group.unheard,
            sizes: None,
            short: None,
            disagreement: None,
            had_list: group.has_list,
            leader_changes: Vec::new(),
            shrunk: None,
            pending: None,
            pending_over: None,
            peers: Vec::new(),
            authority,
        }
    }

    /// Counts who is online, and runs the clocks of the group.
    fn finish(&self, view: &mut GroupView, group: &mut GroupHistory, members: &Members<'_>, heard: bool) {
        view.heard_by_leader = view.count_heard_by_leader();
        if view.authority.as_ref().is_some_and(|authority| authority.accounts_for_all) {
            for peer in &mut view.peers {
                peer.online = peer.leader || is_online(peer, self.rules.lost_contact);
            }
            let online: BTreeSet<PeerId> =
                view.peers.iter().filter(|peer| peer.online).map(|peer| peer.id).collect();
            view.online = Some(online.len() as u64);
            group.last_online = Some((online, self.gathered.closed));
        }
        if heard {
            group.run_clocks(view, members, self.gathered);
        }
        view.heard = heard;
        view.led = group.is_led(view, members);
        view.leaderless = group.leaderless;
        view.claimed = group.claimed;
        view.claim_followed = group.is_claim_followed(view, members);
        view.enough = group.enough;
        view.listless.clone_from(&group.listless);
        view.disagreement = group.disagreement;
        view.short = group.short.filter(|_| view.online.is_some());
        view.sizes = group.sizes.filter(|_| heard).map(|streak| {
            let told = members.values().map(|(reply, meta)| (reply.server.name.clone(), meta.size));
            (streak, told.collect())
        });
    }

    /// The view of every peer. `heard` gives its row in the authoritative list, and its own reply.
    fn peers<'b>(
        &self,
        view: &GroupView,
        group: &mut GroupHistory,
        ids: Vec<PeerId>,
        heard: impl Fn(PeerId) -> (Option<&'b Row>, Option<(&'b Reply, &'b Meta)>),
        opinions: &Opinions<'_>,
    ) -> Vec<PeerView> {
        let others_answer = self.members_that_answer(group, view, &ids);
        let mut peers = Vec::with_capacity(ids.len());
        for id in ids {
            let (row, reply) = heard(id);
            let server = self.history.server(&ServerKey { peer: id, domain: group.domain.clone() });
            let history = group.peers.entry(id).or_default();
            if server.is_none() && history.cluster_by_routes.is_none() {
                history.cluster_by_routes =
                    self.reply_index.cluster_with_a_route_to(id, &group.domain).cloned();
            }
            let cluster_by_routes = history.cluster_by_routes.clone();
            let evidence = PeerEvidence {
                cluster_by_routes: cluster_by_routes.as_ref(),
                gathered: self.gathered,
                reply_index: self.reply_index,
                rules: self.rules,
                authority: view.authority.as_ref(),
                led_for: view.led_for,
                held: view.held.as_ref().is_some_and(|held| held.lacks.contains(&id)),
                watched_since_heard: server
                    .is_some_and(|server| self.history.watched_since(server.last_heard)),
                outsider: reply.is_some_and(|(reply, _)| view.outsiders.contains(&reply.server.name)),
                has_gateways: server.is_some_and(|server| self.history.has_gateways_to(&server.cluster)),
                row,
                reply,
                server,
                others_answer: others_answer.iter().any(|peer| *peer != id),
                moved: self.moved.contains(&id),
                quorum_answers: !view.quorum_gone(),
                member: group.members.contains(&id),
                clusters: &group.clusters,
                domain: &group.domain,
                opinions: opinions.of(id),
                lists: opinions.lists_besides(id),
            };
            peers.push(peer::merge(id, &evidence, history));
        }
        peers
    }

    /// The leader that members name, when it answered something that cannot be read.
    fn unreadable_leader(&self, group: &GroupHistory, members: &Members<'_>) -> Option<Name> {
        let named = members.values().filter_map(|(_, meta)| meta.leader_id.zip(meta.leader.as_ref()));
        let named: BTreeMap<PeerId, &Name> = named.collect();
        let unreadable = |(peer, name): (PeerId, &Name)| {
            let server = ServerKey { peer, domain: group.domain.clone() };
            let answer = self.reply_index.of(&server, self.history.server(&server), &group.clusters);
            (answer == Answer::Unreadable).then(|| name.clone())
        };
        named.into_iter().find_map(unreadable)
    }

    /// Who of the group gave any sign of life, be it under a name that nobody lists: two are enough to know for each
    /// peer whether another answered.
    fn members_that_answer(&self, group: &GroupHistory, view: &GroupView, ids: &[PeerId]) -> Vec<PeerId> {
        let counts = |id: &PeerId| group.members.contains(id) || !view.outsiders.is_empty();
        let answers = |id: &&PeerId| counts(id) && self.answer_of(group, **id) != Answer::None;
        ids.iter().filter(answers).take(2).copied().collect()
    }
}

/// One reply a peer; two servers under one name are said, and the later one counts.
fn one_each<'a>(replies: &GroupReplies<'a>, inconsistent: &mut Inconsistencies) -> Members<'a> {
    let mut members: Members<'a> = BTreeMap::new();
    for (reply, meta) in &replies.members {
        match members.entry(reply.server.peer) {
            Entry::Vacant(entry) => {
                entry.insert((*reply, *meta));
            }
            Entry::Occupied(mut entry) => {
                let (other, _) = *entry.get();
                inconsistent.warn(format!(
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

/// Whether a row counts as online: neither offline nor out of contact. A peer that the leader has not heard yet in its
/// term counts while it answers; so does one that is flagged, answers, and is in contact.
fn is_online(peer: &PeerView, lost_contact: Duration) -> bool {
    // Whoever answers that its JetStream is off takes no part, however lately the leader heard it.
    if matches!(peer.answer, Answer::Disabled | Answer::Standalone) {
        return false;
    }
    let answers = peer.answer == Answer::Member;
    let in_contact = match peer.contact {
        Contact::Fresh => true,
        Contact::Away(away) => answers && peer.leader_heard.is_none() && away <= lost_contact,
        Contact::Untold => false,
    };
    peer.row.as_ref().is_some_and(|row| in_contact && !row.offline_unreadable && (!row.offline || answers))
}
