//! How a peer stands, in a few words.

use std::time::Duration;

use super::style::ago;
use crate::view::{Answer, Contact, Opinion, PeerView, Route};

/// So many reporters are named in one line.
const NAMED_MAX: usize = 8;

/// What the list says of a peer, and how it answered.
pub fn state(peer: &PeerView) -> String {
    let listed = match &peer.row {
        _ if peer.leader => "leader",
        Some(row) if row.offline => "offline",
        Some(row) if row.current => "current",
        Some(_) => "not current",
        None => "not listed",
    };
    let answer = match peer.answer {
        Answer::None => ", silent",
        Answer::Unreadable => ", unreadable",
        Answer::Disabled => ", JetStream off",
        Answer::Standalone => ", standalone",
        Answer::Member => "",
    };
    let announced = peer.announced.map_or_else(String::new, |(_, kind)| format!(", {kind}"));
    format!("{listed}{answer}{announced}")
}

/// How long ago the leader heard it, by the leader's list.
pub fn contact(peer: &PeerView) -> String {
    match (&peer.row, peer.contact) {
        (None, _) => "–".to_owned(),
        (Some(row), Contact::Away(_)) if row.active_ns == 0 => "never".to_owned(),
        (Some(row), _) => match u64::try_from(row.active_ns) {
            Ok(0) => "–".to_owned(),
            Ok(active) => ago(Duration::from_nanos(active)),
            Err(_) => "?".to_owned(),
        },
    }
}

/// What the reporters say, where they do not all say the same; and who holds a route, where that was asked.
pub fn opinions(peer: &PeerView) -> String {
    let offline = peer.opinions.values().filter(|said| **said == Opinion::Offline).count();
    let mut told: Vec<String> = Vec::new();
    if offline > 0 && offline < peer.opinions.len() {
        let word = |said: Opinion| if said == Opinion::Offline { "offline" } else { "online" };
        told.extend(
            peer.opinions.iter().take(NAMED_MAX).map(|(name, said)| format!("{name}: {}", word(*said))),
        );
    }
    if peer.answer == Answer::None && !peer.routes.is_empty() {
        let held: Vec<String> = peer
            .routes
            .iter()
            .filter(|(_, route)| **route == Route::Held)
            .take(NAMED_MAX)
            .map(|(name, _)| name.to_string())
            .collect();
        told.push(if held.is_empty() {
            "no route".to_owned()
        } else {
            format!("route from {}", held.join(" "))
        });
    }
    told.join(", ")
}
