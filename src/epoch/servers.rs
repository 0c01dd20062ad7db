//! Who is expected in an open epoch, and what came of whom. What the epoch asks of all of them after each reply is
//! counted as it changes: nothing walks over all servers before the end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Expected, Respondent, ServerKey};
use crate::name::Name;
use crate::wire::{Meta, Reply};

/// What an open epoch knows of one server.
#[derive(Debug, Default)]
struct Asked {
    name: Option<Name>,
    /// The plan counts on it.
    expected: bool,
    /// A leader lists it.
    listed: bool,
    /// The epoch stays open for it.
    awaited: bool,
    /// How long it took to give a sign of life.
    delay: Option<Duration>,
    /// Where the reply is of the first of its runs that answered.
    first: Option<usize>,
}

/// The servers of an epoch, and how many there are of a kind.
#[derive(Debug, Default)]
pub(super) struct Servers {
    asked: BTreeMap<ServerKey, Asked>,
    heard: usize,
    /// Awaited, and not heard.
    awaited: usize,
    listed: usize,
    /// Listed by a leader, and not heard.
    silent_listed: usize,
    /// Expected or listed, and not heard.
    silent: usize,
}

impl Servers {
    /// Those that the plan counts on.
    pub(super) fn expected(expected: BTreeMap<ServerKey, Expected>) -> Self {
        let silent = expected.len();
        let awaited = expected.values().filter(|expected| expected.awaited).count();
        let asked = |Expected { name, awaited }| Asked { name, expected: true, awaited, ..Asked::default() };
        let asked = expected.into_iter().map(|(key, expected)| (key, asked(expected))).collect();
        Self { asked, awaited, silent, ..Self::default() }
    }

    /// How many have given a sign of life.
    pub(super) fn heard(&self) -> usize {
        self.heard
    }

    /// Whether the epoch stays open for anybody who has not been heard.
    pub(super) fn somebody_is_awaited(&self) -> bool {
        self.awaited > 0
    }

    pub(super) fn somebody_is_listed(&self) -> bool {
        self.listed > 0
    }

    /// Whether everybody who is listed has been heard.
    pub(super) fn listed_are_heard(&self) -> bool {
        self.silent_listed == 0
    }

    /// Whether everybody who is expected or listed has been heard.
    pub(super) fn all_are_heard(&self) -> bool {
        self.silent == 0
    }

    /// A server gives a sign of life, after so long. Gives the place of its first reply, to be filled in.
    pub(super) fn hear(&mut self, key: ServerKey, after: Duration) -> &mut Option<usize> {
        let asked = self.asked.entry(key).or_default();
        if asked.delay.is_none() {
            asked.delay = Some(after);
            self.heard += 1;
            self.silent -= usize::from(asked.expected || asked.listed);
            self.silent_listed -= usize::from(asked.listed);
            self.awaited -= usize::from(std::mem::take(&mut asked.awaited));
        }
        &mut asked.first
    }

    /// A leader lists a server.
    pub(super) fn list(&mut self, key: ServerKey, name: Option<&Name>) {
        let asked = self.asked.entry(key).or_default();
        if !std::mem::replace(&mut asked.listed, true) {
            let silent = asked.delay.is_none();
            self.listed += 1;
            self.silent_listed += usize::from(silent);
            self.silent += usize::from(silent && !asked.expected);
        }
        if !asked.expected && asked.name.is_none() {
            asked.name = name.cloned();
        }
    }

    /// A server says that it stops: it is not awaited. Whether it was expected.
    pub(super) fn stops(&mut self, key: &ServerKey) -> bool {
        let Some(asked) = self.asked.get_mut(key) else { return false };
        self.awaited -= usize::from(std::mem::take(&mut asked.awaited));
        asked.expected
    }

    fn is_heard(&self, key: &ServerKey) -> bool {
        self.asked.get(key).is_some_and(|asked| asked.delay.is_some())
    }

    /// Names a server, where nothing better is known.
    pub(super) fn name(&mut self, key: ServerKey, name: &Name) {
        self.asked.entry(key).or_default().name.get_or_insert_with(|| name.clone());
    }

