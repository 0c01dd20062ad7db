use async_nats::HeaderValue;

use super::*;
use crate::stamp::Stamp;

/// A real event, made by the pipeline from a list with a peer offline.
fn events(count: usize) -> Vec<Outgoing> {
    use crate::epoch::{Epoch, Heard, Plan};
    use crate::shell::collect::fake::{Answer, jsz};
    let monitor = crate::event::Monitor { name: "t".into(), version: "0".into(), instance: "i".into() };
    let settings = crate::pipeline::Settings {
        rules: Default::default(),
        life: Default::default(),
        monitor,
        prefix: "metawatch".into(),
    };
    let plan = Plan {
        number: 1,
        expected: Default::default(),
        learning: true,
        ask_statsz: false,
        patience: Duration::from_secs(1),
        settle: Duration::ZERO,
    };
    let now = Stamp::new(0, 1_795_380_222_300_000_000);
    let mut epoch = Epoch::open(plan, now);
    let Answer::Payload(reply) = jsz("s1", Some("s1"), &["s3"]) else { unreachable!() };
    epoch.hear(now, Heard::Jsz { epoch: 1, payload: reply.as_bytes() });
    let gathered = epoch.close(now, crate::epoch::Ended::AllHeard);
    let step = crate::pipeline::Pipeline::new(settings).step(&gathered);
    let event = step.events.into_iter().next().expect("an event");
    let mut events = vec![event; count];
    for (seq, event) in (1..).zip(&mut events) {
        event.event.seq = seq;
    }
    events
}

fn outbox(count: usize) -> Outbox {
    let mut outbox = Outbox::new(OUTBOX_MAX);
    for event in events(count) {
        outbox.push(event);
    }
    outbox
}

fn publish_all(flight: &mut Flight, outbox: &mut Outbox) -> Vec<u64> {
    let mut seqs = Vec::new();
    while flight.published < FLIGHT_MAX
        && let Some(next) = flight.next(outbox)
    {
        seqs.push(next.event.seq);
        flight.published += 1;
    }
    seqs
}

#[test]
fn what_was_not_confirmed_before_a_loss_is_published_again_in_order() {
    let (mut flight, mut outbox) = (Flight { generation: 1, ..Flight::default() }, outbox(3));
    assert_eq!(publish_all(&mut flight, &mut outbox), [1, 2, 3]);
    assert_eq!(flight.settle(1, false), 0, "no answer yet: neither confirmed nor lost");
    assert_eq!(flight.published, 3);
    assert_eq!(flight.settle(2, true), 0, "answered, but on another connection");
    flight.generation = 2;
    for event in events(4).into_iter().skip(3) {
        outbox.push(event);
    }
    assert_eq!(publish_all(&mut flight, &mut outbox), [1, 2, 3, 4]);
    assert_eq!(flight.settle(2, true), 4);
    assert!(publish_all(&mut flight, &mut outbox).is_empty());
}

#[test]
fn events_in_flight_are_bounded() {
    let (mut flight, mut outbox) = (Flight { generation: 1, ..Flight::default() }, outbox(FLIGHT_MAX + 5));
    assert_eq!(publish_all(&mut flight, &mut outbox).len(), FLIGHT_MAX);
    assert_eq!(outbox.len(), 5);
    assert_eq!(flight.settle(1, true), FLIGHT_MAX);
    assert_eq!(publish_all(&mut flight, &mut outbox).len(), 5);
}

#[test]
fn an_event_that_nobody_can_take_does_not_hold_up_the_others() {
    let (mut flight, mut outbox) = (Flight { generation: 1, ..Flight::default() }, outbox(3));
    assert_eq!(flight.next(&mut outbox).unwrap().event.seq, 1);
    flight.give_up();
    assert_eq!(publish_all(&mut flight, &mut outbox), [2, 3]);
}

#[test]
fn a_refused_subject_is_tried_again_after_a_while() {
    let at = |seconds: i64| Stamp::new(seconds * 1_000_000_000, 0);
    let mut gate = Gate { shut: Some(at(0)), ..Gate::default() };
    assert!(!gate.is_open(at(59)));
    assert!(gate.is_open(at(60)) && gate.is_open(at(0)));
}

#[test]
fn a_header_that_cannot_be_is_left_out() {
    let map = header_map([("A", "fine"), ("B", "two\r\nlines")]);
    assert_eq!(map.get("A").map(HeaderValue::as_str), Some("fine"));
    assert!(map.get("B").is_none());
}
