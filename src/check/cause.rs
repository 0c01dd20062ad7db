//! The best guess at what happened to a peer, with its reasons.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Witness};
use crate::name::{Name, join_some, printable};
use crate::rules::STANDING_EPOCHS_MIN;
use crate::stamp::human_duration;
use crate::view::{Answer, Contact, GroupView, PeerView, Route, Streak};

/// What happened, as far as the evidence goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// The kind of thing that happened.
    pub kind: CauseKind,
    /// The reasons for the guess, as sentences without a period.
    pub because: Vec<String>,
}

/// The kinds of things that happen to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// It was stopped in an orderly way, or put into lame duck mode.
    Stopping,
    /// Its process ended, or its host reset its connections.
    Crashed,
    /// It fell silent without a word; whether it crashed or cannot be reached is not known.
    CrashedOrUnreachable,
    /// The server runs with JetStream off.
    JetstreamDisabled,
    /// The process is frozen, its host vanished without a word, or packets are dropped.
    FrozenOrPartitioned,
    /// It has been offline for so long that it will probably never come back: renamed, replaced, or scaled down.
    Ghost,
    /// It runs and follows the leader, but is not a peer of the group.
    Unlisted,
    /// It has been down since before the present leader's term: stopped or crashed then.
    DownBeforeTerm,
    /// Its id is none that a server can have: a damaged file on a server brought it in.
    DamagedId,
    /// The leader flags it offline, while it answers and is in contact with that leader.
    FlagContradicted,
    /// The leader hears it, and we do not: the way between it and us is broken.
    HiddenFromUs,
    /// It runs, and others of its cluster hear it: neither the leader nor this monitor does.
    PartlyCutOff,
    /// It takes part in the group and answers other questions, but not the one for its JetStream.
    MonitoringStuck,
    /// Of a group: fewer members answer than must agree.
    TooFewMembers,
    /// Of a group: enough members answer, and they elect no leader.
    NoLeaderElected,
    /// Of a group: enough members have answered for a moment, so that they may elect a leader.
    ElectionUnderWay,
    /// Of a group: its servers answer under names that nobody lists.
    Renamed,
    /// Of a group: a leader without a majority removed peers from its own list; the removal is not agreed on.
    RemovalNotAgreed,
    /// Of a group: nobody of it is heard, while others are.
    GroupUnheard,
    /// Of a group: its leader changed too often.
    LeaderFlapping,
    /// The last snapshot of the meta group took too long on it.
    SnapshotSlow,
    /// Of a group: it holds too many streams and consumers.
    StateGrowth,
    /// Of a group: peers were removed from it.
    SizeDecreased,
    /// Of a group: too many API requests wait at its leader.
    PendingHigh,
    /// It takes part in the group and has not been current for long.
    Behind,
    /// It runs another version than most members of its group.
    VersionMismatch,
    /// Its server was started anew.
    Restarted,
    /// Its streams have nearly used up what they have reserved.
    ReservationFilling,
    /// Its storage is nearly full.
    StorageFilling,
    /// Not known.
    Unknown,
}

impl CauseKind {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::CrashedOrUnreachable => "crashed_or_unreachable",
            Self::JetstreamDisabled => "jetstream_disabled",
            Self::FrozenOrPartitioned => "frozen_or_partitioned",
            Self::Ghost => "ghost",
            Self::Unlisted => "unlisted",
            Self::DownBeforeTerm => "down_before_term",
            Self::DamagedId => "damaged_id",
            Self::FlagContradicted => "flag_contradicted",
            Self::HiddenFromUs => "hidden_from_us",
            Self::PartlyCutOff => "partly_cut_off",
            Self::MonitoringStuck => "monitoring_stuck",
            Self::TooFewMembers => "too_few_members",
            Self::NoLeaderElected => "no_leader_elected",
            Self::ElectionUnderWay => "election_under_way",
            Self::Renamed => "renamed",
            Self::RemovalNotAgreed => "removal_not_agreed",
            Self::GroupUnheard => "group_unheard",
            Self::LeaderFlapping => "leader_flapping",
            Self::SnapshotSlow => "snapshot_slow",
            Self::StateGrowth => "state_growth",
            Self::SizeDecreased => "size_decreased",
            Self::PendingHigh => "pending_high",
            Self::Behind => "behind",
            Self::VersionMismatch => "version_mismatch",
            Self::Restarted => "restarted",
            Self::ReservationFilling => "reservation_filling",
            Self::StorageFilling => "storage_filling",
            Self::Unknown => "unknown",
        }
    }
}

