//! Who leads a meta group: whose claim counts, what its list holds, and since when nobody has led.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::contact::{Tenure, TermBegan};
use super::group::Members;
use super::history::GroupHistory;
use super::{Authority, GroupView, Inconsistencies, Streak};
use crate::epoch::Gathered;
use crate::name::{Name, PeerId};
use crate::rules::LEADERLESS_MIN;
use crate::wire::{Meta, Reply, Row};

/// How many leaders without a list are named.
const LISTLESS_MAX: usize = 16;

/// Whether a reply names its own server as the leader.
pub(super) fn claims(reply: &Reply, meta: &Meta) -> bool {
    meta.leader.as_ref() == Some(&reply.server.name) && meta.leader_id == Some(reply.server.peer)
}

/// Whether a leader's list names every peer of the group.
pub(super) fn complete(meta: &Meta) -> bool {
    meta.unreadable_rows == 0 && i64::try_from(meta.rows.len() + 1) == Ok(meta.size)
}

/// Whether a claim comes with a list, be it unreadable. A leader without one has no peers: servers that were all
/// renamed elect such leaders for ever (measured, 2.12.8).
pub(super) fn has_list(meta: &Meta) -> bool {
    !meta.rows.is_empty() || meta.unreadable_rows > 0 || meta.size <= 1
}

/// The members that name themselves leader.
pub(super) fn claimants<'a>(members: &Members<'a>) -> Vec<(&'a Reply, &'a Meta)> {
    members.values().copied().filter(|(reply, meta)| claims(reply, meta)).collect()
}

/// Says who calls itself the leader and gives the peer id of another: that is no claim.
pub(super) fn false_claims(members: &Members<'_>, inconsistent: &mut Inconsistencies) {
    for (reply, meta) in members.values() {
        let name = &reply.server.name;
        let id = meta.leader_id.filter(|id| meta.leader.as_ref() == Some(name) && *id != reply.server.peer);
        if let Some(id) = id {
            inconsistent.note(format!(
                "{name} says that it leads, under the peer id {id}; its own is {}",
                reply.server.peer
            ));
        }
    }
}

/// Whose list counts. A claimant without a list has none. A sole claimant's does, however stale. Among several, one
/// whose list is all stale loses; then the one that more members name wins; then the one that is in contact with a majority. Where that
/// leaves two, nobody's list counts.
pub(super) fn authority<'a>(
    claimants: &[(&'a Reply, &'a Meta)],
    members: &Members<'_>,
) -> Option<(&'a Reply, &'a Meta)> {
    let mut with_a_list = claimants.iter().copied().filter(|(_, meta)| has_list(meta)).peekable();
    let first = with_a_list.next()?;
    if with_a_list.peek().is_none() {
        return Some(first);
    }
    let mut named_by: BTreeMap<PeerId, usize> = BTreeMap::new();
    for leader in members.values().filter_map(|(_, meta)| meta.leader_id) {
        *named_by.entry(leader).or_default() += 1;
    }
    let rank = |(reply, meta): (&Reply, &Meta)| {
        let fresh = meta.rows.iter().filter(|row| row.current).count() as i64;
        let named_by = named_by.get(&reply.server.peer).copied().unwrap_or_default();
        (fresh > 0, named_by, fresh + 1 > meta.size / 2)
    };
    let mut best = (rank(first), first, true);
    for claimant in with_a_list {
        match rank(claimant).cmp(&best.0) {
            Ordering::Greater => best = (rank(claimant), claimant, true),
            Ordering::Equal => best.2 = false,
            Ordering::Less => {}
        }
    }
    best.2.then_some(best.1)
}

