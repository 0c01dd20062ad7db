//! What to do about a meta group that cannot work.

use super::condition::for_condition;
use super::{Advice, list, raft, run, say};
use crate::check::CauseKind;
use crate::diagnosis::{Diagnosis, DiagnosisKind};
use crate::name::join_some;

/// The group that advice is about.
#[derive(Clone, Debug, Default)]
pub struct GroupCase<'a> {
    /// Who is missing, by name, as far as anybody tells.
    pub missing: Vec<String>,
    /// What members said when they were asked.
    pub diagnosis: &'a [Diagnosis],
}

impl GroupCase<'_> {
    fn is_diagnosed(&self, kind: DiagnosisKind) -> bool {
        self.diagnosis.iter().any(|diagnosis| diagnosis.kind == Some(kind))
    }

    /// Who is missing by our word or by that of members, the first of them; empty where nobody tells.
    fn missing(&self) -> String {
        let mut missing = self.missing.clone();
        for name in self.diagnosis.iter().flat_map(|diagnosis| &diagnosis.missing) {
            if !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        join_some(missing)
    }
}

/// Removing peers helps nobody while no majority can agree on it.
fn remove_nobody() -> Advice {
    say(
        "remove no peers now: without a majority a removal does not take effect, and it makes recovery harder",
    )
}

/// What to do when a group cannot work.
pub fn for_group(cause: CauseKind, case: &GroupCase<'_>) -> Vec<Advice> {
    if let Some(advice) = for_condition(cause, None) {
        return advice;
    }
    match cause {
        CauseKind::Renamed => vec![
            say(
                "if the servers were renamed, give all of them their old names back; JetStream goes on by itself then",
            ),
            say("then rename them one after the other, each time waiting until all are current"),
            remove_nobody(),
        ],
        CauseKind::RemovalNotAgreed => {
            let who = match case.missing() {
                missing if missing.is_empty() => "the servers that were removed".to_owned(),
                missing => missing,
            };
            let start = format!("start {who} again under the same names: the removals did not take effect");
            vec![say(start), remove_nobody()]
        }
        CauseKind::NoLeaderElected => without_a_leader(case),
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
        CauseKind::TooFewMembers
        | CauseKind::Unknown
        | CauseKind::Stopping
        | CauseKind::Crashed
        | CauseKind::CrashedOrUnreachable
        | CauseKind::JetstreamDisabled
        | CauseKind::FrozenOrPartitioned
        | CauseKind::Ghost
        | CauseKind::Unlisted
        | CauseKind::DownBeforeTerm
        | CauseKind::DamagedId
        | CauseKind::FlagContradicted
        | CauseKind::HiddenFromUs
        | CauseKind::PartlyCutOff
        | CauseKind::MonitoringStuck
        | CauseKind::LeaderFlapping
        | CauseKind::SnapshotSlow
        | CauseKind::StateGrowth
        | CauseKind::SizeDecreased
        | CauseKind::PendingHigh
        | CauseKind::Behind
        | CauseKind::VersionMismatch
        | CauseKind::Restarted
        | CauseKind::ReservationFilling
        | CauseKind::StorageFilling => {
            let who = match case.missing() {
                missing if missing.is_empty() => "the missing servers".to_owned(),
                missing => missing,
            };
            let back = format!("bring back {who}: JetStream goes on by itself once enough members run");
            vec![say(back), list(), remove_nobody()]
        }
    }
}

/// What to do when enough members answer and nobody leads, by what they say of it.
fn without_a_leader(case: &GroupCase<'_>) -> Vec<Advice> {
    let first_start = say(
        "if this is the first start of the group, start every server that belongs to it: all must come up once",
    );
    if case.is_diagnosed(DiagnosisKind::Observer) {
        return vec![say(
            "connect them to their hub again: they are observers of its meta group, and wait for it",
        )];
    }
    if case.is_diagnosed(DiagnosisKind::NeverHadLeader) {
        let missing = Some(case.missing()).filter(|missing| !missing.is_empty());
        let start = missing.map(|missing| say(format!("start {missing}: the group waits for it")));
        return start.into_iter().chain([first_start]).collect();
    }
    vec![
        run(
            "ask the members why: `observer` means that they wait for their hub, `ever_had_leader` false that the \
             group was never complete",
            "nats server request raft --group _meta_",
        ),
        say("if they are leaf nodes that extend a hub, look at their connection to the hub"),
        first_start,
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
