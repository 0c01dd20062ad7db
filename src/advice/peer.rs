//! What to do about a peer that is, or may be, offline.

use super::condition::for_condition;
use super::{Advice, list, raft, run, say, shell_quoted, single_quoted};
use crate::check::CauseKind;
use crate::diagnosis::{Diagnosis, DiagnosisKind};
use crate::name::printable;

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

    fn ask_health(&self) -> Option<Advice> {
        let name = shell_quoted(self.name?);
        let action = format!("ask {} what its JetStream lacks", self.shown());
        Some(run(action, format!("nats server request jetstream-health --name={name}")))
    }

    fn remove_if_on_purpose(&self) -> Advice {
        self.remove("if it is intended that JetStream is off there")
    }

    fn configure(&self) -> Advice {
        say(format!(
            "if that is not intended, enable JetStream in the configuration of {} and restart it",
            self.shown()
        ))
    }

    /// Mend what switched JetStream off.
    fn mend(&self) -> [Advice; 2] {
        let shown = self.shown();
        [
            say(format!(
                "look in the log of {shown} for the reason: a full or failing disk switches JetStream off"
            )),
            say(format!(
                "free the disk or mend the configuration, then restart {shown}: JetStream does not come back by itself"
            )),
        ]
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
                         such as {}, with the address of that server: anywhere else it can remove a healthy peer of another \
                         group; {cost}",
                        printable(member)
                    ),
                    format!(
                        "nats --server {} request '$JS.API.SERVER.REMOVE' {}",
                        shell_quoted(&format!("ADDRESS-OF-{}", printable(member))),
                        single_quoted(&body)
                    ),
                )
            }
        }
    }
}

/// What to do about a peer that is, or may be, offline. Where a server said why, that alone decides.
pub fn for_peer(cause: CauseKind, case: &PeerCase<'_>) -> Vec<Advice> {
    let shown = case.shown();
    if let Some(advice) = by_diagnosis(case) {
        return advice;
    }
    if let Some(advice) = for_condition(cause, case.name) {
        return advice;
    }
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
        CauseKind::Ghost => for_ghost(case),
        CauseKind::DamagedId => vec![
            case.remove("if no server of yours is missing (none can have this id)"),
            say("look for the server whose disk damaged its list of peers, before it restarts"),
        ],
        CauseKind::JetstreamDisabled
        | CauseKind::FrozenOrPartitioned
        | CauseKind::FlagContradicted
        | CauseKind::HiddenFromUs
        | CauseKind::PartlyCutOff
        | CauseKind::MonitoringStuck
        | CauseKind::Unlisted
        | CauseKind::Unknown
        | CauseKind::TooFewMembers
        | CauseKind::NoLeaderElected
        | CauseKind::ElectionUnderWay
        | CauseKind::Renamed
        | CauseKind::RemovalNotAgreed
        | CauseKind::GroupUnheard
        | CauseKind::LeaderFlapping
        | CauseKind::SnapshotSlow
        | CauseKind::StateGrowth
        | CauseKind::SizeDecreased
        | CauseKind::PendingHigh
        | CauseKind::Behind
        | CauseKind::VersionMismatch
        | CauseKind::Restarted
        | CauseKind::ReservationFilling
        | CauseKind::StorageFilling => while_it_may_run(cause, case),
    }
}

fn for_ghost(case: &PeerCase<'_>) -> Vec<Advice> {
    let back = match case.name {
        Some(_) => {
            say(format!("if {} should still be there, start its server under that name", case.shown()))
        }
        None => case.start(),
    };
    vec![back, case.remove("if you scaled down, renamed or replaced it and it will never come back")]
}

/// What to do about a peer whose server may well run.
fn while_it_may_run(cause: CauseKind, case: &PeerCase<'_>) -> Vec<Advice> {
    let shown = case.shown();
    if cause == CauseKind::JetstreamDisabled {
        return for_disabled(case);
    }
    if cause == CauseKind::FrozenOrPartitioned {
        return vec![
            say(format!("see on its host whether {shown} runs, is stopped, or hangs on its disk")),
            say(format!("if it runs well, look at the network between {shown} and the other servers")),
            raft(),
        ];
    }
    if cause == CauseKind::PartlyCutOff {
        return vec![
            say(format!(
                "look at the network between {shown} and the leader: others of its cluster reach it"
            )),
            say(format!("if that is well, see on its host whether {shown} hangs on its disk")),
            raft(),
        ];
    }
    if cause == CauseKind::FlagContradicted {
        return vec![
            say(format!("look who else sends as {shown}, and who announced its stop: it runs")),
            run("see whether two servers have this name", "nats server list"),
        ];
    }
    if cause == CauseKind::HiddenFromUs {
        return vec![
            say(format!(
                "look at the gateway or leaf connection between {shown} and the server we are connected to"
            )),
            say("look at this monitor's own access: whether its account and its rights reach that cluster"),
            list(),
        ];
    }
    if cause == CauseKind::MonitoringStuck {
        return vec![
            say(format!(
                "it takes part in the group: look at the load and the log of {shown}, whose monitoring does not answer"
            )),
            say("restart it at a quiet time if that stays so, while all others are well"),
        ];
    }
    if cause == CauseKind::Unlisted {
        return vec![
            say(format!(
                "if {shown} was removed from the group within the last 5 minutes, wait: it rejoins by itself after that"
            )),
            say(format!("otherwise restart {shown}, so that it asks to join again")),
            raft(),
        ];
    }
    [Some(list()), case.ask_health(), Some(raft())].into_iter().flatten().collect()
}

/// What to do by what a server said itself when it was asked.
fn by_diagnosis(case: &PeerCase<'_>) -> Option<Vec<Advice>> {
    let shown = case.shown();
    let kind = case.diagnosis.iter().find_map(|diagnosis| diagnosis.kind)?;
    Some(match kind {
        DiagnosisKind::NotConfigured => vec![case.remove_if_on_purpose(), case.configure()],
        DiagnosisKind::NotEnabled => case.mend().into(),
        DiagnosisKind::Recovering => vec![say(format!("wait: {shown} still reads what it has stored"))],
        DiagnosisKind::NotCurrent => vec![say(format!(
            "wait until {shown} has caught up with the leader; if it stays behind, look at its disk and its network"
        ))],
        DiagnosisKind::NoContact => {
            vec![say(format!(
                "{shown} hears no leader: look at the network between it and the other servers"
            ))]
        }
        DiagnosisKind::MetaStopped | DiagnosisKind::LogFailed => vec![say(format!(
            "the meta layer of {shown} has stopped: look in its log for a failed write, mend its disk, and restart it"
        ))],
        // What is said of the group decides nothing for one peer.
        DiagnosisKind::Observer | DiagnosisKind::NeverHadLeader => return None,
    })
}

/// What to do about a server whose JetStream is off, before it said why.
fn for_disabled(case: &PeerCase<'_>) -> Vec<Advice> {
    let health = case.ask_health().into_iter();
    if case.off_since_start {
        return health.chain([case.remove_if_on_purpose(), case.configure()]).collect();
    }
    health.chain(case.mend()).collect()
}
