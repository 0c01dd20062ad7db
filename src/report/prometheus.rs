//! The verdict for the textfile collector of the Prometheus node exporter, and the series of meta groups that it
//! shares with `/metrics` ([`crate::status::metrics`]).
//!
//! Every series has the same labels whatever happens, and is there whatever happens: a number that is not known is
//! `NaN`. Names can change, so they stand in `_info` series of their own.

use super::exposition::{Exposition, Family, Format, number};
use super::numbers::{CheckNumbers, GroupNumbers, PeerNumbers};
use crate::check::{CHECKS, Verdict};
use crate::report::{CheckReport, FindingReport};

/// The report.
pub fn page(report: &CheckReport) -> String {
    let mut page = Exposition::new(Format::Prometheus);
    page.info("metawatch_info", "The version of metawatch.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    status(&mut page, report.code);
    let heard = report.epoch.as_ref().map_or(0, |epoch| epoch.heard);
    let epoch = EpochNumbers {
        heard,
        expected: report.epoch.as_ref().map(|epoch| epoch.expected),
        seconds: report.epoch.as_ref().map(|_| report.elapsed.as_secs_f64()),
        closed_ns: report.closed_ns,
    };
    of_epoch(&mut page, epoch);
    let groups: Vec<&GroupNumbers> = report.groups.iter().collect();
    of_groups(&mut page, &groups);
    of_checks(&mut page, &report.checks);
    of_peers(&mut page, &peers(&report.findings));
    page.into_text()
}

fn peers(findings: &[FindingReport]) -> Vec<PeerNumbers> {
    let of_peers = findings.iter().filter(|finding| finding.check == "META_001");
    let mut peers: Vec<PeerNumbers> = of_peers
        .filter_map(|finding| {
            Some(PeerNumbers { verdict: finding.verdict, ..finding.peer.as_ref()?.numbers.clone() })
        })
        .filter(|peer| peer.verdict != Verdict::Gone)
        .collect();
    peers.sort_by(|one, other| (&one.group, &one.id).cmp(&(&other.group, &other.id)));
    peers
}

/// An epoch in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochNumbers {
    pub(crate) heard: u64,
    pub(crate) expected: Option<u64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) closed_ns: Option<i64>,
}

/// The verdict on the whole.
pub(crate) fn status(page: &mut Exposition, code: u8) {
    page.gauge("metawatch_status", "The verdict: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.").single(code);
}

/// The last epoch.
pub(crate) fn of_epoch(page: &mut Exposition, epoch: EpochNumbers) {
    let EpochNumbers { heard, expected, seconds, closed_ns } = epoch;
    page.gauge("metawatch_servers_heard", "Servers that answered the last epoch.").single(heard);
    page.gauge("metawatch_servers_expected", "Servers that should have answered it.")
        .single(number(expected));
    let seconds = number(seconds.map(|seconds| format!("{seconds:.6}")));
    page.gauge("metawatch_epoch_seconds", "How long the last epoch took.").single(seconds);
    page.gauge("metawatch_epoch_timestamp_seconds", "When it ended, in seconds since 1970.")
        .single(number(closed_ns.map(unix_seconds)));
}

/// A moment in seconds, of nanoseconds since 1970.
pub(crate) fn unix_seconds(ns: i64) -> String {
    format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}