/// The best guess for a peer that somebody speaks against.
pub(super) fn of_peer(
    group: &GroupView,
    peer: &PeerView,
    witnesses: &[Witness],
    context: &Context<'_>,
) -> Cause {
    let guesses = [
        damaged,
        unlisted,
        contradicted,
        disabled,
        ghost,
        announced,
        before_term,
        vouched,
        routes,
        silent,
        returning,
        contact,
    ];
    let facts = Facts { group, peer, witnesses, context };
    let mut cause = guesses.iter().find_map(|guess| guess(&facts)).unwrap_or_else(|| Cause {
        kind: CauseKind::Unknown,
        because: vec!["nothing tells what happened".to_owned()],
    });
    if group.held.as_ref().is_some_and(|held| held.lacks.contains(&peer.id)) {
        cause
            .because
            .push("the leader's list lacks it now, and too few could agree on its removal".to_owned());
    }
    cause
}

struct Facts<'a> {
    group: &'a GroupView,
    peer: &'a PeerView,
    witnesses: &'a [Witness],
    context: &'a Context<'a>,
}

impl Facts<'_> {
    fn silent_for(&self) -> Option<Duration> {
        self.peer.silence.map(Streak::lasted)
    }

    /// `3 of 3 lists of other members call it offline`, where no list is authoritative.
    fn hearsay_in_words(&self) -> Option<String> {
        let (offline, lists) = self.peer.hearsay;
        (offline > 0).then(|| format!("{offline} of {lists} lists of other members call it offline"))
    }

    /// `the leader last heard it 4.2 s ago`, or that it has not in its term.
    fn contact_in_words(&self) -> Option<String> {
        match (self.peer.leader_heard, self.peer.contact) {
            (Some(ago), _) => Some(format!("the leader last heard it {} ago", human_duration(ago))),
            (None, Contact::Away(_)) => Some("the leader has not heard it in its term".to_owned()),
            (None, Contact::Fresh | Contact::Untold) => None,
        }
    }

    /// `it has not answered for 2.3 s`, or without a time where it was never heard.
    fn silence_in_words(&self) -> String {
        match (self.silent_for(), self.peer.last_heard) {
            (Some(silent), Some(_)) => format!("it has not answered for {}", human_duration(silent)),
            (_, Some(heard)) => {
                format!("its last answer came {} ago", human_duration(self.context.now.since(heard)))
            }
            (_, None) => "it has not answered since we began to watch".to_owned(),
        }
    }
}

fn one(kind: CauseKind, because: impl Into<String>) -> Option<Cause> {
    Some(Cause { kind, because: vec![because.into()] })
}

fn damaged(facts: &Facts<'_>) -> Option<Cause> {
    (!facts.peer.id.is_sound())
        .then(|| {
            one(CauseKind::DamagedId, "no server has such an id: it is not made of eight letters and digits")
        })
        .flatten()
}

fn unlisted(facts: &Facts<'_>) -> Option<Cause> {
    let leader = facts.group.authority.as_ref().map_or_else(String::new, |leader| leader.name.to_string());
    facts.witnesses.contains(&Witness::Unlisted).then(|| Cause {
        kind: CauseKind::Unlisted,
        because: vec![
            format!("it answers and follows {leader}"),
            format!("the complete list of {leader} lacks it"),
        ],
    })
}

fn contradicted(facts: &Facts<'_>) -> Option<Cause> {
    let leader = facts.group.authority.as_ref()?.name.to_string();
    facts.peer.contradicts_its_flag().then(|| Cause {
        kind: CauseKind::FlagContradicted,
        because: vec![
            format!("{leader} flags it offline, and is in contact with it"),
            match facts.peer.answer {
                Answer::Member => "it answers as a member".to_owned(),
                Answer::None | Answer::Unreadable | Answer::Disabled | Answer::Standalone => {
                    "it answers STATSZ".to_owned()
                }
            },
        ],
    })
}

