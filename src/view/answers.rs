//! What everyone sent in one epoch, by server, and whose answer it is.

use std::collections::{BTreeMap, BTreeSet};

use super::Answer;
use super::memory::ServerMemory;
use crate::epoch::{Gathered, ServerKey};
use crate::name::Name;
use crate::wire::{JetStream, Reply, Statsz};

/// What everyone sent, by server: looked up by every group.
pub(super) struct Answers<'a> {
    by_key: BTreeMap<ServerKey, Sent<'a>>,
    statsz: BTreeMap<&'a Name, BTreeMap<&'a Name, Vec<&'a Statsz>>>,
}

/// What was sent under one name.
struct Sent<'a> {
    answer: Answer,
    /// No reply where none could be read.
    reply: Option<&'a Reply>,
    /// Of others of that name, none of them a member.
    others: Vec<&'a Reply>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(gathered: &'a Gathered) -> Self {
        // Whoever was heard lives. What cannot be read has no reply below.
        let unreadable = || Sent { answer: Answer::Unreadable, reply: None, others: Vec::new() };
        let mut by_key: BTreeMap<_, _> =
            gathered.delays.keys().map(|key| (key.clone(), unreadable())).collect();
        for reply in &gathered.replies {
            let sent = by_key.entry(ServerKey::of(&reply.server)).or_insert_with(unreadable);
            let answer = answer_of(reply);
            match sent.reply {
                // Of two servers with one name, the member counts.
                Some(_) if sent.answer == Answer::Member || answer != Answer::Member => {
                    sent.others.push(reply);
                }
                _ => (sent.answer, sent.reply) = (answer, Some(reply)),
            }
        }
        let mut statsz: BTreeMap<_, BTreeMap<_, Vec<&Statsz>>> = BTreeMap::new();
        for reply in &gathered.statsz {
            let domain = statsz.entry(&reply.server.domain).or_default();
            domain.entry(&reply.server.cluster).or_default().push(reply);
        }
        Self { by_key, statsz }
    }

    /// How a peer answered, which is remembered as `server`. A server outside the group can have its name (a leaf
    /// that is named like a server of the hub): what such a one says is not the peer's answer.
    pub(super) fn of(
        &self,
        server: &ServerKey,
        known: Option<&ServerMemory>,
        group: &BTreeSet<Name>,
    ) -> Answer {
        let Some(sent) = self.by_key.get(server) else { return Answer::None };
        let Some(reply) = sent.reply.filter(|_| sent.answer != Answer::Member) else { return sent.answer };
        let member = known.filter(|known| known.member && !known.cluster.is_empty());
        let own = |reply: &&Reply| match (member, &reply.jetstream) {
            (Some(member), _) => member.cluster == reply.server.cluster,
            (None, JetStream::Standalone) => group.is_empty() || group.contains(&reply.server.cluster),
            (None, _) => true,
        };
        let mut sent = std::iter::once(reply).chain(sent.others.iter().copied());
        sent.find(own).map_or(Answer::None, answer_of)
    }

    /// The answers to `STATSZ` from the servers of one cluster.
    pub(super) fn statsz(&self, domain: &Name, cluster: &Name) -> &[&'a Statsz] {
        self.statsz.get(domain).and_then(|clusters| clusters.get(cluster)).map_or(&[], Vec::as_slice)
    }
}

fn answer_of(reply: &Reply) -> Answer {
    match &reply.jetstream {
        JetStream::Member(_) => Answer::Member,
        JetStream::Standalone => Answer::Standalone,
        JetStream::Disabled => Answer::Disabled,
    }
}
