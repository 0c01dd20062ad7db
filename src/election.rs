//! Several watchers of one system, any number: which of them is active, which stand by, and how the others know what it
//! has told.
//!
//! # The roles
//!
//! One watcher is *active*: it collects epochs, publishes, and tells all others twice in a unit of the lease that it is
//! there. It names two *standbys*, on other servers if it can: they collect epochs, too, say twice in a unit that they
//! are there, and take over when it is lost. All others are *reserves*: they hear the active one, ask no server, and
//! say that they are there rarely (the more there are, the more rarely). One that takes over is a *candidate* first;
//! one that has just begun is *joining*.
//!
//! | subject | who publishes there | who hears it |
//! |---|---|---|
//! | `<prefix>.watcher.all` | the active watcher, candidates | all |
//! | `<prefix>.watcher.<instance>` | that instance, when it is neither | the active watcher, standbys, candidates; itself |
//!
//! So n watchers cost n deliveries a beat, and everything else a few; each server is asked by three.
//!
//! # What travels
//!
//! The alerts, the events that wait, and what the active watcher remembers of the servers: who there is, when each was
//! last heard, who is silent. Standbys look themselves; a reserve keeps that until it begins to look. It goes as ages,
//! since clocks differ, counts as true for as long as the active watcher says that it holds the same state, and makes a
//! version of its own only where something else than its ages has changed, once in three intervals at most.
//!
//! # Why it holds
//!
//! **Invariants:** a watcher is active only while its own messages have lately come back to it, so one that was frozen
//! or cut off stops before another takes over; what it is about to publish is with the standbys (and, where that
//! costs little, with all) before it is published; of two that are active the one with the higher term goes on, as in
//! Raft, and merges what the other announced. There is no vote: with a majority needed, the few watchers on the small side
//! of a partition would be silent, and here speaking twice is better than not at all. JetStream has no part in it.
//!
//! A membership protocol (SWIM) was weighed: it tells who there is at a constant cost a member, and nothing of who
//! leads, so terms, leases and states would stay; and every member would send, where here reserves only listen.
//!
//! The times are in `election::timing`, with the bounds of takeovers. It is a pure state machine: time and chance are
//! values.

mod candidacy;
mod chunk;
mod claims;
mod hear;
mod members;
mod message;
mod replication;
mod send;
mod timing;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::replicated_state::{COUNT_MAX, ReplicatedState, StateVersion};
use crate::stamp::Stamp;
use crate::view::{Moments, SavedHistory};
pub use chunk::{Chunk, TooLarge};
use claims::Claims;
use members::Members;
pub use message::{Audience, MESSAGE_VERSION, PeerMessage, StateRequest};
use replication::Replication;
use timing::{Chance, ISOLATED_UNITS, Timing};

/// How many standbys an active watcher names.
pub const STANDBYS: usize = 2;
/// More candidates than this are not told apart.
const CANDIDATES_MAX: usize = 16;
/// After so many units without an active watcher, no other candidate is waited for.
const LEADERLESS_UNITS_MAX: u32 = 8;
/// How often a watcher that holds a state that nobody has merged says so, in units.
const UNMERGED_UNITS: u32 = 2;
/// What an active watcher remembers of the servers is told by itself once in so many intervals at most.
const HISTORY_INTERVALS: u32 = 3;

/// What a watcher is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It listens for others.
    Joining,
    /// Another one is active, and others stand by.
    Reserve,
    /// Another one is active, and has named this one to take over.
    Standby,
    /// It will be active in a moment, if nobody comes before it.
    Candidate,
    /// It watches and tells.
    Active,
}

/// What a message from another watcher asks of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// This state takes the place of ours.
    Adopt(ReplicatedState),
    /// Another one was active while we did not hear it; ours goes on, with what the other announced.
    Merge(ReplicatedState),
}

/// What is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The watcher of this name says that it is active and sends no heartbeats; it is not followed any more.
    WithoutHeartbeats(String),
    /// This watcher sees nothing, or cannot save its state, and lets a standby be active.
    Resigned,
}

/// Who we are to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Which run of which watcher.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// When it started, in nanoseconds since 1970.
    pub started_ns: i64,
    /// Where its chance begins: another number for each watcher.
    pub seed: u64,
}

