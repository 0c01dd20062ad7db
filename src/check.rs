//! The checks: what a view means for each peer and each group.
//!
//! A check is one file, one row in [`CHECKS`] and one scenario. It sees one group at a time, and every finding has
//! one of five verdicts; only [`Verdict::Clear`] and [`Verdict::Gone`] are ever good news.

mod announced;
pub mod cause;
mod level;
mod meta_001;
mod meta_002;
mod meta_003;
mod meta_004;
mod meta_005;
mod meta_006;
mod meta_007;
mod meta_008;
mod meta_101;
mod meta_102;
mod server_002;
mod server_008;
mod server_017;
mod server_019;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::view::{Answer, ClusterView, GroupView, PeerView};

pub use announced::Announced;
use announced::keep_announced;
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
    /// Whether it is evaluated where nobody chose. The usual ones tell whether the group can work, and of what can become
    /// critical: they say nothing in an ordinary rolling restart or upgrade beyond META_001.
    pub usual: bool,
    /// What it tells.
    pub about: Subject,
    /// What is said where all is well; `{}` stands for the peer or the group.
    pub well: &'static str,
    /// Judges one group.
    pub run: fn(&Self, &GroupView, &Context<'_>, &mut Vec<Finding>),
}

/// What a check tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Who takes part in the group, and whether it can work: told with the numbers of the group.
    Membership,
    /// How a member or the group fares: its findings have words of their own.
    Condition,
}

/// Every check there is, in the order in which they are evaluated: those of [`Subject::Membership`] first.
pub const CHECKS: &[Check] = &[
    meta_001::CHECK,
    meta_002::CHECK,
    meta_006::CHECK,
    meta_101::CHECK,
    meta_003::CHECK,
    meta_004::CHECK,
    meta_005::CHECK,
    meta_007::CHECK,
    meta_008::CHECK,
    meta_102::CHECK,
    server_002::CHECK,
    server_008::CHECK,
    server_017::CHECK,
    server_019::CHECK,
];

/// The checks that are evaluated by these rules.
pub fn chosen(rules: &Rules) -> Vec<&'static Check> {
    CHECKS.iter().filter(|check| check.is_chosen(rules)).collect()
}

/// The check with this code.
pub fn by_code(code: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.code == code)
}

impl Check {
    /// Whether it is evaluated by these rules.
    pub fn is_chosen(&self, rules: &Rules) -> bool {
        let chosen = rules.checks.as_ref().map_or(self.usual, |checks| checks.contains(self.code));
        chosen || is_about_peers_online(self)
    }
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

impl Severity {
    /// The word that events carry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
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
    /// The leader lost contact to it; beside silence, for a shorter time.
    Contact,
    /// It has missed epochs in which others of its group answered.
    Silence,
    /// Beside silence: nobody of its cluster has a route to it any more; where it is alone in that, nobody of another
    /// cluster has a gateway connection to it.
    Disconnected,
    /// It answers with JetStream off while it is listed.
    Disabled,
    /// It said that it stops.
    Announced,
    /// No list is authoritative, and half of the others or more call it offline.
    Hearsay,
    /// It answers and follows the leader, whose complete list lacks it.
    Unlisted,
    /// Beside silence: it leads, and its followers receive nothing from it.
    Standstill,
    /// Beside JetStream that is off: it told that its storage is full.
    OutOfStorage,
    /// The group has no leader.
    Leaderless,
    /// Fewer peers are online than must agree.
    Short,
    /// Members name different leaders.
    Disagreement,
    /// Nobody of the group is heard, while others are.
    Unheard,
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
    /// How bad a fault is.
    pub severity: Severity,
    /// What is said of a fault, where the check has words of its own ([`Subject::Condition`]).
    pub words: Option<String>,
    /// The number that it goes by, where it goes by one.
    pub measure: Option<Measure>,
}

/// A number, and from where on it is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// How much it is.
    pub value: u64,
    /// From here on it is a warning, or whatever else the check is.
    pub limit: u64,
    /// From here on it is critical; absent where it never is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// What a [`Measure`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Changes of the leader.
    Changes,
    /// Milliseconds.
    Ms,
    /// Replicas of streams and consumers.
    Assets,
    /// Requests that wait.
    Requests,
    /// Percent of what there may be.
    Percent,
}

