//! What is posted when, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::Answer;
use super::webhook::LANE_MAX;
use super::{Forward, ForwardRules, Post, ReceiverKind};
use crate::alert::State;
use crate::check::Severity;
use crate::daemon::Line;
use crate::event::heartbeat::ActiveIncident;
use crate::event::{AlertEvent, Heartbeat};
use crate::stamp::Stamp;

mod refusals;
mod restart;

const FIRING: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/events/v1/meta_001-firing-observed.json"));
const OK: Answer = Answer::Status { code: 200, retry_after: None };
const MINUTE: u64 = 60;

fn status(code: u16) -> Answer {
    Answer::Status { code, retry_after: None }
}

fn down() -> Answer {
    Answer::None("it cannot be reached: connection refused".to_owned())
}

fn at(seconds: u64) -> Stamp {
    Stamp::new(0, 1_795_380_222_000_000_000).plus(Duration::from_secs(seconds))
}

/// The wall clock of that moment, as it is written in JSON.
fn wall(seconds: u64) -> String {
    at(seconds).to_string()
}

fn event(incident: &str, seq: u64, state: State) -> AlertEvent {
    let mut event: AlertEvent = serde_json::from_str(FIRING).expect("an event");
    event.incident = incident.to_owned();
    event.peer.as_mut().expect("a peer").name = Some(format!("peer-of-{incident}"));
    (event.id, event.seq, event.state) = (format!("{incident}.{seq}"), seq, state);
    event.severity = if state == State::Suspected { Severity::Warning } else { Severity::Critical };
    (event.system, event.since) = (Some("sys".to_owned()), wall(0));
    (event.epoch.id, event.monitor.instance) = ("i-1".to_owned(), "i".to_owned());
    event
}

fn heartbeat(number: u64, status: &str, active: &[&AlertEvent]) -> Heartbeat {
    let active: Vec<_> = active.iter().map(|event| ActiveIncident::told_by(event)).collect();
    let epoch = json!({"id": format!("i-{number}"), "ended": "all_heard", "expected": 3, "heard": 3, "missing": [],
        "elapsed_ms": 1});
    let heartbeat = json!({"v": 1, "timestamp": wall(number), "status": status, "summary": "", "epoch": epoch,
        "groups": [], "interval_ms": 2000, "incidents": active.len(), "active": active, "system": "sys",
        "speaker": "w", "undelivered": 0, "waiting": 0,
        "monitor": {"name": "w", "version": "0.1.0", "instance": "i"}});
    serde_json::from_value(heartbeat).expect("a heartbeat")
}

/// A forwarder, with what its receivers were sent.
struct Stage {
    forward: Forward,
    now: u64,
    posts: Vec<(u64, Post)>,
    lines: Vec<String>,
}

impl Stage {
    fn new(kinds: &[ReceiverKind]) -> Self {
        Self::with(kinds, ForwardRules { only_firing: false, keep: Duration::from_secs(60 * MINUTE) })
    }

    fn with(kinds: &[ReceiverKind], rules: ForwardRules) -> Self {
        let receivers = kinds.iter().enumerate().map(|(number, kind)| (*kind, format!("receiver {number}")));
        let forward = Forward::new(receivers.collect(), rules, at(0));
        Self { forward, now: 0, posts: Vec::new(), lines: Vec::new() }
    }

