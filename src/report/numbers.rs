//! Groups and peers in numbers, for whoever draws or counts them.

use serde::Serialize;

use crate::check::{self, Check, Finding, Impact, Verdict};
use crate::event::{self, EventGroup};
use crate::view::{Answer, GroupView, PeerView};

/// A group in numbers: those of events, and how many of its peers are spoken against.
#[derive(Clone, Debug, Serialize)]
pub struct GroupNumbers {
    /// The numbers that events carry.
    #[serde(flatten)]
    pub numbers: EventGroup,
    /// How many peers are offline.
    pub offline: u64,
    /// How many peers may be offline.
    pub suspected: u64,
    /// How many peers did not answer.
    pub silent: u64,
    /// How many peers answer and are not current.
    pub not_current: u64,
    /// By how many operations the peer is behind that is most so; `null` without a leader's list.
    pub lag: Option<u64>,
}

impl GroupNumbers {
    /// Counts a group. `found` are the findings about it; `verdict` says what each of them counts as.
    pub(crate) fn new(
        group: &GroupView,
        impact: Impact,
        found: &[Finding],
        verdict: impl Fn(&Finding) -> Verdict,
    ) -> Self {
        let count = |wanted: Verdict| {
            check::peers_of(found).filter(|finding| verdict(finding) == wanted).count() as u64
        };
        let silent = group.peers.iter().filter(|peer| peer.answer == Answer::None && peer.absent_epochs == 0);
        Self {
            numbers: event::event_group(group, impact),
            offline: count(Verdict::Fault),
            suspected: count(Verdict::Suspect),
            silent: silent.count() as u64,
            not_current: group.peers.iter().filter(|peer| peer.behind.is_some()).count() as u64,
            lag: group.peers.iter().filter_map(|peer| peer.row.as_ref()).map(|row| row.lag).max(),
        }
    }
}

/// A peer in numbers.
#[derive(Clone, Debug)]
pub struct PeerNumbers {
    /// Its group.
    pub group: String,
    /// The group's domain; empty for none.
    pub domain: String,
    /// Its id.
    pub id: String,
    /// Its name; `None` where nobody ever told it.
    pub name: Option<String>,
    /// The cluster it last answered from; empty when not known.
    pub cluster: String,
    /// Whether it is offline.
    pub verdict: Verdict,
    /// Whether it is the leader whose list counts.
    pub leader: bool,
    /// What the leader's list says of it; `None` without one, and of the leader itself.
    pub row: Option<RowNumbers>,
}

/// What a leader's list says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowNumbers {
    /// Seen recently and caught up.
    pub current: bool,
    /// Nanoseconds since the leader heard it; 0 means never in its term, and it is negative after a clock jump.
    pub active_ns: i64,
    /// How many operations it is behind.
    pub lag: u64,
}

impl PeerNumbers {
    /// The numbers of one peer.
    pub(crate) fn new(group: &GroupView, peer: &PeerView, verdict: Verdict) -> Self {
        Self {
            group: group.key.as_str().to_owned(),
            domain: group.domain.as_str().to_owned(),
            id: peer.id.as_str().to_owned(),
            name: peer.name.as_ref().map(|name| name.as_str().to_owned()),
            cluster: peer.cluster.as_str().to_owned(),
            verdict,
            leader: peer.leader,
            row: peer.row.as_ref().map(|row| RowNumbers {
                current: row.current,
                active_ns: row.active_ns,
                lag: row.lag,
            }),
        }
    }
}

/// What a check says of a group: of it as a whole, or of the member that is worst off by it.
#[derive(Clone, Debug)]
pub struct CheckNumbers {
    /// The check.
    pub check: &'static str,
    /// The group.
    pub group: String,
    /// The group's domain; empty for none.
    pub domain: String,
    /// What is said; [`Verdict::Unknown`] where nothing is.
    pub verdict: Verdict,
}

impl CheckNumbers {
    /// What these checks say of a group; META_001 has numbers of its own. `found` are the findings about it; `verdict`
    /// says what each of them counts as.
    pub(crate) fn of_group(
        group: &GroupView,
        found: &[Finding],
        checks: &[&'static Check],
        verdict: impl Fn(&Finding) -> Verdict,
    ) -> Vec<Self> {
        let worst = |check: &Check| {
            let said = found.iter().filter(|finding| finding.check == check.code).map(&verdict);
            // The order of the verdicts is from well to fault.
            said.filter(|verdict| *verdict != Verdict::Gone).max().unwrap_or(Verdict::Unknown)
        };
        let told = checks.iter().filter(|check| !check::is_about_peers_online(check));
        told.map(|check| Self {
            check: check.code,
            group: group.key.as_str().to_owned(),
            domain: group.domain.as_str().to_owned(),
            verdict: worst(check),
        })
        .collect()
    }
}
