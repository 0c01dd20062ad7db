//! Further questions, asked once an alert is out: whom to ask what, and what the answers mean.
//!
//! A cause that leaves a question open ([`questions`]) is worth one: the server's own `HEALTHZ`, or the group's
//! `RAFTZ`. [`conclude`] makes a few short sentences of the replies, and [`of_the_group`] what they say of the group as a
//! whole, which the next epoch may go by. No alert waits for an answer, and none ends by one.

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{CauseKind, Finding, Verdict};
use crate::name::{Name, PeerId, join_some};
use crate::stamp::human_duration;
use crate::view::{Answer, GroupView, PeerView, label};
use crate::wire::health::{Health, Raft, Role, decode_healthz, decode_raftz};

/// So many questions are asked at once; further ones are put after the next epoch.
pub const QUESTIONS_MAX: usize = 4;
/// So many sentences are kept for one incident.
pub const DIAGNOSES_MAX: usize = 4;
/// A sentence is cut to so many characters.
const SAYS_MAX: usize = 200;
/// So many missing members are named.
const MISSING_MAX: usize = 8;
/// A leader that was not seen for so long is past any election.
const UNSEEN_MIN: Duration = Duration::from_secs(10);
/// A contact younger than this is not worth a word: a healthy peer's is one heartbeat, 1 s, old.
const SEEN_LATELY: Duration = Duration::from_secs(3);

/// What a server said when it was asked after the alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The server that answered; several where they said the same.
    pub server: String,
    /// What it was asked: `HEALTHZ` or `RAFTZ`.
    pub asked: String,
    /// The answer, as a sentence without a period.
    pub says: String,
    /// What that means, where it is one of the answers that settle what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DiagnosisKind>,
    /// The members that the answer expects and that do not answer, by name, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// An answer that settles what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiagnosisKind {
    /// Its configuration has no JetStream.
    NotConfigured,
    /// JetStream is configured, and was switched off or did not start.
    NotEnabled,
    /// It has no contact to a leader.
    NoContact,
    /// It is behind the leader.
    NotCurrent,
    /// Its meta layer does not run, or cannot write.
    MetaStopped,
    /// It still reads what it has stored.
    Recovering,
    /// It is an observer of a hub's meta group.
    Observer,
    /// Its group never had a leader since it started.
    NeverHadLeader,
    /// Its write-ahead log has failed.
    LogFailed,
}

impl DiagnosisKind {
    /// What a server's own words mean. Source: nats-server 2.10 to 2.15, `server/monitor.go` (`healthz`).
    fn of_health(error: &str) -> Option<Self> {
        let meanings = [
            ("not enabled", Self::NotEnabled),
            ("not established contact", Self::NoContact),
            ("not current", Self::NotCurrent),
            ("not running", Self::MetaStopped),
            ("write error", Self::MetaStopped),
            ("recovering", Self::Recovering),
        ];
        meanings.into_iter().find(|(words, _)| error.contains(words)).map(|(_, kind)| kind)
    }

    fn of_raft(raft: &Raft) -> Option<Self> {
        match () {
            () if raft.wal_error.is_some() => Some(Self::LogFailed),
            () if raft.observer && !sees_its_leader(raft) => Some(Self::Observer),
            () if !raft.ever_had_leader && raft.leader.is_none() => Some(Self::NeverHadLeader),
            () => None,
        }
    }
}

/// Something to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The server with this id (`N…`), about its own JetStream.
    Health(Name),
    /// Every server, about the meta group.
    Raft,
}

impl Question {
    /// Where the question goes.
    pub fn subject(&self) -> String {
        match self {
            Self::Health(server) => format!("$SYS.REQ.SERVER.{}.HEALTHZ", server.as_str()),
            Self::Raft => "$SYS.REQ.SERVER.PING.RAFTZ".to_owned(),
        }
    }

    /// What is sent with it.
    pub fn payload(&self) -> &'static str {
        match self {
            Self::Health(_) => "",
            Self::Raft => r#"{"group":"_meta_"}"#,
        }
    }
}

