use super::*;

/// So many seconds after the listening began.
fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A watcher as a receiver knows it: its system, its instance, and how far its clock is ahead, in seconds.
#[derive(Clone, Copy)]
struct Watcher(Option<&'static str>, &'static str, i64);

const A: Watcher = Watcher(Some("one"), "a", 0);
const B: Watcher = Watcher(Some("one"), "b", -3_600);
const OTHER: Watcher = Watcher(Some("two"), "o", 0);
const OLD: Watcher = Watcher(None, "old", 0);

impl Watcher {
    /// The time on its clock, and its epoch, when a receiver has `second`.
    fn time(self, second: u64) -> String {
        crate::stamp::Stamp::new(0, (1_795_380_222 + second as i64 + self.2) * 1_000_000_000).to_string()
    }

    fn event(self, seq: u64, state: State, second: u64) -> AlertEvent {
        let kept = include_str!("../../../tests/events/v1/meta_001-firing-observed.json");
        let mut event: AlertEvent = serde_json::from_str(kept).expect("an event");
        event.epoch.id = format!("{}-{second}", self.1);
        event.monitor.instance = self.1.to_owned();
        let system = self.0.map(str::to_owned);
        AlertEvent { seq, state, incident: "i".to_owned(), timestamp: self.time(second), system, ..event }
    }

    fn heartbeat(self, status: &str, active: &[(u64, &str)], second: u64) -> Heartbeat {
        let listed = |(seq, state): &(u64, &str)| {
            serde_json::json!({"check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3",
                "state": state, "severity": "critical", "incident": "i", "seq": seq, "since": self.time(0)})
        };
        let active: Vec<_> = active.iter().map(listed).collect();
        let id = format!("{}-{second}", self.1);
        let mut heartbeat = serde_json::json!({
            "v": 1, "timestamp": self.time(second), "status": status, "summary": "", "groups": [],
            "incidents": active.len(), "active": active, "speaker": self.1, "undelivered": 0, "waiting": 0,
            "interval_ms": 1_000,
            "epoch": {"id": id, "ended": "all_heard", "expected": 3, "heard": 2, "missing": [], "elapsed_ms": 1},
            "monitor": {"name": self.1, "version": "1", "instance": self.1},
        });
        if let Some(system) = self.0 {
            heartbeat["system"] = system.into();
        }
        serde_json::from_value(heartbeat).expect("a heartbeat")
    }
}

/// Hears a watcher's heartbeat; what it tells, as `before → now`.
fn hear(
    incidents: &mut Incidents,
    watcher: Watcher,
    status: &str,
    active: &[(u64, &str)],
    second: u64,
) -> Vec<(Option<State>, State)> {
    let learned = incidents.heartbeat(&watcher.heartbeat(status, active, second), at(second));
    learned.missed.iter().map(|missed| (missed.before, missed.incident.state)).collect()
}

/// Hears it in two seconds running; what the second time tells.
fn twice(
    incidents: &mut Incidents,
    watcher: Watcher,
    status: &str,
    active: &[(u64, &str)],
    second: u64,
) -> Vec<(Option<State>, State)> {
    assert!(hear(incidents, watcher, status, active, second).is_empty(), "the event may be on its way");
    hear(incidents, watcher, status, active, second + 1)
}

const OVER: [(Option<State>, State); 1] = [(Some(State::Firing), State::Resolved)];

#[test]
fn an_event_that_comes_again_is_no_news() {
    let mut incidents = Incidents::default();
    let news = |before| Heard::News { before };
    assert_eq!(incidents.event(&A.event(1, State::Suspected, 1), at(1)), news(None));
    let firing = A.event(2, State::Firing, 2);
    assert_eq!(incidents.event(&firing, at(2)), news(Some(State::Suspected)));
    assert_eq!(incidents.event(&firing, at(3)), Heard::Again);
    assert_eq!(incidents.event(&A.event(1, State::Suspected, 1), at(3)), Heard::Again);
    assert!(twice(&mut incidents, A, "alerting", &[(2, "firing")], 3).is_empty());
}

