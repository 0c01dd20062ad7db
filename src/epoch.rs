//! One collection epoch, without sockets and without clocks.
//!
//! An [`Epoch`] is opened from a [`Plan`], hears what arrives, says when it wants to be woken and why it ended,
//! and is consumed by [`Epoch::close`] into [`Gathered`]. A reply can never fail it: a bad one is data.
//! Who talks to the server is [`crate::shell`]; what the replies mean is [`crate::view`].

mod announced;
mod conflict;
mod gathered;
mod last_replies;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::stamp::Stamp;
use crate::wire::{self, Advisory, AdvisoryKind, JetStream, Reject, Reply, Server, Statsz};
use announced::Announced;
use last_replies::Read;
use servers::{Replies, RollCall, Servers};

pub use conflict::{Conflict, ConflictKind};
pub use gathered::{Counts, Gathered, Late, Respondent};
pub use last_replies::LastReplies;
pub use servers::ServerKey;

/// More replies than this end the epoch.
pub const REPLIES_MAX: usize = 65_536;
/// More payload bytes than this end the epoch.
pub const BYTES_MAX: usize = 64 << 20;
/// How many rejected and late ones are kept as examples; all are counted.
const EXAMPLES_MAX: usize = 256;
/// More clusters with gateways are not kept.
const GATEWAYS_MAX: usize = 256;
/// The least time without a reply that ends an epoch in which it is not known who else there is.
const QUIET_MIN: Duration = Duration::from_millis(300);
/// The same where every peer that a leader lists has answered: only servers outside that group can be missing.
const QUIET_MIN_LISTED: Duration = Duration::from_millis(100);
/// The least time that an epoch stays open for servers it does not count on.
const SETTLE_MIN: Duration = Duration::from_millis(3);
/// The most in a first epoch, in which everybody is new: who needs longer is awaited, once it has answered late.
const SETTLE_MAX: Duration = Duration::from_millis(50);

/// What is known before an epoch opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number of the epoch; replies carry it back, so that a late one is known as late.
    pub number: u64,
    /// Who should answer, each once and in the order of the keys.
    pub expected: Vec<(ServerKey, Expected)>,
    /// Nobody is known yet: the epoch learns from the replies who there is.
    pub learning: bool,
    /// Whether every server is also asked for its routes (`STATSZ`).
    pub ask_statsz: bool,
    /// The absolute deadline, counted from the opening.
    pub patience: Duration,
    /// How long to wait after the last reply for servers that are expected but not awaited.
    pub settle: Duration,
}

/// A server that should answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name, where known.
    pub name: Option<Name>,
    /// Whether the epoch stays open for it. One that missed the last epoch, or that announced its stop, is
    /// expected without being awaited: it may not cost every later epoch its whole deadline.
    pub awaited: bool,
}

/// What an open epoch can be told.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// A reply to the `JSZ` request of the epoch with this number.
    Jsz {
        /// The number that the reply's subject carries.
        epoch: u64,
        /// The reply.
        payload: &'a [u8],
    },
    /// A reply to a `STATSZ` request of the epoch with this number.
    Statsz {
        /// The number that the reply's subject carries.
        epoch: u64,
        /// The reply.
        payload: &'a [u8],
    },
    /// An event of a server that stops. It may have come before the epoch opened.
    Event {
        /// When it arrived.
        at: Stamp,
        /// Its subject.
        subject: &'a str,
        /// Its payload.
        payload: &'a [u8],
    },
    /// The server said 503: nobody listens to the request, so this is not the system account.
    NoResponders {
        /// The number that the reply's subject carries.
        epoch: u64,
    },
    /// Something arrived on our inbox that belongs to no request.
    Unexpected,
    /// So many more replies came to epochs that are over.
    Late {
        /// How many.
        replies: u64,
    },
    /// The client dropped messages because we were too slow; how many is not known exactly.
    Dropped,
    /// The connection was lost.
    Disconnected,
    /// The server refused the request, or the subscription to its replies: the user lacks the right.
    Denied,
}

/// Why an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every awaited server answered.
    AllHeard,
    /// No reply came for a while after the last one, and it was not known who else should answer.
    Quiet,
    /// The absolute deadline passed.
    Deadline,
    /// Too many replies or bytes.
    Full,
    /// Nobody listens to the request: the user is not in the system account.
    NoResponders,
    /// The user may not publish the request or may not subscribe to the replies.
    Denied,
    /// The connection was lost, or is not there.
    Disconnected,
}

