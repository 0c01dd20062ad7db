//! What the formats look like.

use serde_json::{Value, json};

use super::{check, healthy, lines, member, one_offline, row, server};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn nagios_gives_one_line_with_performance_data_and_then_the_details() {
    let said = check(&["check", "--from", "-"], &lines(&one_offline("s3")), 2, &[], &[]);
    let first = said.out.lines().next().expect("a line");
    let (words, data) = first.split_once(" | ").expect("performance data");
    assert!(
        words.ends_with("2 of 3 meta peers online, no failure left before the JetStream API stops"),
        "{words}"
    );
    assert_eq!(
        data,
        "peers=3 online=2;;;0;3 quorum=2 failures_left=0 offline=1 suspected=0 silent=1 not_current=0 lag=0 servers=2;;;0;3 \
         elapsed=0.000s"
    );
    assert_eq!(said.out.matches('|').count(), 1, "{said:?}");
    assert!(said.out.contains("\n  because "), "{said:?}");
    assert!(said.out.contains("nats server list\n"), "{said:?}");
}

#[test]
fn performance_data_of_several_groups_carries_their_names() {
    let mut replies = healthy();
    for mut reply in healthy() {
        reply["server"]["domain"] = json!("hub x");
        reply["server"]["id"] = json!(format!("H{}", reply["server"]["name"]));
        replies.push(reply);
    }
    let said =
        check(&["check", "--from", "-"], &lines(&replies), 0, &["default: 3 of 3", "hub x: 3 of 3"], &[]);
    for label in [" default.peers=3 ", " hub_x.peers=3 "] {
        assert!(said.out.contains(label), "{label:?}: {said:?}");
    }
}

#[test]
fn json_tells_the_verdict_its_reasons_and_the_numbers() {
    let arguments = ["check", "--from", "-", "--format", "json"];
    let said = check(&arguments, &lines(&one_offline("s3")), 2, &[], &[]);
    let told = json_of(&said.out);
    let expected = [
        ("/status", json!("CRITICAL")),
        ("/code", json!(2)),
        ("/epochs", json!(1)),
        ("/findings/0/check", json!("META_001")),
        ("/findings/0/peer", json!({"id": "3ahZoO2Q", "name": "s3"})),
        ("/findings/0/verdict", json!("fault")),
        ("/findings/0/basis", json!("reported")),
        ("/groups/0/name", json!("default")),
        ("/groups/0/online", json!(2)),
        ("/groups/0/failures_left", json!(0)),
        ("/groups/0/offline", json!(1)),
        ("/epoch/heard", json!(2)),
        ("/epoch/missing", json!(["s3"])),
    ];
    for (pointer, value) in expected {
        assert_eq!(told.pointer(pointer), Some(&value), "{pointer}: {told}");
    }
    assert!(told["findings"][0]["cause"]["because"].is_array() && told["findings"][0]["advice"].is_array());
    assert_eq!(said.out.lines().count(), 1, "one line where nobody watches");
}

#[test]
fn prometheus_keeps_its_series_and_never_repeats_one() {
    let arguments = ["check", "--from", "-", "--format", "prometheus"];
    let series = |replies: &[Value], code| {
        let said = check(&arguments, &lines(replies), code, &[], &[]);
        let samples: Vec<String> =
            said.out.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        for sample in &samples {
            let (name, value) = sample.rsplit_once(' ').expect("a value");
            assert!(value == "NaN" || value.parse::<f64>().is_ok(), "{sample}");
            let metric = name.split('{').next().expect("a name");
            assert!(said.out.contains(&format!("# TYPE {metric} gauge\n")), "{sample}");
        }
        let names: Vec<String> = samples
            .iter()
            .filter_map(|sample| sample.rsplit_once(' '))
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        (said.out, names.into_iter().filter(|name| !name.contains("_info")).collect::<Vec<_>>())
    };
    let (well, names) = series(&healthy(), 0);
    let (bad, same) = series(&one_offline("s3"), 2);
    assert_eq!(names, same);
    let peer = "metawatch_meta_peer_offline{domain=\"\",group=\"default\",peer=\"3ahZoO2Q\"}";
    assert!(well.contains(&format!("{peer} 0\n")), "{well}");
    assert!(bad.contains(&format!("{peer} 1\n")), "{bad}");
}

