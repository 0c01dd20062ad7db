//! An alert's life over time, scripted: what the servers say, epoch by epoch, and what is told of it.
//!
//! `tests/scenarios/README.md` explains the language.

mod script;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use metawatch::alert::LifeRules;
use metawatch::check::{CHECKS, Severity};
use metawatch::diagnosis::{Question, Replies};
use metawatch::epoch::{Epoch, Heard};
use metawatch::event::{AlertEvent, Outgoing};
use metawatch::pipeline::{Pipeline, Step};
use metawatch::rules::{Basis, Rules};
use metawatch::stamp::Stamp;
use serde_json::{Value, json};

use crate::model::{Answers, announcement};
use crate::support::{about, files, golden, pipeline_with};
use script::Around;
pub(crate) use script::Script;

/// When every script begins.
pub(crate) const BEGIN_NS: i64 = 1_795_380_222_000_000_000;
const ELAPSED: Duration = Duration::from_millis(5);

/// What an event tells, as a script spells it.
pub(crate) fn in_words(event: &AlertEvent) -> String {
    let reason = serde_json::to_value(event.reason).expect("a reason");
    let reason = reason.as_str().unwrap_or_default().to_owned();
    let mut words = format!("{} {} {} {reason}", event.check, about(event), event.state.as_str());
    if let Some(cause) = event.cause.as_ref().filter(|_| event.peer.is_some()) {
        words.push_str(&format!(" ({})", cause.kind.as_str()));
    }
    // META_001 and its companions have one severity each.
    if event.measure.is_some() && event.severity == Severity::Critical {
        words.push_str(" critical");
    }
    if event.flaps > 0 {
        words.push_str(&format!(" flap {}", event.flaps));
    }
    words
}

/// Plays one epoch of a script. Gives what a recording would hold of it, too.
fn play(script: &Script, pipeline: &mut Pipeline, number: u64, opened: Stamp) -> (Step, String) {
    let closed = opened.plus(ELAPSED);
    let plan = pipeline.plan(number, opened, Duration::from_secs(5));
    let asked = plan.ask_statsz && script.statsz;
    let learning = plan.learning;
    let answered = matches!(script.around, Around::Usual | Around::Dropped);
    let mut epoch = Epoch::open(plan, opened);
    let events: Vec<(String, Stamp, String)> = script
        .announced
        .iter()
        .map(|(server, kind, late)| {
            let (subject, payload) = announcement(server, kind);
            (subject, if *late { opened.plus(Duration::from_millis(1)) } else { opened }, payload)
        })
        .collect();
    for (subject, at, payload) in &events {
        epoch.hear(closed, Heard::Event { at: *at, subject, payload: payload.as_bytes() });
    }
    let jsz = if answered { script.world.jsz() } else { Vec::new() };
    let statsz = if answered && asked { script.world.statsz() } else { Vec::new() };
    // A watcher that knows nobody yet asks the server that it talks to.
    let own = if learning && script.world.gateways { script.world.statsz() } else { Vec::new() };
    for reply in own.iter().take(1) {
        epoch.hear(closed, Heard::Statsz { epoch: number, payload: reply.as_bytes() });
    }
    for reply in &jsz {
        epoch.hear(closed, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
    }
    for reply in &statsz {
        epoch.hear(closed, Heard::Statsz { epoch: number, payload: reply.as_bytes() });
    }
    match script.around {
        Around::Denied => epoch.hear(closed, Heard::Denied),
        Around::Disconnected => epoch.hear(closed, Heard::Disconnected),
        Around::Dropped => epoch.hear(closed, Heard::Dropped),
        Around::Usual | Around::NobodyAnswers => {}
    }
    let ended = epoch.ended(closed.plus(Duration::from_secs(60))).expect("an end");
    let statsz = asked.then_some(statsz);
    let interval = pipeline.settings().rules.interval.as_millis();
    let recorded = json!({"v": 1, "epoch": number, "opened": opened.to_string(), "ended": ended,
        "elapsed_ms": ELAPSED.as_millis(), "interval_ms": interval, "replies": raw(&jsz),
        "statsz": statsz.as_deref().map(raw), "events": events.iter().map(recorded_event).collect::<Vec<_>>()});
    (pipeline.step(&epoch.close(closed, ended)), format!("{recorded}\n"))
}

fn raw(replies: &[String]) -> Vec<Value> {
    replies.iter().map(|reply| serde_json::from_str(reply).expect("JSON")).collect()
}

fn recorded_event((subject, at, payload): &(String, Stamp, String)) -> Value {
    let payload: Value = serde_json::from_str(payload).expect("JSON");
    json!({"subject": subject, "at": at.to_string(), "payload": payload})
}

fn settings(script: &Script) -> (Rules, LifeRules) {
    let mut rules = Rules { interval: Duration::from_secs(1), ..Rules::default() };
    let mut life = LifeRules::default();
    for (name, value) in &script.settings {
        let duration = || humantime::parse_duration(value).expect("a duration");
        match name.as_str() {
            "basis" => rules.basis = if value == "reported" { Basis::Reported } else { Basis::Observed },
            "interval" => rules.interval = duration(),
            "lost-contact" => rules.lost_contact = duration(),
            "lost-contact-silent" => rules.lost_contact_silent = duration(),
            "ghost-after" => rules.ghost_after = duration(),
            "resolve-after" => life.resolve_after = value.parse().expect("a number"),
            "flap-window" => life.flap_window = duration(),
            "remind" => life.remind = duration(),
            "checks" => rules.checks = Some(checks(value)),
            "restarts" => rules.limits.restarts_critical = value == "critical",
            other => panic!("no such setting: {other}"),
        }
    }
    (rules, life)
}

/// `default`, `all`, or codes, with commas between them.
fn checks(words: &str) -> BTreeSet<&'static str> {
    let named = |code: &str, usual| {
        words.split(',').any(|word| word == code || word == "all" || (word == "default" && usual))
    };
    CHECKS.iter().filter(|check| named(check.code, check.usual)).map(|check| check.code).collect()
}