/// An open epoch.
#[derive(Debug)]
pub struct Epoch {
    plan: Plan,
    opened: Stamp,
    last_reply: Stamp,
    servers: Servers,
    replies: Replies,
    roll_call: RollCall,
    statsz: BTreeMap<(ServerKey, Name), Statsz>,
    /// The runs that gave two different answers.
    contradicted: BTreeSet<(ServerKey, Name)>,
    /// The runs that gave an answer that cannot be read.
    unreadable: BTreeSet<(ServerKey, Name)>,
    gateways: BTreeSet<Name>,
    advisories: BTreeSet<(Stamp, Advisory)>,
    elections: BTreeSet<(Stamp, Advisory)>,
    announced: Announced,
    rejects: Vec<Reject>,
    late: Vec<Late>,
    counts: Counts,
    bytes: usize,
    active_servers: Option<usize>,
    refused: bool,
    disconnected: bool,
    denied: bool,
    last_replies: LastReplies,
    /// The last epoch expected the same servers.
    expects_the_same: bool,
    /// A server that says the same has another load.
    new_loads: bool,
}

impl Epoch {
    /// Opens the epoch at the moment its requests are sent.
    pub fn open(plan: Plan, now: Stamp) -> Self {
        Self::open_after(plan, now, LastReplies::default())
    }

    /// The same for one that follows others, and knows what was answered then: that costs it less, and changes
    /// nothing else.
    pub fn open_after(mut plan: Plan, now: Stamp, mut last_replies: LastReplies) -> Self {
        last_replies.begin(plan.number);
        let servers = Servers::expected(std::mem::take(&mut plan.expected));
        let expects_the_same = last_replies.expects(servers.keys()) && !plan.learning;
        Self {
            plan,
            opened: now,
            last_reply: now,
            servers,
            replies: Replies::default(),
            roll_call: RollCall::default(),
            statsz: BTreeMap::new(),
            contradicted: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            gateways: BTreeSet::new(),
            advisories: BTreeSet::new(),
            elections: BTreeSet::new(),
            announced: Announced::default(),
            rejects: Vec::new(),
            late: Vec::new(),
            counts: Counts::default(),
            bytes: 0,
            active_servers: None,
            refused: false,
            disconnected: false,
            denied: false,
            last_replies,
            expects_the_same,
            new_loads: false,
        }
    }

    /// Takes in one thing that arrived.
    pub fn hear(&mut self, now: Stamp, heard: Heard<'_>) {
        match heard {
            Heard::Jsz { epoch, payload } => self.hear_jsz(now, epoch, payload),
            Heard::Statsz { epoch, payload } => self.hear_statsz(now, epoch, payload),
            Heard::Event { at, subject, payload } => self.hear_event(at, subject, payload),
            Heard::NoResponders { epoch } => self.refused |= epoch == self.plan.number,
            Heard::Late { replies } => self.counts.late = self.counts.late.saturating_add(replies),
            Heard::Unexpected => self.counts.unexpected += 1,
            Heard::Dropped => self.counts.dropped += 1,
            Heard::Disconnected => self.disconnected = true,
            Heard::Denied => self.denied = true,
        }
    }

    /// Why the epoch is over, once it is.
    pub fn ended(&self, now: Stamp) -> Option<Ended> {
        if self.disconnected {
            return Some(Ended::Disconnected);
        }
        if self.denied && self.replies.is_empty() {
            return Some(Ended::Denied);
        }
        if self.refused && self.replies.is_empty() {
            return Some(Ended::NoResponders);
        }
        if self.replies.len().max(self.servers.heard()) >= REPLIES_MAX || self.bytes >= BYTES_MAX {
            return Some(Ended::Full);
        }
        let (at, ended) = self.ends();
        now.has_reached(at).then_some(ended)
    }

    /// When to ask [`Self::ended`] again, if nothing arrives before.
    pub fn wake_at(&self) -> Stamp {
        self.ends().0
    }

    /// Why an epoch ended whose recording does not say: by its deadline when somebody is missing.
    pub(crate) fn ended_of_a_recording(&self) -> Ended {
        if self.everybody_answered() { Ended::AllHeard } else { Ended::Deadline }
    }

    /// Ends the epoch.
    pub fn close(self, now: Stamp, ended: Ended) -> Gathered {
        self.close_with_replies(now, ended).0
    }

