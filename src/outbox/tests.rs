use std::time::Duration;

use State::{Firing, Resolved, Suspected};

use super::*;

const FIRING: &str = include_str!("../../tests/events/v1/meta_001-firing-reported.json");

fn outgoing(incident: &str, seq: u64, state: State) -> Outgoing {
    let mut event: crate::event::AlertEvent = serde_json::from_str(FIRING).unwrap();
    event.incident = incident.to_owned();
    event.seq = seq;
    event.id = format!("{incident}.{seq}");
    event.state = state;
    Outgoing { subject: String::new(), headers: Vec::new(), event }
}

fn at(millis: u64) -> Stamp {
    Stamp::new(0, 0).plus(Duration::from_millis(millis))
}

/// With these events, released.
fn filled(limit: usize, events: &[(&str, u64, State)]) -> Outbox {
    let mut outbox = Outbox::new(limit);
    for (incident, seq, state) in events {
        outbox.decide(outgoing(incident, *seq, *state), None);
    }
    outbox.release();
    outbox
}

fn decide(outbox: &mut Outbox, incident: &str, seq: u64, state: State) {
    outbox.decide(outgoing(incident, seq, state), None);
    outbox.release();
}

fn left(outbox: &Outbox) -> Vec<&str> {
    outbox.iter().map(|event| event.event.id.as_str()).collect()
}

fn ids(batch: &[Dispatched]) -> Vec<&str> {
    batch.iter().map(|event| event.outgoing.event.id.as_str()).collect()
}

fn hand(outbox: &mut Outbox, batch: &[Dispatched], generation: u64, millis: u64) {
    for event in batch {
        outbox.handed(event.place, generation, at(millis));
    }
}

/// Everything that the indices hold must be what the stages say.
fn check(outbox: &Outbox) {
    let places = |wanted: &dyn Fn(&Entry) -> bool| -> BTreeSet<u64> {
        outbox.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(place, _)| *place).collect()
    };
    assert_eq!(outbox.stages.held, places(&|entry| entry.stage == Stage::Held));
    assert_eq!(outbox.stages.queued, places(&|entry| entry.stage == Stage::Queued));
    assert_eq!(outbox.stages.in_flight, places(&|entry| matches!(entry.stage, Stage::InFlight { .. })));
    assert_eq!(outbox.stages.repeats, places(&|entry| matches!(entry.stage, Stage::Repeat { .. })));
    let firsts: BTreeSet<u64> =
        outbox.incidents.values().filter_map(|places| places.first().copied()).collect();
    assert_eq!(outbox.ready, &outbox.stages.queued & &firsts);
    let of_incidents: usize = outbox.incidents.values().map(BTreeSet::len).sum();
    assert_eq!((of_incidents, outbox.by_id.len()), (outbox.entries.len(), outbox.entries.len()));
    let timed = places(&|entry| matches!(entry.stage, Stage::Parked { .. } | Stage::Repeat { .. }));
    assert_eq!(outbox.stages.timers.iter().map(|(_, place)| *place).collect::<BTreeSet<_>>(), timed);
}

#[test]
fn nothing_is_published_before_it_is_released_and_then_in_order() {
    let mut outbox = Outbox::new(9);
    for (incident, seq) in [("a", 1), ("b", 1), ("a", 2)] {
        outbox.decide(outgoing(incident, seq, Firing), None);
    }
    assert!(outbox.has_held() && outbox.dispatch(9, 1, false).is_empty());
    outbox.release();
    assert_eq!(ids(&outbox.dispatch(2, 1, false)), ["a.1", "b.1"]);
    assert_eq!(ids(&outbox.dispatch(9, 1, false)), ["a.2"]);
    assert_eq!((outbox.waiting(), outbox.in_flight()), (3, 3), "it has not arrived");
    check(&outbox);
}

#[test]
fn an_event_that_is_decided_twice_is_one() {
    let mut outbox = filled(9, &[("a", 1, Firing)]);
    decide(&mut outbox, "a", 1, Firing);
    assert_eq!(left(&outbox), ["a.1"]);
}

#[test]
fn only_what_was_handed_over_before_the_request_on_the_same_connection_is_confirmed() {
    let mut outbox = filled(9, &[("a", 1, Firing), ("b", 1, Firing), ("c", 1, Firing)]);
    let batch = outbox.dispatch(9, 1, false);
    hand(&mut outbox, &batch[..2], 1, 10);
    assert_eq!(outbox.confirm(1, at(9)), 0, "the request was sent before");
    assert_eq!(outbox.confirm(2, at(20)), 0, "on another connection");
    assert_eq!(outbox.confirm(1, at(10)), 2);
    assert_eq!(left(&outbox), ["c.1"], "the client has not taken it");
    check(&outbox);
}

