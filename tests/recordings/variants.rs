//! The same recordings in another order, with noise, with losses and at other intervals.

use std::time::Duration;

use metawatch::event::Outgoing;

use super::play::{Line, Played, lines, play_lines, read};
use super::{SECOND, check_no_end_without_a_leader, check_nobody_accused, name_of, outages};
use crate::support::{Random, files};

const SEED: u64 = 20_261_122;

fn told(played: &[Played]) -> Vec<&Outgoing> {
    played.iter().flat_map(|epoch| &epoch.events).collect()
}

#[track_caller]
fn check_same(what: &str, plain: &[Played], changed: &[Played], only: Option<&str>) {
    let one = |outgoing: &&Outgoing| {
        let mut event = outgoing.event.clone();
        if only.is_some() {
            // The epoch's own numbers differ with whoever else answers, and notes tell of the noise.
            event.epoch = told(plain)[0].event.epoch.clone();
            event.notes.clear();
        }
        format!("{} {}", outgoing.subject, serde_json::to_string(&event).expect("an event"))
    };
    let wanted = |outgoing: &&Outgoing| only.is_none_or(|check| outgoing.event.check == check);
    let plain_told: Vec<String> =
        told(plain).into_iter().filter(|event| wanted(event)).map(|event| one(&event)).collect();
    let changed_told: Vec<String> =
        told(changed).into_iter().filter(|event| wanted(event)).map(|event| one(&event)).collect();
    let differs = plain_told.iter().zip(&changed_told).find(|(plain, changed)| plain != changed);
    assert!(
        plain_told == changed_told,
        "{what} (seed {SEED}): {} events became {}; first difference: {differs:#?}",
        plain_told.len(),
        changed_told.len()
    );
}

fn shuffle(lines: &mut [Line], random: &mut Random) {
    for line in lines {
        let again = random.below(line.replies.len().max(1));
        line.replies.extend(line.replies.get(again).cloned());
        random.shuffle(&mut line.replies);
        if let Some(statsz) = &mut line.statsz {
            statsz.extend(statsz.first().cloned());
            random.shuffle(statsz);
        }
        random.shuffle(&mut line.events);
    }
}

/// Adds what belongs to nobody: late, malformed and foreign replies, servers with JetStream off, a standalone leaf.
fn add_noise(lines: &mut [Line], random: &mut Random) {
    let mut last: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        let before = std::mem::replace(&mut last, line.replies.clone());
        if random.one_in(2) {
            line.late = before;
        }
        let noise: [&[u8]; 8] = [
            b"",
            b"{\"server\":",
            b"{\"hello\":\"world\"}",
            b"\xff\xfe\x00",
            br#"{"server":{"name":"off1","id":"NOFF1","cluster":"c1","ver":"2.14.6"},"data":{"disabled":true}}"#,
            br#"{"server":{"name":"leaf9","id":"NLEAF9","ver":"2.14.6","domain":"leaf9"},"data":{"config":{"domain":"leaf9"}}}"#,
            br#"{"server":{"name":"mad","id":"NMAD","cluster":"c1"},"data":{"meta_cluster":{"cluster_size":"many"}}}"#,
            br#"{"server":{"name":"err","id":"NERR","cluster":"c1"},"error":{"code":500,"description":"no"}}"#,
        ];
        line.replies.extend(noise.iter().map(|noise| noise.to_vec()));
        random.shuffle(&mut line.replies);
    }
}

/// The epochs that a watcher with this interval would have made, and the events since the one before.
fn sampled(lines: &[Line], interval: Duration, offset: usize) -> Vec<Line> {
    let mut sampled: Vec<Line> = Vec::new();
    let mut next = i64::MIN;
    let mut events = Vec::new();
    for line in &lines[offset.min(lines.len() - 1)..] {
        events.extend(line.events.iter().cloned());
        if line.opened_ns < next {
            continue;
        }
        next = line.opened_ns + interval.as_nanos() as i64 - SECOND / 10;
        sampled.push(Line { events: std::mem::take(&mut events), ..line.clone() });
    }
    sampled
}

#[test]
fn the_order_and_the_number_of_replies_change_nothing() {
    let mut random = Random::new(SEED);
    for file in files("recordings", ".ndjson.gz") {
        let plain = lines(&read(&file));
        let mut shuffled = plain.clone();
        shuffle(&mut shuffled, &mut random);
        let interval = Duration::from_secs(1);
        check_same(&name_of(&file), &play_lines(&plain, interval), &play_lines(&shuffled, interval), None);
    }
}

#[test]
fn noise_on_the_inbox_changes_no_alert() {
    let mut random = Random::new(SEED);
    for file in files("recordings", ".ndjson.gz") {
        let plain = lines(&read(&file));
        let mut noisy = plain.clone();
        add_noise(&mut noisy, &mut random);
        let interval = Duration::from_secs(1);
        let (plain, noisy) = (play_lines(&plain, interval), play_lines(&noisy, interval));
        check_same(&name_of(&file), &plain, &noisy, Some("META_001"));
    }
}

#[test]
fn lost_epochs_and_slow_watchers_accuse_nobody() {
    for file in files("recordings", ".ndjson.gz") {
        let recording = name_of(&file);
        let all = lines(&read(&file));
        let outages = outages(&recording, &super::play::day(&all));
        for nth in [2, 3, 7] {
            let kept: Vec<Line> = all
                .iter()
                .zip(1..)
                .filter(|(_, number)| number % nth != 0)
                .map(|(line, _)| line.clone())
                .collect();
            let what = format!("{recording} without every {nth}th epoch");
            let played = play_lines(&kept, Duration::from_secs(1));
            check_nobody_accused(&what, &played, &outages);
            check_no_end_without_a_leader(&what, &played);
        }
        for seconds in [2, 5, 10, 30] {
            for offset in [0, 1, 3] {
                let what = format!("{recording} every {seconds} s from epoch {offset}");
                let interval = Duration::from_secs(seconds);
                let played = play_lines(&sampled(&all, interval, offset), interval);
                check_nobody_accused(&what, &played, &outages);
                check_no_end_without_a_leader(&what, &played);
            }
        }
    }
}
