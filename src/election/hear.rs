//! What a watcher hears, and what that changes.

use std::time::Duration;

use super::replication::Joined;
use super::timing::ANSWER_WINDOW;
use super::{CANDIDATES_MAX, Chunk, Election, Heard, PeerMessage, Role};
use crate::replicated_state::StateVersion;
use crate::stamp::Stamp;

impl Election {
    /// Takes a heartbeat of this instance.
    pub fn hear_heartbeat(&mut self, instance: &str, now: Stamp) {
        self.claims.hear_heartbeat(instance, instance == self.me.instance, now);
    }

    /// Takes a message; our own tell that we are heard.
    pub fn hear(&mut self, mut message: PeerMessage, now: Stamp) -> Heard {
        if !message.is_sound() {
            self.refused += 1;
            return Heard::Nothing;
        }
        if message.instance == self.me.instance {
            self.echo(&message, now);
            return Heard::Nothing;
        }
        self.term = self.term.max(message.term);
        let chunk = message.chunk.take();
        if self.hears_all() && !self.members.hear(&message, now) {
            self.refused += 1;
        }
        if message.leaving || message.resigns {
            self.hear_resignation(&message, now);
            return Heard::Nothing;
        }
        match message.role {
            Role::Active => self.hear_active(&message, now),
            Role::Candidate => self.hear_candidate(&message, now),
            Role::Joining | Role::Reserve | Role::Standby => {
                self.claims.withdraw(&message.instance);
                self.candidates.remove(&message.instance);
            }
        }
        match self.role {
            Role::Active if message.role == Role::Active => {}
            Role::Active | Role::Candidate => {
                if message.lacks_state || message.role == Role::Joining {
                    self.replication.ask();
                }
                let before = self.replication.asking().cloned();
                self.replication.ask_for_what_is_missing(&message, now);
                if self.replication.asking() != before.as_ref() {
                    self.next_message = Some(now);
                }
            }
            Role::Joining | Role::Reserve | Role::Standby => {}
        }
        if let Some(asks) = message.asks.as_ref().filter(|asks| asks.holder == self.me.instance) {
            self.replication.hear_request(asks);
        }
        chunk.map_or(Heard::Nothing, |chunk| self.hear_chunk(&message, chunk, now))
    }

    fn hear_chunk(&mut self, message: &PeerMessage, chunk: Chunk, now: Stamp) -> Heard {
        let sender = message.instance.as_str();
        if matches!(self.role, Role::Active | Role::Candidate) {
            let (joined, readable) =
                self.replication.hear_asked(sender, chunk, self.role == Role::Active, now);
            self.refused += u64::from(!readable);
            return match joined {
                Joined::Adopt(state) => Heard::Adopt(state),
                Joined::Merge(state) => Heard::Merge(state),
                Joined::Nothing => Heard::Nothing,
            };
        }
        let leader = self.claims.leader(self.timing, self.interval, now);
        if leader.is_none_or(|leader| leader.message.instance != sender) {
            return Heard::Nothing;
        }
        let inherits = !self.collects(now);
        let (state, readable) = self.replication.hear_active(sender, chunk, inherits, now);
        self.refused += u64::from(!readable);
        if self.replication.unmerged().is_some() {
            let soon = self.chance.part_of(self.timing.pace());
            self.speak_by(now.plus(soon));
        }
        state.map_or(Heard::Nothing, Heard::Adopt)
    }

    fn hear_resignation(&mut self, message: &PeerMessage, now: Stamp) {
        self.candidates.remove(&message.instance);
        let followed = self.followed.as_deref() == Some(message.instance.as_str());
        self.claims.withdraw(&message.instance);
        if followed && matches!(self.role, Role::Standby | Role::Reserve) {
            self.take_turn(now);
        }
    }

    /// The active watcher is one no more, by its own word or by ours: standbys come forward at once, one after the other.
    pub(super) fn take_turn(&mut self, now: Stamp) {
        let wait = match self.standby_index() {
            Some(standby) => self.timing.turn_of(standby),
            None => self.timing.unit + self.chance.part_of(self.timing.spread(self.watchers)),
        };
        self.patience_until = Some(now.plus(wait));
    }

    fn hear_active(&mut self, message: &PeerMessage, now: Stamp) {
        self.candidates.remove(&message.instance);
        if !self.claims.hear(message, now) {
            self.refused += 1;
            return;
        }
        if self.role == Role::Active {
            return;
        }
        let leader = self.claims.leader(self.timing, self.interval, now);
        if leader.is_some_and(|leader| leader.message.instance == message.instance) {
            self.watchers = self.watchers.saturating_mul(3).checked_div(4).unwrap_or(1).max(message.watchers);
            self.standbys.clone_from(&message.standbys);
            self.be_patient(now);
            self.replication.confirm(message.version.as_ref(), now);
            // What it has just told comes in a moment.
            if message.version.is_some() && message.version.as_ref() != self.replication.version() {
                let spread = self.timing.roll_call(self.watchers).max(self.timing.unit);
                let soon = self.timing.pace() + self.chance.part_of(spread);
                self.speak_by(now.plus(soon));
            }
        }
    }

    /// A candidate is waited for; where it lacks what we hold, it is told.
    fn hear_candidate(&mut self, message: &PeerMessage, now: Stamp) {
        self.claims.withdraw(&message.instance);
        if !self.candidates.contains_key(&message.instance) && self.candidates.len() >= CANDIDATES_MAX {
            self.refused += 1;
            return;
        }
        let knows = |version: &StateVersion| {
            let asked = message.asks.as_ref().map(|asks| &asks.version);
            message.version.iter().chain(asked).any(|known| {
                known.includes(version) || (known.term, known.revision) >= (version.term, version.revision)
            })
        };
        let lacks = self.replication.version().is_some_and(|version| !knows(version));
        self.candidates.insert(message.instance.clone(), (message.clone(), now));
        if lacks && self.role != Role::Active {
            let among = if self.role == Role::Reserve { ANSWER_WINDOW } else { Duration::ZERO };
            let soon = self.chance.part_of(among);
            self.speak_by(now.plus(soon));
        }
    }

    /// One of our messages came back. After a gap, others may have taken over in between.
    fn echo(&mut self, message: &PeerMessage, now: Stamp) {
        if message.sent_ns > now.steady_ns() {
            self.refused += 1;
            return;
        }
        self.server.clone_from(&message.server);
        if self.role == Role::Reserve {
            return;
        }
        let sent = Stamp::new(message.sent_ns, now.wall_ns());
        if self.echoed.is_some_and(|before| sent.since(before) > self.timing.lease()) {
            self.rejoin();
        }
        if self.joined.is_none() {
            if matches!(self.role, Role::Joining | Role::Candidate) {
                // Messages come in order: what came before our first own one may have lain about for long.
                self.claims.clear();
                self.candidates.clear();
            }
            self.joined = Some(now);
        }
        if self.echoed.is_none_or(|before| sent.has_reached(before)) {
            self.echoed = Some(sent);
        }
    }
}
