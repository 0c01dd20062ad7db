//! Who has announced its stop since the last epoch: what known servers say is never pushed out by what others
//! say.

use std::collections::BTreeMap;

use super::ServerKey;
use crate::name::Name;
use crate::stamp::Stamp;
use crate::wire::{Announcement, AnnouncementKind};

/// So many announcements of servers that nobody knows are kept.
const STRANGERS_MAX: usize = 256;
/// So many announcements of one known server are kept: its runs that end within an epoch are fewer.
const RUNS_MAX: usize = 8;

/// Of each run of a server the last announcement of a kind.
#[derive(Debug, Default)]
pub(super) struct Announced {
    kept: BTreeMap<(ServerKey, Name, AnnouncementKind), (Stamp, Announcement)>,
    strangers: usize,
}

impl Announced {
    /// Keeps an announcement; `false` where it has no room.
    pub(super) fn keep(&mut self, at: Stamp, announcement: Announcement, is_known: bool) -> bool {
        let server = ServerKey::of(&announcement.server);
        let which = (server, announcement.server.id.clone(), announcement.kind);
        if let Some(kept) = self.kept.get_mut(&which) {
            // The later one counts, so that the order of arrival does not.
            *kept = kept.clone().max((at, announcement));
            return true;
        }
        let first = (which.0.clone(), Name::default(), AnnouncementKind::Shutdown);
        let own = self.kept.range(first..).take_while(|((server, ..), _)| *server == which.0);
        let is_full = if is_known { own.count() >= RUNS_MAX } else { self.strangers >= STRANGERS_MAX };
        if is_full {
            return false;
        }
        self.strangers += usize::from(!is_known);
        self.kept.insert(which, (at, announcement));
        true
    }

    /// All of them, in the order of their times.
    pub(super) fn in_order(self) -> Vec<(Stamp, Announcement)> {
        let mut all: Vec<_> = self.kept.into_values().collect();
        all.sort();
        all
    }
}
