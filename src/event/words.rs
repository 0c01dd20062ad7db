//! The one line that a person reads.

use crate::alert::{Alert, Reason, State};
use crate::check::{CauseKind, Finding, Grounds, Impact, Witness, plain};
use crate::diagnosis::Diagnosis;
use crate::name::few;
use crate::stamp::Stamp;
use crate::view::GroupView;

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
                format!(", for {} now", plain(now.since(alert.since)))
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
        State::Resolved if reason == Reason::Withdrawn => {
            format!("{name} is well, the suspicion is withdrawn: {rest}")
        }
        State::Resolved => format!("{name} is back after {}: {rest}", plain(now.since(alert.since))),
    }
}

/// The summary of an event about a whole group.
pub(super) fn of_group(
    alert: &Alert,
    finding: Option<&Finding>,
    group: &GroupView,
    impact: Impact,
    now: Stamp,
) -> String {
    if alert.state == State::Resolved {
        let leader =
            group.authority.as_ref().map_or_else(String::new, |leader| format!(", led by {}", leader.name));
        return format!(
            "meta group {} is well again after {}{leader}: {}",
            group.key,
            plain(now.since(alert.since)),
            peers_online(group, impact)
        );
    }
    group_fault(alert.identity.check, group, finding)
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
    format!("{name} is offline{}", cause_in_brackets(finding))
}

/// `s3 may be offline (it does not answer)`
pub(super) fn suspected(name: &str, finding: Option<&Finding>) -> String {
    format!("{name} may be offline ({})", finding.map_or("no more is known", why_suspected))
}

/// `meta group default has lost its quorum, …`
pub(super) fn group_fault(check: &str, group: &GroupView, finding: Option<&Finding>) -> String {
    let of = format!("meta group {}", group.key);
    let because = finding.and_then(|finding| finding.cause.as_ref()).map(|cause| few(cause.because.clone()));
    let because = because.unwrap_or_else(|| "as before".to_owned());
    if check == "META_002" {
        format!("{of}: its members do not agree on the leader: {because}")
    } else {
        format!("{of} has lost its quorum, the JetStream API does not work: {because}")
    }
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
        None => "nobody leads".to_owned(),
    }
}

/// `2 of 3 meta peers online, no failure left before the JetStream API stops`
pub fn peers_online(group: &GroupView, impact: Impact) -> String {
    let size = group.size.map_or_else(|| "?".to_owned(), |size| size.to_string());
    if group.answering == 0 {
        return format!("none of {size} meta peers answered this time");
    }
    let (Some(online), Some(failures_left)) = (impact.online, impact.failures_left) else {
        let quorum = group.quorum.map_or_else(String::new, |quorum| format!(", {quorum} must agree"));
        let leader = without_a_list(group);
        return format!("{leader}, {} of {size} meta peers answering{quorum}", group.answering);
    };
    let left = match failures_left {
        ..0 => format!("quorum of {} is lost and the JetStream API stops", group.quorum.unwrap_or_default()),
        0 => "no failure left before the JetStream API stops".to_owned(),
        1 => "1 failure left before the JetStream API stops".to_owned(),
        left => format!("{left} failures left before the JetStream API stops"),
    };
    format!("{online} of {size} meta peers online, {left}")
}

fn cause_in_brackets(finding: Option<&Finding>) -> &'static str {
    match finding.and_then(|finding| finding.cause.as_ref()).map(|cause| cause.kind) {
        Some(CauseKind::Stopping) => " (stopped)",
        Some(CauseKind::Crashed) => " (crashed)",
        Some(CauseKind::CrashedOrUnreachable) => " (crashed or unreachable)",
        Some(CauseKind::JetstreamDisabled) => " (JetStream disabled)",
        Some(CauseKind::FrozenOrPartitioned) => " (frozen or partitioned)",
        Some(CauseKind::Ghost) => " (never seen: renamed or replaced?)",
        Some(CauseKind::Unlisted | CauseKind::Unknown) | None => "",
    }
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