    /// Ends the epoch. Gives its replies for the next one, too.
    pub fn close_with_replies(mut self, now: Stamp, ended: Ended) -> (Gathered, LastReplies) {
        // Who sent something unreadable is one of them, too.
        for server in self.rejects.iter().filter_map(|reject| reject.server.as_deref()) {
            self.servers.name(ServerKey::of(server), &server.name);
        }
        let heard = self.servers.heard();
        let several = self.replies.are_of_several_runs();
        let (respondents, replies) = self.servers.close(self.replies);
        let contradicted = self.contradicted.iter().chain(&self.unreadable);
        let contradicted =
            contradicted.filter_map(|(key, id)| Some((id, servers::of_run(&replies, key, id)?)));
        // Where each server answered in one run, none contradicts another.
        let runs = if several { replies.as_slice() } else { &[] };
        let mut conflicts = conflict::conflicts(runs, contradicted);
        self.counts.conflicting = conflicts.len() as u64;
        conflicts.truncate(EXAMPLES_MAX);
        self.advisories.append(&mut self.elections);
        let gathered = Gathered {
            number: self.plan.number,
            opened: self.opened,
            closed: now,
            ended,
            asked_statsz: self.plan.ask_statsz,
            statsz: self.statsz.into_values().collect(),
            conflicts,
            gateways: self.gateways,
            advisories: self.advisories.into_iter().collect(),
            announcements: self.announced.in_order(),
            respondents,
            heard,
            new_loads: self.new_loads,
            rejects: self.rejects,
            late: self.late,
            counts: self.counts,
            replies,
        };
        (gathered, self.last_replies)
    }

    /// When the epoch ends if nothing more arrives, and why.
    fn ends(&self) -> (Stamp, Ended) {
        let deadline = (self.opened.plus(self.plan.patience), Ended::Deadline);
        if self.servers.heard() == 0 {
            return deadline;
        }
        let slowest = self.last_reply.since(self.opened);
        let settle = self.plan.settle.max(slowest * 2).max(SETTLE_MIN);
        let settled = self.last_reply.plus(if self.plan.learning { settle.min(SETTLE_MAX) } else { settle });
        let end = if self.plan.learning {
            let listed_heard = self.servers.listed_are_heard();
            match self.active_servers {
                // Everybody says that this is everybody.
                Some(count)
                    if self.servers.heard() == count && listed_heard && self.roll_call.is_complete() =>
                {
                    (self.last_reply, Ended::AllHeard)
                }
                Some(floor) if self.servers.heard() >= floor && listed_heard => (settled, Ended::AllHeard),
                _ => {
                    let listed = listed_heard && self.servers.somebody_is_listed();
                    let quiet = if listed { QUIET_MIN_LISTED } else { QUIET_MIN };
                    (self.last_reply.plus(quiet.max(slowest * 20)), Ended::Quiet)
                }
            }
        } else if self.servers.somebody_is_awaited() {
            deadline
        } else if self.everybody_said_everything() {
            (self.last_reply, Ended::AllHeard)
        } else {
            (settled, Ended::AllHeard)
        };
        end.min(deadline)
    }

    fn everybody_answered(&self) -> bool {
        self.servers.heard() > 0 && self.servers.all_are_heard()
    }

    fn everybody_said_everything(&self) -> bool {
        self.everybody_answered() && (!self.plan.ask_statsz || self.statsz.len() >= self.replies.len())
    }

    fn hear_jsz(&mut self, now: Stamp, epoch: u64, payload: &[u8]) {
        self.bytes = self.bytes.saturating_add(payload.len());
        if epoch != self.plan.number {
            return self.hear_late(now, epoch, wire::decode_jsz(payload).map(|reply| reply.server));
        }
        let read = match self.last_replies.read(epoch, payload) {
            Ok(read) => read,
            Err(reject) => {
                if let Some(server) = &reject.server {
                    let key = ServerKey::of(server);
                    self.sign_of_life(now, key.clone());
                    if self.unreadable.len() < REPLIES_MAX {
                        self.unreadable.insert((key, server.id.clone()));
                    }
                }
                return self.reject(reject);
            }
        };
        self.take(now, read);
    }

