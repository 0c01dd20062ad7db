//! What changed in a group: its leader, and its size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::history::PeerHistory;
use super::{Authority, GroupView, PeerView, Streak, label};
use crate::epoch::Gathered;
use crate::name::{Name, PeerId};
use crate::rules::{CHANGE_SHOWN, Rules};
use crate::stamp::Stamp;

/// More changes of a leader are not remembered.
const LEADER_CHANGES_MAX: usize = 64;
/// A leader that announces its stop so long after another one took over led on for that long at most.
const ANNOUNCED_LATE_MAX: Duration = Duration::from_secs(10);
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
    /// It did not.
    Down,
}

/// The changes of a group, remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    leader: Option<(PeerId, Name)>,
    leaders: VecDeque<LeaderChange>,
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
            if shrunk.removed.len() < REMOVED_MAX {
                shrunk.removed.insert(name, if down { Removed::Down } else { Removed::Running });
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
        if let Some(authority) = &view.authority {
            self.take_leader(authority, now);
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

    fn take_leader(&mut self, authority: &Authority, now: Stamp) {
        if self.leader.as_ref().is_some_and(|(leader, _)| *leader == authority.peer) {
            return;
        }
        let before = self.leader.replace((authority.peer, authority.name.clone()));
        let Some(from) = before else { return };
        if self.leaders.len() >= LEADER_CHANGES_MAX {
            self.leaders.pop_front();
        }
        self.leaders.push_back(LeaderChange { at: now, from, to: authority.name.clone(), announced: false });
    }
}
