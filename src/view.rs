//! The merged view of what one epoch gathered: meta groups, their leader, their peers, and who said what of whom.
//!
//! [`merge`] joins the replies with what earlier epochs taught ([`Memory`]). It keeps every opinion apart, by
//! reporter, and judges nobody: verdicts are [`crate::check`]'s. **Invariant:** the view of a set of replies does
//! not depend on their order.

mod answers;
mod group;
mod link;
mod memory;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::epoch::{Counts, Ended, Gathered};
use crate::name::{Name, PeerId, printable};
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::wire::{AnnouncementKind, JetStream, RejectReason, Row};

pub use memory::Memory;

/// What one epoch and the ones before it show of a whole NATS system.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The epoch it was made from.
    pub epoch: EpochFacts,
    /// The meta groups, by key.
    pub groups: Vec<GroupView>,
    /// Every server that answered, by name.
    pub servers: Vec<ServerView>,
    /// What the replies contradict each other in, in words; nothing is concluded from those parts.
    pub inconsistent: Vec<String>,
}

/// The numbers of an epoch.
#[derive(Clone, Debug)]
pub struct EpochFacts {
    /// Its number.
    pub number: u64,
    /// When its requests were sent.
    pub opened: Stamp,
    /// When it ended; the reference time of everything concluded from it.
    pub closed: Stamp,
    /// Why it ended.
    pub ended: Ended,
    /// How many servers should have answered.
    pub expected: usize,
    /// How many did.
    pub heard: usize,
    /// Those that did not.
    pub missing: Vec<Name>,
    /// What could not be used.
    pub counts: Counts,
    /// The first of it, in words.
    pub rejects: Vec<(RejectReason, String)>,
    /// The slowest answer.
    pub slowest: Duration,
    /// Whether anything at all was learned of the system.
    pub informative: bool,
}

/// A server that answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerView {
    /// Its name.
    pub name: Name,
    /// The id of this run.
    pub id: Name,
    /// Its cluster.
    pub cluster: Name,
    /// Its domain.
    pub domain: Name,
    /// Its version.
    pub version: Name,
    /// Its part in JetStream.
    pub part: Part,
}

/// A server's part in JetStream, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A member of a meta group.
    Member,
    /// JetStream without a group.
    Standalone,
    /// JetStream is off.
    Disabled,
}

impl Part {
    fn of(jetstream: &JetStream) -> Self {
        match jetstream {
            JetStream::Member(_) => Self::Member,
            JetStream::Standalone => Self::Standalone,
            JetStream::Disabled => Self::Disabled,
        }
    }
}

/// One meta group.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The name of the group in subjects: the domain, else `default`; a second group without a domain adds its cluster.
    pub key: Name,
    /// The JetStream domain; empty for none.
    pub domain: Name,
    /// The clusters its members answered from.
    pub clusters: BTreeSet<Name>,
    /// The server whose list is authoritative, if there is one.
    pub authority: Option<Authority>,
    /// The members that name themselves leader.
    pub claimants: Vec<Name>,
    /// Which leader each answering member names.
    pub named_leaders: BTreeMap<Name, Option<Name>>,
    /// How many peers the group has, the dead ones included; `None` when that is not known.
    pub size: Option<u64>,
    /// How many must agree.
    pub quorum: Option<u64>,
    /// Whether an operator lowered the quorum.
    pub rescue: bool,
    /// How many enabled members answered.
    pub answering: u64,
    /// The leader and the rows of a complete list that are neither offline nor out of contact.
    pub online: Option<u64>,
    /// Since when members have answered without any leader among them.
    pub leaderless: Option<Standing>,
    /// Whether as many answering members as must agree follow one leader, be it silent to us or unreadable.
    pub followed: bool,
    /// The leader that members name, when its answer cannot be read.
    pub unreadable_leader: Option<Name>,
    /// Since when a complete list has shown fewer online than the quorum.
    pub short: Option<Standing>,
    /// Since when members have named different leaders.
    pub disagreement: Option<Standing>,
    /// The peers, by id.
    pub peers: Vec<PeerView>,
}

