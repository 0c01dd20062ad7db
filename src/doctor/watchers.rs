//! Who else watches, by what watchers say to each other and by heartbeats.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Item, Outcome};
use crate::election::{MESSAGE_VERSION, PeerMessage, Role};
use crate::event::Heartbeat;
use crate::name::{join_some, printable};

/// More watchers than this are only counted by the heartbeat.
const HEARD_MAX: usize = 64;
/// A longer message is none of theirs.
const BYTES_MAX: usize = 1 << 20;

/// What was heard of other watchers.
#[derive(Clone, Debug, Default)]
pub struct Watchers {
    /// Their names and roles, by instance.
    speaking: BTreeMap<String, (String, Role)>,
    /// The names of those whose messages are of another version.
    foreign: BTreeSet<String>,
    /// By instance: who sends heartbeats, of which version of metawatch, and how many watchers it counts.
    beating: BTreeMap<String, (String, String, u64)>,
}

impl Watchers {
    /// Takes a message of a watcher to others.
    pub fn message(&mut self, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Other {
            v: u32,
            name: String,
            #[serde(rename = "instance")]
            _instance: String,
        }
        if payload.len() > BYTES_MAX {
            return;
        }
        match serde_json::from_slice::<PeerMessage>(payload) {
            Ok(message) if message.v == MESSAGE_VERSION => {
                if message.leaving {
                    self.speaking.remove(&message.instance);
                } else if self.speaking.len() < HEARD_MAX {
                    self.speaking.insert(message.instance, (message.name, message.role));
                }
            }
            Ok(_) | Err(_) => {
                let other = serde_json::from_slice::<Other>(payload).ok();
                let foreign =
                    other.filter(|other| other.v != MESSAGE_VERSION && self.foreign.len() < HEARD_MAX);
                self.foreign.extend(foreign.map(|other| other.name));
            }
        }
    }

    /// Takes a heartbeat.
    pub fn heartbeat(&mut self, payload: &[u8]) {
        if payload.len() > BYTES_MAX || self.beating.len() >= HEARD_MAX {
            return;
        }
        if let Ok(Heartbeat { monitor, watchers, .. }) = serde_json::from_slice::<Heartbeat>(payload) {
            self.beating.insert(monitor.instance, (monitor.name, monitor.version, watchers));
        }
    }

    /// Whether nothing more is to be waited for: the active watcher was heard by both ways.
    pub fn tell_enough(&self) -> bool {
        !self.beating.is_empty() && !self.active().is_empty()
    }

    /// Who is active, of those that were heard.
    fn active(&self) -> Vec<&str> {
        let speaking = self.speaking.values().filter(|(_, role)| *role == Role::Active);
        speaking.map(|(name, _)| name.as_str()).collect()
    }

    /// What there is to know of them. `hears` says whether watchers can be heard at all by this user.
    pub fn judge(&self, hears: bool, own_version: &str) -> Item {
        let item = |outcome, text: String| Item::new("watchers", outcome, text);
        let told = self.beating.values().map(|(_, _, watchers)| *watchers).max().unwrap_or(0);
        let heard = self.speaking.len().max(self.beating.len()) as u64;
        let (active, count) = (self.active(), told.max(heard));
        let others: BTreeSet<&str> = self
            .beating
            .values()
            .map(|(_, version, _)| version.as_str())
            .filter(|own| *own != own_version)
            .collect();
        let names = |names: Vec<&str>| join_some(names.into_iter().map(|name| printable(name).into_owned()));
        if !self.foreign.is_empty() {
            let foreign = names(self.foreign.iter().map(String::as_str).collect());
            return item(
                Outcome::Warning,
                format!("{foreign}: of a version that this one does not understand"),
            )
            .next("renew all watchers of the system together; until then alerts come twice");
        }
        if active.len() > 1 {
            let text = format!("{} are active at once and do not hear each other", names(active));
            return item(Outcome::Warning, text)
                .next("see whether each may publish and subscribe PREFIX.watcher.*");
        }
        if !others.is_empty() {
            let others = names(others.into_iter().collect());
            return item(
                Outcome::Warning,
                format!("{count} run, of version {others}; this is {own_version}"),
            )
            .next("renew all watchers of the system together");
        }
        match (
            active.first().copied().or_else(|| self.beating.values().next().map(|(name, ..)| name.as_str())),
            count,
        ) {
            (Some(name), 1) => {
                item(Outcome::Ok, format!("{} runs, of version {own_version}", printable(name)))
            }
            (Some(name), count) => {
                let text = format!("{count} run, {} is active, of version {own_version}", printable(name));
                item(Outcome::Ok, text)
            }
            (None, 0) if hears => item(Outcome::Note, "no other one is heard".to_owned()),
            (None, 0) => item(Outcome::Unknown, "other ones cannot be heard".to_owned()),
            (None, count) => item(Outcome::Note, format!("{count} are heard, and none is active yet")),
        }
    }
}
