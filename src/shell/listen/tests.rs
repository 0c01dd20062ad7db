use super::*;

#[test]
fn without_the_right_to_hear_heartbeats_nothing_is_called_quiet() {
    let denied = |subject: &str| LinkEvent::PermissionDenied {
        operation: Operation::Subscribe,
        subject: subject.to_owned(),
    };
    let options = ListenOptions::default();
    let incidents = Incidents::default();
    let mut listener =
        Listener { options, started: Stamp::new(0, 0), incidents, deaf: false, came: 0, told_first: false };
    assert!(listener.quiet_at().is_some());
    let mut refuse = |subject| refused(&denied(subject), "m.alert.>", "m.heartbeat", &mut listener.deaf);
    assert!(refuse("m.heartbeat").is_ok() && refuse("another").is_ok());
    let failure = refuse("m.alert.>").expect_err("a failure");
    assert_eq!(failure.kind(), FailureKind::Permission);
    assert!(failure.hint().contains("\"m.alert.>\""));
    assert_eq!(listener.quiet_at(), None);
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
