//! The merged view of what one epoch gathered: meta groups, their leader, their peers, and who said what of whom.
//!
//! [`merge`] joins the replies with what earlier epochs taught ([`History`]). It keeps every opinion apart, by
//! reporter, and judges nobody: verdicts are [`crate::check`]'s. **Invariant:** the view of a set of replies does
//! not depend on their order.

mod changes;
mod connections;
mod contact;
mod group;
mod grouping;
mod history;
mod leader;
mod load;
mod membership;
mod opinions;
mod peer;
mod reply_index;
mod streak;
mod types;
mod unchanged;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::epoch::Gathered;
use crate::name::{Name, join_some, printable};
use crate::rules::{Rules, SIZES_DIFFER_MIN};
use crate::stamp::{Stamp, human_duration};
use crate::wire::{Advisory, AdvisoryKind};
use unchanged::Unchanged;

pub use changes::{LeaderChange, Removed, Shrunk};
pub use contact::LedFor;
pub use history::{History, Moments, Remembered, SavedHistory, read_leniently};
pub use load::{Growth, Load, Restart, Run};
pub use streak::Streak;
pub(crate) use types::label;
pub use types::{
    Answer, Authority, ClusterView, Contact, EpochFacts, GroupView, Held, Opinion, Part, PeerView, Route,
    ServerView,
};

/// Joins what an epoch gathered with what is remembered.
pub fn merge(gathered: &Gathered, history: &mut History, rules: &Rules) -> ClusterView {
    merge_after(gathered, history, rules, None).0
}

/// The same where `last` is the view of the epoch before: what has not changed since is taken from it (`view/unchanged.rs`).
/// Tells, too, of which groups that is, in their order.
pub fn merge_after(
    gathered: &Gathered,
    history: &mut History,
    rules: &Rules,
    last: Option<ClusterView>,
) -> (ClusterView, Vec<bool>) {
    let mut inconsistent = Inconsistencies::default();
    gathered.conflicts.iter().for_each(|conflict| inconsistent.warn(conflict.to_string()));
    let last = last.filter(|last| history.last_closed(gathered) == Some(last.epoch.closed));
    let (last_groups, last_servers) = last.map(|last| (last.groups, last.servers)).unzip();
    let unchanged = Unchanged::new(gathered, history, rules, last_groups.is_some());
    history.begin(gathered, rules);
    let (kept, loads) = unchanged.renew(last_groups.unwrap_or_default(), gathered, history, rules);
    let (links, strays) = grouping::link(gathered, &unchanged, history, &mut inconsistent);
    history.mixed_domains = strays;
    let (groups, superseded) = group::merge_all(gathered, links, history, rules, &mut inconsistent, kept);
    history.end(gathered);
    let (groups, mut unchanged): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
    if !loads.is_empty() {
        let same = groups.iter().zip(&mut unchanged);
        same.for_each(|(group, unchanged)| *unchanged &= !loads.contains(&group.key));
    }
    groups.iter().for_each(|group| inconsistent.sizes_of(group));
    tell_strange_elections(gathered, &groups, &mut inconsistent);
    tell_flaws(gathered, &mut inconsistent);
    let Inconsistencies { all, warnings, .. } = inconsistent;
    let (epoch, servers) = (facts(gathered, history), servers(gathered, last_servers));
    // Anybody can say something in a name that nobody has.
    let of_a_peer = |advisory: &&Advisory| groups.iter().any(|group| group.peer(advisory.peer).is_some());
    let said =
        gathered.advisories.iter().map(|(_, advisory)| advisory).filter(of_a_peer).filter_map(in_words);
    // Whoever has not changed is not behind.
    let changed = groups.iter().zip(&unchanged).filter(|(_, unchanged)| !**unchanged);
    let behind =
        changed.flat_map(|(group, _)| &group.peers).filter_map(|peer| behind(peer, rules.limits.behind));
    let notes = said.chain(groups.iter().filter_map(rescued)).chain(behind).take(NAMED_MAX).collect();
    let answering_groups = groups.iter().filter(|group| group.answering > 0).count();
    let inconsistent = all;
    let view =
        ClusterView { epoch, groups, answering_groups, superseded, servers, inconsistent, warnings, notes };
    (view, unchanged)
}

/// What a server told of itself, for people: it may be what an operator has just done on purpose.
fn in_words(advisory: &Advisory) -> Option<String> {
    let name = printable(advisory.name.as_str());
    Some(match &advisory.kind {
        AdvisoryKind::OutOfStorage { stream } if stream.is_empty() => {
            format!("{name} says that its storage is full")
        }
        AdvisoryKind::OutOfStorage { stream } => {
            let stream = printable(stream.as_str());
            format!("{name} says that its storage is full: it could not store stream {stream}")
        }
        AdvisoryKind::Removed => format!("{name} says that it was removed from the meta group"),
        AdvisoryKind::MetaRescue => {
            format!("{name} says that an operator lowered the quorum of its meta group (rescue)")
        }
        // Who leads is told by the list of the leader.
        AdvisoryKind::Elected => return None,
    })
}

/// A word on a group whose quorum is not Raft's own.
fn rescued(group: &GroupView) -> Option<String> {
    let quorum = group.quorum.filter(|_| group.rescue)?;
    let (key, size) = (&group.key, group.size.unwrap_or_default());
    Some(format!(
        "an operator lowered the quorum of meta group {key}: {quorum} of {size} must agree (rescue)"
    ))
}