/// What would be told if every server that may be asked after the alerts of an epoch had a long story to
/// tell.
fn diagnosed(pipeline: &Pipeline, step: &Step, now: Stamp) -> Vec<Outgoing> {
    let mut pipeline = pipeline.clone();
    let Some(follow_up) = pipeline.follow_ups(step) else { return Vec::new() };
    let mut replies = Replies::default();
    for question in &follow_up.questions {
        for server in &step.view.servers {
            let says = format!("the log «_meta_» of {} cannot be read; ", server.name.as_str()).repeat(20);
            let data = match question {
                Question::Health(id) if *id == server.id => json!({"status": "error", "error": says}),
                Question::Health(_) => continue,
                Question::Raft => json!({"SYS": {"_meta_": {"state": "FOLLOWER", "wal_error": says}}}),
            };
            let envelope = json!({"name": server.name.as_str(), "id": server.id.as_str(), "ver": "2.15.1"});
            replies.hear(question, json!({"server": envelope, "data": data}).to_string().as_bytes());
        }
    }
    pipeline.answer(&follow_up, &replies, step, now)
}

/// What a script led to.
#[derive(Default)]
pub(crate) struct Played {
    /// The script, with what was told beside each of its lines.
    pub(crate) written: String,
    /// What was told.
    pub(crate) events: Vec<Outgoing>,
    /// What could have been told besides.
    pub(crate) besides: Vec<Outgoing>,
    /// Its epochs as a recording. It lacks what recordings lack: lost messages, and restarts of metawatch.
    pub(crate) recording: String,
}

