//! `metawatch doctor` against real servers: all is well, each right is missing in turn, and it is the wrong place.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use metawatch::event::heartbeat::Status;
use serde_json::Value;
use tokio::process::Command;

use super::recipes::{shipped, with_accounts, with_accounts_of};
use crate::cluster::sidecar::Sidecar;
use crate::cluster::watch::Watching;
use crate::cluster::{Cluster, Layout, Node, tested_version};

const BINARY: &str = env!("CARGO_BIN_EXE_metawatch");
/// What nobody must have.
const OPTIONAL: [&str; 5] =
    ["$JS.EVENT.ADVISORY.DOMAIN", "$SRV", "metawatch.view", "metawatch.alerts", "metawatch.check"];
static OWN: [&str; 6] =
    ["--alert-user", "alerts", "--alert-password", "alerts", "--alert-inbox-prefix", "_METAWATCH"];

/// What `metawatch doctor` says as JSON, with its exit code.
async fn examine(cluster: &Cluster, server: &str, user: &str, more: &[&str]) -> (Option<i32>, Value) {
    let state = cluster.folder().join("nobody.state");
    let mut command = Command::new(BINARY);
    command
        .args(["doctor", "--format", "json", "--interval", "1s", "--server", &cluster.url(server)])
        .args(["--user", user, "--password", user, "--inbox-prefix", "_METAWATCH"])
        .args(more)
        .env_clear()
        .env("XDG_CONFIG_HOME", "/nowhere")
        .stdin(Stdio::null());
    if !more.contains(&"--state") {
        command.arg("--state").arg(state);
    }
    let ending = tokio::time::timeout(Duration::from_secs(60), command.output());
    let output = ending.await.expect("it ends").expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (output.status.code(), report)
}

/// The items of a topic with these outcomes: what each adds, else what it says.
fn found(report: &Value, outcomes: &[&str]) -> Vec<String> {
    let items = report["items"].as_array().expect("items").iter();
    let wanted = items.filter(|item| outcomes.contains(&item["outcome"].as_str().expect("an outcome")));
    wanted
        .map(|item| match item["add"]["subject"].as_str() {
            Some(subject) => {
                format!("{} {subject}", item["add"]["operation"].as_str().expect("an operation"))
            }
            None => format!(
                "{}: {}",
                item["topic"].as_str().expect("a topic"),
                item["text"].as_str().expect("a text")
            ),
        })
        .collect()
}

/// Everything that is not well.
fn lacks(report: &Value) -> Vec<String> {
    found(report, &["failed", "warning", "unknown"])
}

fn says(report: &Value, topic: &str, outcome: &str, words: &str) -> bool {
    let items = report["items"].as_array().expect("items");
    items.iter().any(|item| {
        item["topic"] == topic
            && item["outcome"] == outcome
            && item["text"].as_str().is_some_and(|text| text.contains(words))
    })
}

/// Whether the servers know messages that are not delivered.
fn traces() -> bool {
    tested_version().is_none_or(|version| metawatch::doctor::rights::knows_traces(&version))
}

/// Nothing has come but what watchers say.
async fn check_undisturbed(subscriber: &mut Subscriber) {
    let quiet = Duration::from_millis(200);
    while let Ok(Some(message)) = tokio::time::timeout(quiet, subscriber.next()).await {
        assert_eq!(message.subject.as_str(), "metawatch.heartbeat", "{message:?}");
    }
}

#[tokio::test]
async fn all_is_well_with_the_configuration_that_is_shipped_and_nobody_hears_of_it() {
    let cluster = with_accounts("user.conf").await;
    let app = cluster.client("app").await.unwrap();
    let mut heard = app.subscribe("metawatch.>").await.unwrap();
    app.flush().await.unwrap();
    for more in [[].as_slice(), &OWN] {
        let (code, report) = examine(&cluster, "s1", "metawatch", more).await;
        assert_eq!((code, lacks(&report)), (Some(0), vec![]), "{report:#}");
        assert!(says(&report, "group", "ok", "3 of 3 meta peers online"), "{report:#}");
        assert!(says(&report, "watchers", "note", "no other one is heard"), "{report:#}");
    }
    check_undisturbed(&mut heard).await;
    // The same beside a watcher that runs.
    let mut watch = cluster.observe(Watching { user: "app", ..Watching::default() }).await.unwrap();
    let login = ["--user", "metawatch", "--password", "metawatch", "--inbox-prefix", "_METAWATCH"];
    let running = Sidecar::start(&cluster, Path::new(BINARY), "one", &cluster.urls(), &login).unwrap();
    watch.expect_status(Status::Ok).await;
    let state = cluster.folder().join("one.state");
    let more = ["--state", state.to_str().unwrap()];
    let (code, report) = examine(&cluster, "s1", "metawatch", &more).await;
    assert_eq!((code, lacks(&report)), (Some(0), vec![]), "{report:#}");
    assert!(says(&report, "state", "ok", "a running metawatch uses it"), "{report:#}");
    assert!(says(&report, "watchers", "ok", "one runs"), "{report:#}");
    assert_eq!(running.log().matches("WARN").count(), 0, "{}", running.log());
    // Whoever sees the whole of it is told who hears alerts.
    let (_, report) = examine(&cluster, "s1", "admin", &[]).await;
    assert!(!traces() || says(&report, "alerts", "ok", "account APP"), "{report:#}");
    assert!(says(&report, "account", "ok", "SYS, the system account"), "{report:#}");
    check_undisturbed(&mut heard).await;
}

