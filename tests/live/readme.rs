//! Every command in the READMEs, as it stands there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::three;
use crate::cluster::Cluster;

/// Commands that are not run here, each with the reason.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo ", "builds or runs this very test"),
    ("for version in", "runs the tests on every version"),
    ("nats stream add --config", "the same files are created in streams by the tests of the recipes"),
    (
        "metawatch run --context system --alert-",
        "the tests of the recipes run it with the users of user.conf",
    ),
    ("./alerts.sh", "the tests of the consumers run it"),
    ("nats service ls", "needs the nats CLI; the tests of the service speak its protocol"),
    ("nats req metawatch.alerts", "needs the nats CLI; the tests of the service ask the same"),
    ("nats context add", "needs the nats CLI; the context that it writes is written here"),
    ("curl ", "the tests of the page ask for the same"),
    ("ssh ", "needs another host"),
    ("sudo ", "changes the host; the tests of what is deployed look at the same files"),
    ("rustup ", "changes the toolchain"),
    ("nsc ", "the test of the recipe runs it where there is an nsc"),
    ("--allow-", "belongs to the command before it"),
    ("export CC_", "builds for another processor"),
    ("buildah ", "the test of the image builds it where there is a buildah"),
    ("METAWATCH_PASSWORD=secret docker ", "needs images of others"),
    ("kubectl ", "needs a cluster"),
    ("helm ", "needs a cluster; the tests of what is deployed render the same chart where they can"),
    ("metawatch run --context system --listen", "the tests of the page run it, on a port that is free"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The commands in the blocks for a shell: all lines of `sh`, and in `console` those behind a `$ `.
pub(super) fn commands(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut block = "";
    let mut found = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(kind), "") => block = if kind.is_empty() { "text" } else { kind },
            (Some(_), _) => block = "",
            (None, "sh") => found.push(line),
            (None, "console") => found.extend(line.strip_prefix("$ ")),
            (None, _) => {}
        }
    }
    let code = |line: &str| line.split("  #").next().unwrap_or_default().trim().to_owned();
    found.into_iter().map(code).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A shell in which there are these contexts, and `metawatch` is this program.
pub(super) fn shell(folder: &Path, contexts: &[(&str, Value)], command: &str) -> Command {
    let home = folder.join("nats/context");
    fs::create_dir_all(&home).unwrap();
    for (name, context) in contexts {
        fs::write(home.join(format!("{name}.json")), context.to_string()).unwrap();
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_metawatch"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    // The shell becomes the command where that is one, so that a signal reaches it.
    let command =
        if command.contains(['|', ';', '&']) { command.to_owned() } else { format!("exec {command}") };
    shell.args(["-c", &command]).current_dir(folder).env("PATH", path).env("HOME", folder);
    shell.env("XDG_CONFIG_HOME", folder).env("XDG_STATE_HOME", folder);
    // A login of whoever runs this must not matter.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("NATS_") || text.starts_with("METAWATCH_") {
            shell.env_remove(&name);
        }
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// Whether a command ends only when it is told to.
fn goes_on(command: &str) -> bool {
    let long = ["metawatch run", "metawatch listen", "metawatch forward"]
        .iter()
        .any(|long| command.starts_with(long));
    (long || command.contains("--watch")) && !command.contains("--once")
}

async fn check(cluster: &Cluster, folder: &Path, command: &str) {
    let system = json!({ "url": cluster.urls(), "user": "admin", "password": "admin" });
    let child = shell(folder, &[("system", system)], command).spawn().unwrap();
    if goes_on(command) {
        // Long enough to find the command refused or its server not found.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "$ {command}\n{said}");
    assert!(!said.contains("error:"), "$ {command}\n{said}");
}

#[tokio::test]
async fn every_command_in_the_readmes_works_as_it_stands_there() {
    let cluster = three().await;
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["README.md", "examples/deploy/README.md", "examples/consumers/README.md", "examples/page/README.md"];
    let mut ran = 0;
    for file in files {
        for command in commands(file) {
            if command == "echo $?" || ELSEWHERE.iter().any(|(start, _)| command.starts_with(start)) {
                continue;
            }
            assert!(command.starts_with("metawatch "), "{file}: run `{command}`, or say why not");
            // An alert that comes within five minutes is waited for by the tests of listen.
            let command = command.replace("--for 5m", "--for 1s --state resolved || test $? = 1");
            check(&cluster, folder.path(), &command).await;
            ran += 1;
        }
    }
    assert!(ran >= 4, "{ran} commands were run");
}
