use super::message::PeerMessage;
use super::*;

const INTERVAL: Duration = Duration::from_secs(1);

fn at(millis: i64) -> Stamp {
    Stamp::new(millis * 1_000_000, (1_795_380_222_000 + millis) * 1_000_000)
}

fn election(name: &str, started: i64) -> Election {
    let me = Me::new(name.into(), name.into(), started);
    Election::new(me, INTERVAL, ReplicatedState::default(), at(0))
}

/// Lets time pass: it hears its own messages, and says what it has become at the end.
fn pass(election: &mut Election, from: i64, to: i64) -> Role {
    for millis in (from..=to).step_by(50) {
        election.tick(true, at(millis));
        if let Some(own) = election.due_message(at(millis)) {
            assert_eq!(election.hear(own, at(millis)), Heard::Nothing);
        }
        election.tick(true, at(millis));
    }
    election.role()
}

fn version(term: u64, revision: u64, writer: &str) -> StateVersion {
    StateVersion { term, revision, writer: writer.into() }
}

/// What an active watcher of this name says.
fn beat(name: &str, term: u64) -> PeerMessage {
    let other = election(name, 0);
    PeerMessage {
        audience: Audience::All,
        role: Role::Active,
        sees_servers: true,
        term,
        version: Some(version(term, 1, name)),
        watchers: 2,
        ..other.message_now(at(0))
    }
}

fn chunk(of: StateVersion, merged: &[StateVersion]) -> Option<Chunk> {
    let state = ReplicatedState {
        version: Some(of.clone()),
        merged_versions: merged.to_vec(),
        ..ReplicatedState::default()
    };
    let text = serde_json::to_string(&state).expect("JSON");
    Some(Chunk { version: of, index: 0, count: 1, text })
}

#[test]
fn a_watcher_that_is_alone_listens_and_then_is_active() {
    let mut alone = election("a", 0);
    assert_eq!(pass(&mut alone, 0, 700), Role::Joining);
    assert_eq!(pass(&mut alone, 750, 1_400), Role::Active);
    assert!(alone.is_active(at(1_400)));
    assert_eq!((alone.active_name(at(1_400)), alone.watchers()), (Some("a"), 1));
}

#[test]
fn one_that_does_not_hear_itself_any_more_stops_before_others_take_over() {
    let mut alone = election("a", 0);
    pass(&mut alone, 0, 2_000);
    assert!(alone.is_active(at(3_000)) && !alone.is_active(at(3_600)));
    assert_eq!(alone.tick(true, at(3_600)), Role::Joining);
    // A standby waits longer than that.
    let mut other = election("b", 1);
    let named = PeerMessage { standbys: vec!["b".into()], ..beat("a", 1) };
    for millis in (0..=2_000).step_by(500) {
        other.hear(named.clone(), at(millis));
        pass(&mut other, millis, millis + 450);
    }
    assert_eq!(other.role(), Role::Standby);
    assert_eq!(pass(&mut other, 2_500, 3_950), Role::Standby);
    assert_eq!(pass(&mut other, 4_000, 4_300), Role::Active);
}

#[test]
fn one_that_may_not_hear_the_others_is_active_all_the_same() {
    let mut denied = election("a", 0);
    denied.set_denied(true);
    denied.tick(true, at(0));
    assert_eq!(denied.tick(true, at(300)), Role::Active);
    // Without a word of the server about it, after a while.
    let mut unheard = election("b", 0);
    assert_eq!(unheard.tick(true, at(0)), Role::Joining);
    assert_eq!(unheard.tick(true, at(3_000)), Role::Joining);
    unheard.tick(true, at(3_100));
    assert_eq!(unheard.tick(true, at(3_400)), Role::Active);
    // But never while it sees no server: then it is the connection.
    let mut blind = election("c", 0);
    assert_eq!(blind.tick(false, at(60_000)), Role::Joining);
}

