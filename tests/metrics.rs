//! The numbers for Prometheus: what is in them while a system loses servers, and how many there are.

use std::collections::{BTreeMap, BTreeSet};

use metawatch::name::PeerId;
use metawatch::report::exposition::Format;
use metawatch::status::numbers::{GROUPS_MAX, Numbers, PEERS_MAX};
use metawatch::status::{Limits, metrics};

use crate::model::{Answers, World};
use crate::status::{Looking, group, healthy};

/// The samples of a page, by name and labels.
#[derive(Debug)]
pub(crate) struct Samples(BTreeMap<(String, BTreeMap<String, String>), String>);

impl Samples {
    /// Reads a page, and finds nothing in it that Prometheus would not read.
    #[track_caller]
    pub(crate) fn read(page: &str) -> Self {
        let mut samples = BTreeMap::new();
        let mut types = BTreeMap::new();
        assert!(page.ends_with('\n'));
        for line in page.lines().filter(|line| *line != "# EOF") {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                let (name, kind) = told.split_once(' ').expect(line);
                assert_eq!(types.insert(name.to_owned(), kind.to_owned()), None, "told once: {line}");
            } else if !line.starts_with("# ") {
                let (name, labels, value) = sample(line);
                assert!(value == "NaN" || value.parse::<f64>().is_ok(), "{line}");
                let family = [&name[..], name.trim_end_matches("_total"), name.trim_end_matches("_info")]
                    .into_iter()
                    .chain(["_count", "_sum"].into_iter().filter_map(|end| name.strip_suffix(end)))
                    .find(|family| types.contains_key(*family));
                assert!(family.is_some(), "a type before {line}");
                assert_eq!(samples.insert((name, labels), value), None, "told once: {line}");
            }
        }
        Self(samples)
    }

    /// The value with these labels; others that it has do not matter.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> &str {
        let found = self.all(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0]
    }

    /// All values with these labels.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&str> {
        let fits = |(other, known): &(String, BTreeMap<String, String>)| {
            other == name
                && labels.iter().all(|(label, value)| known.get(*label).is_some_and(|known| known == value))
        };
        self.0.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value.as_str()).collect()
    }

    /// The values that a label has.
    pub(crate) fn labels(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let of_name = self.0.keys().filter(|(other, _)| other == name);
        of_name.filter_map(|(_, labels)| labels.get(label)).map(String::as_str).collect()
    }

    /// Everything but the names of leaders, which may change.
    pub(crate) fn series(&self) -> BTreeSet<&(String, BTreeMap<String, String>)> {
        self.0.keys().filter(|(name, _)| !name.ends_with("_group_info")).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads `name{label="value",…} number` as the formats define it.
#[track_caller]
fn sample(line: &str) -> (String, BTreeMap<String, String>, String) {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(word(name), "{line}");
    let mut labels = BTreeMap::new();
    while let Some(next) = rest.strip_prefix('{').or_else(|| rest.strip_prefix(',')) {
        let (label, next) = next.split_once("=\"").expect(line);
        let mut value = String::new();
        let mut characters = next.char_indices();
        let end = loop {
            match characters.next().expect(line) {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().expect(line).1 {
                    'n' => '\n',
                    same @ ('"' | '\\') => same,
                    other => panic!("\\{other} means nothing: {line}"),
                }),
                (_, other) => value.push(other),
            }
        };
        assert!(word(label) && labels.insert(label.to_owned(), value).is_none(), "{line}");
        rest = &next[end + 1..];
        rest = rest.strip_prefix('}').unwrap_or(rest);
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').expect(line).to_owned())
}

fn page(numbers: &Numbers, format: Format) -> String {
    metrics::whole(&metrics::page(Some(numbers), "0.1.0", format), true, format)
}

/// Both formats, which hold the same.
fn samples(looking: &Looking) -> Samples {
    let numbers = looking.numbers();
    let [plain, open] = [Format::Prometheus, Format::OpenMetrics].map(|format| page(&numbers, format));
    assert!(!plain.ends_with("# EOF\n") && open.ends_with("\n# EOF\n"));
    let (plain, open) = (Samples::read(&plain), Samples::read(&open));
    assert_eq!(plain.0, open.0);
    open
}

fn offline(samples: &Samples, name: &str) -> String {
    let id = PeerId::of_server(name);
    samples.value("metawatch_meta_peer_offline", &[("peer", id.as_str())]).to_owned()
}

const DEFAULT: (&str, &str) = ("group", "default");

#[test]
fn an_outage_changes_values_and_no_series() {
    let mut looking = Looking::new(Limits::PAGE);
    let mut world = healthy();
    looking.watch(&world, 3);
    let well = samples(&looking);
    assert_eq!((offline(&well, "s3"), well.value("metawatch_status", &[])), ("0".to_owned(), "0"));
    assert_eq!(well.value("metawatch_meta_failures_left", &[DEFAULT]), "1");
    assert_eq!(well.all("metawatch_meta_peer_current", &[("group", "edge")]), ["1", "1", "1"]);
    assert_eq!(well.value("metawatch_meta_peers", &[("domain", "edge")]), "3");
    crate::status::crash(&mut world, "s3");
    looking.watch(&world, 12);
    let bad = samples(&looking);
    assert_eq!((offline(&bad, "s3"), bad.value("metawatch_status", &[])), ("1".to_owned(), "2"));
    assert_eq!(bad.value("metawatch_meta_failures_left", &[DEFAULT]), "0");
    assert_eq!(bad.value("metawatch_peers_offline", &[]), "1");
    let id = PeerId::of_server("s3");
    assert_eq!(bad.value("metawatch_meta_peer_current", &[("peer", id.as_str())]), "0");
    assert_eq!(bad.value("metawatch_meta_peer_active_seconds", &[("peer", id.as_str())]), "12.400000000");
    let firing = [("check", "META_001"), ("severity", "critical"), ("state", "firing")];
    assert_eq!(bad.value("metawatch_incidents", &firing), "1");
    assert_eq!(bad.series(), well.series());
}

#[test]
fn what_was_known_holds_while_nobody_answers_and_no_series_ends_without_a_leader() {
    let mut looking = Looking::new(Limits::PAGE);
    let mut world = healthy();
    looking.watch(&world, 3);
    let well = samples(&looking);
    crate::status::crash(&mut world, "s3");
    looking.watch(&world, 12);
    let mut leaderless = world.clone();
    leaderless.groups[0].leader = None;
    looking.watch(&leaderless, 1);
    let without = samples(&looking);
    assert_eq!(without.value("metawatch_meta_group_info", &[DEFAULT, ("leader", "")]), "1");
    assert_eq!(without.value("metawatch_meta_online", &[DEFAULT]), "NaN");
    assert_eq!(offline(&without, "s3"), "1", "an incident is open");
    for server in leaderless.groups.iter_mut().flat_map(|group| &mut group.servers) {
        server.answers = Answers::Not;
    }
    looking.watch(&leaderless, 2);
    let blind = samples(&looking);
    assert_eq!((offline(&blind, "s3"), offline(&blind, "s1")), ("1".to_owned(), "NaN".to_owned()));
    assert_eq!((blind.value("metawatch_status", &[]), blind.value("metawatch_ready", &[])), ("3", "1"));
    let epochs = |result| blind.value("metawatch_epochs_total", &[("result", result)]);
    assert_eq!((epochs("complete"), epochs("incomplete")), ("16", "2"));
    assert_eq!((blind.series(), without.series()), (well.series(), well.series()));
}

#[test]
fn a_leader_change_is_counted_and_a_time_without_one_is_none() {
    let mut looking = Looking::new(Limits::PAGE);
    let mut world = healthy();
    for leader in [Some("s1"), None, Some("s1"), Some("s2"), Some("s2"), None, Some("s3")] {
        world.groups[0].leader = leader.map(str::to_owned);
        looking.watch(&world, 1);
    }
    let samples = samples(&looking);
    assert_eq!(samples.value("metawatch_meta_leader_changes_total", &[DEFAULT]), "2");
    assert_eq!(samples.value("metawatch_meta_leader_changes_total", &[("group", "edge")]), "0");
    assert_eq!(samples.labels("metawatch_meta_group_info", "leader"), BTreeSet::from(["s3", "leaf-1"]));
}

#[test]
fn the_series_of_what_has_left_end() {
    let mut looking = Looking::new(Limits::PAGE);
    let mut world =
        World { groups: vec![group(&["s1", "s2", "s3", "s4", "s5"], "c1", "")], ..World::default() };
    looking.watch(&world, 3);
    assert_eq!(samples(&looking).all("metawatch_meta_peer_offline", &[]).len(), 5);
    world.groups[0].members.remove("s5");
    world.groups[0].servers.retain(|server| server.name != "s5");
    looking.watch(&world, 5);
    let after = samples(&looking);
    assert_eq!(after.value("metawatch_meta_peers", &[]), "4");
    let id = PeerId::of_server("s5");
    for (name, labels) in after.series() {
        assert!(labels.get("peer").is_none_or(|peer| peer != id.as_str()), "{name}");
    }
}

#[test]
fn a_watcher_that_does_not_look_tells_of_itself_alone() {
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&healthy(), 3);
    let numbers = Numbers { role: "reserve", seen: None, ..looking.numbers() };
    let samples = Samples::read(&page(&numbers, Format::OpenMetrics));
    assert_eq!(samples.value("metawatch_role", &[("role", "reserve")]), "1");
    assert_eq!(samples.all("metawatch_role", &[]).iter().filter(|value| **value == "1").count(), 1);
    assert!(samples.series().iter().all(|(name, _)| !name.starts_with("metawatch_meta")));
    assert_eq!(samples.value("metawatch_lost_total", &[("kind", "replies")]), "0");
    let none = Samples::read(&metrics::whole(
        &metrics::page(None, "0.1.0", Format::OpenMetrics),
        false,
        Format::OpenMetrics,
    ));
    assert_eq!((none.value("metawatch_ready", &[]), none.len()), ("0", 2));
}

