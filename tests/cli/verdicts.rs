//! The verdicts of `check`, and their exit codes.

use serde_json::json;

use super::{check, epoch, healthy, lines, member, metawatch, one_offline, row, server, timeline};

const FROM: [&str; 3] = ["check", "--from", "-"];

#[test]
fn every_verdict_has_its_exit_code_and_says_why() {
    let lost = row("s3", json!({"current": false, "active": 60_000_000_000_u64}));
    let out_of_contact =
        [member("s1", Some("s1"), 3, &[row("s2", json!({})), lost]), member("s2", Some("s1"), 3, &[])];
    let just_silent = &healthy()[..2];
    let leaderless = [member("s1", None, 3, &[]), member("s2", None, 3, &[]), member("s3", None, 3, &[])];
    let standalone = [json!({"server": server("s1"), "data": {"config": {}}})];
    let off = [json!({"server": server("s1"), "data": {"disabled": true}})];
    let refused = [json!({"server": server("s1"), "error": {"code": 400, "description": "bad payload"}})];
    let incomplete = [member("s1", Some("s1"), 3, &[row("s2", json!({}))]), member("s2", Some("s1"), 3, &[])];
    let cases = [
        (0, lines(&healthy()), "OK metawatch 3 of 3 meta peers online, 1 failure left"),
        (0, timeline(), "OK metawatch 3 of 3 meta peers online"),
        (
            1,
            lines(&out_of_contact),
            "WARNING metawatch s3 may be offline (the leader has lost contact to it)",
        ),
        (2, lines(&one_offline("s3")), "CRITICAL metawatch s3 is offline"),
        (3, lines(just_silent), "UNKNOWN metawatch s3 did not answer"),
        (3, lines(&leaderless), "UNKNOWN metawatch nobody leads, 3 of 3 meta peers answering, 2 must agree"),
        (3, lines(&standalone), "UNKNOWN metawatch there is no meta group: JetStream is standalone on s1"),
        (3, lines(&off), "UNKNOWN metawatch there is no meta group: JetStream is off on s1"),
        (3, lines(&refused), "UNKNOWN metawatch no reply could be read (s1: "),
        (3, lines(&incomplete), "the list of the leader s1 is not complete"),
        (3, epoch(0, &[]), "UNKNOWN metawatch no server answered"),
    ];
    for (code, input, words) in cases {
        check(&FROM, &input, code, &[words], &[]);
    }
}

#[test]
fn what_is_contradictory_or_unreadable_is_said_and_accuses_nobody() {
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut replies = healthy();
        change(&mut replies[0]["data"]["meta_cluster"]);
        // Twice, 3 s apart: what needs to last has lasted.
        format!("{}{}", epoch(0, &replies), epoch(3, &replies))
    };
    let everybody = "3 of 3 meta peers online";
    let cases = [
        (0, with(&|meta| meta["quorum_needed"] = json!(99)), ["OK metawatch", everybody, "failures_left=1"]),
        (0, with(&|meta| meta["quorum_needed"] = json!(-2)), ["OK metawatch", everybody, "failures_left=1"]),
        (
            3,
            with(&|meta| *meta = json!("away")),
            [
                "UNKNOWN metawatch a reply cannot be read (s1: ",
                "the answer of the leader s1 cannot be read, 2 of 3 meta peers answering",
                "servers=3;;;0;3",
            ],
        ),
        (
            3,
            with(&|meta| meta["peer"] = json!("AAAAAAAA")),
            [
                "UNKNOWN metawatch inconsistent: s1 says that it leads, under the peer id AAAAAAAA; its own is k2My6qdB",
                "nobody leads, 3 of 3 meta peers answering",
                "not known: nobody leads (meta group default)",
            ],
        ),
        (
            3,
            with(&|meta| meta["cluster_size"] = json!(-3)),
            [
                "UNKNOWN metawatch the list of the leader s1 is not complete, inconsistent: the leader s1 lists 2 peers",
                "; the leader's list is not complete, 3 of 3 meta peers answering",
                "online=U",
            ],
        ),
    ];
    for (code, input, words) in cases {
        check(&FROM, &input, code, &words, &[]);
    }
    let impossible = with(&|meta| meta["quorum_needed"] = json!(99));
    let words = ["2 must agree", "inconsistent: the leader s1 says that 99 of 3 peers must agree"];
    check(&["view", "--from", "-"], &impossible, 0, &words, &[]);
    // One bad field costs one field.
    let negative = with(&|meta| meta["replicas"][1]["lag"] = json!(-3));
    check(&FROM, &negative, 0, &["OK metawatch", everybody], &[]);
    let words = ["inconsistent: s1: data.meta_cluster.replicas[1].lag is out of range"];
    check(&["view", "--from", "-"], &negative, 0, &words, &[]);
}

