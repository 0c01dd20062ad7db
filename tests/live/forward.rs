//! `metawatch forward` with a real Alertmanager, and with receivers that fail in every way.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metawatch::event::heartbeat::Status;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::doctor::alone;
use super::three;
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");
const ALERTMANAGER: &str = "prometheus-alertmanager";
const SECRET: &str = "s3cr3t-t0k3n";
const EVENT: &str = include_str!("../events/v1/meta_001-firing-observed.json");

/// A running `metawatch forward`, which ends with this value.
pub(super) struct Forwarder {
    child: Child,
    folder: TempDir,
}

impl Forwarder {
    pub(super) fn start(cluster: &Cluster, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(BINARY);
        command
            .args(["forward", "--user", "admin", "--password", "admin", "--server", &cluster.urls(), "-v"])
            .args(more)
            .env_clear()
            .env("XDG_CONFIG_HOME", "/nowhere")
            .env("TOKEN", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        Self { child: command.spawn().unwrap(), folder }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has said so.
    pub(super) async fn says(&self, words: &str) {
        let saying = async {
            while !self.log().contains(words) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, saying).await.is_ok(), "{words:?} is missing: {}", self.log());
    }
}

impl Forwarder {
    /// Ends it at once, as a crash does.
    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it in an orderly way.
    pub(super) async fn stop(mut self) -> String {
        Command::new("kill").arg(self.child.id().unwrap().to_string()).status().await.unwrap();
        let ended = tokio::time::timeout(LONG, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(0), "{}", self.log());
        self.log()
    }
}

/// A receiver: it answers with these statuses, the last of them for ever, and keeps what it was sent.
#[derive(Clone, Default)]
pub(super) struct Mock {
    requests: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

const TAKEN: &str = "204 No Content";

impl Mock {
    fn answering(answers: &[&'static str]) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.to_vec())), ..Self::default() }
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (mut text, mut buffer) = (String::new(), vec![0; 64 << 10]);
        while !is_whole(&text) {
            let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
            text += &String::from_utf8_lossy(&buffer[..length]);
        }
        self.requests.lock().unwrap().push(text);
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers.first().copied().unwrap_or(TAKEN) }
        };
        let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok();
        stream.flush().await.ok();
        stream.shutdown().await.ok();
    }

    /// Its address.
    async fn listen(&self) -> String {
        self.listen_on("127.0.0.1:0").await
    }