#[test]
fn a_missed_event_is_learned_from_the_second_heartbeat_that_tells_of_it() {
    let mut incidents = Incidents::default();
    let firing: [(u64, &str); 1] = [(2, "firing")];
    assert_eq!(twice(&mut incidents, A, "alerting", &firing, 3), [(None, State::Firing)]);
    assert!(twice(&mut incidents, A, "alerting", &firing, 5).is_empty(), "told once");
    // The event itself comes late: news, but the incident was known to fire. An earlier one is none.
    let before = Some(State::Firing);
    assert_eq!(incidents.event(&A.event(1, State::Suspected, 1), at(6)), Heard::Again);
    assert_eq!(incidents.event(&A.event(2, State::Firing, 2), at(6)), Heard::News { before });
    assert_eq!(twice(&mut incidents, A, "ok", &[], 7), OVER);
    let resolved = A.event(3, State::Resolved, 6);
    assert_eq!(incidents.event(&resolved, at(9)), Heard::News { before: Some(State::Resolved) });
    assert!(twice(&mut incidents, A, "ok", &[], 10).is_empty());
}

#[test]
fn only_positive_evidence_ends_an_incident_that_is_not_listed_any_more() {
    let mut incidents = Incidents::default();
    incidents.event(&A.event(1, State::Firing, 5), at(5));
    assert!(twice(&mut incidents, A, "unknown", &[], 6).is_empty());
    assert!(twice(&mut incidents, A, "alerting", &[], 8).is_empty());
    for second in [3, 4] {
        // From before the event, and late.
        let late = A.heartbeat("ok", &[], second);
        assert!(incidents.heartbeat(&late, at(10)).missed.is_empty());
    }
    assert_eq!(twice(&mut incidents, A, "ok", &[], 11), OVER);
}

#[test]
fn one_systems_word_ends_nothing_of_another_and_both_are_told() {
    let mut incidents = Incidents::default();
    incidents.event(&A.event(1, State::Firing, 1), at(1));
    let mut told = Vec::new();
    for second in 2..60 {
        for (watcher, status, active) in [(A, "alerting", &[(1, "firing")][..]), (OTHER, "ok", &[])] {
            let learned = incidents.heartbeat(&watcher.heartbeat(status, active, second), at(second));
            assert!(learned.missed.is_empty(), "{second}: {:?}", learned.missed);
            told.extend(learned.beside);
        }
    }
    let (system, other) = (Some("two".to_owned()), Some("one".to_owned()));
    assert_eq!(told, [Beside::System { system, other }], "told once");
    // Nor when the system that tells of it has gone quiet.
    for second in 60..120 {
        assert!(hear(&mut incidents, OTHER, "ok", &[], second).is_empty());
    }
    let quiet = incidents.quiet(at(120));
    assert_eq!(quiet, [Quiet { system: Some("one".to_owned()), since: Some(at(59)), lasted: at(61) }]);
    assert!(twice(&mut incidents, A, "ok", &[], 121).len() == 1, "its own word does");
}

#[test]
fn watchers_that_told_no_system_are_one_of_their_own() {
    let mut incidents = Incidents::default();
    incidents.event(&OLD.event(1, State::Firing, 1), at(1));
    for second in 2..40 {
        assert!(hear(&mut incidents, OLD, "alerting", &[(1, "firing")], second).is_empty());
        assert!(hear(&mut incidents, A, "ok", &[], second).is_empty());
    }
    assert_eq!(twice(&mut incidents, OLD, "ok", &[], 40), OVER);
}

#[test]
fn a_takeover_ends_what_is_over_once_the_other_watcher_is_silent_whatever_their_clocks_say() {
    for next in [B, Watcher(Some("one"), "b", 3_600)] {
        let mut incidents = Incidents::default();
        hear(&mut incidents, A, "alerting", &[], 1);
        incidents.event(&A.event(1, State::Firing, 2), at(2));
        hear(&mut incidents, A, "alerting", &[(1, "firing")], 3);
        // It ended while nobody spoke, and its event was not heard.
        for second in 6..14 {
            assert!(hear(&mut incidents, next, "ok", &[], second).is_empty(), "{second}");
        }
        assert_eq!(twice(&mut incidents, next, "ok", &[], 14), OVER);
    }
    // What the next one goes on with is its own from then on.
    let mut incidents = Incidents::default();
    incidents.event(&A.event(1, State::Firing, 2), at(2));
    hear(&mut incidents, A, "alerting", &[(1, "firing")], 3);
    assert!(hear(&mut incidents, B, "alerting", &[(1, "firing")], 5).is_empty());
    assert_eq!(twice(&mut incidents, B, "ok", &[], 6), OVER);
}

#[test]
fn a_clock_that_is_set_back_leaves_no_page_open() {
    let mut incidents = Incidents::default();
    let ahead = Watcher(Some("one"), "a", 3_600);
    incidents.event(&ahead.event(1, State::Firing, 2), at(2));
    // The same watcher, whose clock is right now.
    assert_eq!(twice(&mut incidents, A, "ok", &[], 3), OVER);
}