/// Plays a script.
pub(crate) fn played(file: &Path, text: &str) -> Played {
    let mut script = Script::default();
    let mut pipeline: Option<Pipeline> = None;
    let start = Stamp::new(0, BEGIN_NS);
    let (mut at, mut number) = (Duration::ZERO, 0);
    let mut played = Played::default();
    for (index, line) in text.lines().enumerate() {
        let said = line.split('→').next().unwrap_or_default().trim_end();
        let fail = |why: String| -> ! { panic!("{}:{}: {why}", file.display(), index + 1) };
        if said.is_empty() || said.starts_with('#') || script.header(said) {
            played.written.push_str(&format!("{}\n", line.trim_end()));
            continue;
        }
        let (time, clauses) = said.split_once(' ').unwrap_or((said, ""));
        let (step, epochs) = script.time(time, at, number == 0).unwrap_or_else(|why| fail(why));
        script.this_epoch_only();
        for clause in clauses.split(';').map(str::trim).filter(|clause| !clause.is_empty()) {
            script.apply(clause).unwrap_or_else(|why| fail(why));
        }
        let new = |script: &Script| {
            let (rules, life) = settings(script);
            pipeline_with(rules, life)
        };
        let pipeline = pipeline.get_or_insert_with(|| new(&script));
        if std::mem::take(&mut script.restarts) {
            let state = pipeline.replicated_state([].iter());
            *pipeline = new(&script);
            assert_eq!(pipeline.adopt(state, start.plus(at)), (Vec::new(), 0), "what was saved is believed");
        }
        let mut told = Vec::new();
        for _ in 0..epochs {
            at += step;
            number += 1;
            script.world.epoch = number;
            let (step, recorded) = play(&script, pipeline, number, start.plus(at));
            played.recording.push_str(&recorded);
            played.besides.extend(diagnosed(pipeline, &step, start.plus(at + ELAPSED)));
            told.extend(step.events);
            script.announced.clear();
        }
        let words: Vec<String> = told.iter().map(|outgoing| in_words(&outgoing.event)).collect();
        let words = if words.is_empty() { "nothing".to_owned() } else { words.join("; ") };
        let width = 64_usize.saturating_sub(said.chars().count());
        played.written.push_str(&format!("{said}{} → {words}\n", " ".repeat(width)));
        played.events.extend(told);
    }
    played
}

#[test]
fn every_scenario_tells_what_its_script_says() {
    let mut diagnoses = 0;
    for file in files("scenarios", ".scenario") {
        let text = std::fs::read_to_string(&file).expect("a script");
        let Played { written, events, besides, .. } = played(&file, &text);
        golden(&file, &written);
        crate::contract::check_events(&events);
        besides.iter().for_each(crate::contract::check_event);
        diagnoses += besides.len();
        crate::contract::check_kept(events.iter().chain(&besides));
    }
    assert!(diagnoses > 0, "nobody was ever asked");
}

#[test]
fn what_servers_tell_of_themselves_stands_in_the_notes() {
    let mut script = Script::default();
    assert!(script.header("group s1 s2 s3 leader s1 version 2.15"));
    for clause in
        ["s2 tells OUT_OF_STORAGE FILL", "s3 tells REMOVED", "s1 tells META_RESCUE", "rescue quorum 1"]
    {
        script.apply(clause).expect("a clause");
    }
    let stranger = crate::model::server("s9", "c1", "", 15);
    script.announced.push((stranger, "REMOVED".to_owned(), false));
    let (rules, life) = settings(&script);
    let (step, _) = play(&script, &mut pipeline_with(rules, life), 1, Stamp::new(0, BEGIN_NS));
    assert_eq!(
        step.view.notes,
        [
            "s1 says that an operator lowered the quorum of its meta group (rescue)",
            "s2 says that its storage is full: it could not store stream FILL",
            "s3 says that it was removed from the meta group",
            "an operator lowered the quorum of meta group default: 1 of 3 must agree (rescue)",
        ]
    );
    assert!(step.events.is_empty(), "none of it is a verdict");
}

#[test]
fn a_server_that_is_silent_answers_nothing() {
    let mut script = Script::default();
    assert!(script.header("group s1 s2 s3 leader s1 version 2.14"));
    script.apply("s3 silent").expect("a clause");
    assert_eq!(script.world.groups[0].servers[2].answers, Answers::Not);
    assert_eq!(script.world.jsz().len(), 2);
}
