//! META_005: a meta group holds more streams and consumers than it carries easily. Each election and each restart goes
//! through all of them.
//!
//! Source: `streams` and `consumers` of each member's own reply, which count its replicas. While somebody does not
//! answer, the sum is a part of it: more than the limit all the same, or not known.

use super::level::{Level, compare, untold};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Unit, Verdict};
use crate::name::thousands;
use crate::view::{GroupView, PeerView};

pub(super) const CHECK: Check = Check {
    code: "META_005",
    title: "NATS Meta State Growth",
    category: "Saturation",
    severity: Severity::Warning,
    event: "state_growth",
    usual: false,
    about: Subject::Condition,
    well: "{} has few enough streams and consumers",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let assets = |peer: &PeerView| {
        let usage = peer.load.as_ref()?.usage;
        Some((usage.streams?, usage.consumers?))
    };
    let told: Vec<(u64, u64)> = group.peers.iter().filter_map(assets).collect();
    let whole = group.peers.iter().filter(|peer| peer.member).all(|peer| assets(peer).is_some());
    let streams = told.iter().map(|(streams, _)| *streams).sum::<u64>();
    let consumers = told.iter().map(|(_, consumers)| *consumers).sum::<u64>();
    let (value, limit) = (streams.saturating_add(consumers), context.rules.limits.assets.saturating_add(1));
    if told.is_empty() || (!whole && value < limit) {
        findings.extend(untold(check, group, None, context));
        return;
    }
    let finding = Finding::new(check, group, None, Verdict::Unknown);
    let level = Level { value, limit, critical: None, unit: Unit::Assets };
    findings.push(compare(finding, level, context, CauseKind::StateGrowth, || {
        let words = format!(
            "meta group {} holds {} replicas of streams and consumers, {} are enough",
            group.key,
            thousands(value),
            thousands(context.rules.limits.assets)
        );
        let sums = format!("{} of streams, {} of consumers", thousands(streams), thousands(consumers));
        (words, vec![sums])
    }));
}
