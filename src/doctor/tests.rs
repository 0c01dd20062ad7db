//! What the findings of `metawatch doctor` mean, without a server.

use std::collections::BTreeSet;

use super::judge::{self, AccountFacts, ClockReading, Reach};
use super::rights::{self, Tried, knows_traces};
use super::text::{Users, addition, end, lines};
use super::watchers::Watchers;
use super::{Connection, DoctorReport, Grant, Item, Operation, Outcome};
use crate::name::Name;
use crate::report::style::Style;
use crate::view::{Part, ServerView};

fn server(name: &str, cluster: &str, version: &str) -> ServerView {
    ServerView {
        name: Name::new(name),
        id: Name::new(&format!("N{name}")),
        cluster: Name::new(cluster),
        domain: Name::new(""),
        version: Name::new(version),
        part: Part::Member,
    }
}

#[test]
fn an_account_is_judged_by_who_answers_there() {
    let facts =
        |name, heard, nobody_answers, imported| AccountFacts { name, heard, nobody_answers, imported };
    for (facts, outcome, words) in [
        (facts(Some("SYS"), 3, false, false), Outcome::Ok, "SYS, the system account"),
        (facts(None, 3, false, false), Outcome::Ok, "the system account"),
        (facts(Some("APP"), 0, true, false), Outcome::Failed, "APP is not the system account"),
        (facts(None, 0, false, false), Outcome::Unknown, "its name is not known: no server answers"),
        (facts(Some("MON"), 3, false, true), Outcome::Note, "MON imports the questions"),
    ] {
        let item = judge::account(&facts);
        assert_eq!(item.outcome, outcome, "{facts:?}");
        assert!(item.text.starts_with(words), "{item:?}");
        assert_eq!(item.next.is_some(), !outcome.is_well(), "{item:?}");
    }
}

#[test]
fn a_leaf_node_that_answers_alone_is_told_from_one_that_is_linked() {
    let leaf = server("leaf1", "leaf1", "2.15.1");
    let outcome = |servers: &[ServerView]| judge::leaf("Nleaf1", servers).map(|item| item.outcome);
    assert_eq!(outcome(std::slice::from_ref(&leaf)), Some(Outcome::Failed));
    assert_eq!(outcome(&[leaf, server("s1", "c1", "2.15.1")]), Some(Outcome::Note));
    assert_eq!(outcome(&[server("leaf1", "c1", "2.15.1")]), None);
    assert_eq!(outcome(&[server("leaf1", "", "2.15.1")]), None);
    assert_eq!(outcome(&[server("s1", "s1", "2.15.1")]), None);
}

#[test]
fn versions_are_told_with_who_runs_them() {
    let item = |versions: &[(&str, &str)]| {
        let servers: Vec<_> = versions.iter().map(|(name, version)| server(name, "c1", version)).collect();
        judge::versions(&servers).expect("an item")
    };
    for (versions, outcome, words) in [
        (&[("s1", "2.15.1"), ("s2", "2.15.1")][..], Outcome::Ok, "2.15.1 on 2 servers"),
        (&[("s1", "2.15.1"), ("s2", "2.12.8")], Outcome::Warning, "mixed: 2.12.8 on s2; 2.15.1 on s1"),
        (&[("s1", "2.8.4")], Outcome::Warning, "2.8.4 on 1 server: older"),
        (&[("s1", "2.16.0-dev")], Outcome::Note, "2.16.0-dev on 1 server: newer"),
        (&[("s1", "odd")], Outcome::Ok, "odd on 1 server"),
    ] {
        let item = item(versions);
        assert_eq!(item.outcome, outcome, "{item:?}");
        assert!(item.text.starts_with(words), "{item:?}");
    }
    assert_eq!(judge::versions(&[]), None);
    for (version, expected) in
        [("2.10.29", false), ("2.11.0", true), ("2.15.1", true), ("3.0.0", true), ("", false)]
    {
        assert_eq!(knows_traces(version), expected, "{version}");
    }
}

#[test]
fn a_clock_is_wrong_only_beyond_the_time_that_the_answer_took() {
    const SECOND: i64 = 1_000_000_000;
    let reading = |server: &str, told: i64| ClockReading {
        server: server.into(),
        asked_ns: 10 * SECOND,
        heard_ns: 15 * SECOND,
        told_ns: told * SECOND,
    };
    let item = |told: &[i64]| {
        let readings: Vec<_> =
            told.iter().zip(["s1", "s2", "s3"]).map(|(told, name)| reading(name, *told)).collect();
        judge::clocks(&readings).expect("an item")
    };
    for (told, outcome, words) in [
        (&[10, 15, 12][..], Outcome::Ok, "within 1 s of ours on 3 servers"),
        (&[9, 16, 12], Outcome::Ok, "within 1 s of ours on 3 servers"),
        (&[12, 75, 12], Outcome::Warning, "s2 is 60 s ahead of this host"),
        (&[12, 12, 4], Outcome::Warning, "s3 is 6.0 s behind this host"),
    ] {
        let item = item(told);
        assert_eq!(item.outcome, outcome, "{item:?}");
        assert!(item.text.starts_with(words), "{item:?}");
    }
    let ours = item(&[75, 75, 75]).next.expect("something to do");
    assert!(ours.contains("the clock of this host"), "{ours}");
    let text = br#"{"server":{"name":"s1","time":"1970-01-01T00:00:12Z"},"data":{}}"#;
    assert_eq!(ClockReading::of(text, 10 * SECOND, 15 * SECOND), Some(reading("s1", 12)));
    assert_eq!(ClockReading::of(b"{}", 0, 0), None);
    assert_eq!(judge::clocks(&[]), None);
}