/// A word on a member that has not been current for minutes: it is not offline, and cannot take over either.
fn behind(peer: &PeerView, limit: Duration) -> Option<String> {
    let (streak, first, last) = peer.behind.filter(|(streak, ..)| streak.lasted() >= limit)?;
    let grows = if last > first { format!(", up from {first}") } else { String::new() };
    let lasted = human_duration(streak.lasted());
    Some(format!("{} has not been current for {lasted}, {last} operations behind{grows}", peer.label()))
}

/// Counts the elections that are told of leaders whom no group has. Anybody can tell of one.
fn tell_strange_elections(gathered: &Gathered, groups: &[GroupView], inconsistent: &mut Inconsistencies) {
    let strange = |(_, advisory): &&(Stamp, Advisory)| {
        let mut known =
            groups.iter().filter(|group| group.had_list && group.domain == advisory.domain).peekable();
        advisory.kind == AdvisoryKind::Elected
            && known.peek().is_some()
            && known.all(|group| group.peer(advisory.peer).is_none())
    };
    let count = gathered.advisories.iter().filter(strange).count();
    if count > 0 {
        inconsistent.note(format!("{count} elections are told of leaders that no group has"));
    }
}

/// Tells what was wrong with answers of which the rest was taken, and what came in too great a number.
fn tell_flaws(gathered: &Gathered, inconsistent: &mut Inconsistencies) {
    let dropped = gathered.counts.announcements_dropped;
    if dropped > 0 {
        inconsistent.note(format!("{dropped} announcements of stopping servers were left out"));
    }
    let changed = gathered.changed();
    let replies = changed.iter().map(|reply| (&reply.server.name, &reply.flaws));
    let statsz = gathered.statsz.iter().map(|statsz| (&statsz.server.name, &statsz.flaws));
    for (name, flaws) in replies.chain(statsz).filter(|(_, flaws)| !flaws.is_empty()).take(INCONSISTENT_MAX) {
        flaws.iter().for_each(|flaw| inconsistent.note(format!("{name}: {flaw}")));
    }
}

/// How many contradictions are told.
const INCONSISTENT_MAX: usize = 32;

/// What the replies of an epoch contradict each other in, in words.
#[derive(Default)]
struct Inconsistencies {
    all: Vec<String>,
    /// Those that a person should look at.
    warnings: Vec<String>,
    /// How many there were, told or not.
    told: usize,
}

impl Inconsistencies {
    /// Something that nothing is concluded from.
    fn note(&mut self, says: String) {
        self.told += 1;
        if self.all.len() < INCONSISTENT_MAX {
            self.all.push(says);
        }
    }

    /// Something that is wrong with the system itself.
    fn warn(&mut self, says: String) {
        self.told += 1;
        if self.warnings.len() < INCONSISTENT_MAX {
            self.warnings.push(says.clone());
            self.all.insert(self.warnings.len() - 1, says);
            self.all.truncate(INCONSISTENT_MAX);
        }
    }

    /// Members that tell different sizes do not agree on who is in the group. A change that is under way ends within
    /// a few epochs.
    fn sizes_of(&mut self, group: &GroupView) {
        let Some((streak, told)) = &group.sizes else { return };
        let mut by_size: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (name, size) in told {
            by_size.entry(*size).or_default().push(name.to_string());
        }
        let told = by_size.into_iter().map(|(size, names)| format!("{size} by {}", join_some(names)));
        let says =
            format!("the members of meta group {} tell different sizes: {}", group.key, join_some(told));
        if streak.epochs == 1 || streak.lasted() >= SIZES_DIFFER_MIN {
            self.warn(says);
        } else {
            self.note(says);
        }
    }
}

/// How many missing servers and bad replies are named.
const NAMED_MAX: usize = 32;

fn facts(gathered: &Gathered, history: &History) -> EpochFacts {
    let missing = gathered.missing().take(NAMED_MAX).map(|missing| {
        let name = missing.name.as_ref().or_else(|| history.name_of(&missing.key));
        name.cloned().unwrap_or_else(|| Name::new(&label(None, missing.key.peer)))
    });
    let rejects = gathered.rejects.iter().take(NAMED_MAX).map(|reject| {
        let sender = reject.server.as_ref().map_or("somebody".to_owned(), |server| server.name.to_string());
        (reject.reason, format!("{sender}: {}", reject.detail))
    });
    EpochFacts {
        number: gathered.number,
        opened: gathered.opened,
        closed: gathered.closed,
        ended: gathered.ended,
        expected: gathered.respondents.len(),
        heard: gathered.heard,
        missing: missing.collect(),
        counts: gathered.counts,
        rejects: rejects.collect(),
        slowest: gathered.delays().max().unwrap_or_default(),
        informative: !gathered.replies.is_empty(),
    }
}

fn servers(gathered: &Gathered, last: Option<Vec<ServerView>>) -> Vec<ServerView> {
    if let Some(last) = last.filter(|last| last.len() == gathered.replies.len())
        && gathered.changed().is_empty()
    {
        return last;
    }
    let mut servers: Vec<_> = gathered
        .replies
        .iter()
        .map(|reply| ServerView {
            name: reply.server.name.clone(),
            id: reply.server.id.clone(),
            cluster: reply.server.cluster.clone(),
            domain: reply.server.domain.clone(),
            version: reply.server.version.clone(),
            part: Part::of(&reply.jetstream),
        })
        .collect();
    servers.sort();
    servers
}
