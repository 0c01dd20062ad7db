use super::*;
use crate::check::Verdict;

const FIRING: &str = include_str!("../../tests/events/v1/meta_001-firing-reported.json");

fn now() -> Stamp {
    Stamp::new(5_000_000_000, 1_795_380_222_300_000_000)
}

fn outgoing() -> Outgoing {
    let event: AlertEvent = serde_json::from_str(FIRING).unwrap();
    let subject = event.subject("metawatch", "s3");
    Outgoing { headers: event.headers(&subject), subject, event }
}

fn alert() -> serde_json::Value {
    serde_json::json!({
        "check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3",
        "incident": "Ab3", "seq": 2, "state": "firing", "since_ns": 1_795_380_200_000_000_000_i64,
        "told_ns": 1_795_380_201_000_000_000_i64, "fired": true, "basis": "reported",
        "told_of": [["reported", "stopping"]],
    })
}

fn read(text: &str) -> Restored {
    serde_json::from_str::<ReplicatedState>(text).unwrap().read("metawatch", now())
}

#[test]
fn a_state_is_read_as_it_was_written() {
    let restored = read(&serde_json::json!({ "alerts": [alert()] }).to_string());
    assert_eq!((restored.alerts.len(), restored.refused), (1, 0));
    assert_eq!(restored.alerts[0].verdict, Verdict::Unknown, "what the servers say now is not known");
    assert_eq!(now().since(restored.alerts[0].since), std::time::Duration::from_millis(22_300));
    let mut table = AlertTable::default();
    table.replace(restored.alerts);
    let waiting = [outgoing()];
    let state = ReplicatedState::new(&table, waiting.iter(), "metawatch");
    let again = read(&serde_json::to_string(&state).unwrap());
    assert_eq!(again.waiting, waiting);
    table.replace(again.alerts);
    assert_eq!(ReplicatedState::new(&table, waiting.iter(), "metawatch"), state);
}

#[test]
fn an_alert_that_cannot_be_ours_is_left_out() {
    let changes = [
        ("check", serde_json::json!("META_999")),
        ("peer", serde_json::json!("no id of any peer")),
        ("incident", serde_json::json!("../../etc")),
        ("incident", serde_json::json!("x".repeat(65))),
        ("merged", serde_json::json!(["a b"])),
        ("merged", serde_json::json!(vec!["a"; 9])),
        ("told_of", serde_json::json!(vec![[null::<()>(), null::<()>()]; 17])),
        ("seq", serde_json::json!(0)),
        ("seq", serde_json::json!(u64::MAX)),
        ("since_ns", serde_json::json!(i64::MIN)),
        ("told_ns", serde_json::json!(-1)),
    ];
    for (field, value) in changes {
        let mut bad = alert();
        bad[field] = value.clone();
        let restored = read(&serde_json::json!({ "alerts": [bad, alert()] }).to_string());
        assert_eq!((restored.alerts.len(), restored.refused), (1, 1), "{field}: {value}");
    }
}

fn null<T>() -> Option<T> {
    None
}

#[test]
fn an_alert_from_the_future_began_now() {
    let mut early = alert();
    early["since_ns"] = serde_json::json!(i64::MAX);
    let restored = read(&serde_json::json!({ "alerts": [early] }).to_string());
    assert_eq!(restored.alerts[0].since, now());
}

#[test]
fn no_event_is_ever_published_outside_its_own_subject() {
    let waiting = [outgoing()];
    let sound =
        serde_json::to_value(ReplicatedState::new(&AlertTable::default(), waiting.iter(), "metawatch"))
            .unwrap();
    assert_eq!(sound["waiting"][0]["subject"], "alert.META_001.default.s3.firing");
    let subjects = [
        "heartbeat",
        "alert.META_001.default.s3.resolved",
        "alert.META_006.default.s3.firing",
        "alert.META_001.default.s3",
        "alert.META_001.default.s3.firing.more",
        "alert.META_001..s3.firing",
        "alert.META_001.*.s3.firing",
        "alert.META_001.>.s3.firing",
        "alert.META_001.a b.s3.firing",
        "alert.META_001.a\r\nPUB.s3.firing",
    ];
    for subject in subjects {
        let mut changed = sound.clone();
        changed["waiting"][0]["subject"] = serde_json::json!(subject);
        let restored = read(&changed.to_string());
        assert_eq!((restored.waiting.len(), restored.refused), (0, 1), "{subject:?}");
    }
    let mut foreign_id = sound.clone();
    foreign_id["waiting"][0]["event"]["id"] = serde_json::json!("other.1");
    assert_eq!(read(&foreign_id.to_string()).refused, 1);
    // Another prefix is where the next run publishes.
    let elsewhere = serde_json::from_value::<ReplicatedState>(sound).unwrap().read("other", now());
    assert_eq!(elsewhere.waiting[0].subject, "other.alert.META_001.default.s3.firing");
}

proptest::proptest! {
    #[test]
    fn no_number_in_an_alert_wraps(seq: u64, since: i64, told: i64, flaps: u32) {
        let mut changed = alert();
        for (field, value) in [("seq", seq.into()), ("since_ns", since.into()), ("told_ns", told.into())] {
            changed[field] = value;
        }
        changed["flaps"] = flaps.into();
        let restored = read(&serde_json::json!({ "alerts": [changed] }).to_string());
        proptest::prop_assert_eq!(restored.alerts.len() + restored.refused, 1);
        for alert in restored.alerts {
            proptest::prop_assert!(alert.sequence > 0 && alert.sequence < SEQ_MAX / 2);
            proptest::prop_assert!(alert.since.wall_ns() >= 0 && now().has_reached(alert.since));
        }
    }
}

#[test]
fn an_event_with_numbers_beyond_reason_is_left_out() {
    let waiting = [outgoing()];
    let sound =
        serde_json::to_value(ReplicatedState::new(&AlertTable::default(), waiting.iter(), "metawatch"))
            .unwrap();
    let changes = [
        ("seq", serde_json::json!(u64::MAX)),
        ("seq", serde_json::json!(0)),
        ("timestamp", serde_json::json!("292277-01-01T00:00:00Z")),
        ("since", serde_json::json!("yesterday")),
    ];
    for (field, value) in changes {
        let mut changed = sound.clone();
        let event = &mut changed["waiting"][0]["event"];
        event[field] = value;
        event["id"] = format!("{}.{}", event["incident"].as_str().unwrap(), event["seq"]).into();
        let restored = read(&changed.to_string());
        assert_eq!((restored.waiting.len(), restored.refused), (0, 1), "{field}");
    }
}