    fn take(&mut self, now: Stamp, read: Read) {
        let known = read.known();
        let Read { reply, unchanged, new_load, hint, .. } = read;
        self.new_loads |= new_load;
        // Who lists the same as before, all of them expected, teaches nothing new.
        if !(unchanged && self.expects_the_same && self.last_replies.lists_expected(known)) {
            let lists_expected = self.learn_members(&reply);
            self.last_replies.set_lists_expected(known, lists_expected);
        }
        self.last_reply = self.last_reply.max(now);
        let key = ServerKey::of(&reply.server);
        let place = self.servers.place(&key, hint);
        if let Some(place) = place.filter(|place| *place != hint) {
            self.last_replies.found(known, place);
        }
        let answered = self.servers.hear(key, place, now.since(self.opened));
        answered.unchanged = unchanged;
        if let Some((reply, other)) = self.replies.take(answered, reply) {
            self.counts.duplicate += 1;
            if !conflict::agree(&reply, &*other) {
                self.contradicted.insert((ServerKey::of(&reply.server), reply.server.id.clone()));
            }
            // The greater one counts (the later, where they differ), so that the order of arrival does not.
            if reply > *other {
                *other = reply;
            }
        }
    }

    fn hear_statsz(&mut self, now: Stamp, epoch: u64, payload: &[u8]) {
        self.bytes = self.bytes.saturating_add(payload.len());
        let decoded = wire::decode_statsz(payload);
        if epoch != self.plan.number {
            self.counts.late += 1;
            return;
        }
        let statsz = match decoded {
            Ok(statsz) => statsz,
            Err(reject) => return self.reject(reject),
        };
        self.last_reply = self.last_reply.max(now);
        let floor = usize::try_from(statsz.active_servers).unwrap_or(0);
        self.active_servers = self.active_servers.max(Some(floor));
        self.gateways.extend(statsz.gateways.iter().cloned());
        // Which are kept does not depend on the order of arrival.
        while self.gateways.len() > GATEWAYS_MAX {
            self.gateways.pop_last();
        }
        if !self.plan.ask_statsz {
            return;
        }
        let key = (ServerKey::of(&statsz.server), statsz.server.id.clone());
        let kept = self.statsz.entry(key).or_insert_with(|| statsz.clone());
        if statsz > *kept {
            *kept = statsz;
        }
    }

    fn hear_event(&mut self, at: Stamp, subject: &str, payload: &[u8]) {
        match wire::decode_event(subject, payload) {
            None => self.hear_advisory(at, subject, payload),
            Some(Err(reject)) => self.reject(reject),
            Some(Ok(announcement)) => {
                let server = ServerKey::of(&announcement.server);
                let expected = self.servers.stops(&server);
                if !self.announced.keep(at, announcement, expected) {
                    self.counts.announcements_dropped += 1;
                }
            }
        }
    }

    fn hear_advisory(&mut self, at: Stamp, subject: &str, payload: &[u8]) {
        match wire::decode_advisory(subject, payload) {
            None => self.counts.unexpected += 1,
            Some(Err(reject)) => self.reject(reject),
            Some(Ok(advisory)) => {
                let elected = advisory.kind == AdvisoryKind::Elected;
                let kept = if elected { &mut self.elections } else { &mut self.advisories };
                kept.insert((at, advisory));
                // The latest goes, whatever the order of arrival.
                let dropped = kept.len() > EXAMPLES_MAX && kept.pop_last().is_some();
                self.counts.announcements_dropped += u64::from(dropped);
            }
        }
    }

    fn hear_late(&mut self, now: Stamp, epoch: u64, server: Result<Server, Reject>) {
        self.counts.late += 1;
        if let Ok(server) = server
            && self.late.len() < EXAMPLES_MAX
        {
            self.late.push(Late { server, epoch, heard: now });
        }
    }

    fn reject(&mut self, reject: Reject) {
        self.counts.rejected += 1;
        if self.rejects.len() < EXAMPLES_MAX {
            self.rejects.push(reject);
        }
    }

    fn sign_of_life(&mut self, now: Stamp, key: ServerKey) {
        self.last_reply = self.last_reply.max(now);
        let place = self.servers.place(&key, usize::MAX);
        self.servers.hear(key, place, now.since(self.opened));
    }

    /// A leader names the members, so an epoch that knows nobody yet waits for them too. Whether all that it lists are
    /// expected.
    fn learn_members(&mut self, reply: &Reply) -> bool {
        let JetStream::Member(meta) = &reply.jetstream else { return true };
        if self.plan.learning {
            self.roll_call.hear(reply, meta, &self.servers);
        }
        if meta.leader.as_ref() != Some(&reply.server.name) {
            return true;
        }
        let mut expected = true;
        // No server can have a damaged id: nobody can answer under it.
        for row in meta.rows.iter().filter(|row| row.peer.is_sound()) {
            let key = ServerKey { domain: reply.server.domain.clone(), peer: row.peer };
            expected &= self.servers.list(key, row.name.as_ref());
        }
        expected
    }
}

#[cfg(test)]
mod tests;
