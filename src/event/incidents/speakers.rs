//! Who speaks for which system, and when the next heartbeat is overdue, all by the receiver's own clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::alert::State;

/// More watchers of one system than this are not followed.
const SPEAKERS_MAX: usize = 32;
/// Heartbeats are overdue after three times their spacing, within these bounds, but not before four times the
/// spacing that they promise: another watcher may need three to take over.
const QUIET_MIN: Duration = Duration::from_secs(10);
const QUIET_MAX: Duration = Duration::from_secs(60);
/// How many spacings are looked at; the longest counts, because something suspicious makes watchers faster.
const SPACINGS: usize = 8;
/// No watcher promises less than one heartbeat in this time.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// A takeover has another watcher speak once where one had just spoken. What happens so often, without a
/// silence in between, is none: both speak all the time.
const TURNS: u32 = 3;

/// One system that is heard.
#[derive(Clone, Debug)]
pub(super) struct System {
    /// When it was heard first, or again after a silence.
    pub(super) began: Duration,
    pub(super) last: Duration,
    /// That it has gone quiet has been told.
    pub(super) quiet: bool,
    /// That it is heard beside another system has been told.
    pub(super) told: bool,
    spacings: VecDeque<Duration>,
    /// The spacing that the last heartbeat promises.
    promised: Duration,
    speakers: BTreeMap<String, Speaker>,
}

/// One watcher that speaks for it.
#[derive(Clone, Debug)]
struct Speaker {
    name: String,
    last: Duration,
    /// What its last heartbeat told, and no event: told only if its next one says so, too.
    awaited: BTreeSet<(String, State)>,
    /// How often another one spoke between two of its heartbeats.
    turns: BTreeMap<String, u32>,
    /// Who speaks besides it without knowing of it.
    rivals: BTreeSet<String>,
}

impl System {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            began: now,
            last: now,
            quiet: false,
            told: false,
            spacings: VecDeque::new(),
            promised: Duration::ZERO,
            speakers: BTreeMap::new(),
        }
    }

    /// How long no heartbeat may come.
    pub(super) fn patience(&self) -> Duration {
        let spacing = self.spacings.iter().max().copied().unwrap_or_default();
        let promised = self.promised.min(INTERVAL_MAX).saturating_mul(4);
        spacing.saturating_mul(3).clamp(QUIET_MIN, QUIET_MAX).max(promised)
    }

    /// When the next heartbeat is overdue.
    pub(super) fn quiet_at(&self) -> Duration {
        self.last.saturating_add(self.patience())
    }

    /// A heartbeat came; whether it ends a quiet that was told.
    pub(super) fn beat(&mut self, now: Duration, promised: Duration) -> bool {
        if now > self.quiet_at() {
            self.began = now;
        }
        self.promised = promised;
        let spacing = now.saturating_sub(std::mem::replace(&mut self.last, now));
        let back = std::mem::take(&mut self.quiet);
        // A quiet is no spacing.
        if !back && !self.speakers.is_empty() {
            if self.spacings.len() >= SPACINGS {
                self.spacings.pop_front();
            }
            self.spacings.push_back(spacing);
        }
        back
    }

    /// This watcher speaks. Gives the name of another one that speaks, too, and neither knows of the other;
    /// once.
    pub(super) fn speak(&mut self, instance: &str, name: &str, now: Duration) -> Option<String> {
        let patience = self.patience();
        let before = self.speakers.get(instance).map(|speaker| speaker.last);
        let since = before.filter(|before| now.saturating_sub(*before) <= patience);
        let between: Vec<(String, String)> = self
            .speakers
            .iter()
            .filter(|(other, speaker)| *other != instance && since.is_some_and(|since| speaker.last > since))
            .map(|(other, speaker)| (other.clone(), speaker.name.clone()))
            .collect();
        if before.is_none() {
            self.make_room();
        }
        let speaker = self.speakers.entry(instance.to_owned()).or_insert_with(|| Speaker::new(name, now));
        speaker.last = now;
        if since.is_none() {
            speaker.turns.clear();
        }
        let mut rival = None;
        for (other, name) in between {
            let turns = speaker.turns.entry(other.clone()).or_default();
            *turns = turns.saturating_add(1);
            if *turns >= TURNS && speaker.rivals.insert(other.clone()) {
                rival = Some((other, name));
            }
        }
        let (other, name) = rival?;
        let new = self.speakers.get_mut(&other).is_some_and(|other| other.rivals.insert(instance.to_owned()));
        new.then_some(name)
    }

    /// Forgets the watcher that has been silent for longest, where there are too many.
    fn make_room(&mut self) {
        if self.speakers.len() >= SPEAKERS_MAX {
            let oldest = self.speakers.iter().min_by_key(|(_, speaker)| speaker.last);
            if let Some(oldest) = oldest.map(|(instance, _)| instance.clone()) {
                self.speakers.remove(&oldest);
            }
        }
    }

    pub(super) fn is_spoken_for_by(&self, instance: &str) -> bool {
        self.speakers.contains_key(instance)
    }

    /// Forgets a watcher that speaks for another system now; whether any is left.
    pub(super) fn forget(&mut self, instance: &str) -> bool {
        self.speakers.remove(instance);
        !self.speakers.is_empty()
    }

    /// Whether `instance` may say that something is over that `other` told of last, at the time `told`: only
    /// when that one has been silent since, and never spoke beside it.
    pub(super) fn follows(&self, instance: &str, other: &str, told: Duration, now: Duration) -> bool {
        let heard = self.speakers.get(other).map_or(told, |other| other.last.max(told));
        let rivals = self.speakers.get(instance).is_some_and(|speaker| speaker.rivals.contains(other));
        !rivals && now.saturating_sub(heard) > self.patience()
    }

    /// Keeps of what this heartbeat tells what the one before it of the same watcher told, too.
    pub(super) fn confirm(
        &mut self,
        instance: &str,
        told: BTreeSet<(String, State)>,
    ) -> BTreeSet<(String, State)> {
        let Some(speaker) = self.speakers.get_mut(instance) else { return BTreeSet::new() };
        let before = std::mem::replace(&mut speaker.awaited, told);
        before.intersection(&speaker.awaited).cloned().collect()
    }
}

impl Speaker {
    fn new(name: &str, now: Duration) -> Self {
        Self {
            name: name.to_owned(),
            last: now,
            awaited: BTreeSet::new(),
            turns: BTreeMap::new(),
            rivals: BTreeSet::new(),
        }
    }
}
