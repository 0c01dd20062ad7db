//! The consumers that are shipped for others to copy, each in its own language, against a real alert.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::AlertEvent;
use metawatch::event::heartbeat::Status;

use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, LONG, Layout, tested_version};

/// The versions of the client libraries that the consumers are tested with.
const PYTHON_CLIENT: &str = "nats-py==2.11.0";
const NODE_CLIENT: &str = "@nats-io/transport-node@3.2.0";
/// A registry that does not answer by then is not there.
const INSTALL_MAX: &str = "120";

fn consumer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/consumers").join(name)
}

/// Where client libraries are installed: below `target`.
fn libraries(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/consumers").join(language);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a program to its end; whether it succeeded.
fn succeeds(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let mut command = Command::new("timeout");
    command.arg(INSTALL_MAX).arg(program).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What runs `alerts.py`, when Python and its client library can be had.
fn python() -> Option<Command> {
    let folder = libraries("python");
    let site = folder.display().to_string();
    let installed = folder.join("nats").is_dir()
        || succeeds(
            "python3",
            &["-m", "pip", "install", "--quiet", "--target", &site, PYTHON_CLIENT],
            &folder,
        );
    installed.then(|| {
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", folder).arg(consumer("alerts.py"));
        command
    })
}

/// What runs `alerts.mjs`, when Node.js and its client library can be had.
fn node() -> Option<Command> {
    let folder = libraries("node");
    let installed = folder.join("node_modules/@nats-io/transport-node").is_dir()
        || succeeds("npm", &["install", "--silent", "--no-save", "--prefix", ".", NODE_CLIENT], &folder);
    // A module is looked for beside the file that imports it.
    let copy = folder.join("alerts.mjs");
    std::fs::copy(consumer("alerts.mjs"), &copy).unwrap();
    installed.then(|| {
        let mut command = Command::new("node");
        command.arg(copy);
        command
    })
}

/// What runs `alerts.sh`, when bash, jq and the nats CLI are there.
fn shell() -> Option<Command> {
    let there = |program: &str| succeeds(program, &["--version"], Path::new("."));
    ["bash", "jq", "nats"].into_iter().all(there).then(|| {
        let mut command = Command::new("bash");
        command.arg(consumer("alerts.sh"));
        command
    })
}

/// What runs `subscriber.rs`: the tests build it, unless only some of them were asked for.
fn rust() -> Option<Command> {
    let binary = Path::new(env!("CARGO_BIN_EXE_metawatch")).with_file_name("examples/subscriber");
    binary.is_file().then(|| Command::new(binary))
}

/// A running consumer, and the lines that it prints.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        // A process group of its own: a pipeline ends as a whole.
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        Self { child, lines }
    }

    /// The next line, which must begin so.
    #[track_caller]
    fn expect(&self, beginning: &str) -> String {
        let line =
            self.lines.recv_timeout(LONG).unwrap_or_else(|_| panic!("no line begins with {beginning:?}"));
        assert!(line.starts_with(beginning), "{line:?} does not begin with {beginning:?}");
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status().ok();
        self.child.wait().ok();
    }
}

