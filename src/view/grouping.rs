//! Which replies belong to one meta group.
//!
//! Replies are joined by the peers they name (their own, their leader, their rows), never by cluster name: one group
//! can answer under several (facts of nats-server 2.9 to 2.15: `meta_cluster.name` is the responder's cluster).
//! A reply that names nobody else (a member without a leader, up to 2.14) goes where its peer was last seen, else
//! to the only group of its domain.

use std::collections::{BTreeMap, BTreeSet};

use super::Inconsistencies;
use super::history::History;
use super::leader::{claims, complete};
use crate::epoch::{Gathered, ServerKey};
use crate::name::Name;
use crate::wire::{JetStream, Meta, Reply};

/// The replies of one meta group, under its key.
#[derive(Default)]
pub(super) struct GroupReplies<'a> {
    pub(super) domain: Name,
    pub(super) members: Vec<(&'a Reply, &'a Meta)>,
}

/// Replies that name each other's peers.
struct Component<'a> {
    members: Vec<(&'a Reply, &'a Meta)>,
    /// In order.
    keys: Vec<ServerKey>,
    /// The remembered group that most of its peers belong to.
    remembered: Option<Name>,
    overlap: usize,
}

impl Component<'_> {
    fn domain(&self) -> Name {
        self.members.first().map(|(reply, _)| reply.server.domain.clone()).unwrap_or_default()
    }

    fn names_nobody_else(&self) -> bool {
        self.keys.len() == 1
    }

    /// Whether a member claims to lead it and lists every peer: then it is a group of its own.
    fn stands_alone(&self) -> bool {
        self.members.iter().any(|(reply, meta)| claims(reply, meta) && complete(meta))
    }
}

/// Sorts the replies of members into groups, by the key of the group.
pub(super) fn link<'a>(
    gathered: &'a Gathered,
    history: &History,
    inconsistent: &mut Inconsistencies,
) -> BTreeMap<Name, GroupReplies<'a>> {
    let mut components = components(gathered, history, inconsistent);
    // The order in which keys are given away must not depend on the order of the replies.
    components.sort_by_key(|component| {
        let first = component.keys.first().cloned();
        (!component.stands_alone(), usize::MAX - component.overlap, usize::MAX - component.keys.len(), first)
    });
    let mut groups = BTreeMap::new();
    let (single, joined): (Vec<_>, Vec<_>) = components
        .into_iter()
        .partition(|component| component.names_nobody_else() && !component.stands_alone());
    for component in joined {
        let key = match &component.remembered {
            Some(key) if !(component.stands_alone() && groups.contains_key(key)) => key.clone(),
            _ => free_key(&component, history, &groups),
        };
        join(&mut groups, key, component);
    }
    for component in single {
        let key = component.remembered.clone().unwrap_or_else(|| home(&component, history, &groups));
        join(&mut groups, key, component);
    }
    groups
}

fn join<'a>(groups: &mut BTreeMap<Name, GroupReplies<'a>>, key: Name, component: Component<'a>) {
    let domain = component.domain();
    let replies = groups.entry(key).or_insert_with(|| GroupReplies { domain, members: Vec::new() });
    replies.members.extend(component.members);
}

/// Where a reply belongs that names nobody else and was never seen in a group: the only group of its domain, else
/// the one that is made of all such replies.
fn home(component: &Component<'_>, history: &History, groups: &BTreeMap<Name, GroupReplies<'_>>) -> Name {
    let domain = component.domain();
    let mut known: BTreeSet<&Name> =
        groups.iter().filter(|(_, replies)| replies.domain == domain).map(|(key, _)| key).collect();
    known.extend(history.groups().filter(|(_, group)| group.domain == domain).map(|(key, _)| key));
    match known.len() {
        0 => base_key(&domain),
        1 => known.first().copied().cloned().unwrap_or_default(),
        _ => {
            let cluster = component.members.first().map(|(reply, _)| reply.server.cluster.clone());
            Name::new(&format!("{}-{}", base_key(&domain).as_str(), cluster.unwrap_or_default().as_str()))
        }
    }
}

fn base_key(domain: &Name) -> Name {
    if domain.is_empty() { Name::new("default") } else { domain.clone() }
}

/// A key that no other group has: the domain, else `default`; then with the cluster; then with a peer's id.
fn free_key(component: &Component<'_>, history: &History, groups: &BTreeMap<Name, GroupReplies<'_>>) -> Name {
    let base = base_key(&component.domain());
    // A group that only saved alerts tell of has been waiting for this one.
    let heard = |key: &Name| history.group(key).is_some_and(|group| group.first_heard.is_some());
    let taken = |key: &Name| groups.contains_key(key) || heard(key);
    if !taken(&base) {
        return base;
    }
    let cluster = component.members.iter().map(|(reply, _)| &reply.server.cluster).min();
    let key = Name::new(&format!("{}-{}", base.as_str(), cluster.map_or("", Name::as_str)));
    if !taken(&key) {
        return key;
    }
    let first = component.keys.first().map(|key| key.peer.to_string()).unwrap_or_default();
    Name::new(&format!("{}-{first}", base.as_str()))
}

