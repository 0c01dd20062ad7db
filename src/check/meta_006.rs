//! META_006: the meta group cannot work. META_001 is blind exactly then: without a leader no list is authoritative, and
//! up to 2.14 there is no list at all.
//!
//! No leader is not one thing: too few members may answer, or enough and they elect nobody; the servers may answer under
//! names that nobody lists; a leader may have too few peers in contact, or have removed them from its list without a
//! majority. The cause tells which.

use std::collections::BTreeSet;

use super::{Cause, CauseKind, Check, Context, Finding, Grounds, Severity, Subject, Verdict, Witness};
use crate::name::{Name, join_some};
use crate::rules::{CLAIM_SETTLES_MAX, LEADERLESS_MIN, LISTLESS_LEADS_MAX, SHORT_MIN, STANDING_EPOCHS_MIN};
use crate::stamp::human_duration;
use crate::view::{GroupView, PeerView, Streak, label};

pub(super) const CHECK: Check = Check {
    code: "META_006",
    title: "NATS Meta Quorum Lost",
    category: "Health",
    severity: Severity::Critical,
    event: "quorum_lost",
    usual: true,
    about: Subject::Membership,
    well: "{} has its quorum",
    run,
};

fn run(check: &Check, group: &GroupView, _: &Context<'_>, findings: &mut Vec<Finding>) {
    // A leader that only we cannot hear or read leads all the same, and one that was just elected may still have no list.
    let settles_within = if group.claim_followed { LISTLESS_LEADS_MAX } else { CLAIM_SETTLES_MAX };
    let settles = group.claimed.is_some_and(|claim| claim.lasted() < settles_within);
    let leaderless =
        group.leaderless.filter(|streak| streak.lasted() >= LEADERLESS_MIN && !group.followed && !settles);
    // Members of a group give up a leader that is gone within an election; observers of a hub never do. Only they can
    // say whether they hear it.
    let hidden = group.leaderless.filter(|streak| {
        streak.lasted() >= LEADERLESS_MIN && group.followed && group.unreadable_leader.is_none()
    });
    // A leader that was just elected shows peers that it has not heard of yet: a moment of it is not enough.
    let short = group.short.filter(|streak| lasts(*streak) && streak.lasted() >= SHORT_MIN);
    // The same numbers as beside every alert: what META_001 found counts.
    let online = super::impact(group, findings).online;
    let enough = online.zip(group.quorum).is_some_and(|(online, quorum)| online >= quorum);
    // A leader whose list cannot be counted leads all the same, if as many as must agree follow it.
    let led = group.online.is_none() && group.led;
    let verdict = match leaderless.or(short) {
        Some(_) => Verdict::Fault,
        None if hidden.is_some() => Verdict::Suspect,
        None if enough || led => Verdict::Clear,
        None => Verdict::Unknown,
    };
    let mut finding = Finding::new(check, group, None, verdict);
    if let (Verdict::Suspect, Some(streak)) = (verdict, hidden) {
        finding.witnesses.push(Witness::Leaderless);
        finding.since = Some(streak.since);
        finding.cause = Some(hidden_leader(group, streak));
    }
    if let Some(streak) = leaderless {
        finding.witnesses.push(Witness::Leaderless);
        finding.cause = Some(without_a_leader(group, streak));
    }
    if short.is_some() {
        finding.witnesses.push(Witness::Short);
        finding.cause = finding.cause.or_else(|| too_few_online(group));
    }
    if verdict == Verdict::Fault {
        finding.grounds = Some(if short.is_some() { Grounds::Reported } else { Grounds::Observed });
        finding.since = [leaderless, short].into_iter().flatten().map(|streak| streak.since).min();
    }
    findings.push(finding);
}

fn lasts(streak: Streak) -> bool {
    streak.epochs >= STANDING_EPOCHS_MIN
}

/// A leader that members follow, and that we cannot hear.
fn hidden_leader(group: &GroupView, streak: Streak) -> Cause {
    let named =
        join_some(group.named_leaders.values().flatten().map(Name::to_string).collect::<BTreeSet<_>>());
    Cause {
        kind: CauseKind::HiddenFromUs,
        because: vec![
            format!("{named} leads by the word of {} that answer", group.answering),
            format!("it has not answered us for {}", human_duration(streak.lasted())),
        ],
    }
}

/// Which kind of leaderless it is.
fn without_a_leader(group: &GroupView, streak: Streak) -> Cause {
    let lasted = human_duration(streak.lasted());
    let size = group.size.map_or_else(|| "the".to_owned(), |size| size.to_string());
    let answering = format!("{} of {size} members answer", group.answering);
    let mut because = if group.listless.is_empty() {
        vec![format!("no member has claimed to lead for {lasted}")]
    } else {
        let names = join_some(group.listless.iter().map(Name::to_string));
        vec![format!("no leader has had a list of its peers for {lasted}, though {names} claimed to lead")]
    };
    let outsiders = !group.outsiders.is_empty();
    because.push(answering);
    if outsiders {
        let names = join_some(group.outsiders.iter().map(Name::to_string));
        because.push(format!("{names} answer and are in nobody's list"));
    }
    if let Some(quorum) = group.quorum {
        because.push(format!("{quorum} must agree"));
    }
    let kind = match (group.quorum_gone(), outsiders) {
        (true, true) => CauseKind::Renamed,
        (true, false) => CauseKind::TooFewMembers,
        (false, _) if group.enough.is_some_and(|enough| enough.lasted() >= LEADERLESS_MIN) => {
            CauseKind::NoLeaderElected
        }
        (false, _) => CauseKind::ElectionUnderWay,
    };
    Cause { kind, because }
}

/// A leader that has too few peers in contact, or has removed them without a majority.
fn too_few_online(group: &GroupView) -> Option<Cause> {
    let (online, quorum) = (group.online?, group.quorum?);
    let mut because = vec![format!("the leader's list has {online} online, {quorum} must agree")];
    let Some(held) = &group.held else { return Some(Cause { kind: CauseKind::TooFewMembers, because }) };
    let label = |id| group.peer(id).map_or_else(|| label(None, id), PeerView::label);
    let mut lacks: Vec<String> = held.lacks.iter().map(|id| label(*id)).collect();
    lacks.sort();
    because.push(format!(
        "its list lacks {}: too few could agree on the removal, so it did not take effect",
        join_some(lacks)
    ));
    Some(Cause { kind: CauseKind::RemovalNotAgreed, because })
}
