//! Which system is watched: a stable id, so that whoever hears several systems never takes one's word for
//! another's.
//!
//! NATS has no such id: the names of clusters, accounts and servers repeat from system to system (`nats-0` in
//! every Kubernetes cluster), one operator's system account can belong to several systems, and the ids of
//! servers change with every start. So the first watcher makes one up from the ids of the servers that it
//! sees. From then on it is part of the [`ReplicatedState`](crate::replicated_state::ReplicatedState): it is in the state file and with
//! the other watchers, whatever becomes of those servers. Whoever gives a name (`--system`) is believed
//! before all that.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::name::base62;
use crate::view::ClusterView;

/// The longest id, in bytes.
pub const SYSTEM_MAX: usize = 64;
/// So many letters and digits has an id that was made up.
const MADE_UP_LETTERS: usize = 16;

/// The id of a system: up to [`SYSTEM_MAX`] letters, digits, dots, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemId(String);

/// The text is no id of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 1 to {SYSTEM_MAX} letters, digits, dots, hyphens and underscores")]
pub struct NoSystemId;

impl SystemId {
    /// Reads an id that somebody gave.
    pub fn parse(text: &str) -> Result<Self, NoSystemId> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let sound = (1..=SYSTEM_MAX).contains(&text.len()) && text.bytes().all(fits);
        sound.then(|| Self(text.to_owned())).ok_or(NoSystemId)
    }

    /// Makes up an id for the system of this view; `None` where nothing was seen of it.
    ///
    /// It depends on the server with the least id alone, so that every watcher that sees all of the same
    /// servers makes up the same one, and one that begins anew without a memory does so again.
    pub fn of_view(view: &ClusterView) -> Option<Self> {
        if !view.epoch.informative || view.groups.is_empty() {
            return None;
        }
        // Real servers always tell the id of their run; what does not has a name at least.
        let run = view.servers.iter().map(|server| &server.id).filter(|id| !id.is_empty()).min();
        let name = || view.servers.iter().map(|server| &server.name).min();
        let hash = Sha256::new().chain_update("system\0").chain_update(run.or_else(name)?.as_str());
        Some(Self(base62(&hash.finalize()).take(MADE_UP_LETTERS).map(char::from).collect()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a watcher knows of the system that it watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownSystem {
    id: Option<SystemId>,
    given: bool,
    /// What another watcher calls it, where this one was given a name; and what of that is still to be told.
    other: Option<SystemId>,
    untold: bool,
}

impl KnownSystem {
    /// A name that was given (`--system`) goes before everything that is learned.
    pub fn given(id: SystemId) -> Self {
        Self { id: Some(id), given: true, ..Self::default() }
    }

    /// The id, once it is known.
    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().map(SystemId::as_str)
    }

    /// Goes by the id of the watcher that speaks, or of the last run.
    pub fn learn(&mut self, id: &str) -> Result<(), NoSystemId> {
        let id = Some(SystemId::parse(id)?);
        if !self.given {
            self.id = id;
        } else if self.id != id && self.other != id {
            (self.other, self.untold) = (id, true);
        }
        Ok(())
    }

    /// Another word for the system than the one that was given, once it was heard; once.
    pub fn take_other(&mut self) -> Option<SystemId> {
        self.other.clone().filter(|_| std::mem::take(&mut self.untold))
    }

    /// Takes what an epoch showed, where nothing better is known. Only the watcher that speaks may: the
    /// others wait for its word.
    pub fn see(&mut self, view: &ClusterView) {
        if self.id.is_none() {
            self.id = SystemId::of_view(view);
        }
    }
}

#[cfg(test)]
mod tests;
