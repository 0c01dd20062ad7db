//! A service that acts on alerts: typed events from the library. Each incident is paged once and closed once, whatever
//! is delivered twice; missing heartbeats are an alarm, too.
//!
//! `cargo run --example subscriber -- nats://user:password@127.0.0.1:4222`

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use metawatch::alert::{Reason, State};
use metawatch::event::{AlertEvent, Heartbeat};
use tokio::time::timeout;

/// How many incidents are remembered.
const REMEMBERED: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let (login, address) = split(&server);
    let options = match login {
        Some((user, password)) => async_nats::ConnectOptions::with_user_and_password(user, password),
        None => async_nats::ConnectOptions::new(),
    };
    let client = options.connect(address).await?;
    // The alerts of META_001 in every group; take `metawatch.alert.>` for everything.
    let alerts = client.subscribe("metawatch.alert.META_001.>").await?;
    let heartbeats = client.subscribe("metawatch.heartbeat").await?;
    client.flush().await?;
    say("listening")?;
    tokio::try_join!(act(alerts), miss(heartbeats))?;
    Ok(())
}

/// Acts on what is news. Whoever starts late learns of an alert from a reminder.
async fn act(mut alerts: Subscriber) -> std::io::Result<()> {
    let mut incidents: BTreeMap<String, (u64, State)> = BTreeMap::new();
    while let Some(message) = alerts.next().await {
        let event: AlertEvent = match serde_json::from_slice(&message.payload) {
            Ok(event) => event,
            Err(error) => {
                writeln!(std::io::stderr(), "{} carries no alert event: {error}", message.subject)?;
                continue;
            }
        };
        let known = incidents.get(&event.incident).copied();
        // Delivered again: an event's id is its incident and its seq.
        if known.is_some_and(|(seq, _)| event.seq <= seq) {
            continue;
        }
        incidents.insert(event.incident.clone(), (event.seq, event.state));
        if incidents.len() > REMEMBERED {
            incidents.pop_first();
        }
        let paged = known.is_some_and(|(_, state)| state == State::Firing);
        match event.state {
            State::Firing if !paged => say(&format!("PAGE     {}", event.summary))?,
            State::Resolved if event.reason != Reason::Withdrawn => {
                say(&format!("all well {}", event.summary))?
            }
            State::Firing | State::Resolved | State::Suspected => {}
        }
    }
    Ok(())
}

/// Says once when heartbeats are missing. They say themselves how many to expect.
async fn miss(heartbeats: Subscriber) -> std::io::Result<()> {
    let mut beats = heartbeats
        .filter_map(|message| std::future::ready(serde_json::from_slice::<Heartbeat>(&message.payload).ok()));
    let (mut patience, mut quiet) = (Duration::from_secs(30), false);
    loop {
        match timeout(patience, beats.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(beat)) => {
                let interval = Duration::from_millis(beat.interval_ms);
                patience = interval.saturating_mul(4).max(Duration::from_secs(10));
                if std::mem::take(&mut quiet) {
                    say("all well metawatch is heard again")?;
                }
            }
            Err(_) if !std::mem::replace(&mut quiet, true) => {
                say("PAGE     metawatch is quiet: nobody watches")?;
            }
            Err(_) => {}
        }
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Splits `nats://user:password@host` into the login and the address.
fn split(server: &str) -> (Option<(String, String)>, String) {
    let bare = server.trim_start_matches("nats://");
    match bare.split_once('@') {
        Some((login, host)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (Some((user.to_owned(), password.to_owned())), host.to_owned())
        }
        None => (None, bare.to_owned()),
    }
}
