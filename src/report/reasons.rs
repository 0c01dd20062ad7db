//! Why it cannot be told: in words, for every part of a report that has no verdict.

use super::{TOLD_MAX, no_list};
use crate::check::{self, Finding, Subject, Verdict, by_group};
use crate::epoch::Ended;
use crate::name::join_some;
use crate::view::{Answer, ClusterView, Contact, GroupView, Part, PeerView};

/// How many unreadable replies and how many contradictions are told.
const UNREADABLE_TOLD_MAX: usize = 3;

/// Why it cannot be told, in words; nothing where all is known.
pub(super) fn reasons(view: &ClusterView, findings: &[Finding]) -> Vec<String> {
    let mut reasons: Vec<String> = why_epoch(view).into_iter().collect();
    for (group, found) in by_group(view, findings) {
        reasons.extend(not_complete(group));
        // What a member says of its own load is missing where its answer is: one reason is enough.
        let unknown = |finding: &&Finding| {
            finding.verdict == Verdict::Unknown
                && check::by_code(finding.check).is_some_and(|check| check.about == Subject::Membership)
        };
        for finding in found.iter().filter(unknown) {
            // No more are told.
            if reasons.len() >= TOLD_MAX {
                break;
            }
            let why = match finding.peer {
                Some(id) => {
                    // Without a list nothing is known of anybody: the group says it once.
                    let told = group.authority.is_some();
                    group.peer(id).filter(|_| told).map(|peer| why_peer(group, peer))
                }
                None => why_group(group, finding.check),
            };
            reasons.extend(why.filter(|why| !reasons.contains(why)));
        }
    }
    for group in view.groups.iter().filter(|group| !group.outsiders.is_empty()) {
        let names = join_some(group.outsiders.iter().map(ToString::to_string));
        reasons.push(format!("{names} answer, and no member of meta group {} lists them", group.key));
    }
    if view.epoch.informative {
        let rejects = view.epoch.rejects.iter().take(UNREADABLE_TOLD_MAX);
        reasons.extend(rejects.map(|(_, detail)| format!("a reply cannot be read ({detail})")));
        let contradictions = view.inconsistent.iter().filter(|said| !view.warnings.contains(*said));
        let contradictions = contradictions.take(UNREADABLE_TOLD_MAX);
        reasons.extend(contradictions.map(|contradiction| format!("inconsistent: {contradiction}")));
    }
    reasons.truncate(TOLD_MAX);
    reasons
}

fn why_epoch(view: &ClusterView) -> Option<String> {
    let epoch = &view.epoch;
    let why = match epoch.ended {
        Ended::NoResponders => "nobody listens to the request: this is not the system account".to_owned(),
        Ended::Denied => "the user may not ask, or may not hear the answers".to_owned(),
        Ended::Disconnected => "the connection was lost before everybody had answered".to_owned(),
        Ended::Full => "more replies came than can be taken in".to_owned(),
        Ended::AllHeard | Ended::Quiet | Ended::Deadline if !epoch.informative => {
            match epoch.rejects.first() {
                Some((_, detail)) => format!("no reply could be read ({detail})"),
                None => "no server answered".to_owned(),
            }
        }
        Ended::AllHeard | Ended::Quiet | Ended::Deadline if epoch.counts.dropped > 0 => {
            "replies were lost on the way".to_owned()
        }
        Ended::AllHeard | Ended::Quiet | Ended::Deadline if view.groups.is_empty() => no_group(view),
        Ended::AllHeard | Ended::Quiet | Ended::Deadline => return None,
    };
    Some(why)
}

fn no_group(view: &ClusterView) -> String {
    let names = |part: Part| {
        let names = view.servers.iter().filter(|server| server.part == part);
        Some(join_some(names.map(|server| server.name.to_string()))).filter(|names| !names.is_empty())
    };
    let parts = [
        names(Part::Standalone).map(|names| format!("JetStream is standalone on {names}")),
        names(Part::Disabled).map(|names| format!("JetStream is off on {names}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("there is no meta group: {}", parts.join(", "))
}

fn not_complete(group: &GroupView) -> Option<String> {
    let authority = group.authority.as_ref().filter(|authority| !authority.complete)?;
    Some(format!("the list of the leader {} is not complete", authority.name))
}

pub(super) fn why_group(group: &GroupView, check: &str) -> Option<String> {
    let key = &group.key;
    if group.authority.is_none() {
        return Some(if group.answering == 0 {
            format!("no member of meta group {key} answered")
        } else {
            no_list(group)
        });
    }
    if check == "META_002" {
        return Some(format!("the members of meta group {key} do not agree on their leader yet"));
    }
    if let Some(why) = not_complete(group) {
        return Some(why);
    }
    Some(format!("fewer peers of meta group {key} than must agree are online in one epoch"))
}

pub(super) fn why_peer(group: &GroupView, peer: &PeerView) -> String {
    let name = peer.label();
    let flagged = peer.row.as_ref().is_some_and(|row| row.offline);
    match peer.answer {
        Answer::None if peer.last_heard.is_some() => format!("{name} has missed this epoch"),
        Answer::None => format!("{name} did not answer"),
        Answer::Unreadable => format!("the answer of {name} cannot be read"),
        Answer::Disabled => format!("{name} answers that its JetStream is off"),
        Answer::Standalone => format!("{name} answers as a server outside of any group"),
        Answer::Member if flagged => format!("{name} is listed as offline, and answers"),
        Answer::Member if group.authority.is_none() => format!("{name} answers, and nobody leads its group"),
        Answer::Member if peer.row.is_none() => format!("{name} answers, and the leader's list lacks it"),
        Answer::Member if matches!(peer.contact, Contact::Away(_)) => {
            format!("{name} answers, and the leader has not heard of it for a moment")
        }
        Answer::Member => format!("nothing reliable is known of {name}"),
    }
}
