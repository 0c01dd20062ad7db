//! The command line, through the real binary.

mod files;
mod formats;
mod usage;
mod verdicts;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use metawatch::name::PeerId;
use serde_json::{Value, json};

/// `metawatch` with these arguments, in an empty environment.
fn metawatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metawatch"));
    command.args(arguments).env_clear().env("XDG_CONFIG_HOME", "/nowhere").stdin(Stdio::null());
    command
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            err: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }
}

/// Runs `metawatch` with `input` on stdin.
pub(crate) fn run(arguments: &[&str], input: &str) -> Said {
    finish(metawatch(arguments), input)
}

fn finish(mut command: Command, input: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("metawatch starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // It may end without reading all of its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let said = child.wait_with_output().expect("metawatch ends").into();
    writer.join().expect("the writer ends");
    said
}

/// Runs `metawatch` and holds what it says against what is expected: the exit code, and words on both streams.
fn check(arguments: &[&str], input: &str, code: i32, out: &[&str], err: &[&str]) -> Said {
    let said = run(arguments, input);
    assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
    for (stream, words) in [(&said.out, out), (&said.err, err)] {
        for word in words {
            assert!(stream.contains(word), "{arguments:?}: {word:?} is missing in {said:?}");
        }
    }
    for stream in [&said.out, &said.err] {
        let hidden = stream.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(hidden, None, "{arguments:?}: a control character in {said:?}");
    }
    said
}

/// A row of a leader's list.
fn row(name: &str, more: Value) -> Value {
    let mut row = json!({"name": name, "peer": PeerId::of_server(name).as_str(), "current": true, "active": 500_000_000});
    for (key, value) in more.as_object().into_iter().flatten() {
        row[key] = value.clone();
    }
    row
}

/// What the server of this name says of itself.
fn server(name: &str) -> Value {
    json!({"name": name, "host": "127.0.0.1", "id": format!("N{name}"), "cluster": "c1", "ver": "2.14.6",
        "jetstream": true, "flags": 7, "seq": 9, "time": "2026-11-22T20:43:42.300Z"})
}

/// The reply of a member, which follows `leader`.
fn member(name: &str, leader: Option<&str>, size: usize, rows: &[Value]) -> Value {
    let mut meta = json!({"name": "c1", "cluster_size": size});
    if let Some(leader) = leader {
        meta["leader"] = json!(leader);
        meta["peer"] = json!(PeerId::of_server(leader).as_str());
    }
    if !rows.is_empty() {
        meta["replicas"] = json!(rows);
    }
    json!({"server": server(name), "data": {"server_id": format!("N{name}"), "config": {}, "meta_cluster": meta}})
}

/// Replies as lines.
fn lines(replies: &[Value]) -> String {
    replies.iter().map(|reply| format!("{reply}\n")).collect()
}

/// A line of a recording, `second` seconds after noon.
fn epoch(second: u64, replies: &[Value]) -> String {
    let opened = format!("2026-11-22T12:{:02}:{:02}Z", second / 60, second % 60);
    format!("{}\n", json!({"v": 1, "epoch": second, "opened": opened, "elapsed_ms": 4, "replies": replies}))
}

/// Three members, all well.
fn healthy() -> Vec<Value> {
    vec![
        member("s1", Some("s1"), 3, &[row("s2", json!({})), row("s3", json!({}))]),
        member("s2", Some("s1"), 3, &[]),
        member("s3", Some("s1"), 3, &[]),
    ]
}

/// Three members, the third flagged offline under this name, and silent.
fn one_offline(name: &str) -> Vec<Value> {
    let offline = row(name, json!({"offline": true, "active": 600_000_000_000_u64}));
    vec![member("s1", Some("s1"), 3, &[row("s2", json!({})), offline]), member("s2", Some("s1"), 3, &[])]
}

/// Healthy for five seconds; then the third is flagged offline for five; then healthy again for five.
fn timeline() -> String {
    (0..15)
        .map(|second| epoch(second, &if (5..10).contains(&second) { one_offline("s3") } else { healthy() }))
        .collect()
}
