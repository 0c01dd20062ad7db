//! The one line that a person reads.

use std::collections::BTreeSet;

use crate::alert::{Alert, Reason, State};
use crate::check::{Cause, CauseKind, Check, Finding, Grounds, Impact, Witness};
use crate::diagnosis::Diagnosis;
use crate::name::{join_some, thousands};
use crate::stamp::{Stamp, human_duration};
use crate::view::{ClusterView, GroupView, PeerView};

/// So many answers of servers are told in one line.
const SAID_MAX: usize = 2;
/// ... and so much of them: a header has a limit.
const SAID_BYTES_MAX: usize = 400;

/// The summary of an event about a peer, which is called `name`.
pub(super) fn of_peer(
    alert: &Alert,
    reason: Reason,
    finding: Option<&Finding>,
    name: &str,
    group: &GroupView,
    impact: Impact,
    now: Stamp,
) -> String {
    let rest = peers_online(group, impact);
    match alert.state {
        State::Firing => {
            let again = if reason == Reason::Reminder {
                format!(", for {} now", human_duration(now.since(alert.since)))
            } else if reason == Reason::Updated && alert.grounds == Some(Grounds::Reported) {
                ", the servers report it now".to_owned()
            } else {
                String::new()
            };
            format!("{}{again}: {rest}", offline(name, finding))
        }
        State::Suspected => format!("{}: {rest}", suspected(name, finding)),
        State::Resolved if reason == Reason::Removed => {
            format!("{name} was removed from the meta group: {rest}")
        }
        State::Resolved if reason == Reason::Forgotten => {
            format!("nothing shows {name} any more, so its alert ends without a word of recovery")
        }
        State::Resolved if reason == Reason::Displaced => {
            format!(
                "too many alerts stand to follow them all: the one about {name} ends without a word of recovery"
            )
        }
        State::Resolved if reason == Reason::Withdrawn => {
            format!("{name} is well, the suspicion is withdrawn: {rest}")
        }
        State::Resolved => format!("{name} is back after {}: {rest}", human_duration(now.since(alert.since))),
    }
}

/// The summary of an event about a whole group.
pub(super) fn of_group(
    alert: &Alert,
    reason: Reason,
    finding: Option<&Finding>,
    group: &GroupView,
    impact: Impact,
    now: Stamp,
) -> String {
    if alert.state == State::Resolved {
        if reason == Reason::Forgotten {
            return format!(
                "nothing shows meta group {} any more, so its alert ends without a word of recovery",
                group.key
            );
        }
        if reason == Reason::Displaced {
            return format!(
                "too many alerts stand to follow them all: the one about meta group {} ends without a word of recovery",
                group.key
            );
        }
        let leader =
            group.authority.as_ref().map_or_else(String::new, |leader| format!(", led by {}", leader.name));
        return format!(
            "meta group {} is well again after {}{leader}: {}",
            group.key,
            human_duration(now.since(alert.since)),
            peers_online(group, impact)
        );
    }
    group_fault(alert.identity.check, group, finding)
}

/// The summary of an event of a check that has words of its own ([`Subject::Condition`]). `subject` is the peer or the
/// group.
pub(super) fn of_condition(
    alert: &Alert,
    reason: Reason,
    finding: Option<&Finding>,
    check: &Check,
    subject: &str,
    now: Stamp,
) -> String {
    let lasted = human_duration(now.since(alert.since));
    match (alert.state, reason) {
        (State::Resolved, Reason::Removed) => format!("{subject} was removed from the meta group"),
        (State::Resolved, Reason::Forgotten) => {
            format!("nothing shows {subject} any more, so its alert ends without a word of recovery")
        }
        (State::Resolved, Reason::Displaced) => {
            format!(
                "too many alerts stand to follow them all: the one about {subject} ends without a word of recovery"
            )
        }
        (State::Resolved, _) => format!("{} again, after {lasted}", well(check, subject)),
        (State::Firing | State::Suspected, Reason::Reminder) => {
            format!("{}, for {lasted} now", condition(check, subject, finding))
        }
        (State::Firing | State::Suspected, _) => condition(check, subject, finding),
    }
}

/// What is wrong, in the words of the check.
pub(super) fn condition(check: &Check, subject: &str, finding: Option<&Finding>) -> String {
    let words = finding.and_then(|finding| finding.words.clone());
    words.unwrap_or_else(|| format!("{subject}: {}, as before", check.title))
}

