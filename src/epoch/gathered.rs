//! What an epoch leaves behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Conflict, Ended, ServerKey};
use crate::name::Name;
use crate::stamp::Stamp;
use crate::wire::{Advisory, Announcement, Reject, Reply, Server, Statsz};

/// How much arrived that could not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Replies and events that could not be read.
    pub rejected: u64,
    /// Replies to earlier epochs.
    pub late: u64,
    /// Further replies of a run of a server that had answered, the same or others.
    pub duplicate: u64,
    /// Servers that gave answers that contradict each other: see [`Gathered::conflicts`].
    pub conflicting: u64,
    /// Messages that belong to no request.
    pub unexpected: u64,
    /// Times that the client dropped messages.
    pub dropped: u64,
    /// Announcements and advisories beyond those that are kept, most of them of servers that nobody expected.
    pub announcements_dropped: u64,
}

/// A server answered after its epoch had ended. It lives, and needs more time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Who answered.
    pub server: Server,
    /// The epoch it was meant for.
    pub epoch: u64,
    /// When its answer came.
    pub heard: Stamp,
}

/// All that one epoch brought together. It is created here and consumed by [`crate::view`].
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The number of the epoch.
    pub number: u64,
    /// When the requests were sent.
    pub opened: Stamp,
    /// When it ended: the reference time of everything that is concluded from it.
    pub closed: Stamp,
    /// Why it ended.
    pub ended: Ended,
    /// The replies, in an order that does not depend on how they arrived; one a run of a server.
    pub replies: Vec<Arc<Reply>>,
    /// Whether every server was asked for its routes.
    pub asked_statsz: bool,
    /// The answers to that, in order.
    pub statsz: Vec<Statsz>,
    /// The clusters that any server told of a gateway connection to, asked or not.
    pub gateways: BTreeSet<Name>,
    /// What servers told of themselves, and when; in the order of the times.
    pub advisories: Vec<(Stamp, Advisory)>,
    /// The answers that contradict each other, by server; the first of them where there are too many.
    pub conflicts: Vec<Conflict>,
    /// Who announced its stop, and when; in the order of the times. Those of expected servers are kept however many
    /// others there are.
    pub announcements: Vec<(Stamp, Announcement)>,
    /// Who should have answered, and who did: in the order of their keys.
    pub respondents: Vec<Respondent>,
    /// How many of them gave any sign of life.
    pub heard: usize,
    /// Of those that are unchanged, some have another load. Never told of an epoch that does not know the one before.
    pub new_loads: bool,
    /// The first of what could not be read.
    pub rejects: Vec<Reject>,
    /// The first of what came too late.
    pub late: Vec<Late>,
    /// How much could not be used.
    pub counts: Counts,
}

/// A server that should have answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respondent {
    /// Which one.
    pub key: ServerKey,
    /// Its name, where one is known.
    pub name: Option<Name>,
    /// How long it took to give a sign of life; `None` where it gave none in time.
    pub delay: Option<Duration>,
    /// How many answers it gave, readable or not.
    pub answers: u32,
    /// It gave one answer, the one that the same run of it gave in the epoch before, but for its sequence number, how
    /// long ago it heard whom, and its load. Never told of an epoch that does not know the one before.
    pub unchanged: bool,
}

impl Gathered {
    /// Whether a server that did not answer can be said to have missed the epoch.
    pub fn counts_absence(&self) -> bool {
        let ran_its_course = matches!(self.ended, Ended::AllHeard | Ended::Quiet | Ended::Deadline);
        ran_its_course && self.counts.dropped == 0
    }

    /// Whether this server gave any sign of life in time, readable or not.
    pub fn heard(&self, key: &ServerKey) -> bool {
        self.respondent(key).is_some_and(|respondent| respondent.delay.is_some())
    }

    /// How long each of those took that gave a sign of life.
    pub fn delays(&self) -> impl Iterator<Item = Duration> {
        self.respondents.iter().filter_map(|respondent| respondent.delay)
    }

    /// Who should have answered and did not.
    pub fn missing(&self) -> impl Iterator<Item = &Respondent> {
        self.respondents.iter().filter(|respondent| respondent.delay.is_none())
    }

    /// The replies of everybody who is not unchanged.
    pub fn changed(&self) -> Vec<&Reply> {
        let mut replies = self.replies.as_slice();
        let mut changed = Vec::new();
        // Both are in the order of the keys, and who is unchanged has one reply.
        for Respondent { key, unchanged, .. } in self.respondents.iter().filter(|heard| heard.answers > 0) {
            while let Some((reply, rest)) = replies.split_first() {
                if !unchanged && (reply.server.peer != key.peer || reply.server.domain != key.domain) {
                    break;
                }
                replies = rest;
                if *unchanged {
                    break;
                }
                changed.push(&**reply);
            }
        }
        changed
    }

    /// The reply of a server, where it gave one.
    pub fn reply(&self, key: &ServerKey) -> Option<&Reply> {
        let of = |reply: &Arc<Reply>| (reply.server.peer, &reply.server.domain).cmp(&(key.peer, &key.domain));
        let place = self.replies.binary_search_by(of);
        place.ok().map(|place| &*self.replies[place])
    }

    fn respondent(&self, key: &ServerKey) -> Option<&Respondent> {
        let place = self.respondents.binary_search_by(|respondent| respondent.key.cmp(key));
        place.ok().map(|place| &self.respondents[place])
    }
}
