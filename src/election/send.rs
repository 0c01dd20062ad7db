//! What a watcher says, and when.

use std::time::Duration;

use super::message::WATCHERS_MAX;
use super::{Audience, Chunk, Election, MESSAGE_VERSION, PeerMessage, Role, TooLarge, UNMERGED_UNITS};
use crate::replicated_state::{ReplicatedState, StateVersion};
use crate::stamp::Stamp;

impl Election {
    /// What is to be said by then at the latest.
    pub(super) fn speak_by(&mut self, at: Stamp) {
        if self.next_message.is_none_or(|next| next.has_reached(at)) {
            self.next_message = Some(at);
        }
    }

    /// The message as it would be now.
    pub(super) fn message_now(&self, now: Stamp) -> PeerMessage {
        let active = self.role == Role::Active;
        let leader = || self.claims.leader(self.timing, self.interval, now);
        let lacks = |version: &Option<StateVersion>| {
            version.is_some() && version.as_ref() != self.replication.version()
        };
        let follows = matches!(self.role, Role::Standby | Role::Reserve);
        PeerMessage {
            audience: if matches!(self.role, Role::Active | Role::Candidate) || self.resigned {
                Audience::All
            } else {
                Audience::Electors
            },
            v: MESSAGE_VERSION,
            instance: self.me.instance.clone(),
            name: self.me.name.clone(),
            server: self.server.clone(),
            sent_ns: now.steady_ns(),
            started_ns: self.me.started_ns,
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            role: self.role,
            sees_servers: (self.sees_servers || self.role == Role::Reserve) && self.saves,
            term: if active { self.term_of_own() } else { self.term },
            version: self.replication.version().cloned(),
            unmerged: self.replication.unmerged().cloned(),
            lacks_state: follows && leader().is_some_and(|leader| lacks(&leader.message.version)),
            resigns: self.resigned,
            leaving: false,
            standbys: if active { self.standbys.clone() } else { Vec::new() },
            watchers: self.watchers().min(WATCHERS_MAX),
            asks: self.replication.asking().cloned(),
            chunk: None,
        }
    }

    /// The message that is due now, if one is; it counts as sent.
    pub fn due_message(&mut self, now: Stamp) -> Option<PeerMessage> {
        let due = *self.next_message.get_or_insert(now);
        if !now.has_reached(due) {
            return None;
        }
        let message = self.message_now(now);
        let after = match self.role {
            Role::Joining | Role::Standby | Role::Candidate | Role::Active => self.timing.pace(),
            Role::Reserve if message.lacks_state || message.unmerged.is_some() => {
                self.timing.unit * UNMERGED_UNITS
            }
            Role::Reserve => {
                let usual = self.timing.sign_of_life(self.watchers);
                usual * 3 / 4 + self.chance.part_of(usual / 2)
            }
        };
        self.resigned = false;
        self.next_message = Some(now.plus(after));
        Some(message)
    }

    /// When [`Self::tick`] may come to another end, or a message is due, though nothing is heard.
    pub fn next_tick(&self, now: Stamp) -> Stamp {
        let earlier = |one: Stamp, other: Stamp| if other.has_reached(one) { one } else { other };
        let soonest = now.plus(Duration::from_millis(5));
        let role = match self.role {
            Role::Joining => self.joined.map(|at| at.plus(self.timing.listening())),
            Role::Candidate => self.candidate_since.map(|at| at.plus(self.settle())),
            Role::Standby | Role::Reserve | Role::Active => None,
        };
        let retries = [now.plus(self.timing.unit / 8)];
        let retries = retries.into_iter().filter(|_| self.role == Role::Candidate);
        let times = [self.next_message, self.patience_until, role].into_iter().flatten();
        // What is past waits for something else.
        let next = times.filter(|at| !now.has_reached(*at)).chain(retries).reduce(earlier);
        let due = self.next_message.is_none_or(|at| now.has_reached(at));
        let next = if due { soonest } else { next.unwrap_or(now.plus(self.timing.pace())) };
        if soonest.has_reached(next) { soonest } else { next.plus(Duration::from_millis(1)) }
    }

    /// The messages with the state that are to be sent now, if it is owed to anybody. None has more bytes than
    /// `max_payload`. They count as sent.
    pub fn state_messages(
        &mut self,
        now: Stamp,
        max_payload: usize,
    ) -> Option<Result<Vec<PeerMessage>, TooLarge>> {
        let message = self.message_now(now);
        let overhead = overhead(&message);
        if self.role != Role::Active {
            let state = self.replication.take_wanted()?;
            return Some(Self::handover(&state, &message, overhead, max_payload));
        }
        let to_all = self.owed(now)?;
        if self.members.is_empty() && self.watchers <= 1 {
            // Whoever joins asks for it.
            self.replication.sent(true);
            return None;
        }
        let audience = if to_all { Audience::All } else { Audience::Electors };
        let chunks = self.replication.send(to_all, overhead, max_payload, now);
        Some(chunks.map(|chunks| with_chunks(&message, audience, chunks)))
    }

    fn handover(
        state: &ReplicatedState,
        message: &PeerMessage,
        overhead: usize,
        limit: usize,
    ) -> Result<Vec<PeerMessage>, TooLarge> {
        let Some(version) = &state.version else { return Ok(Vec::new()) };
        let chunks = super::chunk::split_state(state, version, overhead, limit)?;
        Ok(with_chunks(message, Audience::Electors, chunks))
    }

    fn owed(&self, now: Stamp) -> Option<bool> {
        self.replication.owes(self.timing, self.watchers(), now)
    }

    /// Whether a state is to be sent now.
    pub fn owes_state(&self, now: Stamp) -> bool {
        if self.role == Role::Active { self.owed(now).is_some() } else { self.replication.is_wanted() }
    }

    /// Whether the state has changed since it was sent to the standbys.
    pub fn has_changed(&self) -> bool {
        self.role == Role::Active && self.replication.has_changed()
    }

    /// The messages did not get away.
    pub fn send_again(&mut self) {
        self.replication.send_again();
    }

    /// The last message.
    pub fn farewell(&self, now: Stamp) -> PeerMessage {
        PeerMessage { leaving: true, asks: None, ..self.message_now(now) }
    }
}

/// How many bytes a message has besides the text of a part.
fn overhead(message: &PeerMessage) -> usize {
    // The server that the shell fills in is at most so long.
    let server = "x".repeat(crate::replicated_state::NAME_MAX);
    let version =
        message.version.clone().unwrap_or(StateVersion { term: 0, revision: 0, writer: server.clone() });
    let chunk = Chunk { version, index: usize::MAX, count: usize::MAX, text: String::new() };
    let largest = PeerMessage { chunk: Some(chunk), server, sent_ns: i64::MIN, ..message.clone() };
    serde_json::to_vec(&largest).map_or(usize::MAX, |bytes| bytes.len())
}

fn with_chunks(message: &PeerMessage, audience: Audience, chunks: Vec<Chunk>) -> Vec<PeerMessage> {
    let of = |chunk: Chunk| PeerMessage { audience, chunk: Some(chunk), ..message.clone() };
    chunks.into_iter().map(of).collect()
}
