//! What is remembered from epoch to epoch: who there is, who belongs to which group, and since when we see what.

mod plan;
mod saved;

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::changes::Changes;
use super::connections::Received;
use super::contact::Tenure;
use super::load::{RunHistory, StorageHistory};
use super::{Held, Streak};
use crate::epoch::{Ended, Gathered, REPLIES_MAX, Respondent, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::wire::{AnnouncementKind, JetStream, Reply, Server};
pub use saved::{Moments, Remembered, SavedHistory, read_leniently};

/// A server outside every group is expected for this long after its last answer.
const OUTSIDER_EXPECTED: Duration = Duration::from_secs(60);
/// A server is awaited once it has answered so many epochs running, unless nobody has yet.
const ANSWERED_MIN: u32 = 2;
/// A late answer teaches no longer delay than this: more patience would cost more than it gives.
const LATENESS_MAX: Duration = Duration::from_secs(1);
/// Groups beyond this are forgotten, the longest unheard first, then the newest.
const GROUPS_MAX: usize = 4_096;
/// A group that nobody has answered for, for this long, is forgotten.
const GROUP_FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A group that only saved alerts tell of, and that nobody has answered for, is forgotten this soon.
const REMEMBERED_FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// More clusters with gateways are not remembered.
const GATEWAYS_MAX: usize = 1_024;
/// So many openings are kept to tell how late a late reply is.
const OPENINGS_MAX: usize = 32;

/// What earlier epochs taught. Created empty; only [`super::merge`] changes it.
#[derive(Clone, Debug, Default)]
pub struct History {
    servers: BTreeMap<ServerKey, ServerHistory>,
    groups: BTreeMap<Name, GroupHistory>,
    /// The key of the group that each peer belongs to, by its domain.
    group_of: BTreeMap<Name, BTreeMap<PeerId, Name>>,
    last_informative: Option<Stamp>,
    /// The end of the last time in which we could not see or hear anything, events included.
    blind_until: Option<Stamp>,
    openings: VecDeque<(u64, Stamp)>,
    /// The number of the last epoch, and its end.
    last: Option<(u64, Stamp)>,
    /// The domains of which somebody belongs to a group of another one, or may: it names a leader that did not answer in
    /// its own.
    pub(super) mixed_domains: BTreeSet<Name>,
    /// The clusters that servers have told of gateway connections to.
    gateways: BTreeSet<Name>,
}

/// One server, member or not.
#[derive(Clone, Debug)]
pub(super) struct ServerHistory {
    pub(super) name: Name,
    pub(super) id: Name,
    pub(super) cluster: Name,
    pub(super) last_heard: Stamp,
    /// Epochs missed running.
    missed: u32,
    /// How many epochs running it has answered, in whatever run of it.
    answered: u32,
    /// It gave one answer to the last epoch, and no more.
    pub(super) alone: bool,
    /// How long it takes to answer: the last answer, or a slower one not long ago.
    delay: Duration,
    stopped: bool,
    /// It has answered as a member of a meta group, from this cluster.
    pub(super) member: bool,
    /// The id of the run in which it last did; empty when it never did.
    pub(super) member_run: Name,
    pub(super) runs: RunHistory,
}

impl ServerHistory {
    fn of(server: &Server, last_heard: Stamp, delay: Duration, member: bool) -> Self {
        Self {
            name: server.name.clone(),
            id: server.id.clone(),
            cluster: server.cluster.clone(),
            last_heard,
            missed: 0,
            answered: 1,
            alone: false,
            delay,
            stopped: false,
            member,
            member_run: if member { server.id.clone() } else { Name::default() },
            runs: RunHistory::of(server),
        }
    }

    /// It has said the same once more.
    fn hear_again(&mut self, closed: Stamp, delay: Duration) {
        (self.last_heard, self.missed, self.stopped) = (closed, 0, false);
        self.runs.hear_again();
        self.delay = delay.max(self.delay * 3 / 4);
        self.answered = self.answered.saturating_add(1);
    }

    /// It has answered once more, in this run or in another one.
    fn hear(&mut self, server: &Server, closed: Stamp, delay: Duration, member: bool) {
        let same_cluster = self.cluster == server.cluster;
        if self.member && !member && !same_cluster {
            // Another server of the same name.
            return;
        }
        if same_cluster {
            self.runs.hear(&self.id, server, self.last_heard, closed);
        }
        let (of_a_member, member) = (member, member || (self.member && same_cluster));
        let delay = delay.max(self.delay * 3 / 4);
        if (&self.name, &self.id, &self.cluster) == (&server.name, &server.id, &server.cluster) {
            (self.last_heard, self.missed, self.delay, self.stopped) = (closed, 0, delay, false);
            self.member = member;
            if of_a_member && self.member_run != server.id {
                self.member_run = server.id.clone();
            }
        } else {
            let (answered, run) = (self.answered, std::mem::take(&mut self.member_run));
            let runs = std::mem::take(&mut self.runs);
            *self = Self { answered, alone: self.alone, ..Self::of(server, closed, delay, member) };
            if same_cluster {
                self.runs = runs;
            }
            if !of_a_member {
                self.member_run = run;
            }
        }
        self.answered = self.answered.saturating_add(1);
    }
}

/// One meta group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupHistory {
    pub(super) domain: Name,
    pub(super) clusters: BTreeSet<Name>,
    /// The peers of the last complete authoritative list; before any, the members that answered.
    pub(super) members: BTreeSet<PeerId>,
    pub(super) has_list: bool,
    pub(super) size: Option<u64>,
    pub(super) quorum: Option<u64>,
    pub(super) rescue: bool,
    /// A smaller list that too few could agree on.
    pub(super) held: Option<Held>,
    pub(super) leaderless: Option<Streak>,
    /// Since when as many members have answered as must agree.
    pub(super) enough: Option<Streak>,
    /// Since when somebody has claimed to lead whom too few follow.
    pub(super) claimed: Option<Streak>,
    /// The members that answer have not seen the leader that they name, by their own word when they were asked.
    pub(super) leader_unseen: bool,
    /// Who has claimed to lead without a list since nobody leads.
    pub(super) listless: BTreeSet<Name>,
    pub(super) tenure: Option<Tenure>,
    pub(super) short: Option<Streak>,
    pub(super) disagreement: Option<Streak>,
    /// Since when members have told different sizes.
    pub(super) sizes: Option<Streak>,
    /// Since when nobody of it has given a sign of life while others did.
    pub(super) unheard: Option<Streak>,
    /// Who was last known to be online, and when.
    pub(super) last_online: Option<(BTreeSet<PeerId>, Stamp)>,
    pub(super) peers: BTreeMap<PeerId, PeerHistory>,
    pub(super) changes: Changes,
    pub(super) first_heard: Option<Stamp>,
    /// When anybody of it last gave a sign of life; before that, when it was taken over from saved alerts.
    pub(super) last_heard: Option<Stamp>,
    /// The same answers would lead to the same view again, as far as it holds no times: see [`super::unchanged`].
    pub(super) settled: bool,
}

