//! What was announced earlier of a finding's cause, by an earlier run or by another watcher.

use super::{CauseKind, Finding};
use crate::stamp::Stamp;
use crate::view::{GroupView, PeerView};

/// The cause that was announced first of what a finding is about; `None` when none was.
pub type Announced<'a> = &'a dyn Fn(&Finding) -> Option<CauseKind>;

/// Goes by the cause that was announced, where this watcher knows less: it has never heard the peer, or the peer comes
/// back and does not show any more what it was.
pub(super) fn keep_announced(
    findings: &mut [Finding],
    group: &GroupView,
    now: Stamp,
    announced: Announced<'_>,
) {
    for finding in findings {
        let known = finding.cause.as_ref().and_then(|_| announced(finding));
        let (Some(known), Some(cause)) = (known, &mut finding.cause) else { continue };
        let peer = finding.peer.and_then(|id| group.peer(id));
        if cause.kind != known && says_little(cause.kind) && peer.is_some_and(|peer| knows_less(peer, now)) {
            cause.kind = known;
            cause.because.insert(0, "that is what was told of it first".to_owned());
        }
    }
}

fn knows_less(peer: &PeerView, now: Stamp) -> bool {
    peer.last_heard.is_none() || peer.is_coming_back(now)
}

/// Whether a guess is one that whoever saw less makes.
fn says_little(kind: CauseKind) -> bool {
    matches!(
        kind,
        CauseKind::Unknown
            | CauseKind::CrashedOrUnreachable
            | CauseKind::DownBeforeTerm
            | CauseKind::FrozenOrPartitioned
            | CauseKind::Crashed
            | CauseKind::Stopping
    )
}
