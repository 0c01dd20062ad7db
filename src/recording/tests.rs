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