    fn tell(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines.into_iter().map(|line| format!("{} ({})", line.text, line.hint)));
    }

    fn event(&mut self, incident: &str, seq: u64, state: State) {
        let event = event(incident, seq, state);
        let raw = serde_json::to_string(&event).expect("JSON");
        let lines = self.forward.event(&event, &raw, at(self.now));
        self.tell(lines);
    }

    fn heartbeat(&mut self, status: &str, active: &[&AlertEvent]) {
        let lines = self.forward.heartbeat(&heartbeat(self.now, status, active), at(self.now));
        self.tell(lines);
    }

    /// Everything that is due now is posted, and answered so.
    fn post(&mut self, answer: impl Fn(&Post) -> Answer) {
        let lines = self.forward.wake(at(self.now));
        self.tell(lines);
        for _ in 0..10_000 {
            let Some(post) = self.forward.next(at(self.now)) else { return };
            let lines = self.forward.done(post.receiver, &answer(&post), at(self.now));
            self.tell(lines);
            self.posts.push((self.now, post));
        }
        panic!("it never ends");
    }

    /// Second by second, with a heartbeat every two, until then.
    fn run(&mut self, until: u64, active: &[&AlertEvent], answer: impl Fn(&Post) -> Answer) {
        while self.now < until {
            self.now += 1;
            if self.now.is_multiple_of(2) {
                self.heartbeat(if active.is_empty() { "ok" } else { "alerting" }, active);
            }
            self.post(&answer);
        }
    }

    /// What an Alertmanager was told: when, of which alert, with which end.
    fn alerts(&self) -> Vec<(u64, String, String)> {
        let read = |(at, post): &(u64, Post)| {
            let alerts: Vec<Value> = serde_json::from_str(&post.body).expect("alerts");
            let one = |alert: &Value| {
                let labels = &alert["labels"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (
                    *at,
                    format!("{}/{}", text(&labels["alertname"]), text(&labels["severity"])),
                    text(&alert["endsAt"]),
                )
            };
            alerts.iter().map(one).collect::<Vec<_>>()
        };
        self.posts.iter().filter(|(_, post)| post.key.is_none()).flat_map(read).collect()
    }

    /// The keys of what a webhook was sent.
    fn all_keys(&self) -> Vec<String> {
        self.posts.iter().filter_map(|(_, post)| post.key.clone()).collect()
    }

    /// The same without those about heartbeats that are missing.
    fn keys(&self) -> Vec<String> {
        self.all_keys().into_iter().filter(|key| !key.starts_with("quiet.")).collect()
    }
}

#[test]
fn an_open_alert_is_told_every_minute_with_an_end_ahead_and_its_end_for_a_while() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
    stage.event("a", 1, State::Firing);
    let open = event("a", 1, State::Firing);
    stage.run(130, &[&open], |_| OK);
    let critical = "META_001/critical".to_owned();
    let expected: Vec<_> =
        [1, 61, 121].into_iter().map(|at| (at, critical.clone(), wall(at + 300))).collect();
    assert_eq!(stage.alerts(), expected);
    let body: Value = serde_json::from_str(&stage.posts[0].1.body).unwrap();
    assert_eq!(body[0]["startsAt"], open.since);
    assert_eq!(body[0]["labels"]["peer"], "peer-of-a");
    assert_eq!(body[0]["labels"]["system"], "sys");
    assert!(body[0]["annotations"]["description"].as_str().unwrap().contains("start"), "{body:#}");
    stage.posts.clear();
    stage.event("a", 2, State::Resolved);
    stage.run(1_000, &[], |_| OK);
    let ends = stage.alerts();
    assert!(ends.iter().all(|(_, _, end)| *end == wall(130)), "{ends:?}");
    assert_eq!(ends.iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [131, 191, 251, 311, 371, 431]);
    assert!(stage.lines.is_empty(), "{:?}", stage.lines);
}

#[test]
fn a_suspicion_that_becomes_a_fault_ends_as_a_warning_and_begins_as_critical() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
    stage.event("a", 1, State::Suspected);
    stage.post(|_| OK);
    stage.now = 3;
    stage.event("a", 2, State::Firing);
    stage.post(|_| OK);
    let (warning, critical) = ("META_001/warning".to_owned(), "META_001/critical".to_owned());
    assert_eq!(
        stage.alerts(),
        [(0, warning.clone(), wall(300)), (3, critical, wall(303)), (3, warning, wall(3))]
    );
    let mut quiet = Stage::with(
        &[ReceiverKind::Alertmanager, ReceiverKind::Webhook],
        ForwardRules { only_firing: true, keep: Duration::from_secs(60) },
    );
    quiet.event("a", 1, State::Suspected);
    quiet.event("a", 2, State::Resolved);
    quiet.event("b", 1, State::Suspected);
    quiet.event("b", 2, State::Firing);
    quiet.event("b", 3, State::Resolved);
    quiet.post(|_| OK);
    assert_eq!(quiet.keys(), ["b.2", "b.3"]);
    assert_eq!(quiet.alerts().len(), 1);
}

