//! What everyone sent in one epoch, by server, and whose answer it is.

use std::collections::{BTreeMap, BTreeSet};

use super::Answer;
use super::history::ServerHistory;
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::wire::{JetStream, Reply, Statsz};

/// What everyone sent, by server: looked up by every group.
pub(super) struct ReplyIndex<'a> {
    /// No reply where none could be read.
    by_key: BTreeMap<ServerKey, (Answer, Option<&'a Reply>)>,
    /// What further servers of a name sent.
    namesakes: BTreeMap<ServerKey, Vec<&'a Reply>>,
    statsz: BTreeMap<&'a Name, BTreeMap<&'a Name, Vec<&'a Statsz>>>,
}

impl<'a> ReplyIndex<'a> {
    pub(super) fn new(gathered: &'a Gathered) -> Self {
        // Whoever was heard lives. What cannot be read has no reply below.
        let unreadable = gathered.delays.keys().map(|key| (key.clone(), (Answer::Unreadable, None)));
        let mut by_key: BTreeMap<_, (_, Option<&Reply>)> = unreadable.collect();
        let mut namesakes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for reply in &gathered.replies {
            let key = ServerKey::of(&reply.server);
            let answer = answer_of(reply);
            match by_key.get_mut(&key) {
                // Of two servers with one name, the member counts.
                Some((known, Some(_))) if *known == Answer::Member || answer != Answer::Member => {
                    namesakes.entry(key).or_default().push(reply);
                }
                Some(sent) => *sent = (answer, Some(reply)),
                None => {
                    by_key.insert(key, (answer, Some(reply)));
                }
            }
        }
        let mut statsz: BTreeMap<_, BTreeMap<_, Vec<&Statsz>>> = BTreeMap::new();
        for reply in &gathered.statsz {
            let domain = statsz.entry(&reply.server.domain).or_default();
            domain.entry(&reply.server.cluster).or_default().push(reply);
        }
        Self { by_key, namesakes, statsz }
    }

    /// How a peer answered, of which `known` is remembered and whose group answers from the clusters `group`. A server outside the group can have its name (a leaf
    /// that is named like a server of the hub): what such a one says is not the peer's answer.
    pub(super) fn of(
        &self,
        server: &ServerKey,
        known: Option<&ServerHistory>,
        group: &BTreeSet<Name>,
    ) -> Answer {
        let Some((answer, reply)) = self.by_key.get(server) else { return Answer::None };
        let Some(reply) = reply.filter(|_| *answer != Answer::Member) else { return *answer };
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

    /// The cluster of a server that holds a route to this one. Routes join servers of one cluster only.
    pub(super) fn cluster_with_a_route_to(&self, peer: PeerId, domain: &Name) -> Option<&'a Name> {
        let clusters = self.statsz.get(domain).into_iter().flatten();
        let holds = |reply: &&Statsz| reply.routes.binary_search(&peer).is_ok();
        clusters.filter(|(_, replies)| replies.iter().any(holds)).map(|(cluster, _)| *cluster).next()
    }

    /// Whether the server answered `STATSZ` itself; from any cluster where its own is not known.
    pub(super) fn has_statsz_of(&self, peer: PeerId, domain: &Name, cluster: &Name) -> bool {
        let clusters = self.statsz.get(domain).into_iter().flatten();
        clusters
            .filter(|(of, _)| cluster.is_empty() || **of == cluster)
            .any(|(_, replies)| replies.iter().any(|reply| reply.server.peer == peer))
    }
}

fn answer_of(reply: &Reply) -> Answer {
    match &reply.jetstream {
        JetStream::Member(_) => Answer::Member,
        JetStream::Standalone => Answer::Standalone,
        JetStream::Disabled => Answer::Disabled,
    }
}
