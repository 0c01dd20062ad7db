//! Recordings, captures and bare replies, from files and from stdin.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{check, epoch, healthy, lines, metawatch, one_offline, timeline};

fn events(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_replay_prints_what_would_have_been_published() {
    let said = check(&["replay", "-"], &timeline(), 0, &[], &["15 epochs, 0 unreadable lines, 2 events"]);
    let events = events(&said.out);
    let subjects: Vec<&str> = events.iter().filter_map(|event| event["subject"].as_str()).collect();
    assert_eq!(
        subjects,
        ["metawatch.alert.META_001.default.s3.firing", "metawatch.alert.META_001.default.s3.resolved"]
    );
    for event in &events {
        assert_eq!(event["at"], event["event"]["timestamp"]);
        assert_eq!(event["headers"]["Nats-Msg-Id"], event["event"]["id"]);
        assert_eq!(event["event"]["monitor"]["instance"], "replay");
    }
    let again = check(&["replay", "-"], &timeline(), 0, &[], &[]);
    assert_eq!(said.out, again.out, "the same in, the same out");
}

#[test]
fn the_flags_of_run_change_a_replay() {
    let text = check(&["replay", "-", "--format", "text"], &timeline(), 0, &[], &[]);
    let words: Vec<Vec<&str>> =
        text.out.lines().map(|line| line.split_whitespace().take(6).collect()).collect();
    assert_eq!(words[0], ["2026-11-22T12:00:05.004Z", "CRITICAL", "firing", "META_001", "default", "s3"]);
    assert_eq!(words[1][1..3], ["OK", "resolved"]);
    let cases: [(&[&str], usize, &str); 4] = [
        (&["--resolve-after", "100"], 1, "firing"),
        (&["--remind", "2s"], 4, "for 2"),
        (&["--prefix", "ops.watch", "--format", "json"], 2, "\"ops.watch.alert.META_001"),
        (&["--connection-name", "m7", "--format", "json"], 2, "\"name\":\"m7\""),
    ];
    for (flags, count, words) in cases {
        let mut arguments = vec!["replay", "-", "--format", "text"];
        if flags.contains(&"--format") {
            arguments.truncate(2);
        }
        arguments.extend(flags);
        let said = check(&arguments, &timeline(), 0, &[words], &[]);
        assert_eq!(said.out.lines().count(), count, "{flags:?}: {said:?}");
    }
}

#[test]
fn lines_that_cannot_be_read_are_named_and_the_rest_goes_on() {
    let mut input = String::from("\n{\"v\":1,\"replies\":[\n\u{1b}[31mnonsense\n[]\n");
    input.push_str(&timeline());
    input.push_str("{\"v\":1,\"epoch\":99,\"opened\":\"2026-");
    let names = ["warning: stdin, line 2: ", "stdin, line 3: ", "stdin, line 4: ", "stdin, line 20: "];
    check(
        &["replay", "-"],
        &input,
        0,
        &[],
        &[&names[..], &["15 epochs, 4 unreadable lines, 2 events"]].concat(),
    );
    check(&["check", "--from", "-"], &input, 0, &["OK metawatch"], &names);
    let flood = format!("{}{}", "nonsense\n".repeat(2_000), timeline());
    for arguments in [&["replay", "-"][..], &["check", "--from", "-"]] {
        let said =
            check(arguments, &flood, 0, &[], &["line 1:", "stdin, 1995 more lines that cannot be read"]);
        assert!(said.err.lines().count() < 10, "{said:?}");
    }
    check(&["replay", "-"], "nonsense\n", 1, &[], &["line 1", "error: stdin holds no epoch", "hint: "]);
    check(&["view", "--from", "-"], "nonsense\n", 1, &[], &["line 1", "error: ", "hint: "]);
    check(
        &["replay", "-"],
        &lines(&healthy()),
        1,
        &[],
        &["a bare reply", "`metawatch check --from` takes those"],
    );
}

/// Runs a command whose input may be no text.
fn feed(arguments: &[&str], input: &[u8]) -> super::Said {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("input");
    std::fs::write(&path, input).expect("a file");
    let mut command = metawatch(arguments);
    command.stdin(std::fs::File::open(&path).expect("the file"));
    command.output().expect("metawatch runs").into()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).expect("gzip");
    packed.finish().expect("gzip")
}