/// One peer of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerHistory {
    pub(super) name: Option<Name>,
    pub(super) flag_epochs: u32,
    pub(super) flag_announced: bool,
    /// Since when a leader's row has said that it had no contact in its term.
    pub(super) no_contact_since: Option<Stamp>,
    pub(super) contact_lost: bool,
    pub(super) silence: Option<Streak>,
    /// When it answered again after it had been silent.
    pub(super) back_since: Option<Stamp>,
    pub(super) disconnected_epochs: u32,
    pub(super) routes_held: bool,
    /// Nobody held a route to it for a while of this silence.
    pub(super) routes_closed: bool,
    /// What others have received from it since it fell silent.
    pub(super) received: Received,
    /// It told that this stream has filled its storage.
    pub(super) out_of_storage: Option<(Stamp, Name)>,
    /// It told that it was removed.
    pub(super) said_removed: bool,
    pub(super) announced: Option<(Stamp, AnnouncementKind)>,
    pub(super) unlisted: Option<Streak>,
    pub(super) absent_epochs: u32,
    pub(super) down_since: Option<Stamp>,
    pub(super) off_since_start: bool,
    /// The cluster of the servers that held a route to it.
    pub(super) cluster_by_routes: Option<Name>,
    /// Since when it has answered without being current, with the lag of the first such epoch.
    pub(super) behind: Option<(Streak, u64)>,
    /// A leader has met it, in this term or in an earlier one: it knew its name, its lag or its last contact.
    pub(super) met: bool,
    pub(super) storage: StorageHistory,
}