#[test]
fn of_two_active_watchers_the_one_with_the_higher_term_goes_on_and_asks_for_what_the_other_told() {
    let mut first = election("a", 9);
    pass(&mut first, 0, 2_000);
    assert_eq!(first.version().map(|version| version.term), Some(1));
    assert_eq!(first.hear(beat("b", 1), at(2_000)), Heard::Nothing);
    assert_eq!(pass(&mut first, 2_000, 2_050), Role::Reserve, "of one term, who has run longest");
    let mut second = election("c", 0);
    pass(&mut second, 0, 2_000);
    second.term = 5;
    second.begin(at(2_000));
    second.hear(beat("b", 3), at(2_050));
    assert_eq!(pass(&mut second, 2_050, 2_100), Role::Active);
    let steps_down = PeerMessage { role: Role::Standby, audience: Audience::Electors, ..beat("b", 3) };
    second.hear(steps_down.clone(), at(2_150));
    let asks = second.due_message(at(2_150)).and_then(|message| message.asks).expect("a question");
    assert_eq!((asks.holder.as_str(), &asks.version), ("b", &version(3, 1, "b")));
    let answer = PeerMessage { chunk: chunk(version(3, 1, "b"), &[]), ..steps_down };
    assert!(matches!(second.hear(answer.clone(), at(2_200)), Heard::Merge(_)));
    assert_eq!(second.hear(answer, at(2_250)), Heard::Nothing, "once");
}

#[test]
fn messages_that_cannot_be_believed_are_counted_and_change_nothing() {
    let mut election = election("a", 0);
    pass(&mut election, 0, 2_000);
    let good = beat("b", 1);
    let bad = [
        PeerMessage { v: 2, ..good.clone() },
        PeerMessage { instance: String::new(), ..good.clone() },
        PeerMessage { instance: "x".repeat(129), ..good.clone() },
        PeerMessage { name: "x".repeat(129), ..good.clone() },
        PeerMessage { started_ns: -1, ..good.clone() },
        // Numbers that nobody comes to.
        PeerMessage { term: u64::MAX, ..good.clone() },
        PeerMessage { watchers: u64::MAX, ..good.clone() },
        PeerMessage { standbys: vec!["b".into(); 3], ..good.clone() },
        PeerMessage { version: Some(version(u64::MAX, 1, "b")), ..good.clone() },
        PeerMessage { unmerged: Some(version(1, u64::MAX, "b")), ..good.clone() },
        PeerMessage { version: Some(version(1, 1, &"x".repeat(129))), ..good.clone() },
        // An echo from the future.
        PeerMessage { sent_ns: i64::MAX, ..election.message_now(at(2_000)) },
    ];
    for (number, message) in (1..).zip(bad) {
        assert_eq!(election.hear(message.clone(), at(2_000)), Heard::Nothing, "{message:?}");
        assert_eq!(election.refused(), number, "{message:?}");
    }
    assert_eq!(election.tick(true, at(2_000)), Role::Active);
}

#[test]
fn a_state_with_versions_that_cannot_be_is_not_taken_over() {
    let mut election = election("b", 1);
    pass(&mut election, 0, 500);
    let mut hear = |revision: u64, merged: StateVersion| {
        let of = version(1, revision, "a");
        let message = PeerMessage { chunk: chunk(of.clone(), &[merged]), version: Some(of), ..beat("a", 1) };
        (election.hear(message, at(600)), election.refused())
    };
    assert_eq!(hear(3, version(1, u64::MAX, "c")), (Heard::Nothing, 1));
    assert!(matches!(hear(3, version(1, 2, "c")), (Heard::Adopt(_), 1)));
    assert_eq!(hear(3, version(1, 2, "c")), (Heard::Nothing, 1), "it is known already");
}

#[test]
fn who_knows_more_than_the_active_watcher_keeps_it_until_that_one_has_merged_it() {
    let alert = serde_json::json!({
        "check": "META_001", "group": "default", "peer": "3ahZoO2Q", "name": "s3",
        "incident": "Ab3", "seq": 2, "state": "firing", "since_ns": 1_795_380_200_000_000_000_i64,
        "told_ns": 1_795_380_201_000_000_000_i64, "fired": true, "basis": "reported",
    });
    let known = serde_json::json!({ "alerts": [alert], "version": version(7, 3, "old") });
    let known: ReplicatedState = serde_json::from_value(known).expect("a state");
    let mut restarted = Election::new(Me::new("b".into(), "b".into(), 1), INTERVAL, known.clone(), at(0));
    pass(&mut restarted, 0, 100);
    let stale = version(8, 1, "a");
    let message = PeerMessage { chunk: chunk(stale.clone(), &[]), ..beat("a", 8) };
    assert!(matches!(restarted.hear(message, at(150)), Heard::Adopt(_)));
    assert_eq!(restarted.to_be_saved(), &known, "a crash must not lose it either");
    pass(&mut restarted, 150, 900);
    let says = restarted.message_now(at(900));
    assert_eq!((says.version, says.unmerged), (Some(stale), Some(version(7, 3, "old"))));
    // The active one merges it and says so.
    let merged = version(8, 2, "a");
    let message = PeerMessage {
        chunk: chunk(merged.clone(), &[version(7, 3, "old")]),
        version: Some(merged),
        ..beat("a", 8)
    };
    assert!(matches!(restarted.hear(message, at(950)), Heard::Adopt(_)));
    assert_eq!(restarted.message_now(at(950)).unmerged, None);
    assert!(restarted.to_be_saved().is_empty());
}

