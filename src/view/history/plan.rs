//! Whom the next epoch expects, whom it waits for, and for how long.

use std::cmp::Reverse;
use std::time::Duration;

use super::{ANSWERED_MIN, GroupHistory, History, OUTSIDER_EXPECTED, ServerHistory};
use crate::epoch::{Expected, Plan, ServerKey};
use crate::name::{Name, PeerId};
use crate::stamp::Stamp;

/// The least and the usual patience: how long an epoch waits for a server that answered the last one.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// Patience in multiples of the slowest answer known.
const PATIENCE_FACTOR: u32 = 5;
/// So many servers that no leader lists are awaited, those that have answered most often.
const OUTSIDERS_AWAITED_MAX: usize = 64;

impl History {
    /// The plan of the next epoch: who should answer, whom to wait for, for how long at most.
    pub fn plan(&self, number: u64, now: Stamp, timeout: Duration) -> Plan {
        let members = self.members();
        let awaited = self.awaited(&members);
        let expected = self.expected(&members, &awaited, now);
        let is_expected = |server: &ServerHistory| is_expected(server, now);
        let learning = !expected.iter().any(|(_, expected)| expected.awaited);
        // What strangers take costs no time.
        let answering = self.servers.values().zip(&awaited);
        let delays = answering.filter(|(server, awaited)| learning || (**awaited && is_expected(server)));
        let slowest = delays.map(|(server, _)| server.delay).max().unwrap_or_default();
        let patience =
            if learning { timeout } else { PATIENCE_MIN.max(slowest * PATIENCE_FACTOR).min(timeout) };
        Plan {
            number,
            expected,
            learning,
            ask_statsz: self.somebody_is_silent(),
            patience,
            settle: slowest * 2,
        }
    }

    /// Whether a member of any group has missed the last epoch.
    pub fn somebody_is_silent(&self) -> bool {
        // Of a settled group nobody is.
        self.groups.values().filter(|group| !group.settled).any(|group| {
            let silent = |peer: &PeerId| group.peers.get(peer).is_some_and(|peer| peer.silence.is_some());
            group.members.iter().any(silent)
        })
    }

    /// The members of all groups, in the order of the keys of their servers.
    fn members(&self) -> Vec<Member<'_>> {
        let count = self.groups.values().map(|group| group.members.len()).sum();
        let mut members = Vec::with_capacity(count);
        for (key, group) in &self.groups {
            let group_of = self.groups_in(&group.domain);
            let is_in = |peer: &PeerId| group_of.and_then(|group_of| group_of.get(peer)) == Some(key);
            members.extend(group.members.iter().map(|peer| Member {
                peer: *peer,
                domain: &group.domain,
                group,
                listed: group.has_list && is_in(peer),
            }));
        }
        members.sort_by(|one, other| one.key().cmp(&other.key()));
        members
    }

    /// Everybody who should answer: one walk over servers and members finds those that belong together.
    fn expected(&self, members: &[Member<'_>], awaited: &[bool], now: Stamp) -> Vec<(ServerKey, Expected)> {
        let mut expected = Vec::with_capacity(self.servers.len().max(members.len()));
        let mut members = members.iter().filter(|member| member.peer.is_sound()).peekable();
        for ((key, server), awaited) in self.servers.iter().zip(awaited) {
            let own = (key.peer, &key.domain);
            while let Some(member) = members.next_if(|member| member.key() < own) {
                expected.push(member.expected());
            }
            if is_expected(server, now) {
                while members.next_if(|member| member.key() == own).is_some() {}
                expected.push((key.clone(), Expected { name: Some(server.name.clone()), awaited: *awaited }));
            }
        }
        expected.extend(members.map(Member::expected));
        expected.dedup_by(|later, earlier| later.0 == earlier.0);
        expected
    }

    /// Who is waited for: the members that a leader lists, and the most constant of the others. One flag for each
    /// server, in their order.
    fn awaited(&self, members: &[Member<'_>]) -> Vec<bool> {
        let constant = |server: &ServerHistory| server.missed == 0 && server.answered >= ANSWERED_MIN;
        let somebody_is = self.servers.values().any(constant);
        let is_known = |server: &ServerHistory| constant(server) || (server.missed == 0 && !somebody_is);
        let mut listed = members.iter().filter(|member| member.listed).peekable();
        let mut awaited = Vec::with_capacity(self.servers.len());
        let mut others = Vec::new();
        for (place, (key, server)) in self.servers.iter().enumerate() {
            let own = (key.peer, &key.domain);
            while listed.next_if(|member| member.key() < own).is_some() {}
            let is_listed = listed.peek().is_some_and(|member| member.key() == own);
            awaited.push(is_listed && is_known(server));
            if !is_listed && is_known(server) {
                others.push((Reverse(server.answered), place));
            }
        }
        others.sort();
        others.iter().take(OUTSIDERS_AWAITED_MAX).for_each(|(_, place)| awaited[*place] = true);
        awaited
    }
}

/// Whether a server is expected for its own sake, be it in no group.
fn is_expected(server: &ServerHistory, now: Stamp) -> bool {
    now.since(server.last_heard) <= OUTSIDER_EXPECTED && !server.stopped
}

/// A member of a group.
struct Member<'a> {
    peer: PeerId,
    domain: &'a Name,
    group: &'a GroupHistory,
    /// A leader lists it.
    listed: bool,
}

impl<'a> Member<'a> {
    fn key(&self) -> (PeerId, &'a Name) {
        (self.peer, self.domain)
    }

    /// One that has not been heard lately.
    fn expected(&self) -> (ServerKey, Expected) {
        let name = self.group.peers.get(&self.peer).and_then(|peer| peer.name.clone());
        (ServerKey { peer: self.peer, domain: self.domain.clone() }, Expected { name, awaited: false })
    }
}
