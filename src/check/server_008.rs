//! SERVER_008: the server of a member was started anew, be it between two epochs. Not where it came back with another
//! version: that was meant.
//!
//! Source: `server.id`, which is another one at every start. The published check is critical; a rolling restart would
//! page for every server then, so that ours is a warning unless somebody asks for more.

use super::level::{each_member, fault};
use super::{CauseKind, Check, Context, Finding, Severity, Subject, Verdict};
use crate::rules::CHANGE_SHOWN;
use crate::stamp::human_duration;
use crate::view::{GroupView, Run};

pub(super) const CHECK: Check = Check {
    code: "SERVER_008",
    title: "NATS Server Restarted",
    category: "Change",
    severity: Severity::Warning,
    event: "server_restarted",
    usual: false,
    about: Subject::Condition,
    well: "{} keeps running",
    run,
};

fn run(check: &Check, group: &GroupView, context: &Context<'_>, findings: &mut Vec<Finding>) {
    let severity =
        if context.rules.limits.restarts_critical { Severity::Critical } else { Severity::Warning };
    each_member(check, group, context, findings, |finding, peer| {
        let restart = match peer.load.as_ref()?.run {
            // Nothing is known of an earlier run.
            Run::First => return None,
            Run::Same => return Some(Finding { verdict: Verdict::Clear, ..finding }),
            Run::Restarted(restart) => restart,
        };
        let name = peer.label();
        let words = match restart.times {
            1 => format!("{name} was restarted"),
            times => {
                let within = human_duration(CHANGE_SHOWN);
                format!("{name} was restarted {times} times, each within {within} of the one before")
            }
        };
        let away = human_duration(restart.away);
        let because = vec![
            format!("it answers as another run of its server, {} now", peer.server_id),
            format!("it had not answered for {away} before"),
        ];
        let finding = fault(finding, CauseKind::Restarted, words, because);
        Some(Finding { since: Some(restart.at), severity, ..finding })
    });
}