/// The lines of a list of permissions in the configuration that is shipped: list, subject, and where it begins.
fn permissions(user: &str) -> Vec<(&'static str, String)> {
    let text = shipped("user.conf");
    let start = text.find(&format!("user: {user}\n")).expect("the user");
    let end = start + text[start..].find("allow_responses").expect("the end of its rights");
    let mut list = "";
    let mut found = Vec::new();
    for line in text[start..end].lines().map(str::trim) {
        list = match line {
            _ if line.starts_with("publish:") => "publish",
            _ if line.starts_with("subscribe:") => "subscribe",
            _ => list,
        };
        if !line.starts_with('#') {
            found.extend(line.split('"').skip(1).step_by(2).map(|subject| (list, subject.to_owned())));
        }
    }
    found
}

/// A user that lacks one line of the configuration that is shipped.
struct Lacking {
    /// Whose line it is.
    user: &'static str,
    name: String,
    operation: &'static str,
    subject: String,
    more: &'static [&'static str],
}

/// The configuration that is shipped, with one more user for each of its lines.
fn users_that_lack_a_line() -> (String, Vec<Lacking>) {
    let text = shipped("user.conf");
    let mut accounts = text.clone();
    let mut cases = Vec::new();
    for (user, more) in [("metawatch", [].as_slice()), ("alerts", OWN.as_slice())] {
        let start = text.find(&format!("user: {user}\n")).expect("the user");
        let open = text[..start].rfind('{').expect("the user's block");
        let end = start + text[start..].find("allow_responses: true").expect("its end");
        let close = end + text[end..].find("\n      }").expect("its end") + "\n      }".len();
        let block = &text[open..close];
        for (number, (operation, subject)) in permissions(user).into_iter().enumerate() {
            let name = format!("{user}{number}");
            let list = block.find(&format!("{operation}:")).expect("the list");
            let at = list + block[list..].find(&format!("\"{subject}\"")).expect("the subject");
            let without = format!(
                "{}{}",
                &block[..at],
                block[at..].replacen(&format!("\"{subject}\""), "", 1).trim_start_matches(',')
            );
            let without = without.replace(&format!("user: {user}\n"), &format!("user: {name}\n"));
            let without = without.replace(&format!("${}_PASSWORD", user.to_uppercase()), &name);
            accounts = accounts.replacen(block, &format!("{block}\n{without}"), 1);
            cases.push(Lacking { user, name, operation, subject, more });
        }
    }
    (accounts, cases)
}

#[tokio::test]
async fn each_right_that_is_missing_is_named_with_the_line_to_add() {
    let (accounts, cases) = users_that_lack_a_line();
    let cluster = with_accounts_of(&accounts).await;
    let app = cluster.client("app").await.unwrap();
    let _heard = app.subscribe("metawatch.>").await.unwrap();
    app.flush().await.unwrap();
    let looks = cases.iter().map(|Lacking { user, name, operation, subject, more }| {
        let cluster = &cluster;
        async move {
            let own = more.iter().map(|word| if *word == *user { name.as_str() } else { word });
            let own: Vec<&str> = own.collect();
            let watching = if *user == "metawatch" { name } else { "metawatch" };
            let (code, report) = examine(cluster, "s1", watching, &own).await;
            let told = found(&report, &["failed", "warning", "unknown", "note"]);
            let well = (Some(0), vec![]);
            // One line of a configuration may stand for several rights, or be covered by another one.
            let missing: Vec<&str> = match (*operation, subject.as_str()) {
                ("publish", "$SYS.REQ.SERVER.PING.STATSZ") => {
                    return assert_eq!((code, lacks(&report)), well, "{name}");
                }
                // Of the connection that watches it is not needed.
                ("publish", "$SYS.REQ.USER.INFO") if *user == "metawatch" && traces() => {
                    return assert_eq!((code, lacks(&report)), well, "{name}");
                }
                ("publish", "$SYS.REQ.USER.INFO") if *user == "metawatch" => return,
                ("publish", "metawatch.>") => {
                    vec![
                        "publish metawatch.alert.>",
                        "publish metawatch.critical.>",
                        "publish metawatch.heartbeat",
                        "publish metawatch.watcher.*",
                    ]
                }
                _ => vec![],
            };
            let line = format!("{operation} {subject}");
            let missing = if missing.is_empty() { vec![line.as_str()] } else { missing };
            for line in &missing {
                assert!(told.iter().any(|told| told == line), "{name} lacks {line}: {told:#?}");
            }
            let others: Vec<&String> = told.iter().filter(|told| !missing.contains(&told.as_str())).collect();
            let alone = others.iter().all(|told| {
                ["watchers:", "account:", "alerts:", "right: publish $SYS.REQ.SERVER.PING.RAFTZ: nobody"]
                    .iter()
                    .any(|topic| told.starts_with(topic))
            });
            // Without its inbox nothing else can be known, and without the account of itself not what it may publish.
            let blind = ["_METAWATCH.>", "$SYS.REQ.USER.INFO"].contains(&subject.as_str());
            assert!(alone || blind || missing.len() > 1, "{name} lacks {line}: {told:#?}");
            let optional = OPTIONAL.iter().any(|start| subject.starts_with(start));
            assert_eq!(code, Some(if optional { 0 } else { 1 }), "{name} lacks {line}: {told:#?}");
        }
    });
    let looks: Vec<_> = looks.collect();
    assert!(looks.len() > 20, "{} rights were tried", looks.len());
    futures_util::stream::iter(looks).buffer_unordered(6).collect::<Vec<()>>().await;
}

