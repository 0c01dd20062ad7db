//! The recipe for a user of an operator, as it stands in the README, run by the real nsc against real servers.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use metawatch::shell::demo::binary::nats_server;
use metawatch::shell::demo::process::{Process, Reaper, free_port};
use tokio::time::{sleep, timeout};

use crate::cluster::{LONG, tested_version};
use crate::support::skipped;

/// The blocks of commands in the README that begin so.
fn recipe() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy/README.md");
    let text = fs::read_to_string(file).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let recipe: Vec<&str> = blocks.filter(|block| block.starts_with("nsc ")).collect();
    assert!(!recipe.is_empty(), "the README has no recipe for nsc");
    recipe.concat()
}

/// A shell in a home of its own, with this metawatch.
fn shell(home: &Path, script: &str) -> Output {
    let mut command = Command::new("sh");
    let folder = Path::new(env!("CARGO_BIN_EXE_metawatch")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    command.args(["-ec", script]).current_dir(home).env_clear().env("PATH", path).env("HOME", home);
    for (name, folder) in [("NSC_HOME", "nsc"), ("NKEYS_PATH", "keys"), ("XDG_DATA_HOME", "data")] {
        command.env(name, home.join(folder));
    }
    command.env("XDG_CONFIG_HOME", home.join("config")).output().unwrap()
}

#[track_caller]
fn done(home: &Path, script: &str) -> String {
    let output = shell(home, script);
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_user_of_the_recipe_may_all_that_a_watcher_does_and_an_application_hears_it() {
    if Command::new("nsc").arg("--version").output().is_err() {
        return skipped("the recipe for nsc, because there is no nsc");
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    done(home, "nsc add operator --sys --name O 2>&1; nsc add account --name APP 2>&1");
    done(home, "nsc edit account --name APP --js-disk-storage -1 --js-mem-storage -1 2>&1");
    done(
        home,
        "nsc add user --account APP --name app 2>&1; nsc generate creds --account APP --name app > app.creds",
    );
    done(home, &recipe().replace("sudo ", "").replace("/etc/metawatch/", ""));
    let operator = done(home, "nsc generate config --mem-resolver --sys-account SYS");
    let mut reaper = Reaper::start(&home.join("gone")).unwrap();
    let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port().unwrap(), free_port().unwrap())).collect();
    let routes: Vec<String> = ports.iter().map(|(_, route)| format!("nats://127.0.0.1:{route}")).collect();
    let servers: Vec<String> = ports.iter().map(|(port, _)| format!("nats://127.0.0.1:{port}")).collect();
    let binary = nats_server(tested_version().as_deref()).unwrap();
    let mut processes = Vec::new();
    for (number, (port, route)) in ports.iter().enumerate() {
        let (config, log) = (home.join(format!("s{number}.conf")), home.join(format!("s{number}.log")));
        let text = format!(
            "server_name: s{number}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?} }}\n\
             cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: {routes:?} }}\n{operator}",
            home.join(format!("js{number}"))
        );
        fs::write(&config, text).unwrap();
        processes.push(Process::start(&binary, &config, &log, &mut reaper).unwrap());
    }
    let servers = servers.join(",");
    let flags = format!("--no-context --server {servers} --inbox-prefix _METAWATCH");
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_metawatch"));
    watcher.arg("run").args(flags.split(' ')).args(["--state", "none", "--creds", "nats.creds"]);
    watcher.current_dir(home).env_clear();
    let log = home.join("watcher.log");
    processes.push(Process::spawn(watcher, &log, &mut reaper).unwrap());
    let check = format!("metawatch check {flags} --creds nats.creds");
    let well = async {
        while shell(home, &check).status.code() != Some(0) {
            sleep(Duration::from_millis(500)).await;
        }
    };
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(timeout(LONG, well).await.is_ok(), "{:?}\n{}", shell(home, &check), said());
    let listen = format!("metawatch listen --no-context --server {servers} --creds app.creds --heartbeats");
    let heard = shell(home, &format!("timeout 8 {listen} || true"));
    let heard = String::from_utf8_lossy(&heard.stdout).into_owned();
    assert!(heard.contains("3 of 3 meta peers online"), "{heard}\n{}", said());
    for word in ["may not", "ermission", "cannot be heard", "not offered"] {
        assert!(!said().contains(word), "{}", said());
    }
    for process in processes {
        process.kill(&mut reaper).unwrap();
    }
}
