//! `metawatch listen`, as people and scripts run it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use tokio::process::{Child, Command};

use super::three;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

fn listen(url: &str, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["listen", "--user", "admin", "--password", "admin", "--server", url]).args(more);
    command.env_clear().env("XDG_CONFIG_HOME", "/nowhere").kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A `listen` that goes on, and what it has said.
struct Listening {
    _child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Listening {
    fn start(cluster: &Cluster, more: &[&str]) -> Self {
        let (out, err) = (cluster.folder().join("listen.out"), cluster.folder().join("listen.err"));
        let mut command = listen(&cluster.urls(), more);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Self { _child: command.spawn().unwrap(), out, err }
    }

    /// What it has told people besides the data.
    fn warnings(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until one of its files holds this.
    async fn expect(&self, file: &Path, words: &str) {
        let said = async {
            while !fs::read_to_string(file).unwrap().contains(words) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, said).await.is_ok(), "no {words:?}: {}", self.warnings());
    }
}

#[tokio::test]
async fn it_tells_alerts_and_heartbeats_and_when_the_last_watcher_has_gone_quiet() {
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let listening = Listening::start(&cluster, &["--heartbeats"]);
    let binary = Path::new(BINARY);
    let mut first = Sidecar::start(&cluster, binary, "first", &cluster.urls(), &[]).unwrap();
    watch.expect_heartbeat("the first", |beat| beat.monitor.name == "first").await;
    let mut second = Sidecar::start(&cluster, binary, "second", &cluster.urls(), &[]).unwrap();
    let both = watch.expect_heartbeat("both", |beat| beat.watchers == 2 && beat.status == Status::Ok).await;
    listening.expect(&listening.out, "heartbeat first: ok: 3 of 3 servers answered").await;
    first.kill().unwrap();
    listening.expect(&listening.out, "heartbeat second: ").await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    listening.expect(&listening.out, &firing.summary).await;
    assert!(both.system.is_some() && firing.event.system == both.system, "whoever speaks, it is one system");
    assert!(!listening.warnings().contains("no heartbeat"), "one of them spoke: {}", listening.warnings());
    second.kill().unwrap();
    listening.expect(&listening.err, "no heartbeat for 10 s, the last one came at ").await;
    second.again().unwrap();
    listening.expect(&listening.err, "heartbeats are heard again").await;
    assert_eq!(listening.warnings().matches("no heartbeat").count(), 1, "{}", listening.warnings());
}

#[tokio::test]
async fn a_script_waits_for_an_alert_and_goes_by_the_exit_code() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    let other = cluster.names().into_iter().find(|name| *name != follower).unwrap();
    let url = cluster.url(&other);
    let run = |more: &'static [&'static str]| listen(&url, more).output();
    let nothing = run(&["--state", "resolved", "--for", "500ms"]).await.unwrap();
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(1), 0), "{nothing:?}");
    let stopped = listen(&url, &["--once"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = stopped.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let stopped = stopped.wait_with_output().await.unwrap();
    assert_eq!(
        (stopped.status.code(), stopped.stdout.len()),
        (Some(1), 0),
        "its end is no alert: {stopped:?}"
    );
    let waiting = run(&["--once", "--state", "firing", "--for", "80s"]);
    let (waited, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.stop(&follower).await.unwrap();
    });
    let waited = waited.unwrap();
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    assert!(String::from_utf8_lossy(&waited.stdout).contains("is offline"), "{waited:?}");
    let begins = String::from_utf8_lossy(&waited.stderr).into_owned();
    let begins: Vec<&str> = begins.lines().collect();
    assert_eq!(begins[0], format!("listening on metawatch.alert.> at {other}"));
    assert!(
        begins[1].contains("last heartbeat at ") && begins[1].contains("3 of 3 servers answered"),
        "{begins:?}"
    );
    // Who comes after the event learns of it all the same: from heartbeats, or because it is sent once more.
    let late = run(&["--once", "--state", "firing", "--for", "80s"]).await.unwrap();
    let told = String::from_utf8_lossy(&late.stdout).into_owned();
    assert_eq!(late.status.code(), Some(0), "{late:?}");
    assert!(told.contains(&format!("firing    META_001 default {follower}  ")), "{told}");
    let late = run(&["--once", "--state", "firing", "--format", "json", "--for", "80s"]).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&late.stdout).unwrap();
    let (event, incident) = (&told["event"], &told["incident"]);
    let name = if incident.is_null() { &event["peer"]["name"] } else { &incident["name"] };
    assert_eq!(name, &follower, "{told:#}");
}
