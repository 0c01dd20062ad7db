//! SERVER_019: a member has nearly used up the disk space that its JetStream may take. Beyond it every publish fails,
//! and on a full disk the server switches its JetStream off: the most preventable cause of META_001.
//!
//! Source: `storage` and `config.max_storage` of the member's own reply. Somewhat more than the limit can be, where the
//! limit was lowered; more than twice as much is taken for damage and judged by nobody.

use super::level::{Level, compare, each_member};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Unit};
use crate::name::bytes;
use crate::stamp::human_duration;
use crate::view::{GroupView, Load, PeerView};

pub(super) const CHECK: Check = Check {
    code: "SERVER_019",
    title: "NATS JetStream Storage Limit",
    category: "Saturation",
    severity: Severity::Warning,
    event: "storage_limit",
    usual: true,
    about: Subject::Condition,
    well: "{} has room in its storage",
    run,
};

/// More percent of the room than this cannot be used.
const SHARE_MAX: u64 = 200;

/// What the storage is measured by.
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) called: &'static str,
    pub(super) critical: Option<u64>,
}

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    each_member(check, group, context, findings, |finding, peer| {
        let load = peer.load.as_ref()?;
        let room = Room {
            bytes: load.usage.max_storage?,
            called: "its JetStream storage limit",
            critical: Some(context.rules.limits.storage_critical),
        };
        share(finding, peer, load, &room, context, CauseKind::StorageFilling)
    });
}

/// How much of its room a member uses; `None` where that cannot be told.
pub(super) fn share(
    finding: Finding,
    peer: &PeerView,
    load: &Load,
    room: &Room,
    context: &Context<'_>,
    kind: CauseKind,
) -> Option<Finding> {
    let stored = load.usage.storage?;
    // Both are below 2^60: a hundred times as much fits 128 bits.
    let value = u64::try_from(u128::from(stored) * 100 / u128::from(room.bytes).max(1)).ok();
    let value = value.filter(|share| room.bytes > 0 && *share <= SHARE_MAX)?;
    let level = Level {
        value,
        limit: context.rules.limits.storage_warning,
        critical: room.critical,
        unit: Unit::Percent,
    };
    Some(compare(finding, level, context, kind, || {
        let (used, all) = (bytes(stored), bytes(room.bytes));
        let growth = load.growth.filter(|_| stored < room.bytes);
        let full = growth.map(|growth| human_duration(growth.time_for(room.bytes - stored)));
        let when = full.map_or_else(String::new, |full| format!(", full in {full} if it goes on like this"));
        let words = format!("{} has used {value} % of {}, {used} of {all}{when}", peer.label(), room.called);
        let mut because = vec![format!("it stores {used}, {all} is all")];
        because.extend(
            growth.map(|growth| {
                format!("{} more within {}", bytes(growth.bytes), human_duration(growth.within))
            }),
        );
        (words, because)
    }))
}
