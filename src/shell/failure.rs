//! What went wrong, in words for the person who has to mend it.

use std::fmt;

use crate::report::selection::UnknownGroup;

/// Why a command could not do its work.
///
/// `Display` gives a lowercase fragment that fits behind `error: `; [`hint`](Self::hint) says what to do next.
/// Neither ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
    hint: String,
}

/// The kinds of failure that are told apart; tests and exit codes go by these, never by words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The configuration cannot be used: a flag, a variable, a context file, a credentials file.
    Config,
    /// No server could be reached.
    Unreachable,
    /// The server refused the credentials.
    Credentials,
    /// The TLS handshake failed, or the server and the client disagree about using TLS.
    Tls,
    /// Connected, but the account is not the system account (503: no responders).
    NotSystemAccount,
    /// The user may not publish the request, or may not subscribe to the replies.
    Permission,
    /// Nobody answered, and no reason is known.
    NoReply,
    /// The connection was lost while it was needed.
    Disconnected,
    /// A file or a stream could not be read or written.
    Io,
    /// What was read is not what it should be.
    Input,
}

impl Failure {
    /// A failure of `kind`: `message` is a lowercase fragment without a final period, `hint` the next thing to do.
    pub fn new(kind: FailureKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: hint.into() }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<UnknownGroup> for Failure {
    fn from(unknown: UnknownGroup) -> Self {
        let hint =
            format!("{}; --group takes a domain, or default for the group without one", unknown.there_are);
        Self::new(FailureKind::Input, unknown.to_string(), hint)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(FailureKind::Io, format!("cannot write JSON: {error}"), "report this as a defect")
    }
}
