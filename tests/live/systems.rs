//! Two systems in one account: real clusters with the same names, and the watcher of one publishes into the
//! other.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use tokio::process::Command;

use super::{Cluster, Layout, three};
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{LONG, User, tested_version};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

/// `metawatch listen` in the account that both publish to; its output and what it tells people are in these
/// files.
fn listen(cluster: &Cluster) -> (tokio::process::Child, impl Fn(&str) -> String + use<>) {
    let folder = cluster.folder();
    let file = move |name: &str| folder.join(format!("both.{name}"));
    let mut command = Command::new(BINARY);
    command.args(["listen", "--user", "admin", "--password", "admin", "--server", &cluster.urls()]);
    command.env_clear().env("XDG_CONFIG_HOME", "/nowhere").kill_on_drop(true).stdin(Stdio::null());
    command.stdout(File::create(file("out")).unwrap()).stderr(File::create(file("err")).unwrap());
    (command.spawn().unwrap(), move |name| fs::read_to_string(file(name)).unwrap())
}

async fn wait(what: &str, mut fits: impl FnMut() -> bool) {
    let waiting = async {
        while !fits() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "{what} within {LONG:?}");
}

#[tokio::test]
async fn one_systems_health_ends_no_incident_of_the_other() {
    let (mut here, there) = tokio::join!(three(), three());
    let mut watch = here.observe(Watching::default()).await.unwrap();
    let (_listening, said) = listen(&here);
    let binary = Path::new(BINARY);
    let mut own = Sidecar::start(&here, binary, "here", &here.urls(), &[]).unwrap();
    let urls = here.urls();
    let publish = ["--alert-server", &urls, "--alert-user", "admin", "--alert-password", "admin"];
    let _other = Sidecar::start(&there, binary, "there", &there.urls(), &publish).unwrap();
    let by = |name: &'static str| {
        move |beat: &metawatch::event::Heartbeat| beat.monitor.name == name && beat.status == Status::Ok
    };
    let ours = watch.expect_heartbeat("ours", by("here")).await.system.expect("a system");
    let theirs = watch.expect_heartbeat("theirs", by("there")).await.system.expect("a system");
    assert_ne!(ours, theirs);
    wait("both are told", || said("err").contains("come beside those of the system")).await;
    let follower = here.follower("").await.unwrap();
    here.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(firing.event.system.as_ref(), Some(&ours));
    wait("the alert is told", || said("out").contains(&firing.summary)).await;
    // Ours is silent, theirs is well: nothing of ours is over.
    own.kill().unwrap();
    let quiet = format!("nobody watches, or it cannot be heard (system {ours})");
    wait("the quiet is told", || said("err").contains(&quiet)).await;
    for _ in 0..5 {
        watch.expect_heartbeat("theirs", by("there")).await;
    }
    assert!(!said("out").contains("resolved"), "{}", said("out"));
    // Its next run, after its servers, is the same system.
    here.boot(&follower).unwrap();
    own.again().unwrap();
    let again = watch.expect_heartbeat("ours again", by("here")).await;
    assert_eq!(again.system.as_ref(), Some(&ours));
    wait("it is heard again", || said("err").contains(&format!("heard again (system {ours})"))).await;
    wait("it is over", || said("out").contains("resolved  META_001 default ")).await;
}

/// Neither may hear the other, so both speak: with the same id, made up from the same servers.
#[tokio::test]
async fn two_watchers_of_one_system_that_cannot_hear_each_other_are_told() {
    let owned = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect();
    let user = |name| User {
        account: "SYS",
        name,
        publish: owned(&["$SYS.REQ.SERVER.PING.JSZ", "metawatch.>"]),
        subscribe: owned(&["_MW.>"]),
    };
    let layout =
        Layout::cluster(3).version(tested_version().as_deref()).user(user("one")).user(user("other"));
    let mut cluster = Cluster::start(layout).await.unwrap();
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let (_listening, said) = listen(&cluster);
    let start = |name: &'static str| {
        let more = ["--user", name, "--password", name, "--inbox-prefix", "_MW"];
        Sidecar::start(&cluster, Path::new(BINARY), name, &cluster.urls(), &more).unwrap()
    };
    let (one, mut other) = (start("one"), start("other"));
    let by = |name: &'static str| {
        move |beat: &metawatch::event::Heartbeat| beat.monitor.name == name && beat.status == Status::Ok
    };
    let first = watch.expect_heartbeat("the one", by("one")).await;
    let second = watch.expect_heartbeat("the other", by("other")).await;
    assert!(first.system.is_some() && first.system == second.system, "{first:?} {second:?}");
    wait("both are told", || {
        said("err").contains("speak for the same system, and neither knows of the other")
    })
    .await;
    assert_eq!(said("err").matches("neither knows").count(), 1, "{}", said("err"));
    // Both tell of a fault, and either end of it is its own.
    let follower = cluster.follower("").await.unwrap();
    cluster.stop(&follower).await.unwrap();
    for _ in 0..2 {
        watch.expect_peer(&follower, State::Firing).await;
    }
    other.kill().unwrap();
    cluster.boot(&follower).unwrap();
    watch.expect_peer(&follower, State::Resolved).await;
    drop(one);
}