impl Finding {
    fn new(check: &Check, group: &GroupView, peer: Option<PeerId>, verdict: Verdict) -> Self {
        Self {
            severity: check.severity,
            words: None,
            measure: None,
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

impl Finding {
    /// What its check tells.
    pub fn about(&self) -> Subject {
        by_code(self.check).map_or(Subject::Membership, |check| check.about)
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
    /// Whether the alert about what a finding is about is open.
    open: &'a dyn Fn(&Finding) -> bool,
}

impl Context<'_> {
    /// Whether the alert about this is open: then a value must fall well below its limit to end it, and what is not
    /// told any more leaves it as it is.
    fn is_open(&self, finding: &Finding) -> bool {
        (self.open)(finding)
    }
}

/// What is known of alerts from before this epoch.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The cause that was announced first of what a finding is about; `None` when none was.
    pub announced: Announced<'a>,
    /// Whether the alert about what a finding is about is open.
    pub open: &'a dyn Fn(&Finding) -> bool,
}

/// Runs every chosen check on every group. Where this watcher knows less of a cause than what was announced, that stays.
pub fn evaluate(view: &ClusterView, rules: &Rules, known: Known<'_>) -> Vec<Finding> {
    evaluate_after(view, rules, known, Vec::new(), &[])
}

/// The same where these findings are the `last` ones: they hold for the groups that have not changed since, where all
/// was well.
pub fn evaluate_after(
    view: &ClusterView,
    rules: &Rules,
    known: Known<'_>,
    last: Vec<Finding>,
    unchanged: &[bool],
) -> Vec<Finding> {
    let context = Context { rules, opened: view.epoch.opened, now: view.epoch.closed, open: known.open };
    let chosen = chosen(rules);
    let peers: usize = view.groups.iter().map(|group| group.peers.len() + 3).sum();
    let mut findings = Vec::with_capacity(peers.max(last.len()));
    let mut last = last.into_iter().peekable();
    for (place, group) in view.groups.iter().enumerate() {
        let before = findings.len();
        if unchanged.get(place) == Some(&true) {
            while last.next_if(|finding| finding.group < group.key).is_some() {}
            findings.extend(std::iter::from_fn(|| last.next_if(|finding| finding.group == group.key)));
            let found = &findings[before..];
            if !found.is_empty() && found.iter().all(|finding: &Finding| finding.verdict == Verdict::Clear) {
                continue;
            }
            findings.truncate(before);
        }
        for check in &chosen {
            (check.run)(check, group, &context, &mut findings);
        }
        keep_announced(&mut findings[before..], group, context.now, known.announced);
    }
    findings
}

/// The findings about one group. [`evaluate`] gives them group by group, in the order of the groups' keys.
pub fn of_group<'a>(findings: &'a [Finding], group: &Name) -> &'a [Finding] {
    let start = findings.partition_point(|finding| finding.group < *group);
    let count = findings[start..].partition_point(|finding| finding.group == *group);
    &findings[start..start + count]
}

/// Whether a check tells which peers are offline.
pub fn is_about_peers_online(check: &Check) -> bool {
    check.code == meta_001::CHECK.code
}

/// Where the first finding is about one group of which this is so.
pub fn position(findings: &[Finding], group: &Name, is: impl Fn(&Finding) -> bool) -> Option<usize> {
    let start = findings.partition_point(|finding| finding.group < *group);
    let within = of_group(findings, group).iter().position(is)?;
    Some(start + within)
}

/// The findings that say whether a peer is offline, one a peer.
pub fn peers_of(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.check == meta_001::CHECK.code && finding.peer.is_some())
}

/// Each group with the findings about it, in one walk over both: they are in the same order.
pub fn by_group<'a, 'f>(
    view: &'a ClusterView,
    findings: &'f [Finding],
) -> impl Iterator<Item = (&'a GroupView, &'f [Finding])> {
    let mut rest = findings;
    view.groups.iter().map(move |group| {
        let others = rest.iter().take_while(|finding| finding.group < group.key).count();
        let own = rest[others..].iter().take_while(|finding| finding.group == group.key).count();
        let found = &rest[others..others + own];
        rest = &rest[others + own..];
        (group, found)
    })
}