#[test]
fn two_watchers_of_one_system_that_do_not_know_each_other_are_told_and_not_mixed() {
    let mut incidents = Incidents::default();
    incidents.event(&A.event(1, State::Firing, 1), at(1));
    let mut told = Vec::new();
    for second in 2..30 {
        for (watcher, status, active) in [(A, "alerting", &[(1, "firing")][..]), (B, "ok", &[])] {
            let learned = incidents.heartbeat(&watcher.heartbeat(status, active, second), at(second));
            assert!(learned.missed.is_empty(), "{second}: {:?}", learned.missed);
            told.extend(learned.beside);
        }
    }
    assert_eq!(told, [Beside::Watcher { names: ["a".to_owned(), "b".to_owned()] }], "told once");
    // Nor when the one that told of it is not heard any more.
    for second in 30..100 {
        assert!(hear(&mut incidents, B, "ok", &[], second).is_empty());
    }
    // A third one that follows it, and was never heard beside it, is believed.
    assert_eq!(twice(&mut incidents, Watcher(Some("one"), "c", 0), "ok", &[], 100), OVER);
}

#[test]
fn a_takeover_is_no_second_speaker() {
    let mut incidents = Incidents::default();
    // Three times there and back again, and once with the last word of the one before on its way.
    for (second, watcher) in (0..90).map(|second| (second, if second / 15 % 2 == 0 { A } else { B })) {
        for watcher in [watcher, A].into_iter().take(if second == 16 { 2 } else { 1 }) {
            let learned = incidents.heartbeat(&watcher.heartbeat("ok", &[], second), at(second));
            assert_eq!(learned.beside, None, "{second}");
        }
    }
    assert_eq!(incidents.quiet(at(90)), []);
}

#[test]
fn a_watcher_that_learns_which_system_it_watches_is_the_same_watcher() {
    let mut incidents = Incidents::default();
    let unnamed = Watcher(None, "a", 0);
    incidents.event(&unnamed.event(1, State::Firing, 1), at(1));
    hear(&mut incidents, unnamed, "alerting", &[(1, "firing")], 2);
    assert_eq!(twice(&mut incidents, A, "ok", &[], 3), OVER);
    for second in 5..40 {
        let learned = incidents.heartbeat(&A.heartbeat("ok", &[], second), at(second));
        assert_eq!(learned.beside, None);
        assert_eq!(incidents.quiet(at(second)), []);
    }
}

#[test]
fn an_upgrade_to_a_version_that_tells_its_system_is_no_quiet() {
    let mut incidents = Incidents::default();
    incidents.event(&OLD.event(1, State::Firing, 1), at(1));
    hear(&mut incidents, OLD, "alerting", &[(1, "firing")], 2);
    let mut over = Vec::new();
    for second in 4..40 {
        over.extend(hear(&mut incidents, A, "ok", &[], second));
        assert_eq!(incidents.quiet(at(second)), []);
    }
    assert_eq!(over, OVER);
    // But another system that ends is quiet, whoever begins meanwhile.
    hear(&mut incidents, OTHER, "ok", &[], 41);
    let quiet: Vec<_> = (41..60).flat_map(|second| incidents.quiet(at(second))).collect();
    assert_eq!(
        quiet.iter().map(|quiet| quiet.system.as_deref()).collect::<Vec<_>>(),
        [Some("one"), Some("two")]
    );
}

#[test]
fn silence_from_the_start_is_told_once_after_a_while() {
    let mut incidents = Incidents::default();
    assert_eq!(incidents.quiet_at(), Some(at(15)));
    assert_eq!(incidents.quiet(at(14)), []);
    assert_eq!(incidents.quiet(at(15)), [Quiet { system: None, since: None, lasted: at(15) }]);
    assert_eq!((incidents.quiet_at(), incidents.quiet(at(16))), (None, Vec::new()));
    assert!(incidents.heartbeat(&A.heartbeat("ok", &[], 20), at(20)).back);
    assert!(!incidents.heartbeat(&A.heartbeat("ok", &[], 21), at(21)).back);
    assert_eq!(incidents.quiet_at(), Some(at(31)));
}

