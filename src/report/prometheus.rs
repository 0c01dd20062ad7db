//! The verdict for the textfile collector of the Prometheus node exporter.
//!
//! Every series has the same labels whatever happens, and is there whatever happens: a number that is not known is
//! `NaN`. Names can change, so they stand in `_info` series of their own.

use crate::check::{CHECKS, Verdict};
use crate::report::{CheckReport, FindingReport};

/// The report.
pub fn page(report: &CheckReport) -> String {
    let mut page = Page::default();
    page.metric("metawatch_info", "The version of metawatch.");
    page.sample("metawatch_info", &[("version", env!("CARGO_PKG_VERSION"))], "1");
    page.metric("metawatch_status", "The verdict: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.");
    page.sample("metawatch_status", &[], &report.code.to_string());
    epoch(report, &mut page);
    groups(report, &mut page);
    peers(report, &mut page);
    page.text
}

fn epoch(report: &CheckReport, page: &mut Page) {
    let epoch = report.epoch.as_ref();
    let heard = epoch.map_or(0, |epoch| epoch.heard);
    let expected = number(epoch.map(|epoch| epoch.expected));
    let at = report.closed_ns.map(|ns| format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1_000));
    let seconds = epoch.map(|_| format!("{:.6}", report.elapsed.as_secs_f64()));
    page.single("metawatch_servers_heard", "Servers that answered the last epoch.", &heard.to_string());
    page.single("metawatch_servers_expected", "Servers that should have answered it.", &expected);
    page.single("metawatch_epoch_seconds", "How long the last epoch took.", &number(seconds));
    page.single("metawatch_epoch_timestamp_seconds", "When it ended, in seconds since 1970.", &number(at));
}

fn groups(report: &CheckReport, page: &mut Page) {
    type Value = fn(&crate::report::GroupNumbers) -> String;
    let metrics: [(&str, &str, Value); 7] = [
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
        ("metawatch_meta_offline", "Peers that are offline (META_001).", |group| group.offline.to_string()),
        ("metawatch_meta_suspected", "Peers that may be offline.", |group| group.suspected.to_string()),
        ("metawatch_meta_silent", "Peers that did not answer.", |group| group.silent.to_string()),
    ];
    for (name, help, value) in metrics {
        page.metric(name, help);
        for group in &report.groups {
            let labels = [("domain", group.numbers.domain.as_str()), ("group", group.numbers.name.as_str())];
            page.sample(name, &labels, &value(group));
        }
    }
    page.metric("metawatch_meta_group_info", "The leader whose list counts; empty when there is none.");
    for group in &report.groups {
        let leader = group.numbers.leader.as_deref().unwrap_or_default();
        let labels = [
            ("domain", group.numbers.domain.as_str()),
            ("group", group.numbers.name.as_str()),
            ("leader", leader),
        ];
        page.sample("metawatch_meta_group_info", &labels, "1");
    }
    page.metric("metawatch_meta_check", "Checks of a whole group: 0 well, 1 fault, NaN not known.");
    for check in CHECKS {
        for finding in of_groups(report).filter(|finding| finding.check == check.code) {
            let labels = [
                ("check", check.code),
                ("domain", finding.domain.as_str()),
                ("group", finding.group.as_str()),
            ];
            page.sample("metawatch_meta_check", &labels, said(finding.verdict, Verdict::Fault));
        }
    }
}

fn of_groups(report: &CheckReport) -> impl Iterator<Item = &FindingReport> {
    report.findings.iter().filter(|finding| finding.peer.is_none())
}

fn said(verdict: Verdict, what: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "NaN",
        verdict if verdict == what => "1",
        Verdict::Clear | Verdict::Gone | Verdict::Suspect | Verdict::Fault => "0",
    }
}

fn peers(report: &CheckReport, page: &mut Page) {
    let mut peers: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.check == "META_001" && finding.verdict != Verdict::Gone)
        .filter_map(|finding| Some((finding, finding.peer.as_ref()?)))
        .collect();
    peers.sort_by(|(a, peer), (b, other)| (&a.group, &peer.id).cmp(&(&b.group, &other.id)));
    let metrics = [
        (
            "metawatch_meta_peer_offline",
            "Whether the peer is offline (META_001); NaN: not known.",
            Verdict::Fault,
        ),
        (
            "metawatch_meta_peer_suspected",
            "Whether the peer may be offline; NaN: not known.",
            Verdict::Suspect,
        ),
    ];
    for (name, help, what) in metrics {
        page.metric(name, help);
        for (finding, peer) in &peers {
            let labels = [("domain", finding.domain.as_str()), ("group", &finding.group), ("peer", &peer.id)];
            page.sample(name, &labels, said(finding.verdict, what));
        }
    }
    page.metric("metawatch_meta_peer_info", "The name of the peer, and the cluster it last answered from.");
    for (finding, peer) in &peers {
        let labels = [
            ("cluster", peer.cluster.as_str()),
            ("domain", &finding.domain),
            ("group", &finding.group),
            ("name", peer.name.as_deref().unwrap_or_default()),
            ("peer", &peer.id),
        ];
        page.sample("metawatch_meta_peer_info", &labels, "1");
    }
}

fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NaN".to_owned(), |value| value.to_string())
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn metric(&mut self, name: &str, help: &str) {
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.text.push_str(&format!("{name}{labels} {value}\n"));
    }

    fn single(&mut self, name: &str, help: &str, value: &str) {
        self.metric(name, help);
        self.sample(name, &[], value);
    }
}

/// Hidden characters become visible first: the page may be shown on a terminal, too.
fn escaped(value: &str) -> String {
    let visible = crate::name::printable(value);
    // The backslashes that `printable` adds are text now, and are escaped like all others.
    visible.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
