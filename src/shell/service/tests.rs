use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::stamp::Stamp;

#[test]
fn nobody_is_answered_on_the_subjects_of_servers_services_and_our_own() {
    for reply in ["_INBOX.a.b", "_R_.x", "metawatchers.a", "SYS.REQ"] {
        assert!(may_answer(reply, "metawatch."), "{reply}");
    }
    for reply in
        ["$SYS.REQ.SERVER.PING", "$JS.API.STREAM.PURGE.A", "$SRV.PING", "$KV.a.b", "metawatch.alert.a"]
    {
        assert!(!may_answer(reply, "metawatch."), "{reply}");
    }
}

fn micro() -> (Micro, Arc<Endpoint>) {
    let monitor = Monitor { name: "m1".into(), version: "1.2.3".into(), instance: "i1".into() };
    let endpoint = Arc::new(Endpoint::new("view", "ops.watch"));
    (Micro::new("ID".into(), &monitor, Stamp::new(0, 0), vec![endpoint.clone()]), endpoint)
}

fn said(micro: &Micro, verb: Verb) -> Value {
    serde_json::from_slice(&micro.answer(verb).expect("an answer")).expect("JSON")
}

#[test]
fn the_service_tells_who_it_is_what_it_offers_and_how_often_it_was_asked() {
    let (micro, endpoint) = micro();
    let ping = said(&micro, Verb::Ping);
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(
        (&ping["name"], &ping["id"], &ping["version"]),
        (&"metawatch".into(), &"ID".into(), &"1.2.3".into())
    );
    assert_eq!((&ping["metadata"]["instance"], &ping["endpoints"]), (&"i1".into(), &Value::Null));
    let info = said(&micro, Verb::Info);
    let offered = &info["endpoints"][0];
    assert_eq!((&offered["name"], &offered["subject"]), (&"view".into(), &"ops.watch.view".into()));
    assert_eq!((&offered["queue_group"], &offered["num_requests"]), (&"q".into(), &Value::Null));
    endpoint.count(&Ok(Bytes::new()), Duration::from_micros(3));
    endpoint.count(&refusal(429, "busy"), Duration::from_micros(1));
    let stats = said(&micro, Verb::Stats);
    let counted = &stats["endpoints"][0];
    assert_eq!((&counted["num_requests"], &counted["num_errors"]), (&2.into(), &1.into()));
    assert_eq!(
        (&counted["processing_time"], &counted["average_processing_time"]),
        (&4_000.into(), &2_000.into())
    );
    assert_eq!((&counted["last_error"], stats["started"].is_string()), (&"429:busy".into(), true));
}

fn asked(topic: Topic, limit: usize, answers: mpsc::Sender<Answer>, requests: &Requests) -> Request {
    let (endpoint, came, span) = (micro().1, Stamp::new(0, 0), tracing::Span::none());
    let pending = PendingRequest { reply: "_INBOX.a".into(), endpoint, came, span };
    Request { topic, pending, limit, answers, refused: requests.refused.clone() }
}

#[test]
fn what_does_not_fit_into_a_message_is_an_error() {
    let requests = Requests::new(Clock::new());
    let (answers, mut sent) = mpsc::channel(2);
    asked(Topic::View, 10, answers.clone(), &requests).respond(Ok(vec![b'x'; 10].into()));
    asked(Topic::View, 10, answers, &requests).respond(Ok(vec![b'x'; 11].into()));
    assert!(sent.try_recv().expect("an answer").1.is_ok());
    let refused = sent.try_recv().expect("an answer").1.expect_err("an error");
    assert_eq!((refused.code, requests.refused()), (507, 1));
}

fn settings() -> Settings {
    let monitor = Monitor { name: "m".into(), version: "1.0.0".into(), instance: "i".into() };
    Settings {
        rules: crate::rules::Rules::default(),
        life: crate::alert::LifeRules::default(),
        monitor,
        prefix: "m".into(),
    }
}

#[test]
fn a_flood_of_checks_takes_no_room_and_a_connection_that_is_stuck_delays_nobody() {
    let mut requests = Requests::new(Clock::new());
    let pipeline = Pipeline::new(settings());
    // Nobody takes the answers.
    let (answers, sent) = mpsc::channel(1);
    let wanted = (0..1_000)
        .filter(|_| {
            let asked = asked(Topic::Check, 10, answers.clone(), &requests);
            requests.take(asked, None, &pipeline)
        })
        .count();
    assert_eq!((wanted, requests.checks.len(), sent.len()), (WAITING_MAX, WAITING_MAX, 1));
    assert_eq!(requests.refused(), 1_000 - WAITING_MAX as u64);
}

#[test]
fn whoever_waits_for_an_epoch_of_a_watcher_that_looks_no_more_is_told_to_ask_again() {
    let mut requests = Requests::new(Clock::new());
    let pipeline = Pipeline::new(settings());
    let (answers, mut sent) = mpsc::channel(4);
    let check = || asked(Topic::Check, 1_000, answers.clone(), &Requests::new(Clock::new()));
    assert!(requests.take(check(), None, &pipeline), "it waits for an epoch");
    requests.stand_by(true);
    assert!(!requests.take(check(), None, &pipeline), "one that was on its way");
    for _ in 0..2 {
        let refused = sent.try_recv().expect("an answer").1.expect_err("an error");
        assert_eq!((refused.code, refused.why.as_str()), (503, STANDS_BY));
    }
    requests.stand_by(false);
    assert!(requests.take(check(), None, &pipeline));
}

#[test]
fn a_missing_right_is_said_once_for_each_connection() {
    let mut requests = Requests::new(Clock::new());
    let denied = |subject: &str| LinkEvent::PermissionDenied {
        operation: Operation::Subscribe,
        subject: subject.to_owned(),
    };
    for (subject, connection) in [
        ("$SRV.PING", "one"),
        ("m.view", "one"),
        ("m.check", "two"),
        ("m.watcher.*", "three"),
        ("$SRVX", "three"),
    ] {
        requests.hear_of(&denied(subject), connection, "m");
    }
    assert_eq!(requests.denied.iter().copied().collect::<Vec<_>>(), ["one", "two"]);
}