#[test]
fn the_patience_follows_the_heartbeats_and_their_promise_within_bounds() {
    let cases = [(1, 0, 10), (2, 0, 10), (10, 0, 30), (30, 0, 60), (600, 0, 60)];
    let promises = [(1, 2_000, 10), (1, 10_000, 40), (1, 3_600_000, 14_400), (1, u64::MAX, 14_400)];
    for (spacing, promised, patience) in cases.into_iter().chain(promises) {
        let mut incidents = Incidents::default();
        for second in [0, spacing] {
            let beat = Heartbeat { interval_ms: promised, ..A.heartbeat("ok", &[], second) };
            incidents.heartbeat(&beat, at(second));
        }
        let told = Some(at(spacing + patience));
        assert_eq!(incidents.quiet_at(), told, "every {spacing} s, {promised} ms promised");
    }
}

#[test]
fn a_quiet_is_no_spacing_and_old_spacings_are_forgotten() {
    let mut incidents = Incidents::default();
    let beat = |incidents: &mut Incidents, second| {
        let beat = Heartbeat { interval_ms: 0, ..A.heartbeat("ok", &[], second) };
        incidents.heartbeat(&beat, at(second)).back
    };
    assert!(!beat(&mut incidents, 0) && !beat(&mut incidents, 5));
    assert_eq!(incidents.quiet(at(60)).len(), 1);
    assert!(beat(&mut incidents, 1_000));
    assert_eq!(incidents.quiet_at(), Some(at(1_015)), "three times 5 s still");
    for second in 1_001..=1_008 {
        beat(&mut incidents, second);
    }
    assert_eq!(incidents.quiet_at(), Some(at(1_018)));
}

#[test]
fn numbers_that_no_watcher_sends_are_not_taken_in() {
    let mut incidents = Incidents::default();
    for seq in [0, SEQ_MAX + 1, u64::MAX] {
        assert_eq!(incidents.event(&A.event(seq, State::Resolved, 1), at(1)), Heard::Unsound);
        assert!(twice(&mut incidents, A, "alerting", &[(seq, "firing")], 2).is_empty());
    }
    assert_eq!(incidents.event(&A.event(1, State::Firing, 9), at(9)), Heard::News { before: None });
}

#[test]
fn what_is_remembered_has_a_limit_and_what_fires_is_forgotten_last() {
    let mut incidents = Incidents::default();
    for number in 0..2 * KNOWN_MAX as u64 {
        let state = if number == 0 { State::Firing } else { State::Resolved };
        let event = AlertEvent { incident: format!("i{number}"), ..A.event(1, state, 1) };
        incidents.event(&event, at(number));
    }
    assert_eq!(incidents.known.len(), KNOWN_MAX);
    for (id, known) in [("i0", true), ("i1", false), ("i1999", true)] {
        assert_eq!(incidents.known.contains_key(id), known, "{id}");
    }
    let mut told = 0;
    for number in 0..2 * SYSTEMS_MAX {
        let invented = Heartbeat { system: Some(number.to_string()), ..A.heartbeat("ok", &[], 1) };
        told += u64::from(incidents.heartbeat(&invented, at(1)).too_many);
    }
    // The system of the events above is the first of them.
    let beyond = 2 * SYSTEMS_MAX - incidents.systems.len();
    assert_eq!((incidents.systems.len(), told), (SYSTEMS_MAX, 1));
    assert_eq!(incidents.unfollowed(), beyond as u64);
}

#[test]
fn what_two_watchers_told_apart_ends_on_the_word_of_the_one_that_names_both() {
    let mut incidents = Incidents::default();
    // Both made up an id of their own, and found each other later.
    incidents.event(&OTHER.event(1, State::Firing, 1), at(1));
    let merged = vec!["i".to_owned()];
    let own = AlertEvent { incident: "own".to_owned(), merged, ..A.event(2, State::Firing, 2) };
    incidents.event(&own, at(2));
    assert!(hear(&mut incidents, A, "ok", &[], 3).is_empty());
    assert_eq!(hear(&mut incidents, A, "ok", &[], 4).len(), 2);
}

#[test]
fn a_watcher_that_is_heard_again_under_another_id_ends_the_quiet() {
    let mut incidents = Incidents::default();
    for watcher in [A, B] {
        hear(&mut incidents, watcher, "ok", &[], 1);
    }
    assert_eq!(incidents.quiet(at(30)).len(), 1);
    let renamed = Watcher(Some("renamed"), "a", 0);
    assert!(incidents.heartbeat(&renamed.heartbeat("ok", &[], 31), at(31)).back);
    assert!(!incidents.heartbeat(&renamed.heartbeat("ok", &[], 32), at(32)).back);
}
