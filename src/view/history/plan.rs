//! Whom the next epoch expects, whom it waits for, and for how long.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ANSWERED_MIN, History, OUTSIDER_EXPECTED, ServerHistory};
use crate::epoch::{Expected, Plan, ServerKey};
use crate::name::PeerId;
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
        let expected = self.expected(now);
        let learning = !expected.values().any(|expected| expected.awaited);
        // What strangers take costs no time.
        let counts = |key: &ServerKey| learning || expected.get(key).is_some_and(|expected| expected.awaited);
        let delays = self.servers.iter().filter(|(key, _)| counts(key)).map(|(_, server)| server.delay);
        let slowest = delays.max().unwrap_or_default();
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
        self.groups.values().any(|group| {
            let silent = |peer: &PeerId| group.peers.get(peer).is_some_and(|peer| peer.silence.is_some());
            group.members.iter().any(silent)
        })
    }

    fn expected(&self, now: Stamp) -> BTreeMap<ServerKey, Expected> {
        let mut expected = BTreeMap::new();
        let awaited = self.awaited();
        for (key, server) in &self.servers {
            if now.since(server.last_heard) <= OUTSIDER_EXPECTED && !server.stopped {
                let awaited = awaited.contains(key);
                expected.insert(key.clone(), Expected { name: Some(server.name.clone()), awaited });
            }
        }
        for group in self.groups.values() {
            for peer in group.members.iter().filter(|peer| peer.is_sound()) {
                let key = ServerKey { peer: *peer, domain: group.domain.clone() };
                let name = || group.peers.get(peer).and_then(|peer| peer.name.clone());
                expected.entry(key).or_insert_with(|| Expected { name: name(), awaited: false });
            }
        }
        expected
    }

    /// Who is waited for: the members that a leader lists, and the most constant of the others.
    fn awaited(&self) -> BTreeSet<&ServerKey> {
        let answering = || self.servers.iter().filter(|(_, server)| server.missed == 0);
        let constant = |server: &ServerHistory| server.answered >= ANSWERED_MIN;
        let somebody_is = answering().any(|(_, server)| constant(server));
        let known = answering().filter(|(_, server)| constant(server) || !somebody_is);
        let is_listed = |key: &ServerKey| {
            let group = self.group_of.get(key).and_then(|group| self.groups.get(group));
            group.is_some_and(|group| group.has_list && group.members.contains(&key.peer))
        };
        let (listed, mut others): (Vec<_>, Vec<_>) = known.partition(|(key, _)| is_listed(key));
        others.sort_by_key(|(_, server)| Reverse(server.answered));
        others.truncate(OUTSIDERS_AWAITED_MAX);
        listed.into_iter().chain(others).map(|(key, _)| key).collect()
    }
}
