//! Who says what of whom, reporter by reporter.

use super::group::Members;
use super::{Authority, Opinion};
use crate::name::{Name, PeerId};
use crate::wire::Row;

/// What one reporter's list says of a peer.
pub(super) type Said<'a> = (PeerId, &'a Name, Opinion);

/// What every list of one group says of each peer. Nothing is collapsed before the checks see it.
pub(super) struct Opinions<'a> {
    /// In the order of the peers; of each peer in the order of the reporters.
    said: Vec<Said<'a>>,
    /// The reporters with a list, in the order of their ids.
    reporters: Vec<PeerId>,
}

impl<'a> Opinions<'a> {
    pub(super) fn new(members: &Members<'a>, authority: Option<&Authority>) -> Self {
        let mut said = Vec::with_capacity(members.values().map(|(_, meta)| meta.rows.len()).sum());
        let mut reporters = Vec::new();
        for (id, (reply, meta)) in members {
            let leads = authority.is_some_and(|authority| authority.peer == *id);
            let before = said.len();
            // A server of 2.15 without a leader lists itself: that is no opinion.
            let rows = meta.rows.iter().filter(|row| row.peer != *id);
            said.extend(rows.map(|row| (row.peer, &reply.server.name, opinion(row, leads))));
            if said.len() > before {
                reporters.push(*id);
            }
        }
        said.sort_by_key(|(peer, ..)| *peer);
        Self { said, reporters }
    }

    /// What is said of one peer.
    pub(super) fn of(&self, peer: PeerId) -> &[Said<'a>] {
        let start = self.said.partition_point(|(other, ..)| *other < peer);
        let count = self.said[start..].partition_point(|(other, ..)| *other == peer);
        &self.said[start..start + count]
    }

    /// The peers that anybody lists, in order; again for each list.
    pub(super) fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.said.iter().map(|(peer, ..)| peer)
    }

    /// How many lists there are, without the peer's own.
    pub(super) fn lists_besides(&self, peer: PeerId) -> u64 {
        (self.reporters.len() - usize::from(self.reporters.binary_search(&peer).is_ok())) as u64
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
