//! The right answers: how the table and the heads of the scenarios spell them, and how they are held against
//! what metawatch says.

use std::time::Duration;

use metawatch::alert::State;
use metawatch::event::AlertEvent;
use regex::Regex;
use serde_json::Value;

use crate::cli::run;

/// So many characters tell why an answer is wrong.
const WHY_MAX: usize = 300;

/// One event, in words.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// How long after the first epoch.
    pub(crate) at: Duration,
    /// As scenarios spell it: `META_001 s3 firing observed (crashed)`.
    pub(crate) words: String,
    /// Those words, the summary, the reasons, the advice and the diagnosis.
    pub(crate) text: String,
    pub(crate) event: AlertEvent,
}

impl Told {
    pub(crate) fn new(at: Duration, event: AlertEvent) -> Self {
        let words = crate::scenarios::in_words(&event);
        let text = format!("{words}: {}", crate::support::texts(&event).join(" | "));
        Self { at, words, text, event }
    }
}

/// What `check` and `view` say of the whole input.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// `check --format json`, and its exit code.
    pub(crate) json: Value,
    pub(crate) code: Option<i32>,
    /// `view --format json`.
    pub(crate) view_json: Value,
    /// `check` and `view` as people read them, with white space folded.
    pub(crate) check: String,
    pub(crate) view: String,
}

impl Looked {
    /// Looks at a recording or at bare replies, four times through the real binary.
    pub(crate) fn at(input: &str) -> Self {
        let look = |command: &str, format: &str| run(&[command, "--from", "-", "--format", format], input);
        let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let folded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let checked = look("check", "json");
        Self {
            json: json(&checked.out),
            code: checked.code,
            view_json: json(&look("view", "json").out),
            check: folded(&look("check", "nagios").out),
            view: folded(&look("view", "table").out),
        }
    }
}

/// One line of an answer.
#[derive(Clone, Debug)]
enum Rule {
    /// The status of `check` is this.
    Check(Regex),
    CheckSays(Regex),
    ViewSays(Regex),
    /// An event with these words is told, no later than this.
    Must(Regex, Duration),
    Never(Regex),
    EventSays(Regex),
    /// Neither an event nor `check` says this.
    NeverSays(Regex),
    /// An alert with these words stands at the end; or none does.
    Ends(Option<Regex>),
    /// What `check` counts in a group.
    Counts(String, String, Value),
}

/// The right answer to a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    rules: Vec<(String, Rule)>,
}

impl Answer {
    /// Takes a line like `must: META_001 s3 firing`; false when it is none.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        let Some((key, value)) = line.split_once(": ") else { return false };
        let exact = || Regex::new(value).unwrap_or_else(|error| panic!("{line}: {error}"));
        let words = || Regex::new(&format!("(?i){value}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        let rule = match key.split(' ').collect::<Vec<_>>()[..] {
            ["check"] => Rule::Check(exact()),
            ["check", "says"] => Rule::CheckSays(words()),
            ["view", "says"] => Rule::ViewSays(words()),
            ["must"] => Rule::Must(exact(), Duration::MAX),
            ["within", limit] => Rule::Must(exact(), humantime::parse_duration(limit).expect("a duration")),
            ["never"] => Rule::Never(exact()),
            ["event", "says"] => Rule::EventSays(words()),
            ["never", "says"] => Rule::NeverSays(words()),
            ["ends"] => Rule::Ends((value != "nothing").then(exact)),
            ["group", group] => {
                self.rules.extend(value.split(' ').map(|count| {
                    let (name, number) = count.split_once('=').expect("a count");
                    let number = serde_json::from_str(number).expect("a number or null");
                    (line.to_owned(), Rule::Counts(group.to_owned(), name.to_owned(), number))
                }));
                return true;
            }
            _ => return false,
        };
        self.rules.push((line.to_owned(), rule));
        true
    }

