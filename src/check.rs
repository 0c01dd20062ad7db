//! The checks: what a view means for each peer and each group.
//!
//! A check is one file, one row in [`CHECKS`] and one scenario. It sees one group at a time, and every finding has
//! one of five verdicts; only [`Verdict::Clear`] and [`Verdict::Gone`] are ever good news.

pub mod advice;
pub mod cause;
mod meta_001;
mod meta_002;
mod meta_006;

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::view::{ClusterView, Contact, GroupView, PeerView};

pub use cause::{Cause, CauseKind};

/// A row of the table of checks.
#[derive(Debug)]
pub struct Check {
    /// Its code, as in `META_001`.
    pub code: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is about.
    pub category: &'static str,
    /// How bad a fault is.
    pub severity: Severity,
    /// The last token of the event's type.
    pub event: &'static str,
    /// Judges one group.
    pub run: fn(&Self, &GroupView, &Context<'_>, &mut Vec<Finding>),
}

/// Every check there is, in the order in which they are evaluated.
pub const CHECKS: &[Check] = &[meta_001::CHECK, meta_002::CHECK, meta_006::CHECK];

/// The check with this code.
pub fn by_code(code: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.code == code)
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// One more failure can stop the whole JetStream API, or already has.
    Critical,
}

/// What one epoch, with what is remembered, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There is positive evidence that all is well.
    Clear,
    /// It does not exist any more, by the word of two complete lists.
    Gone,
    /// There is no sufficient evidence either way. What was known holds.
    Unknown,
    /// One witness speaks against it.
    Suspect,
    /// It is so.
    Fault,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clear => "clear",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::Fault => "fault",
        })
    }
}

/// Why a fault is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grounds {
    /// The servers say so themselves.
    Reported,
    /// Two independent witnesses agree.
    Observed,
}

impl Grounds {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Observed => "observed",
        }
    }
}

/// Who speaks against a peer or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// The authoritative list flags the peer offline.
    Flag,
    /// The leader lost contact to it.
    Contact,
    /// It has missed epochs in which others of its group answered.
    Silence,
    /// Beside silence: nobody of its cluster has a route to it any more.
    Disconnected,
    /// It answers with JetStream off while it is listed.
    Disabled,
    /// It said that it stops.
    Announced,
    /// No list is authoritative, and half of the others or more call it offline.
    Hearsay,
    /// It answers and follows the leader, whose complete list lacks it.
    Unlisted,
    /// The group has no leader.
    Leaderless,
    /// Fewer peers are online than must agree.
    Short,
    /// Members name different leaders.
    Disagreement,
}

/// What one check says of one peer, or of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The code of the check.
    pub check: &'static str,
    /// The key of the group.
    pub group: Name,
    /// The peer; `None` for a finding about the whole group.
    pub peer: Option<PeerId>,
    /// What is said.
    pub verdict: Verdict,
    /// Why, when it is a fault.
    pub grounds: Option<Grounds>,
    /// Who speaks against it.
    pub witnesses: Vec<Witness>,
    /// The best guess at what happened, for a fault or a suspicion.
    pub cause: Option<Cause>,
    /// Our own clock at the first evidence, for a fault or a suspicion.
    pub since: Option<Stamp>,
}

impl Finding {
    fn new(check: &Check, group: &GroupView, peer: Option<PeerId>, verdict: Verdict) -> Self {
        Self {
            check: check.code,
            group: group.key.clone(),
            peer,
            verdict,
            grounds: None,
            witnesses: Vec::new(),
            cause: None,
            since: None,
        }
    }
}

/// What every check is given besides the group.
pub struct Context<'a> {
    /// The thresholds.
    pub rules: &'a Rules,
    /// When the epoch opened.
    pub opened: Stamp,
    /// When it ended: now, as far as a check knows.
    pub now: Stamp,
}

/// Runs every check on every group.
pub fn evaluate(view: &ClusterView, rules: &Rules) -> Vec<Finding> {
    let context = Context { rules, opened: view.epoch.opened, now: view.epoch.closed };
    let mut findings = Vec::with_capacity(view.groups.iter().map(|group| group.peers.len() + 2).sum());
    for group in &view.groups {
        for check in CHECKS {
            (check.run)(check, group, &context, &mut findings);
        }
    }
    findings
}

/// What the loss of peers means for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impact {
    /// How many peers are online; `None` when no complete list tells.
    pub online: Option<u64>,
    /// How many more may go before quorum is lost: 0 is none, negative is lost.
    pub failures_left: Option<i64>,
}

/// Counts a group's online peers: those of a complete list that are neither offline nor out of contact, less
/// those that were found offline without their list saying so.
pub fn impact(group: &GroupView, findings: &[Finding]) -> Impact {
    let found_offline = |finding: &&Finding| {
        let listed_online = |peer: &PeerView| {
            peer.leader || peer.row.as_ref().is_some_and(|row| !row.offline && peer.contact == Contact::Fresh)
        };
        finding.verdict == Verdict::Fault
            && finding.check == meta_001::CHECK.code
            && finding.group == group.key
            && finding.peer.and_then(|id| group.peer(id)).is_some_and(listed_online)
    };
    let lost = findings.iter().filter(found_offline).count() as u64;
    let online = group.online.map(|online| online.saturating_sub(lost));
    let failures_left = online.zip(group.quorum).map(|(online, quorum)| {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(online) - signed(quorum)
    });
    Impact { online, failures_left }
}

/// A duration as people read it: whole seconds from ten on, tenths below, minutes from two on.
pub(crate) fn plain(duration: Duration) -> String {
    match duration.as_secs() {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 10..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
