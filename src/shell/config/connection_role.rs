//! What a connection is for, and what it and its flags are called therefore.

use super::flags;
use crate::shell::failure::Failure;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionRole {
    /// To watch, or to ask once.
    #[default]
    Watching,
    /// To publish alerts, beside another one that watches. Its flags begin with `--alert-`.
    Alerts,
}

impl ConnectionRole {
    /// What messages about the connection begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Watching => "",
            Self::Alerts => "alerts: ",
        }
    }

    /// The account that its user should belong to.
    pub fn account(self) -> &'static str {
        match self {
            Self::Watching => "the system account",
            Self::Alerts => "the account where subscribers live",
        }
    }

    /// A failure of this connection, with its flags as they are called.
    #[must_use]
    pub fn word(self, failure: Failure) -> Failure {
        match self {
            Self::Watching => failure,
            Self::Alerts => {
                let named = |text: &str| {
                    // Beside another connection no context is used that is not named.
                    let text = text.replace("use --no-context", "leave --context out");
                    flags::with_twin().fold(text, |text, flag| {
                        text.replace(&format!("--{flag}"), &format!("--alert-{flag}"))
                    })
                };
                Failure::new(failure.kind(), named(&failure.to_string()), named(failure.hint()))
            }
        }
    }
}
