//! META_001: a peer of the meta group is offline.
//!
//! The literal definition is the server's own flag. It is exact when a stop was announced, minutes late after a
//! crash, and never comes in some failures (nats-server 2.9 to 2.15, `server/events.go`: set by SHUTDOWN and
//! LAMEDUCK events, else after 150 s of silence, looked at every 90 s; measured 142 to 239 s). So a peer has
//! witnesses, and two independent ones that agree are a fault too.

use super::cause;
use super::{Check, Context, Finding, Grounds, Severity, Subject, Verdict, Witness};
use crate::rules::{
    Basis, LEADERLESS_MIN, SILENCE_MIN, SILENT_EPOCHS_MIN, STANDING_EPOCHS_MIN, UNLISTED_MIN,
};
use crate::view::{Answer, Contact, GroupView, PeerView};
use crate::wire::Row;

pub(super) const CHECK: Check = Check {
    code: "META_001",
    title: "NATS Offline Replica",
    category: "Health",
    severity: Severity::Critical,
    event: "offline_replica",
    usual: true,
    about: Subject::Membership,
    well: "{} is well",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    // A server that is in nobody's list is no peer, whatever it answers.
    for peer in group.peers.iter().filter(|peer| !peer.outsider) {
        let witnesses = witnesses(group, peer, context);
        let (verdict, grounds) = judge(group, peer, &witnesses, context);
        let mut finding = Finding { grounds, ..Finding::new(check, group, Some(peer.id), verdict) };
        if matches!(verdict, Verdict::Fault | Verdict::Suspect) {
            finding.cause = Some(cause::of_peer(group, peer, &witnesses, context));
            let announced = peer.announced.map(|(at, _)| at);
            let unlisted = peer.unlisted.map(|streak| streak.since);
            let since = [peer.down_since, announced, unlisted].into_iter().flatten().min();
            finding.since = Some(since.unwrap_or(context.opened));
            finding.witnesses = witnesses;
        }
        findings.push(finding);
    }
}

/// Who speaks against a peer.
fn witnesses(group: &GroupView, peer: &PeerView, context: &Context<'_>) -> Vec<Witness> {
    let listed = peer.row.is_some();
    let silent = peer.member
        && peer
            .silence
            .is_some_and(|silence| silence.epochs >= SILENT_EPOCHS_MIN && silence.lasted() >= SILENCE_MIN);
    let (offline, lists) = peer.hearsay;
    let unlisted = peer.unlisted.is_some_and(|unlisted| unlisted.lasted() >= UNLISTED_MIN);
    let speaks = [
        (Witness::Flag, peer.flagged),
        (Witness::Contact, out_of_contact(peer, context)),
        (Witness::Silence, silent),
        (Witness::Disconnected, silent && peer.disconnected_epochs >= STANDING_EPOCHS_MIN),
        (Witness::Disabled, peer.answer == Answer::Disabled && (listed || peer.member)),
        (Witness::Announced, peer.announced.is_some() && (listed || peer.member)),
        (
            Witness::Hearsay,
            group.authority.is_none() && peer.answer == Answer::None && offline > 0 && offline * 2 >= lists,
        ),
        (Witness::Unlisted, unlisted),
    ];
    speaks.into_iter().filter(|(_, speaks)| *speaks).map(|(witness, _)| witness).collect()
}

/// Whether the authoritative leader has been without contact to the peer for too long.
pub(super) fn out_of_contact(peer: &PeerView, context: &Context<'_>) -> bool {
    matches!(peer.contact, Contact::Away(away) if away > context.rules.lost_contact)
}

fn judge(
    group: &GroupView,
    peer: &PeerView,
    witnesses: &[Witness],
    context: &Context<'_>,
) -> (Verdict, Option<Grounds>) {
    let speaks = |witness| witnesses.contains(&witness);
    // A peer that answers contradicts its flag; a flag that outlives the contradiction stands.
    let contradicted = peer.answer == Answer::Member && peer.flag_epochs < STANDING_EPOCHS_MIN;
    if speaks(Witness::Flag) && !contradicted {
        return (Verdict::Fault, Some(Grounds::Reported));
    }
    if peer.absent_epochs >= STANDING_EPOCHS_MIN {
        return (Verdict::Gone, None);
    }
    if observed(group, peer, witnesses) {
        return match context.rules.basis {
            Basis::Observed => (Verdict::Fault, Some(Grounds::Observed)),
            Basis::Reported => (Verdict::Suspect, None),
        };
    }
    if witnesses.iter().any(|witness| *witness != Witness::Flag) {
        return (Verdict::Suspect, None);
    }
    let said_well = |row: &Row| !row.offline && !row.offline_unreadable;
    let listed_well = peer.row.as_ref().is_some_and(said_well) && peer.contact == Contact::Fresh;
    if peer.answer == Answer::Member && (peer.leader || listed_well) {
        return (Verdict::Clear, None);
    }
    (Verdict::Unknown, None)
}

/// Whether two independent witnesses agree without the flag.
fn observed(group: &GroupView, peer: &PeerView, witnesses: &[Witness]) -> bool {
    let speaks = |witness| witnesses.contains(&witness);
    // Whoever the leader has heard since, or answers another question itself, is not silent for a reason of its own.
    let silence = speaks(Witness::Silence) && !peer.is_vouched_for();
    let disabled = speaks(Witness::Disabled);
    let announced = speaks(Witness::Announced);
    // Its own announcement goes before what the leader heard of it meanwhile.
    if (silence && speaks(Witness::Disconnected)) || (speaks(Witness::Silence) && announced) {
        return true;
    }
    if speaks(Witness::Contact) && (silence || disabled || announced) {
        return true;
    }
    let leaderless = group.leaderless.is_some_and(|leaderless| leaderless.lasted() >= LEADERLESS_MIN);
    let corroborated =
        peer.contact_lost_earlier || announced || speaks(Witness::Hearsay) || group.quorum_gone();
    leaderless && (silence || disabled) && corroborated
}