/// One server, which is in no meta group.
pub(super) async fn alone(layout: Layout) -> Cluster {
    let mut cluster = Cluster::prepare(layout.version(tested_version().as_deref())).await.unwrap();
    cluster.boot("s1").unwrap();
    cluster.client_soon("admin").await;
    cluster
}

#[tokio::test]
async fn a_user_without_any_right_is_told_all_that_it_lacks() {
    let none = || vec!["nothing.at.all".to_owned()];
    let user = crate::cluster::User { account: "SYS", name: "bare", publish: none(), subscribe: none() };
    let cluster = alone(Layout::cluster(1).user(user)).await;
    let (code, report) = examine(&cluster, "s1", "bare", &[]).await;
    assert_eq!(code, Some(1));
    let told = found(&report, &["failed", "warning"]);
    for right in [
        "subscribe _METAWATCH.>",
        "publish $SYS.REQ.SERVER.PING.JSZ",
        "publish $SYS.REQ.SERVER.PING.STATSZ",
        "publish $SYS.REQ.SERVER.*.HEALTHZ",
        "publish $SYS.REQ.SERVER.PING.RAFTZ",
        "subscribe $SYS.SERVER.*.SHUTDOWN",
        "subscribe metawatch.watcher.*",
    ] {
        assert!(told.iter().any(|told| told == right), "{right}: {told:#?}");
    }
    // What could not be tried is never called well.
    assert!(!found(&report, &["ok"]).iter().any(|told| told.starts_with("right:")), "{report:#}");
    assert!(says(&report, "account", "unknown", "no server answers"), "{report:#}");
}

#[tokio::test]
async fn the_wrong_account_an_export_and_a_leaf_node_are_told_apart() {
    let mut layout = Layout::cluster(3).version(tested_version().as_deref());
    let version = tested_version();
    layout.nodes.push(Node {
        leaf_of: Some("c1".into()),
        jetstream: false,
        version,
        ..Node::new("leaf1", "leaf1")
    });
    let cluster = Cluster::start(layout).await.unwrap();
    let (code, report) = examine(&cluster, "s1", "app", &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        lacks(&report),
        ["account: APP is not the system account: no server answers there"],
        "{report:#}"
    );
    let (_, report) = examine(&cluster, "leaf1", "admin", &[]).await;
    assert!(says(&report, "account", "note", "leaf1 is a leaf node"), "{report:#}");
    assert!(says(&report, "versions", "ok", "on 4 servers"), "{report:#}");
    drop(cluster);
    let cluster = with_accounts("service-export.conf").await;
    let (_, report) = examine(&cluster, "s1", "monitor", &[]).await;
    assert!(says(&report, "account", "note", "MONITORING imports the questions"), "{report:#}");
    assert!(says(&report, "group", "ok", "3 of 3 meta peers online"), "{report:#}");
}

#[tokio::test]
async fn a_leaf_node_with_a_system_account_of_its_own_is_no_place_to_watch_from() {
    // Its hub is not there, and need not be.
    let mut layout = Layout::cluster(1);
    layout.extra = "leafnodes { remotes: [{ url: \"nats-leaf://127.0.0.1:1\", account: APP }] }\n".to_owned();
    let cluster = alone(layout).await;
    let (code, report) = examine(&cluster, "s1", "admin", &[]).await;
    assert_eq!(code, Some(1));
    assert!(says(&report, "group", "failed", "no meta group"), "{report:#}");
}
