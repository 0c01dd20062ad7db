//! Recordings of real clusters, played through the whole core: what is told, and the rules it must keep.

mod play;
mod variants;

use std::fmt::Write as _;
use std::path::Path;

use metawatch::alert::{Reason, State};
use metawatch::stamp::parse_wall_ns;

use crate::support::{about, files, golden, path};
use play::Played;
pub(crate) use play::{Line, lines, play, read};

const SECOND: i64 = 1_000_000_000;

/// Something that was really down.
struct Outage {
    server: String,
    how: String,
    from: i64,
    to: Option<i64>,
}

/// `R_crash-2.14.6` of its path.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".ndjson.gz").to_owned()
}

/// The outages of a recording that happened on the day of `day` (any moment of it).
fn outages(recording: &str, day: &str) -> Vec<Outage> {
    let at = |time: &str| parse_wall_ns(&format!("{}T{time}Z", &day[..10]));
    let truth = std::fs::read_to_string(path("recordings/truth.txt")).expect("the truth");
    let mut outages = Vec::new();
    for line in truth.lines().filter(|line| !line.starts_with('#')) {
        let [name, server, how, from, to] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not five columns: {line}")
        };
        if name == recording {
            let from = at(from).expect("a time");
            outages.push(Outage { server: server.into(), how: how.into(), from, to: at(to) });
        }
    }
    outages
}

fn phases(recording: &str) -> Vec<(i64, String)> {
    #[derive(serde::Deserialize)]
    struct Phase {
        at: String,
        what: String,
    }
    let text = std::fs::read(path(&format!("recordings/{recording}.phases.json"))).expect("the phases");
    let phases: Vec<Phase> = serde_json::from_slice(&text).expect("phases");
    phases.into_iter().map(|phase| (parse_wall_ns(&phase.at).expect("a time"), phase.what)).collect()
}

/// `20:44:38.510` of a moment.
fn clock(wall_ns: i64) -> String {
    metawatch::stamp::Stamp::new(0, wall_ns).to_string()[11..23].to_owned()
}