fn disabled(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    (peer.answer == Answer::Disabled).then(|| {
        let mut because = vec!["the server answers that its JetStream is off".to_owned()];
        because.extend(peer.out_of_storage.as_ref().map(|stream| match stream.as_str() {
            "" => "it told that its storage is full".to_owned(),
            stream => {
                format!("it told that its storage is full: it could not store stream {}", printable(stream))
            }
        }));
        because.extend(facts.contact_in_words().filter(|_| facts.witnesses.contains(&Witness::Contact)));
        if peer.off_since_start {
            because.push("it was restarted, and its JetStream has been off since".to_owned());
        }
        Cause { kind: CauseKind::JetstreamDisabled, because }
    })
}

fn announced(facts: &Facts<'_>) -> Option<Cause> {
    if let Some((at, kind)) = facts.peer.announced {
        return one(CauseKind::Stopping, format!("it announced its stop ({kind}) at {at}"));
    }
    let flagged = facts.witnesses.contains(&Witness::Flag) && facts.peer.flag_announced;
    (flagged && facts.peer.answer == Answer::None)
        .then(|| {
            one(
                CauseKind::Stopping,
                "the flag came within 2 min of its last sign of life: one that nobody announced takes longer",
            )
        })
        .flatten()
}

/// Offline for longer than a server that is only down stays so, by our own clock or by the leader's.
fn ghost(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    let limit = facts.context.rules.ghost_after;
    // Our own last answer goes before the leader's clock, which may have jumped.
    let answered = peer.last_heard.map(|heard| facts.context.now.since(heard));
    let lately = answered.is_some_and(|answered| answered <= limit);
    if let Some(heard) = peer.leader_heard.filter(|heard| *heard > limit && !lately) {
        return one(CauseKind::Ghost, format!("the leader last heard it {} ago", human_duration(heard)));
    }
    // While nobody of the group is heard, nothing is known of how long it stays down.
    let down = facts.context.now.since(peer.down_since.filter(|_| facts.group.heard)?);
    (down > limit)
        .then(|| one(CauseKind::Ghost, format!("it has been offline for {}", human_duration(down))))
        .flatten()
}

/// Flagged by a leader that has not heard it in its term (`active` 0), and not heard by us: it went before both.
fn before_term(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    // A leader that was just elected has not heard a peer that just died either, but does not flag it yet.
    let flagged = facts.witnesses.contains(&Witness::Flag) && peer.row.is_some();
    if peer.answer != Answer::None || !flagged || peer.last_heard.is_some() || peer.leader_heard.is_some() {
        return None;
    }
    let met = if peer.met {
        "the leader knows it and has not heard it in its term: it was stopped or went down before"
    } else {
        "the leader has not heard it in its term, and knows no name for its id"
    };
    Some(Cause {
        kind: CauseKind::DownBeforeTerm,
        because: vec![met.to_owned(), "it has not answered since we began to watch".to_owned()],
    })
}

/// Silent to us, and alive by the word of others.
fn vouched(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None || !peer.is_vouched_for() {
        return None;
    }
    let mut because = vec![facts.silence_in_words()];
    if let Some(heard) = peer.leader_heard.filter(|_| peer.leader_still_hears) {
        because.push(format!("the leader heard it {} ago", human_duration(heard)));
    }
    if peer.answers_statsz {
        because.push("it answers STATSZ, and not JSZ".to_owned());
        return Some(Cause { kind: CauseKind::MonitoringStuck, because });
    }
    if peer.routes_held {
        because.push("servers of its cluster hold routes to it".to_owned());
    }
    Some(Cause { kind: CauseKind::HiddenFromUs, because })
}

