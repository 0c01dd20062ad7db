//! META_101: nobody of a meta group is heard any more, while other servers are. No published catalogue has this check; the
//! code is our own.
//!
//! No member can testify then, so nothing is known of any peer, and no other check speaks. It is a suspicion about the
//! whole group and no more: the group may be lost, or the gateway or leaf connection to it, or our way there.

use super::{Cause, CauseKind, Check, Context, Finding, Severity, Subject, Verdict, Witness};
use crate::rules::{STANDING_EPOCHS_MIN, UNHEARD_MIN};
use crate::stamp::human_duration;
use crate::view::GroupView;

pub(super) const CHECK: Check = Check {
    code: "META_101",
    title: "NATS Meta Group Not Heard",
    category: "Health",
    severity: Severity::Warning,
    event: "group_unheard",
    usual: true,
    about: Subject::Membership,
    well: "{} is heard",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let lasting =
        group.unheard.filter(|streak| streak.epochs >= STANDING_EPOCHS_MIN && streak.lasted() >= UNHEARD_MIN);
    let verdict = match lasting {
        Some(_) => Verdict::Suspect,
        None if group.heard => Verdict::Clear,
        None => Verdict::Unknown,
    };
    let mut finding = Finding::new(check, group, None, verdict);
    if let Some(streak) = lasting {
        let lasted = human_duration(context.now.since(streak.since));
        finding.witnesses = vec![Witness::Unheard];
        finding.since = Some(streak.since);
        finding.cause = Some(Cause {
            kind: CauseKind::GroupUnheard,
            because: vec![format!("nobody of the group has answered for {lasted}, while other servers did")],
        });
    }
    findings.push(finding);
}
