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
use super::unchanged::Unchanged;
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::wire::{JetStream, Meta, Reply};

/// The replies of one meta group, under its key.
#[derive(Default)]
pub(super) struct GroupReplies<'a> {
    pub(super) domain: Name,
    pub(super) members: Vec<(&'a Reply, &'a Meta)>,
}

/// Replies that name each other's peers.
#[derive(Default)]
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

/// Replies by the key of their group; and the domains in which somebody names a leader that does not answer there.
type Linked<'a> = (BTreeMap<Name, GroupReplies<'a>>, BTreeSet<Name>);

/// Sorts the replies of members into groups, by the key of the group.
pub(super) fn link<'a>(
    gathered: &'a Gathered,
    unchanged: &Unchanged,
    history: &History,
    inconsistent: &mut Inconsistencies,
) -> Linked<'a> {
    let (mut components, strays) = components(gathered, unchanged, history, inconsistent);
    // The order in which keys are given away must not depend on the order of the replies.
    components.sort_by_cached_key(|component| {
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
    let mut homes =
        single.iter().any(|component| component.remembered.is_none()).then(|| homes(history, &groups));
    for component in single {
        let home = || homes.as_ref().map(|homes| home(&component, homes)).unwrap_or_default();
        let key = component.remembered.clone().unwrap_or_else(home);
        if let Some(homes) = homes.as_mut().filter(|_| !groups.contains_key(&key)) {
            homes.entry(component.domain()).or_default().insert(key.clone());
        }
        join(&mut groups, key, component);
    }
    (groups, strays)
}

fn join<'a>(groups: &mut BTreeMap<Name, GroupReplies<'a>>, key: Name, component: Component<'a>) {
    let domain = component.domain();
    let replies = groups.entry(key).or_insert_with(|| GroupReplies { domain, members: Vec::new() });
    replies.members.extend(component.members);
}

/// The keys of the groups of each domain: of those that answer, and of those that are remembered.
type Homes = BTreeMap<Name, BTreeSet<Name>>;

fn homes(history: &History, groups: &BTreeMap<Name, GroupReplies<'_>>) -> Homes {
    let mut homes = Homes::new();
    let answering = groups.iter().map(|(key, replies)| (key, &replies.domain));
    for (key, domain) in answering.chain(history.groups().map(|(key, group)| (key, &group.domain))) {
        homes.entry(domain.clone()).or_default().insert(key.clone());
    }
    homes
}

/// Where a reply belongs that names nobody else and was never seen in a group: the only group of its domain, else
/// the one that is made of all such replies.
fn home(component: &Component<'_>, homes: &Homes) -> Name {
    let domain = component.domain();
    let known = homes.get(&domain);
    match known.map_or(0, BTreeSet::len) {
        0 => base_key(&domain),
        1 => known.and_then(BTreeSet::first).cloned().unwrap_or_default(),
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
    unchanged: &Unchanged,
    history: &History,
    inconsistent: &mut Inconsistencies,
) -> (Vec<Component<'a>>, BTreeSet<Name>) {
    let members: Vec<(&Reply, &Meta)> = gathered
        .replies
        .iter()
        .filter(|reply| !unchanged.has(&reply.server.domain))
        .filter_map(|reply| match &reply.jetstream {
            JetStream::Member(meta) => Some((&**reply, meta)),
            JetStream::Standalone | JetStream::Disabled => None,
        })
        .collect();
    let mut sets = Sets::default();
    let mut nodes = Vec::with_capacity(members.len());
    for (reply, meta) in &members {
        let domain = sets.domain(&reply.server.domain);
        let own = sets.node(domain, reply.server.peer);
        let leader = meta.leader_id.map(|leader| sets.node(domain, leader));
        if let Some(leader) = leader {
            sets.join(own, leader);
        }
        for row in &meta.rows {
            let node = sets.node(domain, row.peer);
            sets.join(own, node);
        }
        nodes.push(Node { own, leader });
    }
    let strays = join_across_domains(&members, &nodes, &mut sets, inconsistent);
    let mut components: Vec<Component<'a>> = Vec::new();
    // Which component each root stands for.
    let mut places = vec![None; sets.parent.len()];
    for (key, node) in sets.keys() {
        let root = sets.root(node);
        let place = *places[root].get_or_insert(components.len());
        if place == components.len() {
            components.push(Component::default());
        }
        components[place].keys.push(key);
    }
    for (member, node) in members.into_iter().zip(nodes) {
        if let Some(place) = places[sets.root(node.own)] {
            components[place].members.push(member);
        }
    }
    (components.into_iter().map(|component| remembered(component, history)).collect(), strays)
}

/// Where a member and the leader that it names are among the sets.
struct Node {
    own: usize,
    leader: Option<usize>,
}

fn remembered<'a>(mut component: Component<'a>, history: &History) -> Component<'a> {
    component.keys.sort();
    let mut hits: BTreeMap<&Name, usize> = BTreeMap::new();
    // Almost always one domain: it is looked up once.
    for keys in component.keys.chunk_by(|one, other| one.domain == other.domain) {
        let groups = keys.first().and_then(|key| history.groups_in(&key.domain));
        for group in keys.iter().filter_map(|key| groups?.get(&key.peer)) {
            *hits.entry(group).or_default() += 1;
        }
    }
    let best = hits.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0)));
    if let Some((group, overlap)) = best {
        (component.remembered, component.overlap) = (Some(group.clone()), overlap);
    }
    component
}