fn routes(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    let lost = facts.contact_in_words().filter(|_| facts.witnesses.contains(&Witness::Contact));
    if lost.is_some() && !peer.still_receive.is_empty() {
        let hear = join_some(peer.still_receive.iter().map(Name::to_string));
        let because = [Some(facts.silence_in_words()), lost, Some(format!("{hear} still received from it"))];
        return Some(Cause {
            kind: CauseKind::PartlyCutOff,
            because: because.into_iter().flatten().collect(),
        });
    }
    if peer.routes_held {
        return Some(Cause {
            kind: CauseKind::FrozenOrPartitioned,
            because: [Some(facts.silence_in_words()), lost, Some(held(peer)), standstill(facts)]
                .into_iter()
                .flatten()
                .collect(),
        });
    }
    closed(facts)
}

/// The connections to it have closed, and are perhaps there again already while it starts.
fn closed(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if !peer.routes_closed {
        return None;
    }
    let unflagged = peer.row.as_ref().is_some_and(|row| !row.offline);
    let (kind, closed) = match () {
        () if !peer.gateways.is_empty() => {
            (CauseKind::CrashedOrUnreachable, "no other cluster holds a gateway connection to its cluster")
        }
        () if peer.last_heard.is_some() && peer.watched_since_heard && peer.announced.is_none() => {
            (CauseKind::Crashed, "every route to it closed at once, without an announcement")
        }
        // Who did not hear the last of it goes by the leader, which flags whoever announces a stop.
        () if unflagged => (
            CauseKind::Crashed,
            "no server of its cluster holds a route to it, and the leader heard of no stop",
        ),
        () => (CauseKind::CrashedOrUnreachable, "no server of its cluster holds a route to it"),
    };
    let (kind, closed) = if peer.disconnected_epochs < STANDING_EPOCHS_MIN {
        (CauseKind::CrashedOrUnreachable, "all connections to it had closed, and others hold one again")
    } else {
        (kind, closed)
    };
    Some(Cause { kind, because: vec![facts.silence_in_words(), closed.to_owned()] })
}

/// Who held a connection to a peer while it was silent.
fn held(peer: &PeerView) -> String {
    let of = |routes: &BTreeMap<Name, Route>| {
        let holders = routes.iter().filter(|(_, route)| **route == Route::Held);
        join_some(holders.map(|(name, _)| name.to_string()))
    };
    match (of(&peer.routes), of(&peer.gateways)) {
        (holders, _) if !holders.is_empty() => format!("{holders} held a route to it meanwhile"),
        (_, holders) if !holders.is_empty() => {
            format!("{holders} held a gateway connection to its cluster meanwhile")
        }
        _ => "others held a route to it meanwhile".to_owned(),
    }
}

/// `s1 and s2 have received nothing from it, not even a heartbeat, for 3.2 s`
fn standstill(facts: &Facts<'_>) -> Option<String> {
    let nothing = &facts.peer.receive_nothing;
    let least = nothing.values().min().filter(|_| facts.witnesses.contains(&Witness::Standstill))?;
    let names = join_some(nothing.keys().map(Name::to_string));
    Some(format!(
        "{names} have received nothing from it, not even a heartbeat, for {}",
        human_duration(*least)
    ))
}

fn silent(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    let mut because = vec![facts.silence_in_words()];
    if peer.last_heard.is_some() && peer.watched_since_heard && !peer.flagged {
        because.push("it announced no stop".to_owned());
    }
    let lost = facts.witnesses.contains(&Witness::Contact) || matches!(peer.contact, Contact::Away(_));
    because.extend(facts.contact_in_words().filter(|_| lost && peer.leader_heard.is_some()));
    because.extend(facts.hearsay_in_words());
    Some(Cause { kind: CauseKind::CrashedOrUnreachable, because })
}

fn returning(facts: &Facts<'_>) -> Option<Cause> {
    let coming_back = facts.peer.is_coming_back(facts.context.now);
    coming_back
        .then(|| one(CauseKind::Unknown, "it answers again, and the leader has not heard it yet"))
        .flatten()
}

fn contact(facts: &Facts<'_>) -> Option<Cause> {
    facts
        .witnesses
        .contains(&Witness::Contact)
        .then(|| one(CauseKind::FrozenOrPartitioned, "it answers us while the leader has no contact to it"))
        .flatten()
}