/// The rows of a leader's list, one a peer and without its own.
pub(super) fn list_of<'a>(
    reply: &Reply,
    meta: &'a Meta,
    inconsistent: &mut Inconsistencies,
) -> BTreeMap<PeerId, &'a Row> {
    let leader = &reply.server.name;
    let mut list = BTreeMap::new();
    let mut repeated = 0;
    for row in &meta.rows {
        if row.peer == reply.server.peer {
            inconsistent.note(format!("the leader {leader} lists itself"));
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
        inconsistent.note(format!("the leader {leader} lists {repeated} peers twice"));
    }
    match meta.unreadable_rows {
        0 => {}
        1 => inconsistent.note(format!("the leader {leader} lists 1 peer that cannot be read")),
        lost => inconsistent.note(format!("the leader {leader} lists {lost} peers that cannot be read")),
    }
    if i64::try_from(list.len() + 1).is_ok_and(|peers| peers > meta.size) {
        inconsistent.note(format!(
            "the leader {leader} lists {} peers besides itself but gives a cluster size of {}",
            list.len(),
            meta.size
        ));
    }
    if let Some(needed) = meta.quorum_needed.filter(|needed| !(1..=meta.size.max(1)).contains(needed)) {
        inconsistent
            .note(format!("the leader {leader} says that {needed} of {} peers must agree", meta.size));
    }
    list
}

/// Whether as many members as must agree, or all of those that answer, name one leader that we cannot hear or read. One
/// that answers, and does not claim to lead or has no list, leads nobody. Members stop naming one that is gone after some seconds (measured: 3.5
/// to 7.5 s), so in the long run only a leader that runs is followed.
pub(super) fn followed(members: &Members<'_>, quorum: Option<u64>) -> bool {
    let mut followers: BTreeMap<PeerId, u64> = BTreeMap::new();
    for leader in members.values().filter_map(|(_, meta)| meta.leader_id) {
        if !members.contains_key(&leader) {
            *followers.entry(leader).or_default() += 1;
        }
    }
    let enough =
        |count: &u64| *count == members.len() as u64 || quorum.is_some_and(|quorum| *count >= quorum);
    followers.values().any(enough)
}

/// The leader that every member names who names one, when it gave no answer as a member.
pub(super) fn silent_leader(members: &Members<'_>) -> Option<PeerId> {
    let mut named = members.values().filter_map(|(_, meta)| meta.leader_id);
    let first = named.next().filter(|leader| !members.contains_key(leader))?;
    named.all(|other| other == first).then_some(first)
}

/// Which leader each answering member names.
pub(super) fn named_leaders(members: &Members<'_>) -> BTreeMap<Name, Option<Name>> {
    members.values().map(|(reply, meta)| (reply.server.name.clone(), meta.leader.clone())).collect()
}

/// Whether two of them are not the same.
fn differ<T: PartialEq>(mut all: impl Iterator<Item = T>) -> bool {
    all.next().is_some_and(|first| all.any(|other| other != first))
}

impl GroupHistory {
    /// Remembers who leads, and since when we know that it does. A leader that was there when we began to watch may
    /// have led for long.
    pub(super) fn take_leader(
        &mut self,
        authority: Option<&Authority>,
        members: &Members<'_>,
        gathered: &Gathered,
    ) {
        let Some(authority) = authority else {
            // Members go on naming a leader whose answer was lost; one that they all have given up is none any more.
            let named = |leader| members.values().any(|(_, meta)| meta.leader_id == Some(leader));
            let kept = self.tenure.and_then(|tenure| tenure.leader).is_some_and(named);
            if !members.is_empty() && !kept {
                self.tenure = Some(Tenure { leader: None, began: None });
            }
            return;
        };
        let leader = Some(authority.peer);
        match self.tenure {
            Some(tenure) if tenure.leader == leader => {}
            // It took over after the last epoch that showed another one, or none.
            Some(_) => {
                let after = self.last_heard.unwrap_or(gathered.opened);
                let began = Some(TermBegan { after, seen: gathered.closed });
                self.tenure = Some(Tenure { leader, began });
            }
            None => self.tenure = Some(Tenure { leader, began: None }),
        }
    }

