//! Further questions, asked once an alert is out: whom to ask what, and what the answers mean.
//!
//! A cause that leaves a question open ([`questions`]) is worth one: the server's own `HEALTHZ`, or the group's
//! `RAFTZ`. [`conclude`] makes a few short sentences of the replies. Nothing here changes a verdict: no alert waits
//! for an answer, and none ends by one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{CauseKind, Finding, Verdict, plain};
use crate::name::{Name, PeerId, few};
use crate::view::{Answer, GroupView, PeerView, label};
use crate::wire::health::{Health, Raft, Role, decode_healthz, decode_raftz};

/// So many questions are asked at once; further ones are put after the next epoch.
pub const QUESTIONS_MAX: usize = 4;
/// So many sentences are kept for one incident.
pub const DIAGNOSES_MAX: usize = 4;
/// A sentence is cut to so many characters.
const SAYS_MAX: usize = 200;
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
    if finding.check == "META_006" {
        return vec![Question::Raft];
    }
    let peer = finding.peer.and_then(|id| group.peer(id));
    let (Some(peer), Some(cause)) = (peer, finding.cause.as_ref()) else { return Vec::new() };
    let (health, answers) = (health_of(peer), peer.answer != Answer::None);
    let raft = (answers || firing).then_some(Question::Raft);
    match cause.kind {
        CauseKind::JetstreamDisabled => health.into_iter().collect(),
        CauseKind::FrozenOrPartitioned | CauseKind::Unlisted | CauseKind::Unknown => {
            health.into_iter().chain(raft).collect()
        }
        CauseKind::Stopping | CauseKind::Crashed | CauseKind::CrashedOrUnreachable | CauseKind::Ghost => {
            Vec::new()
        }
    }
}

/// Asks the peer itself, if it answers and its id can be a token of a subject.
fn health_of(peer: &PeerView) -> Option<Question> {
    let id = peer.server_id.as_str();
    let token = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (token && peer.answer != Answer::None).then(|| Question::Health(peer.server_id.clone()))
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
pub fn conclude(about: Option<PeerId>, group: &GroupView, replies: &Replies) -> Vec<Diagnosis> {
    let mut said: Vec<(u8, Name, &str, String)> = Vec::new();
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
        said.push((0, server.name.clone(), "HEALTHZ", says));
    }
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
            said.push((rank, raft.server.name.clone(), "RAFTZ", says));
        }
    }
    said.sort();
    said.dedup_by(|later, first| (&later.1, later.2) == (&first.1, first.2));
    let mut told: Vec<Diagnosis> = Vec::new();
    for (_, server, asked, says) in said {
        let says: String = says.chars().take(SAYS_MAX).collect();
        let same = |told: &&mut Diagnosis| told.asked == asked && told.says == says;
        if let Some(same) = told.iter_mut().find(same) {
            if same.server.len() < SAYS_MAX {
                same.server += &format!(", {server}");
            }
        } else if told.len() < DIAGNOSES_MAX {
            told.push(Diagnosis { server: server.to_string(), asked: asked.to_owned(), says });
        }
    }
    told
}

/// One member's account in words; `None` when it tells nothing that matters here.
fn sentence(raft: &Raft, about: Option<PeerId>, group: &GroupView) -> Option<String> {
    let mut parts = Vec::new();
    match raft.wal_error.as_deref() {
        Some("") => parts.push("its write-ahead log has failed".to_owned()),
        Some(error) => parts.push(format!("its write-ahead log has failed: {error}")),
        None => {}
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
            Some(peer) => peer.last_seen.map(|seen| format!("last saw {name} {} ago", plain(seen))),
            None => None,
        };
    }
    let lost = raft.peers.iter().filter_map(|(id, peer)| {
        let name = called(*id, raft, group);
        match peer.last_seen {
            Some(seen) if seen > SEEN_LATELY => Some(format!("{name} {} ago", plain(seen))),
            // A follower tells of nobody but its leader; that is no loss.
            None if leads => Some(format!("{name} never in its term")),
            Some(_) | None => None,
        }
    });
    Some(few(lost)).filter(|lost| !lost.is_empty()).map(|lost| format!("last saw {lost}"))
}

fn seen_ago(raft: &Raft, id: PeerId) -> String {
    let seen = raft.peers.get(&id).and_then(|peer| peer.last_seen);
    seen.map_or_else(String::new, |seen| format!(", which it last saw {} ago", plain(seen)))
}

/// The name for people: ours, else the member's.
fn called(id: PeerId, raft: &Raft, group: &GroupView) -> String {
    let ours = group.peer(id).and_then(|peer| peer.name.as_ref());
    let theirs = raft.peers.get(&id).and_then(|peer| peer.name.as_ref());
    label(ours.or(theirs), id)
}

#[cfg(test)]
mod tests;
