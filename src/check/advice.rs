//! What to do next, and with which command. The commands are those of the `nats` CLI, for a user of the system
//! account; names that others chose are quoted for a shell.
//!
//! Removing a peer is advised only for what cannot come back or was meant to go, always with its condition and its
//! cost, and only while enough members answer to agree on it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CauseKind;
use crate::diagnosis::{Diagnosis, DiagnosisKind};
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

impl Advice {
    /// The same, with the command as it is typed by somebody who logs in with these flags of the `nats` CLI.
    #[must_use]
    pub fn with_login(mut self, login: &str) -> Self {
        if let Some(rest) = self.command.as_deref().and_then(|command| command.strip_prefix("nats "))
            && !login.is_empty()
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

/// The peer that advice is about, and what decides which advice is right.
#[derive(Clone, Copy, Debug)]
pub struct PeerCase<'a> {
    /// Its name for people; `None` where nobody ever told it.
    pub name: Option<&'a str>,
    /// Its id.
    pub id: &'a str,
    /// Whether enough members are online to agree on a removal.
    pub can_agree: bool,
    /// A member of its group, through which a request reaches that group alone; `None` where there is no other group.
    pub through: Option<&'a str>,
    /// Its JetStream has been off since it was started.
    pub off_since_start: bool,
    /// What servers said when they were asked about it.
    pub diagnosis: &'a [Diagnosis],
}

impl PeerCase<'_> {
    fn shown(&self) -> String {
        self.name.map_or_else(|| format!("peer {}", printable(self.id)), |name| printable(name).into_owned())
    }

    fn is_diagnosed(&self, kind: DiagnosisKind) -> bool {
        self.diagnosis.iter().any(|diagnosis| diagnosis.kind == Some(kind))
    }

    /// Start it, by the name that it has; a server with any other name would be a new member.
    fn start(&self) -> Advice {
        match self.name {
            Some(name) => say(format!("start {} again", printable(name))),
            None => say(format!(
                "start the server that is missing, under its old name: peer {} is made of that name",
                printable(self.id)
            )),
        }
    }

    /// Removing the peer, on a condition.
    fn remove(&self, condition: &str) -> Advice {
        let cost = "a server that is removed and started again is shut out for 5 minutes";
        if !self.can_agree {
            return say(format!(
                "{condition}, remove its peer later: that needs a majority of the members, so bring the others back \
                 first; {cost}"
            ));
        }
        let id = shell_quoted(self.id);
        match self.through {
            None => run(
                format!("{condition}, remove its peer, one after the other; {cost}"),
                format!("nats server cluster peer-remove {id}"),
            ),
            // The CLI refuses to remove a peer while leaders of two groups answer it.
            Some(member) => {
                let body = serde_json::json!({"peer": "", "peer_id": self.id}).to_string();
                run(
                    format!(
                        "{condition}, remove its peer, one after the other, by a request at a server of its own meta group, \
                         such as {}; {cost}",
                        printable(member)
                    ),
                    format!("nats request '$JS.API.SERVER.REMOVE' {}", single_quoted(&body)),
                )
            }
        }
    }
}

fn list() -> Advice {
    run("see which servers answer", "nats server list")
}

fn raft() -> Advice {
    run("see how the group's members see each other", "nats server request raft --group _meta_")
}

/// What to do about a peer that is, or may be, offline.
pub fn for_peer(cause: CauseKind, case: &PeerCase<'_>) -> Vec<Advice> {
    let shown = case.shown();
    let health = case.name.map(|name| {
        run(
            format!("ask {shown} what its JetStream lacks"),
            format!("nats server request jetstream-health --name={}", shell_quoted(name)),
        )
    });
    match cause {
        CauseKind::Stopping => vec![
            say(format!(
                "if the stop of {shown} was planned, wait for its restart and stop no other server before"
            )),
            say(format!("if it was not planned, start {shown} again; its log says who stopped it")),
            list(),
        ],
        CauseKind::Crashed => vec![
            case.start(),
            say(format!(
                "look for the reason in the log of {shown} and of its host: a panic, out of memory, a full disk"
            )),
            list(),
        ],
        CauseKind::CrashedOrUnreachable if case.name.is_none() => vec![list(), case.start()],
        CauseKind::CrashedOrUnreachable => vec![
            list(),
            say(format!(
                "see on its host whether the process of {shown} runs; if not, its log says why: start it again"
            )),
            say(format!("if it runs, look at the network between {shown} and the other servers")),
        ],
        CauseKind::DownBeforeTerm => vec![
            case.start(),
            say("its log says when and why it went down; the other servers do not know any more"),
            list(),
        ],
        CauseKind::JetstreamDisabled => for_disabled(case, health),
        CauseKind::FrozenOrPartitioned => vec![
            say(format!("see on its host whether {shown} runs, is stopped, or hangs on its disk")),
            say(format!("if it runs well, look at the network between {shown} and the other servers")),
            raft(),
        ],
        CauseKind::Ghost => vec![
            say(format!("if {shown} should still be there, start its server under that name")),
            case.remove("if you scaled down, renamed or replaced it and it will never come back"),
        ],
        CauseKind::DamagedId => vec![
            case.remove("if no server of yours is missing (none can have this id)"),
            say("look for the server whose disk damaged its list of peers, before it restarts"),
        ],
        CauseKind::FlagContradicted => vec![
            say(format!("look who else sends as {shown}, and who announced its stop: it runs")),
            run("see whether two servers have this name", "nats server list"),
        ],
        CauseKind::HiddenFromUs => vec![
            say(format!(
                "look at the gateway or leaf connection between {shown} and the server we are connected to"
            )),
            say("look at this monitor's own access: whether its account and its rights reach that cluster"),
            list(),
        ],
        CauseKind::MonitoringStuck => vec![
            say(format!(
                "it takes part in the group: look at the load and the log of {shown}, whose monitoring does not answer"
            )),
            say("restart it at a quiet time if that stays so, while all others are well"),
        ],
        CauseKind::Unlisted => vec![
            say(format!(
                "if {shown} was removed from the group within the last 5 minutes, wait: it rejoins by itself after that"
            )),
            say(format!("otherwise restart {shown}, so that it asks to join again")),
            raft(),
        ],
        CauseKind::Unknown
        | CauseKind::TooFewMembers
        | CauseKind::NoLeaderElected
        | CauseKind::ElectionUnderWay
        | CauseKind::Renamed
        | CauseKind::RemovalNotAgreed
        | CauseKind::GroupUnheard => [Some(list()), health, Some(raft())].into_iter().flatten().collect(),
    }
}

