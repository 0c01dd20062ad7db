//! The state that goes from watcher to watcher: which version this one holds, what it lacks, and what others lack.
//!
//! A state is taken over where it includes what this watcher held; where it does not, what this watcher held is kept
//! beside it until the active watcher has asked for it and merged it, or until this one is active and does so itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::chunk::{Chunk, Reassembled, Reassembly, TooLarge, split_state};
use super::message::{PeerMessage, StateRequest};
use super::timing::Timing;
use crate::replicated_state::{COUNT_MAX, ReplicatedState, StateVersion};
use crate::stamp::Stamp;
use crate::view::{Moments, SavedHistory};

/// So many states of others are kept beside one's own until they are merged.
const UNMERGED_MAX: usize = 4;
/// So many versions that were asked for in vain are not asked for at once again.
const IN_VAIN_MAX: usize = 8;

/// A state that was asked for.
#[derive(Clone, Debug)]
struct Asking {
    request: StateRequest,
    since: Stamp,
}

/// What comes of a state that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Nothing now.
    Nothing,
    /// It takes the place of the one before.
    Adopt(ReplicatedState),
    /// It is to be merged.
    Merge(ReplicatedState),
}

/// What a watcher holds, and what is on its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Replication {
    state: ReplicatedState,
    /// What this active watcher remembers of the servers.
    history: Option<SavedHistory>,
    /// When others were last told that it has changed.
    history_told: Option<Stamp>,
    /// What the active watcher remembers, and when it came: for one that does not look itself.
    inherited: Option<(SavedHistory, Stamp)>,
    /// When the active watcher last said that its state is the one that is held here.
    confirmed: Option<Stamp>,
    unmerged: Vec<ReplicatedState>,
    /// It has changed since it was replicated to the standbys ...
    changed: bool,
    /// ... and to all.
    changed_for_all: bool,
    /// Somebody lacks it.
    asked: bool,
    /// When it went to all, and how many bytes it had.
    to_all: Option<(Stamp, usize)>,
    /// Another one wants this version of ours.
    wanted: Option<StateVersion>,
    asking: Option<Asking>,
    in_vain: VecDeque<StateVersion>,
    from_active: Reassembly,
    from_holder: Reassembly,
}

impl Replication {
    /// Goes on with what an earlier run left.
    pub(super) fn restored(mut state: ReplicatedState, instance: &str) -> Self {
        state.history = None;
        if !state.is_sound() {
            (state.version, state.merged_versions) = (None, Vec::new());
        }
        if state.version.is_none() && !state.is_empty() {
            state.version = Some(StateVersion { term: 0, revision: 1, writer: instance.to_owned() });
        }
        Self { state, ..Self::default() }
    }

    pub(super) fn version(&self) -> Option<&StateVersion> {
        self.state.version.as_ref()
    }

    pub(super) fn unmerged(&self) -> Option<&StateVersion> {
        self.unmerged.first().and_then(|state| state.version.as_ref())
    }

    pub(super) fn asking(&self) -> Option<&StateRequest> {
        self.asking.as_ref().map(|asking| &asking.request)
    }

    /// What a restart is to go on with: what nobody else may have, else the state.
    pub(super) fn to_be_saved(&self) -> &ReplicatedState {
        self.unmerged.first().unwrap_or(&self.state)
    }

    /// Takes the state as it is now. True when it is another one than before; where this watcher is active, that is a
    /// new version.
    ///
    /// What it remembers of the servers goes with the next version; where it has changed and nothing else has, it makes
    /// one by itself, but not sooner than `rest` after the last one.
    pub(super) fn keep(
        &mut self,
        mut state: ReplicatedState,
        active: bool,
        rest: Duration,
        now: Stamp,
    ) -> bool {
        let history = state.history.take();
        let same = self.state.holds_the_same(&state);
        let learned = active && self.keep_history(history, !same, rest, now);
        if same && !learned {
            return false;
        }
        let ReplicatedState { alerts, waiting, system, .. } = state;
        (self.state.alerts, self.state.waiting, self.state.system) = (alerts, waiting, system);
        if active {
            self.renew();
        }
        true
    }

    /// True when others are to be told of it.
    fn keep_history(
        &mut self,
        history: Option<SavedHistory>,
        is_sent: bool,
        rest: Duration,
        now: Stamp,
    ) -> bool {
        let Some(history) = history else { return false };
        let same = self.history.as_ref().is_some_and(|before| before.tells_the_same(&history));
        let rested = self.history_told.is_none_or(|told| now.since(told) >= rest);
        if !same && (is_sent || rested) {
            self.history_told = Some(now);
        } else if !same {
            return false;
        }
        // With its ages as they are now.
        self.history = Some(history);
        !same
    }