fn components<'a>(
    gathered: &'a Gathered,
    history: &History,
    inconsistent: &mut Inconsistencies,
) -> Vec<Component<'a>> {
    let members: Vec<(&Reply, &Meta)> = gathered
        .replies
        .iter()
        .filter_map(|reply| match &reply.jetstream {
            JetStream::Member(meta) => Some((reply, meta)),
            JetStream::Standalone | JetStream::Disabled => None,
        })
        .collect();
    let mut sets = Sets::default();
    let mut nodes = Vec::with_capacity(members.len());
    for (reply, meta) in &members {
        let domain = &reply.server.domain;
        let own = sets.node(ServerKey::of(&reply.server));
        let named = meta.leader_id.into_iter().chain(meta.rows.iter().map(|row| row.peer));
        for peer in named {
            let node = sets.node(ServerKey { peer, domain: domain.clone() });
            sets.join(own, node);
        }
        nodes.push(own);
    }
    join_across_domains(&members, &mut sets, inconsistent);
    let mut components: BTreeMap<usize, Component<'a>> = BTreeMap::new();
    for (key, node) in std::mem::take(&mut sets.index) {
        let root = sets.root(node);
        let component = components.entry(root).or_insert_with(|| Component {
            members: Vec::new(),
            keys: Vec::new(),
            remembered: None,
            overlap: 0,
        });
        component.keys.push(key);
    }
    for (member, node) in members.into_iter().zip(nodes) {
        if let Some(component) = components.get_mut(&sets.root(node)) {
            component.members.push(member);
        }
    }
    components.into_values().map(|component| remembered(component, history)).collect()
}

fn remembered<'a>(mut component: Component<'a>, history: &History) -> Component<'a> {
    let mut hits: BTreeMap<&Name, usize> = BTreeMap::new();
    for group in component.keys.iter().filter_map(|key| history.group_of(key)) {
        *hits.entry(group).or_default() += 1;
    }
    let best = hits.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0)));
    if let Some((group, overlap)) = best {
        (component.remembered, component.overlap) = (Some(group.clone()), overlap);
    }
    component
}

/// A member can answer under another domain than its leader for a while (a domain that is introduced by a rolling
/// restart). It belongs to the leader that lists it, if nobody of that leader's own domain has its place.
fn join_across_domains(members: &[(&Reply, &Meta)], sets: &mut Sets, inconsistent: &mut Inconsistencies) {
    let leaders: Vec<_> = members.iter().filter(|(reply, meta)| claims(reply, meta)).collect();
    if leaders.len() == members.len() {
        return;
    }
    let answered: BTreeSet<ServerKey> =
        members.iter().map(|(reply, _)| ServerKey::of(&reply.server)).collect();
    for (reply, meta) in members {
        let Some(leader_id) = meta.leader_id else { continue };
        let own = ServerKey::of(&reply.server);
        if answered.contains(&ServerKey { peer: leader_id, domain: own.domain.clone() }) {
            continue;
        }
        for (leader, list) in &leaders {
            let place = ServerKey { peer: own.peer, domain: leader.server.domain.clone() };
            let lists_it = list.rows.iter().any(|row| row.peer == own.peer);
            if leader.server.peer == leader_id && lists_it && !answered.contains(&place) {
                let (own, leader_node) = (sets.node(own.clone()), sets.node(ServerKey::of(&leader.server)));
                sets.join(own, leader_node);
                inconsistent.note(format!(
                    "{} answers with the domain `{}`, its leader {} with `{}`",
                    reply.server.name, reply.server.domain, leader.server.name, leader.server.domain
                ));
                break;
            }
        }
    }
}

/// Disjoint sets of servers (union-find with path halving).
#[derive(Default)]
struct Sets {
    index: BTreeMap<ServerKey, usize>,
    parent: Vec<usize>,
}

impl Sets {
    fn node(&mut self, key: ServerKey) -> usize {
        let next = self.parent.len();
        let node = *self.index.entry(key).or_insert(next);
        if node == next {
            self.parent.push(next);
        }
        node
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.parent[node] != node {
            self.parent[node] = self.parent[self.parent[node]];
            node = self.parent[node];
        }
        node
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller index wins, whatever the order of the calls.
        self.parent[a.max(b)] = a.min(b);
    }
}