    pub(super) async fn listen_on(&self, address: &str) -> String {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mock = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                mock.serve(stream).await;
            }
        });
        address.to_string()
    }

    /// Waits for so many requests, and gives their heads in small letters and their bodies.
    pub(super) async fn sent(&self, count: usize) -> Vec<(String, Value)> {
        let waiting = async {
            while self.requests.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "{:?}", self.requests.lock().unwrap());
        let requests = self.requests.lock().unwrap();
        let split = |text: &String| {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            (head.to_lowercase(), serde_json::from_str(body).unwrap())
        };
        requests.iter().map(split).collect()
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

pub(super) fn event(seq: u64, state: &str) -> Value {
    let mut event: Value = serde_json::from_str(EVENT).unwrap();
    event["seq"] = seq.into();
    event["state"] = state.into();
    event["id"] = format!("{}.{seq}", event["incident"].as_str().unwrap()).into();
    event
}

pub(super) async fn publish(cluster: &Cluster, event: &Value) {
    let client = cluster.client("admin").await.unwrap();
    let subject = format!("metawatch.alert.META_001.default.s3.{}", event["state"].as_str().unwrap());
    client.publish(subject, event.to_string().into()).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn events_arrive_in_order_with_their_secret_whatever_the_receiver_answers_at_first() {
    let cluster = alone(Layout::cluster(1)).await;
    let failing = Mock::answering(&["500 Oops", "503 Later", TAKEN]);
    let elsewhere = Mock::default();
    let redirecting = Mock::answering(&["302 Found"]);
    let refusing = Mock::answering(&["422 No", TAKEN]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}-of-a-file\n")).unwrap();
    let addresses = [failing.listen().await, redirecting.listen().await, refusing.listen().await];
    let hooks = addresses.map(|address| format!("http://{address}/hook?key={SECRET}"));
    let from_file = format!("X-File: file://{}", file.path().display());
    let forwarder = Forwarder::start(
        &cluster,
        &[
            "--webhook",
            &hooks[0],
            "--webhook",
            &hooks[1],
            "--webhook",
            &hooks[2],
            "--webhook-header",
            "Authorization: Bearer env://TOKEN",
            "--webhook-header",
            &from_file,
        ],
    );
    forwarder.says("forwarding to webhook http").await;
    let events = [event(1, "firing"), event(2, "firing"), event(2, "firing"), event(3, "resolved")];
    for event in &events {
        publish(&cluster, event).await;
    }
    let sent = failing.sent(5).await;
    let keys: Vec<u64> = sent.iter().map(|(_, body)| body["seq"].as_u64().unwrap()).collect();
    assert_eq!(keys, [1, 1, 1, 2, 3], "tried until it is taken, and a repetition is not news");
    for (head, body) in &sent {
        assert!(head.starts_with(&format!("post /hook?key={SECRET} http/1.1")), "{head}");
        assert!(head.contains(&format!("authorization: bearer {SECRET}\r\n")), "{head}");
        assert!(head.contains(&format!("x-file: {SECRET}-of-a-file")), "{head}");
        let key = body["id"].as_str().unwrap().to_lowercase();
        assert!(head.contains(&format!("idempotency-key: {key}")), "{head}");
        assert!(events.contains(body), "the event as it is: {body:#}");
    }
    forwarder.says("a redirect, which is not followed").await;
    forwarder.says("it answers 422").await;
    forwarder.says("takes alerts again").await;
    assert_eq!((redirecting.sent(1).await.len(), elsewhere.sent(0).await.len()), (1, 0));
    let refused = refusing.sent(4).await;
    let seqs: Vec<u64> = refused.iter().map(|(_, body)| body["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 1, 2, 3], "what is refused is tried once more, and then what follows it");
    assert!(!forwarder.log().contains(SECRET), "{}", forwarder.log());
}

#[tokio::test]
async fn a_receiver_is_trusted_only_with_its_authority_and_a_slow_one_is_not_waited_for() {
    let cluster = alone(Layout::cluster(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, own.pem()).unwrap();
    use async_nats::rustls::ServerConfig;
    use async_nats::rustls::pki_types::PrivateKeyDer;
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![own.der().clone()], private).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (mock, listener) = (Mock::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let serving = mock.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                serving.serve(stream).await;
            }
        }
    });
    // The system accepts connections for it; nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hook, silent) = (format!("https://{address}/"), format!("http://{}/", silent.local_addr().unwrap()));
    let untrusting = Forwarder::start(&cluster, &["--webhook", &hook, "--webhook", &silent]);
    let trusting = Forwarder::start(
        &cluster,
        &["--webhook", &silent, "--webhook", &hook, "--receiver-tlsca", ca.to_str().unwrap()],
    );
    for forwarder in [&untrusting, &trusting] {
        forwarder.says("forwarding to webhook http").await;
    }
    publish(&cluster, &event(1, "firing")).await;
    assert_eq!(mock.sent(1).await.len(), 1);
    untrusting.says("TLS: invalid peer certificate").await;
    trusting.says("no answer within 10 s").await;
}

/// An Alertmanager, which ends with this value.
pub(super) struct Alertmanager {
    _child: Child,
    _folder: TempDir,
    pub(super) address: String,
}

impl Alertmanager {
    /// `None` where there is none on this machine.
    pub(super) async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = metawatch::shell::demo::process::free_port().unwrap();
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route: { receiver: none }\nreceivers: [{ name: none }]\n").unwrap();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(ALERTMANAGER)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let alertmanager = Self { _child: child, _folder: folder, address };
        let starting = async {
            while alertmanager.get("/-/ready").await.is_none_or(|(head, _)| !head.contains("200")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, starting).await.expect("it starts");
        Some(alertmanager)
    }

    async fn get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }

    /// The alerts that are active.
    async fn alerts(&self) -> Vec<Value> {
        let (_, body) = self.get("/api/v2/alerts?active=true").await.unwrap_or_default();
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// Waits for a moment when one of these labels is active, or none is.
    pub(super) async fn wait(&self, name: &str, severity: &str, active: bool) -> Option<Value> {
        let waiting = async {
            loop {
                let alerts = self.alerts().await;
                let is = |alert: &&Value| {
                    alert["labels"]["alertname"] == name && alert["labels"]["severity"] == severity
                };
                let found = alerts.iter().find(is).cloned();
                if found.is_some() == active {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, waiting)
            .await
            .unwrap_or_else(|_| panic!("{name} {severity}: not {active}"))
    }
}

#[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it tells a figure of real time")]
#[tokio::test]
async fn a_crash_is_at_the_real_alertmanager_within_seconds_and_so_is_a_dead_watcher() {
    let Some(alertmanager) = Alertmanager::start().await else {
        eprintln!("skipped: there is no {ALERTMANAGER} on this machine");
        return;
    };
    let mut cluster = three().await;
    let mut watch = cluster.observe(Watching::default()).await.unwrap();
    let mut watcher = Sidecar::start(&cluster, Path::new(BINARY), "one", &cluster.urls(), &[]).unwrap();
    let url = format!("http://{}", alertmanager.address);
    let forwarder = Forwarder::start(&cluster, &["--alertmanager", &url]);
    forwarder.says("forwarding to alertmanager").await;
    watch.expect_status(Status::Ok).await;
    let follower = cluster.follower("").await.unwrap();
    let crashed = Instant::now();
    cluster.kill(&follower).unwrap();
    let alert = alertmanager.wait("META_001", "critical", true).await.expect("an alert");
    println!(
        "from kill -9 to the critical alert at the Alertmanager: {:.1} s",
        crashed.elapsed().as_secs_f64()
    );
    assert_eq!(alert["labels"]["peer"], follower, "{alert:#}");
    assert_eq!(alert["labels"]["group"], "default", "{alert:#}");
    assert!(
        alert["annotations"]["description"].as_str().is_some_and(|text| text.contains("nats")),
        "{alert:#}"
    );
    assert!(alertmanager.wait("META_001", "warning", false).await.is_none());
    // Nobody watches any more: that is told, and what was open stays so.
    watcher.kill().unwrap();
    alertmanager.wait("MetawatchQuiet", "critical", true).await;
    assert!(alertmanager.wait("META_001", "critical", true).await.is_some());
    watcher.again().unwrap();
    alertmanager.wait("MetawatchQuiet", "critical", false).await;
    cluster.boot(&follower).unwrap();
    alertmanager.wait("META_001", "critical", false).await;
    assert!(!forwarder.log().contains("WARN metawatch is"), "{}", forwarder.log());
}
