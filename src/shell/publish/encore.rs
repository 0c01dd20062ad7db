//! What was told while the clients of a stopping server looked for another one, is told once more.
//!
//! The alert about a server that stops goes out at the very moment when that server's clients lose their connection
//! (measured: all of five subscribers missed it), and core NATS keeps nothing for who is away.

use std::time::Duration;

use crate::event::Outgoing;
use crate::stamp::Stamp;

/// By then clients are connected to another server: they try one at once, and wait 2 s before they try one again.
const AWAY: Duration = Duration::from_secs(3);
/// So many events are told once more.
const EVENTS_MAX: usize = 1_000;

/// The events that are to be told once more.
#[derive(Debug, Default)]
pub(super) struct Encore {
    stopped: Option<Stamp>,
    /// Of each incident the newest.
    events: Vec<Outgoing>,
    due: Option<Stamp>,
}

impl Encore {
    /// A server has said that it stops.
    pub(super) fn server_stopped(&mut self, at: Stamp) {
        self.stopped = self.stopped.max(Some(at));
    }

    /// Takes an event that is told now. Whatever was told of its incident before is outdated.
    pub(super) fn note(&mut self, event: &Outgoing, now: Stamp) {
        self.events.retain(|earlier| earlier.event.incident != event.event.incident);
        let away = self.stopped.is_some_and(|at| now.since(at) <= AWAY);
        if away && self.events.len() < EVENTS_MAX {
            self.events.push(event.clone());
            self.due.get_or_insert(now.plus(AWAY));
        }
    }

    /// When something is to be told once more.
    pub(super) fn due(&self) -> Option<Stamp> {
        self.due
    }

    /// What is to be told once more, when it is time.
    pub(super) fn take(&mut self, now: Stamp) -> Vec<Outgoing> {
        if self.due.is_none_or(|due| !now.has_reached(due)) {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Stamp {
        Stamp::new(0, 0).plus(Duration::from_millis(millis))
    }

    fn event(incident: &str, seq: u64) -> Outgoing {
        let kept = include_str!("../../../tests/events/v1/meta_001-firing-reported.json");
        let mut event: crate::event::AlertEvent = serde_json::from_str(kept).expect("an event");
        (event.incident, event.seq) = (incident.to_owned(), seq);
        Outgoing { subject: "m.alert.x".to_owned(), headers: Vec::new(), event }
    }

    fn told(events: &[Outgoing]) -> Vec<(&str, u64)> {
        events.iter().map(|event| (event.event.incident.as_str(), event.event.seq)).collect()
    }

    #[test]
    fn what_is_told_soon_after_a_stop_is_told_once_more_and_nothing_else() {
        let mut encore = Encore::default();
        encore.note(&event("before", 1), at(0));
        assert_eq!(encore.due(), None, "no server stopped");
        encore.server_stopped(at(1_000));
        encore.note(&event("a", 1), at(1_010));
        encore.note(&event("b", 1), at(2_500));
        encore.note(&event("late", 1), at(4_001));
        assert_eq!(encore.due(), Some(at(4_010)));
        assert!(encore.take(at(4_009)).is_empty());
        assert_eq!(told(&encore.take(at(4_010))), [("a", 1), ("b", 1)]);
        assert_eq!(encore.due(), None);
        assert!(encore.take(at(9_000)).is_empty(), "once");
    }

    #[test]
    fn an_outdated_event_never_comes_after_a_newer_one() {
        let mut encore = Encore::default();
        encore.server_stopped(at(0));
        encore.note(&event("a", 1), at(10));
        encore.note(&event("a", 2), at(2_000));
        encore.note(&event("b", 1), at(2_000));
        encore.note(&event("b", 2), at(3_500));
        assert_eq!(told(&encore.take(at(3_600))), [("a", 2)]);
    }
}
