//! What watchers say to each other, and what of it can be.

use serde::{Deserialize, Serialize};

use super::chunk::Chunk;
use super::timing::{LEASE_UNIT_MAX, LEASE_UNIT_MIN};
use super::{Role, STANDBYS};
use crate::replicated_state::{COUNT_MAX, NAME_MAX, StateVersion};

/// The version of the messages. Those of another are not understood, and so not counted on.
pub const MESSAGE_VERSION: u32 = 3;
/// More watchers than this are not believed to be.
pub(super) const WATCHERS_MAX: u64 = 1 << 20;

/// Who is to hear a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Every watcher: on the subject that all of them hear.
    All,
    /// The active watcher, its standbys and candidates, which hear the subjects of all others.
    #[default]
    Electors,
}

/// What one watcher says to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// Who is to hear it.
    #[serde(skip)]
    pub audience: Audience,
    /// The version of this document.
    pub v: u32,
    /// Which run of which watcher.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// The server that it is connected to; empty when not known.
    #[serde(default)]
    pub server: String,
    /// When this was sent, in nanoseconds on the sender's own steady clock: by this it knows its echo.
    pub sent_ns: i64,
    /// When it started, in nanoseconds since 1970.
    pub started_ns: i64,
    /// Its `--interval`, in milliseconds.
    pub interval_ms: u64,
    /// What it is.
    pub role: Role,
    /// Whether it sees the servers, its alerts find their way and its disk takes the state. A reserve, which does not
    /// look, sees them.
    pub sees_servers: bool,
    /// The term of an active watcher; else the highest that was heard of.
    pub term: u64,
    /// Which state it holds; absent when it holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<StateVersion>,
    /// Which state it holds besides, that is not part of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmerged: Option<StateVersion>,
    /// It lacks the state of the active watcher.
    #[serde(default)]
    pub lacks_state: bool,
    /// It lets another one be active.
    #[serde(default)]
    pub resigns: bool,
    /// This is its last message.
    #[serde(default)]
    pub leaving: bool,
    /// The instances that an active watcher names as its standbys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<String>,
    /// How many watchers an active one counts, itself included.
    #[serde(default)]
    pub watchers: u64,
    /// Whose state it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<StateRequest>,
    /// A part of a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Chunk>,
}

/// One watcher is asked for a state that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRequest {
    /// The instance that is asked.
    pub holder: String,
    /// Which state.
    pub version: StateVersion,
}

fn is_named(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
}

impl PeerMessage {
    /// Whether there can be such a message.
    pub(super) fn is_sound(&self) -> bool {
        let chunk = self.chunk.iter().map(|chunk| &chunk.version);
        let asked = self.asks.iter().map(|asks| &asks.version);
        let mut versions = self.version.iter().chain(&self.unmerged).chain(asked).chain(chunk);
        self.v == MESSAGE_VERSION
            && is_named(&self.instance)
            && self.name.len() <= NAME_MAX
            && self.server.len() <= NAME_MAX
            && self.started_ns >= 0
            && self.term < COUNT_MAX
            && self.watchers <= WATCHERS_MAX
            && self.standbys.len() <= STANDBYS
            && self.standbys.iter().all(|name| is_named(name))
            && self.asks.as_ref().is_none_or(|asks| is_named(&asks.holder))
            && versions.all(StateVersion::is_sound)
    }

    /// The unit of its times, in milliseconds, as far as it can be.
    pub(super) fn lease_unit_ms(&self) -> u64 {
        let millis = |limit: std::time::Duration| limit.as_millis() as u64;
        self.interval_ms.clamp(millis(LEASE_UNIT_MIN), millis(LEASE_UNIT_MAX))
    }

    /// Which of two active watchers goes on: the greater one. Terms decide, as in Raft; of one term, who has run
    /// longest.
    pub(super) fn active_rank(&self) -> (u64, std::cmp::Reverse<(i64, &str)>) {
        (self.term, std::cmp::Reverse((self.started_ns, &self.instance)))
    }

    /// Which of several candidates becomes active: the greatest one. Those that see the servers come first, then those
    /// that know most of what was told, then those that have run longest.
    pub(super) fn candidate_rank(&self) -> CandidateRank<'_> {
        let known = self.version.as_ref().map_or((0, 0), |version| (version.term, version.revision));
        (self.sees_servers, known, std::cmp::Reverse((self.started_ns, &self.instance)))
    }
}

pub(super) type CandidateRank<'a> = (bool, (u64, u64), std::cmp::Reverse<(i64, &'a str)>);
