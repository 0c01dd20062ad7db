//! The best guess at what happened to a peer, with its reasons.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Witness, plain};
use crate::name::few;
use crate::rules::STANDING_EPOCHS_MIN;
use crate::view::{Answer, Contact, GroupView, PeerView, Route, Standing};

/// Contact younger than this shows that the leader still hears the peer.
const CONTACT_YOUNG: Duration = Duration::from_secs(3);
/// A silence towards us longer than this, with young contact to the leader, is not a crash.
const SILENCE_LONG: Duration = Duration::from_secs(10);

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
    /// It is listed and will probably never come back: renamed, replaced, or gone for very long.
    Ghost,
    /// It runs and follows the leader, but is not a peer of the group.
    Unlisted,
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
    let guesses = [unlisted, disabled, announced, ghost, routes, silent, returning, contact];
    let facts = Facts { group, peer, witnesses, context };
    guesses.iter().find_map(|guess| guess(&facts)).unwrap_or_else(|| Cause {
        kind: CauseKind::Unknown,
        because: vec!["nothing tells what happened".to_owned()],
    })
}

struct Facts<'a> {
    group: &'a GroupView,
    peer: &'a PeerView,
    witnesses: &'a [Witness],
    context: &'a Context<'a>,
}

impl Facts<'_> {
    fn silent_for(&self) -> Option<Duration> {
        self.peer.silence.map(Standing::lasted)
    }

    /// `it has not answered for 2.3 s`, or without a time where it was never heard.
    fn silence_in_words(&self) -> String {
        match (self.silent_for(), self.peer.last_heard) {
            (Some(silent), Some(_)) => format!("it has not answered for {}", plain(silent)),
            (_, Some(heard)) => {
                format!("its last answer came {} ago", plain(self.context.now.since(heard)))
            }
            (_, None) => "it has not answered since we watch".to_owned(),
        }
    }
}

fn one(kind: CauseKind, because: impl Into<String>) -> Option<Cause> {
    Some(Cause { kind, because: vec![because.into()] })
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

fn disabled(facts: &Facts<'_>) -> Option<Cause> {
    (facts.peer.answer == Answer::Disabled)
        .then(|| one(CauseKind::JetstreamDisabled, "the server answers that its JetStream is off"))
        .flatten()
}

fn announced(facts: &Facts<'_>) -> Option<Cause> {
    if let Some((at, kind)) = facts.peer.announced {
        return one(CauseKind::Stopping, format!("it announced its stop ({kind}) at {at}"));
    }
    let flagged = facts.witnesses.contains(&Witness::Flag) && facts.peer.flag_announced;
    flagged
        .then(|| {
            one(
                CauseKind::Stopping,
                "the flag came within 2 min of its last sign of life: one that nobody announced takes longer",
            )
        })
        .flatten()
}

fn ghost(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    // A leader that was just elected has not heard a peer that just died either, but does not flag it yet.
    let flagged = facts.witnesses.contains(&Witness::Flag);
    if peer.last_heard.is_none() && !peer.ever_in_contact && flagged {
        return one(
            CauseKind::Ghost,
            "it is flagged offline, and neither we nor the leader have ever heard of it",
        );
    }
    let down = facts.context.now.since(peer.down_since?);
    (down > facts.context.rules.ghost_after)
        .then(|| one(CauseKind::Ghost, format!("it has been offline for {}", plain(down))))
        .flatten()
}

fn routes(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    if peer.routes_held {
        let holders = peer.routes.iter().filter(|(_, route)| **route == Route::Held);
        let holders = few(holders.map(|(name, _)| name.to_string()));
        let holders = if holders.is_empty() { "others".to_owned() } else { holders };
        let because = vec![facts.silence_in_words(), format!("{holders} held a route to it meanwhile")];
        return Some(Cause { kind: CauseKind::FrozenOrPartitioned, because });
    }
    (peer.disconnected_epochs >= STANDING_EPOCHS_MIN).then(|| {
        let (kind, routes) = match (peer.last_heard, &peer.row) {
            (Some(_), _) => (CauseKind::Crashed, "every route to it closed at once, without an announcement"),
            // Who never heard it goes by the leader, which flags whoever announces a stop.
            (None, Some(row)) if !row.offline => {
                (CauseKind::Crashed, "no server holds a route to it, and the leader heard of no stop")
            }
            (None, _) => (CauseKind::CrashedOrUnreachable, "no server holds a route to it"),
        };
        Cause { kind, because: vec![facts.silence_in_words(), routes.to_owned()] }
    })
}

fn silent(facts: &Facts<'_>) -> Option<Cause> {
    let peer = facts.peer;
    if peer.answer != Answer::None {
        return None;
    }
    let young = peer.row.as_ref().is_some_and(|row| {
        row.active_ns > 0 && row.active_ns < i64::try_from(CONTACT_YOUNG.as_nanos()).unwrap_or(i64::MAX)
    });
    if young && facts.silent_for().is_some_and(|silent| silent > SILENCE_LONG) {
        let because = vec![facts.silence_in_words(), "the leader still hears it".to_owned()];
        return Some(Cause { kind: CauseKind::FrozenOrPartitioned, because });
    }
    let mut because = vec![facts.silence_in_words()];
    if peer.last_heard.is_some() {
        because.push("it announced no stop".to_owned());
    }
    if let Contact::Away(away) = peer.contact
        && peer.row.as_ref().is_some_and(|row| row.active_ns > 0)
    {
        because.push(format!("the leader last heard it {} ago", plain(away)));
    }
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