impl GroupView {
    /// The peer with this id.
    pub fn peer(&self, id: PeerId) -> Option<&PeerView> {
        self.peers.binary_search_by_key(&id, |peer| peer.id).ok().map(|index| &self.peers[index])
    }

    /// Whether fewer enabled members answer than must agree.
    pub fn quorum_gone(&self) -> bool {
        self.quorum.is_some_and(|quorum| self.answering < quorum)
    }
}

/// The server that names itself leader and whose list counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its peer id.
    pub peer: PeerId,
    /// Its name.
    pub name: Name,
    /// Whether its list names every peer of the group (rows + 1 = `cluster_size`).
    pub complete: bool,
}

/// Something that has been so for a while, by our own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The opening of the first epoch that showed it.
    pub since: Stamp,
    /// The end of the last epoch that showed it: later ones may have shown nothing at all.
    pub until: Stamp,
    /// How many epochs running have shown it.
    pub epochs: u32,
}

impl Standing {
    /// One more epoch shows it.
    fn again(previous: Option<Self>, gathered: &Gathered) -> Self {
        let (since, epochs) =
            previous.map_or((gathered.opened, 0), |standing| (standing.since, standing.epochs));
        Self { since, until: gathered.closed, epochs: epochs.saturating_add(1) }
    }

    /// How long it has been so, as far as epochs showed it.
    pub fn lasted(self) -> Duration {
        self.until.since(self.since)
    }
}

/// One peer of a meta group, and what everyone says of it.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its id: the key.
    pub id: PeerId,
    /// Its name, where anybody ever told it.
    pub name: Option<Name>,
    /// The cluster it last answered from; empty when not known.
    pub cluster: Name,
    /// The id of its last known run (`N…`); empty when not known.
    pub server_id: Name,
    /// Whether it is the authority itself.
    pub leader: bool,
    /// Whether it counts as a member: in the last complete list, or, before any such list, a server that answered.
    pub member: bool,
    /// Its row in the authoritative list.
    pub row: Option<Row>,
    /// How it answered this epoch.
    pub answer: Answer,
    /// How many epochs running the authoritative list has had it offline.
    pub flag_epochs: u32,
    /// The flag came so soon after the peer's last sign of life that its stop must have been announced.
    pub flag_announced: bool,
    /// The leader's contact to it.
    pub contact: Contact,
    /// Contact was lost when a leader last told of it, and nothing has shown the peer alive since.
    pub contact_lost_earlier: bool,
    /// The epochs it has missed while others of its group answered.
    pub silence: Option<Standing>,
    /// Since when it has answered again after a silence.
    pub back_since: Option<Stamp>,
    /// How many epochs running nobody of its cluster had a route to it.
    pub disconnected_epochs: u32,
    /// Who of its cluster holds a route to it, in the last epoch that asked.
    pub routes: BTreeMap<Name, Route>,
    /// Somebody held a route to it during this silence, so its process was not ended at once.
    pub routes_held: bool,
    /// It said that it stops, and has not answered since.
    pub announced: Option<(Stamp, AnnouncementKind)>,
    /// How many of the other reporters' lists call it offline, and how many such lists there are. Only where no
    /// list is authoritative.
    pub hearsay: (u64, u64),
    /// What each reporter says of it.
    pub opinions: BTreeMap<Name, Opinion>,
    /// It answers and follows the leader, but its complete list lacks it.
    pub unlisted: Option<Standing>,
    /// How many epochs running a complete list has lacked it while it did not answer as a member.
    pub absent_epochs: u32,
    /// When it last gave an answer.
    pub last_heard: Option<Stamp>,
    /// Since when it has neither answered nor been cleared.
    pub down_since: Option<Stamp>,
    /// Whether any leader was ever in contact with it, as far as we were told.
    pub ever_in_contact: bool,
}

