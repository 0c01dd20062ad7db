//! SERVER_017: the streams of a member have nearly used up the disk space that they have reserved.
//!
//! Source: `storage` and `reserved_storage` of the member's own reply. Streams without a limit reserve nothing and store
//! all the same, so that the share says little where there are such: whoever gives every stream a limit asks for this.

use super::level::each_member;
use super::{CauseKind, Check, Context, Finding, Severity, Subject, server_019};
use crate::view::GroupView;

pub(super) const CHECK: Check = Check {
    code: "SERVER_017",
    title: "NATS JetStream Storage Pressure",
    category: "Saturation",
    severity: Severity::Warning,
    event: "storage_pressure",
    usual: false,
    about: Subject::Condition,
    well: "{} has room in what its streams reserve",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    each_member(check, group, context, findings, |finding, peer| {
        let load = peer.load.as_ref()?;
        let room = load.usage.reserved_storage?;
        let of = server_019::Room {
            bytes: room,
            called: "the disk space that its streams reserve",
            critical: None,
        };
        server_019::share(finding, peer, load, &of, context, CauseKind::ReservationFilling)
    });
}
