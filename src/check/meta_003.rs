//! META_003: a meta group changes its leader again and again.
//!
//! Each election stops the JetStream API for some seconds. One change is an event of operation; several within minutes
//! are a slow disk, an overloaded server, or a link that comes and goes. A leader that announces its stop has to be
//! replaced: such a change is no flapping, or every rolling restart would be.

use super::level::{Level, compare, untold};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Unit, Verdict};
use crate::name::join_some;
use crate::rules::LEADER_CHANGE_SETTLES;
use crate::stamp::human_duration;
use crate::view::{GroupView, LeaderChange};

pub(super) const CHECK: Check = Check {
    code: "META_003",
    title: "NATS Meta Leader Flapping",
    category: "Errors",
    severity: Severity::Warning,
    event: "leader_flapping",
    usual: false,
    about: Subject::Condition,
    well: "{} keeps its leader",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let finding = Finding::new(check, group, None, Verdict::Unknown);
    let counts =
        |change: &&LeaderChange| !change.announced && context.now.since(change.at) >= LEADER_CHANGE_SETTLES;
    let changes: Vec<&LeaderChange> = group.leader_changes.iter().filter(counts).collect();
    let value = changes.len() as u64;
    let limit = context.rules.limits.leader_changes.saturating_add(1);
    // Without a leader nothing tells whether it settles.
    if group.authority.is_none() && value < limit {
        findings.extend(untold(check, group, None, context));
        return;
    }
    let level = Level { value, limit, critical: None, unit: Unit::Changes };
    let explain = || {
        let window = human_duration(context.rules.limits.leader_window);
        let words = format!("meta group {} changed its leader {value} times within {window}", group.key);
        let told = changes.iter().rev().map(|change| {
            let ago = human_duration(context.now.since(change.at));
            let how = if change.told { ", as it told" } else { "" };
            format!("{} took over from {}{how} {ago} ago", change.to, change.from.1)
        });
        (words, vec![join_some(told)])
    };
    let kind = CauseKind::LeaderFlapping;
    let mut finding = compare(finding, level, context, kind, explain);
    // What has begun ends with a whole window without any change.
    if finding.verdict == Verdict::Clear && value > 0 && context.is_open(&finding) {
        finding.verdict = Verdict::Unknown;
    }
    if finding.verdict == Verdict::Fault {
        finding.since = changes.first().map(|change| change.at);
    }
    findings.push(finding);
}
