use super::*;

#[test]
fn values_are_told_apart_and_bad_lines_are_named() {
    let text = b"{\"replies\":[]}\n\n{\"server\":{}}{\"server\":{},\"statsz\":{}}\nnonsense {\n[1]\n{\"a\":1}\n{\"v\":1,\"replies\":[{\"server\":1}]}";
    let read: Vec<String> = items(text, 1)
        .map(|item| match item {
            Ok(Item::Epoch(epoch)) => format!("epoch of {}", epoch.replies.len()),
            Ok(Item::Jsz(_)) => "jsz".to_owned(),
            Ok(Item::Statsz(_)) => "statsz".to_owned(),
            Err(bad) => format!("bad line {}", bad.line),
        })
        .collect();
    let expected = ["epoch of 0", "jsz", "statsz", "bad line 4", "bad line 5", "bad line 6", "epoch of 1"];
    assert_eq!(read, expected);
}

#[test]
fn the_clock_of_a_recording_never_goes_backwards() {
    let mut clock = RecordingClock::default();
    let start = Stamp::new(0, 0);
    let second = Duration::from_secs(1);
    let first = clock.opening("2026-11-22T20:00:10Z", second, start);
    let jumped = clock.opening("2026-11-22T19:00:00Z", second, start);
    let next = clock.opening("2026-11-22T19:00:05Z", second, start);
    assert!(jumped > first && jumped.since(first) < second * 2);
    assert_eq!(next.since(jumped), second * 5);
    assert_eq!(jumped.to_string(), "2026-11-22T19:00:00.000Z");
}

#[test]
fn numbers_that_no_recorder_writes_are_bad_lines() {
    for (field, value) in [
        ("elapsed_ms", "18446744073709551615"),
        ("elapsed_ms", "-1"),
        ("interval_ms", "86400001"),
        ("epoch", "18446744073709551615"),
        ("opened", "\"292277-01-01T00:00:00Z\""),
        ("opened", "\"soon\\u001b[2J\""),
    ] {
        let text = format!(r#"{{"v":1,"{field}":{value},"replies":[]}}"#);
        let bad = items(text.as_bytes(), 7).next().expect("a value").expect_err(&text);
        assert_eq!(bad.line, 7);
        assert!(!bad.detail.contains('\u{1b}'), "{bad}");
    }
    let usual = br#"{"v":1,"epoch":9,"opened":"2026-11-22T20:43:42.3+01:00","elapsed_ms":5000,"interval_ms":3600000,"replies":[]}"#;
    assert!(items(usual, 1).all(|item| item.is_ok()));
}

proptest::proptest! {
    #[test]
    fn whatever_is_recorded_the_clock_goes_on(opened: [i64; 8], elapsed: [u64; 8]) {
        let mut clock = RecordingClock::default();
        let mut before: Option<Stamp> = None;
        for (wall, millis) in opened.into_iter().zip(elapsed) {
            let opened = Stamp::new(0, wall).to_string();
            let now = clock.opening(&opened, Duration::from_millis(millis), Stamp::new(0, 0));
            proptest::prop_assert!(before.is_none_or(|before| now.has_reached(before)));
            before = Some(now);
        }
    }
}