/// What is said where all is well: `s3 keeps running`.
pub fn well(check: &Check, subject: &str) -> String {
    check.well.replace("{}", subject)
}

/// `; s3 says: JetStream not enabled`: the most telling answers, as far as they fit into one line.
pub(super) fn diagnosis(diagnosis: &[Diagnosis]) -> String {
    let said = |said: &Diagnosis| format!("; {} says: {}", said.server, said.says);
    let mut said: String = diagnosis.iter().take(SAID_MAX).map(said).collect();
    if said.len() > SAID_BYTES_MAX {
        let mut end = SAID_BYTES_MAX;
        while !said.is_char_boundary(end) {
            end -= 1;
        }
        said.truncate(end);
        said.push('…');
    }
    said
}

/// `s3 is offline (stopped)`
pub(super) fn offline(name: &str, finding: Option<&Finding>) -> String {
    let cause = finding.and_then(|finding| finding.cause.as_ref());
    match cause.map(|cause| cause.kind) {
        Some(CauseKind::FlagContradicted) => {
            format!("{name}: its leader calls it offline, but it answers and is in contact")
        }
        Some(CauseKind::PartlyCutOff) => {
            format!("{name} is cut off: the leader and this monitor cannot reach it, others still hear it")
        }
        _ => format!("{name} is offline{}", cause_in_brackets(cause)),
    }
}

/// `s3 may be offline (it does not answer)`
pub(super) fn suspected(name: &str, finding: Option<&Finding>) -> String {
    let cause = finding.and_then(|finding| finding.cause.as_ref()).map(|cause| cause.kind);
    match cause {
        Some(CauseKind::HiddenFromUs) => format!("{name} does not answer us, but the leader hears it"),
        Some(CauseKind::MonitoringStuck) => {
            format!(
                "{name} takes part in the group, but its monitoring is stuck: it answers STATSZ and not JSZ"
            )
        }
        _ => format!("{name} may be offline ({})", finding.map_or("no more is known", why_suspected)),
    }
}

/// `meta group default has lost its quorum: …`, in the words of its case.
pub(super) fn group_fault(check: &str, group: &GroupView, finding: Option<&Finding>) -> String {
    let of = format!("meta group {}", group.key);
    let cause = finding.and_then(|finding| finding.cause.as_ref());
    let because = cause.map(|cause| join_some(cause.because.clone()));
    let because = because.unwrap_or_else(|| "as before".to_owned());
    if check == "META_002" {
        return format!("{of}: its members do not agree on the leader: {because}");
    }
    let what = match cause.map(|cause| cause.kind) {
        Some(CauseKind::NoLeaderElected) => {
            "has no leader although enough members answer, the JetStream API does not work"
        }
        Some(CauseKind::ElectionUnderWay) => {
            "has no leader, the JetStream API does not work; enough members answer again, an election is under way"
        }
        Some(CauseKind::Renamed) => {
            "has no leader, the JetStream API does not work; were its servers renamed?"
        }
        Some(CauseKind::RemovalNotAgreed) => {
            "has lost its quorum, and peers were removed without it: the JetStream API does not work"
        }
        Some(CauseKind::GroupUnheard) => "does not answer at all",
        Some(CauseKind::HiddenFromUs) => "may have lost its leader, which does not answer us",
        _ => "has lost its quorum, the JetStream API does not work",
    };
    format!("{of} {what}: {because}")
}

/// More groups than this are told as sums, and only the worst of them by name.
pub const GROUPS_TOLD_MAX: usize = 4;
/// So many groups are told by name beside the sums.
pub const WORST_TOLD_MAX: usize = 3;

/// `1,112 groups, 9,999 of 10,001 servers answered`
pub fn sums(view: &ClusterView) -> String {
    let number = |number: usize| thousands(number as u64);
    format!(
        "{} groups, {} of {} servers answered",
        number(view.groups.len()),
        number(view.epoch.heard),
        number(view.epoch.expected)
    )
}

/// How many groups beyond those that are named are not well.
pub fn more_unwell(more: u64) -> String {
    if more == 1 { "1 more is not well".to_owned() } else { format!("{} more are not well", thousands(more)) }
}

