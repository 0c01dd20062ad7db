//! The files that are shipped to run metawatch: they use what exists, and say the same everywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use metawatch::shell::demo::binary::nats_server;
use regex::Regex;

use crate::cluster::tested_version;
use crate::support::{say, skipped};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> String {
    let file = root().join("examples/deploy").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The output of a command, where there is such a program; otherwise it says what is skipped.
fn output(command: &mut Command, what: &str) -> Option<Output> {
    let output = command.output().ok();
    if output.is_none() {
        skipped(&format!("{what}, because there is no {}", command.get_program().to_string_lossy()));
    }
    output
}

fn metawatch(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_metawatch")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All files in a folder and its folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn every_variable_in_a_shipped_file_is_one_that_metawatch_reads() {
    let help: String = [["run", "--help"], ["check", "--help"], ["forward", "--help"], ["-q", "--help"]]
        .iter()
        .map(|words| metawatch(words))
        .collect();
    let variable = Regex::new("METAWATCH_[A-Z_]+[A-Z]").unwrap();
    let known: BTreeSet<&str> = variable.find_iter(&help).map(|found| found.as_str()).collect();
    assert!(known.contains("METAWATCH_CREDS") && known.contains("METAWATCH_LISTEN_HOST"), "{known:?}");
    // A stream.
    let others = ["METAWATCH_LAST"];
    for file in files(&root().join("examples/deploy")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in variable.find_iter(&text).map(|found| found.as_str()) {
            assert!(known.contains(name) || others.contains(&name), "{}: {name}", file.display());
        }
    }
}

/// What is in quotes, or behind a dash, between two words.
fn subjects(text: &str, from: &str, to: &str) -> BTreeSet<String> {
    let text = text.split(from).nth(1).unwrap().split(to).next().unwrap();
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let subject = Regex::new(r"[$_a-zA-Z][$_*.>A-Za-z]*\.[$_*.>A-Za-z]+").unwrap();
    code.flat_map(|line| subject.find_iter(line).map(|found| found.as_str().to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn the_rights_are_the_same_for_servers_charts_and_nsc() {
    let conf = shipped("user.conf");
    let publish = subjects(&conf, "publish: [", "]");
    let subscribe = subjects(&conf, "subscribe: [", "]");
    assert!(publish.contains("$SYS.REQ.SERVER.PING.JSZ") && subscribe.contains("_METAWATCH.>"));
    let values = shipped("kubernetes/nats-values.yaml");
    assert_eq!(subjects(&values, "publish:\n", "subscribe:"), publish);
    assert_eq!(subjects(&values, "subscribe:\n", "allow_responses"), subscribe);
    let nsc = shipped("README.md");
    assert_eq!(subjects(&nsc, "--allow-pub '", "'"), publish);
    assert_eq!(subjects(&nsc, "--allow-sub '", "'"), subscribe);
}

#[test]
fn the_unit_is_hardened_and_runs_what_the_install_command_puts_there() {
    let unit = root().join("examples/deploy/metawatch.service");
    let text = fs::read_to_string(&unit).unwrap();
    let readme = shipped("README.md");
    assert!(text.contains("ExecStart=/usr/local/bin/metawatch run\n"));
    assert!(readme.contains(" /usr/local/bin/"), "the program is installed there");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes"]).arg(&unit);
    if let Some(output) = output(&mut security, "how exposed the unit is") {
        let said = String::from_utf8_lossy(&output.stdout);
        let level = Regex::new(r"exposure level for metawatch.service: ([0-9.]+)").unwrap();
        let level: f64 = level.captures(&said).unwrap_or_else(|| panic!("{output:?}"))[1].parse().unwrap();
        say(&format!("systemd-analyze security: {level}"));
        assert!(level <= 2.5, "{said}");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").arg(&unit);
    if let Some(output) = output(&mut verify, "whether the unit is understood") {
        let said = String::from_utf8_lossy(&output.stderr);
        let words = ["Unknown", "ignoring", "Failed to parse"];
        // Other units of this host are read, too.
        let own: Vec<&str> = said.lines().filter(|line| line.contains("metawatch.service")).collect();
        assert!(!own.iter().any(|line| words.iter().any(|word| line.contains(word))), "{said}");
    }
}

#[test]
fn the_files_for_compose_and_kubernetes_are_understood() {
    let script = root().join("tests/deploy/files.py");
    let mut python = Command::new("python3");
    python.arg(&script).arg(root().join("examples/deploy"));
    let output = output(&mut python, "the files for compose and Kubernetes");
    let output = output.expect("python3 is needed by other tests, too");
    say(String::from_utf8_lossy(&output.stdout).trim_end());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_files_beside_the_compose_file_are_understood_by_what_reads_them() {
    let compose = root().join("examples/deploy/compose");
    let mut server = Command::new(nats_server(tested_version().as_deref()).unwrap());
    server.arg("-t").arg("-c").arg(compose.join("nats.conf"));
    server.env("SERVER_NAME", "n1").env("METAWATCH_PASSWORD", "secret");
    let mut prometheus = Command::new("promtool");
    prometheus.args(["check", "config", "--syntax-only"]).arg(compose.join("prometheus.yml"));
    let mut alertmanager = Command::new("amtool");
    alertmanager.arg("check-config").arg(compose.join("alertmanager.yml"));
    let files = [
        (&mut server, "nats.conf"),
        (&mut prometheus, "prometheus.yml"),
        (&mut alertmanager, "alertmanager.yml"),
    ];
    for (command, what) in files {
        if let Some(output) = output(command, what) {
            assert!(output.status.success(), "{what}: {output:?}");
        }
    }
}

#[test]
fn what_is_packaged_builds_elsewhere() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--locked", "--offline", "--allow-dirty"]).current_dir(root());
    let output = cargo.output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for file in ["Cargo.lock", "src/build.rs", "src/main.rs", "src/status/page/page.html", "LICENSE"] {
        assert!(listed.lines().any(|line| line == file), "{file} is not packaged:\n{listed}");
    }
}
