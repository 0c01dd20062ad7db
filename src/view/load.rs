//! What a member has to carry, how fast that grows, and in which run of its server it does.

use std::collections::VecDeque;
use std::time::Duration;

use super::GroupView;
use super::history::GroupHistory;
use super::unchanged::is_calm;
use crate::epoch::{Gathered, ServerKey};
use crate::name::Name;
use crate::rules::{CHANGE_SHOWN, GROWTH_MAX, GROWTH_MIN, Rules};
use crate::stamp::Stamp;
use crate::wire::{Server, Usage};

/// What a member that answers says of itself beside its part in the group.
#[derive(Clone, Debug)]
pub struct Load {
    /// How much it stores and has to do.
    pub usage: Usage,
    /// The version of its server.
    pub version: Name,
    /// How fast its storage has grown lately; `None` where it has not, or where that is not known yet.
    pub growth: Option<Growth>,
    /// Whether its server was started anew.
    pub run: Run,
}

/// How much a storage has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// By so many bytes,
    pub bytes: u64,
    /// ... within so long.
    pub within: Duration,
}

impl Growth {
    /// How long it takes at this pace to grow by so much more.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * self.within.as_nanos() / u128::from(self.bytes.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// In which run of its server a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It is heard for the first time, so that nothing is known of an earlier run.
    First,
    /// The same as before, for as long as a restart is told.
    Same,
    /// It was started anew, in the same version.
    Restarted(Restart),
}

/// A restart of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When the new run was first heard.
    pub at: Stamp,
    /// How long nothing had been heard of the server then.
    pub away: Duration,
    /// How often it was restarted since it was last calm.
    pub times: u32,
}

/// More ids of earlier runs than this are not remembered.
const EARLIER_MAX: usize = 3;

/// The runs of one server, remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct RunHistory {
    version: Name,
    /// The ids of other runs, the last of them first: who answers as one of them again is another server of the same
    /// name, or an answer that came late.
    earlier: [Name; EARLIER_MAX],
    heard: bool,
    restart: Option<Restart>,
}

impl RunHistory {
    pub(super) fn of(server: &Server) -> Self {
        Self { version: server.version.clone(), ..Self::default() }
    }

    /// The same run answers once more.
    pub(super) fn hear_again(&mut self) {
        self.heard = true;
    }

    /// The server answers once more. `id` is the run that was heard last, at `last_heard`.
    pub(super) fn hear(&mut self, id: &Name, server: &Server, last_heard: Stamp, closed: Stamp) {
        self.heard = true;
        if *id == server.id {
            return;
        }
        // Two runs that answer one request run side by side, under one name.
        let is_new = !server.id.is_empty()
            && !id.is_empty()
            && last_heard != closed
            && !self.earlier.contains(&server.id);
        self.earlier.rotate_right(1);
        self.earlier[0] = id.clone();
        if is_new && self.version == server.version {
            let lately = self.restart.filter(|restart| closed.since(restart.at) <= CHANGE_SHOWN);
            self.restart = Some(Restart {
                at: closed,
                away: closed.since(last_heard),
                times: lately.map_or(1, |restart| restart.times.saturating_add(1)),
            });
        }
        // With a new version the restart was meant.
        self.version = server.version.clone();
    }

    pub(super) fn view(&self, now: Stamp) -> Run {
        match self.restart.filter(|restart| now.since(restart.at) <= CHANGE_SHOWN) {
            Some(restart) => Run::Restarted(restart),
            None if self.heard => Run::Same,
            None => Run::First,
        }
    }
}

/// Brings the loads of a group up to date of which only times and loads have changed. Whether any load has.
pub(super) fn renew(
    view: &mut GroupView,
    group: &mut GroupHistory,
    gathered: &Gathered,
    rules: &Rules,
) -> bool {
    let mut changed = false;
    for peer in &mut view.peers {
        let key = ServerKey { peer: peer.id, domain: view.domain.clone() };
        let usage = gathered.reply(&key).and_then(|reply| reply.jetstream.usage());
        let (Some(usage), Some(load)) = (usage, &mut peer.load) else { continue };
        if load.usage == *usage {
            continue;
        }
        changed = true;
        load.usage = *usage;
        let history = group.peers.get_mut(&peer.id);
        load.growth = history.and_then(|history| history.storage.take(usage, gathered.closed));
        if peer.leader {
            view.pending = usage.pending;
        }
    }
    if changed {
        group.changes.finish(view, view.pending, gathered, rules);
        group.settled = is_calm(view, group);
    }
    changed
}

/// How often the storage is noted.
const SAMPLE_EVERY: Duration = Duration::from_secs(30);

/// How much a member stored, remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct StorageHistory {
    samples: VecDeque<(Stamp, u64)>,
}

impl StorageHistory {
    /// Whether it follows nothing over time.
    pub(super) fn is_idle(&self) -> bool {
        self.samples.is_empty()
    }

