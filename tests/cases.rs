//! Cases that operators reported, and their relatives: what an expert would answer, beside what metawatch
//! says.
//!
//! `tests/cases/README.md` explains the files. `CASE=name cargo test --test metawatch cases` takes only those
//! whose names contain it, and shows what was told.

mod answers;

use std::path::Path;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metawatch::event::AlertEvent;
use metawatch::stamp::parse_wall_ns;
use serde_json::Value;

use crate::cli::run;
use crate::scenarios::Played;
use crate::support::{files, path, say};
use answers::{Answer, Told};

pub(crate) use answers::Looked;

/// A case, and what is told of it.
pub(crate) struct Case {
    pub(crate) name: String,
    answer: Answer,
    /// What `check --from` reads.
    pub(crate) input: String,
    pub(crate) told: Vec<Told>,
    looked: OnceLock<Looked>,
}

impl Case {
    /// What `check` and `view` say.
    pub(crate) fn looked(&self) -> &Looked {
        self.looked.get_or_init(|| Looked::at(&self.input))
    }
}

/// All cases, played once.
pub(crate) static CASES: LazyLock<Vec<Case>> = LazyLock::new(all);

/// All cases: the recordings, with the answers of the table, and the scenarios, with their own.
fn all() -> Vec<Case> {
    let table = std::fs::read_to_string(path("cases/answers.txt")).expect("the table of answers");
    let only = std::env::var("CASE").unwrap_or_default();
    let table = answers::table(&table).into_iter().filter(|(file, _)| file.contains(&only));
    let scenarios = files("cases", ".scenario");
    let scenarios = scenarios.iter().filter(|file| file.to_string_lossy().contains(&only));
    table.map(|(file, answer)| recorded(file, answer)).chain(scenarios.map(|file| scenario(file))).collect()
}

/// A recording, or bare replies.
fn recorded(name: String, answer: Answer) -> Case {
    let file = path(&format!("cases/{name}"));
    let input = if name.ends_with(".gz") {
        String::from_utf8(crate::recordings::read(&file)).expect("UTF-8")
    } else {
        std::fs::read_to_string(&file).expect("replies")
    };
    let told = told(&input);
    Case { name, answer, input, told, looked: OnceLock::new() }
}

/// What `replay` tells of a recording. Bare replies are none: nothing is told of them.
fn told(input: &str) -> Vec<Told> {
    let mut first = None;
    let events = run(&["replay", "-", "--format", "json"], input);
    let opened = input.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let begin = opened.filter_map(|epoch| parse_wall_ns(epoch["opened"].as_str()?)).next();
    let told = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let event: AlertEvent = serde_json::from_value(line["event"].clone()).expect("an event");
        let at = parse_wall_ns(&event.timestamp).expect("a time");
        let begin = *first.get_or_insert(begin.unwrap_or(at));
        Told::new(Duration::from_nanos(u64::try_from(at - begin).unwrap_or(0)), event)
    };
    events.out.lines().map(told).collect()
}

fn scenario(file: &Path) -> Case {
    let text = std::fs::read_to_string(file).expect("a script");
    let Played { events, recording, .. } = crate::scenarios::played(file, &text);
    crate::contract::check_events(&events);
    let begin = crate::scenarios::BEGIN_NS;
    let told = |outgoing: metawatch::event::Outgoing| {
        let at = parse_wall_ns(&outgoing.event.timestamp).expect("a time");
        Told::new(Duration::from_nanos(u64::try_from(at - begin).unwrap_or(0)), outgoing.event)
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let answer = answers::of_scenario(&text);
    let told = events.into_iter().map(told).collect();
    Case { name, answer, input: recording, told, looked: OnceLock::new() }
}

#[test]
fn every_case_gets_the_answer_of_an_expert() {
    let show = std::env::var_os("CASE").is_some();
    let nothing = Looked::default();
    let mut wrong = Vec::new();
    for case in CASES.iter() {
        let looked = if show || case.answer.looks() { case.looked() } else { &nothing };
        if show {
            let told =
                case.told.iter().map(|told| format!("{:6.1} s  {}\n", told.at.as_secs_f64(), told.text));
            let told: String = told.collect();
            say(&format!("{}\n{told}check: {}\nview: {}", case.name, looked.check, looked.view));
        }
        let failed = case.answer.wrong(&case.told, looked);
        if !failed.is_empty() {
            wrong.push(format!("{}\n    {}", case.name, failed.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}
