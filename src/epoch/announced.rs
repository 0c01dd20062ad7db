//! Who has announced its stop since the last epoch: what known servers say is never pushed out by what others
//! say.

use std::collections::BTreeMap;

use super::ServerKey;
use crate::name::Name;
use crate::stamp::Stamp;
use crate::wire::{Announcement, AnnouncementKind};

/// So many announcements of servers that were not expected are kept.
const STRANGERS_MAX: usize = 256;
/// So many announcements of one expected server are kept: its runs that end within an epoch are fewer.
const RUNS_MAX: usize = 8;

/// An announcement, and when it came.
type Said = (Stamp, Announcement);

/// Of each run of a server the last announcement of a kind. What is kept does not depend on the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Announced {
    expected: BTreeMap<ServerKey, BTreeMap<(Name, AnnouncementKind), Said>>,
    strangers: BTreeMap<(ServerKey, Name, AnnouncementKind), Said>,
}

impl Announced {
    /// Keeps an announcement; `false` where one is lost for it, be it itself.
    pub(super) fn keep(&mut self, at: Stamp, announcement: Announcement, is_expected: bool) -> bool {
        let server = ServerKey::of(&announcement.server);
        let (id, kind) = (announcement.server.id.clone(), announcement.kind);
        let said = (at, announcement);
        if is_expected {
            keep_least(self.expected.entry(server).or_default(), (id, kind), said, RUNS_MAX)
        } else {
            keep_least(&mut self.strangers, (server, id, kind), said, STRANGERS_MAX)
        }
    }

    /// All of them, in the order of their times.
    pub(super) fn in_order(self) -> Vec<Said> {
        let expected = self.expected.into_values().flat_map(BTreeMap::into_values);
        let mut all: Vec<_> = expected.chain(self.strangers.into_values()).collect();
        all.sort();
        all
    }
}

fn keep_least<K: Ord>(kept: &mut BTreeMap<K, Said>, which: K, said: Said, max: usize) -> bool {
    let latest = kept.entry(which).or_insert_with(|| said.clone());
    if said > *latest {
        *latest = said;
    }
    let fits = kept.len() <= max;
    if !fits {
        kept.pop_last();
    }
    fits
}