/// A watcher with an older state that begins asks for the newest one that it has heard of, and waits for it, but not for
/// ever.
#[test]
fn whoever_begins_asks_for_the_highest_version_it_has_heard_of_first() {
    for answers in [true, false] {
        let old: ReplicatedState =
            serde_json::from_value(serde_json::json!({ "alerts": [], "version": version(3, 1, "old") }))
                .expect("a state");
        let mut restarted = Election::new(Me::new("b".into(), "b".into(), 1), INTERVAL, old, at(0));
        pass(&mut restarted, 0, 700);
        let mut role = restarted.role();
        let (mut asked, mut began) = (None, None);
        for millis in (750..=4_000).step_by(50) {
            // A reserve that holds a later state says so to a candidate.
            if role == Role::Candidate {
                let knows = PeerMessage {
                    role: Role::Reserve,
                    audience: Audience::Electors,
                    version: Some(version(3, 9, "old")),
                    ..beat("c", 3)
                };
                assert_eq!(restarted.hear(knows.clone(), at(millis)), Heard::Nothing);
                let asks = restarted.message_now(at(millis)).asks;
                asked = asked.or_else(|| asks.as_ref().map(|_| millis));
                if answers && asks.is_some_and(|asks| asks.version == version(3, 9, "old")) {
                    let answer = PeerMessage { chunk: chunk(version(3, 9, "old"), &[]), ..knows };
                    assert!(matches!(restarted.hear(answer, at(millis)), Heard::Adopt(_)));
                }
            }
            role = pass(&mut restarted, millis, millis);
            if role == Role::Active && began.is_none() {
                began = Some(millis);
            }
        }
        let (asked, began) = (asked.expect("asked"), began.expect("active"));
        assert!(asked < began, "first it asks");
        assert_eq!(began - asked > 900, !answers, "a unit is the limit: {asked} {began}");
        let known = restarted.version().expect("a version");
        assert_eq!((known.term, known.writer.as_str()), (4, "b"));
        assert_eq!(restarted.to_be_saved().includes(&version(3, 9, "old")), answers);
    }
}

proptest::proptest! {
    /// Whatever numbers another watcher sends, this one decides, and its own terms and revisions go on
    /// counting.
    #[test]
    fn no_number_of_another_watcher_wraps_ours(
        sent: i64, started: i64, term: u64, terms: [u64; 2], revisions: [u64; 2], interval: u64,
    ) {
        let mut election = election("a", 0);
        pass(&mut election, 0, 2_000);
        let other = |which: usize| version(terms[which], revisions[which], "b");
        let message = PeerMessage {
            sent_ns: sent, started_ns: started, term, interval_ms: interval, version: Some(other(0)),
            unmerged: Some(other(1)), chunk: chunk(other(0), &[other(1)]), ..beat("b", 1)
        };
        let sound = message.is_sound();
        election.hear(message, at(2_000));
        proptest::prop_assert_eq!(election.refused(), u64::from(!sound));
        pass(&mut election, 2_050, 15_000);
        proptest::prop_assert!(election.is_active(at(15_000)), "it is alone again");
        let before = election.version().cloned().expect("a version");
        let system = Some("one".to_owned());
        let changed = election.keep(ReplicatedState { system, ..ReplicatedState::default() }, at(15_000));
        proptest::prop_assert!(changed);
        let after = election.version().cloned().expect("a version");
        proptest::prop_assert!(after.is_sound() && after.revision > before.revision && after.term == before.term);
    }
}