/// What may be asked about a finding whose alert is firing, or not yet; nothing where no question is open.
///
/// A peer that answers is asked at the first suspicion: waiting makes nothing clearer. What the others know of a
/// silent one is asked when it is a fault: before that they have hardly missed it themselves.
pub fn questions(finding: &Finding, group: &GroupView, firing: bool) -> Vec<Question> {
    if !matches!(finding.verdict, Verdict::Fault | Verdict::Suspect) {
        return Vec::new();
    }
    let flaps = finding.cause.as_ref().is_some_and(|cause| cause.kind == CauseKind::LeaderFlapping);
    if finding.check == "META_006" || flaps {
        return vec![Question::Raft];
    }
    let peer = finding.peer.and_then(|id| group.peer(id));
    let (Some(peer), Some(cause)) = (peer, finding.cause.as_ref()) else { return Vec::new() };
    let (health, answers) = (health_of(peer), peer.answer != Answer::None);
    let raft = (answers || firing).then_some(Question::Raft);
    match cause.kind {
        CauseKind::JetstreamDisabled => health.into_iter().collect(),
        CauseKind::FrozenOrPartitioned
        | CauseKind::PartlyCutOff
        | CauseKind::Unlisted
        | CauseKind::Unknown => health.into_iter().chain(raft).collect(),
        CauseKind::MonitoringStuck | CauseKind::FlagContradicted | CauseKind::Behind => {
            health.into_iter().collect()
        }
        CauseKind::Stopping
        | CauseKind::Crashed
        | CauseKind::CrashedOrUnreachable
        | CauseKind::DownBeforeTerm
        | CauseKind::Ghost
        | CauseKind::DamagedId
        | CauseKind::HiddenFromUs
        | CauseKind::TooFewMembers
        | CauseKind::NoLeaderElected
        | CauseKind::ElectionUnderWay
        | CauseKind::Renamed
        | CauseKind::RemovalNotAgreed
        | CauseKind::GroupUnheard
        | CauseKind::LeaderFlapping
        | CauseKind::SnapshotSlow
        | CauseKind::StateGrowth
        | CauseKind::SizeDecreased
        | CauseKind::PendingHigh
        | CauseKind::VersionMismatch
        | CauseKind::Restarted
        | CauseKind::ReservationFilling
        | CauseKind::StorageFilling => Vec::new(),
    }
}

/// Asks the peer itself, if it answers and its id can be a token of a subject.
fn health_of(peer: &PeerView) -> Option<Question> {
    let id = peer.server_id.as_str();
    let token = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let answers = peer.answer != Answer::None || peer.answers_statsz;
    (token && answers).then(|| Question::Health(peer.server_id.clone()))
}

/// The replies to some questions, as far as they could be read.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    health: Vec<Health>,
    raft: Vec<Raft>,
    /// How many could not be read.
    pub rejected: u64,
}

impl Replies {
    /// Takes one reply.
    pub fn hear(&mut self, question: &Question, payload: &[u8]) {
        let heard = match question {
            Question::Health(_) => decode_healthz(payload).map(|health| self.health.push(health)),
            Question::Raft => decode_raftz(payload).map(|raft| self.raft.extend(raft)),
        };
        if heard.is_err() {
            self.rejected += 1;
        }
    }
}

