//! What to do about a member or a group that takes part and does not fare well.

use super::{Advice, run, say};
use crate::check::CauseKind;
use crate::name::printable;

/// What to do about a condition; `None` where the cause is another one. `name` is the server that it is about, where it
/// is about one, as far as its name is known.
pub(super) fn for_condition(cause: CauseKind, name: Option<&str>) -> Option<Vec<Advice>> {
    let shown = name.map_or_else(|| "the server".to_owned(), |name| printable(name).into_owned());
    let report = || {
        run("see which server and which account stores how much", "nats server report jetstream --sort file")
    };
    Some(match cause {
        CauseKind::LeaderFlapping => vec![
            say("look at the servers that led: at their load, their disks, and the network between them"),
            say("their logs say why each election began"),
            run("see how the group's members see each other", "nats server request raft --group _meta_"),
        ],
        CauseKind::SnapshotSlow => vec![
            say(format!("look at the disk of {shown}: its latency, and what else writes to it")),
            say("delete streams and consumers that nobody needs: a snapshot holds all of them"),
        ],
        CauseKind::StateGrowth => for_growth(),
        CauseKind::SizeDecreased => vec![
            say("if the removal was meant, nothing is to be done: this ends by itself"),
            say(
                "if not, start the server again under the same name: it joins again 5 minutes after its removal",
            ),
        ],
        CauseKind::PendingHigh => for_pending(),
        CauseKind::Behind => vec![
            say(format!("stop no other server before {shown} has caught up")),
            say(format!("look at the disk, the load and the network of {shown}")),
            say("if it falls further behind, restart it at a quiet time, while all others are well"),
        ],
        CauseKind::VersionMismatch => vec![
            say(format!(
                "if an upgrade is under way, go on with it; if not, bring {shown} to the version of the others"
            )),
            run("see who runs what", "nats server list"),
        ],
        CauseKind::Restarted => vec![
            say("if the restart was planned, nothing is to be done: this ends by itself"),
            say(format!(
                "if not, the log of {shown} and of its host says why: a panic, out of memory, a failed liveness probe"
            )),
        ],
        CauseKind::ReservationFilling => {
            vec![report(), say("raise the limits of the streams that are nearly full, or let them keep less")]
        }
        CauseKind::StorageFilling => vec![
            report(),
            say("delete what nobody needs, or let streams keep less (max_bytes, max_age)"),
            say(format!("or give {shown} more: a larger disk, then a larger max_file_store, and a reload")),
        ],
        CauseKind::Stopping
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
        | CauseKind::TooFewMembers
        | CauseKind::NoLeaderElected
        | CauseKind::ElectionUnderWay
        | CauseKind::Renamed
        | CauseKind::RemovalNotAgreed
        | CauseKind::GroupUnheard
        | CauseKind::Unknown => return None,
    })
}

fn for_growth() -> Vec<Advice> {
    vec![
        run("see who holds how many", "nats server report jetstream"),
        say(
            "look for clients that create a consumer each time they connect; let unused ones expire (--inactive-threshold)",
        ),
        say("if so many are meant, raise --max-assets"),
    ]
}

fn for_pending() -> Vec<Advice> {
    vec![
        say(
            "look for clients that ask for stream or consumer information again and again, or create and delete many",
        ),
        say("look at the load and the disk of the leader; another one may be faster"),
        run("let another member lead", "nats server cluster step-down"),
    ]
}
