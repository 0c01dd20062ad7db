//! The types of a view: what an epoch and the ones before it show, before anybody judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LeaderChange, LedFor, Load, Shrunk, Streak};
use crate::epoch::{Counts, Ended};
use crate::name::{Name, PeerId, printable};
use crate::stamp::Stamp;
use crate::wire::{AnnouncementKind, JetStream, RejectReason, Row};

/// What one epoch and the ones before it show of a whole NATS system.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The epoch it was made from.
    pub epoch: EpochFacts,
    /// The meta groups, by key.
    pub groups: Vec<GroupView>,
    /// How many of them somebody answers for.
    pub answering_groups: usize,
    /// The keys of groups that go on under another key: what was known under these is over.
    pub superseded: BTreeSet<Name>,
    /// Every server that answered, by name.
    pub servers: Vec<ServerView>,
    /// What the replies contradict each other in, in words; nothing is concluded from those parts.
    pub inconsistent: Vec<String>,
    /// Those of them that a person should look at although no peer is spoken against.
    pub warnings: Vec<String>,
    /// What is worth knowing and wrong with nobody yet: a member that stays behind.
    pub notes: Vec<String>,
}

impl ClusterView {
    /// The group with this key.
    pub fn group(&self, key: &Name) -> Option<&GroupView> {
        self.groups.binary_search_by(|group| group.key.cmp(key)).ok().map(|index| &self.groups[index])
    }

    /// What people should read beside the verdicts: contradictions, then notes.
    pub fn remarks(&self) -> impl Iterator<Item = &String> {
        self.inconsistent.iter().chain(&self.notes)
    }
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

impl EpochFacts {
    /// Whether nothing cut it short: who did not answer had the time to.
    pub fn ran_its_course(&self) -> bool {
        let in_time = matches!(self.ended, Ended::AllHeard | Ended::Quiet | Ended::Deadline);
        in_time && self.counts.dropped == 0
    }

    /// Whether it ran its course and showed something of the system, whoever did not answer.
    pub fn is_complete(&self) -> bool {
        self.informative && self.ran_its_course()
    }
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
    pub(super) fn of(jetstream: &JetStream) -> Self {
        match jetstream {
            JetStream::Member(_) => Self::Member,
            JetStream::Standalone => Self::Standalone,
            JetStream::Disabled => Self::Disabled,
        }
    }
}

/// One meta group.
#[derive(Clone, Debug, Default)]
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
    /// The servers that answer in this group and are in nobody's list: they are no members, whatever they say.
    pub outsiders: BTreeSet<Name>,
    /// The leader and the rows of its list that are neither offline nor out of contact, where the list accounts for every
    /// peer; rows that cannot be read count as not online. A peer that answers
    /// as a member counts although it is flagged, while the leader is in contact with it.
    pub online: Option<u64>,
    /// Who was online in the last epoch that told it, while that is fresh enough.
    pub last_online: Option<BTreeSet<PeerId>>,
    /// Since when members have answered without any leader among them. A claim that is shorter than an election, or
    /// that never has a list, does not end it.
    pub leaderless: Option<Streak>,
    /// Since when a member has claimed to lead whom too few follow, or who has no list.
    pub claimed: Option<Streak>,
    /// As many known members as must agree follow that one, and no other has claimed to lead since nobody does.
    pub claim_followed: bool,
    /// Since when as many members have answered as must agree.
    pub enough: Option<Streak>,
    /// Who has claimed to lead since then without ever having a list of its peers.
    pub listless: BTreeSet<Name>,
    /// A leader has positive evidence for itself: enough online in its list, or as many followers as must agree.
    pub led: bool,
    /// How long the authoritative leader has led; `None` where there is none, or where it was there before us.
    pub led_for: Option<LedFor>,
    /// How many peers the authoritative leader has heard within 2 s, itself included.
    pub heard_by_leader: u64,
    /// The leader that every answering member names who names one, when it does not answer itself.
    pub silent_leader: Option<PeerId>,
    /// Whether as many answering members as must agree, or all of them, follow one leader that is silent to us or cannot
    /// be read.
    pub followed: bool,
    /// A smaller list than the last agreed one, which too few could agree on.
    pub held: Option<Held>,
    /// Somebody of the group gave a sign of life in this epoch.
    pub heard: bool,
    /// Since when nobody of the group has given any sign of life, while others answered.
    pub unheard: Option<Streak>,
    /// Since when members have told different sizes, and which sizes those are.
    pub sizes: Option<(Streak, BTreeMap<Name, i64>)>,
    /// The leader that members name, when its answer cannot be read.
    pub unreadable_leader: Option<Name>,
    /// Since when a complete list has shown fewer online than the quorum.
    pub short: Option<Streak>,
    /// Since when members have named different leaders.
    pub disagreement: Option<Streak>,
    /// A complete list of its peers has been seen, in this epoch or before.
    pub had_list: bool,
    /// When other leaders took over, within the time in which that counts.
    pub leader_changes: Vec<LeaderChange>,
    /// It has fewer peers than a while ago.
    pub shrunk: Option<Shrunk>,
    /// How many API requests wait at the leader.
    pub pending: Option<u64>,
    /// Since when more have waited there than may.
    pub pending_over: Option<Streak>,
    /// The peers, by id.
    pub peers: Vec<PeerView>,
}

impl GroupView {
    /// A group that nothing shows any more.
    pub fn unshown(key: Name, domain: Name) -> Self {
        Self { key, domain, ..Self::default() }
    }

    /// The peer with this id.
    pub fn peer(&self, id: PeerId) -> Option<&PeerView> {
        self.peers.binary_search_by_key(&id, |peer| peer.id).ok().map(|index| &self.peers[index])
    }