#[test]
fn what_was_not_confirmed_before_a_loss_is_published_again_in_order() {
    let mut outbox = filled(9, &[("a", 1, Suspected), ("a", 2, Firing)]);
    let batch = outbox.dispatch(9, 1, false);
    hand(&mut outbox, &batch, 1, 0);
    outbox.reconnected(2);
    decide(&mut outbox, "a", 3, Resolved);
    assert_eq!(ids(&outbox.dispatch(9, 2, false)), ["a.1", "a.2", "a.3"]);
    // A late report about the first connection says nothing of the second.
    outbox.handed(batch[0].place, 1, at(1));
    assert_eq!(outbox.confirm(1, at(2)), 0);
    outbox.take_back();
    assert_eq!(ids(&outbox.dispatch(1, 2, false)), ["a.1"], "the server refused the subject");
    check(&outbox);
}

#[test]
fn where_order_depends_on_it_one_event_of_an_incident_is_in_flight() {
    let mut outbox = filled(9, &[("a", 1, Suspected), ("a", 2, Firing), ("b", 1, Firing)]);
    let batch = outbox.dispatch(9, 1, true);
    assert_eq!(ids(&batch), ["a.1", "b.1"]);
    assert!(outbox.dispatch(9, 1, true).is_empty());
    outbox.arrived(batch[0].place, 1);
    assert_eq!(ids(&outbox.dispatch(9, 1, true)), ["a.2"]);
    check(&outbox);
}

#[test]
fn one_that_is_not_active_any_more_publishes_nothing_and_forgets_nothing() {
    let mut outbox = filled(9, &[("a", 1, Firing), ("b", 1, Firing)]);
    let batch = outbox.dispatch(1, 1, false);
    outbox.hold();
    outbox.handed(batch[0].place, 1, at(1));
    assert_eq!(outbox.confirm(1, at(2)), 0);
    assert!(outbox.dispatch(9, 1, false).is_empty());
    assert_eq!(left(&outbox), ["a.1", "b.1"]);
    outbox.replace(vec![outgoing("c", 1, Firing)]);
    assert_eq!((left(&outbox), outbox.dropped()), (vec!["c.1"], 0), "the active one delivers them");
    check(&outbox);
}

#[test]
fn events_of_another_watcher_come_before_later_ones_of_their_incident() {
    let mut outbox = filled(9, &[("a", 2, Firing), ("b", 1, Firing)]);
    outbox.merge(vec![outgoing("a", 1, Suspected), outgoing("c", 1, Firing), outgoing("b", 1, Firing)]);
    outbox.release();
    assert_eq!(left(&outbox), ["b.1", "a.1", "a.2", "c.1"]);
    check(&outbox);
}

#[test]
fn what_is_refused_is_parked_by_itself_and_a_newer_event_takes_its_place() {
    let mut outbox = filled(9, &[("a", 1, Suspected), ("b", 1, Firing), ("b", 2, Resolved)]);
    let batch = outbox.dispatch_to_stream(9, 9, 1);
    assert_eq!(ids(&batch), ["a.1", "b.1"]);
    outbox.park(batch[0].place, at(500), true);
    outbox.arrived(batch[1].place, 1);
    assert_eq!(ids(&outbox.dispatch_to_stream(9, 9, 1)), ["b.2"], "others go on");
    assert_eq!(outbox.next_due(at(0)), Some(at(500)));
    decide(&mut outbox, "a", 2, Firing);
    let again = outbox.dispatch_to_stream(9, 9, 1);
    assert_eq!((ids(&again), outbox.dropped()), (vec!["a.2"], 1));
    assert_eq!(outbox.take_losses(), [("a.1".to_owned(), Loss::Overtaken)]);
    // One that was overtaken while it was under way goes as well.
    decide(&mut outbox, "a", 3, Resolved);
    outbox.park(again[0].place, at(900), true);
    assert_eq!(ids(&outbox.dispatch_to_stream(9, 9, 1)), ["a.3"]);
    check(&outbox);
}

#[test]
fn what_no_stream_has_taken_keeps_its_order_and_what_failed_leaves_room_for_what_has_not() {
    let mut outbox = filled(9, &[("a", 1, Suspected), ("a", 2, Firing), ("b", 1, Firing), ("c", 1, Firing)]);
    for event in outbox.dispatch_to_stream(2, 9, 1) {
        outbox.park(event.place, at(500), false);
    }
    outbox.wake(at(499));
    assert_eq!(ids(&outbox.dispatch_to_stream(9, 9, 1)), ["c.1"], "a.2 waits for a.1");
    outbox.wake(at(500));
    decide(&mut outbox, "d", 1, Firing);
    assert_eq!(ids(&outbox.dispatch_to_stream(9, 1, 1)), ["d.1", "a.1"]);
    assert_eq!((outbox.in_flight(), outbox.in_flight_again()), (3, 1));
    outbox.reconnected(2);
    assert_eq!(outbox.in_flight(), 0);
    check(&outbox);
}