    /// Notes how much is stored, and tells how much more that is than a while ago. Below half of what there is room for
    /// nobody asks.
    pub(super) fn take(&mut self, usage: &Usage, now: Stamp) -> Option<Growth> {
        let room = [usage.max_storage, usage.reserved_storage].into_iter().flatten().filter(|room| *room > 0);
        let (Some(stored), Some(room)) = (usage.storage, room.min()) else { return None };
        if stored < room / 2 {
            self.samples = VecDeque::new();
            return None;
        }
        // What was deleted is no pace to go by.
        if self.samples.back().is_some_and(|(_, last)| *last > stored) {
            self.samples.clear();
        }
        while self.samples.front().is_some_and(|(at, _)| now.since(*at) > GROWTH_MAX) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.since(*at) >= SAMPLE_EVERY) {
            self.samples.push_back((now, stored));
        }
        let (at, first) = *self.samples.front()?;
        let within = now.since(at);
        let bytes = stored.checked_sub(first).filter(|bytes| *bytes > 0)?;
        (within >= GROWTH_MIN).then_some(Growth { bytes, within })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp::new(seconds * 1_000_000_000, seconds * 1_000_000_000)
    }

    fn grown(history: &mut StorageHistory, seconds: i64, storage: u64) -> Option<(u64, u64)> {
        let usage = Usage { storage: Some(storage), max_storage: Some(1_000), ..Usage::default() };
        history.take(&usage, at(seconds)).map(|growth| (growth.bytes, growth.within.as_secs()))
    }

    #[test]
    fn growth_is_told_after_a_minute_by_the_last_ten_and_forgotten_when_something_is_deleted() {
        let mut history = StorageHistory::default();
        assert_eq!(grown(&mut history, 0, 499), None, "below half of the room nobody asks");
        assert_eq!(grown(&mut history, 10, 600), None);
        assert_eq!(grown(&mut history, 69, 650), None, "too soon");
        assert_eq!(grown(&mut history, 70, 660), Some((60, 60)));
        assert_eq!(grown(&mut history, 100, 640), None, "something was deleted");
        assert_eq!(grown(&mut history, 170, 640), None, "and nothing came");
        for seconds in 171..2_000 {
            grown(&mut history, seconds, 640 + seconds.unsigned_abs() / 10);
            assert!(history.samples.len() <= 22, "{}", history.samples.len());
        }
        assert_eq!(grown(&mut history, 2_000, 840), Some((60, 600)));
        let growth = Growth { bytes: 60, within: Duration::from_secs(600) };
        assert_eq!(growth.time_for(160), Duration::from_secs(1_600));
        assert_eq!(Growth { bytes: 1, ..growth }.time_for(u64::MAX), Duration::from_nanos(u64::MAX));
    }

    fn server(id: &str, version: &str) -> Server {
        let name = Name::new("s1");
        Server {
            sequence: 1,
            peer: crate::name::PeerId::of_server("s1"),
            name,
            id: Name::new(id),
            cluster: Name::new("c1"),
            domain: Name::default(),
            version: Name::new(version),
        }
    }

    /// What is told after these answers: the second, the run, and its version.
    #[track_caller]
    fn check(answers: &[(i64, &str, &str)], expected: Option<(u32, u64)>) {
        let (first, rest) = answers.split_first().expect("an answer");
        let mut runs = RunHistory::of(&server(first.1, first.2));
        let mut last = *first;
        for (seconds, id, version) in rest {
            runs.hear(&Name::new(last.1), &server(id, version), at(last.0), at(*seconds));
            last = (*seconds, id, version);
        }
        let restart = match runs.view(at(last.0)) {
            Run::Restarted(restart) => Some((restart.times, restart.away.as_secs())),
            Run::First | Run::Same => None,
        };
        assert_eq!(restart, expected, "{answers:?}");
    }

    #[test]
    fn another_run_is_a_restart_unless_it_is_a_new_version_or_runs_beside_the_first() {
        check(&[(0, "A", "2.14.6")], None);
        check(&[(0, "A", "2.14.6"), (1, "A", "2.14.6")], None);
        check(&[(0, "A", "2.14.6"), (1, "B", "2.14.6")], Some((1, 1)));
        check(&[(0, "A", "2.14.6"), (9, "B", "2.14.6"), (12, "C", "2.14.6")], Some((2, 3)));
        check(&[(0, "A", "2.14.6"), (9, "B", "2.15.1")], None);
        check(&[(0, "A", "2.14.6"), (9, "B", "2.15.1"), (19, "C", "2.15.1")], Some((1, 10)));
        // Two servers under one name answer each request both, in whatever order.
        check(&[(0, "A", "2.14.6"), (0, "B", "2.14.6"), (1, "B", "2.14.6"), (1, "A", "2.14.6")], None);
        check(&[(0, "A", "2.14.6"), (0, "B", "2.14.6"), (1, "A", "2.14.6"), (1, "B", "2.14.6")], None);
        // Nothing is known of a run without an id.
        check(&[(0, "A", "2.14.6"), (1, "", "2.14.6"), (2, "A", "2.14.6")], None);
        // One that lasted is told no more.
        check(&[(0, "A", "2.14.6"), (1, "B", "2.14.6"), (602, "B", "2.14.6")], None);
    }
}