impl GroupHistory {
    /// We saw nothing of the group for a while: what happened meanwhile is not known, so nothing counts as having
    /// lasted.
    pub(super) fn restart_clocks(&mut self) {
        self.settled = false;
        (self.leaderless, self.claimed, self.short, self.enough) = (None, None, None, None);
        (self.disagreement, self.sizes, self.unheard, self.last_online) = (None, None, None, None);
        if let Some(held) = &mut self.held {
            held.streak.since = held.streak.until;
        }
        self.listless.clear();
        for peer in self.peers.values_mut() {
            peer.silence = None;
            peer.no_contact_since = None;
            peer.unlisted = None;
            (peer.disconnected_epochs, peer.routes_closed) = (0, false);
            peer.received.clear();
            peer.down_since = None;
            peer.behind = None;
        }
    }
}

impl History {
    /// The last known name of a server.
    pub(super) fn name_of(&self, key: &ServerKey) -> Option<&Name> {
        self.servers.get(key).map(|server| &server.name)
    }

    pub(super) fn server(&self, key: &ServerKey) -> Option<&ServerHistory> {
        self.servers.get(key)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (&Name, &GroupHistory)> {
        self.groups.iter()
    }

    pub(super) fn group(&self, key: &Name) -> Option<&GroupHistory> {
        self.groups.get(key)
    }

    pub(super) fn group_of(&self, key: &ServerKey) -> Option<&Name> {
        self.groups_in(&key.domain)?.get(&key.peer)
    }

    /// The key of the group that each peer of a domain belongs to.
    pub(super) fn groups_in(&self, domain: &Name) -> Option<&BTreeMap<PeerId, Name>> {
        self.group_of.get(domain)
    }

    /// Takes what members of a group said when they were asked about it: who belongs to it by their word, and whether
    /// they have lost sight of their leader. Tells whether that may change what the next epoch shows.
    pub fn take_raft(&mut self, key: &Name, expected: &BTreeSet<PeerId>, leader_unseen: bool) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        group.settled = false;
        let unseen = leader_unseen && !group.leader_unseen;
        group.leader_unseen |= leader_unseen;
        // Who answers under names that no member expects is none of them.
        let strangers = !group.has_list && !expected.is_empty() && group.members.is_disjoint(expected);
        if strangers {
            group.members.clone_from(expected);
            group.has_list = true;
        }
        unseen || strangers
    }

    /// Whether servers have told of gateway connections to this cluster.
    pub(super) fn has_gateways_to(&self, cluster: &Name) -> bool {
        self.gateways.contains(cluster)
    }

    /// Whether we have watched since then without a gap, so that every event of a server would have been heard.
    pub(super) fn watched_since(&self, moment: Stamp) -> bool {
        self.blind_until.is_none_or(|blind| moment.has_reached(blind))
    }

    /// Takes a group out to change it; [`Self::put`] brings it back.
    pub(super) fn take(&mut self, key: &Name) -> GroupHistory {
        self.groups.remove(key).unwrap_or_default()
    }

    pub(super) fn put(&mut self, key: Name, group: GroupHistory) {
        if group.peers.is_empty() && group.last_heard.is_none() {
            return;
        }
        let group_of = self.group_of.entry(group.domain.clone()).or_default();
        for peer in group.members.iter().chain(group.peers.keys()) {
            let held = group_of.get(peer);
            if held != Some(&key) && (held.is_none() || group.members.contains(peer)) {
                group_of.insert(*peer, key.clone());
            }
        }
        self.groups.insert(key, group);
    }

