//! What a watcher would lack: what `metawatch doctor` looks at, and what each finding means, one [`Item`] a line.
//!
//! Nothing here asks anybody: [`rights`] says which rights there are and how each is tried, [`judge`] what the servers'
//! and the other watchers' answers mean, [`text`] how an item stands on a terminal. No evidence is never health: what
//! could not be found out is [`Outcome::Unknown`], and then not all is well.

pub mod judge;
pub mod rights;
pub mod text;
pub mod user_info;
pub mod watchers;

use serde::Serialize;

/// How something stands that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Worth knowing, and nothing that must be mended.
    Note,
    /// It could not be found out.
    Unknown,
    /// The watching works, but worse than it could.
    Warning,
    /// Without it nothing is seen, or nothing is told.
    Failed,
}

impl Outcome {
    /// The word that reports carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing has to be done about it.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::Note)
    }
}

/// What a permission is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// To publish, or to send a request.
    Publish,
    /// To subscribe, be it to the replies of a request.
    Subscribe,
}

impl Operation {
    /// The word of a server's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// Which connection of a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// The one that watches.
    Watching,
    /// The one of its own that alerts are published on.
    Alerts,
}

/// A permission to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// To the user of this connection.
    pub connection: Connection,
    /// For what.
    pub operation: Operation,
    /// The subject, as a configuration has it.
    pub subject: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is about: `connection`, `account`, `right`, `versions`, `group`, `clocks`, `watchers`, `alerts`, `stream`,
    /// `state`.
    pub topic: &'static str,
    /// How it stands.
    pub outcome: Outcome,
    /// One sentence for people, printable.
    pub text: String,
    /// The permission that would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Grant>,
    /// What else to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Item {
    /// Something that stands so.
    pub fn new(topic: &'static str, outcome: Outcome, text: impl Into<String>) -> Self {
        Self { topic, outcome, text: text.into(), add: None, next: None }
    }

    /// Whether its permission is one of this connection.
    pub fn is_about(&self, connection: Connection) -> bool {
        self.add.as_ref().is_some_and(|grant| grant.connection == connection)
    }

    /// With what to do next.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// With the permission to add.
    #[must_use]
    pub fn granting(self, grant: Grant) -> Self {
        Self { add: Some(grant), ..self }
    }
}

/// Everything that was looked at. As JSON it is what `doctor --format json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// The version of this document.
    pub v: u32,
    /// The exit code: 0 when nothing has to be done, else 1.
    pub code: u8,
    /// One line for people.
    pub summary: String,
    /// What was looked at, in this order.
    pub items: Vec<Item>,
}

impl DoctorReport {
    /// The report on these.
    pub fn new(items: Vec<Item>) -> Self {
        let well = items.iter().all(|item| item.outcome.is_well());
        Self { v: 1, code: u8::from(!well), summary: summary(&items), items }
    }
}

/// `all is well`, or how many of each are not.
fn summary(items: &[Item]) -> String {
    let count = |outcome: Outcome| items.iter().filter(|item| item.outcome == outcome).count();
    let told =
        [(Outcome::Failed, "failed"), (Outcome::Warning, "could be better"), (Outcome::Unknown, "not known")];
    let told: Vec<String> = told
        .into_iter()
        .map(|(outcome, words)| (count(outcome), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    if told.is_empty() { "all is well".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests;
