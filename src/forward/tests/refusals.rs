//! What receivers do not take, and what is too much.

use super::*;
use crate::forward::webhook::{BYTES_MAX, LANES_MAX};

fn is_poison(post: &Post) -> bool {
    post.key.as_deref() == Some("a.1")
}

#[test]
fn what_is_refused_is_tried_again_and_holds_up_no_other_incident() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook]);
    stage.event("a", 1, State::Firing);
    stage.event("b", 1, State::Firing);
    stage.post(|post| if is_poison(post) { status(422) } else { OK });
    assert_eq!(stage.keys(), ["a.1", "b.1"]);
    stage.now = 299;
    stage.post(|_| OK);
    assert_eq!(stage.keys().len(), 2);
    stage.now = 300;
    stage.post(|_| status(422));
    stage.now = 600;
    stage.post(|_| OK);
    assert_eq!(stage.keys(), ["a.1", "b.1", "a.1", "a.1"]);
    let told = |words: &str| stage.lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(told("refuses the event a.1, which is set aside and tried again: it answers 422"), 1);
    assert_eq!(told("takes alerts again"), 0, "it did all the time: {:?}", stage.lines);
}

#[test]
fn a_page_does_not_wait_behind_a_suspicion_that_is_refused_for_ever() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook]);
    stage.event("a", 1, State::Suspected);
    stage.post(|_| status(400));
    stage.now = 3;
    stage.event("a", 2, State::Firing);
    for second in 3..6 {
        stage.now = second;
        stage.post(|post| if is_poison(post) { status(400) } else { OK });
    }
    assert_eq!(stage.keys(), ["a.1", "a.1", "a.2"], "once more, and then the newer one");
    assert_eq!(stage.posts.last().unwrap().0, 3);
    assert_eq!(stage.forward.waiting(), 0);
    let replaced = "refuses the event a.1 for good, and gets the next one of its incident: it answers 400";
    assert!(stage.lines.iter().any(|line| line.contains(replaced)), "{:?}", stage.lines);
}

#[test]
fn what_is_refused_by_chance_arrives_before_what_follows_it() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook]);
    for (seq, state) in [(1, State::Suspected), (2, State::Firing), (3, State::Resolved)] {
        stage.event("a", seq, state);
    }
    stage.post(|_| status(422));
    stage.now = 1;
    stage.post(|_| OK);
    assert_eq!(stage.keys(), ["a.1", "a.1", "a.2", "a.3"]);
}

#[test]
fn an_alert_that_an_alertmanager_cannot_read_spoils_no_other() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
    for incident in ["a", "b", "c"] {
        stage.event(incident, 1, State::Firing);
    }
    // It reads nothing of a post with one of them.
    let answer = |post: &Post| if post.body.contains("peer-of-b") { status(400) } else { OK };
    stage.post(answer);
    let posts: Vec<usize> = stage
        .posts
        .iter()
        .map(|(_, post)| serde_json::from_str::<Vec<Value>>(&post.body).unwrap().len())
        .collect();
    assert_eq!(posts, [3, 1, 1, 1]);
    stage.event("d", 1, State::Firing);
    stage.now = 61;
    stage.post(answer);
    stage.now = 122;
    stage.post(answer);
    let of_b = stage.posts.iter().filter(|(_, post)| post.body.contains("peer-of-b")).count();
    assert_eq!(of_b, 4, "it is tried again every minute");
    let refused =
        stage.lines.iter().filter(|line| line.contains("refuses the alert META_001 peer-of-b")).count();
    assert_eq!(refused, 1, "{:?}", stage.lines);
    assert!(!stage.lines.iter().any(|line| line.contains("takes alerts again")), "{:?}", stage.lines);
}

#[test]
fn an_alert_never_begins_after_its_end_or_at_no_time_at_all() {
    for since in ["2027-01-01T00:00:00Z", "yesterday", ""] {
        let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
        for (seq, state) in [(1, State::Firing), (2, State::Resolved)] {
            let event = AlertEvent { since: since.to_owned(), ..event("a", seq, state) };
            stage.forward.event(&event, "{}", at(0));
            stage.post(|_| OK);
        }
        for (_, post) in &stage.posts {
            let alerts: Value = serde_json::from_str(&post.body).unwrap();
            let time = |name: &str| crate::stamp::parse_wall_ns(alerts[0][name].as_str().unwrap()).unwrap();
            assert!(time("startsAt") <= time("endsAt"), "{since}: {alerts:#}");
        }
        assert_eq!(stage.posts.len(), 2, "{since}");
    }
}

#[test]
fn what_waits_is_limited_in_bytes_and_newest_states_go_last() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook]);
    let large = format!("\"{}\"", "x".repeat(200 << 10));
    for seq in 1..=3 {
        for number in 0..100 {
            let incident = format!("i{number:03}");
            stage.forward.event(&event(&incident, seq, State::Firing), &large, at(0));
        }
    }
    let kept = stage.forward.waiting();
    assert!(kept * large.len() <= BYTES_MAX, "{kept}");
    assert!((100..LANES_MAX).contains(&kept), "{kept}");
    stage.post(|_| OK);
    let newest = stage.keys().iter().filter(|key| key.ends_with(".3")).count();
    assert_eq!(newest, 100, "of each incident its newest state");
    let enough = BYTES_MAX / large.len() + 20;
    for number in 0..enough {
        stage.forward.event(&event(&format!("j{number:03}"), 1, State::Firing), &large, at(0));
    }
    stage.post(|_| OK);
    assert!(stage.lines.iter().any(|line| line.contains("events were dropped")), "{:?}", stage.lines);
}

#[test]
fn invented_incidents_about_the_same_are_limited_too() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
    for number in 0..5_000 {
        let event = AlertEvent {
            peer: event("a", 1, State::Firing).peer,
            ..event(&format!("i{number}"), 1, State::Firing)
        };
        let lines = stage.forward.event(&event, "{}", at(0));
        stage.tell(lines);
    }
    assert_eq!(stage.forward.followed.len(), 1_000);
    assert_eq!(stage.lines.len(), 1, "{:?}", stage.lines);
    stage.post(|_| OK);
    assert_eq!(stage.alerts().len(), 1);
}
