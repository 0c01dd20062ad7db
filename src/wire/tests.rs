use serde_json::Value;

use super::*;

fn reply(meta: &str) -> String {
    format!(
        r#"{{"server":{{"name":"s1","id":"NA","cluster":"c1","ver":"2.14.6","seq":7}},"data":{{"meta_cluster":{meta}}}}}"#
    )
}

#[track_caller]
fn rejected(payload: &str, reason: RejectReason, detail: &str) -> Reject {
    let reject = decode_jsz(payload.as_bytes()).expect_err("should be rejected");
    assert_eq!(reject.reason, reason, "{reject:?}");
    assert!(reject.detail.contains(detail), "{:?} lacks {detail:?}", reject.detail);
    reject
}

#[test]
fn a_leader_of_any_version_is_read() {
    let text = reply(
        r#"{"name":"c1","leader":"s1","peer":"k2My6qdB","cluster_size":3,"replicas":[
            {"name":"s2","current":true,"active":5,"peer":"noC8kOtg","lag":2},
            {"name":"Server name unknown at this time (peerID: 3ahZoO2Q)","current":false,"offline":true,"active":0,"peer":"3ahZoO2Q"}]}"#,
    );
    let decoded = decode_jsz(text.as_bytes()).unwrap();
    let JetStream::Member(meta) = decoded.jetstream else { panic!("{decoded:?}") };
    assert_eq!(meta.leader_id, Some(decoded.server.peer));
    assert_eq!(meta.rows[0].name, Some(Name::new("s2")));
    assert_eq!((meta.rows[1].name.clone(), meta.rows[1].peer), (None, PeerId::of_server("s3")));
    assert_eq!((meta.size, meta.quorum_needed), (3, None));
}

#[test]
fn the_hash_of_the_empty_name_is_no_leader() {
    let text = reply(r#"{"name":"c1","peer":"fqA4S4SK","cluster_size":3,"snapshot":null}"#);
    let decoded = decode_jsz(text.as_bytes()).unwrap();
    let JetStream::Member(meta) = decoded.jetstream else { panic!("{decoded:?}") };
    assert_eq!((meta.leader, meta.leader_id), (None, None));
}

/// What a server tells of its load, and what is wrong with that. `data` and `meta` are fields, `max_storage` a value.
#[track_caller]
fn check_usage(data: &str, max_storage: &str, meta: &str, expected: [Option<u64>; 7], flaws: usize) {
    let text = format!(
        r#"{{"server":{{"name":"s1"}},"data":{{{data}"config":{{"max_storage":{max_storage}}},
            "meta_cluster":{{{meta}"name":"c1","peer":"fqA4S4SK","cluster_size":3}}}}}}"#
    );
    let decoded = decode_jsz(text.as_bytes()).unwrap();
    let JetStream::Member(Meta { usage, .. }) = decoded.jetstream else { panic!("{decoded:?}") };
    let Usage { streams, consumers, storage, reserved_storage, max_storage, pending, snapshot_ns } = usage;
    let told = [streams, consumers, storage, reserved_storage, max_storage, pending, snapshot_ns];
    assert_eq!((told, decoded.flaws.len()), (expected, flaws), "{:?}", decoded.flaws);
}