#[test]
fn names_that_others_chose_do_nothing_to_a_terminal() {
    let hostile = "s3\u{1b}[31m\u{9b}31m\u{202e}|x\r\n\"=";
    let mut replies = one_offline(hostile);
    replies.push(json!({"server": server("lone\u{1b}]0;x\u{7}"), "data": {"config": {}}}));
    let input = lines(&replies);
    for format in ["nagios", "json", "prometheus", "text"] {
        let said = check(&["check", "--from", "-", "--format", format], &input, 2, &[], &[]);
        assert!(!said.out.contains('\u{202e}'), "{format}: {said:?}");
    }
    for format in ["table", "json"] {
        let said = check(&["view", "--from", "-", "--format", format], &input, 0, &[], &[]);
        assert!(!said.out.contains('\u{202e}'), "{format}: {said:?}");
        if format == "json" {
            assert_eq!(json_of(&said.out)["groups"][0]["peers"][0]["name"], json!(hostile));
        }
    }
    let recording = super::epoch(0, &replies);
    for format in ["text", "json"] {
        let said = check(&["replay", "-", "--format", format], &recording, 0, &["META_001"], &[]);
        assert_eq!(said.out.lines().count(), 1, "{format}: {said:?}");
        assert!(!said.out.contains('\u{202e}'), "{format}: {said:?}");
    }
}

#[test]
fn the_table_shows_groups_peers_outsiders_and_trouble() {
    let disagreeing = row("s3", json!({"offline": true}));
    let mut replies = healthy();
    replies[1] = member("s2", Some("s1"), 3, &[row("s1", json!({})), disagreeing]);
    replies.push(json!({"server": server("lone"), "data": {"config": {}}}));
    replies.push(json!({"server": server("odd"), "error": {"code": 400, "description": "bad payload"}}));
    let words = [
        "meta group default, cluster c1, led by s1",
        "3 peers, 3 online, 2 must agree, failures left: 1",
        "s1    k2My6qdB  c1       leader   –        –    clear",
        "s3    3ahZoO2Q  c1       current  500ms    0    clear    s1: online, s2: offline",
        "servers outside of the meta groups",
        "lone",
        "standalone",
        "unreadable: odd: ",
    ];
    check(&["view", "--from", "-"], &lines(&replies), 0, &words, &[]);
}

#[test]
fn the_view_as_json_is_the_documented_one() {
    let said = check(&["view", "--from", "-", "--format", "json"], &lines(&one_offline("s3")), 0, &[], &[]);
    let view = json_of(&said.out);
    let peers = view["groups"][0]["peers"].as_array().expect("peers");
    let s3 = peers.iter().find(|peer| peer["id"] == "3ahZoO2Q").expect("s3");
    for (key, value) in [
        ("name", json!("s3")),
        ("listed", json!(true)),
        ("answered", json!(false)),
        ("offline", json!(true)),
        ("active_ns", json!(600_000_000_000_u64)),
        ("verdict", json!("fault")),
        ("opinions", json!({"s1": "offline"})),
    ] {
        assert_eq!(s3[key], value, "{key}: {s3}");
    }
    assert_eq!((&view["v"], &view["groups"][0]["leader"]), (&json!(1), &json!("s1")));
}

#[test]
fn colours_come_when_they_are_asked_for_and_never_into_a_pipe() {
    let input = lines(&one_offline("s3"));
    check(&["check", "--from", "-", "--format", "text"], &input, 2, &["CRITICAL  s3 is offline"], &[]);
    let said = super::run(&["check", "--from", "-", "--format", "text", "--color", "always"], &input);
    assert!(said.out.starts_with("\u{1b}[1;31mCRITICAL\u{1b}[0m"), "{said:?}");
}