/// The series of meta groups.
pub(crate) fn of_groups(page: &mut Exposition, groups: &[&GroupNumbers]) {
    type Value = fn(&GroupNumbers) -> String;
    let metrics: [(&'static str, &str, Value); 10] = [
        ("metawatch_meta_peers", "Peers of the meta group, the dead ones included.", |group| {
            number(group.numbers.size)
        }),
        ("metawatch_meta_online", "Peers that are online.", |group| number(group.numbers.online)),
        ("metawatch_meta_quorum", "Peers that must agree.", |group| number(group.numbers.quorum)),
        (
            "metawatch_meta_failures_left",
            "How many more peers may go before the JetStream API stops; negative when it has.",
            |group| number(group.numbers.failures_left),
        ),
        ("metawatch_meta_answering", "Members that answered.", |group| number(group.numbers.answering)),
        ("metawatch_meta_offline", "Peers that are offline (META_001).", |group| group.offline.to_string()),
        ("metawatch_meta_suspected", "Peers that may be offline.", |group| group.suspected.to_string()),
        ("metawatch_meta_silent", "Peers that did not answer.", |group| group.silent.to_string()),
        ("metawatch_meta_not_current", "Peers that answer and stay behind the leader.", |group| {
            group.not_current.to_string()
        }),
        ("metawatch_meta_lag", "Operations that the peer is behind that is most so.", |group| {
            number(group.lag)
        }),
    ];
    for (name, help, value) in metrics {
        let mut family = page.gauge(name, help);
        for group in groups {
            let labels = [("domain", group.numbers.domain.as_str()), ("group", group.numbers.name.as_str())];
            family.sample(&labels, value(group));
        }
    }
    let help = "The leader whose list counts; empty when there is none.";
    let mut family = page.info("metawatch_meta_group_info", help);
    for group in groups {
        let leader = group.numbers.leader.as_deref().unwrap_or_default();
        let labels = [
            ("domain", group.numbers.domain.as_str()),
            ("group", group.numbers.name.as_str()),
            ("leader", leader),
        ];
        family.sample(&labels, 1);
    }
}

/// What the checks say of groups.
pub(crate) fn of_checks(page: &mut Exposition, checks: &[CheckNumbers]) {
    let help = "Checks of a whole group, or of the member that is worst off: 0 well, 1 fault, NaN not known.";
    let mut family = page.gauge("metawatch_meta_check", help);
    for check in CHECKS {
        for said in checks.iter().filter(|said| said.check == check.code) {
            let labels = [("check", said.check), ("domain", &said.domain), ("group", &said.group)];
            family.sample(&labels, of_verdict(said.verdict, Verdict::Fault));
        }
    }
}

fn of_verdict(verdict: Verdict, what: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "NaN",
        verdict if verdict == what => "1",
        Verdict::Clear | Verdict::Gone | Verdict::Suspect | Verdict::Fault => "0",
    }
}

/// The series of peers.
pub(crate) fn of_peers(page: &mut Exposition, peers: &[PeerNumbers]) {
    let each = |mut family: Family<'_>, value: &dyn Fn(&PeerNumbers) -> String| {
        for peer in peers {
            let labels = [("domain", peer.domain.as_str()), ("group", &peer.group), ("peer", &peer.id)];
            family.sample(&labels, value(peer));
        }
    };
    let offline = "Whether the peer is offline (META_001); NaN: not known.";
    each(page.gauge("metawatch_meta_peer_offline", offline), &|peer| {
        of_verdict(peer.verdict, Verdict::Fault).to_owned()
    });
    let suspected = "Whether the peer may be offline; NaN: not known.";
    each(page.gauge("metawatch_meta_peer_suspected", suspected), &|peer| {
        of_verdict(peer.verdict, Verdict::Suspect).to_owned()
    });
    let current = "Whether it is up to date by the leader's list; NaN: no leader tells.";
    each(page.gauge("metawatch_meta_peer_current", current), &|peer| {
        number(of_row(peer, 1, |row| Some(u64::from(row.current))))
    });
    let active = "How long ago the leader heard it; NaN: no leader tells, or it has not in its term.";
    each(page.gauge("metawatch_meta_peer_active_seconds", active), &|peer| {
        let told = |row: super::numbers::RowNumbers| u64::try_from(row.active_ns).ok().filter(|ns| *ns > 0);
        number(of_row(peer, 0, told).map(|ns| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)))
    });
    let lag = "Operations that it is behind by the leader's list; NaN: no leader tells.";
    each(page.gauge("metawatch_meta_peer_lag", lag), &|peer| number(of_row(peer, 0, |row| Some(row.lag))));
    let help = "The name of the peer, and the cluster it last answered from.";
    let mut family = page.info("metawatch_meta_peer_info", help);
    for peer in peers {
        let labels = [
            ("cluster", peer.cluster.as_str()),
            ("domain", &peer.domain),
            ("group", &peer.group),
            ("name", peer.name.as_deref().unwrap_or_default()),
            ("peer", &peer.id),
        ];
        family.sample(&labels, 1);
    }
}

/// A number of the leader's list; `of_leader` is that of the leader, which is in no list of its own.
fn of_row(
    peer: &PeerNumbers,
    of_leader: u64,
    number: impl Fn(super::numbers::RowNumbers) -> Option<u64>,
) -> Option<u64> {
    if peer.leader { Some(of_leader) } else { peer.row.and_then(number) }
}