impl Me {
    /// A watcher whose chance comes from its instance: the same in every replay.
    pub fn new(instance: String, name: String, started_ns: i64) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = instance.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        Self { instance, name, started_ns, seed }
    }
}

/// All watchers of one system, as one of them knows them.
#[derive(Clone, Debug)]
pub struct Election {
    me: Me,
    interval: Duration,
    timing: Timing,
    chance: Chance,
    role: Role,
    sees_servers: bool,
    /// Its disk takes the state.
    saves: bool,
    /// Since when it has seen the servers.
    seeing_since: Option<Stamp>,
    /// It may not hear the others, or not be heard: as far as it can know it is alone.
    denied: bool,
    /// The server that our messages go through.
    server: String,
    /// When this connection was first known to carry our messages.
    joined: Option<Stamp>,
    /// When the last of our messages was sent that came back.
    echoed: Option<Stamp>,
    /// When we are a candidate unless an active watcher is heard.
    patience_until: Option<Stamp>,
    candidate_since: Option<Stamp>,
    /// Since when nobody has been active.
    leaderless_since: Option<Stamp>,
    /// It has never been anything else than joining.
    fresh: bool,
    /// What this candidate was before.
    role_before: Role,
    /// When the next message is due that nothing else makes due.
    next_message: Option<Stamp>,
    /// Who was followed last.
    followed: Option<String>,
    /// How many watchers there are, by the best knowledge.
    watchers: u64,
    /// The highest term that was ever heard of.
    term: u64,
    claims: Claims,
    candidates: BTreeMap<String, (PeerMessage, Stamp)>,
    members: Members,
    standbys: Vec<String>,
    replication: Replication,
    /// What is to be merged, since this watcher is active.
    to_merge: Vec<ReplicatedState>,
    resigned: bool,
    ticked: Option<Stamp>,
    notices: Vec<Notice>,
    refused: u64,
}

impl Election {
    /// A watcher that knows of nobody yet, and goes on with what an earlier run left.
    pub fn new(me: Me, interval: Duration, restored: ReplicatedState, now: Stamp) -> Self {
        let replication = Replication::restored(restored, &me.instance);
        let term = replication.version().map_or(0, |version| version.term);
        Self {
            chance: Chance::new(me.seed),
            me,
            interval,
            timing: Timing::new(interval),
            role: Role::Joining,
            sees_servers: false,
            saves: true,
            seeing_since: None,
            denied: false,
            server: String::new(),
            joined: None,
            echoed: None,
            patience_until: None,
            candidate_since: None,
            leaderless_since: Some(now),
            fresh: true,
            role_before: Role::Joining,
            next_message: None,
            followed: None,
            watchers: 1,
            term,
            claims: Claims::default(),
            candidates: BTreeMap::new(),
            members: Members::default(),
            standbys: Vec::new(),
            replication,
            to_merge: Vec::new(),
            resigned: false,
            ticked: None,
            notices: Vec::new(),
            refused: 0,
        }
    }

    /// How often an active watcher says that it is there.
    pub fn pace(&self) -> Duration {
        self.timing.pace()
    }

    /// Whether the disk takes the state. One whose disk does not lets a standby be active whose disk does.
    pub fn set_saves(&mut self, saves: bool) {
        self.saves = saves;
    }

    /// The server refuses our messages, or to let us hear any. (Or it no longer does.)
    pub fn set_denied(&mut self, denied: bool) {
        self.denied = denied;
    }

    /// The server does not let us hear heartbeats: then an active watcher is believed without.
    pub fn set_heartbeats_denied(&mut self) {
        self.claims.hears_no_heartbeats();
    }

    /// The connection is another one: what was said meanwhile is not known.
    pub fn reconnected(&mut self, now: Stamp) {
        if matches!(self.role, Role::Standby | Role::Reserve) {
            (self.joined, self.echoed) = (None, None);
            self.be_patient(now);
        }
    }

    /// Whether our own messages do not come back though we see the servers and hear of no active watcher: whoever else
    /// there is, we cannot know, and speaking twice is better than not at all.
    pub fn is_isolated(&self, now: Stamp) -> bool {
        let limit = self.timing.unit * ISOLATED_UNITS;
        let waited = self.seeing_since.is_some_and(|since| now.since(since) > limit);
        let follows = matches!(self.role, Role::Standby | Role::Reserve);
        self.denied || (self.joined.is_none() && waited && !follows)
    }