    /// All servers, and all replies, both in the order of the keys; the replies of a server by the ids of its runs.
    pub(super) fn close(self, replies: Replies) -> (Vec<Respondent>, Vec<Reply>) {
        let Replies { came, several } = replies;
        let mut came: Vec<Option<Reply>> = came.into_iter().map(Some).collect();
        let mut in_order = Vec::with_capacity(came.len());
        let mut respondents = Vec::with_capacity(self.asked.len());
        for (key, Asked { mut name, delay, first, .. }) in self.asked {
            let before = in_order.len();
            let mut next = |place: usize| in_order.extend(came.get_mut(place).and_then(Option::take));
            match first.map(|place| several.get(&place).ok_or(place)) {
                Some(Ok(runs)) => runs.values().for_each(|place| next(*place)),
                Some(Err(place)) => next(place),
                None => {}
            }
            if let Some(reply) = in_order[before..].last()
                && name.as_ref() != Some(&reply.server.name)
            {
                name = Some(reply.server.name.clone());
            }
            respondents.push(Respondent { key, name, delay });
        }
        (respondents, in_order)
    }
}

/// Whether the members that answered account for each other: each leads, with a list of as many as it counts, or names
/// a leader that has answered, too.
#[derive(Debug, Default)]
pub(super) struct RollCall {
    lists: usize,
    /// The leaders that somebody names and nobody has heard.
    silent_leaders: BTreeSet<ServerKey>,
    /// Somebody names no leader, or has a list that lacks somebody.
    open: bool,
}

impl RollCall {
    /// Takes in the word of a member.
    pub(super) fn hear(&mut self, reply: &Reply, meta: &Meta, servers: &Servers) {
        let own = ServerKey::of(&reply.server);
        match meta.leader_id {
            Some(leader) if leader == own.peer => {
                let whole = meta.unreadable_rows == 0 && i64::try_from(meta.rows.len() + 1) == Ok(meta.size);
                self.lists += usize::from(whole);
                self.open |= !whole;
            }
            Some(leader) => {
                let leader = ServerKey { peer: leader, domain: own.domain.clone() };
                if !servers.is_heard(&leader) {
                    self.silent_leaders.insert(leader);
                }
            }
            None => self.open = true,
        }
        self.silent_leaders.remove(&own);
    }

    /// Whether nobody is left to be heard, by their word.
    pub(super) fn is_complete(&self) -> bool {
        self.lists > 0 && self.silent_leaders.is_empty() && !self.open
    }
}

/// The replies of an open epoch, in the order in which they came: one a run of a server.
#[derive(Debug, Default)]
pub(super) struct Replies {
    came: Vec<Reply>,
    /// The runs of those servers of which several answered, by the place of the first reply.
    several: BTreeMap<usize, BTreeMap<Name, usize>>,
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.came.len()
    }

    /// Keeps a reply, of a server whose first one is there; gives it back, with the one that this run has given
    /// already, if it has.
    pub(super) fn take(&mut self, first: &mut Option<usize>, reply: Reply) -> Option<(Reply, &mut Reply)> {
        let place = self.came.len();
        let Some(first) = *first else {
            *first = Some(place);
            self.came.push(reply);
            return None;
        };
        let known = &self.came[first].server.id;
        if *known == reply.server.id {
            return Some((reply, &mut self.came[first]));
        }
        let runs = self.several.entry(first).or_insert_with(|| BTreeMap::from([(known.clone(), first)]));
        match runs.entry(reply.server.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(place);
                self.came.push(reply);
                None
            }
            Entry::Occupied(entry) => Some((reply, &mut self.came[*entry.get()])),
        }
    }
}

/// The reply of this run, among replies in order.
pub(super) fn of_run<'a>(replies: &'a [Reply], key: &ServerKey, id: &Name) -> Option<&'a Reply> {
    let of = |reply: &Reply| {
        let server = &reply.server;
        (server.peer, &server.domain, &server.id).cmp(&(key.peer, &key.domain, id))
    };
    replies.binary_search_by(of).ok().map(|place| &replies[place])
}