impl PeerView {
    /// The name for people: the server's, else `peer <id>`.
    pub fn label(&self) -> String {
        label(self.name.as_ref(), self.id)
    }

    /// Whether the leader's contact was lost while the peer was silent, and is not there yet again: that says
    /// nothing new.
    pub fn is_coming_back(&self, now: Stamp) -> bool {
        let Contact::Away(away) = self.contact else { return false };
        self.answer == Answer::Member && self.back_since.is_some_and(|back| now.since(back) < away)
    }
}

/// The name for people: the server's, else `peer <id>`.
pub(crate) fn label(name: Option<&Name>, id: PeerId) -> String {
    name.map_or_else(|| format!("peer {id}"), |name| printable(name.as_str()).into_owned())
}

/// How a peer answered an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not at all.
    None,
    /// With something that could not be read. It lives; no more is known.
    Unreadable,
    /// As a server with JetStream off.
    Disabled,
    /// As a server with JetStream alone.
    Standalone,
    /// As an enabled member.
    Member,
}

/// The authoritative leader's contact to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// No authoritative list tells of it.
    Untold,
    /// Current, or heard of within the limit.
    Fresh,
    /// Not current; this long since the last contact, or, where the leader has had none in its term, this long
    /// since we first saw that.
    Away(Duration),
}

/// Whether a server holds a route to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It does.
    Held,
    /// It does not.
    Lost,
}

/// What one reporter's list says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Flagged offline.
    Offline,
    /// Not flagged. A follower's `current` means nothing, so no more can be read from its list.
    Online,
    /// The leader's list: current.
    Current,
    /// The leader's list: not offline, and not current.
    NotCurrent,
}

/// Joins what an epoch gathered with what is remembered.
pub fn merge(gathered: &Gathered, memory: &mut Memory, rules: &Rules) -> ClusterView {
    let mut inconsistent: Vec<String> = gathered.conflicts.iter().map(ToString::to_string).collect();
    memory.begin(gathered, rules);
    let links = link::link(gathered, memory, &mut inconsistent);
    let groups = group::merge_all(gathered, links, memory, rules, &mut inconsistent);
    memory.end(gathered);
    tell_flaws(gathered, &mut inconsistent);
    inconsistent.truncate(INCONSISTENT_MAX);
    ClusterView { epoch: facts(gathered, memory), groups, servers: servers(gathered), inconsistent }
}

/// How many contradictions are told.
const INCONSISTENT_MAX: usize = 32;
/// How many missing servers and bad replies are named.
const NAMED_MAX: usize = 32;

/// Tells what was wrong with answers of which the rest was taken, and what came in too great a number.
fn tell_flaws(gathered: &Gathered, inconsistent: &mut Vec<String>) {
    let dropped = gathered.counts.announcements_dropped;
    if dropped > 0 {
        inconsistent.push(format!("{dropped} announcements of stopping servers were left out"));
    }
    let replies = gathered.replies.iter().map(|reply| (&reply.server.name, &reply.flaws));
    let statsz = gathered.statsz.iter().map(|statsz| (&statsz.server.name, &statsz.flaws));
    for (name, flaws) in replies.chain(statsz).filter(|(_, flaws)| !flaws.is_empty()).take(INCONSISTENT_MAX) {
        inconsistent.extend(flaws.iter().map(|flaw| format!("{name}: {flaw}")));
    }
}

fn facts(gathered: &Gathered, memory: &Memory) -> EpochFacts {
    let missing = gathered.missing().take(NAMED_MAX).map(|(key, name)| {
        let name = name.or_else(|| memory.name_of(key));
        name.cloned().unwrap_or_else(|| Name::new(&label(None, key.peer)))
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
        expected: gathered.expected.len(),
        heard: gathered.delays.len(),
        missing: missing.collect(),
        counts: gathered.counts,
        rejects: rejects.collect(),
        slowest: gathered.delays.values().max().copied().unwrap_or_default(),
        informative: !gathered.replies.is_empty(),
    }
}

fn servers(gathered: &Gathered) -> Vec<ServerView> {
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