    /// Whether it is about what `check` and `view` say.
    pub(crate) fn looks(&self) -> bool {
        let told = |rule: &Rule| {
            matches!(rule, Rule::Must(..) | Rule::Never(_) | Rule::EventSays(_) | Rule::Ends(_))
        };
        self.rules.iter().any(|(_, rule)| !told(rule))
    }

    /// What of the answer does not hold.
    pub(crate) fn wrong(&self, told: &[Told], looked: &Looked) -> Vec<String> {
        assert!(!self.rules.is_empty(), "a case without an answer");
        let wrong = |(line, rule): &(String, Rule)| {
            let why: String = rule.wrong(told, looked)?.chars().take(WHY_MAX).collect();
            Some(format!("{line}\n      {why}"))
        };
        self.rules.iter().filter_map(wrong).collect()
    }
}

impl Rule {
    /// Why it does not hold.
    fn wrong(&self, told: &[Told], looked: &Looked) -> Option<String> {
        let all = || {
            let words: Vec<&str> = told.iter().map(|told| told.words.as_str()).collect();
            format!("told: {}", if words.is_empty() { "nothing".to_owned() } else { words.join("; ") })
        };
        match self {
            Self::Check(status) => {
                let said = looked.json["status"].as_str().unwrap_or_default();
                (!status.is_match(said)).then(|| format!("check: {said}: {}", looked.json["summary"]))
            }
            Self::CheckSays(words) => {
                (!words.is_match(&looked.check)).then(|| format!("check: {}", looked.check))
            }
            Self::ViewSays(words) => {
                (!words.is_match(&looked.view)).then(|| format!("view: {}", looked.view))
            }
            Self::Must(words, limit) => {
                let found = told.iter().any(|told| told.at <= *limit && words.is_match(&told.words));
                (!found).then(all)
            }
            Self::Never(words) => {
                let found = told.iter().find(|told| words.is_match(&told.words))?;
                Some(format!("after {:.1?}: {}", found.at, found.text))
            }
            Self::EventSays(words) => {
                (!told.iter().any(|told| words.is_match(&told.text))).then(|| match told.last() {
                    Some(last) => format!("told last: {}", last.text),
                    None => "told: nothing".to_owned(),
                })
            }
            Self::NeverSays(words) => {
                let texts = told.iter().map(|told| &told.text).chain([&looked.check]);
                texts.filter(|text| words.is_match(text)).map(|text| format!("said: {text}")).next()
            }
            Self::Ends(expected) => {
                let standing = standing(told);
                let right = match expected {
                    Some(words) => standing.iter().any(|told| words.is_match(&told.words)),
                    None => standing.is_empty(),
                };
                (!right).then(all)
            }
            Self::Counts(group, name, number) => {
                let groups = looked.json["groups"].as_array();
                let group = groups.into_iter().flatten().find(|found| found["name"] == group.as_str());
                let found = group.and_then(|group| group.get(name)).unwrap_or(&Value::Null);
                (found != number).then(|| format!("{name} is {found}"))
            }
        }
    }
}

/// The last event of each incident that did not end.
fn standing(told: &[Told]) -> Vec<&Told> {
    let lasts = told.iter().enumerate().filter(|(at, one)| {
        let later = &told[at + 1..];
        !later.iter().any(|later| later.event.incident == one.event.incident)
    });
    lasts.map(|(_, told)| told).filter(|told| told.event.state != State::Resolved).collect()
}

/// The answers of the table: the name of the file, and what is right.
pub(crate) fn table(text: &str) -> Vec<(String, Answer)> {
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(file) = line.strip_prefix("case ") {
            answers.push((file.to_owned(), Answer::default()));
        } else {
            let (file, answer) = answers.last_mut().expect("a case before its answer");
            assert!(answer.take(line.trim()), "{file}: {line}");
        }
    }
    answers
}

/// The answer in the head of a scenario: its comments that have the form of one.
pub(crate) fn of_scenario(text: &str) -> Answer {
    let mut answer = Answer::default();
    for comment in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        answer.take(comment);
    }
    answer
}
