//! The configuration files that are shipped, on real servers, word for word.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use serde_json::{Value, json};

use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, tested_version};

pub(super) fn shipped(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Three servers with the accounts of a shipped file; every password is the user's name. `admin` is added where the
/// file has no such user: the tests need one.
pub(super) async fn with_accounts(name: &str) -> Cluster {
    with_accounts_of(&shipped(name)).await
}

/// The same with accounts that are given.
pub(super) async fn with_accounts_of(text: &str) -> Cluster {
    let mut accounts = text.to_owned();
    for user in ["metawatch", "app", "alerts", "admin", "monitor"] {
        accounts = accounts.replace(&format!("${}_PASSWORD", user.to_uppercase()), user);
    }
    if !accounts.contains("user: admin") {
        accounts = accounts.replacen("users: [", "users: [ { user: admin, password: admin }", 1);
    }
    let layout =
        Layout { accounts: Some(accounts), ..Layout::cluster(3).version(tested_version().as_deref()) };
    Cluster::start(layout).await.unwrap()
}

fn watcher(cluster: &Cluster, user: &str, more: &[&str]) -> Sidecar {
    let binary = Path::new(env!("CARGO_BIN_EXE_metawatch"));
    let login = ["--user", user, "--password", user];
    let more: Vec<&str> = login.into_iter().chain(more.iter().copied()).collect();
    Sidecar::start(cluster, binary, "alone", &cluster.urls(), &more).unwrap()
}

fn seen_by(user: &'static str) -> Watching {
    Watching { user, ..Watching::default() }
}

/// How a watcher tells that something is refused to it.
const REFUSED: [&str; 4] = ["may not", "ermission", "cannot be heard", "not offered"];

/// Nothing was refused to the watcher.
#[track_caller]
fn check_rights(sidecar: &Sidecar) {
    let log = sidecar.log();
    for word in REFUSED {
        assert!(!log.contains(word), "{log}");
    }
}

#[tokio::test]
async fn the_least_user_watches_and_an_application_imports_its_alerts() {
    let mut cluster = with_accounts("user.conf").await;
    let mut watch = cluster.observe(seen_by("app")).await.unwrap();
    let sidecar = watcher(&cluster, "metawatch", &["--inbox-prefix", "_METAWATCH"]);
    watch.expect_status(Status::Ok).await;
    let admin = cluster.admin().await.unwrap();
    let answer = admin.request("metawatch.check", "".into()).await.expect("the service answers");
    assert!(String::from_utf8_lossy(&answer.payload).contains(r#""status":"OK""#), "{answer:?}");
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert!(firing.event.evidence.is_some_and(|evidence| !evidence.routes.is_empty()), "STATSZ may be asked");
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    check_rights(&sidecar);
}

#[tokio::test]
async fn the_least_user_for_alerts_publishes_into_the_streams_that_are_shipped() {
    let accounts = "user.conf";
    let mut cluster = with_accounts(accounts).await;
    let app = cluster.client("app").await.unwrap();
    for name in ["stream-history.json", "stream-last.json"] {
        let config: Value = serde_json::from_str(&shipped(name)).unwrap();
        let subject = format!("$JS.API.STREAM.CREATE.{}", config["name"].as_str().unwrap());
        let created = async {
            loop {
                let answer = app.request(subject.clone(), config.to_string().into()).await;
                let answer: Value = answer
                    .ok()
                    .and_then(|answer| serde_json::from_slice(&answer.payload).ok())
                    .unwrap_or_default();
                if answer["config"].is_object() {
                    break;
                }
                // The servers may not be ready; any other refusal stays.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, created).await.is_ok(), "{name} is refused");
    }
    let mut watch = cluster.observe(seen_by("app")).await.unwrap();
    let more = ["--inbox-prefix", "_METAWATCH", "--publish-mode", "jetstream"];
    let own = ["--alert-user", "alerts", "--alert-password", "alerts", "--alert-inbox-prefix", "_METAWATCH"];
    let sidecar = watcher(&cluster, "metawatch", &[more.as_slice(), &own].concat());
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    watch.expect_heartbeat("nothing waits", |beat| beat.waiting == 0 && beat.status == Status::Ok).await;
    let answer = app.request("metawatch.check", "".into()).await.expect("the service answers here, too");
    assert!(String::from_utf8_lossy(&answer.payload).contains(r#""status":"OK""#), "{answer:?}");
    check_rights(&sidecar);
    // One message is left of the alert, and it is its end.
    let subject = format!("metawatch.last.META_001.default.{follower}");
    let request = json!({ "last_by_subj": subject }).to_string();
    let read = async {
        loop {
            let answer = app.request("$JS.API.DIRECT.GET.METAWATCH_LAST", request.clone().into()).await;
            let event: Value = answer
                .ok()
                .and_then(|answer| serde_json::from_slice(&answer.payload).ok())
                .unwrap_or_default();
            if event["id"] == resolved.event.id.as_str() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let last = tokio::time::timeout(LONG, read).await.expect("the last state of the alert");
    assert_eq!(last["state"], "resolved");
    let info = app.request("$JS.API.STREAM.INFO.METAWATCH_LAST", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["state"]["num_subjects"], info["state"]["messages"], "{info:#}");
}

#[tokio::test]
async fn in_core_mode_the_least_user_for_alerts_knows_what_has_arrived() {
    let mut cluster = with_accounts("user.conf").await;
    let mut watch = cluster.observe(seen_by("app")).await.unwrap();
    let own = ["--alert-user", "alerts", "--alert-password", "alerts", "--alert-inbox-prefix", "_METAWATCH"];
    let more = [["--inbox-prefix", "_METAWATCH"].as_slice(), &own].concat();
    let sidecar = watcher(&cluster, "metawatch", &more);
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    // What has arrived is not kept for a next run.
    let state = cluster.folder().join("alone.state");
    let settled = async {
        while fs::read_to_string(&state).unwrap_or_default().contains("\"waiting\"") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, settled).await.is_ok(), "{}", sidecar.log());
    check_rights(&sidecar);
}

/// The examples of the help, and those beside the shipped files, that publish with a login of their own.
fn examples_with_a_login() -> Vec<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_metawatch")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut found: Vec<String> = help.lines().map(|line| line.trim().to_owned()).collect();
    found.extend(super::readme::commands("examples/deploy/README.md"));
    found.retain(|line| line.starts_with("metawatch run ") && line.contains(" --alert-"));
    found
}

#[tokio::test]
async fn every_example_that_publishes_elsewhere_works_with_the_users_that_are_shipped() {
    let cluster = with_accounts("user.conf").await;
    let folder = tempfile::tempdir().unwrap();
    let context = |user: &str, password: &str| json!({ "url": cluster.urls(), "user": user, "password": password, "inbox_prefix": "_METAWATCH" });
    let contexts = [
        ("system", context("metawatch", "metawatch")),
        ("alerts", context("alerts", "env://ALERTS_PASSWORD")),
    ];
    let examples = examples_with_a_login();
    assert!(examples.len() >= 4, "{examples:?}");
    for command in examples {
        let mut watch = cluster.observe(seen_by("app")).await.unwrap();
        let mut shell = super::readme::shell(folder.path(), &contexts, &command);
        let watcher = shell.env("ALERTS_PASSWORD", "alerts").spawn().unwrap();
        watch.expect_status(Status::Ok).await;
        Command::new("kill").args(["-INT", &watcher.id().to_string()]).status().unwrap();
        let output = tokio::task::spawn_blocking(move || watcher.wait_with_output()).await.unwrap().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "$ {command}\n{log}");
        for word in REFUSED {
            assert!(!log.contains(word), "$ {command}\n{log}");
        }
    }
}

#[tokio::test]
async fn a_monitor_outside_the_system_account_watches_through_an_export() {
    let mut cluster = with_accounts("service-export.conf").await;
    let mut watch = cluster.observe(seen_by("monitor")).await.unwrap();
    let _sidecar = watcher(&cluster, "monitor", &[]);
    let status = watch.expect_status(Status::Ok).await;
    assert_eq!(status.epoch.heard, 3, "{status:?}");
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    watch.expect_peer(&follower, State::Firing).await;
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
}