/// What the findings mean for each of these groups, counted once a group.
pub fn impacts<'a>(
    view: &ClusterView,
    findings: &[Finding],
    groups: impl Iterator<Item = &'a Name>,
) -> BTreeMap<Name, Impact> {
    let groups: BTreeSet<&Name> = groups.collect();
    let known = groups.into_iter().filter_map(|key| view.group(key));
    known.map(|group| (group.key.clone(), impact(group, findings))).collect()
}

/// The groups of which something is not well or not known, the worst first: a lost quorum before a peer, a fault
/// before a suspicion, and of equals the one with the fewest failures left.
pub fn unwell_groups<'a>(view: &'a ClusterView, findings: &[Finding]) -> Vec<&'a GroupView> {
    let badness = |finding: &Finding| match finding.verdict {
        Verdict::Fault if finding.severity == Severity::Critical => 4,
        Verdict::Fault => 3,
        Verdict::Suspect => 2,
        Verdict::Unknown => 1,
        Verdict::Clear | Verdict::Gone => 0,
    };
    let mut unwell: Vec<(_, &GroupView)> = Vec::new();
    for (group, found) in by_group(view, findings) {
        let worst = found.iter().map(badness).max().unwrap_or(1);
        if worst > 0 {
            let whole = |finding: &Finding| finding.peer.is_none() && finding.about() == Subject::Membership;
            let whole = found.iter().any(|finding| badness(finding) == worst && whole(finding));
            let left = impact(group, found).failures_left.unwrap_or(i64::MAX);
            unwell.push(((Reverse(worst), !whole, left), group));
        }
    }
    unwell.sort_by_key(|(key, _)| *key);
    unwell.into_iter().map(|(_, group)| group).collect()
}

/// What the loss of peers means for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impact {
    /// How many peers are online; `None` when no complete list tells.
    pub online: Option<u64>,
    /// How many more may go before quorum is lost: 0 is none, negative is lost.
    pub failures_left: Option<i64>,
    /// The same as `online` by the last epoch that told it, where this one does not.
    pub last_online: Option<u64>,
    /// How many of those that are not counted are only suspected to be gone.
    pub suspected: u64,
}

impl Impact {
    /// How many more may go when so many of the group are online.
    pub fn failures_left(group: &GroupView, online: Option<u64>) -> Option<i64> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        online.zip(group.quorum).map(|(online, quorum)| signed(online) - signed(quorum))
    }
}

/// Counts a group's online peers: those that its list calls online, less those that the findings speak against for a
/// reason that the list does not show yet. The numbers never contradict the findings that they stand beside.
pub fn impact(group: &GroupView, findings: &[Finding]) -> Impact {
    let of_peers =
        of_group(findings, &group.key).iter().filter(|finding| finding.check == meta_001::CHECK.code);
    let lost: BTreeMap<PeerId, Verdict> = of_peers
        .filter_map(|finding| Some((finding.peer?, finding)))
        .filter(|(id, finding)| is_lost(finding, group.peer(*id)))
        .map(|(id, finding)| (id, finding.verdict))
        .collect();
    let listed = group.peers.iter().filter(|peer| peer.online && !lost.contains_key(&peer.id));
    let online = group.online.map(|_| listed.count() as u64);
    let suspected = |peer: &&PeerView| {
        peer.online && lost.get(&peer.id).is_some_and(|verdict| *verdict == Verdict::Suspect)
    };
    let last = group.last_online.as_ref().filter(|_| group.online.is_none());
    Impact {
        online,
        failures_left: Impact::failures_left(group, online),
        last_online: last.map(|last| last.iter().filter(|id| !lost.contains_key(id)).count() as u64),
        suspected: group.peers.iter().filter(suspected).count() as u64,
    }
}

/// Whether a peer counts as gone by what is found of it, whatever its list says.
fn is_lost(finding: &Finding, peer: Option<&PeerView>) -> bool {
    let Some(peer) = peer else { return false };
    match finding.verdict {
        Verdict::Fault => !peer.contradicts_its_flag(),
        // What it announced or answers itself, and a silence that nobody explains.
        Verdict::Suspect => {
            let says = |witness| finding.witnesses.contains(&witness);
            let silent = says(Witness::Silence) && !peer.is_vouched_for();
            says(Witness::Disabled) || (says(Witness::Announced) && peer.answer == Answer::None) || silent
        }
        Verdict::Clear | Verdict::Gone | Verdict::Unknown => false,
    }
}