#[test]
fn a_right_that_is_missing_is_told_with_what_to_add_and_counts_by_what_depends_on_it() {
    let rights = rights::of_watching("_METAWATCH", "metawatch", "NABC");
    let of = |subject: &str| {
        let right = rights.iter().find(|right| right.grant.subject == subject);
        right.unwrap_or_else(|| panic!("{subject}"))
    };
    for (subject, tried, outcome) in [
        ("_METAWATCH.>", Tried::Refused, Outcome::Failed),
        ("$SYS.REQ.SERVER.PING.JSZ", Tried::Refused, Outcome::Failed),
        ("$SYS.REQ.SERVER.*.STATSZ", Tried::Refused, Outcome::Warning),
        ("$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED", Tried::Refused, Outcome::Note),
        ("$SYS.REQ.SERVER.PING.JSZ", Tried::Answered(3), Outcome::Ok),
        ("$SYS.REQ.SERVER.PING.JSZ", Tried::Silence, Outcome::Unknown),
        ("$SYS.REQ.SERVER.PING.RAFTZ", Tried::NobodyThere, Outcome::Note),
        ("metawatch.watcher.*", Tried::NotTried("no way"), Outcome::Unknown),
    ] {
        let right = of(subject);
        let item = right.judge(&tried);
        assert_eq!(item.outcome, outcome, "{item:?}");
        assert_eq!(item.add.as_ref(), (tried == Tried::Refused).then_some(&right.grant), "{item:?}");
        assert!(item.text.contains(subject), "{item:?}");
    }
    assert_eq!(of("$SYS.REQ.SERVER.*.STATSZ").tried, "$SYS.REQ.SERVER.NABC.STATSZ");
    // A connection of its own needs an inbox, and in core mode asks what has arrived.
    let count = |connection, asks| rights::of_alerts(connection, "_INBOX", "metawatch", asks).len();
    assert_eq!(count(Connection::Watching, true), 8);
    assert_eq!((count(Connection::Alerts, true), count(Connection::Alerts, false)), (10, 9));
}

#[test]
fn whom_an_alert_reaches_is_read_from_what_servers_report() {
    let report = br#"{"server":{"name":"x"},"events":[
        {"type":"in","kind":0,"name":"admin","acc":"SYS","subj":"a"},
        {"type":"se","acc":"APP","to":"a"},
        {"type":"eg","kind":0,"name":"pager","sub":"a"},
        {"type":"eg","kind":1,"name":"s2"},
        {"type":"js","stream":"METAWATCH"}]}"#;
    let who = judge::reached(report);
    assert_eq!(who, ["account APP", "pager", "stream METAWATCH"].map(str::to_owned).into());
    assert!(judge::reached(b"nonsense").is_empty());
    let outcome = |reach: &Reach| judge::arrival(reach, "metawatch", Some("SYS")).outcome;
    assert_eq!(outcome(&Reach::Somebody(who)), Outcome::Ok);
    assert_eq!(outcome(&Reach::Somebody(BTreeSet::new())), Outcome::Ok);
    assert_eq!(outcome(&Reach::Nobody), Outcome::Warning);
    assert_eq!(outcome(&Reach::TooOld), Outcome::Note);
    assert_eq!(outcome(&Reach::Unknown("why")), Outcome::Unknown);
}

