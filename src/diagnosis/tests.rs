use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::alert::{LifeRules, Reason, State};
use crate::epoch::{Ended, Epoch, Heard};
use crate::event::{Monitor, Outgoing};
use crate::pipeline::{FollowUp, Pipeline, Settings, Step};
use crate::rules::Rules;
use crate::stamp::Stamp;

/// Three servers s1 (leader), s2, s3; s3 may be silent, or answer with JetStream off.
struct Watch {
    pipeline: Pipeline,
    number: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum S3 {
    Well,
    Silent,
    Disabled,
}

fn envelope(name: &str, data: &str) -> String {
    format!(r#"{{"server":{{"name":"{name}","id":"N{name}","cluster":"c1","ver":"2.15.1"}},{data}}}"#)
}

impl Watch {
    fn new() -> Self {
        let monitor = Monitor { name: "m".into(), version: "0".into(), instance: "i".into() };
        let rules = Rules { interval: Duration::from_secs(1), ..Rules::default() };
        let life = LifeRules::default();
        let settings = Settings { rules, life, monitor, prefix: "metawatch".into() };
        Self { pipeline: Pipeline::new(settings), number: 0 }
    }

    fn now(&self) -> Stamp {
        let ns = i64::try_from(self.number).unwrap() * 1_000_000_000;
        Stamp::new(ns, 1_795_380_222_300_000_000 + ns)
    }

    /// One epoch, a second after the last one. The leader's contact to s3 is `away` seconds old.
    fn epoch(&mut self, s3: S3, away: u64) -> Step {
        self.number += 1;
        let now = self.now();
        let plan = self.pipeline.plan(self.number, now, Duration::from_secs(1));
        let asked_statsz = plan.ask_statsz;
        let mut epoch = Epoch::open(plan, now);
        let row = |name: &str, away: u64| {
            let (id, active) = (PeerId::of_server(name), away * 1_000_000_000 + 1);
            format!(r#"{{"name":"{name}","peer":"{id}","current":{},"active":{active}}}"#, away < 10)
        };
        let member = |rows: &str| {
            format!(
                r#""data":{{"config":{{}},"meta_cluster":{{"name":"c1","leader":"s1","peer":"k2My6qdB","cluster_size":3{rows}}}}}"#
            )
        };
        let list = format!(r#","replicas":[{},{}]"#, row("s2", 0), row("s3", away));
        let mut replies = vec![envelope("s1", &member(&list)), envelope("s2", &member(""))];
        match s3 {
            S3::Well => replies.push(envelope("s3", &member(""))),
            S3::Disabled => replies.push(envelope("s3", r#""data":{"disabled":true}"#)),
            S3::Silent => {}
        }
        for reply in &replies {
            epoch.hear(now, Heard::Jsz { epoch: self.number, payload: reply.as_bytes() });
        }
        if asked_statsz {
            let routes = r#""statsz":{"active_servers":3,"routes":[{"name":"s3"}]}"#;
            for name in ["s1", "s2"] {
                let payload = envelope(name, routes);
                epoch.hear(now, Heard::Statsz { epoch: self.number, payload: payload.as_bytes() });
            }
        }
        let end = if replies.len() == 3 { Ended::AllHeard } else { Ended::Deadline };
        self.pipeline.step(&epoch.close(now, end))
    }

    /// Epochs of a frozen s3 until the alert fires.
    fn freeze(&mut self) -> Step {
        self.epoch(S3::Well, 0);
        for away in 1..30 {
            let step = self.epoch(S3::Silent, away);
            if step.events.iter().any(|event| event.event.state == State::Firing) {
                return step;
            }
            assert_eq!(self.pipeline.follow_ups(&step), None, "a silent suspect leaves nothing to ask yet");
        }
        panic!("it never fires");
    }

    fn answer(&mut self, follow_up: &FollowUp, says: &[(Question, String)], step: &Step) -> Vec<Outgoing> {
        let mut replies = Replies::default();
        for (question, payload) in says {
            replies.hear(question, payload.as_bytes());
        }
        let now = self.now();
        self.pipeline.answer(follow_up, &replies, step, now)
    }
}

fn raftz(name: &str, group: &str) -> (Question, String) {
    (Question::Raft, envelope(name, &format!(r#""data":{{"SYS":{{"_meta_":{{{group}}}}}}}"#)))
}

fn leader_saw_s3(ago: &str) -> (Question, String) {
    let peers = format!(
        r#""peers":{{"3ahZoO2Q":{{"name":"s3","known":true,"last_seen":"{ago}"}},"noC8kOtg":{{"last_seen":"700ms"}}}}"#
    );
    raftz("s1", &format!(r#""state":"LEADER","leader":"k2My6qdB","ever_had_leader":true,{peers}"#))
}

fn follower(name: &str) -> (Question, String) {
    let peers = r#""peers":{"k2My6qdB":{"name":"s1","last_seen":"700ms"},"3ahZoO2Q":{"name":"s3"}}"#;
    raftz(name, &format!(r#""state":"FOLLOWER","leader":"k2My6qdB","ever_had_leader":true,{peers}"#))
}

#[test]
fn a_frozen_peer_is_asked_about_once_and_the_answer_is_an_update() {
    let mut watch = Watch::new();
    let step = watch.freeze();
    let firing = &step.events[0].event;
    let follow_up = watch.pipeline.follow_ups(&step).unwrap();
    assert_eq!(follow_up.questions, BTreeSet::from([Question::Raft]));
    assert_eq!(watch.pipeline.follow_ups(&step), None, "it is asked once");
    let later = watch.epoch(S3::Silent, 13);
    assert_eq!(watch.pipeline.follow_ups(&later), None, "it is asked once for a cause");
    let events = watch.answer(&follow_up, &[follower("s2"), leader_saw_s3("12.710025054s")], &later);
    let [told] = &events[..] else { panic!("{events:#?}") };
    let event = &told.event;
    assert_eq!((event.reason, event.state, event.seq), (Reason::Diagnosed, State::Firing, firing.seq + 1));
    assert_eq!(event.incident, firing.incident);
    let says = "last saw s3 12 s ago".to_owned();
    assert_eq!(
        event.diagnosis,
        [Diagnosis { server: "s1".into(), asked: "RAFTZ".into(), says, kind: None, missing: Vec::new() }]
    );
    assert!(event.summary.ends_with("; s1 says: last saw s3 12 s ago"), "{}", event.summary);
    assert_eq!(told.subject, "metawatch.alert.META_001.default.s3.firing");
    assert!(watch.answer(&follow_up, &[leader_saw_s3("12.9s")], &later).is_empty(), "nothing new");
    let mut resolved = Vec::new();
    for _ in 0..3 {
        resolved.extend(watch.epoch(S3::Well, 0).events);
    }
    let [resolved] = &resolved[..] else { panic!("{resolved:#?}") };
    assert_eq!((resolved.event.state, resolved.event.seq), (State::Resolved, firing.seq + 2));
    assert!(resolved.event.diagnosis.is_empty());
    assert!(!resolved.event.summary.contains("says"), "{}", resolved.event.summary);
}

#[test]
fn an_answer_after_the_end_or_without_content_tells_nothing_and_leaves_no_hole() {
    let mut watch = Watch::new();
    let step = watch.freeze();
    let follow_up = watch.pipeline.follow_ups(&step).unwrap();
    let hostile = (Question::Raft, "[".repeat(9_000));
    let stranger = raftz("s9", r#""state":"LEADER","peers":{}"#);
    assert!(watch.answer(&follow_up, &[hostile, stranger, follower("s2")], &step).is_empty());
    for _ in 0..2 {
        watch.epoch(S3::Well, 0);
    }
    let well = watch.epoch(S3::Well, 0);
    assert!(watch.answer(&follow_up, &[leader_saw_s3("12s")], &well).is_empty(), "it is over");
    // The same incident opens again: what was asked before belongs to its earlier life.
    let again = watch.freeze();
    assert_eq!(
        again.events[0].event.seq,
        step.events[0].event.seq + 3,
        "suspected and firing, without a hole"
    );
    assert!(
        watch.answer(&follow_up, &[leader_saw_s3("12s")], &again).is_empty(),
        "asked about an earlier life"
    );
    assert!(watch.pipeline.follow_ups(&again).is_some(), "it may be asked again");
}

#[test]
fn a_server_without_jetstream_is_asked_itself_at_the_first_suspicion() {
    let mut watch = Watch::new();
    watch.epoch(S3::Well, 0);
    let step = watch.epoch(S3::Disabled, 0);
    assert_eq!(step.events[0].event.state, State::Suspected);
    let follow_up = watch.pipeline.follow_ups(&step).unwrap();
    let health = Question::Health(Name::new("Ns3"));
    assert_eq!(follow_up.questions, BTreeSet::from([health.clone()]));
    assert_eq!((health.subject().as_str(), health.payload()), ("$SYS.REQ.SERVER.Ns3.HEALTHZ", ""));
    let says = |name, error: &str| {
        let data = format!(r#""data":{{"status":"unavailable","status_code":503,"error":"{error}"}}"#);
        (health.clone(), envelope(name, &data))
    };
    let liar = says("s2", "I am somebody else");
    assert!(watch.answer(&follow_up, &[liar], &step).is_empty(), "only its own word counts");
    let events = watch.answer(&follow_up, &[says("s3", "JetStream not \\u001b[31menabled")], &step);
    let event = &events[0].event;
    assert_eq!((event.state, event.reason), (State::Suspected, Reason::Diagnosed));
    assert!(event.summary.ends_with("; s3 says: JetStream not \\u{1b}[31menabled"), "{}", event.summary);
    let well = (health.clone(), envelope("s3", r#""data":{"status":"ok","status_code":200}"#));
    let mut replies = Replies::default();
    replies.hear(&well.0, well.1.as_bytes());
    let says = conclude(Some(PeerId::of_server("s3")), None, &step.view.groups[0], &replies).remove(0).says;
    assert_eq!(says, "nothing wrong by its own check: its configuration has no JetStream");
    // Later events keep it.
    let mut fires = None;
    for away in 1..20 {
        fires = fires.or(watch.epoch(S3::Disabled, away).events.pop());
    }
    let firing = fires.unwrap().event;
    assert_eq!((firing.state, firing.seq, &firing.diagnosis), (State::Firing, 3, &event.diagnosis));
}

#[test]
fn long_answers_fit_an_event_and_a_header() {
    let mut watch = Watch::new();
    watch.epoch(S3::Well, 0);
    let step = watch.epoch(S3::Disabled, 0);
    let follow_up = watch.pipeline.follow_ups(&step).unwrap();
    let data = format!(r#""data":{{"status":"x","error":"{}"}}"#, "é".repeat(9_000));
    let health = Question::Health(Name::new("Ns3"));
    let events = watch.answer(&follow_up, &[(health, envelope("s3", &data))], &step);
    assert_eq!(events[0].event.diagnosis[0].says.chars().count(), SAYS_MAX);
    assert!(events[0].headers.iter().all(|(_, value)| value.len() < 1_024));
    assert!(serde_json::to_vec(&events[0].event).unwrap().len() < 4_096);
}

#[test]
fn members_without_a_leader_say_what_they_know_and_the_same_words_are_said_once() {
    let mut watch = Watch::new();
    let step = watch.epoch(S3::Well, 0);
    let group = &step.view.groups[0];
    let leaderless = |name: &str, rest: &str| raftz(name, &format!(r#""state":"CANDIDATE"{rest}"#));
    let mut says = [
        leaderless("s2", r#","ever_had_leader":true"#),
        leaderless("s3", r#","ever_had_leader":true,"wal_error":{}"#),
        leaderless("s1", r#","ever_had_leader":true"#),
    ];
    let mut told = Vec::new();
    for _ in 0..says.len() {
        says.rotate_left(1);
        let mut replies = Replies::default();
        says.iter().for_each(|(question, payload)| replies.hear(question, payload.as_bytes()));
        told.push(conclude(None, None, group, &replies));
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "the order of replies changes nothing");
    let told: Vec<_> = told[0].iter().map(|told| format!("{}: {}", told.server, told.says)).collect();
    let expected = [
        "s3: its write-ahead log has failed, knows no leader and asks to be elected",
        "s1, s2: knows no leader and asks to be elected",
    ];
    assert_eq!(told, expected);
    let said = |about: Option<&str>, (_, payload): (Question, String)| {
        let mut replies = Replies::default();
        replies.hear(&Question::Raft, payload.as_bytes());
        let told = conclude(about.map(PeerId::of_server), None, group, &replies);
        told.first().map(|told| told.says.clone()).unwrap_or_default()
    };
    let fresh = raftz("s2", r#""state":"FOLLOWER","ever_had_leader":false,"peers":{}"#);
    assert_eq!(said(None, fresh), "never had a leader since its start");
    assert_eq!(said(None, leader_saw_s3("35.2s")), "last saw s3 35 s ago");
    assert_eq!(said(Some("s2"), follower("s2")), "follows s1, which it last saw 0.7 s ago");
    let lacks = raftz("s1", r#""state":"LEADER","leader":"k2My6qdB","peers":{}"#);
    assert_eq!(said(Some("s3"), lacks), "does not list s3");
}