#[test]
fn what_is_wrong_with_the_answers_is_shown_beside_the_rest() {
    let view = |replies: &[serde_json::Value], words: &[&str]| {
        check(&["view", "--from", "-"], &lines(replies), 0, words, &[]);
    };
    let mut damaged = healthy();
    damaged[0]["data"]["meta_cluster"]["replicas"][1] = json!(7);
    let lost = "inconsistent: the leader s1 lists 1 peer that cannot be read";
    view(&damaged, &["led by s1", "the leader's list is not complete", lost, "replicas[1] is no object"]);
    let mut forged = healthy();
    forged.push(forged[2].clone());
    view(&forged, &["replies: 1 duplicate\n"]);
    forged[3]["data"]["meta_cluster"]["leader"] = json!("s2");
    let two = "inconsistent: s3 (Ns3) gave two different answers to one request";
    view(&forged, &["replies: 1 duplicate, 1 conflicting\n", two]);
}

#[test]
fn what_was_known_holds_until_something_says_otherwise() {
    let mut input = timeline().lines().take(9).map(|line| format!("{line}\n")).collect::<String>();
    input.push_str(&epoch(9, &[member("s1", None, 3, &[]), member("s2", None, 3, &[])]));
    let words = ["CRITICAL metawatch s3 was offline when it was last known", "nobody leads"];
    check(&FROM, &input, 2, &words, &[]);
    // An epoch in which nobody answered tells nothing of anybody.
    input.push_str(&epoch(10, &[]));
    check(&FROM, &input, 3, &["UNKNOWN metawatch no server answered"], &[]);
}

#[test]
fn the_basis_decides_what_is_critical() {
    // Silent for 20 s and out of contact, but never flagged.
    let input: String = (0..25)
        .map(|second: u64| {
            let active = json!({"current": second < 14, "active": second.saturating_sub(5) * 1_000_000_000 + 500_000_000});
            let gone = member("s1", Some("s1"), 3, &[row("s2", json!({})), row("s3", active)]);
            let replies = vec![gone, member("s2", Some("s1"), 3, &[])];
            epoch(second, &if second < 5 { healthy() } else { replies })
        })
        .collect();
    check(&FROM, &input, 2, &["CRITICAL metawatch s3 is offline (crashed or unreachable)"], &[]);
    let reported = ["check", "--from", "-", "--basis", "reported"];
    check(&reported, &input, 1, &["WARNING metawatch s3 may be offline"], &[]);
    let patient = ["check", "--from", "-", "--lost-contact", "1m", "--lost-contact-silent", "1m"];
    check(&patient, &input, 1, &["WARNING metawatch s3 may be offline"], &[]);
}

#[test]
fn a_check_that_cannot_ask_is_unknown_in_every_format() {
    let refused = ["-s", "nats://127.0.0.1:1", "--timeout", "1s"];
    let cases = [
        ("nagios", "UNKNOWN metawatch "),
        ("json", "{\"status\":\"UNKNOWN\",\"code\":3,"),
        ("prometheus", "metawatch_status 3\n"),
        ("text", "UNKNOWN  "),
    ];
    for (format, words) in cases {
        let mut arguments = vec!["check", "--format", format];
        arguments.extend(refused);
        check(&arguments, "", 3, &[words], &["error: ", "hint: "]);
    }
    check(
        &["check", "--from", "/nonexistent"],
        "",
        3,
        &["UNKNOWN metawatch cannot read"],
        &["error: ", "hint: "],
    );
    check(
        &["check", "--from", "-"],
        "",
        3,
        &["UNKNOWN"],
        &["error: stdin holds no epoch", "hint: give a recording"],
    );
}

#[test]
fn a_check_that_fails_still_replaces_its_outfile() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("metawatch.prom");
    let arguments =
        ["check", "--from", "-", "--format", "prometheus", "--outfile", path.to_str().expect("UTF-8")];
    check(&arguments, &lines(&healthy()), 0, &[], &[]);
    let healthy = std::fs::read_to_string(&path).expect("the file");
    assert!(healthy.contains("metawatch_status 0\n"), "{healthy}");
    check(&arguments, "nonsense", 3, &[], &["line 1", "error: "]);
    let failed = std::fs::read_to_string(&path).expect("the file");
    assert!(failed.contains("metawatch_status 3\n"), "{failed}");
    assert_eq!(std::fs::read_dir(home.path()).expect("a directory").count(), 1, "a temporary file is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o444, 0o444, "others may read it");
    }
    let nowhere = ["check", "--from", "-", "--outfile", "/nonexistent/metawatch.prom"];
    check(&nowhere, "", 3, &[], &["error: cannot write", "hint: "]);
}

#[test]
fn variables_stand_for_flags_and_empty_ones_for_nothing() {
    let mut command = metawatch(&["check", "--from", "-"]);
    command.env("METAWATCH_CHECK_FORMAT", "json").env("METAWATCH_LOST_CONTACT", "");
    let said = super::finish(command, &lines(&healthy()));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("{\"status\":\"OK\""), "{said:?}");
}
