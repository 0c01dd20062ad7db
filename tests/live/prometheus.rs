//! The numbers of `metawatch run --listen`, scraped through outages of a real cluster by the real Prometheus, with the
//! rules and the board of `examples/deploy`.

#![allow(clippy::disallowed_methods, reason = "how long something is waited for is real time")]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metawatch::event::heartbeat::Status;
use serde_json::Value;

use super::three;
use crate::cluster::LONG;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::http::ask;
use crate::metrics::Samples;

/// An address that nobody has at this moment.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A file of `examples/deploy`.
fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy").join(file)
}

/// A program, where there is one; otherwise says that a test is skipped.
fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        // Not by a macro: what a test prints is kept from whoever looks on.
        let skipped = format!("live::prometheus: skipped what needs {name} (Debian: prometheus)\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    found
}

/// The status and the body of an answer; 0 while nobody listens there yet.
async fn get(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    if tokio::net::TcpStream::connect(address).await.is_err() {
        return (0, String::new());
    }
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    let answer = ask(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// Waits until an answer fits, and gives it.
async fn until(address: SocketAddr, path: &str, what: &str, fits: impl Fn(u16, &str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let (status, body) = get(address, path, OPENMETRICS).await;
        if fits(status, &body) {
            return body;
        }
        assert!(began.elapsed() < LONG, "{path} never says «{what}»: {status} {body}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A Prometheus that ends with this value.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Scrapes this address every second, with the rules as they are shipped.
    fn start(binary: &Path, folder: &Path, scraped: SocketAddr) -> Self {
        let address = free();
        let rules = deployed("metawatch.rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ {} ]\n\
             scrape_configs: [ {{ job_name: metawatch, static_configs: [ {{ targets: [ '{scraped}' ] }} ] }} ]\n",
            rules.display()
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, address }
    }

    async fn api(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path, "*/*").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until exactly these alerts fire, each with these words in its summary.
    async fn fires(&self, wanted: &[(&str, &str)]) {
        let began = Instant::now();
        loop {
            let told = self.api("/api/v1/alerts").await;
            let alerts = told["data"]["alerts"].as_array().unwrap();
            let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
            let firing: BTreeSet<(&str, &str)> = firing
                .map(|alert| {
                    (
                        alert["labels"]["alertname"].as_str().unwrap(),
                        alert["annotations"]["summary"].as_str().unwrap(),
                    )
                })
                .collect();
            let fits = |(name, words): &(&str, &str)| {
                firing.iter().any(|(other, summary)| other == name && summary.contains(words))
            };
            if firing.len() == wanted.len() && wanted.iter().all(fits) {
                return;
            }
            assert!(began.elapsed() < LONG, "{wanted:?} never fire: {told}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A query as a board makes it, with its variables filled in.
fn filled(query: &str) -> String {
    let filled = query.replace("$job", "metawatch").replace("$group", ".*").replace("$__rate_interval", "1m");
    filled.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn prometheus_pages_for_a_server_that_was_killed_until_it_is_back() {
    let Some(binary) = program("prometheus") else { return };
    let mut cluster = three().await;
    let listen = free();
    let mut watch = cluster.watch(Watching { listen: Some(listen), ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let prometheus = Prometheus::start(&binary, &cluster.folder(), listen);
    until(prometheus.address, "/-/ready", "ready", |status, _| status == 200).await;
    let well = until(listen, "/metrics", "OK", |_, body| body.contains("\nmetawatch_status 0\n")).await;
    let well = Samples::read(&well);
    // Prometheus has read what is scraped, whole.
    until(prometheus.address, "/api/v1/query?query=scrape_samples_scraped", "all series", |_, body| {
        body.contains(&format!("\"{}\"", well.len()))
    })
    .await;
    prometheus.fires(&[]).await;
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    let offline = format!("{follower} is offline");
    prometheus.fires(&[("MetawatchPeerOffline", &offline)]).await;
    let bad = until(listen, "/metrics", "CRITICAL", |_, body| body.contains("\nmetawatch_status 2\n")).await;
    assert_eq!(Samples::read(&bad).series(), well.series(), "an outage makes no series and ends none");
    let board: Value =
        serde_json::from_str(&std::fs::read_to_string(deployed("grafana-dashboard.json")).unwrap()).unwrap();
    let targets = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
    let queries: Vec<&str> = targets.flatten().map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 15);
    for query in queries {
        let told = prometheus.api(&format!("/api/v1/query?query={}", filled(query))).await;
        let empty = told["data"]["result"].as_array().unwrap().is_empty();
        assert!(!empty || query.ends_with("> 0"), "nothing to draw: {query}");
    }
    cluster.boot(&follower).unwrap();
    prometheus.fires(&[]).await;
    watch.stop().await;
    prometheus.fires(&[("MetawatchSilent", "nobody may be watching")]).await;
}

#[tokio::test]
async fn the_rules_and_what_is_scraped_pass_promtool() {
    let Some(promtool) = program("promtool") else { return };
    let check = |arguments: &[&str], input: &str| {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(deployed("")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    };
    check(&["check", "rules", "metawatch.rules.yml"], "");
    check(&["test", "rules", "metawatch.rules.test.yml"], "");
    let mut cluster = three().await;
    let listen = free();
    let mut watch = cluster.watch(Watching { listen: Some(listen), ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    check(&["check", "metrics"], &get(listen, "/metrics", "*/*").await.1);
    let follower = cluster.follower("").await.unwrap();
    cluster.kill(&follower).unwrap();
    watch.expect_status(Status::Alerting).await;
    check(&["check", "metrics"], &get(listen, "/metrics", "*/*").await.1);
    watch.stop().await;
}

#[tokio::test]
async fn probes_follow_the_watcher_and_not_the_servers() {
    let mut cluster = three().await;
    let listen = free();
    let mut watch = cluster.watch(Watching { listen: Some(listen), ..Watching::default() }).await.unwrap();
    until(listen, "/readyz", "ready", |status, _| status == 200).await;
    let names = cluster.names();
    cluster.kill(&names[2]).unwrap();
    watch.expect_status(Status::Alerting).await;
    for _ in 0..8 {
        let (ready, why) = get(listen, "/readyz", "*/*").await;
        assert_eq!(ready, 200, "two of three servers answer: {why}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cluster.kill(&names[0]).unwrap();
    cluster.kill(&names[1]).unwrap();
    let why = until(listen, "/readyz", "not ready", |status, _| status == 503).await;
    assert!(why.starts_with("the last complete epoch ended ") && why.lines().count() == 1, "{why}");
    assert_eq!(get(listen, "/healthz", "*/*").await.0, 200, "the watcher does its work");
    let blind = Samples::read(&get(listen, "/metrics", "*/*").await.1);
    assert_eq!(blind.value("metawatch_ready", &[]), "0");
    let offline = blind.all("metawatch_meta_peer_offline", &[]);
    assert_eq!(offline.iter().filter(|value| **value == "1").count(), 1, "what was known holds: {offline:?}");
    for name in &names {
        cluster.boot(name).unwrap();
    }
    until(listen, "/readyz", "ready", |status, _| status == 200).await;
    watch.stop().await;
}

#[tokio::test]
async fn of_many_watchers_one_speaks_and_those_that_do_not_look_show_no_groups() {
    let cluster = three().await;
    let binary = Path::new(env!("CARGO_BIN_EXE_metawatch"));
    let urls = cluster.urls();
    let started: Vec<(SocketAddr, Sidecar)> = (0..5)
        .map(|number| {
            let listen = free();
            let more = ["--listen", &listen.to_string()];
            let name = format!("watcher-{number}");
            (listen, Sidecar::start(&cluster, binary, &name, &urls, &more).unwrap())
        })
        .collect();
    let began = Instant::now();
    loop {
        let mut roles = Vec::new();
        for (listen, _) in &started {
            let (status, page) = get(*listen, "/metrics", OPENMETRICS).await;
            if status != 200 {
                break;
            }
            let samples = Samples::read(&page);
            let is = |role| {
                !samples.all("metawatch_role", &[("role", role)]).is_empty()
                    && samples.value("metawatch_role", &[("role", role)]) == "1"
            };
            let role = ["active", "standby", "reserve"].into_iter().find(|role| is(role));
            let Some(role) = role else { break };
            let groups = !samples.all("metawatch_meta_peers", &[]).is_empty();
            let ready = samples.value("metawatch_ready", &[]) == "1";
            roles.push((role, groups, ready));
        }
        roles.sort_unstable();
        let wanted = [
            ("active", true, true),
            ("reserve", false, true),
            ("reserve", false, true),
            ("standby", true, true),
            ("standby", true, true),
        ];
        if roles == wanted {
            break;
        }
        assert!(began.elapsed() < LONG, "{roles:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
