//! The server that metawatch talks to is a server like others: when it freezes or is about to stop, metawatch
//! goes to another one and tells of it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::heartbeat::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::three;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::{Seen, Watching};
use crate::cluster::{Cluster, LONG, Layout, tested_version};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");

/// Whoever is accused of anything.
fn accused(seen: &[Seen]) -> Vec<String> {
    seen.iter().filter_map(|seen| seen.event.peer.as_ref()?.name.clone()).collect()
}

/// Another server than this one leads.
async fn led_by_another(cluster: &mut Cluster, server: &str) {
    while cluster.leader().await.unwrap().as_deref() == Some(server) {
        cluster.step_down().await.unwrap();
        cluster.wait_until_well().await.unwrap();
    }
}

/// `s1` freezes while a watcher that was given these servers talks to it.
async fn freezes(mut cluster: Cluster, servers: &str) {
    let watcher = Sidecar::start(&cluster, Path::new(BINARY), "watcher", servers, &[]).unwrap();
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    assert_eq!(cluster.server_of("watcher").await.unwrap(), "s1");
    led_by_another(&mut cluster, "s1").await;
    watch.expect_status(Status::Ok).await;
    let told_before = watcher.log().lines().count();
    cluster.freeze("s1").unwrap();
    watch.expect_peer("s1", State::Suspected).await;
    watch.expect_peer("s1", State::Firing).await;
    cluster.thaw("s1").unwrap();
    watch.expect_peer("s1", State::Resolved).await;
    watch.expect_status(Status::Ok).await;
    assert!(accused(watch.seen()).iter().all(|name| name == "s1"), "{}", watch.story());
    assert_ne!(cluster.server_of("watcher").await.unwrap(), "s1", "it does not go back by itself");
    let log = watcher.log();
    // One line for one thing: the connection, the suspicion, the fault, and its end.
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("connection given up, connected again"), 1, "{log}");
    assert_eq!((count("s1 may be offline"), count("s1 is back")), (1, 1), "{log}");
    let told = log.lines().count() - told_before;
    // The cause may become clearer once.
    assert!((4..=5).contains(&told), "{told} lines: {log}");
    // Nothing else is said but of the alerts.
    let warnings = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    let other: Vec<&str> =
        warnings.filter(|line| !line.contains("s1") && !line.contains("alerting")).collect();
    assert!(other.is_empty(), "{other:#?}");
}

#[tokio::test]
async fn a_frozen_server_is_left_for_another_one_of_the_list_and_accused_as_any_other() {
    let cluster = three().await;
    let servers = cluster.urls();
    freezes(cluster, &servers).await;
}

#[tokio::test]
async fn a_frozen_server_is_left_for_one_that_it_named_itself() {
    let mut layout = Layout::cluster(3).version(tested_version().as_deref());
    layout.advertised = true;
    let cluster = Cluster::start(layout).await.unwrap();
    let servers = cluster.url("s1");
    freezes(cluster, &servers).await;
}

#[tokio::test]
async fn a_server_that_pauses_for_a_moment_is_not_left() {
    let mut cluster = three().await;
    let interval = Duration::from_secs(2);
    let mut watch = cluster.watch(Watching { interval, ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let own = cluster.server_of("metawatch").await.unwrap();
    for _ in 0..3 {
        cluster.freeze(&own).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.thaw(&own).unwrap();
        watch.expect_status(Status::Ok).await;
    }
    cluster.wait_until_well().await.unwrap();
    assert_eq!(cluster.server_of("metawatch").await.unwrap(), own);
    assert!(watch.seen().iter().all(|seen| seen.event.state != State::Firing), "{}", watch.story());
}

#[tokio::test]
async fn a_server_that_is_about_to_stop_is_left_before_it_does() {
    let mut cluster = three().await;
    let mut watch = cluster.watch(Watching::default()).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let own = cluster.server_of("metawatch").await.unwrap();
    cluster.lame_duck(&own).unwrap();
    watch.expect_peer(&own, State::Firing).await;
    let moving = async { while cluster.server_of("metawatch").await.unwrap() == own {} };
    tokio::time::timeout(LONG, moving).await.expect("it moves");
    assert!(cluster.runs(&own), "it was left only when it closed the connection");
    cluster.wait_for_end(&own).await.unwrap();
    cluster.boot(&own).unwrap();
    watch.expect_peer(&own, State::Resolved).await;
    assert!(accused(watch.seen()).iter().all(|name| *name == own), "{}", watch.story());
}

/// `metawatch COMMAND` against these servers.
async fn look(command: &str, servers: &str) -> (Output, String) {
    let arguments =
        [command, "--user", "admin", "--password", "admin", "--timeout", "12s", "--server", servers];
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().env("XDG_CONFIG_HOME", "/nowhere").stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, told)
}

#[tokio::test]
async fn a_single_look_passes_over_a_server_that_does_not_answer_and_says_so() {
    let cluster = three().await;
    // The system accepts connections for it, as it does for a frozen process.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = format!("{},{}", frozen.local_addr().unwrap(), cluster.url("s2"));
    for command in ["check", "view"] {
        let (output, told) = look(command, &servers).await;
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("connected to another server") && told.contains("no answer from"), "{told}");
    }
}

/// A way to a server on which nothing comes back any more once the connection is made. Gives its address.
async fn falling_silent(server: &str) -> String {
    let server = server.trim_start_matches("nats://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((incoming, _)) = listener.accept().await {
            let outgoing = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = incoming.into_split();
                let (mut from_server, mut to_server) = outgoing.into_split();
                let there = tokio::io::copy(&mut from_client, &mut to_server);
                let back = async {
                    let (mut buffer, mut text) = (vec![0; 16 * 1024], String::new());
                    while !text.contains("PONG") {
                        let length = from_server.read(&mut buffer).await?;
                        text += &String::from_utf8_lossy(&buffer[..length]);
                        to_client.write_all(&buffer[..length]).await?;
                    }
                    std::future::pending::<std::io::Result<()>>().await
                };
                tokio::select! { _ = there => {}, _ = back => {} }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_single_look_goes_on_with_another_server_when_the_first_one_freezes() {
    let cluster = three().await;
    let servers = format!("{},{}", falling_silent(&cluster.url("s1")).await, cluster.url("s2"));
    for command in ["check", "view"] {
        let (output, told) = look(command, &servers).await;
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(told.contains("connection given up") && told.contains("connected again"), "{told}");
    }
}