    /// The active watcher says that it holds this version.
    pub(super) fn confirm(&mut self, version: Option<&StateVersion>, now: Stamp) {
        if version.is_some() && version == self.version() {
            self.confirmed = Some(now);
        }
    }

    /// What the active watcher remembered, for one that begins to look now.
    pub(super) fn take_inherited(&mut self, now: Stamp) -> Option<(SavedHistory, Moments)> {
        let (history, received) = self.inherited.take()?;
        let confirmed = self.confirmed.filter(|at| at.has_reached(received)).unwrap_or(received);
        Some((history, Moments { received, confirmed, now }))
    }

    fn renew(&mut self) {
        if let Some(version) = &mut self.state.version {
            version.revision = version.revision.saturating_add(1).min(COUNT_MAX - 1);
        }
        (self.changed, self.changed_for_all) = (true, true);
    }

    /// This watcher is active from now on, in this term: the state is its own, and a new version. Gives what is to be
    /// merged into it.
    pub(super) fn begin(&mut self, term: u64, instance: &str) -> Vec<ReplicatedState> {
        let own = |version: &StateVersion| version.writer == instance && version.term == term;
        if !self.state.version.as_ref().is_some_and(own) {
            let version = StateVersion { term, revision: 0, writer: instance.to_owned() };
            if let Some(before) = self.state.version.replace(version) {
                self.state.remember(before);
            }
        }
        self.renew();
        (self.asking, self.asked) = (None, false);
        let unmerged = std::mem::take(&mut self.unmerged);
        let versions = unmerged.iter().flat_map(|state| state.merged_versions.iter().chain(&state.version));
        versions.cloned().collect::<Vec<_>>().into_iter().for_each(|version| self.learn(version));
        unmerged
    }

    fn learn(&mut self, version: StateVersion) {
        if !self.state.includes(&version) {
            self.state.remember(version);
        }
    }

    /// Takes a part of the active watcher's state; gives that state when it is whole and another one. False in the second
    /// place when it could not be read. One that looks itself does not inherit what the other remembers.
    pub(super) fn hear_active(
        &mut self,
        sender: &str,
        chunk: Chunk,
        inherits: bool,
        now: Stamp,
    ) -> (Option<ReplicatedState>, bool) {
        if self.state.version.as_ref() == Some(&chunk.version) {
            return (None, true);
        }
        match self.from_active.take(sender, chunk, now) {
            Reassembled::NotYet => (None, true),
            Reassembled::Refused => (None, false),
            Reassembled::Whole(mut state) => {
                let history = state.history.take();
                self.inherited = history.filter(|_| inherits).map(|history| (history, now));
                self.confirmed = Some(now);
                self.adopt(*state);
                (Some(self.state.clone()), true)
            }
        }
    }

    fn adopt(&mut self, state: ReplicatedState) {
        let before = std::mem::replace(&mut self.state, state);
        self.unmerged.push(before);
        let known = &self.state;
        self.unmerged.retain(|state| {
            let lost = state.version.as_ref().is_some_and(|version| !known.includes(version));
            lost && !state.is_empty()
        });
        // The first ones are the ones that this watcher has vouched for.
        self.unmerged.truncate(UNMERGED_MAX);
    }

    /// Takes a part of a state that was asked for; gives what comes of the state when it is whole. False in the second
    /// place when it could not be read.
    pub(super) fn hear_asked(
        &mut self,
        sender: &str,
        chunk: Chunk,
        active: bool,
        now: Stamp,
    ) -> (Joined, bool) {
        let asked = self.asking().is_some_and(|asks| asks.holder == sender && asks.version == chunk.version);
        if !asked {
            return (Joined::Nothing, true);
        }
        match self.from_holder.take(sender, chunk, now) {
            Reassembled::NotYet => (Joined::Nothing, true),
            Reassembled::Refused => {
                self.give_up_asking();
                (Joined::Nothing, false)
            }
            Reassembled::Whole(mut state) => {
                self.asking = None;
                state.history = None;
                (self.join(*state, active), true)
            }
        }
    }