/// A consumer is told of a stop and of the return, once each and whatever else is said, and of the watcher's end.
async fn check(language: &str, command: Option<Command>, address: impl Fn(&str) -> Vec<String>) {
    let Some(mut command) = command else {
        crate::support::skipped(&format!(
            "the consumer in {language}: its language, library or program cannot be had here"
        ));
        return;
    };
    let mut cluster = Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    let mut names = cluster.names();
    names.retain(|name| *name != follower);
    let servers = names.iter().map(|name| cluster.url(name)).collect::<Vec<_>>().join(",");
    command.args(address(&servers));
    let consumer = Running::start(command);
    consumer.expect("listening");
    // The shell says so before its subscriptions have reached the server.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watch =
        cluster.watch(Watching { servers: servers.clone(), ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    cluster.stop(&follower).await.unwrap();
    let firing = watch.expect_peer(&follower, State::Firing).await;
    assert_eq!(consumer.expect("PAGE     "), format!("PAGE     {}", firing.summary));
    cluster.boot(&follower).unwrap();
    let resolved = watch.expect_peer(&follower, State::Resolved).await;
    assert_eq!(consumer.expect("all well "), format!("all well {}", resolved.summary));
    // An incident whose events never arrive: heartbeats tell of it, and that it is over.
    let mut beat = serde_json::to_value(watch.expect_status(Status::Ok).await).unwrap();
    watch.stop().await;
    let missed = serde_json::json!({"check": "META_001", "group": "default", "name": "s9", "state": "firing",
        "severity": "critical", "incident": "missed", "seq": 3, "since": "2026-11-23T09:40:15.417Z"});
    let sender = cluster.client("admin").await.unwrap();
    for (second, active) in [&[missed.clone()][..], &[missed], &[], &[]].into_iter().enumerate() {
        beat["timestamp"] = format!("2099-01-01T00:00:0{second}.000Z").into();
        beat["status"] = if active.is_empty() { "ok" } else { "alerting" }.into();
        beat["active"] = active.into();
        sender.publish("metawatch.heartbeat", beat.to_string().into()).await.unwrap();
    }
    sender.flush().await.unwrap();
    let told = consumer.expect("PAGE     ");
    assert!(told.contains("s9") && told.contains("since 2026-11-23T09:40:15.417Z"), "{told}");
    let told = consumer.expect("all well ");
    assert!(told.contains("s9"), "{told}");
    check_whose_word_counts(&consumer, &sender, beat, &firing.event).await;
    // The same again, and what is no event at all.
    let stranger = cluster.client("admin").await.unwrap();
    let again = serde_json::to_string(&firing.event).unwrap();
    let strange =
        ["", "}{", "null", "[1]", r#"{"incident":[],"seq":{}}"#, r#"{"interval_ms":"a"}"#, "\u{1b}[2J"];
    for payload in strange.into_iter().map(str::to_owned).chain([again.clone(), again]) {
        stranger.publish(firing.subject.clone(), payload.clone().into()).await.unwrap();
        stranger.publish("metawatch.heartbeat", "}{".into()).await.unwrap();
    }
    stranger.flush().await.unwrap();
    // Two systems were heard.
    consumer.expect("PAGE     metawatch is quiet");
    consumer.expect("PAGE     metawatch is quiet");
    let mut watch = cluster.watch(Watching { servers, ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    consumer.expect("all well metawatch is heard again");
}

/// A consumer that is given several servers waits for the first of them that is there, finds one again after a loss,
/// and says little meanwhile.
async fn check_waits(language: &str, command: Option<Command>, address: impl Fn(&str) -> Vec<String>) {
    let Some(mut command) = command else {
        crate::support::skipped(&format!(
            "the consumer in {language}: its language or library cannot be had here"
        ));
        return;
    };
    let mut layout = Layout::cluster(1).version(tested_version().as_deref());
    // One server makes no meta group, and needs none to carry messages.
    layout.nodes[0].jetstream = false;
    let mut cluster = Cluster::start(layout).await.unwrap();
    let name = cluster.names().remove(0);
    cluster.stop(&name).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let complaints = home.path().join("stderr");
    command.args(address(&format!("nats://127.0.0.1:1,{}", cluster.url(&name))));
    command.stderr(std::fs::File::create(&complaints).unwrap());
    let consumer = Running::start(command);
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.boot(&name).unwrap();
    consumer.expect("listening");
    cluster.stop(&name).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.boot(&name).unwrap();
    let kept = include_str!("../events/v1/meta_001-firing-observed.json");
    let mut event: AlertEvent = serde_json::from_str(kept).unwrap();
    event.summary = "s7 is offline".to_owned();
    let mut heard = None;
    for _ in 0..60 {
        if let Ok(sender) = cluster.client("admin").await {
            let payload = serde_json::to_vec(&event).unwrap();
            sender.publish("metawatch.alert.META_001.default.s7.firing", payload.into()).await.ok();
            sender.flush().await.ok();
        }
        heard = consumer.lines.recv_timeout(Duration::from_secs(1)).ok();
        if heard.is_some() {
            break;
        }
    }
    assert_eq!(heard.as_deref(), Some("PAGE     s7 is offline"));
    let complaints = std::fs::read_to_string(complaints).unwrap();
    assert!((1..=6).contains(&complaints.lines().count()), "{complaints}");
}

/// A watcher of another system ends nothing. The next one of the same system, whose clock is an hour behind,
/// ends what the one before left behind, once that is silent.
async fn check_whose_word_counts(
    consumer: &Running,
    sender: &async_nats::Client,
    mut beat: serde_json::Value,
    firing: &AlertEvent,
) {
    let instance = "0123456789abcdef".to_owned();
    let mut event =
        AlertEvent { incident: "left".to_owned(), id: "left.1".to_owned(), seq: 1, ..firing.clone() };
    event.summary = "s8 is offline".to_owned();
    event.monitor.instance.clone_from(&instance);
    let subject = event.subject("metawatch", "s8");
    sender.publish(subject.clone(), serde_json::to_vec(&event).unwrap().into()).await.unwrap();
    sender.flush().await.unwrap();
    assert_eq!(consumer.expect("PAGE     "), "PAGE     s8 is offline");
    let mut say = async |system: Option<&str>, instance: &str| {
        beat["system"] = system.into();
        beat["monitor"]["instance"] = instance.into();
        beat["epoch"]["id"] = format!("{instance}-1").into();
        beat["timestamp"] = "2020-01-01T00:00:00.000Z".into();
        sender.publish("metawatch.heartbeat", beat.to_string().into()).await.unwrap();
        sender.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    for _ in 0..12 {
        say(Some("another"), "stranger").await;
    }
    let system = event.system.clone();
    // Its own end is the next that is told of it: the stranger ended nothing.
    for seq in 2..=3 {
        (event.seq, event.state) = (seq, if seq == 2 { State::Resolved } else { State::Firing });
        event.id = format!("left.{seq}");
        event.summary = format!("s8 for the {seq}. time");
        sender.publish(subject.clone(), serde_json::to_vec(&event).unwrap().into()).await.unwrap();
        sender.flush().await.unwrap();
    }
    assert_eq!(consumer.expect("all well "), "all well s8 for the 2. time");
    assert_eq!(consumer.expect("PAGE     "), "PAGE     s8 for the 3. time");
    let mut ended = None;
    for _ in 0..180 {
        say(Some("another"), "stranger").await;
        say(system.as_deref(), "next").await;
        ended = consumer.lines.try_recv().ok();
        if ended.is_some() {
            break;
        }
    }
    assert!(ended.as_ref().is_some_and(|line| line.starts_with("all well ")), "{ended:?}");
}

#[tokio::test]
async fn the_consumer_in_python_acts_on_each_alert_once() {
    let address = |url: &str| vec![url.replace("nats://", "nats://admin:admin@")];
    check("Python", python(), address).await;
}

#[tokio::test]
async fn the_consumer_in_rust_acts_on_each_alert_once() {
    let address = |url: &str| vec![url.replace("nats://", "nats://admin:admin@")];
    check("Rust", rust(), address).await;
}

#[tokio::test]
async fn the_consumer_in_javascript_acts_on_each_alert_once() {
    let address = |url: &str| {
        ["admin", "admin"].into_iter().fold(vec![url.replace("nats://", "")], |mut all, word| {
            all.push(word.to_owned());
            all
        })
    };
    check("JavaScript", node(), address).await;
}

#[tokio::test]
async fn the_consumer_in_the_shell_acts_on_each_alert_once() {
    let address =
        |url: &str| ["--server", url, "--user", "admin", "--password", "admin"].map(str::to_owned).to_vec();
    check("the shell", shell(), address).await;
}

#[tokio::test]
async fn consumers_wait_for_a_server_of_their_list_and_find_it_again() {
    // The login stands in the first address only.
    let url = |servers: &str| vec![servers.replacen("nats://", "nats://admin:admin@", 1)];
    check_waits("Python", python(), url).await;
    check_waits("Rust", rust(), url).await;
    let words = |servers: &str| vec![servers.replace("nats://", ""), "admin".to_owned(), "admin".to_owned()];
    check_waits("JavaScript", node(), words).await;
}