#[test]
fn what_is_packed_with_gzip_is_read_as_it_is() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("recording.ndjson.gz");
    let timeline_text = timeline();
    let (first, second) = timeline_text.split_at(timeline_text.find('\n').expect("a line") + 1);
    // Two parts, one behind the other, as `gzip -c >>` leaves them.
    let packed = [gzip(first), gzip(second)].concat();
    std::fs::write(&path, &packed).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let plain = check(&["replay", "-"], &timeline(), 0, &[], &[]);
    let said = check(&["replay", path], "", 0, &[], &["15 epochs, 0 unreadable lines, 2 events"]);
    assert_eq!(said.out, plain.out);
    for arguments in [["check", "--from"], ["view", "--from"]] {
        let [plain, named, piped] = [
            super::run(&[arguments[0], arguments[1], "-"], &timeline()),
            super::run(&[arguments[0], arguments[1], path], ""),
            feed(&[arguments[0], arguments[1], "-"], &packed),
        ];
        assert_eq!((named.code, &named.out), (plain.code, &plain.out), "{arguments:?}: {named:?}");
        assert_eq!((piped.code, &piped.out), (plain.code, &plain.out), "{arguments:?}: {piped:?}");
    }
    let said = feed(&["replay", "-"], &packed);
    assert_eq!(said.out, plain.out, "{said:?}");
}

#[test]
fn what_is_packed_otherwise_or_damaged_is_named_with_what_to_do() {
    let whole = gzip(&timeline());
    let damaged = [&whole[..10], &[0xff; 40][..]].concat();
    let cases: [(&[u8], &str, &str); 5] = [
        (b"\x28\xb5\x2f\xfd more", "packed with zstd", "zstd -dc FILE"),
        (b"\xfd7zXZ\0 more", "packed with xz", "xz -dc FILE"),
        (b"PK\x03\x04 more", "packed with zip", "unzip -p FILE"),
        (&whole[..whole.len() / 2], "its gzip is damaged or cut short", "gzip -dc FILE"),
        (&damaged, "its gzip is damaged or cut short", "gzip -dc FILE"),
    ];
    for (input, words, hint) in cases {
        for (arguments, code) in [(&["replay", "-"][..], 1), (&["check", "--from", "-"], 3)] {
            let said = feed(arguments, input);
            assert_eq!(said.code, Some(code), "{words}: {said:?}");
            assert!(said.err.contains(words) && said.err.contains(hint), "{words}: {said:?}");
        }
    }
}

#[test]
fn each_kind_of_bad_line_is_told_a_handful_of_times() {
    let long = "nonsense\n[1]\n".repeat(50);
    let said = check(&["check", "--from", "-"], &(long + &timeline()), 0, &["OK metawatch"], &["more lines"]);
    assert!((6..=12).contains(&said.err.lines().count()), "{said:?}");
}

#[cfg(unix)]
#[test]
fn a_recording_is_its_owners_alone_and_never_written_through_a_link() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(at("target"), "precious").expect("a file");
    std::os::unix::fs::symlink(at("target"), at("link")).expect("a link");
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).expect("a link");
    let server = ["--server", "nats://127.0.0.1:1", "--state", "none"];
    for link in ["link", "dangling"] {
        let path = at(link);
        let run = [&["run", "--record", path.as_str()], &server[..]].concat();
        check(&run, "", 1, &[], &["cannot write the recording", "it is a link", "hint: "]);
    }
    assert_eq!(std::fs::read_to_string(at("target")).expect("the file"), "precious");
    assert!(!std::path::Path::new(&at("nothing")).exists());
    let mut command = metawatch(&[&["run", "--record", &at("new")], &server[..]].concat());
    let mut child = command.stderr(Stdio::null()).spawn().expect("metawatch starts");
    let is_there = || std::fs::metadata(at("new")).ok();
    while is_there().is_none() && child.try_wait().expect("a process").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    assert_eq!(is_there().expect("a recording").permissions().mode() & 0o777, 0o600);
}