/// Why no complete list tells how many peers are online.
pub fn without_a_list(group: &GroupView) -> String {
    if group.authority.is_some() {
        return "the leader's list is not complete".to_owned();
    }
    if !group.claimants.is_empty() {
        let names: Vec<String> = group.claimants.iter().take(3).map(ToString::to_string).collect();
        return format!("{} claim to lead", names.join(" and "));
    }
    match &group.unreadable_leader {
        Some(leader) => format!("the answer of the leader {leader} cannot be read"),
        None if group.followed => {
            let named: BTreeSet<String> =
                group.named_leaders.values().flatten().map(ToString::to_string).collect();
            format!("the leader {} does not answer us", join_some(named))
        }
        None => "nobody leads".to_owned(),
    }
}

/// `2 of 3 meta peers online, no failure left before the JetStream API stops`
pub fn peers_online(group: &GroupView, impact: Impact) -> String {
    let size = group.size.map_or_else(|| "?".to_owned(), |size| size.to_string());
    if let Some(online) = impact.last_online.filter(|_| group.answering == 0) {
        return format!("{online} of {size} meta peers online, by the last answers");
    }
    if group.answering == 0 && !group.outsiders.is_empty() {
        return format!(
            "0 of {size} meta peers answer, {} servers in nobody's list do",
            group.outsiders.len()
        );
    }
    if group.answering == 0 {
        return format!("none of {size} meta peers answered this time");
    }
    let (Some(online), Some(failures_left)) = (impact.online, impact.failures_left) else {
        let quorum = group.quorum.map_or_else(String::new, |quorum| format!(", {quorum} must agree"));
        let leader = without_a_list(group);
        return format!("{leader}, {} of {size} meta peers answering{quorum}", group.answering);
    };
    if group.peers.iter().any(PeerView::contradicts_its_flag) {
        let quorum = group.quorum.unwrap_or_default();
        return format!("{online} of {size} meta peers online, {quorum} must agree");
    }
    if failures_left < 0 && !group.quorum_gone() {
        let quorum = group.quorum.unwrap_or_default();
        return format!(
            "{online} of {size} meta peers online by the leader's list, {} answering, {quorum} must agree",
            group.answering
        );
    }
    if failures_left < 0
        && i64::try_from(impact.suspected).is_ok_and(|suspected| failures_left + suspected >= 0)
    {
        let quorum = group.quorum.unwrap_or_default();
        return format!("{online} of {size} meta peers surely online, {quorum} must agree");
    }
    let left = match failures_left {
        ..0 => format!("quorum of {} is lost and the JetStream API stops", group.quorum.unwrap_or_default()),
        0 => "no failure left before the JetStream API stops".to_owned(),
        1 => "1 failure left before the JetStream API stops".to_owned(),
        left => format!("{left} failures left before the JetStream API stops"),
    };
    format!("{online} of {size} meta peers online, {left}")
}

fn cause_in_brackets(cause: Option<&Cause>) -> String {
    let Some(cause) = cause else { return String::new() };
    let what = match cause.kind {
        CauseKind::Stopping => "stopped",
        CauseKind::Crashed => "crashed",
        CauseKind::CrashedOrUnreachable => "crashed or unreachable",
        CauseKind::JetstreamDisabled => "JetStream disabled",
        CauseKind::FrozenOrPartitioned => "frozen or partitioned",
        CauseKind::DownBeforeTerm => "stopped or down since before this leader's term",
        CauseKind::DamagedId => "no server can have such an id",
        // How long it has been gone says most.
        CauseKind::Ghost => cause.because.first().map_or("gone for long", String::as_str),
        CauseKind::Unlisted
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
        | CauseKind::LeaderFlapping
        | CauseKind::SnapshotSlow
        | CauseKind::StateGrowth
        | CauseKind::SizeDecreased
        | CauseKind::PendingHigh
        | CauseKind::Behind
        | CauseKind::VersionMismatch
        | CauseKind::Restarted
        | CauseKind::ReservationFilling
        | CauseKind::StorageFilling
        | CauseKind::Unknown => return String::new(),
    };
    format!(" ({what})")
}

fn why_suspected(finding: &Finding) -> &'static str {
    let says = |witness| finding.witnesses.contains(&witness);
    match () {
        () if says(Witness::Unlisted) => "it follows the leader, whose list lacks it",
        () if says(Witness::Disabled) => "it answers that its JetStream is off",
        () if says(Witness::Announced) => "it announced its stop",
        () if says(Witness::Silence) => "it does not answer",
        () if says(Witness::Contact) => "the leader has lost contact to it",
        () if says(Witness::Hearsay) => "others call it offline",
        () => "no more is known",
    }
}