/// What the replies say of a peer, or of a whole group: the most telling first, and no more than fits an event.
/// The outcome does not depend on their order.
pub fn conclude(
    about: Option<PeerId>,
    cause: Option<CauseKind>,
    group: &GroupView,
    replies: &Replies,
) -> Vec<Diagnosis> {
    if cause == Some(CauseKind::LeaderFlapping) {
        return terms(group, replies);
    }
    let mut said: Vec<Said> = Vec::new();
    for health in replies.health.iter().filter(|health| Some(health.server.peer) == about) {
        let Health { server, error } = health;
        let disabled = group.peer(health.server.peer).is_some_and(|peer| peer.answer == Answer::Disabled);
        let says = match error {
            Some(error) => error.clone(),
            // Nothing is missed that was never asked for (measured, 2.12 and 2.15).
            None if disabled => {
                "nothing wrong by its own check: its configuration has no JetStream".to_owned()
            }
            None => "nothing wrong by its own check".to_owned(),
        };
        let kind = match error {
            Some(error) => DiagnosisKind::of_health(error),
            None => disabled.then_some(DiagnosisKind::NotConfigured),
        };
        said.push(Said {
            rank: 0,
            server: server.name.clone(),
            asked: "HEALTHZ",
            says,
            kind,
            missing: Vec::new(),
        });
    }
    // A server that was just started has had no leader either; a new group has had none on any.
    let members = || replies.raft.iter().filter(|raft| group.peer(raft.server.peer).is_some());
    let nobody_had_a_leader = members().all(|raft| !raft.ever_had_leader);
    // Other groups answer too.
    for raft in replies.raft.iter().filter(|raft| group.peer(raft.server.peer).is_some()) {
        let own = about == Some(raft.server.peer);
        if let Some(says) = sentence(raft, about, group) {
            let rank = match raft.role {
                _ if raft.wal_error.is_some() => 1,
                _ if own => 2,
                Role::Leader => 3,
                Role::Follower | Role::Candidate | Role::Other => 4,
            };
            let missing = if about.is_none() { missing(raft, group) } else { Vec::new() };
            let kind = DiagnosisKind::of_raft(raft);
            let kind = kind.filter(|kind| *kind != DiagnosisKind::NeverHadLeader || nobody_had_a_leader);
            let server = raft.server.name.clone();
            said.push(Said { rank, server, asked: "RAFTZ", says, kind, missing });
        }
    }
    said.sort();
    said.dedup_by(|later, first| (&later.server, later.asked) == (&first.server, first.asked));
    join_same(said)
}

/// The terms of the members: each election begins a new one, also those that nobody else saw.
fn terms(group: &GroupView, replies: &Replies) -> Vec<Diagnosis> {
    let members = replies.raft.iter().filter(|raft| group.peer(raft.server.peer).is_some());
    let mut said: Vec<Said> = members
        .filter_map(|raft| {
            let term = raft.term?;
            let (rank, does) = match raft.role {
                Role::Leader => (0, "leads"),
                Role::Candidate => (1, "asks to be elected"),
                Role::Follower | Role::Other => (2, "is"),
            };
            let says = format!("{does} in term {term}");
            let server = raft.server.name.clone();
            Some(Said { rank, server, asked: "RAFTZ", says, kind: None, missing: Vec::new() })
        })
        .collect();
    said.sort();
    said.dedup_by(|later, first| later.server == first.server);
    join_same(said)
}

/// What one server said, the most telling first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    rank: u8,
    server: Name,
    asked: &'static str,
    says: String,
    kind: Option<DiagnosisKind>,
    missing: Vec<String>,
}

/// Servers that said the same are told in one sentence.
fn join_same(said: Vec<Said>) -> Vec<Diagnosis> {
    let mut told: Vec<Diagnosis> = Vec::new();
    for Said { server, asked, says, kind, missing, .. } in said {
        let says: String = says.chars().take(SAYS_MAX).collect();
        let same = |told: &&mut Diagnosis| told.asked == asked && told.says == says;
        if let Some(same) = told.iter_mut().find(same) {
            if same.server.len() < SAYS_MAX {
                same.server += &format!(", {server}");
            }
        } else if told.len() < DIAGNOSES_MAX {
            let (server, asked) = (server.to_string(), asked.to_owned());
            told.push(Diagnosis { server, asked, says, kind, missing });
        }
    }
    told
}

/// Whether a member has seen the leader that it names lately. A leader sees itself.
fn sees_its_leader(raft: &Raft) -> bool {
    let Some(leader) = raft.leader else { return false };
    let seen = raft.peers.get(&leader).and_then(|peer| peer.last_seen);
    leader == raft.server.peer || seen.is_some_and(|seen| seen <= UNSEEN_MIN)
}

/// What the members of a group say of it as a whole: whom they expect, where all agree on that, and whether none of
/// them sees the leader that it names. `None` where none answered.
pub fn of_the_group(group: &GroupView, replies: &Replies) -> Option<(BTreeSet<PeerId>, bool)> {
    let raft: Vec<&Raft> =
        replies.raft.iter().filter(|raft| group.peer(raft.server.peer).is_some()).collect();
    let first = raft.first()?;
    // A member tells of the others only; where the servers that answer are strangers, none of them is told.
    let expected: BTreeSet<PeerId> = first.peers.keys().copied().collect();
    let agreed = raft.iter().all(|raft| raft.peers.keys().copied().collect::<BTreeSet<_>>() == expected);
    let unseen = raft.iter().all(|raft| raft.leader.is_some() && !sees_its_leader(raft));
    let answering = |id: &PeerId| raft.iter().any(|raft| raft.server.peer == *id);
    let strangers = agreed && raft.len() > 1 && !expected.iter().any(answering);
    Some((if strangers { expected } else { BTreeSet::new() }, unseen))
}

