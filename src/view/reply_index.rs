//! What everyone sent in one epoch, by server, and whose answer it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Answer;
use super::history::ServerHistory;
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::stamp::Stamp;
use crate::wire::{Advisory, Announcement, JetStream, Reply, Statsz};

/// What everyone sent, by server: looked up by every group.
pub(super) struct ReplyIndex<'a> {
    /// In the order of the keys.
    answers: Vec<Answered<'a>>,
    /// What further servers of a name sent.
    namesakes: BTreeMap<ServerKey, Vec<&'a Reply>>,
    statsz: BTreeMap<&'a Name, BTreeMap<&'a Name, Vec<&'a Statsz>>>,
    statsz_of: BTreeMap<PeerId, Vec<&'a Statsz>>,
    announcements: BTreeMap<PeerId, Vec<(Stamp, &'a Announcement)>>,
    advisories: BTreeMap<PeerId, Vec<(Stamp, &'a Advisory)>>,
}

/// What a server answered.
struct Answered<'a> {
    peer: PeerId,
    domain: &'a Name,
    answer: Answer,
    /// No reply where none could be read.
    reply: Option<&'a Reply>,
}

impl<'a> ReplyIndex<'a> {
    pub(super) fn new(gathered: &'a Gathered) -> Self {
        let (answers, namesakes) = answers(gathered);
        let mut statsz: BTreeMap<_, BTreeMap<_, Vec<&Statsz>>> = BTreeMap::new();
        let mut statsz_of: BTreeMap<_, Vec<&Statsz>> = BTreeMap::new();
        for reply in &gathered.statsz {
            let domain = statsz.entry(&reply.server.domain).or_default();
            domain.entry(&reply.server.cluster).or_default().push(reply);
            statsz_of.entry(reply.server.peer).or_default().push(reply);
        }
        let mut announcements: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, announcement) in &gathered.announcements {
            announcements.entry(announcement.server.peer).or_default().push((*at, announcement));
        }
        let mut advisories: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, advisory) in &gathered.advisories {
            advisories.entry(advisory.peer).or_default().push((*at, advisory));
        }
        Self { answers, namesakes, statsz, statsz_of, announcements, advisories }
    }

    /// How a peer answered, of which `known` is remembered and whose group answers from the clusters `group`. A server outside the group can have its name (a leaf
    /// that is named like a server of the hub): what such a one says is not the peer's answer.
    pub(super) fn of(
        &self,
        server: &ServerKey,
        known: Option<&ServerHistory>,
        group: &BTreeSet<Name>,
    ) -> Answer {
        let of =
            |answered: &Answered<'_>| (answered.peer, answered.domain).cmp(&(server.peer, &server.domain));
        let Ok(place) = self.answers.binary_search_by(of) else { return Answer::None };
        let Answered { answer, reply, .. } = self.answers[place];
        let Some(reply) = reply.filter(|_| answer != Answer::Member) else { return answer };
        let member = known.filter(|known| known.member && !known.cluster.is_empty());
        let own = |reply: &&Reply| match (member, &reply.jetstream) {
            (Some(member), _) => member.cluster == reply.server.cluster,
            (None, JetStream::Standalone) => group.is_empty() || group.contains(&reply.server.cluster),
            (None, _) => true,
        };
        let namesakes = self.namesakes.get(server).into_iter().flatten().copied();
        std::iter::once(reply).chain(namesakes).find(own).map_or(Answer::None, answer_of)
    }

    /// The answers to `STATSZ` from the servers of one cluster.
    pub(super) fn statsz(&self, domain: &Name, cluster: &Name) -> &[&'a Statsz] {
        self.statsz.get(domain).and_then(|clusters| clusters.get(cluster)).map_or(&[], Vec::as_slice)
    }

    /// The answers to `STATSZ` from the servers of all clusters but one.
    pub(super) fn statsz_of_others(&self, domain: &Name, cluster: &Name) -> impl Iterator<Item = &'a Statsz> {
        let clusters = self.statsz.get(domain).into_iter().flatten();
        clusters.filter(move |(other, _)| **other != cluster).flat_map(|(_, replies)| replies.iter().copied())
    }

    /// The cluster of a server that holds a route to this one. Routes join servers of one cluster only.
    pub(super) fn cluster_with_a_route_to(&self, peer: PeerId, domain: &Name) -> Option<&'a Name> {
        let clusters = self.statsz.get(domain).into_iter().flatten();
        let holds = |reply: &&Statsz| reply.route_to(peer).is_some();
        clusters.filter(|(_, replies)| replies.iter().any(holds)).map(|(cluster, _)| *cluster).next()
    }

    /// Whether the server answered `STATSZ` itself; from any cluster where its own is not known.
    pub(super) fn has_statsz_of(&self, peer: PeerId, domain: &Name, cluster: &Name) -> bool {
        let is_its_own = |reply: &&Statsz| {
            reply.server.domain == *domain && (cluster.is_empty() || reply.server.cluster == *cluster)
        };
        self.statsz_of.get(&peer).is_some_and(|replies| replies.iter().any(is_its_own))
    }

    /// What servers with this id told of themselves, in the order of the times.
    pub(super) fn advisories_of(&self, peer: PeerId) -> &[(Stamp, &'a Advisory)] {
        self.advisories.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// The announcements of servers with this id, in the order of their times.
    pub(super) fn announcements_of(&self, peer: PeerId) -> &[(Stamp, &'a Announcement)] {
        self.announcements.get(&peer).map_or(&[], Vec::as_slice)
    }
}

/// What each server answered, in the order of the keys, and what further servers of a name sent. Respondents and replies
/// are both in that order.
fn answers(gathered: &Gathered) -> (Vec<Answered<'_>>, BTreeMap<ServerKey, Vec<&Reply>>) {
    let mut answers: Vec<Answered<'_>> = Vec::with_capacity(gathered.heard);
    let mut namesakes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut replies = gathered.replies.iter().peekable();
    // Whoever was heard lives. What cannot be read has no reply.
    for respondent in gathered.respondents.iter().filter(|respondent| respondent.delay.is_some()) {
        let ServerKey { peer, domain } = &respondent.key;
        let mut answered = Answered { peer: *peer, domain, answer: Answer::Unreadable, reply: None };
        let is = |reply: &Arc<Reply>| reply.server.peer == *peer && reply.server.domain == *domain;
        while let Some(reply) = replies.next_if(|reply| is(reply)) {
            let reply = &**reply;
            let answer = answer_of(reply);
            // Of two servers with one name, the member counts.
            let counts = answered.answer != Answer::Member && answer == Answer::Member;
            if answered.reply.is_none() || counts {
                (answered.answer, answered.reply) = (answer, Some(reply));
            } else {
                namesakes.entry(respondent.key.clone()).or_default().push(reply);
            }
        }
        answers.push(answered);
    }
    (answers, namesakes)
}

fn answer_of(reply: &Reply) -> Answer {
    match &reply.jetstream {
        JetStream::Member(_) => Answer::Member,
        JetStream::Standalone => Answer::Standalone,
        JetStream::Disabled => Answer::Disabled,
    }
}
