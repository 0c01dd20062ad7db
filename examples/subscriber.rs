//! A service that acts on alerts: typed events from the library, duplicates left out by their id.
//!
//! `cargo run --example subscriber -- nats://user:password@127.0.0.1:4222`

use std::collections::VecDeque;
use std::io::Write;

use futures_util::StreamExt;
use metawatch::alert::State;
use metawatch::event::AlertEvent;

/// How many ids are remembered: deliveries are repeated within seconds, if at all.
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
    // Critical and resolved alerts of META_001 in every group; take `metawatch.alert.>` for everything.
    let mut alerts = client.subscribe("metawatch.alert.META_001.>").await?;
    let mut seen: VecDeque<String> = VecDeque::new();
    while let Some(message) = alerts.next().await {
        let event: AlertEvent = match serde_json::from_slice(&message.payload) {
            Ok(event) => event,
            Err(error) => {
                writeln!(std::io::stderr(), "{} carries no alert event: {error}", message.subject)?;
                continue;
            }
        };
        if seen.contains(&event.id) {
            continue;
        }
        seen.push_front(event.id.clone());
        seen.truncate(REMEMBERED);
        let mut out = std::io::stdout().lock();
        match event.state {
            State::Firing => writeln!(out, "PAGE     {} ({})", event.summary, event.incident)?,
            State::Resolved => writeln!(out, "all well {} ({})", event.summary, event.incident)?,
            State::Suspected => writeln!(out, "watch    {}", event.summary)?,
        }
    }
    Ok(())
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