#[test]
fn two_incidents_about_the_same_are_one_alert_until_both_are_over() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager]);
    for incident in ["a", "b"] {
        let mut event = event(incident, 1, State::Firing);
        event.peer.as_mut().unwrap().name = Some("s3".to_owned());
        stage.forward.event(&event, "{}", at(0));
    }
    stage.post(|_| OK);
    stage.event("a", 2, State::Resolved);
    stage.post(|_| OK);
    assert_eq!(stage.alerts().last().unwrap().2, wall(300), "the other one is open");
    stage.now = 9;
    stage.event("b", 2, State::Resolved);
    stage.post(|_| OK);
    assert_eq!(stage.alerts().last().unwrap().2, wall(9));
}

#[test]
fn a_receiver_that_is_down_for_an_hour_gets_everything_in_order_and_is_told_of_once() {
    let kinds = [ReceiverKind::Webhook, ReceiverKind::Webhook, ReceiverKind::Alertmanager];
    let mut stage = Stage::new(&kinds);
    let answer = |stage_now: u64| {
        move |post: &Post| match post.receiver {
            1 => OK,
            _ if stage_now >= 3_600 => OK,
            0 => down(),
            _ => status(503),
        }
    };
    let open = event("a", 1, State::Firing);
    for second in 0..3_700 {
        stage.now = second;
        match second {
            10 => stage.event("a", 1, State::Firing),
            20 => stage.event("b", 1, State::Suspected),
            30 => stage.event("b", 2, State::Firing),
            1_800 => stage.event("b", 3, State::Resolved),
            _ => {}
        }
        let listed = [&open];
        stage.heartbeat("alerting", if second > 10 { listed.as_slice() } else { &[] });
        stage.post(answer(second));
    }
    let of = |receiver: usize, since: u64| {
        let taken = stage.posts.iter().filter(|(at, post)| post.receiver == receiver && *at >= since);
        taken.map(|(_, post)| post.key.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(1, 0), ["a.1", "b.1", "b.2", "b.3"], "the other one waits for nobody");
    let mut late = of(0, 3_600);
    assert_eq!(late.iter().filter(|key| key.starts_with("b.")).collect::<Vec<_>>(), ["b.1", "b.2", "b.3"]);
    late.sort();
    assert_eq!(late, ["a.1", "b.1", "b.2", "b.3"]);
    let tries = stage.posts.iter().filter(|(at, post)| post.receiver == 0 && *at < 3_600).count();
    assert!((60..80).contains(&tries), "{tries} tries in an hour");
    let told = |words: &str| stage.lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(
        told("receiver 0 does not take an alert, which waits: it cannot be reached"),
        1,
        "{:?}",
        stage.lines
    );
    assert_eq!(
        told("receiver 2 does not take an alert, which waits: it answers 503"),
        1,
        "{:?}",
        stage.lines
    );
    assert_eq!((told("takes alerts again"), stage.lines.len()), (2, 4), "{:?}", stage.lines);
    assert!(stage.forward.is_idle(at(stage.now)));
}

#[test]
fn a_receiver_says_itself_when_it_may_be_asked_again_within_reason() {
    for (code, retry_after, next) in
        [(429, Some(7), 7), (503, None, 1), (503, Some(100_000), 600), (408, None, 1)]
    {
        let mut stage = Stage::new(&[ReceiverKind::Webhook]);
        stage.event("a", 1, State::Firing);
        stage.post(|_| Answer::Status { code, retry_after });
        let wake = stage.forward.next_wake(at(0)).unwrap();
        let wake = wake.since(at(0)).as_secs().min(next);
        assert_eq!(wake, next.min(15), "{code} {retry_after:?}");
        stage.now = next - 1;
        stage.post(|_| OK);
        assert_eq!(stage.keys().len(), 1, "{code} {retry_after:?}");
        stage.now = next;
        stage.post(|_| OK);
        assert_eq!(stage.keys(), ["a.1", "a.1"], "{code} {retry_after:?}");
    }
}

#[test]
fn a_redirect_and_a_refused_login_are_told_and_nothing_is_posted_elsewhere() {
    for (code, words) in [
        (302, "a redirect, which is not followed"),
        (401, "it wants another login"),
        (404, "nothing to post to"),
    ] {
        for kind in [ReceiverKind::Webhook, ReceiverKind::Alertmanager] {
            let mut stage = Stage::new(&[kind]);
            stage.event("a", 1, State::Firing);
            stage.event("b", 1, State::Firing);
            let open = [event("a", 1, State::Firing), event("b", 1, State::Firing)];
            stage.run(299, &[&open[0], &open[1]], |_| status(code));
            assert_eq!(stage.posts.len(), 1, "{code} {kind:?}");
            assert!(stage.lines[0].contains(words), "{:?}", stage.lines);
            let fault = stage.lines.iter().filter(|line| line.contains("does not take")).count();
            assert_eq!(fault, 1, "{:?}", stage.lines);
            stage.run(302, &[&open[0], &open[1]], |_| OK);
            assert!(stage.posts.len() > 1, "{code} {kind:?}");
        }
    }
}

#[test]
fn a_long_lane_keeps_its_newest_state_and_what_is_on_its_way() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook]);
    stage.event("a", 1, State::Firing);
    let on_the_way = stage.forward.next(at(0)).unwrap();
    for seq in 2..1_000 {
        stage.event("a", seq, State::Firing);
    }
    stage.event("a", 1_000, State::Resolved);
    assert!(stage.forward.waiting() <= LANE_MAX, "{}", stage.forward.waiting());
    stage.forward.done(on_the_way.receiver, &OK, at(0));
    stage.post(|_| OK);
    let keys = stage.keys();
    assert_eq!(keys.last().unwrap(), "a.1000");
    let seqs: Vec<u64> = keys.iter().map(|key| key[2..].parse().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

#[test]
fn thousands_of_incidents_are_bounded_and_what_is_dropped_is_told() {
    let mut stage = Stage::new(&[ReceiverKind::Webhook, ReceiverKind::Alertmanager]);
    for number in 0..3_000 {
        stage.event(&format!("i{number}"), 1, State::Firing);
    }
    assert!(stage.forward.waiting() <= 1_000);
    stage.post(|_| OK);
    assert!(stage.alerts().len() <= 1_000);
    assert!(
        stage.lines.iter().any(|line| line.contains("2000 events were dropped")),
        "{:?}",
        stage.lines.last()
    );
    assert!(stage.lines.iter().any(|line| line.contains("more than 1000 alerts stand")));
    assert!(stage.lines.len() < 10, "{} lines", stage.lines.len());
}

#[test]
fn when_nobody_watches_that_is_an_alert_and_open_ones_stay_open_for_a_while() {
    let rules = ForwardRules { only_firing: false, keep: Duration::from_secs(10 * MINUTE) };
    let mut stage = Stage::with(&[ReceiverKind::Alertmanager, ReceiverKind::Webhook], rules);
    let open = event("a", 1, State::Firing);
    stage.event("a", 1, State::Firing);
    stage.run(20, &[&open], |_| OK);
    // The watcher dies.
    while stage.now < 15 * MINUTE {
        stage.now += 1;
        stage.post(|_| OK);
    }
    let alerts = stage.alerts();
    let first = alerts.iter().find(|(_, name, _)| name == "MetawatchQuiet/critical").expect("the alert");
    assert!((30..45).contains(&first.0), "{first:?}");
    let of_peer = |(_, name, _): &&(u64, String, String)| name == "META_001/critical";
    let ends: Vec<_> = alerts.iter().filter(of_peer).collect();
    let ahead = |(at, _, end): &&&(u64, String, String)| *end == wall(at + 300);
    let last_ahead = ends.iter().filter(ahead).map(|(at, ..)| *at).max().unwrap();
    assert!((540..=620).contains(&last_ahead), "{last_ahead}");
    assert!(ends.iter().any(|(at, _, end)| *end == wall(*at) && (615..=625).contains(at)), "{ends:?}");
    assert_eq!(stage.all_keys().len(), 2, "{:?}", stage.all_keys());
    assert!(stage.all_keys()[1].starts_with("quiet.sys.firing."), "{:?}", stage.all_keys());
    // Somebody watches again, and the peer is down still.
    stage.posts.clear();
    stage.run(15 * MINUTE + 10, &[&open], |_| OK);
    let alerts = stage.alerts();
    assert!(
        alerts.iter().any(|(at, name, end)| name == "MetawatchQuiet/critical" && *end == wall(*at)),
        "{alerts:?}"
    );
    assert!(stage.all_keys()[0].starts_with("quiet.sys.resolved."), "{:?}", stage.all_keys());
}

#[test]
fn after_a_restart_what_is_open_is_learned_from_two_heartbeats() {
    let mut stage = Stage::new(&[ReceiverKind::Alertmanager, ReceiverKind::Webhook]);
    let open = event("a", 7, State::Firing);
    stage.run(4, &[&open], |_| OK);
    assert_eq!(stage.keys(), ["a.7.firing"]);
    let body = stage.posts.iter().find_map(|(_, post)| post.key.as_ref().map(|_| post.body.clone())).unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["type"], &body["incident"]), (&json!("io.metawatch.forward.v1.incident"), &json!("a")));
    assert_eq!(stage.alerts().len(), 1);
    // Its next event is news, and the same again is not.
    stage.event("a", 8, State::Firing);
    stage.event("a", 8, State::Firing);
    stage.post(|_| OK);
    assert_eq!(stage.keys(), ["a.7.firing", "a.8"]);
    stage.run(60, &[], |_| OK);
    assert_eq!(stage.keys(), ["a.7.firing", "a.8", "a.8.resolved"], "over on the word of two heartbeats");
    assert_eq!(stage.alerts().last().unwrap().2, wall(8));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_receivers_answer_events_of_an_incident_arrive_in_order_and_the_last_one_does(
        steps in proptest::collection::vec((0_u8..4, 0_usize..6, 0_u64..90), 1..200),
    ) {
        let mut stage = Stage::new(&[ReceiverKind::Webhook, ReceiverKind::Alertmanager]);
        let mut seqs: BTreeMap<usize, u64> = BTreeMap::new();
        let mut taken: BTreeMap<String, u64> = BTreeMap::new();
        let answers = [OK, status(500), status(400), status(302), down(), status(429)];
        for (incident, answer, pause) in steps {
            stage.now += pause;
            let seq = seqs.entry(incident.into()).or_default();
            *seq += 1;
            let state = if seq.is_multiple_of(3) { State::Resolved } else { State::Firing };
            stage.event(&format!("i{incident}"), *seq, state);
            stage.posts.clear();
            stage.post(|_| answers[answer].clone());
            if answer == 0 {
                for key in stage.keys() {
                    let (incident, seq) = key.split_once('.').unwrap_or_default();
                    let seq: u64 = seq.parse().unwrap_or(0);
                    // What tells of a quiet has another key.
                    if incident.starts_with('i') {
                        let before = taken.insert(incident.to_owned(), seq);
                        proptest::prop_assert!(before.is_none_or(|before| before < seq), "{incident} {before:?} {seq}");
                    }
                }
            }
        }
        for _ in 0..100 {
            stage.now += 60;
            stage.posts.clear();
            stage.post(|_| OK);
            for key in stage.keys().iter().filter(|key| key.starts_with('i')) {
                let (incident, seq) = key.split_once('.').unwrap_or_default();
                taken.insert(incident.to_owned(), seq.parse().unwrap_or(0));
            }
        }
        for (incident, seq) in seqs {
            proptest::prop_assert_eq!(taken.get(&format!("i{incident}")), Some(&seq));
        }
        proptest::prop_assert_eq!(stage.forward.waiting(), 0);
    }
}