    /// What we are to the others since the last [`Self::tick`].
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether what was decided may still be published.
    pub fn is_active(&self, now: Stamp) -> bool {
        self.role == Role::Active && (self.is_leased(now) || self.is_isolated(now))
    }

    /// Whether this watcher is to see the servers: whoever is active or may soon be, and one that has listened and
    /// heard of nobody.
    pub fn collects(&self, now: Stamp) -> bool {
        match self.role {
            Role::Standby | Role::Candidate | Role::Active => true,
            Role::Reserve => false,
            // A thousand that are started at once do not ask the servers all at once.
            Role::Joining => {
                let listened = |since: Stamp| now.since(since) >= self.timing.listening();
                !self.fresh || self.leaderless_since.is_some_and(listened)
            }
        }
    }

    /// Whether this watcher hears the subjects of all others, or only that for all and its own.
    pub fn hears_all(&self) -> bool {
        matches!(self.role, Role::Standby | Role::Candidate | Role::Active)
    }

    /// The name of the active watcher; our own when that is us, nothing when nobody is.
    pub fn active_name(&self, now: Stamp) -> Option<&str> {
        if self.role == Role::Active {
            return Some(&self.me.name);
        }
        self.claims.leader(self.timing, self.interval, now).map(|claim| claim.message.name.as_str())
    }

    /// About how many watchers there are, this one included: a reserve that is lost is missed after some time.
    pub fn watchers(&self) -> u64 {
        if self.hears_all() { self.members.len() as u64 + 1 } else { self.watchers }
    }

    /// How many messages were not believed or not understood.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What has happened that is worth a line.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What is to be merged by one that has just become active: what it announced itself before and nobody has
    /// merged.
    pub fn take_unmerged(&mut self) -> Vec<ReplicatedState> {
        std::mem::take(&mut self.to_merge)
    }

    /// Which state it holds.
    pub fn version(&self) -> Option<&StateVersion> {
        self.replication.version()
    }

    /// Takes the state as it is now; true when it has changed. Then it is to be saved and replicated, and only then is
    /// anything to be published.
    pub fn keep(&mut self, state: ReplicatedState, now: Stamp) -> bool {
        let rest = self.interval * HISTORY_INTERVALS;
        self.replication.keep(state, self.role == Role::Active, rest, now)
    }

    /// What the active watcher remembered of the servers, for this one, which begins to look; once.
    pub fn take_inherited(&mut self, now: Stamp) -> Option<(SavedHistory, Moments)> {
        self.replication.take_inherited(now)
    }

    /// What a restart is to go on with.
    pub fn to_be_saved(&self) -> &ReplicatedState {
        self.replication.to_be_saved()
    }

    fn rejoin(&mut self) {
        if self.role != Role::Joining {
            self.leaderless_since = None;
        }
        self.role = Role::Joining;
        (self.joined, self.echoed, self.candidate_since, self.patience_until) = (None, None, None, None);
        (self.seeing_since, self.followed) = (None, None);
        self.members.name_nobody();
        self.next_message = None;
    }

    fn is_leased(&self, now: Stamp) -> bool {
        self.echoed.is_some_and(|echoed| now.since(echoed) <= self.timing.lease())
    }

    /// Decides anew what we are. `sees_servers` says whether we see them, and our alerts find their way.
    pub fn tick(&mut self, sees_servers: bool, now: Stamp) -> Role {
        let stalled = self.ticked.is_some_and(|at| now.since(self.next_tick(at)) > self.timing.unit);
        self.ticked = Some(now);
        self.sees_servers = sees_servers;
        self.seeing_since = if sees_servers { self.seeing_since.or(Some(now)) } else { None };
        if stalled && self.role == Role::Reserve {
            // We heard nothing because we did not run.
            self.be_patient(now);
        }
        self.expire(now);
        if self.echoed.is_some()
            && !self.is_leased(now)
            && self.role != Role::Reserve
            && !self.is_isolated(now)
        {
            self.rejoin();
        }
        if self.role != Role::Active
            && let Some(name) = self.claims.judge(self.timing, self.interval, now)
        {
            self.notices.push(Notice::WithoutHeartbeats(name));
            self.take_turn(now);
        }
        match self.claims.leader(self.timing, self.interval, now).map(|claim| claim.message.clone()) {
            Some(leader) if self.role == Role::Active => {
                if leader.active_rank() > (self.term_of_own(), self.own_rank()) {
                    self.follow(&leader, now);
                } else {
                    self.lead(now);
                }
            }
            Some(leader) => self.follow(&leader, now),
            None if self.role == Role::Active => self.lead(now),
            None => self.contend(now),
        }
        self.fresh &= self.role == Role::Joining;
        self.role
    }

