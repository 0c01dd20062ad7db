//! Answers to one request that cannot all be a server's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::ServerKey;
use crate::name::{Name, join_some};
use crate::wire::{JetStream, Reply, Server};

/// So many runs are named by one conflict.
const IDS_MAX: usize = 8;

/// Answers to one request that cannot all be one server's: somebody else sends under its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Whose name they came under.
    pub server: ServerKey,
    /// What contradicts what.
    pub kind: ConflictKind,
    /// That name.
    pub name: Name,
    /// The ids of the runs that the answers name, in order and each once; the first of them.
    pub ids: Vec<Name>,
}

/// What contradicts what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// One run gave two answers that differ in more than their sequence number, or one of which cannot be read. A
    /// server answers a request once.
    Answers,
    /// Several runs of one cluster say that they have different parts in JetStream. (Servers of different clusters,
    /// a hub and a leaf, can share a name.)
    Parts,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |id: &Name| if id.is_empty() { "without an id".to_owned() } else { id.to_string() };
        let (name, ids) = (&self.name, join_some(self.ids.iter().map(shown)));
        match self.kind {
            ConflictKind::Answers => write!(f, "{name} ({ids}) gave two different answers to one request"),
            ConflictKind::Parts => {
                write!(f, "servers with different parts in JetStream answer as {name} ({ids})")
            }
        }
    }
}

/// Whether two answers of one run are the same but for their sequence numbers.
pub(super) fn agree(one: &Reply, other: &Reply) -> bool {
    fn about(server: &Server) -> [&Name; 5] {
        [&server.name, &server.id, &server.cluster, &server.domain, &server.version]
    }
    one.jetstream == other.jetstream && one.flaws == other.flaws && about(&one.server) == about(&other.server)
}

/// The conflicts among these replies, in order. `contradicted` are the runs that gave different answers. The replies are
/// in the order of their servers' keys.
pub(super) fn conflicts<'a>(
    replies: &'a [Arc<Reply>],
    contradicted: impl Iterator<Item = (&'a Name, &'a Reply)>,
) -> Vec<Conflict> {
    let mut ids: BTreeMap<(ServerKey, ConflictKind, &Name), BTreeSet<&Name>> = BTreeMap::new();
    for (id, reply) in contradicted {
        let key = (ServerKey::of(&reply.server), ConflictKind::Answers, &reply.server.name);
        ids.entry(key).or_default().insert(id);
    }
    let same_server = |one: &Arc<Reply>, other: &Arc<Reply>| {
        one.server.peer == other.server.peer && one.server.domain == other.server.domain
    };
    for runs in replies.chunk_by(same_server).filter(|runs| runs.len() > 1) {
        let mut clusters: BTreeMap<&Name, Vec<&Reply>> = BTreeMap::new();
        for reply in runs.iter().filter(|reply| !reply.server.cluster.is_empty()) {
            clusters.entry(&reply.server.cluster).or_default().push(reply);
        }
        for replies in clusters.values().filter(|replies| differ_in_part(replies)) {
            let key = (ServerKey::of(&runs[0].server), ConflictKind::Parts, &replies[0].server.name);
            ids.entry(key).or_default().extend(replies.iter().map(|reply| &reply.server.id));
        }
    }
    let conflict = |((server, kind, name), ids): ((ServerKey, _, &Name), BTreeSet<&Name>)| Conflict {
        server,
        kind,
        name: name.clone(),
        ids: ids.into_iter().take(IDS_MAX).cloned().collect(),
    };
    ids.into_iter().map(conflict).collect()
}

fn differ_in_part(replies: &[&Reply]) -> bool {
    let part = |reply: &Reply| std::mem::discriminant::<JetStream>(&reply.jetstream);
    replies.windows(2).any(|pair| part(pair[0]) != part(pair[1]))
}
