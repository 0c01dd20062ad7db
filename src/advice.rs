//! What to do next, and with which command. The commands are those of the `nats` CLI, for a user of the system
//! account; names that others chose are quoted for a shell.
//!
//! Removing a peer is advised only for what cannot come back or was meant to go, always with its condition and its
//! cost, and only while enough members answer to agree on it.

mod condition;
mod group;
mod peer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::printable;

pub use group::{GroupCase, for_disagreement, for_group};
pub use peer::{PeerCase, for_peer};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// In words.
    #[serde(rename = "do")]
    pub action: String,
    /// The exact command, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Advice {
    /// The same, with the command as it is typed by somebody who logs in with these flags of the `nats` CLI.
    #[must_use]
    pub fn with_login(mut self, login: &str) -> Self {
        if let Some(rest) = self.command.as_deref().and_then(|command| command.strip_prefix("nats "))
            && !login.is_empty()
            // A command for another server than the one that was asked has its own address.
            && !rest.starts_with("--server ")
        {
            self.command = Some(format!("nats {login} {rest}"));
        }
        self
    }
}

fn say(action: impl Into<String>) -> Advice {
    Advice { action: action.into(), command: None }
}

fn run(action: impl Into<String>, command: impl Into<String>) -> Advice {
    Advice { action: action.into(), command: Some(command.into()) }
}

fn list() -> Advice {
    run("see which servers answer", "nats server list")
}

fn raft() -> Advice {
    run("see how the group's members see each other", "nats server request raft --group _meta_")
}

/// `text` as one word of a shell command.
pub(crate) fn shell_quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:@/,".contains(character);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    single_quoted(text)
}

fn single_quoted(text: &str) -> String {
    // Hidden characters become visible ones first, so that nothing is pasted unseen.
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