#[test]
fn names_with_quotes_backslashes_and_line_breaks_stay_labels() {
    let names = ["a\"} 1", "back\\slash\\", "line\nbreak 1\n# EOF", "\u{1b}[31m\u{202e}", "n\\n\"", "ä {=,}"];
    let mut looking = Looking::new(Limits::PAGE);
    let mut world = World { groups: vec![group(&names, "c\"1\\\n", "do\"main\\\n")], ..World::default() };
    world.groups[0].leader = Some(names[0].to_owned());
    looking.watch(&world, 3);
    let samples = samples(&looking);
    let told = samples.labels("metawatch_meta_peer_info", "name");
    let shown = names.map(|name| metawatch::name::printable(name).into_owned());
    assert_eq!(told, shown.iter().map(String::as_str).collect());
    assert_eq!(samples.labels("metawatch_meta_group_info", "leader"), BTreeSet::from([names[0]]));
    assert_eq!(samples.all("metawatch_meta_peer_offline", &[]).len(), names.len());
}

#[test]
fn ten_thousand_servers_have_a_bounded_number_of_series_those_at_fault_among_them() {
    let names: Vec<String> = (0..10_000).map(|number| format!("n{number:05}")).collect();
    let mut groups = Vec::new();
    for (number, of_group) in names.chunks(5).enumerate() {
        let of_group: Vec<&str> = of_group.iter().map(String::as_str).collect();
        groups.push(group(&of_group, &format!("c{number}"), &format!("d{number:04}")));
    }
    let mut world = World { groups, ..World::default() };
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&world, 1);
    let lost = world.groups[1_777].servers[3].name.clone();
    let leader = world.groups[1_777].leader.clone().unwrap();
    world.groups[1_777].say(&leader, &lost, |said| said.offline = true);
    world.groups[1_777].server(&lost).unwrap().answers = Answers::Not;
    looking.watch(&world, 2);
    let numbers = looking.numbers();
    let text = page(&numbers, Format::OpenMetrics);
    let samples = Samples::read(&text);
    assert_eq!(samples.all("metawatch_meta_peers", &[]).len(), GROUPS_MAX);
    assert_eq!(samples.all("metawatch_meta_peer_offline", &[]).len(), GROUPS_MAX * 5);
    assert_eq!(offline(&samples, &lost), "1");
    assert_eq!(samples.value("metawatch_left_out", &[("kind", "groups")]), "1800");
    assert_eq!(samples.value("metawatch_left_out", &[("kind", "peers")]), "9000");
    assert_eq!(samples.value("metawatch_peers", &[]), "10000");
    assert_eq!(samples.value("metawatch_peers_offline", &[]), "1");
    assert!(samples.len() < 11_000 && text.len() < 1 << 20, "{} series, {} bytes", samples.len(), text.len());
}

#[test]
fn peers_have_a_limit_besides_that_of_groups() {
    let names: Vec<String> = (0..GROUPS_MAX * 11).map(|number| format!("n{number:05}")).collect();
    let mut groups = Vec::new();
    for (number, of_group) in names.chunks(11).enumerate() {
        let of_group: Vec<&str> = of_group.iter().map(String::as_str).collect();
        groups.push(group(&of_group, &format!("c{number}"), &format!("d{number:04}")));
    }
    let mut world = World { groups, ..World::default() };
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&world, 1);
    let lost = world.groups[199].servers[10].name.clone();
    crate::status::crash_in(&mut world.groups[199], &lost);
    looking.watch(&world, 4);
    let samples = samples(&looking);
    assert_eq!(samples.all("metawatch_meta_peers", &[]).len(), GROUPS_MAX);
    assert_eq!(samples.all("metawatch_meta_peer_offline", &[]).len(), PEERS_MAX);
    assert_eq!(samples.value("metawatch_left_out", &[("kind", "peers")]), "200");
    assert_eq!(offline(&samples, &lost), "1");
}
