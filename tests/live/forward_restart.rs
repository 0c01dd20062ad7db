//! `metawatch forward` that is restarted while a receiver is away, and what a real Alertmanager takes of odd events.

use serde_json::{Value, json};

use super::doctor::alone;
use super::forward::{Alertmanager, Forwarder, Mock, event, publish};
use crate::cluster::Layout;

#[tokio::test]
async fn a_receiver_that_is_away_gets_everything_in_order_although_the_forwarder_was_killed_and_restarted() {
    let cluster = alone(Layout::cluster(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // Nobody listens there yet.
    let address = format!("127.0.0.1:{}", metawatch::shell::demo::process::free_port().unwrap());
    let hook = format!("http://{address}/hook?key=s3cr3t-t0k3n");
    let flags = ["--webhook", &hook, "--state", state.to_str().unwrap()];
    let forwarder = Forwarder::start(&cluster, &flags);
    forwarder.says("forwarding to webhook http").await;
    publish(&cluster, &event(1, "suspected")).await;
    forwarder.says("it cannot be reached").await;
    wait_until(|| std::fs::read_to_string(&state).is_ok_and(|text| text.contains("suspected"))).await;
    forwarder.kill().await;

    let forwarder = Forwarder::start(&cluster, &flags);
    forwarder.says("1 events have waited since before the restart").await;
    forwarder.says("forwarding to webhook http").await;
    publish(&cluster, &event(2, "firing")).await;
    publish(&cluster, &event(1, "suspected")).await;
    publish(&cluster, &event(3, "resolved")).await;
    forwarder.says("it cannot be reached").await;
    let log = forwarder.stop().await;
    assert!(log.contains("stopped before every alert had arrived"), "{log}");

    let mock = Mock::default();
    mock.listen_on(&address).await;
    let forwarder = Forwarder::start(&cluster, &flags);
    let sent = mock.sent(3).await;
    let told: Vec<(u64, &str)> = sent
        .iter()
        .map(|(_, body)| (body["seq"].as_u64().unwrap(), body["state"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(1, "suspected"), (2, "firing"), (3, "resolved")]);
    forwarder.says("3 events have waited since before the restart").await;
    forwarder.stop().await;

    // What has arrived does not come again, and nothing in the file is a secret.
    let forwarder = Forwarder::start(&cluster, &flags);
    forwarder.says("forwarding to webhook http").await;
    publish(&cluster, &event(3, "resolved")).await;
    publish(&cluster, &event(4, "firing")).await;
    assert_eq!(mock.sent(4).await[3].1["seq"], 4);
    assert!(!forwarder.log().contains("have waited"), "{}", forwarder.log());
    assert!(!std::fs::read_to_string(&state).unwrap().contains("s3cr3t"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&state).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::cluster::LONG, waiting).await.expect("in time");
}

#[tokio::test]
async fn the_real_alertmanager_takes_events_with_odd_times_names_and_lengths() {
    let Some(alertmanager) = Alertmanager::start().await else {
        crate::support::skipped("a real Alertmanager, because there is none on this machine");
        return;
    };
    let cluster = alone(Layout::cluster(1)).await;
    let url = format!("http://{}", alertmanager.address);
    let forwarder = Forwarder::start(&cluster, &["--alertmanager", &url, "--state", "none"]);
    forwarder.says("forwarding to alertmanager").await;
    let odd = |check: &str, change: &dyn Fn(&mut Value)| {
        let mut event = event(1, "firing");
        (event["check"], event["incident"], event["id"]) = (check.into(), check.into(), check.into());
        change(&mut event);
        event
    };
    let events = [
        odd("LATER", &|event| event["since"] = "2101-01-01T00:00:00Z".into()),
        odd("NEVER", &|event| event["since"] = "yesterday".into()),
        odd("QUOTED", &|event| event["peer"]["name"] = "a\"b\\c\nd\u{0}e\u{202e}f".into()),
        odd("LONG", &|event| event["summary"] = "x".repeat(200_000).into()),
        odd("NAMELESS", &|event| event["peer"] = json!({"id": ""})),
        odd("PLAIN", &|_| {}),
    ];
    for event in &events {
        publish(&cluster, event).await;
    }
    for event in &events {
        let check = event["check"].as_str().unwrap();
        let alert = alertmanager.wait(check, "critical", true).await.unwrap();
        assert!(alert["startsAt"].as_str().unwrap() < "2100", "{alert:#}");
    }
    assert!(
        !forwarder.log().contains("refuses") && !forwarder.log().contains("does not take"),
        "{}",
        forwarder.log()
    );
    let log = forwarder.stop().await;
    assert!(!log.contains("stopped before"), "{log}");
}
