//! Who else there is, as far as one that hears all of them knows, and which of them are to be standbys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::message::PeerMessage;
use super::timing::Timing;
use super::{Role, STANDBYS};
use crate::stamp::Stamp;

/// More other watchers than this are not told apart.
const MEMBERS_MAX: usize = 4_096;
/// A standby that says nothing in so many units after it was named is another one's place.
const NAMED_UNITS: u32 = 3;

#[derive(Clone, Debug)]
struct Member {
    role: Role,
    server: String,
    sees_servers: bool,
    started_ns: i64,
    at: Stamp,
}

/// All other watchers that were heard lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    members: BTreeMap<String, Member>,
    /// Who is named as standby, and since when.
    named: Vec<(String, Stamp)>,
}

impl Members {
    /// Takes a message of another watcher. False when there is no room for it.
    pub(super) fn hear(&mut self, message: &PeerMessage, now: Stamp) -> bool {
        if message.leaving {
            self.forget(&message.instance);
            return true;
        }
        if !self.members.contains_key(&message.instance) && self.members.len() >= MEMBERS_MAX {
            return false;
        }
        let member = Member {
            role: message.role,
            server: message.server.clone(),
            sees_servers: message.sees_servers,
            started_ns: message.started_ns,
            at: now,
        };
        self.members.insert(message.instance.clone(), member);
        true
    }

    fn forget(&mut self, instance: &str) {
        self.members.remove(instance);
        self.named.retain(|(name, _)| name != instance);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Forgets those that were not heard for long. `watchers` is how many there are by the best knowledge.
    pub(super) fn expire(&mut self, timing: Timing, watchers: u64, now: Stamp) {
        let named = &self.named;
        self.members.retain(|instance, member| {
            // Who joins becomes a reserve. One that was named has its time to say so.
            let slow = matches!(member.role, Role::Reserve | Role::Joining);
            let called = slow && named.iter().any(|(name, _)| name == instance);
            called || now.since(member.at) <= timing.counted(slow, watchers)
        });
    }

    /// Whether a standby says that it sees the servers.
    pub(super) fn has_working_standby(&self) -> bool {
        self.named.iter().any(|(name, _)| {
            self.members.get(name).is_some_and(|member| member.role == Role::Standby && member.sees_servers)
        })
    }

    /// The standbys of this active watcher, which is connected to `server`. Those that answer stay.
    pub(super) fn standbys(&mut self, timing: Timing, server: &str, now: Stamp) -> Vec<String> {
        let mut silent = Vec::new();
        let mut blind = Vec::new();
        for (name, since) in &self.named {
            let member = self.members.get(name);
            let answers = member.is_some_and(|member| member.role == Role::Standby);
            if !answers && now.since(*since) > timing.unit * NAMED_UNITS {
                silent.push(name.clone());
            } else if member.is_some_and(|member| !member.sees_servers) {
                blind.push(name.clone());
            }
        }
        // One that does not say a word when it is called is gone.
        silent.iter().for_each(|name| self.forget(name));
        self.named.retain(|(name, _)| self.members.contains_key(name));
        // One that sees nothing makes room where there is another one that may.
        let others = || {
            self.members.iter().filter(|(name, member)| {
                member.sees_servers && !self.named.iter().any(|(named, _)| named == *name)
            })
        };
        if others().next().is_some()
            && let Some(name) = blind.first()
        {
            self.named.retain(|(named, _)| named != name);
        }
        self.spread_out(server);
        while self.named.len() < STANDBYS {
            let Some(next) = self.next_standby(server) else { break };
            self.named.push((next, now));
        }
        self.named.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Of standbys that would be lost with the server of another one, one makes room where that helps.
    fn spread_out(&mut self, server: &str) {
        if self.named.len() < STANDBYS {
            return;
        }
        let mut taken = BTreeSet::from([server]);
        let crowded = self.named.iter().find(|(name, _)| {
            self.members
                .get(name)
                .is_some_and(|member| !member.server.is_empty() && !taken.insert(&member.server))
        });
        let Some((crowded, _)) = crowded else { return };
        taken.extend(self.named.iter().filter_map(|(name, _)| Some(self.members.get(name)?.server.as_str())));
        let helps = |member: &Member| {
            member.sees_servers && !member.server.is_empty() && !taken.contains(member.server.as_str())
        };
        if self.members.values().any(helps) {
            let crowded = crowded.clone();
            self.named.retain(|(name, _)| *name != crowded);
        }
    }

    /// Who is named next: rather one that sees the servers, on a server of its own, that has run long.
    fn next_standby(&self, server: &str) -> Option<String> {
        let mut taken: BTreeSet<&str> = BTreeSet::from([server]);
        taken.extend(self.named.iter().filter_map(|(name, _)| Some(self.members.get(name)?.server.as_str())));
        let free = self.members.iter().filter(|(name, member)| {
            member.role != Role::Active && !self.named.iter().any(|(named, _)| named == *name)
        });
        let best = free.max_by_key(|(name, member)| {
            let apart = !member.server.is_empty() && !taken.contains(member.server.as_str());
            (member.sees_servers, apart, member.role == Role::Standby, Reverse((member.started_ns, *name)))
        });
        best.map(|(name, _)| name.clone())
    }

    /// Nobody is named any more.
    pub(super) fn name_nobody(&mut self) {
        self.named.clear();
    }
}
