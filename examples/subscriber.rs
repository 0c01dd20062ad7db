//! A service that acts on alerts: typed events from the library. Each incident is paged once and closed once, whatever
//! is delivered twice. What did not arrive, because this service started late or looked for another server just then, is
//! learned from the heartbeats; and when those are missing, that is an alarm, too.
//!
//! `cargo run --example subscriber -- nats://user:password@127.0.0.1:4222,127.0.0.1:4223`

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::check::Severity;
use metawatch::event::heartbeat::ActiveIncident;
use metawatch::event::incidents::{Beside, Heard, Incidents, Learned, Missed, Quiet};
use metawatch::event::{AlertEvent, Heartbeat};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let client = connect(&servers).await?;
    // All alerts, of which the critical ones are paged. `metawatch.critical.>` carries these alone.
    let alerts = client.subscribe("metawatch.alert.>").await?;
    let heartbeats = client.subscribe("metawatch.heartbeat").await?;
    client.flush().await?;
    say("listening")?;
    act(alerts, heartbeats).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long nothing is heard is counted on our own clock")]
async fn act(alerts: Subscriber, heartbeats: Subscriber) -> std::io::Result<()> {
    let mut messages = futures_util::stream::select(alerts, heartbeats);
    let mut incidents = Incidents::default();
    let mut paged = BTreeSet::new();
    let started = Instant::now();
    loop {
        // When nothing is heard of a system for so long, nobody watches it.
        let quiet_at = incidents.quiet_at().unwrap_or(Duration::MAX);
        let message = match timeout(quiet_at.saturating_sub(started.elapsed()), messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) => {
                for Quiet { system, .. } in incidents.quiet(started.elapsed()) {
                    say(&format!(
                        "PAGE     metawatch is quiet: nobody watches {}",
                        system.unwrap_or_default()
                    ))?;
                }
                continue;
            }
        };
        let now = started.elapsed();
        if let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) {
            let Learned { missed, back, beside, .. } = incidents.heartbeat(&heartbeat, now);
            if back {
                say(&format!("all well metawatch is heard again {}", heartbeat.system.unwrap_or_default()))?;
            }
            if let Some(Beside::Watcher { names: [one, other] }) = beside {
                writeln!(
                    std::io::stderr(),
                    "{one} and {other} watch one system and do not know of each other"
                )?;
            }
            for Missed { incident: missed, .. } in missed {
                let ActiveIncident { check, name, since, incident, state, severity, .. } = &missed;
                page(&mut paged, incident, *severity, *state, &format!("{check} {name}, since {since}"))?;
            }
        } else if let Ok(event) = serde_json::from_slice::<AlertEvent>(&message.payload) {
            // What is delivered again is no news.
            if let Heard::News { .. } = incidents.event(&event, now) {
                page(&mut paged, &event.incident, event.severity, event.state, &event.summary)?;
            }
        } else {
            writeln!(
                std::io::stderr(),
                "{} carries neither an alert event nor a heartbeat",
                message.subject
            )?;
        }
    }
}

/// Waits for the first connection, too; the client makes it again by itself whenever it is lost.
async fn connect(servers: &str) -> std::io::Result<async_nats::Client> {
    let (logins, addresses): (Vec<_>, Vec<_>) = servers.split(',').map(split).unzip();
    let login = logins.into_iter().flatten().next();
    let mut said = false;
    loop {
        let options = match login.clone() {
            Some((user, password)) => async_nats::ConnectOptions::with_user_and_password(user, password),
            None => async_nats::ConnectOptions::new(),
        };
        match options.max_reconnects(None).connect(&addresses[..]).await {
            Ok(client) => return Ok(client),
            Err(error) if !said => {
                writeln!(std::io::stderr(), "waiting for {}: {error}", addresses.join(","))?;
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Pages when an incident begins to fire or becomes critical, and says when a paged one is over.
fn page(
    paged: &mut BTreeSet<String>,
    incident: &str,
    severity: Severity,
    state: State,
    words: &str,
) -> std::io::Result<()> {
    let is_critical = severity == Severity::Critical;
    if state == State::Firing && is_critical && paged.insert(incident.to_owned()) {
        say(&format!("PAGE     {words}"))
    } else if state == State::Resolved && paged.remove(incident) {
        say(&format!("all well {words}"))
    } else {
        Ok(())
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.trim_end())?;
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