#[track_caller]
fn check_told(recording: &str, played: &[Played]) {
    let phases = phases(recording);
    let mut lines: Vec<(i64, String)> =
        phases.iter().map(|(at, what)| (*at, format!("{}          ── {what}", clock(*at)))).collect();
    for epoch in played {
        for outgoing in &epoch.events {
            let event = &outgoing.event;
            let at = parse_wall_ns(&event.timestamp).expect("a time");
            let since = phases.iter().map(|(phase, _)| at - phase).filter(|since| *since >= 0).min();
            let since = since.map_or("?".to_owned(), |since| format!("{:.1}", since as f64 / SECOND as f64));
            let basis = event.basis.map_or("-", |basis| basis.as_str());
            let cause = event.cause.as_ref().map_or("-", |cause| cause.kind.as_str());
            let mut line = format!("{} {since:>6} s  {} {} ", clock(at), event.check, about(event));
            let reason = serde_json::to_value(event.reason).expect("a reason");
            write!(line, "{} {} {basis} {cause}", event.state.as_str(), reason.as_str().unwrap_or_default())
                .expect("a string");
            if event.flaps > 0 {
                write!(line, " flap {}", event.flaps).expect("a string");
            }
            write!(line, ": {}", event.summary).expect("a string");
            lines.push((at, line));
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    golden(&path(&format!("recordings/{recording}.events.txt")), &text);
}

/// When META_001 was told of a server, and in which state.
fn told_of(played: &[Played], server: &str) -> Vec<(i64, State)> {
    let events =
        played.iter().flat_map(|epoch| epoch.events.iter().map(move |event| (epoch.closed_ns, event)));
    let of_server = events.filter(|(_, outgoing)| {
        let name = outgoing.event.peer.as_ref().and_then(|peer| peer.name.as_deref());
        outgoing.event.check == "META_001" && name == Some(server)
    });
    of_server.map(|(at, outgoing)| (at, outgoing.event.state)).collect()
}

/// When META_001 was first told of a server in this state, from `from` on.
fn first_told(played: &[Played], server: &str, from: i64, state: State) -> Option<i64> {
    let told = told_of(played, server);
    told.into_iter().find(|(at, told)| *at >= from && *told == state).map(|(at, _)| at)
}

/// Nobody who was up is called offline.
#[track_caller]
fn check_nobody_accused(what: &str, played: &[Played], outages: &[Outage]) {
    for epoch in played {
        for outgoing in &epoch.events {
            let event = &outgoing.event;
            let accuses = event.check == "META_001"
                && event.state == State::Firing
                && matches!(event.reason, Reason::Reported | Reason::Observed);
            let name = event.peer.as_ref().and_then(|peer| peer.name.as_deref()).unwrap_or_default();
            let was_down = outages.iter().any(|outage| {
                outage.server == name
                    && outage.from <= epoch.closed_ns
                    && outage.to.is_none_or(|to| epoch.closed_ns <= to + SECOND)
            });
            assert!(!accuses || was_down, "{what}: {} at {}", event.summary, event.timestamp);
        }
    }
}

/// No alert about a peer ends without a leader's word.
#[track_caller]
fn check_no_end_without_a_leader(what: &str, played: &[Played]) {
    for epoch in played {
        for outgoing in epoch.events.iter().filter(|outgoing| outgoing.event.state == State::Resolved) {
            let led = epoch.led || outgoing.event.check != "META_001";
            assert!(led, "{what}: {} at {}", outgoing.event.summary, outgoing.event.timestamp);
        }
    }
}

/// Every outage is told soon enough, as far as the recording covers it.
#[track_caller]
fn check_soon_enough(recording: &str, played: &[Played], outages: &[Outage]) {
    for outage in outages {
        let covered = |until: i64| {
            let within: Vec<i64> = played
                .iter()
                .map(|epoch| epoch.opened_ns)
                .filter(|at| *at >= outage.from - 2 * SECOND && *at <= until + 2 * SECOND)
                .collect();
            let gap = within.windows(2).any(|pair| pair[1] - pair[0] > 2_600_000_000);
            !gap && outage.to.is_none_or(|to| until <= to) && within.iter().any(|at| *at > until)
        };
        let told_by = |until: i64, states: &[State]| {
            // It may still be firing from an outage a moment before.
            let told = told_of(played, &outage.server).into_iter().rfind(|(at, _)| *at <= until);
            let (server, how, from) = (&outage.server, &outage.how, clock(outage.from));
            assert!(
                !covered(until) || told.is_some_and(|(_, state)| states.contains(&state)),
                "{recording}: {how} of {server} at {from} should be {states:?} by {}, is {told:?}",
                clock(until),
            );
        };
        let asked = |epoch: &&Played| epoch.asked_statsz && epoch.opened_ns >= outage.from;
        let routes = played.iter().any(|epoch| asked(&epoch));
        let others_down = outages
            .iter()
            .filter(|other| other.server != outage.server && (other.from - outage.from).abs() < 10 * SECOND);
        let majority_left = others_down.count() == 0;
        match outage.how.as_str() {
            "stop" => {
                let second = played.iter().map(|epoch| epoch.closed_ns).filter(|at| *at > outage.from).nth(1);
                if let Some(second) = second {
                    told_by(second, &[State::Firing]);
                }
            }
            "crash" if routes && majority_left => told_by(outage.from + 6 * SECOND, &[State::Firing]),
            "freeze" | "cut" => {
                told_by(outage.from + 5 * SECOND, &[State::Suspected, State::Firing]);
                told_by(outage.from + 7 * SECOND, &[State::Firing]);
            }
            // Two at once, or a leader: the next one has to be elected, and to lead for a while.
            "crash" | "disabled" => {
                told_by(outage.from + 5 * SECOND, &[State::Suspected, State::Firing]);
                let limit = if majority_left { 10 * SECOND } else { 16 * SECOND };
                told_by(outage.from + limit, &[State::Firing]);
            }
            _ => {}
        }
    }
}

/// Whoever is really back is said to be back within a few epochs.
#[track_caller]
fn check_said_to_be_back(recording: &str, played: &[Played], outages: &[Outage]) {
    for outage in outages.iter().filter(|outage| outage.how != "disabled") {
        let Some(to) = outage.to else { continue };
        let next = outages.iter().filter(|other| other.server == outage.server && other.from >= to);
        let next = next.map(|other| other.from).min().unwrap_or(i64::MAX);
        let fired = first_told(played, &outage.server, outage.from, State::Firing);
        if fired.is_none_or(|fired| fired >= next) {
            continue;
        }
        let well = |epoch: &Played| epoch.led && epoch.answered.contains(&outage.server);
        let back = played.iter().enumerate().find(|(_, epoch)| epoch.opened_ns >= to && well(epoch));
        let Some((back, _)) = back else { continue };
        let Some(deadline) = played.get(back + 5) else { continue };
        let stayed = played[back..=back + 5].iter().all(well);
        if !stayed || deadline.closed_ns >= next || deadline.opened_ns - to > 20 * SECOND {
            continue;
        }
        let told = first_told(played, &outage.server, outage.from, State::Resolved);
        assert!(
            told.is_some_and(|told| told <= deadline.closed_ns),
            "{recording}: {} is back since {}, and that was told at {:?}",
            outage.server,
            clock(to),
            told.map(clock)
        );
    }
}

#[test]
fn what_is_told_of_each_recording_is_right_and_soon_enough() {
    for file in files("recordings", ".ndjson.gz") {
        let recording = name_of(&file);
        let text = read(&file);
        let played = play(&text, |_| {});
        let outages = outages(&recording, &played[0].day);
        check_told(&recording, &played);
        check_nobody_accused(&recording, &played, &outages);
        check_no_end_without_a_leader(&recording, &played);
        check_soon_enough(&recording, &played, &outages);
        check_said_to_be_back(&recording, &played, &outages);
        crate::contract::check_events(played.iter().flat_map(|epoch| &epoch.events));
    }
}