    /// Runs the clocks of the group as a whole, once its peers are known.
    pub(super) fn run_clocks(&mut self, view: &GroupView, members: &Members<'_>, gathered: &Gathered) {
        let claims_of = |listed: bool| {
            let of = |(reply, meta): &(&Reply, &Meta)| claims(reply, meta) && (has_list(meta) || !listed);
            members.values().any(of)
        };
        if view.authority.is_some() || members.values().all(|(_, meta)| meta.leader_id.is_none()) {
            self.leader_unseen = false;
        }
        if self.is_led(view, members) {
            (self.leaderless, self.claimed) = (None, None);
        } else {
            self.claimed = claims_of(false).then(|| Streak::again(self.claimed, gathered));
            let settled = self.claimed.is_some_and(|claim| claim.lasted() >= LEADERLESS_MIN);
            let running = self.leaderless.is_some();
            // The clock starts with an epoch that shows no leader with a list, and runs through claims that nobody
            // follows, until one has lasted longer than an election.
            let goes_on = !claims_of(true) || (running && !settled);
            self.leaderless = goes_on.then(|| Streak::again(self.leaderless, gathered));
        }
        self.enough = (!view.quorum_gone()).then(|| Streak::again(self.enough, gathered));
        self.take_listless(members);
        let disagree =
            differ(members.values().filter_map(|(_, meta)| meta.leader_id)) || view.claimants.len() > 1;
        self.disagreement = disagree.then(|| Streak::again(self.disagreement, gathered));
        let sizes = members.values().map(|(_, meta)| meta.size).filter(|size| *size > 0);
        self.sizes = differ(sizes).then(|| Streak::again(self.sizes, gathered));
        // What cannot be read may be online.
        let uncertain = view.authority.as_ref().map_or(0, |authority| authority.uncertain);
        self.short = match (view.online, view.quorum) {
            (Some(online), Some(quorum)) if online + uncertain < quorum => {
                Some(Streak::again(self.short, gathered))
            }
            (None, _) => self.short,
            _ => None,
        };
    }

    /// Whether a leader has positive evidence for itself: its complete list has as many online as must agree, or as
    /// many members as must agree name it.
    pub(super) fn is_led(&self, view: &GroupView, members: &Members<'_>) -> bool {
        let Some(authority) = &view.authority else { return false };
        let Some(quorum) = view.quorum else { return true };
        let followers = self.followers_of(authority.peer, members);
        view.online.is_some_and(|online| online >= quorum) || followers >= quorum
    }

    /// How many known members name this leader, itself included.
    fn followers_of(&self, leader: PeerId, members: &Members<'_>) -> u64 {
        let of_it = |(id, (_, meta)): &(&PeerId, &(&Reply, &Meta))| {
            self.members.contains(*id) && meta.leader_id == Some(leader)
        };
        members.iter().filter(of_it).count() as u64
    }

    /// Whether the one known member that has claimed to lead since nobody does, without a list, is followed by as many
    /// known members as must agree: a server that was just started lists nobody of whom it has not heard yet. Servers
    /// that were all renamed are no known members.
    pub(super) fn is_claim_followed(&self, view: &GroupView, members: &Members<'_>) -> bool {
        let mut claimants = members.iter().filter(|(_, (reply, meta))| claims(reply, meta));
        let (Some((leader, _)), None) = (claimants.next(), claimants.next()) else { return false };
        let followers = self.followers_of(*leader, members);
        self.has_list
            && self.listless.len() <= 1
            && self.members.contains(leader)
            && view.quorum.is_some_and(|quorum| followers >= quorum)
    }

    /// Remembers who has claimed to lead without a list since nobody leads.
    fn take_listless(&mut self, members: &Members<'_>) {
        if self.leaderless.is_none() {
            self.listless.clear();
        }
        for (reply, meta) in members.values() {
            let listless = claims(reply, meta) && !has_list(meta) && self.listless.len() < LISTLESS_MAX;
            if self.leaderless.is_some() && listless {
                self.listless.insert(reply.server.name.clone());
            }
        }
    }
}
