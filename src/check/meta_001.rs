//! META_001: a peer of the meta group is offline.
//!
//! The literal definition is the server's own flag. It is exact when a stop was announced, minutes late after a
//! crash, and never comes in some failures (nats-server 2.9 to 2.15, `server/events.go`: set by SHUTDOWN and
//! LAMEDUCK events, else after 150 s of silence, looked at every 90 s; measured 142 to 239 s). So a peer has
//! witnesses, and two independent ones that agree are a fault too.

use super::cause;
use super::{Check, Context, Finding, Grounds, Severity, Subject, Verdict, Witness};
use crate::rules::{
    Basis, LEADERLESS_MIN, LED_MIN, SILENCE_MIN, SILENT_EPOCHS_MIN, STANDING_EPOCHS_MIN, STANDSTILL_MIN,
    UNLISTED_MIN,
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
    let majority = group.has_majority();
    // A server that is in nobody's list is no peer, whatever it answers.
    for peer in group.peers.iter().filter(|peer| !peer.outsider) {
        let witnesses = witnesses(group, peer, majority, context);
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
fn witnesses(group: &GroupView, peer: &PeerView, majority: bool, context: &Context<'_>) -> Vec<Witness> {
    let listed = peer.row.is_some();
    let silent = peer.member
        && peer
            .silence
            .is_some_and(|silence| silence.epochs >= SILENT_EPOCHS_MIN && silence.lasted() >= SILENCE_MIN);
    let (offline, lists) = peer.hearsay;
    let unlisted = peer.unlisted.is_some_and(|unlisted| unlisted.lasted() >= UNLISTED_MIN);
    let disabled = peer.answer == Answer::Disabled && (listed || peer.member);
    let away = disabled || (silent && !peer.is_vouched_for());
    let out_of_contact =
        out_of_contact(peer, context) || (away && majority && is_missed_by_both(group, peer, context));
    let speaks = [
        (Witness::Flag, peer.flagged),
        (Witness::Contact, out_of_contact),
        (Witness::Silence, silent),
        (Witness::Disconnected, silent && peer.disconnected_epochs >= STANDING_EPOCHS_MIN),
        (Witness::Disabled, disabled),
        (Witness::Announced, peer.announced.is_some() && (listed || peer.member)),
        (
            Witness::Hearsay,
            group.authority.is_none() && peer.answer == Answer::None && offline > 0 && offline * 2 >= lists,
        ),
        (Witness::Unlisted, unlisted),
        (Witness::Standstill, silent && majority_answers(group) && stands_still(group, peer, context)),
        (Witness::OutOfStorage, disabled && peer.out_of_storage.is_some()),
    ];
    speaks.into_iter().filter(|(_, speaks)| *speaks).map(|(witness, _)| witness).collect()
}

/// Whether the authoritative leader has been without contact to the peer for too long.
pub(super) fn out_of_contact(peer: &PeerView, context: &Context<'_>) -> bool {
    matches!(peer.contact, Contact::Away(away) if away > context.rules.lost_contact)
}

fn majority_answers(group: &GroupView) -> bool {
    group.quorum.is_some() && !group.quorum_gone()
}

/// Whether a leader that is silent to us sends nothing to its followers either: so many of them receive nothing that the
/// others and it are no majority. Nobody's list tells of a leader before the next one is elected.
///
/// Measured on 2.10.25 and 2.15.1, 3 and 5 servers: while a leader is frozen or cut off, what its followers have received
/// over their routes from it stands still for as long; in health, under load and over slow routes it never does for more
/// than a few heartbeats. Between two followers it can, for as long as you like.
fn stands_still(group: &GroupView, peer: &PeerView, context: &Context<'_>) -> bool {
    let (Some(size), Some(quorum)) = (group.size, group.quorum) else { return false };
    let silent = peer.silence.is_some_and(|silence| silence.lasted() > context.rules.lost_contact_silent);
    let hear_nothing = peer.receive_nothing.values().filter(|lasted| **lasted >= STANDSTILL_MIN).count();
    group.silent_leader == Some(peer.id) && silent && hear_nothing as u64 > size.saturating_sub(quorum)
}

/// Whether the authoritative leader has been without contact to the peer for so long that this counts beside a silence.
/// It counts only as far as we have seen the leader lead, because a leader of 2.10 that led before brings ages of then
/// along; and only as the word of a majority, which the caller knows.
///
/// Measured on 216 recordings of 2.10.25, 2.12.8 and 2.15.1 with pauses, starved CPUs, load, slow networks and stalled
/// disks: no peer that lives is spoken against, and a pause of less than 3.5 s is not either.
fn is_missed_by_both(group: &GroupView, peer: &PeerView, context: &Context<'_>) -> bool {
    let limit = context.rules.lost_contact_silent;
    let led_for = |least| group.led_for.is_none_or(|led| led.at_least > least);
    match (peer.leader_heard, peer.contact) {
        (Some(ago), _) => ago > limit && led_for(limit),
        // Not heard in this term at all: our own clock counts, once whoever lives has been heard.
        (None, Contact::Away(away)) => away > limit && led_for(LED_MIN),
        (None, Contact::Fresh | Contact::Untold) => false,
    }
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
    if (silence && speaks(Witness::Standstill)) || (disabled && speaks(Witness::OutOfStorage)) {
        return true;
    }
    if speaks(Witness::Contact) && (silence || disabled || announced) {
        return true;
    }
    let leaderless = group.leaderless.is_some_and(|leaderless| leaderless.lasted() >= LEADERLESS_MIN);
    let corroborated =
        peer.contact_lost_earlier || announced || speaks(Witness::Hearsay) || group.quorum_gone();
    // A member gives up a leader that is gone: whoever still follows one hears it, and that one has a majority.
    leaderless && !group.followed && (silence || disabled) && corroborated
}