#[test]
fn a_stream_is_known_by_its_name_or_by_nobody_taking_alerts() {
    let grant =
        || Grant { connection: Connection::Alerts, operation: Operation::Publish, subject: "x".into() };
    let item = |answer: Option<&str>, refused, reach: &Reach| {
        judge::stream(answer.map(str::as_bytes), refused, reach, grant())
    };
    let somebody = Reach::Somebody(BTreeSet::new());
    for (answer, refused, reach, outcome) in [
        (Some(r#"{"total":1,"streams":["METAWATCH"]}"#), false, &somebody, Outcome::Ok),
        (Some(r#"{"streams":["A","B"]}"#), false, &somebody, Outcome::Warning),
        (Some(r#"{"total":0,"streams":null}"#), false, &somebody, Outcome::Failed),
        (Some(r#"{"error":{"code":503,"description":"no"}}"#), false, &somebody, Outcome::Failed),
        (None, true, &somebody, Outcome::Note),
        (None, true, &Reach::Nobody, Outcome::Failed),
        (None, false, &somebody, Outcome::Failed),
    ] {
        let item = item(answer, refused, reach);
        assert_eq!(item.outcome, outcome, "{item:?}");
        assert_eq!(item.add.is_some(), outcome == Outcome::Note, "{item:?}");
    }
}

#[test]
fn other_watchers_are_counted_and_those_that_do_not_fit_are_named() {
    let beat = |instance: &str, version: &str, watchers: u64| {
        serde_json::json!({"v": 1, "timestamp": "t", "status": "ok", "summary": "", "epoch": {"id": "a-1", "ended": "quiet",
            "expected": 3, "heard": 3, "missing": [], "elapsed_ms": 1}, "groups": [], "incidents": 0, "active": [],
            "speaker": instance, "watchers": watchers, "undelivered": 0, "waiting": 0,
            "monitor": {"name": instance, "version": version, "instance": instance}})
        .to_string()
    };
    let message = |name: &str, role: &str, v: u32| {
        serde_json::json!({"v": v, "instance": name, "name": name, "sent_ns": 0, "started_ns": 0, "interval_ms": 2000,
            "role": role, "sees_servers": true, "term": 1})
        .to_string()
    };
    let judge = |beats: &[String], messages: &[String], hears| {
        let mut watchers = Watchers::default();
        beats.iter().for_each(|beat| watchers.heartbeat(beat.as_bytes()));
        messages.iter().for_each(|message| watchers.message(message.as_bytes()));
        watchers.judge(hears, "0.1.0")
    };
    let v = crate::election::MESSAGE_VERSION;
    for (item, outcome, words) in [
        (judge(&[], &[], true), Outcome::Note, "no other one is heard"),
        (judge(&[], &[], false), Outcome::Unknown, "other ones cannot be heard"),
        (judge(&[beat("a", "0.1.0", 1)], &[], true), Outcome::Ok, "a runs, of version 0.1.0"),
        (
            judge(&[beat("a", "0.1.0", 3)], &[message("a", "active", v)], true),
            Outcome::Ok,
            "3 run, a is active",
        ),
        (
            judge(&[beat("a", "0.0.9", 2)], &[], true),
            Outcome::Warning,
            "2 run, of version 0.0.9; this is 0.1.0",
        ),
        (judge(&[], &[message("a", "active", v - 1)], true), Outcome::Warning, "a: of a version"),
        (
            judge(&[], &[message("a", "active", v), message("b", "active", v)], true),
            Outcome::Warning,
            "a, b are active at once",
        ),
        (judge(&[], &[message("a", "reserve", v)], true), Outcome::Note, "1 are heard"),
        (judge(&["nonsense".into()], &["nonsense".into()], true), Outcome::Note, "no other one is heard"),
    ] {
        assert_eq!(item.outcome, outcome, "{item:?}");
        assert!(item.text.starts_with(words), "{item:?}");
    }
}

#[test]
fn an_item_stands_in_80_columns_with_the_permission_as_it_is_written() {
    for connection in [Connection::Watching, Connection::Alerts] {
        let mut all = rights::of_watching("_METAWATCH", "metawatch", "NABC");
        all.extend(rights::of_alerts(connection, "_METAWATCH", "metawatch", true));
        for item in all.iter().map(|right| right.judge(&Tried::Refused)) {
            let text = lines(&item, Users::Configured, Style::new(false));
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
    let grant = Grant {
        connection: Connection::Watching,
        operation: Operation::Subscribe,
        subject: "$SYS.SERVER.*.SHUTDOWN".into(),
    };
    assert_eq!(addition(&grant, Users::Configured), "subscribe: \"$SYS.SERVER.*.SHUTDOWN\"");
    assert_eq!(addition(&grant, Users::Jwt), "nsc edit user NAME --allow-sub '$SYS.SERVER.*.SHUTDOWN'");
    let item =
        Item::new("right", Outcome::Warning, "may not do it: and so on").granting(grant).next("do this");
    let expected = "warning  right       may not do it: and so on\n         \
                    add         subscribe: \"$SYS.SERVER.*.SHUTDOWN\"\n         next        do this\n";
    assert_eq!(lines(&item, Users::Configured, Style::new(false)), expected);
    let report = DoctorReport::new(vec![item, Item::new("state", Outcome::Note, "x")]);
    assert_eq!((report.code, report.summary.as_str()), (1, "1 could be better"));
    assert_eq!(end(&DoctorReport::new(Vec::new()), Style::new(false)), "\nall is well\n");
}