#[test]
fn what_may_not_have_been_heard_is_published_once_more_unless_it_is_outdated() {
    let mut outbox = Outbox::new(9);
    for incident in ["a", "b"] {
        outbox.decide(outgoing(incident, 1, Firing), Some(at(3_000)));
    }
    outbox.release();
    let batch = outbox.dispatch(9, 1, false);
    hand(&mut outbox, &batch, 1, 5);
    assert_eq!((outbox.confirm(1, at(5)), outbox.waiting()), (2, 0), "both have arrived");
    assert_eq!(left(&outbox), ["a.1", "b.1"], "and would be repeated by a successor");
    decide(&mut outbox, "b", 2, Resolved);
    assert_eq!((left(&outbox), outbox.dropped()), (vec!["a.1", "b.2"], 0));
    outbox.wake(at(3_000));
    let batch = outbox.dispatch(9, 1, false);
    assert_eq!(ids(&batch), ["a.1", "b.2"]);
    hand(&mut outbox, &batch, 1, 3_001);
    outbox.confirm(1, at(3_001));
    assert!(outbox.is_empty(), "once");
    check(&outbox);
}

#[test]
fn what_can_never_be_published_is_dropped_and_told() {
    let mut outbox = filled(9, &[("a", 1, Firing), ("a", 2, Resolved)]);
    let batch = outbox.dispatch(9, 1, true);
    outbox.give_up(batch[0].place, "too large".to_owned());
    assert_eq!(ids(&outbox.dispatch(9, 1, true)), ["a.2"]);
    let loss = Loss::Impossible("too large".to_owned());
    assert_eq!((outbox.dropped(), outbox.take_losses()), (1, vec![("a.1".to_owned(), loss)]));
    check(&outbox);
}

#[test]
fn when_it_is_full_the_newest_state_of_a_firing_alert_goes_last() {
    let mut outbox = filled(3, &[("a", 3, Resolved), ("b", 1, Suspected), ("b", 2, Firing)]);
    decide(&mut outbox, "c", 1, Firing);
    assert_eq!((left(&outbox), outbox.dropped()), (vec!["a.3", "b.2", "c.1"], 1), "overtaken ones go first");
    decide(&mut outbox, "d", 1, Firing);
    assert_eq!((left(&outbox), outbox.dropped()), (vec!["b.2", "c.1", "d.1"], 2), "then ends");
    decide(&mut outbox, "e", 5, Resolved);
    assert_eq!(left(&outbox), ["b.2", "c.1", "d.1"], "even one that comes");
    decide(&mut outbox, "f", 1, Firing);
    assert_eq!(left(&outbox), ["c.1", "d.1", "f.1"], "then the oldest");
    assert_eq!(outbox.take_losses().len(), 4);
    let fires_again =
        filled(3, &[("a", 2, Resolved), ("a", 3, Firing), ("b", 9, Resolved), ("c", 1, Firing)]);
    assert_eq!(left(&fires_again), ["a.3", "b.9", "c.1"]);
    check(&outbox);
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
            event.event.id = format!("incident-{number}.{round}");
            outbox.decide(event, None);
        }
        outbox.release();
    }
    assert_eq!((outbox.waiting(), outbox.dropped()), (LIMIT, 2 * LIMIT as u64));
    assert!(outbox.iter().all(|event| event.event.seq == 3), "the newest state of each is there");
    assert!(outbox.take_losses().len() <= LOSSES_MAX);
    // Stored one by one.
    while let Some(event) = outbox.dispatch_to_stream(1, 1, 1).pop() {
        outbox.arrived(event.place, 1);
    }
    let took = begin.elapsed();
    assert!(outbox.is_empty());
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Everything that can happen, in random orders: no event is lost without being counted.
#[test]
fn in_any_order_of_things_nothing_leaves_but_by_delivery_or_a_counted_drop() {
    let mut random = 1_u64;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for _ in 0..300 {
        let mut outbox = Outbox::new(12);
        let (mut decided, mut delivered, mut now, mut generation) = (0_u64, 0_u64, 0, 1);
        let mut seqs = BTreeMap::<u64, u64>::new();
        for _ in 0..150 {
            now += below(300);
            match below(9) {
                0..=2 => {
                    let incident = below(6);
                    let seq = seqs.entry(incident).or_default();
                    *seq += 1;
                    let state = if below(3) == 0 { Resolved } else { Firing };
                    decide(&mut outbox, &format!("i{incident}"), *seq, state);
                    decided += 1;
                }
                3 => {
                    let batch = outbox.dispatch(below(5) as usize, generation, below(2) == 0);
                    for event in &batch {
                        match below(4) {
                            0 => outbox.not_taken(event.place, generation),
                            _ => outbox.handed(event.place, generation, at(now)),
                        }
                    }
                }
                4 => delivered += outbox.confirm(generation, at(now)) as u64,
                5 => {
                    for event in outbox.dispatch_to_stream(3, 2, generation) {
                        match below(4) {
                            0 => outbox.park(event.place, at(now + 500), true),
                            1 => outbox.park(event.place, at(now + 500), false),
                            2 => outbox.give_up(event.place, String::new()),
                            _ => {
                                outbox.arrived(event.place, generation);
                                delivered += 1;
                            }
                        }
                    }
                }
                6 => {
                    generation += 1;
                    outbox.reconnected(generation);
                }
                7 => outbox.wake(at(now)),
                _ => {
                    outbox.hold();
                    outbox.release();
                }
            }
            check(&outbox);
            assert_eq!(decided, delivered + outbox.dropped() + outbox.waiting() as u64);
        }
    }
}