#[test]
fn the_load_of_a_server_is_read_and_what_cannot_be_counts_as_absent() {
    check_usage(
        r#""streams":3,"consumers":4,"storage":5,"reserved_storage":6,"#,
        "7",
        r#""pending":8,"snapshot":{"last_duration":9,"pending_size":1},"#,
        [3, 4, 5, 6, 7, 8, 9].map(Some),
        0,
    );
    // Old servers tell less, and a limit of -1 is none.
    check_usage("", "-1", r#""snapshot":{"pending_entries":0},"#, [None; 7], 0);
    check_usage(
        r#""storage":0,"#,
        "0",
        r#""snapshot":null,"#,
        [None, None, Some(0), None, Some(0), None, None],
        0,
    );
    // A server that subtracted too much, and durations that nothing takes.
    let huge = r#""streams":-1,"storage":18446744073709551615,"reserved_storage":1152921504606846977,"#;
    check_usage(
        huge,
        "18446744073709551615",
        r#""snapshot":{"last_duration":86400000000001},"#,
        [None; 7],
        4,
    );
    // Of another type: each costs itself alone.
    let odd = r#""streams":"3","consumers":4,"storage":1e3,"#;
    check_usage(odd, "null", r#""pending":[],"#, [None, Some(4), Some(1_000), None, None, None, None], 2);
}

#[test]
fn a_server_says_disabled_or_standalone() {
    let disabled = r#"{"server":{"name":"s1","jetstream":true},"data":{"disabled":true}}"#;
    let standalone = r#"{"server":{"name":"s1"},"data":{"config":{"domain":"leaf"}}}"#;
    assert_eq!(decode_jsz(disabled.as_bytes()).unwrap().jetstream, JetStream::Disabled);
    let decoded = decode_jsz(standalone.as_bytes()).unwrap();
    assert_eq!((decoded.jetstream, decoded.server.domain), (JetStream::Standalone, Name::new("leaf")));
}

#[test]
fn bad_replies_are_told_apart_and_still_name_their_sender() {
    use RejectReason::{Malformed, ServerError, TooLarge};
    rejected("", Malformed, "EOF");
    rejected("{}", Malformed, "missing field `server`");
    rejected(r#"{"server":{"name":""},"data":{}}"#, Malformed, "no name");
    rejected(r#"{"server":{"name":"s1"}}"#, Malformed, "neither data nor an error");
    rejected(&"[".repeat(100_000), Malformed, "");
    rejected(&" ".repeat(REPLY_BYTES_MAX + 1), TooLarge, "bytes");
    let error = r#"{"server":{"name":"s1"},"error":{"code":400,"description":"bad\u001b[2J"}}"#;
    let reject = rejected(error, ServerError, "error 400: bad\\u{1b}");
    assert_eq!(reject.server.unwrap().name, Name::new("s1"));
    // Who sent something too large is told by how it begins.
    let large = format!(r#"{{"server":{{"name":"s1"}},"data":"{}"}}"#, "é".repeat(REPLY_BYTES_MAX / 2));
    let reject = rejected(&large, TooLarge, "bytes");
    assert_eq!(reject.server.unwrap().name, Name::new("s1"));
}

#[test]
fn what_cannot_be_read_at_all_still_comes_from_somebody_alive() {
    let whole = reply(r#"{"leader":"s1","cluster_size":1}"#);
    let cut = &whole[..whole.len() - 3];
    let data = |data: &str| format!(r#"{{"server":{{"name":"s1"}},"data":{data}}}"#);
    for (payload, detail) in [
        (cut.to_owned(), "EOF"),
        (format!("{whole}}}"), "trailing characters"),
        (format!("{whole}{whole}"), "trailing characters"),
        (whole.replace("leader", "lea\u{7}der"), "control character"),
        (whole.replace("cluster_size\":1", "cluster_size\":1e"), "number"),
        (data("[]"), "`data` is no object"),
        (data("[false,{},null]"), "`data` is no object"),
        (data("\"off\""), "`data` is no object"),
        (data("null"), "neither data nor an error"),
        (data("{}"), "no report of JetStream"),
        (data(r#"{"config":[]}"#), "no report of JetStream"),
        (data(r#"{"config":{},"disabled":"yes"}"#), "`disabled` is no flag"),
        (data(r#"{"config":{},"disabled":null}"#), "`disabled` is no flag"),
        (data(r#"{"config":{},"meta_cluster":[]}"#), "`meta_cluster` is no object"),
        (data(r#"{"config":{},"meta_cluster":"c1"}"#), "`meta_cluster` is no object"),
        (data(&"[".repeat(100_000)), ""),
    ] {
        let reject = rejected(&payload, RejectReason::Malformed, detail);
        assert_eq!(reject.server.expect("a sender").name, Name::new("s1"), "{payload:.200}");
    }
    let disabled = data(r#"{"disabled":true,"meta_cluster":[],"config":7}"#);
    assert_eq!(decode_jsz(disabled.as_bytes()).unwrap().jetstream, JetStream::Disabled);
}

/// What was read of a member's reply, in a line, and what was wrong.
fn read(meta: &str) -> (String, Vec<String>) {
    let text = reply(meta);
    let decoded = decode_jsz(text.as_bytes()).unwrap_or_else(|reject| panic!("{meta}: {reject:?}"));
    let JetStream::Member(meta) = decoded.jetstream else { panic!("{text}") };
    let leader =
        meta.leader_id.map_or("nobody".into(), |id| format!("{}/{id}", meta.leader.unwrap_or_default()));
    let mut line = format!("{leader} {}", meta.size);
    for row in &meta.rows {
        let name = row.name.clone().unwrap_or_else(|| "?".into());
        line += &format!(" · {name}/{} {} {}", row.peer, row.active_ns, row.lag);
        for (set, word) in
            [(row.offline, " offline"), (row.offline_unreadable, " unreadable"), (row.current, " current")]
        {
            line += if set { word } else { "" };
        }
    }
    if meta.unreadable_rows > 0 {
        line += &format!(" · {} lost", meta.unreadable_rows);
    }
    (line, decoded.flaws)
}

const S2: &str = r#"{"name":"s2","peer":"noC8kOtg","current":true,"active":5,"lag":2}"#;
/// A row that a damaged peer file leads to (measured on 2.10.25).
const DAMAGED: &str =
    r#"{"name":"Server name unknown at this time (peerID: \"kCGheKT)","offline":true,"peer":"\"kCGheKT"}"#;

/// A list of s1, the leader of three.
fn led(rest: &str) -> String {
    format!(r#"{{"leader":"s1","peer":"k2My6qdB","cluster_size":3,{rest}}}"#)
}

/// One row more than that of s2.
fn rows(row: &str) -> String {
    led(&format!(r#""replicas":[{S2},{row}]"#))
}

fn group(line: &str) -> String {
    format!("s1/k2My6qdB 3{line}")
}

fn after_s2(line: &str) -> String {
    group(&format!(" · s2/noC8kOtg 5 2 current{line}"))
}

#[track_caller]
fn check_read(cases: &[(String, String, &[&str])]) {
    for (meta, line, flaws) in cases {
        let (read, told) = read(meta);
        assert_eq!(read, *line, "{meta}");
        assert_eq!(told.len(), flaws.len(), "{meta}: {told:?}");
        for flaw in *flaws {
            assert!(told.iter().any(|told| told.contains(flaw)), "{meta}: {told:?} lacks {flaw:?}");
        }
    }
}

#[test]
fn one_bad_row_costs_one_row() {
    check_read(&[
        (rows(DAMAGED), after_s2(" · ?/\"kCGheKT 0 0 offline"), &[]),
        (rows(r#"{"name":"s3"}"#), after_s2(" · s3/3ahZoO2Q 0 0"), &[]),
        (rows(r#"{"name":"s3","peer":7}"#), after_s2(" · s3/3ahZoO2Q 0 0"), &["replicas[1].peer is no text"]),
        (rows("7"), after_s2(" · 1 lost"), &["replicas[1] is no object"]),
        (rows("null"), after_s2(" · 1 lost"), &["replicas[1] is no object"]),
        (rows(r#"["s3","3ahZoO2Q"]"#), after_s2(" · 1 lost"), &["replicas[1] is no object"]),
        (rows("{}"), after_s2(" · 1 lost"), &["the peer id \"\""]),
        (rows(r#"{"peer":"../../etc/passwd"}"#), after_s2(" · ?/../../etc/passwd 0 0"), &[]),
        (rows(r#"{"name":"s3","peer":"../../etc/passwd0"}"#), after_s2(" · 1 lost"), &["etc/passwd0"]),
        (rows(r#"{"name":"s3","peer":"fqA4S4SK"}"#), after_s2(" · 1 lost"), &["fqA4S4SK"]),
        (rows(r#"{"name":[],"peer":"3ahZoO2Q"}"#), after_s2(" · ?/3ahZoO2Q 0 0"), &["[1].name is no text"]),
        (
            rows(r#"{"name":"s3","offline":"yes","current":1,"active":"5s","lag":{}}"#),
            after_s2(" · s3/3ahZoO2Q 0 0 unreadable"),
            &["offline is no flag", "current is no flag", "active is no number", "lag is no number"],
        ),
        (
            rows(r#"{"name":"s3","offline":null,"current":true}"#),
            after_s2(" · s3/3ahZoO2Q 0 0 unreadable current"),
            &["offline"],
        ),
    ]);
}

#[test]
fn numbers_become_the_nearest_that_there_is() {
    check_read(&[
        (
            rows(r#"{"name":"s3","active":99999999999999999999,"lag":-1}"#),
            after_s2(" · s3/3ahZoO2Q 9223372036854775807 0"),
            &["active is out of range", "lag is out of range"],
        ),
        (
            rows(r#"{"name":"s3","active":-1e999,"lag":1e999}"#),
            after_s2(" · s3/3ahZoO2Q -9223372036854775808 18446744073709551615"),
            &["active is out of range", "lag is out of range"],
        ),
        (rows(r#"{"name":"s3","active":1500.9,"lag":2.5e1}"#), after_s2(" · s3/3ahZoO2Q 1500 25"), &[]),
    ]);
}

#[test]
fn a_field_that_comes_twice_costs_nothing_else() {
    check_read(&[
        // Of flags the worse counts, of the rest the last that can be read.
        (
            rows(r#"{"name":"s3","offline":true,"offline":false,"current":false,"current":true}"#),
            after_s2(" · s3/3ahZoO2Q 0 0 offline"),
            &["offline comes more than once", "current comes more than once"],
        ),
        (
            rows(r#"{"name":"s3","active":1,"active":7,"lag":3,"lag":"x"}"#),
            after_s2(" · s3/3ahZoO2Q 7 3"),
            &["active comes", "lag comes", "lag is no number"],
        ),
        (rows(r#"{"name":"s3","lag":3,"lag":3}"#), after_s2(" · s3/3ahZoO2Q 0 3"), &[]),
    ]);
}

#[test]
fn one_bad_field_costs_one_field() {
    check_read(&[
        (led(r#""replicas":{"a":1}"#), group(" · 1 lost"), &["data.meta_cluster.replicas is no list"]),
        (led(r#""replicas":"none""#), group(" · 1 lost"), &["replicas is no list"]),
        (led(r#""replicas":null"#), group(""), &[]),
        (led(r#""replicas":[]"#), group(""), &[]),
        (
            r#"{"leader":"s1","cluster_size":"three"}"#.into(),
            "s1/k2My6qdB 0".into(),
            &["cluster_size is no number"],
        ),
        (
            r#"{"leader":"s1","cluster_size":1e999}"#.into(),
            format!("s1/k2My6qdB {}", i64::MAX),
            &["cluster_size is out"],
        ),
        (
            r#"{"leader":"s1","cluster_size":3.7,"name":{}}"#.into(),
            group(""),
            &["meta_cluster.name is no text"],
        ),
        (
            led(r#""rescue":"x","quorum_needed":[]"#),
            group(""),
            &["quorum_needed is no number", "rescue is no flag"],
        ),
        // Who leads: the name and the id stand for each other.
        (r#"{"leader":"s1","peer":7,"cluster_size":3}"#.into(), group(""), &["peer is no text"]),
        (r#"{"leader":"s1","peer":"x","cluster_size":3}"#.into(), group(""), &[]),
        (r#"{"leader":[],"peer":"k2My6qdB","cluster_size":3}"#.into(), group(""), &["leader is no text"]),
        (
            r#"{"leader":7,"peer":"noC8kOtg","cluster_size":3}"#.into(),
            "/noC8kOtg 3".into(),
            &["leader is no text"],
        ),
        (
            r#"{"leader":7,"peer":"fqA4S4SK","cluster_size":3}"#.into(),
            "nobody 3".into(),
            &["leader is no text"],
        ),
    ]);
}

#[test]
fn more_rows_than_are_read_are_counted() {
    let row = r#"{"name":"s2","peer":"noC8kOtg"}"#;
    for (odd, flaws) in [("{}", 0), (r#"{"peer":1}"#, FLAWS_MAX)] {
        let rows = [vec![row; ROWS_MAX - 1], vec![odd; 6]].concat().join(",");
        let text = reply(&format!(r#"{{"leader":"s1","cluster_size":1,"replicas":[{rows}]}}"#));
        let decoded = decode_jsz(text.as_bytes()).unwrap();
        let JetStream::Member(meta) = decoded.jetstream else { panic!("no member") };
        assert_eq!((meta.rows.len(), meta.unreadable_rows), (ROWS_MAX - 1, 6));
        assert!(decoded.flaws.len() > flaws / 2 && decoded.flaws.len() <= FLAWS_MAX, "{:?}", decoded.flaws);
    }
}

#[test]
fn an_envelope_is_read_field_by_field() {
    let text = r#"{"server":{"name":"s1","id":5,"cluster":"c\ud800","ver":null,"seq":-3,"seq":1e30,"domain":[]},
        "error":"none","data":{"config":{"domain":"hub"},"x":[[[[]]]],"meta_cluster":{"cluster_size":3}}}"#;
    let decoded = decode_jsz(text.as_bytes()).unwrap();
    let Server { sequence, name, id, cluster, domain, .. } = &decoded.server;
    assert_eq!((*sequence, name.as_str(), id.as_str()), (u64::MAX, "s1", ""));
    assert_eq!((cluster.as_str(), domain.as_str()), ("", "hub"));
    assert_eq!(decoded.flaws.len(), FLAWS_MAX, "{:?}", decoded.flaws);
    let mut bytes = reply(r#"{"name":"~c1","cluster_size":3}"#).into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'~').unwrap();
    bytes[at] = 0xff;
    let decoded = decode_jsz(&bytes).unwrap();
    assert_eq!(decoded.flaws, ["the reply holds bytes that are no text"]);
}

#[test]
fn depth_and_length_cost_no_more_than_they_weigh() {
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let meta = format!(r#"{{"leader":"s1","cluster_size":3,"x":{deep},"replicas":[{deep}],"name":{deep}}}"#);
    let meta = &meta[..meta.len().min(REPLY_BYTES_MAX)];
    decode_jsz(reply(meta).as_bytes()).unwrap_err();
    let deep = "[".repeat(1 << 18) + &"]".repeat(1 << 18);
    let meta = format!(r#"{{"leader":"s1","cluster_size":3,"x":{deep},"replicas":[{deep}],"name":{deep}}}"#);
    assert_eq!(read(&meta).0, "s1/k2My6qdB 3 · 1 lost");
    let many = vec![r#""lag":1"#; 300_000].join(",");
    let meta = format!(r#"{{"leader":"s1","cluster_size":3,"replicas":[{{"name":"s2",{many}}}]}}"#);
    assert_eq!(read(&meta).0, "s1/k2My6qdB 3 · s2/noC8kOtg 0 1");
}

#[test]
fn odd_numbers_that_a_clock_jump_can_make_are_kept_as_they_are() {
    let text = reply(r#"{"cluster_size":-1,"replicas":[{"name":"s2","peer":"noC8kOtg","active":-5}]}"#);
    let JetStream::Member(meta) = decode_jsz(text.as_bytes()).unwrap().jetstream else { panic!("no member") };
    assert_eq!((meta.size, meta.rows[0].active_ns), (-1, -5));
}

#[test]
fn statsz_tells_each_route_once() {
    let text = r#"{"server":{"name":"s1"},"statsz":{"active_servers":3,"routes":[
        {"rid":1,"name":"s3"},{"rid":2,"name":"s2"},{"rid":3,"name":"s3"}]}}"#;
    let statsz = decode_statsz(text.as_bytes()).unwrap();
    assert_eq!(statsz.active_servers, 3);
    assert_eq!(statsz.routes.len(), 2);
    let alone = r#"{"server":{"name":"s1"},"statsz":{"active_servers":1}}"#;
    assert!(decode_statsz(alone.as_bytes()).unwrap().routes.is_empty());
}

#[test]
fn one_bad_route_costs_one_route() {
    let statsz = |statsz: &str| {
        let text = format!(r#"{{"server":{{"name":"s1"}},"statsz":{statsz}}}"#);
        let statsz = decode_statsz(text.as_bytes()).unwrap();
        (statsz.routes.len(), statsz.unreadable_routes, statsz.active_servers, statsz.flaws.len())
    };
    let s2 = r#"{"name":"s2"}"#;
    assert_eq!(statsz(&format!(r#"{{"active_servers":3,"routes":[{s2},{{}},{s2}]}}"#)), (1, 1, 3, 0));
    assert_eq!(statsz(&format!(r#"{{"active_servers":"3","routes":[7,{s2},{{"name":1}}]}}"#)), (1, 2, 0, 3));
    assert_eq!(statsz(r#"{"active_servers":3.9,"routes":"s2"}"#), (0, 1, 3, 1));
    assert_eq!(statsz(r#"{"active_servers":1e400,"routes":null}"#), (0, 0, i64::MAX, 1));
    for wrong in ["[]", "null", "{", "{} x"] {
        let text = format!(r#"{{"server":{{"name":"s1"}},"statsz":{wrong}}}"#);
        assert!(decode_statsz(text.as_bytes()).unwrap_err().server.is_some(), "{wrong}");
    }
}

#[test]
fn only_the_two_events_of_a_stopping_server_are_read() {
    let payload = br#"{"name":"s3","id":"NX","cluster":"c1","ver":"2.15.1"}"#;
    let event = decode_event("$SYS.SERVER.NX.SHUTDOWN", payload).unwrap().unwrap();
    assert_eq!((event.kind, event.server.name), (AnnouncementKind::Shutdown, Name::new("s3")));
    assert!(decode_event("$SYS.SERVER.NX.STATSZ", payload).is_none());
    assert!(decode_event("$SYS.SERVER.NX.LAMEDUCK", b"{").unwrap().is_err());
    let odd = br#"{"name":"s3","id":"NX","cluster":7,"seq":"x"}"#;
    let event = decode_event("$SYS.SERVER.NX.LAMEDUCK", odd).unwrap().unwrap();
    assert_eq!((event.server.id, event.server.cluster), (Name::new("NX"), Name::default()));
    let cut = br#"{"name":"s3","id":"NX","clus"#;
    let reject = decode_event("$SYS.SERVER.NX.LAMEDUCK", cut).unwrap().unwrap_err();
    assert_eq!(reject.server.unwrap().name, Name::new("s3"));
}

/// Some replies of every version.
fn real_replies() -> Vec<Value> {
    let mut replies = Vec::new();
    for version in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire")).unwrap() {
        let files = std::fs::read_dir(version.unwrap().path()).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|file| file.extension().is_some_and(|ext| ext == "json")).collect();
        files.sort();
        for file in [files.first().unwrap(), files.last().unwrap()] {
            let capture: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            replies.extend(capture["replies"].as_array().unwrap().iter().cloned());
        }
    }
    replies
}

/// The place of every value in a reply but those of the sender.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    let mut inside = |key: &str, value| {
        let place = format!("{at}/{key}");
        places_below(value, place, places);
    };
    match value {
        Value::Object(fields) => {
            fields.iter().filter(|(key, _)| *key != "server").for_each(|(key, value)| inside(key, value));
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, value)| inside(&index.to_string(), value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn places_below(value: &Value, place: String, places: &mut Vec<String>) {
    self::places(value, &place, places);
    places.push(place);
}

#[test]
fn whatever_becomes_of_the_rest_a_reply_of_any_version_keeps_its_sender() {
    use serde_json::json;
    let odd = [json!(null), json!(-1), json!(1e300), json!("x"), json!([7]), json!({"a": {}}), json!(true)];
    let mut tried = 0;
    for real in real_replies() {
        let sender = decode_jsz(real.to_string().as_bytes()).unwrap().server;
        let check = |payload: &[u8]| {
            let server = decode_jsz(payload)
                .map_or_else(|reject| reject.server.map(|server| *server), |reply| Some(reply.server));
            let server = server.unwrap_or_else(|| panic!("no sender: {}", String::from_utf8_lossy(payload)));
            assert_eq!((&server.name, &server.id), (&sender.name, &sender.id));
        };
        let mut all = Vec::new();
        places(&real, "", &mut all);
        assert!(all.len() > 20, "{all:?}");
        for place in all {
            for odd in &odd {
                let mut mutated = real.clone();
                *mutated.pointer_mut(&place).unwrap() = odd.clone();
                check(mutated.to_string().as_bytes());
                tried += 1;
            }
        }
        // As a server spells it, the sender comes first.
        let text = format!(r#"{{"server":{},"data":{}}}"#, real["server"], real["data"]);
        let known = text.find(r#","data""#).unwrap();
        for end in (known..text.len()).step_by(17) {
            check(&text.as_bytes()[..end]);
        }
    }
    assert!(tried > 1_000, "{tried}");
}

#[test]
fn a_leader_whose_list_is_partly_unreadable_is_still_the_leader() {
    let mut leaders = 0;
    for real in real_replies() {
        let JetStream::Member(whole) = decode_jsz(real.to_string().as_bytes()).unwrap().jetstream else {
            continue;
        };
        for index in 0..whole.rows.len() {
            let mut mutated = real.clone();
            mutated["data"]["meta_cluster"]["replicas"][index] = serde_json::json!("gone");
            let decoded = decode_jsz(mutated.to_string().as_bytes()).unwrap();
            let JetStream::Member(mut meta) = decoded.jetstream else { panic!("{mutated}") };
            assert_eq!((std::mem::take(&mut meta.unreadable_rows), decoded.flaws.len()), (1, 1));
            meta.rows.insert(index, whole.rows[index].clone());
            assert_eq!(meta, whole);
            leaders += 1;
        }
    }
    assert!(leaders > 20, "{leaders}");
}