/// A member can answer under another domain than its leader for a while (a domain that is introduced by a rolling
/// restart). It belongs to the leader that lists it, if nobody of that leader's own domain has its place. Gives the
/// domains of all whose leader does not answer in their own.
fn join_across_domains(
    members: &[(&Reply, &Meta)],
    nodes: &[Node],
    sets: &mut Sets,
    inconsistent: &mut Inconsistencies,
) -> BTreeSet<Name> {
    let mut domains = BTreeSet::new();
    let mut answered = vec![false; sets.parent.len()];
    nodes.iter().for_each(|node| answered[node.own] = true);
    let leads_here = |node: &Node| node.leader.is_none_or(|leader| answered[leader]);
    let mut strays = members.iter().zip(nodes).filter(|(_, node)| !leads_here(node)).peekable();
    if strays.peek().is_none() {
        return domains;
    }
    let mut leaders: BTreeMap<PeerId, Vec<(&Reply, &Meta, usize)>> = BTreeMap::new();
    for ((reply, meta), node) in members.iter().zip(nodes).filter(|((reply, meta), _)| claims(reply, meta)) {
        leaders.entry(reply.server.peer).or_default().push((reply, meta, node.own));
    }
    for ((reply, meta), node) in strays {
        let server = &reply.server;
        domains.insert(server.domain.clone());
        for (leader, list, leader_node) in meta.leader_id.iter().filter_map(|id| leaders.get(id)).flatten() {
            let lists_it = list.rows.iter().any(|row| row.peer == server.peer);
            let has_its_place = |place: usize| answered.get(place) == Some(&true);
            if lists_it && !sets.find(&leader.server.domain, server.peer).is_some_and(has_its_place) {
                sets.join(node.own, *leader_node);
                inconsistent.note(format!(
                    "{} answers with the domain `{}`, its leader {} with `{}`",
                    server.name, server.domain, leader.server.name, leader.server.domain
                ));
                break;
            }
        }
    }
    domains
}

/// Disjoint sets of servers (union-find with path halving), by domain: the servers of one group are few, and near to
/// each other.
#[derive(Default)]
struct Sets {
    domains: BTreeMap<Name, usize>,
    nodes: Vec<BTreeMap<PeerId, usize>>,
    parent: Vec<usize>,
}

impl Sets {
    fn domain(&mut self, name: &Name) -> usize {
        if let Some(domain) = self.domains.get(name) {
            return *domain;
        }
        self.domains.insert(name.clone(), self.nodes.len());
        self.nodes.push(BTreeMap::new());
        self.nodes.len() - 1
    }

    fn node(&mut self, domain: usize, peer: PeerId) -> usize {
        let next = self.parent.len();
        let node = *self.nodes[domain].entry(peer).or_insert(next);
        if node == next {
            self.parent.push(next);
        }
        node
    }

    fn find(&self, domain: &Name, peer: PeerId) -> Option<usize> {
        self.nodes[*self.domains.get(domain)?].get(&peer).copied()
    }

    /// Every server that there is, with its node.
    fn keys(&mut self) -> Vec<(ServerKey, usize)> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut keys = Vec::with_capacity(self.parent.len());
        for (domain, place) in std::mem::take(&mut self.domains) {
            let key = |peer: PeerId| ServerKey { peer, domain: domain.clone() };
            keys.extend(nodes[place].iter().map(|(peer, node)| (key(*peer), *node)));
        }
        keys
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