    fn term_of_own(&self) -> u64 {
        self.replication.version().map_or(0, |version| version.term)
    }

    fn own_rank(&self) -> std::cmp::Reverse<(i64, &str)> {
        std::cmp::Reverse((self.me.started_ns, &self.me.instance))
    }

    fn expire(&mut self, now: Stamp) {
        self.claims.expire(self.timing, now);
        let candidacy = self.timing.candidacy();
        self.candidates.retain(|_, (_, at)| now.since(*at) <= candidacy);
        if self.hears_all() {
            let watchers = self.watchers.max(self.members.len() as u64 + 1);
            self.members.expire(self.timing, watchers, now);
        }
        self.replication.expire(self.timing, now);
    }

    /// Our place among the standbys that the active watcher names.
    fn standby_index(&self) -> Option<usize> {
        self.standbys.iter().position(|name| *name == self.me.instance)
    }

    /// The active watcher was heard, or is to be given as much time as if it had been.
    fn be_patient(&mut self, now: Stamp) {
        let wait = match self.standby_index() {
            Some(standby) => self.timing.silence() + self.timing.turn_of(standby),
            None => self.timing.unit * 3 + self.chance.part_of(self.timing.spread(self.watchers)),
        };
        self.patience_until = Some(now.plus(wait));
    }

    fn follow(&mut self, leader: &PeerMessage, now: Stamp) {
        self.standbys.clone_from(&leader.standbys);
        let role = if self.standby_index().is_some() { Role::Standby } else { Role::Reserve };
        (self.candidate_since, self.leaderless_since) = (None, None);
        let is_new = self.followed.as_deref() != Some(leader.instance.as_str());
        if is_new {
            self.followed = Some(leader.instance.clone());
            self.be_patient(now);
        }
        let before = std::mem::replace(&mut self.role, role);
        if before == Role::Active {
            self.members.name_nobody();
            self.resigned = false;
        }
        match role {
            Role::Standby if before != Role::Standby => self.speak_by(now),
            Role::Reserve if before != Role::Reserve || is_new => {
                (self.joined, self.echoed) = (None, None);
                let soon = self.chance.part_of(self.timing.roll_call(self.watchers.max(leader.watchers)));
                self.next_message =
                    Some(now.plus(if before == Role::Active { Duration::ZERO } else { soon }));
            }
            Role::Joining | Role::Reserve | Role::Standby | Role::Candidate | Role::Active => {}
        }
    }

    /// From the first moment of being active on the state is our own, and a new version: it may have changed since we
    /// were active last.
    fn begin(&mut self, now: Stamp) {
        self.role = Role::Active;
        self.resigned = false;
        self.term = self.term.saturating_add(1).min(COUNT_MAX - 1);
        self.to_merge = self.replication.begin(self.term, &self.me.instance);
        (self.candidate_since, self.leaderless_since, self.followed) = (None, None, None);
        self.candidates.clear();
        self.patience_until = None;
        self.lead(now);
        self.next_message = Some(now);
    }

    fn lead(&mut self, now: Stamp) {
        if !(self.sees_servers && self.saves) && self.members.has_working_standby() {
            self.resign(now);
            return;
        }
        let standbys = self.members.standbys(self.timing, &self.server, now);
        if standbys != self.standbys {
            self.standbys = standbys;
            self.next_message = Some(now);
        }
        self.watchers = self.members.len() as u64 + 1;
    }

    /// A standby sees more, or its disk takes the state.
    fn resign(&mut self, now: Stamp) {
        self.notices.push(Notice::Resigned);
        self.resigned = true;
        self.role = Role::Joining;
        self.members.name_nobody();
        self.standbys.clear();
        // One that could still watch comes back soon where the standby has just been lost, too.
        let units = if self.sees_servers { 1 } else { 3 };
        self.patience_until = Some(now.plus(self.timing.unit * units));
        self.next_message = Some(now);
    }
}

#[cfg(test)]
mod tests;
