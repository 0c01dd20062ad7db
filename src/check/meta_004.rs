//! META_004: a member takes long to write the snapshot of the meta group. While it does, it applies nothing, so that it
//! falls behind, and the API waits where it leads.
//!
//! Source: `meta_cluster.snapshot.last_duration` of each member's own reply, since nats-server 2.11.11; it stays until
//! the next snapshot.

use std::time::Duration;

use super::level::{Level, compare, each_member};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Unit};
use crate::stamp::human_duration;
use crate::view::{GroupView, PeerView};

pub(super) const CHECK: Check = Check {
    code: "META_004",
    title: "NATS Meta Snapshot Slow",
    category: "Performance",
    severity: Severity::Warning,
    event: "snapshot_slow",
    usual: true,
    about: Subject::Condition,
    well: "{} takes its meta snapshots in time",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let limits = &context.rules.limits;
    let millis = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    each_member(check, group, context, findings, |finding, peer: &PeerView| {
        let took = Duration::from_nanos(peer.load.as_ref()?.usage.snapshot_ns?);
        let level = Level {
            value: millis(took),
            limit: millis(limits.snapshot_warning),
            critical: Some(millis(limits.snapshot_critical)),
            unit: Unit::Ms,
        };
        Some(compare(finding, level, context, CauseKind::SnapshotSlow, || {
            let (name, took) = (peer.label(), human_duration(took));
            let limit = human_duration(limits.snapshot_warning);
            let words = format!("{name} took {took} for its last meta snapshot");
            (words, vec![format!("less than {limit} is usual")])
        }))
    });
}
