//! Inputs that show an outage, damaged at random: whatever is lost, doubled, swapped or of a wrong type, nothing
//! panics, and what was critical never becomes health by it.
//!
//! `MUTATION=seed cargo test --test metawatch mutations` plays one of the random histories again.

mod damage;
mod health;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use metawatch::report::{CheckReport, Status};
use serde_json::Value;

use crate::cases::CASES;
use crate::recordings::{Line, lines};
use crate::support::{Random, files, pipeline};
use damage::{Damage, every_field};

/// So many random histories are played; each is a case with a few damages.
const HISTORIES: u64 = 800;
/// Longer inputs are left to the tests that play them once.
const EPOCHS_MAX: usize = 40;
/// So many damages of one field are tried on a capture.
const DAMAGES_MAX: usize = 150;
/// Every so many captures, one is taken.
const CAPTURES_STEP: usize = 9;

/// An input whose answer is critical.
struct Input {
    name: String,
    lines: Vec<Line>,
    interval: Duration,
    /// The ids of everybody that it ever listed or showed.
    everybody: BTreeSet<String>,
}

impl Input {
    fn new(name: String, lines: Vec<Line>, interval: Duration) -> Self {
        let everybody = health::everybody(&lines);
        Self { name, lines, interval, everybody }
    }

    fn critical(&self) -> bool {
        !self.lines.is_empty() && judged(&self.lines, self.interval).status == Status::Critical
    }
}

/// The verdict on the last of these epochs.
fn judged(lines: &[Line], interval: Duration) -> CheckReport {
    let mut pipeline = pipeline(interval);
    let steps = lines.iter().zip(1..).map(|(line, number)| line.play(&mut pipeline, number));
    let step = steps.last().expect("an epoch");
    CheckReport::new(&step, lines.len() as u64, pipeline.alert_table())
}

/// Bare replies are one epoch.
fn one_epoch(replies: Vec<Vec<u8>>) -> Vec<Line> {
    let opened_ns = crate::scenarios::BEGIN_NS;
    let elapsed = Duration::from_millis(5);
    vec![Line { replies, statsz: None, events: Vec::new(), late: Vec::new(), opened_ns, elapsed }]
}

fn of_cases() -> Vec<Input> {
    let input = |case: &crate::cases::Case| {
        let first: Value = serde_json::from_str(case.input.lines().next()?).ok()?;
        let lines = if first["replies"].is_array() {
            lines(case.input.as_bytes())
        } else {
            one_epoch(case.input.lines().map(|line| line.as_bytes().to_vec()).collect())
        };
        let spacing = lines.windows(2).map(|pair| pair[1].opened_ns - pair[0].opened_ns).min().unwrap_or(0);
        let interval = Duration::from_nanos(u64::try_from(spacing).unwrap_or(0)).max(Duration::from_secs(1));
        (lines.len() <= EPOCHS_MAX).then(|| Input::new(case.name.clone(), lines, interval))
    };
    CASES.iter().filter_map(input).filter(Input::critical).collect()
}

fn of_captures() -> Vec<Input> {
    let input = |file: &std::path::PathBuf| {
        let capture: Value = serde_json::from_slice(&std::fs::read(file).expect("a capture")).expect("JSON");
        let replies = capture["replies"].as_array().expect("replies").iter();
        let lines = one_epoch(replies.map(|reply| reply.to_string().into_bytes()).collect());
        Input::new(file.display().to_string(), lines, Duration::from_secs(1))
    };
    let critical: Vec<Input> = files("wire", ".json").iter().map(input).filter(Input::critical).collect();
    critical.into_iter().step_by(CAPTURES_STEP).collect()
}

/// Plays a damaged input; a panic is told with what was done.
#[track_caller]
fn survives(input: &Input, damaged: &[Line], done: &str) -> CheckReport {
    let played = catch_unwind(AssertUnwindSafe(|| judged(damaged, input.interval)));
    played.unwrap_or_else(|_| panic!("{}: a panic after {done}", input.name))
}

/// The first of what went wrong.
fn first(wrong: &[String]) -> String {
    wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// One damaged field of one reply can take away what is known of a fault, and can never make it health.
#[test]
fn one_damaged_field_of_one_reply_is_never_health() {
    let mut random = Random::new(17);
    let (cases, captures) = (of_cases(), of_captures());
    let single = cases.iter().filter(|input| input.lines.len() == 1);
    let (mut tried, mut wrong) = (0, Vec::new());
    for input in single.chain(&captures) {
        let mut damages = every_field(&input.lines[0]);
        if input.name.contains("/wire/") {
            random.shuffle(&mut damages);
            damages.truncate(DAMAGES_MAX);
        }
        for damage in damages {
            let mut damaged = input.lines.clone();
            damage.apply(&mut damaged);
            let said = survives(input, &damaged, &damage.to_string());
            if said.status == Status::Ok {
                wrong.push(format!("{}: OK after {damage}: {}", input.name, said.summary));
            }
            tried += 1;
        }
    }
    assert!(tried > 2_000, "only {tried} damages were tried");
    assert!(wrong.is_empty(), "{} of {tried} damages:\n{}", wrong.len(), first(&wrong));
}

/// Several damages anywhere in a history. It may only be health when the replies of the last epoch show that by
/// themselves: a leader's complete list of everybody who was ever listed, and an answer of each.
#[test]
fn a_damaged_history_of_an_outage_is_never_health() {
    let inputs = of_cases();
    let seeds = match std::env::var("MUTATION").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..HISTORIES,
    };
    let mut wrong = Vec::new();
    for seed in seeds {
        let mut random = Random::new(seed);
        let input = &inputs[random.below(inputs.len())];
        let mut damaged = input.lines.clone();
        let mut done = Vec::new();
        for _ in 0..=random.below(6) {
            let damage = Damage::at_random(&damaged, &mut random);
            damage.apply(&mut damaged);
            done.push(damage.to_string());
        }
        let done = format!("seed {seed}: {}", done.join("; "));
        let said = survives(input, &damaged, &done);
        let last = damaged.last().expect("an epoch");
        if said.status == Status::Ok && !health::shown(last, &input.everybody) {
            wrong.push(format!("{}: OK after {done}: {}", input.name, said.summary));
        }
    }
    assert!(wrong.is_empty(), "{} histories:\n{}", wrong.len(), first(&wrong));
}

/// What is said of everybody, in order.
fn verdicts(said: &CheckReport) -> Vec<String> {
    let finding = |finding: &metawatch::report::FindingReport| {
        let peer = finding.peer.as_ref().map_or("_", |peer| &peer.id);
        format!("{} {} {peer} {:?}", finding.check, finding.group, finding.verdict)
    };
    let mut verdicts: Vec<String> = said.findings.iter().map(finding).collect();
    verdicts.sort();
    verdicts
}

/// The order of rows and replies means nothing, nor does a reply that comes twice.
#[test]
fn what_is_swapped_or_doubled_changes_no_verdict() {
    let mut random = Random::new(23);
    for input in of_cases() {
        let before = judged(&input.lines, input.interval);
        for _ in 0..4 {
            let mut damaged = input.lines.clone();
            for at in 0..damaged.len() {
                Damage::without_loss(at, &damaged, &mut random).apply(&mut damaged);
            }
            let after = survives(&input, &damaged, "rows and replies were swapped, and replies doubled");
            assert_eq!(
                (before.status, verdicts(&before)),
                (after.status, verdicts(&after)),
                "{}",
                input.name
            );
        }
    }
}
