//! What changed in a group: its leader, and its size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::history::PeerHistory;
use super::{Authority, GroupView, PeerView, Streak, label};
use crate::epoch::Gathered;
use crate::name::{Name, PeerId};
use crate::rules::{CHANGE_SHOWN, Rules};
use crate::stamp::Stamp;
use crate::wire::AdvisoryKind;

/// More changes of a leader are not remembered.
const LEADER_CHANGES_MAX: usize = 64;
/// A leader that announces its stop so long after another one took over led on for that long at most.
const ANNOUNCED_LATE_MAX: Duration = Duration::from_secs(10);
/// What was told of an election counts for so long: by then the leader's list has shown who leads.
const TOLD_MAX_AGE: Duration = Duration::from_secs(10);
/// More elections are not kept for that.
const TOLD_MAX: usize = 16;
/// More removed peers are not told.
const REMOVED_MAX: usize = 16;

/// Another leader took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// When that was seen.
    pub at: Stamp,
    /// Who led before.
    pub from: (PeerId, Name),
    /// Who leads then.
    pub to: Name,
    /// The former leader had announced its stop, so that another one had to take over.
    pub announced: bool,
    /// No list showed it: the new leader told of its election and was replaced before an epoch came by.
    pub told: bool,
}

/// A group that has fewer peers than before, by agreement of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// When that was first seen.
    pub at: Stamp,
    /// How many peers it had before.
    pub from: u64,
    /// Who was removed, by name; the first of them.
    pub removed: BTreeMap<String, Removed>,
}

/// How a peer was when it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It answered as a member until then.
    Running,
    /// It answered until then, and told that it was removed.
    Told,
    /// It did not answer.
    Down,
}

/// The changes of a group, remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    leader: Option<(PeerId, Name)>,
    leaders: VecDeque<LeaderChange>,
    /// Who told lately of an election, in the order of the elections.
    told: VecDeque<(Stamp, PeerId)>,
    /// When it was last seen that somebody did not follow the leader.
    interrupted: Option<Stamp>,
    shrunk: Option<Shrunk>,
    /// Since when more requests have waited at the leader than may.
    pending: Option<Streak>,
}

impl Changes {
    /// A complete list lacks peers of the last one, and that is agreed.
    pub(super) fn take_smaller(
        &mut self,
        lacks: &BTreeSet<PeerId>,
        peers: &BTreeMap<PeerId, PeerHistory>,
        from: u64,
        now: Stamp,
    ) {
        let lately = self.shrunk.take().filter(|shrunk| now.since(shrunk.at) <= CHANGE_SHOWN);
        let mut shrunk = lately.unwrap_or(Shrunk { at: now, from, removed: BTreeMap::new() });
        for id in lacks {
            let peer = peers.get(id);
            let down = peer.is_none_or(|peer| peer.flag_epochs > 0 || peer.silence.is_some());
            let name = label(peer.and_then(|peer| peer.name.as_ref()), *id);
            let told = peer.is_some_and(|peer| peer.said_removed);
            let how = match (told, down) {
                (true, _) => Removed::Told,
                (false, true) => Removed::Down,
                (false, false) => Removed::Running,
            };
            if shrunk.removed.len() < REMOVED_MAX {
                shrunk.removed.insert(name, how);
            }
        }
        self.shrunk = Some(shrunk);
    }

    /// Tells the view of the group what has changed lately.
    pub(super) fn finish(
        &mut self,
        view: &mut GroupView,
        pending: Option<u64>,
        gathered: &Gathered,
        rules: &Rules,
    ) {
        let now = gathered.closed;
        self.take_told(view, gathered);
        if let Some(authority) = &view.authority {
            self.take_leader(authority, view, now);
        }
        for change in self.leaders.iter_mut().filter(|change| now.since(change.at) <= ANNOUNCED_LATE_MAX) {
            let stops = |peer: &PeerView| peer.announced.is_some() || (peer.flagged && peer.flag_announced);
            change.announced |= view.peer(change.from.0).is_some_and(stops);
        }
        let window = rules.limits.leader_window;
        self.leaders.retain(|change| now.since(change.at) <= window);
        let is_back = |shrunk: &Shrunk| view.size.is_some_and(|size| size >= shrunk.from);
        self.shrunk =
            self.shrunk.take().filter(|shrunk| now.since(shrunk.at) <= CHANGE_SHOWN && !is_back(shrunk));
        match pending {
            Some(pending) if pending > rules.limits.pending => {
                self.pending = Some(Streak::again(self.pending, gathered));
            }
            Some(_) => self.pending = None,
            None => {}
        }
        view.leader_changes = self.leaders.iter().cloned().collect();
        view.shrunk = self.shrunk.clone();
        view.pending = pending;
        view.pending_over = self.pending;
    }

    /// Remembers who told of an election. Anybody can say so: it counts beside a leader's list alone.
    fn take_told(&mut self, view: &GroupView, gathered: &Gathered) {
        let now = gathered.closed;
        for (at, advisory) in &gathered.advisories {
            let of_the_group = advisory.kind == AdvisoryKind::Elected
                && advisory.domain == view.domain
                && view.peer(advisory.peer).is_some_and(|peer| peer.member);
            if of_the_group && self.told.back().is_none_or(|(_, last)| *last != advisory.peer) {
                self.told.push_back((*at, advisory.peer));
            }
        }
        self.told.retain(|(at, _)| now.since(*at) <= TOLD_MAX_AGE);
        let surplus = self.told.len().saturating_sub(TOLD_MAX);
        self.told.drain(..surplus);
        let follows = |named: &Option<Name>| {
            self.leader.as_ref().is_none_or(|(_, leader)| named.as_ref() == Some(leader))
        };
        let led = view.authority.is_some() && view.named_leaders.values().all(follows);
        if view.heard && !led {
            self.interrupted = Some(now);
        }
    }

    fn take_leader(&mut self, authority: &Authority, view: &GroupView, now: Stamp) {
        let same = self.leader.as_ref().is_some_and(|(leader, _)| *leader == authority.peer);
        if same && self.told.is_empty() {
            return;
        }
        let before = self.leader.replace((authority.peer, authority.name.clone()));
        let Some(from) = before else { return };
        let between = self.told_between(from.0, authority.peer, same, now);
        let between = between.and_then(|id| Some((id, view.peer(id)?.name.clone()?)));
        match between {
            Some(other) => {
                self.push(now, from, other.1.clone(), true);
                self.push(now, other, authority.name.clone(), false);
            }
            None if same => {}
            None => self.push(now, from, authority.name.clone(), false),
        }
    }

    /// Who led between two leaders that lists showed, by what was told: one at most, and only where the last one to tell
    /// is the leader that the list shows, and the list before it or a member shows that there was an election at all.
    fn told_between(&mut self, from: PeerId, to: PeerId, same: bool, now: Stamp) -> Option<PeerId> {
        if self.told.back().is_none_or(|(_, last)| *last != to) {
            return None;
        }
        let interrupted = self.interrupted.is_some_and(|at| now.since(at) <= TOLD_MAX_AGE);
        let mut told = self.told.drain(..).rev().map(|(_, leader)| leader);
        let between = told.find(|leader| *leader != to && *leader != from);
        between.filter(|_| !same || interrupted)
    }

    fn push(&mut self, at: Stamp, from: (PeerId, Name), to: Name, told: bool) {
        if self.leaders.len() >= LEADER_CHANGES_MAX {
            self.leaders.pop_front();
        }
        self.leaders.push_back(LeaderChange { at, from, to, announced: false, told });
    }
}