    /// Whether what the leader says of a contact is the word of a majority: as many members answer as must agree, and
    /// the leader itself has lately heard as many. A leader that is cut off hears nobody, and whoever looks on through
    /// it hears nobody either.
    pub fn has_majority(&self) -> bool {
        self.quorum.is_some_and(|quorum| self.answering >= quorum && self.heard_by_leader >= quorum)
    }

    /// Whether fewer enabled members answer than must agree.
    pub fn quorum_gone(&self) -> bool {
        self.quorum.is_some_and(|quorum| self.answering < quorum)
    }
}

/// A leader's list that lacks peers of the last agreed one, although fewer members than had to agree on that could:
/// a leader without a majority shrinks its own list (measured: 2.10.25 at once and to nothing, 2.12.8 and 2.15.1 by
/// one). The old members and the old quorum hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Since when.
    pub streak: Streak,
    /// The size that the leader tells.
    pub told: u64,
    /// The peers that its list lacks.
    pub lacks: BTreeSet<PeerId>,
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
    /// Whether it does so when the rows are counted, too, that cannot be read.
    pub accounts_for_all: bool,
    /// How many peers its list leaves open whether they are online: rows or flags that cannot be read.
    pub uncertain: u64,
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
    /// It is counted among those online.
    pub online: bool,
    /// Its row in the authoritative list.
    pub row: Option<Row>,
    /// How it answered this epoch.
    pub answer: Answer,
    /// What it carries, where it answered as a member in this epoch.
    pub load: Option<Load>,
    /// Since when it has answered as a member and not been current, with the lag of the first and the last epoch.
    pub behind: Option<(Streak, u64, u64)>,
    /// Its server answers under its name, and no list has it: it is no member.
    pub outsider: bool,
    /// The authoritative list calls it offline, or did so last and lacks it now without agreement.
    pub flagged: bool,
    /// How many epochs running the authoritative list has had it offline.
    pub flag_epochs: u32,
    /// The flag came so soon after the peer's last sign of life that its stop must have been announced.
    pub flag_announced: bool,
    /// The leader's contact to it.
    pub contact: Contact,
    /// How long ago the leader heard it in its present term; `None` where it has not, or where that is not known.
    pub leader_heard: Option<Duration>,
    /// The leader has heard it since it fell silent to us.
    pub leader_still_hears: bool,
    /// It answered the question for its routes (`STATSZ`) in this epoch.
    pub answers_statsz: bool,
    /// Contact was lost when a leader last told of it, and nothing has shown the peer alive since.
    pub contact_lost_earlier: bool,
    /// The epochs it has missed while others of its group answered.
    pub silence: Option<Streak>,
    /// Since when it has answered again after a silence.
    pub back_since: Option<Stamp>,
    /// How many epochs running nobody of its cluster had a route to it.
    pub disconnected_epochs: u32,
    /// Who of its cluster holds a route to it, in the last epoch that asked; the first of them, who holds one
    /// before who does not.
    pub routes: BTreeMap<Name, Route>,
    /// How many more told of their routes. They count as evidence all the same.
    pub more_routes: usize,
    /// Who of other clusters holds a gateway connection to its cluster, where nobody of that answers; the first of them.
    pub gateways: BTreeMap<Name, Route>,
    /// Who of its cluster has received nothing over its route from it for more than 2 s of its silence, and for how long
    /// at least.
    pub receive_nothing: BTreeMap<Name, Duration>,
    /// Who of its cluster has received something over its route from it within 2 s, while it is silent to us.
    pub still_receive: BTreeSet<Name>,
    /// It told that this stream has filled its storage; an empty name where it did not say which.
    pub out_of_storage: Option<Name>,
    /// It told that it was removed from the group, and has not been listed since.
    pub said_removed: bool,
    /// We have watched without a gap since its last answer, so that an announcement would have been heard.
    pub watched_since_heard: bool,
    /// It answers with JetStream off, and has done so since this run of it started.
    pub off_since_start: bool,
    /// Somebody held a route to it during this silence, so its process was not ended at once.
    pub routes_held: bool,
    /// Nobody held a route to it for a while of this silence, even if somebody does again.
    pub routes_closed: bool,
    /// It said that it stops, and has not answered since.
    pub announced: Option<(Stamp, AnnouncementKind)>,
    /// How many of the other reporters' lists call it offline, and how many such lists there are. Only where no
    /// list is authoritative.
    pub hearsay: (u64, u64),
    /// What each reporter says of it; the first of them.
    pub opinions: BTreeMap<Name, Opinion>,
    /// How many more reporters there are. They count as evidence all the same.
    pub more_opinions: usize,
    /// It answers and follows the leader, but its complete list lacks it.
    pub unlisted: Option<Streak>,
    /// How many epochs running a complete list has lacked it while it did not answer as a member.
    pub absent_epochs: u32,
    /// When it last gave an answer.
    pub last_heard: Option<Stamp>,
    /// Since when it has neither answered nor been cleared.
    pub down_since: Option<Stamp>,
    /// Whether any leader ever met it, as far as we were told: it knew its name, its lag or its last contact.
    pub met: bool,
}

impl PeerView {
    /// The name for people: the server's, else `peer <id>`.
    pub fn label(&self) -> String {
        label(self.name.as_ref(), self.id)
    }

    /// Whether somebody shows that it lives although it does not answer: the leader has heard it since, or it
    /// answers another question itself.
    pub fn is_vouched_for(&self) -> bool {
        self.leader_still_hears || self.answers_statsz
    }

    /// Whether its flag contradicts everything else: it answers as a member and is in contact with the leader.
    pub fn contradicts_its_flag(&self) -> bool {
        let lives = self.answer == Answer::Member || (self.answer == Answer::None && self.answers_statsz);
        self.flagged && lives && self.contact == Contact::Fresh
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
