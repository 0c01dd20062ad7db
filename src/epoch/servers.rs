//! Who is expected in an open epoch, and what came of whom. What the epoch asks of all of them after each reply is
//! counted as it changes: nothing walks over all servers before the end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
    answered: Answered,
}

/// What came of a server.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Where the reply is of the first of its runs that answered.
    first: Option<usize>,
    /// That is the same as in the epoch before.
    pub(super) unchanged: bool,
    /// How much came, readable or not.
    answers: u32,
}

/// The servers of an epoch, and how many there are of a kind.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// Those that the plan counts on, in the order of their keys ...
    expected: Vec<(ServerKey, Asked)>,
    /// ... and the others.
    others: BTreeMap<ServerKey, Asked>,
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
    pub(super) fn expected(mut expected: Vec<(ServerKey, Expected)>) -> Self {
        if !expected.is_sorted_by(|(one, _), (other, _)| one < other) {
            expected.sort_by(|(one, _), (other, _)| one.cmp(other));
            expected.dedup_by(|(later, _), (earlier, _)| later == earlier);
        }
        let silent = expected.len();
        let awaited = expected.iter().filter(|(_, expected)| expected.awaited).count();
        let asked = |Expected { name, awaited }| Asked { name, expected: true, awaited, ..Asked::default() };
        let expected = expected.into_iter().map(|(key, expected)| (key, asked(expected))).collect();
        Self { expected, awaited, silent, ..Self::default() }
    }

    /// Where the server is among those that are expected; it may be at `hint`.
    pub(super) fn place(&self, key: &ServerKey, hint: usize) -> Option<usize> {
        if self.expected.get(hint).is_some_and(|(there, _)| there == key) {
            return Some(hint);
        }
        self.expected.binary_search_by(|(there, _)| there.cmp(key)).ok()
    }

    fn get(&self, key: &ServerKey) -> Option<&Asked> {
        self.place(key, usize::MAX).map(|place| &self.expected[place].1).or_else(|| self.others.get(key))
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

    /// A server gives a sign of life, after so long; `place` tells where it is among the expected. Gives what came of
    /// it, to be filled in.
    pub(super) fn hear(&mut self, key: ServerKey, place: Option<usize>, after: Duration) -> &mut Answered {
        let asked = entry(&mut self.expected, &mut self.others, key, place);
        if asked.delay.is_none() {
            asked.delay = Some(after);
            self.heard += 1;
            self.silent -= usize::from(asked.expected || asked.listed);
            self.silent_listed -= usize::from(asked.listed);
            self.awaited -= usize::from(std::mem::take(&mut asked.awaited));
        }
        asked.answered.answers = asked.answered.answers.saturating_add(1);
        &mut asked.answered
    }

    /// The keys of those that the plan counts on, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ServerKey> + Clone {
        self.expected.iter().map(|(key, _)| key)
    }

    /// A leader lists a server. Whether it is expected.
    pub(super) fn list(&mut self, key: ServerKey, name: Option<&Name>) -> bool {
        let place = self.place(&key, usize::MAX);
        let asked = entry(&mut self.expected, &mut self.others, key, place);
        if !std::mem::replace(&mut asked.listed, true) {
            let silent = asked.delay.is_none();
            self.listed += 1;
            self.silent_listed += usize::from(silent);
            self.silent += usize::from(silent && !asked.expected);
        }
        if !asked.expected && asked.name.is_none() {
            asked.name = name.cloned();
        }
        asked.expected
    }

    /// A server says that it stops: it is not awaited. Whether it was expected.
    pub(super) fn stops(&mut self, key: &ServerKey) -> bool {
        let place = self.place(key, usize::MAX);
        let expected = place.map(|place| &mut self.expected[place].1);
        let Some(asked) = expected.or_else(|| self.others.get_mut(key)) else { return false };
        self.awaited -= usize::from(std::mem::take(&mut asked.awaited));
        asked.expected
    }

    fn is_heard(&self, key: &ServerKey) -> bool {
        self.get(key).is_some_and(|asked| asked.delay.is_some())
    }

    /// Names a server, where nothing better is known.
    pub(super) fn name(&mut self, key: ServerKey, name: &Name) {
        let place = self.place(&key, usize::MAX);
        let asked = entry(&mut self.expected, &mut self.others, key, place);
        asked.name.get_or_insert_with(|| name.clone());
    }

    /// All servers, and all replies, both in the order of the keys; the replies of a server by the ids of its runs.
    pub(super) fn close(self, replies: Replies) -> (Vec<Respondent>, Vec<Arc<Reply>>) {
        let Replies { came, several } = replies;
        let mut came: Vec<Option<Arc<Reply>>> = came.into_iter().map(Some).collect();
        let mut in_order = Vec::with_capacity(came.len());
        let mut respondents = Vec::with_capacity(self.expected.len() + self.others.len());
        let mut others = self.others.into_iter().peekable();
        let mut expected = self.expected.into_iter().peekable();
        loop {
            let other_first = match (expected.peek(), others.peek()) {
                (Some((key, _)), Some((other, _))) => other < key,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let next = if other_first { others.next() } else { expected.next() };
            let Some((key, Asked { mut name, delay, answered: Answered { first, unchanged, answers }, .. })) =
                next
            else {
                return (respondents, in_order);
            };
            let before = in_order.len();
            let mut next = |place: usize| in_order.extend(came.get_mut(place).and_then(Option::take));
            match first.map(|place| several.get(&place).ok_or(place)) {
                Some(Ok(runs)) => runs.values().for_each(|place| next(*place)),
                Some(Err(place)) => next(place),
                None => {}
            }
            // What has not changed has not changed its name.
            let last = in_order[before..].last().filter(|_| !unchanged || name.is_none());
            if let Some(reply) = last
                && name.as_ref() != Some(&reply.server.name)
            {
                name = Some(reply.server.name.clone());
            }
            respondents.push(Respondent { key, name, delay, answers, unchanged: unchanged && answers == 1 });
        }
    }
}

/// What is known of a server: of an expected one at this place, or of another one.
fn entry<'a>(
    expected: &'a mut [(ServerKey, Asked)],
    others: &'a mut BTreeMap<ServerKey, Asked>,
    key: ServerKey,
    place: Option<usize>,
) -> &'a mut Asked {
    match place.and_then(|place| expected.get_mut(place)) {
        Some((_, asked)) => asked,
        None => others.entry(key).or_default(),
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
    came: Vec<Arc<Reply>>,
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

    /// Whether any server answered in more than one run.
    pub(super) fn are_of_several_runs(&self) -> bool {
        !self.several.is_empty()
    }

    /// Keeps a reply of a server; gives it back, with the one that this run has given already, if it has.
    pub(super) fn take(
        &mut self,
        answered: &mut Answered,
        reply: Arc<Reply>,
    ) -> Option<(Arc<Reply>, &mut Arc<Reply>)> {
        let place = self.came.len();
        let Some(first) = answered.first else {
            answered.first = Some(place);
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
pub(super) fn of_run<'a>(replies: &'a [Arc<Reply>], key: &ServerKey, id: &Name) -> Option<&'a Reply> {
    let of = |reply: &Arc<Reply>| {
        let server = &reply.server;
        (server.peer, &server.domain, &server.id).cmp(&(key.peer, &key.domain, id))
    };
    replies.binary_search_by(of).ok().map(|place| &*replies[place])
}
