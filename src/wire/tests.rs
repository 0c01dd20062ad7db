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
    for wrong in [
        r#"{"cluster_size":"three"}"#,
        r#"{"cluster_size":3,"replicas":{"a":1}}"#,
        r#"{"cluster_size":1e999}"#,
        r#"{"cluster_size":3,"replicas":[{"peer":"k2My6qdB","active":99999999999999999999}]}"#,
        r#"{"cluster_size":3,"replicas":[{"peer":"k2My6qdB","lag":-1}]}"#,
        r#"{"cluster_size":3,"replicas":[{"peer":"../../etc"}]}"#,
    ] {
        let reject = rejected(&reply(wrong), Malformed, "");
        assert_eq!(reject.server.unwrap().name, Name::new("s1"), "{wrong}");
    }
}

#[test]
fn a_million_replicas_are_refused_while_they_are_read() {
    let rows = vec!["{}"; ROWS_MAX + 1].join(",");
    let text = reply(&format!(r#"{{"cluster_size":1,"replicas":[{rows}]}}"#));
    rejected(&text, RejectReason::Malformed, "at most 20000 entries");
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
fn only_the_two_events_of_a_stopping_server_are_read() {
    let payload = br#"{"name":"s3","id":"NX","cluster":"c1","ver":"2.15.1"}"#;
    let event = decode_event("$SYS.SERVER.NX.SHUTDOWN", payload).unwrap().unwrap();
    assert_eq!((event.kind, event.server.name), (AnnouncementKind::Shutdown, Name::new("s3")));
    assert!(decode_event("$SYS.SERVER.NX.STATSZ", payload).is_none());
    assert!(decode_event("$SYS.SERVER.NX.LAMEDUCK", b"{").unwrap().is_err());
}
