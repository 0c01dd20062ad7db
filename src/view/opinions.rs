//! Who says what of whom, reporter by reporter.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Members;
use super::{Authority, Opinion};
use crate::name::{Name, PeerId};
use crate::wire::Row;

/// What every list of one group says of each peer. Nothing is collapsed before the checks see it.
pub(super) struct Opinions<'a> {
    by_peer: BTreeMap<PeerId, Vec<(&'a Name, Opinion)>>,
    /// The reporters with a list, by peer id.
    reporters: BTreeSet<PeerId>,
}

impl<'a> Opinions<'a> {
    pub(super) fn new(members: &Members<'a>, authority: Option<&Authority>) -> Self {
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

    /// What is said of one peer.
    pub(super) fn of(&self, peer: PeerId) -> &[(&'a Name, Opinion)] {
        self.by_peer.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// The peers that anybody lists.
    pub(super) fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.by_peer.keys()
    }

    /// How many lists there are, without the peer's own.
    pub(super) fn lists_besides(&self, peer: PeerId) -> u64 {
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