/// What to do about a server whose JetStream is off, by what it says of the reason.
fn for_disabled(case: &PeerCase<'_>, health: Option<Advice>) -> Vec<Advice> {
    let shown = case.shown();
    let on_purpose = || case.remove("if JetStream is off there on purpose");
    let configure = || {
        say(format!(
            "if it is not on purpose, enable JetStream in the configuration of {shown} and restart it"
        ))
    };
    if case.is_diagnosed(DiagnosisKind::NotConfigured) {
        return vec![on_purpose(), configure()];
    }
    let mend = [
        say(format!(
            "look in the log of {shown} for the reason: a full or failing disk switches JetStream off"
        )),
        say(format!(
            "free the disk or mend the configuration, then restart {shown}: JetStream does not come back by itself"
        )),
    ];
    if case.is_diagnosed(DiagnosisKind::NotEnabled) {
        return mend.into();
    }
    if case.off_since_start {
        return health.into_iter().chain([on_purpose(), configure()]).collect();
    }
    health.into_iter().chain(mend).collect()
}

/// The group that advice is about.
#[derive(Clone, Debug, Default)]
pub struct GroupCase<'a> {
    /// Who is missing, by name, as far as anybody tells.
    pub missing: Vec<String>,
    /// What members said when they were asked.
    pub diagnosis: &'a [Diagnosis],
}

/// What to do when a group cannot work.
pub fn for_group(cause: CauseKind, case: &GroupCase<'_>) -> Vec<Advice> {
    let is_diagnosed =
        |kind: DiagnosisKind| case.diagnosis.iter().any(|diagnosis| diagnosis.kind == Some(kind));
    let told = case.diagnosis.iter().flat_map(|diagnosis| diagnosis.missing.iter().cloned());
    let mut missing = case.missing.clone();
    for name in told {
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    let missing = few(missing);
    let keep = say(
        "remove no peers now: without a majority a removal does not take effect, and it makes recovery harder",
    );
    let connect =
        say("connect them to their hub again: they are observers of its meta group, and wait for it");
    let first_start = say(
        "if this is the first start of the group, start every server that belongs to it: all must come up once",
    );
    match cause {
        CauseKind::Renamed => vec![
            say(
                "if the servers were renamed, give all of them their old names back; JetStream goes on by itself then",
            ),
            say("then rename them one after the other, each time waiting until all are current"),
            keep,
        ],
        CauseKind::RemovalNotAgreed => vec![
            say(if missing.is_empty() {
                "start the servers again that were removed: the removals did not take effect".to_owned()
            } else {
                format!("start {missing} again under the same names: the removals did not take effect")
            }),
            keep,
        ],
        CauseKind::NoLeaderElected if is_diagnosed(DiagnosisKind::Observer) => vec![connect],
        CauseKind::NoLeaderElected if is_diagnosed(DiagnosisKind::NeverHadLeader) => {
            let waits =
                (!missing.is_empty()).then(|| say(format!("start {missing}: the group waits for it")));
            waits.into_iter().chain([first_start]).collect()
        }
        CauseKind::NoLeaderElected => vec![
            run(
                "ask the members why: `observer` means that they wait for their hub, `ever_had_leader` false that the \
                 group was never complete",
                "nats server request raft --group _meta_",
            ),
            say("if they are leaf nodes that extend a hub, look at their connection to the hub"),
            first_start,
        ],
        CauseKind::ElectionUnderWay => {
            vec![say("wait: an election takes up to 10 s, and longer on a loaded system"), raft()]
        }
        CauseKind::GroupUnheard => vec![
            say("see whether its servers run"),
            say(
                "if they do, look at the gateway or leaf connection to them, and whether this monitor's account reaches them",
            ),
            list(),
        ],
        _ => vec![
            say(if missing.is_empty() {
                "bring the missing servers back: JetStream goes on by itself once enough members run"
                    .to_owned()
            } else {
                format!("bring back {missing}: JetStream goes on by itself once enough members run")
            }),
            list(),
            keep,
        ],
    }
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