    /// Forgets a peer of a group, unless another group has it now.
    pub(super) fn forget_peer(&mut self, key: &ServerKey, group: &Name) {
        if self.group_of(key) == Some(group) {
            if let Some(group_of) = self.group_of.get_mut(&key.domain) {
                group_of.remove(&key.peer);
            }
            self.servers.remove(key);
        }
    }

    /// Whether nothing was seen of the system for a while before this epoch.
    pub(super) fn is_blind(&self, gathered: &Gathered, rules: &Rules) -> bool {
        self.last_informative.is_some_and(|last| gathered.opened.since(last) > rules.interval * 3)
    }

    /// The end of the epoch before this one, where that was seen.
    pub(super) fn last_closed(&self, gathered: &Gathered) -> Option<Stamp> {
        self.last.filter(|(number, _)| number + 1 == gathered.number).map(|(_, closed)| closed)
    }

    /// What is remembered of the servers, in the order of their keys.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&ServerKey, &ServerHistory)> {
        self.servers.iter()
    }

    pub(super) fn group_mut(&mut self, key: &Name) -> Option<&mut GroupHistory> {
        self.groups.get_mut(key)
    }

    /// Takes in who answered, before the groups are looked at.
    pub(super) fn begin(&mut self, gathered: &Gathered, rules: &Rules) {
        let blind = self.is_blind(gathered, rules);
        if blind {
            self.groups.values_mut().for_each(GroupHistory::restart_clocks);
        }
        let deaf = matches!(gathered.ended, Ended::Disconnected | Ended::Denied | Ended::NoResponders);
        if deaf || blind {
            self.blind_until = Some(if deaf { gathered.closed } else { gathered.opened });
            // Nobody is given up for a time in which nobody could be heard.
            for group in self.groups.values_mut().filter(|group| group.first_heard.is_none()) {
                group.last_heard = Some(gathered.closed);
            }
        }
        if !gathered.replies.is_empty() {
            self.last_informative = Some(gathered.closed);
        }
        self.openings.push_back((gathered.number, gathered.opened));
        if self.openings.len() > OPENINGS_MAX {
            self.openings.pop_front();
        }
        self.hear_all(gathered);
        let room = GATEWAYS_MAX.saturating_sub(self.gateways.len());
        let unknown = gathered.gateways.iter().filter(|cluster| !self.gateways.contains(*cluster));
        let unknown: Vec<Name> = unknown.take(room).cloned().collect();
        self.gateways.extend(unknown);
        if gathered.counts_absence() && gathered.heard > 0 {
            for Respondent { key, .. } in gathered.missing() {
                let of_a_group = self.group_of(key).is_some();
                if let Some(server) = self.servers.get_mut(key) {
                    let once = server.missed == 0 && server.answered < ANSWERED_MIN;
                    server.missed = server.missed.saturating_add(1);
                    server.answered = 0;
                    // A stranger that answered once and never again has been nobody.
                    server.stopped |= once && !of_a_group;
                }
            }
        }
        self.hear_late(gathered);
        for (_, announcement) in &gathered.announcements {
            if let Some(server) = self.servers.get_mut(&ServerKey::of(&announcement.server))
                && server.id == announcement.server.id
            {
                server.stopped = true;
            }
        }
    }

    /// Takes in the replies. They, the respondents and the known servers are all in the order of the keys: one walk
    /// over the three finds what belongs together.
    fn hear_all(&mut self, gathered: &Gathered) {
        let last = self.last_closed(gathered);
        let mut known = self.servers.iter_mut().peekable();
        let mut replies = gathered.replies.iter();
        let mut strangers = Vec::new();
        for Respondent { key, delay, answers, unchanged, .. } in &gathered.respondents {
            while known.next_if(|(before, _)| *before < key).is_some() {}
            let mut known = known.next_if(|(known, _)| *known == key).map(|(_, server)| server);
            let Some(delay) = *delay else { continue };
            let alone = *answers == 1;
            if let Some(server) = known.as_deref_mut() {
                if *unchanged && server.alone && Some(server.last_heard) == last {
                    server.hear_again(gathered.closed, delay);
                    replies.next();
                    continue;
                }
                server.alone = alone;
            }
            let of_it =
                |reply: &&Arc<Reply>| reply.server.peer == key.peer && reply.server.domain == key.domain;
            while let Some(reply) = replies.as_slice().first().filter(|reply| of_it(reply)) {
                replies.next();
                let (server, member) = (&reply.server, matches!(reply.jetstream, JetStream::Member(_)));
                match known.as_deref_mut() {
                    Some(known) => known.hear(server, gathered.closed, delay, member),
                    None => strangers.push((server, delay, member, alone)),
                }
            }
        }
        for (server, delay, member, alone) in strangers {
            self.heard(server, gathered.closed, delay, member);
            if let Some(server) = self.servers.get_mut(&ServerKey::of(server)) {
                server.alone = alone;
            }
        }
    }

    fn heard(&mut self, server: &Server, closed: Stamp, delay: Duration, member: bool) {
        let full = self.servers.len() >= REPLIES_MAX;
        match self.servers.entry(ServerKey::of(server)) {
            Entry::Occupied(entry) => entry.into_mut().hear(server, closed, delay, member),
            Entry::Vacant(entry) if !full => {
                entry.insert(ServerHistory::of(server, closed, delay, member));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// A server that answers too late lives and needs more time: the next epochs wait for it.
    ///
    /// One that was frozen answers everything that waited at once; how late the latest question is answered comes
    /// closest to the time it really needs.
    fn hear_late(&mut self, gathered: &Gathered) {
        let mut latest: BTreeMap<ServerKey, (&Server, Stamp, Duration)> = BTreeMap::new();
        for late in &gathered.late {
            let opened =
                self.openings.iter().find(|(number, _)| *number == late.epoch).map(|(_, opened)| *opened);
            let Some(opened) = opened else { continue };
            let delay = late.heard.since(opened).min(LATENESS_MAX);
            let entry =
                latest.entry(ServerKey::of(&late.server)).or_insert((&late.server, late.heard, delay));
            entry.2 = entry.2.min(delay);
        }
        for (key, (server, heard, delay)) in latest {
            match self.servers.get_mut(&key) {
                None => self.heard(server, heard, delay, false),
                Some(server) => {
                    server.missed = 0;
                    // A member is waited for at once, or epochs that follow each other quickly never hear it.
                    server.answered = server.answered.saturating_add(1 + u32::from(server.member));
                    server.delay = server.delay.max(delay);
                }
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn end(&mut self, gathered: &Gathered) {
        let now = gathered.closed;
        self.last = Some((gathered.number, now));
        let of_a_group = |key: &ServerKey| {
            self.group_of.get(&key.domain).is_some_and(|group_of| group_of.contains_key(&key.peer))
        };
        self.servers.retain(|key, server| {
            (now.since(server.last_heard) <= OUTSIDER_EXPECTED && !server.stopped) || of_a_group(key)
        });
        let old = |group: &GroupHistory| {
            let limit = if group.first_heard.is_some() { GROUP_FORGOTTEN } else { REMEMBERED_FORGOTTEN };
            group.last_heard.is_none_or(|heard| now.since(heard) > limit)
        };
        let mut forgotten: BTreeSet<Name> =
            self.groups.iter().filter(|(_, group)| old(group)).map(|(key, _)| key.clone()).collect();
        if self.groups.len() > GROUPS_MAX {
            let age = |group: &GroupHistory| (group.last_heard, Reverse(group.first_heard));
            let mut by_age: Vec<_> = self.groups.iter().map(|(key, group)| (age(group), key)).collect();
            by_age.sort();
            forgotten
                .extend(by_age.iter().take(self.groups.len() - GROUPS_MAX).map(|(_, key)| (*key).clone()));
        }
        if !forgotten.is_empty() {
            self.groups.retain(|key, _| !forgotten.contains(key));
            self.group_of.retain(|_, group_of| {
                group_of.retain(|_, group| !forgotten.contains(group));
                !group_of.is_empty()
            });
        }
    }
}