#[test]
fn bare_replies_are_one_epoch_however_they_are_written() {
    let [first, rest @ ..] = &healthy()[..] else { panic!("three replies") };
    let pretty = serde_json::to_string_pretty(first).expect("JSON");
    let concatenated: String = rest.iter().map(Value::to_string).collect();
    for input in [lines(&healthy()), format!("{pretty}{concatenated}"), format!("{concatenated}\n\n{pretty}")]
    {
        let said = check(&["view", "--from", "-"], &input, 0, &["3 of 3 servers answered"], &[]);
        // Their own times are the time of the epoch.
        assert!(said.out.contains("at 2026-11-22T20:43:42.300Z"), "{said:?}");
    }
}

#[test]
fn captures_and_files_are_read_too() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("capture.json");
    let capture = json!({"scenario": "x", "connected_to": "s1", "replies": one_offline("s3")});
    std::fs::write(&path, serde_json::to_string_pretty(&capture).expect("JSON")).expect("a file");
    let path = path.to_str().expect("UTF-8");
    check(&["check", "--from", path], "", 2, &["s3 is offline"], &[]);
    check(&["view", "--from", path], "", 0, &["at 2026-11-22T20:43:42.300Z"], &[]);
    check(&["replay", "/nonexistent"], "", 1, &[], &["error: cannot read /nonexistent", "hint: "]);
}

#[test]
fn a_directory_in_the_place_of_a_file_stays_where_it_is() {
    let home = tempfile::tempdir().expect("a directory");
    let folder = home.path().join("folder");
    std::fs::create_dir(&folder).expect("a directory");
    let path = folder.to_str().expect("UTF-8");
    let run = ["run", "--server", "nats://127.0.0.1:1", "--state", path];
    check(&run, "", 1, &[], &[&format!("cannot use the state file {path}: it is a directory"), "hint: "]);
    let outfile = ["check", "--from", "-", "--outfile", path];
    check(&outfile, "", 3, &[], &[&format!("cannot write {path}: it is a directory"), "hint: "]);
    let device = ["check", "--from", "-", "--outfile", "/dev/null"];
    check(&device, "", 3, &[], &["cannot write /dev/null: it is no regular file"]);
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_recording_says_how_far_apart_its_epochs_are_or_shows_it() {
    // Every 10 s: by the default of 2 s each gap would make us blind, and our own clocks would start again.
    let silent = |second: u64| epoch(second, &healthy()[..2]);
    let slow: String =
        (0..6).map(|n| if n < 2 { epoch(n * 10, &healthy()) } else { silent(n * 10) }).collect();
    check(
        &["replay", "-", "--format", "text"],
        &slow,
        0,
        &["s3 does not answer us, but the leader hears it"],
        &[],
    );
    let said = check(
        &["replay", "-", "--interval", "1s"],
        &slow,
        0,
        &[],
        &["6 epochs, 0 unreadable lines, 0 events"],
    );
    assert_eq!(said.out, "");
    let told = slow.replacen("{", "{\"interval_ms\":1000,", 1);
    check(&["replay", "-"], &told, 0, &[], &["6 epochs, 0 unreadable lines, 0 events"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("long.ndjson");
    let long: String = (0..3_000)
        .map(|second| epoch(second % 3_600, &if second % 6 < 3 { one_offline("s3") } else { healthy() }))
        .collect();
    std::fs::write(&path, long).expect("a file");
    let path = path.to_str().expect("UTF-8");
    for arguments in
        [vec!["replay", path], vec!["view", "--from", path], vec!["man"], vec!["completions", "bash"]]
    {
        let mut child = metawatch(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("metawatch starts");
        let mut line = String::new();
        let mut stdout = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
        if arguments[0] == "replay" {
            stdout.read_line(&mut line).expect("a line");
        }
        drop(stdout);
        let mut told = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("stderr");
        assert_eq!((child.wait().expect("it ends").code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
