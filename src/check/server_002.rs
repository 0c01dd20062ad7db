//! SERVER_002: a member runs another version of nats-server than most of its group: an upgrade that was forgotten half
//! way. In every rolling upgrade it is so for a while.

use std::collections::BTreeMap;

use super::level::{each_member, fault};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Verdict};
use crate::name::Name;
use crate::view::{GroupView, PeerView};

pub(super) const CHECK: Check = Check {
    code: "SERVER_002",
    title: "NATS Server Version Mismatch",
    category: "Consistency",
    severity: Severity::Warning,
    event: "version_mismatch",
    usual: false,
    about: Subject::Condition,
    well: "{} runs the version of its group",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let version = |peer: &PeerView| {
        let version = &peer.load.as_ref()?.version;
        Some((parsed(version)?, version.clone()))
    };
    let mut counts: BTreeMap<(Version, Name), usize> = BTreeMap::new();
    for version in group.peers.iter().filter_map(version) {
        *counts.entry(version).or_default() += 1;
    }
    // Of two versions that as many run, the later one is where the group is going.
    let usual = counts.iter().max_by_key(|(version, count)| (**count, *version));
    let Some(((_, usual), count)) = usual else {
        each_member(check, group, context, findings, |_, _| None);
        return;
    };
    each_member(check, group, context, findings, |finding, peer| {
        let (_, own) = version(peer)?;
        if own == *usual {
            return Some(Finding { verdict: Verdict::Clear, ..finding });
        }
        let words = format!("{} runs nats-server {own}, its group {usual}", peer.label());
        let because = vec![format!("{count} of {} members run {usual}", counts.values().sum::<usize>())];
        Some(fault(finding, CauseKind::VersionMismatch, words, because))
    });
}

/// Major, minor, patch, whether it is a release, and what follows.
type Version = (u32, u32, u32, bool);

/// A version in numbers; `None` for a text that is none.
fn parsed(version: &Name) -> Option<Version> {
    let (numbers, rest) = match version.as_str().split_once(['-', '+']) {
        Some((numbers, rest)) => (numbers, Some(rest)),
        None => (version.as_str(), None),
    };
    let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next()??, parts.next()??, parts.next()??, rest.is_none());
    parts.next().is_none().then_some(version)
}
