use State::{Firing, Resolved, Suspected};

use super::*;

const FIRING: &str = include_str!("../../../tests/events/v1/meta_001-firing-reported.json");

fn outgoing(incident: &str, seq: u64, state: State) -> Outgoing {
    let mut event: crate::event::AlertEvent = serde_json::from_str(FIRING).unwrap();
    event.incident = incident.to_owned();
    event.seq = seq;
    event.state = state;
    Outgoing { subject: String::new(), headers: Vec::new(), event }
}

fn filled(limit: usize, events: &[(&str, u64, State)]) -> Outbox {
    let mut outbox = Outbox::new(limit);
    for (incident, seq, state) in events {
        outbox.push(outgoing(incident, *seq, *state));
    }
    outbox
}

fn left(outbox: &Outbox) -> Vec<(&str, u64)> {
    outbox.iter().map(|event| (event.event.incident.as_str(), event.event.seq)).collect()
}

#[test]
fn events_leave_in_the_order_in_which_they_came() {
    let mut outbox = filled(9, &[("a", 1, Suspected), ("b", 1, Firing), ("a", 2, Firing)]);
    let mut order = Vec::new();
    while let Some(event) = outbox.take() {
        order.push((event.event.incident, event.event.seq));
    }
    assert_eq!(order, [("a".to_owned(), 1), ("b".to_owned(), 1), ("a".to_owned(), 2)]);
    assert!(outbox.is_empty() && outbox.newest.is_empty() && outbox.overtaken.is_empty());
}

#[test]
fn an_overtaken_event_makes_room_before_a_resolved_incident() {
    let mut outbox = filled(3, &[("a", 3, Resolved), ("b", 1, Suspected), ("b", 2, Firing)]);
    outbox.push(outgoing("c", 1, Firing));
    assert_eq!((left(&outbox), outbox.dropped()), (vec![("a", 3), ("b", 2), ("c", 1)], 1));
    outbox.push(outgoing("d", 1, Firing));
    assert_eq!((left(&outbox), outbox.dropped()), (vec![("b", 2), ("c", 1), ("d", 1)], 2));
}

#[test]
fn the_event_that_comes_may_be_the_one_that_overtakes() {
    let mut outbox = filled(2, &[("a", 1, Firing), ("b", 1, Firing)]);
    outbox.push(outgoing("b", 2, Resolved));
    assert_eq!(left(&outbox), [("a", 1), ("b", 2)], "the alert that fires is not forgotten for its sake");
}

#[test]
fn an_end_is_dropped_before_the_newest_state_of_a_firing_alert() {
    let mut outbox = filled(2, &[("a", 1, Firing), ("b", 1, Firing)]);
    outbox.push(outgoing("c", 5, Resolved));
    assert_eq!((left(&outbox), outbox.dropped()), (vec![("a", 1), ("b", 1)], 1));
}

#[test]
fn an_incident_that_fires_again_counts_as_firing() {
    let mut outbox = filled(3, &[("a", 2, Resolved), ("a", 3, Firing), ("b", 9, Resolved)]);
    outbox.push(outgoing("c", 1, Firing));
    outbox.push(outgoing("d", 1, Firing));
    assert_eq!(left(&outbox), [("a", 3), ("c", 1), ("d", 1)]);
}

#[test]
fn what_was_taken_out_overtakes_nothing() {
    let mut outbox = filled(2, &[("a", 1, Firing), ("b", 1, Firing)]);
    assert_eq!(outbox.take().unwrap().event.incident, "a");
    outbox.push(outgoing("a", 2, Firing));
    outbox.push(outgoing("b", 2, Firing));
    assert_eq!(left(&outbox), [("a", 2), ("b", 2)]);
}

#[test]
fn when_all_else_is_equal_the_oldest_goes() {
    let outbox = filled(2, &[("a", 1, Firing), ("b", 1, Firing), ("c", 1, Firing)]);
    assert_eq!(left(&outbox), [("b", 1), ("c", 1)]);
}

/// Looking through the others for every event that comes would be 10^8 comparisons here, and more.
#[test]
fn a_burst_while_nobody_can_be_told_is_taken_at_once() {
    const LIMIT: usize = 10_000;
    let event = outgoing("", 1, Firing);
    let mut outbox = Outbox::new(LIMIT);
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
    let begin = std::time::Instant::now();
    // Nothing is overtaken and nothing resolved: the hardest case. Then each is told a second and a third time.
    for round in 1..=3 {
        for number in 0..LIMIT {
            let mut event = event.clone();
            event.event.incident = format!("incident-{number}");
            event.event.seq = round;
            outbox.push(event);
        }
    }
    let took = begin.elapsed();
    assert_eq!((outbox.len(), outbox.dropped()), (LIMIT, 2 * LIMIT as u64));
    assert!(outbox.iter().all(|event| event.event.seq == 3), "the newest state of each is there");
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
}