    /// Takes another state in: an active watcher merges it; to a candidate it is what it goes on with, or what it merges
    /// once it is active.
    fn join(&mut self, other: ReplicatedState, active: bool) -> Joined {
        if active {
            let versions = other.merged_versions.iter().chain(&other.version).cloned();
            versions.for_each(|version| self.learn(version));
            self.renew();
            return Joined::Merge(other);
        }
        if self.state.version.as_ref().is_none_or(|version| other.includes(version)) {
            self.state = other.clone();
            return Joined::Adopt(other);
        }
        self.unmerged.push(other);
        Joined::Nothing
    }

    /// Asks whoever holds something that is not part of the state, one at a time.
    pub(super) fn ask_for_what_is_missing(&mut self, message: &PeerMessage, now: Stamp) {
        if self.asking.is_some() {
            return;
        }
        let held = message.unmerged.iter().chain(&message.version);
        let beside = |version: &StateVersion| self.unmerged.iter().any(|state| state.includes(version));
        let missing = held.filter(|version| {
            !self.state.includes(version) && !beside(version) && !self.in_vain.contains(version)
        });
        let has_room = self.unmerged.len() < UNMERGED_MAX;
        if let Some(version) = missing.max().filter(|_| has_room) {
            let request = StateRequest { holder: message.instance.clone(), version: version.clone() };
            self.asking = Some(Asking { request, since: now });
        }
    }

    /// Another one asks for a state that this watcher holds, or does not.
    pub(super) fn hear_request(&mut self, request: &StateRequest) {
        if self.version() == Some(&request.version) || self.unmerged() == Some(&request.version) {
            self.wanted = Some(request.version.clone());
        }
    }

    /// Gives up what nobody delivers.
    pub(super) fn expire(&mut self, timing: Timing, now: Stamp) {
        self.from_active.expire(now);
        self.from_holder.expire(now);
        if self.asking.as_ref().is_some_and(|asking| now.since(asking.since) > timing.unit) {
            self.give_up_asking();
        }
    }

    fn give_up_asking(&mut self) {
        if let Some(asking) = self.asking.take() {
            self.in_vain.push_back(asking.request.version);
            if self.in_vain.len() > IN_VAIN_MAX {
                self.in_vain.pop_front();
            }
        }
    }

    /// The round of asking is over: what was asked for in vain may be asked for again.
    pub(super) fn forget_what_was_in_vain(&mut self) {
        self.in_vain.clear();
    }

    /// Somebody lacks the state.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether the standbys lack the latest version.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// It did not get away.
    pub(super) fn send_again(&mut self) {
        (self.changed, self.changed_for_all) = (true, true);
    }

    /// Whether the state may go to all now.
    fn is_rested(&self, timing: Timing, watchers: u64, now: Stamp) -> bool {
        self.to_all.is_none_or(|(at, bytes)| {
            now.since(at) >= timing.state_rest(bytes, watchers).max(timing.pace() / 2)
        })
    }

    /// Whether an active watcher's state is to be sent now: to the standbys at once when it has changed, to all as soon
    /// as that costs not too much. True for all.
    pub(super) fn owes(&self, timing: Timing, watchers: u64, now: Stamp) -> Option<bool> {
        let rested = self.is_rested(timing, watchers, now);
        let light = self.to_all.is_none_or(|(at, bytes)| now.since(at) >= timing.state_rest(bytes, watchers));
        if self.changed {
            return Some(light);
        }
        ((self.changed_for_all || self.asked) && rested).then_some(true)
    }

    /// The version that another one wants, and its state.
    pub(super) fn take_wanted(&mut self) -> Option<ReplicatedState> {
        let version = self.wanted.take()?;
        let mut held = std::iter::once(&self.state).chain(&self.unmerged);
        held.find(|state| state.version.as_ref() == Some(&version)).cloned()
    }

    /// Whether another one wants a state.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// The parts of the state, which count as sent.
    pub(super) fn send(
        &mut self,
        to_all: bool,
        overhead: usize,
        limit: usize,
        now: Stamp,
    ) -> Result<Vec<Chunk>, TooLarge> {
        self.sent(to_all);
        let Some(version) = self.state.version.clone() else { return Ok(Vec::new()) };
        self.state.history = self.history.take();
        let chunks = split_state(&self.state, &version, overhead, limit);
        self.history = self.state.history.take();
        let chunks = chunks?;
        if to_all {
            self.to_all = Some((now, chunks.iter().map(|chunk| chunk.text.len()).sum()));
        }
        Ok(chunks)
    }

    /// The state counts as sent.
    pub(super) fn sent(&mut self, to_all: bool) {
        self.changed = false;
        if to_all {
            (self.changed_for_all, self.asked) = (false, false);
        }
    }
}
