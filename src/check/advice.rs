//! What to do next, and with which command. The commands are those of the `nats` CLI, for a user of the system
//! account; names that others chose are quoted for a shell.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CauseKind;
use crate::name::{few, printable};

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

fn say(action: impl Into<String>) -> Advice {
    Advice { action: action.into(), command: None }
}

fn run(action: impl Into<String>, command: impl Into<String>) -> Advice {
    Advice { action: action.into(), command: Some(command.into()) }
}

/// What to do about a peer that is, or may be, offline. `name` is its name for people.
pub fn for_peer(cause: CauseKind, name: &str, id: &str) -> Vec<Advice> {
    let shown = printable(name);
    let quoted = shell_quoted(name);
    let list = run("see which servers answer", "nats server list");
    let health = run(
        format!("ask {shown} what its JetStream lacks"),
        format!("nats server request jetstream-health --name={quoted}"),
    );
    let raft = run("see how the group's members see each other", "nats server request raft --group _meta_");
    match cause {
        CauseKind::Stopping => vec![
            say(format!(
                "if the stop of {shown} was planned, wait for its restart and stop no other server before"
            )),
            say(format!("if it was not planned, start {shown} again; its log says who stopped it")),
            list,
        ],
        CauseKind::Crashed => vec![
            say(format!("start {shown} again")),
            say(format!(
                "look for the reason in the log of {shown} and of its host: a panic, out of memory, a full disk"
            )),
            list,
        ],
        CauseKind::CrashedOrUnreachable => vec![
            list,
            say(format!(
                "see on its host whether the process of {shown} runs; if not, its log says why: start it again"
            )),
            say(format!("if it runs, look at the network between {shown} and the other servers")),
        ],
        CauseKind::JetstreamDisabled => vec![
            health,
            say(format!(
                "look in the log of {shown} for the reason: a full or failing disk switches JetStream off"
            )),
            say(format!(
                "free the disk or mend the configuration, then restart {shown}: JetStream does not come back by itself"
            )),
        ],
        CauseKind::FrozenOrPartitioned => vec![
            say(format!("see on its host whether {shown} runs, is stopped, or hangs on its disk")),
            say(format!("if it runs well, look at the network between {shown} and the other servers")),
            raft,
        ],
        CauseKind::Ghost => vec![
            say(format!("if a server named {shown} should exist, start it under that name")),
            run(
                "if it was renamed or replaced and will never come back, remove its peer; never do that to a server \
                 that is only down: it can rejoin 5 minutes after the removal at the earliest",
                format!("nats server cluster peer-remove {}", shell_quoted(id)),
            ),
        ],
        CauseKind::Unlisted => vec![
            say(format!(
                "if {shown} was removed from the group within the last 5 minutes, wait: it rejoins by itself after that"
            )),
            say(format!("otherwise restart {shown}, so that it asks to join again")),
            raft,
        ],
        CauseKind::Unknown => vec![list, health, raft],
    }
}

/// What to do when the group has lost its quorum.
pub fn for_quorum(missing: impl IntoIterator<Item = String>) -> Vec<Advice> {
    let missing = few(missing);
    let back = if missing.is_empty() {
        "bring the missing servers back: JetStream goes on by itself once enough members run".to_owned()
    } else {
        format!("bring back {missing}: JetStream goes on by itself once enough members run")
    };
    vec![
        say(back),
        run("see which servers answer", "nats server list"),
        say("do not remove peers now: without a leader it cannot work, and it makes a later recovery harder"),
    ]
}

/// What to do when members name different leaders.
pub fn for_disagreement() -> Vec<Advice> {
    vec![
        run("see whom each member follows", "nats server request raft --group _meta_"),
        say("look for a partition of the network between the members"),
        say("change no stream until they agree"),
    ]
}

/// `text` as one word of a shell command.
fn shell_quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:@".contains(character);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    // Hidden characters become visible ones first, so that nothing is pasted unseen.
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_cannot_be_extended_by_a_name() {
        for (name, quoted) in [
            ("s3", "s3"),
            ("nats-0.nats", "nats-0.nats"),
            ("a b", "'a b'"),
            ("x'; reboot #", r"'x'\''; reboot #'"),
            ("--force", "'--force'"),
            ("n\nreboot", r"'n\u{a}reboot'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quoted(name), quoted);
        }
    }

    #[test]
    fn only_a_ghost_is_ever_advised_to_be_removed() {
        use CauseKind as Kind;
        for cause in [
            Kind::Stopping,
            Kind::Crashed,
            Kind::CrashedOrUnreachable,
            Kind::JetstreamDisabled,
            Kind::FrozenOrPartitioned,
            Kind::Ghost,
            Kind::Unlisted,
            Kind::Unknown,
        ] {
            let advice = for_peer(cause, "s3", "3ahZoO2Q");
            assert!(advice.len() >= 2, "{cause:?}");
            let removes: Vec<_> = advice
                .iter()
                .filter_map(|advice| advice.command.as_deref())
                .filter(|command| command.contains("peer-remove"))
                .collect();
            let expected: &[&str] =
                if cause == Kind::Ghost { &["nats server cluster peer-remove 3ahZoO2Q"] } else { &[] };
            assert_eq!(removes, expected, "{cause:?}");
        }
    }
}