/// The peers that a member expects and that do not answer, by name. Whom it cannot name it tells by id.
fn missing(raft: &Raft, group: &GroupView) -> Vec<String> {
    let answers =
        |id: PeerId| id == raft.server.peer || group.peer(id).is_some_and(|peer| peer.answer != Answer::None);
    let missing = raft.peers.keys().filter(|id| !answers(**id));
    let mut missing: Vec<String> = missing.map(|id| called(*id, raft, group)).collect();
    missing.sort();
    missing.truncate(MISSING_MAX);
    missing
}

/// One member's account in words; `None` when it tells nothing that matters here.
fn sentence(raft: &Raft, about: Option<PeerId>, group: &GroupView) -> Option<String> {
    let mut parts = Vec::new();
    match raft.wal_error.as_deref() {
        Some("") => parts.push("its write-ahead log has failed".to_owned()),
        Some(error) => parts.push(format!("its write-ahead log has failed: {error}")),
        None => {}
    }
    if about.is_none() && raft.observer && !sees_its_leader(raft) {
        parts.push("is an observer of its hub's meta group, and hears no leader of it".to_owned());
    }
    match (raft.role, raft.leader) {
        (_, None) if !raft.ever_had_leader => parts.push("never had a leader since its start".to_owned()),
        (Role::Candidate, _) => parts.push("knows no leader and asks to be elected".to_owned()),
        (Role::Follower | Role::Other, None) => parts.push("knows no leader".to_owned()),
        (Role::Follower | Role::Other, Some(leader)) if about == Some(raft.server.peer) => {
            parts.push(format!("follows {}{}", called(leader, raft, group), seen_ago(raft, leader)));
        }
        (Role::Leader | Role::Follower | Role::Other, _) => {}
    }
    parts.extend(contacts(raft, about, group));
    if about.is_none() && raft.leader.is_none() {
        parts.extend(
            Some(join_some(missing(raft, group)))
                .filter(|names| !names.is_empty())
                .map(|names| format!("misses {names}")),
        );
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Whom the member has lost contact to. Of a peer that is asked about, its leader tells in any case.
fn contacts(raft: &Raft, about: Option<PeerId>, group: &GroupView) -> Option<String> {
    let leads = raft.role == Role::Leader;
    if let Some(id) = about {
        if id == raft.server.peer {
            return None;
        }
        let name = called(id, raft, group);
        return match raft.peers.get(&id) {
            None if leads => Some(format!("does not list {name}")),
            Some(peer) if leads && peer.last_seen.is_none() => {
                Some(format!("has not heard {name} in its term"))
            }
            Some(peer) => peer.last_seen.map(|seen| format!("last saw {name} {} ago", human_duration(seen))),
            None => None,
        };
    }
    let lost = raft.peers.iter().filter_map(|(id, peer)| {
        let name = called(*id, raft, group);
        match peer.last_seen {
            Some(seen) if seen > SEEN_LATELY => Some(format!("{name} {} ago", human_duration(seen))),
            // A follower tells of nobody but its leader; that is no loss.
            None if leads => Some(format!("{name} never in its term")),
            Some(_) | None => None,
        }
    });
    Some(join_some(lost)).filter(|lost| !lost.is_empty()).map(|lost| format!("last saw {lost}"))
}

fn seen_ago(raft: &Raft, id: PeerId) -> String {
    let seen = raft.peers.get(&id).and_then(|peer| peer.last_seen);
    seen.map_or_else(String::new, |seen| format!(", which it last saw {} ago", human_duration(seen)))
}

/// The name for people: ours, else the member's.
fn called(id: PeerId, raft: &Raft, group: &GroupView) -> String {
    let ours = group.peer(id).and_then(|peer| peer.name.as_ref());
    let theirs = raft.peers.get(&id).and_then(|peer| peer.name.as_ref());
    label(ours.or(theirs), id)
}

#[cfg(test)]
mod tests;
