use super::*;

fn at(seconds: u64) -> Stamp {
    Stamp::new(0, 0).plus(Duration::from_secs(seconds))
}

#[test]
fn silence_from_the_start_is_told_after_a_while() {
    let mut pulse = Pulse::new(at(100));
    assert_eq!(pulse.quiet_at(), Some(at(115)));
    assert_eq!(pulse.quiet(at(115)), (None, FIRST_WITHIN));
    assert_eq!(pulse.quiet_at(), None, "told once");
    assert!(pulse.beat(at(120), Duration::ZERO), "back again");
    assert_eq!(pulse.quiet_at(), Some(at(130)));
}

#[test]
fn the_patience_follows_the_heartbeats_within_bounds() {
    for (spacing, patience) in [(1, 10), (2, 10), (10, 30), (30, 60), (600, 60)] {
        let mut pulse = Pulse::new(at(0));
        assert!(!pulse.beat(at(1), Duration::ZERO));
        assert!(!pulse.beat(at(1 + spacing), Duration::ZERO));
        assert_eq!(pulse.quiet_at(), Some(at(1 + spacing + patience)), "every {spacing} s");
    }
}

#[test]
fn slow_heartbeats_that_were_promised_so_are_no_quiet() {
    for (promised, patience) in [(2, 10), (10, 40), (60, 240), (3_600, 14_400), (u64::MAX, 14_400)] {
        let mut pulse = Pulse::new(at(0));
        pulse.beat(at(1), Duration::from_secs(promised));
        assert_eq!(pulse.quiet_at(), Some(at(1 + patience)), "every {promised} s");
    }
}

#[test]
fn a_quiet_is_no_spacing_and_old_spacings_are_forgotten() {
    let mut pulse = Pulse::new(at(0));
    pulse.beat(at(0), Duration::ZERO);
    pulse.beat(at(15), Duration::ZERO);
    let (since, lasted) = pulse.quiet(at(60));
    assert_eq!((since, lasted), (Some(at(15)), Duration::from_secs(45)));
    assert!(pulse.beat(at(1_000), Duration::ZERO));
    assert_eq!(pulse.quiet_at(), Some(at(1_045)), "three times 15 s still");
    for beat in 1..=8 {
        pulse.beat(at(1_000 + beat), Duration::ZERO);
    }
    assert_eq!(pulse.quiet_at(), Some(at(1_018)));
}

#[test]
fn without_the_right_to_hear_heartbeats_nothing_is_called_quiet() {
    let denied = |subject: &str| LinkEvent::PermissionDenied {
        operation: Operation::Subscribe,
        subject: subject.to_owned(),
    };
    let mut pulse = Pulse::new(at(0));
    let mut refuse = |subject| refused(&denied(subject), "m.alert.>", "m.heartbeat", &mut pulse);
    assert!(refuse("m.heartbeat").is_ok() && refuse("another").is_ok());
    let failure = refuse("m.alert.>").expect_err("a failure");
    assert_eq!(failure.kind(), FailureKind::Permission);
    assert!(failure.hint().contains("\"m.alert.>\""));
    assert_eq!(pulse.quiet_at(), None);
}

#[test]
fn bad_payloads_are_told_not_trusted() {
    for payload in ["", "{}", "[1", "\u{1b}[2J"] {
        let detail = read::<AlertEvent>(payload.as_bytes()).expect_err("no event");
        assert!(!detail.contains('\u{1b}'));
    }
    let large = vec![b' '; PAYLOAD_BYTES_MAX + 1];
    assert!(read::<AlertEvent>(&large).expect_err("too large").contains("bytes"));
}
