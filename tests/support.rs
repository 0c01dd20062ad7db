//! What every kind of test needs: golden files, a seeded random source, a pipeline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use metawatch::alert::LifeRules;
use metawatch::event::{AlertEvent, Monitor, PREFIX};
use metawatch::pipeline::{Pipeline, Settings};
use metawatch::rules::Rules;

/// A file below `tests/`.
pub(crate) fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(below)
}

/// The files below a directory of `tests/` whose names end so, in order; at least one.
#[track_caller]
pub(crate) fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![path(below)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory of tests") {
            let entry = entry.expect("an entry").path();
            if entry.is_dir() {
                directories.push(entry);
            } else if entry.to_string_lossy().ends_with(ending) {
                found.push(entry);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no *{ending} below tests/{below}");
    found
}

/// Whether golden files are to be rewritten.
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Compares with a golden file, or rewrites it.
#[track_caller]
pub(crate) fn golden(file: &Path, actual: &str) {
    if updating() {
        std::fs::write(file, actual).expect("write the golden file");
        return;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    if expected != actual {
        let differs = expected.lines().zip(actual.lines()).position(|(old, new)| old != new);
        let line = differs.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!(
            "{} differs from line {}:\n  was: {}\n  is:  {}\n(UPDATE=1 rewrites it)",
            file.display(),
            line + 1,
            at(&expected),
            at(actual)
        );
    }
}

/// A pipeline with the usual rules at this interval.
pub(crate) fn pipeline(interval: Duration) -> Pipeline {
    pipeline_with(Rules { interval, ..Rules::default() }, LifeRules::default())
}

/// A pipeline with these rules.
pub(crate) fn pipeline_with(rules: Rules, life: LifeRules) -> Pipeline {
    let monitor = Monitor { name: "test".into(), version: "0".into(), instance: "t".into() };
    Pipeline::new(Settings { rules, life, monitor, prefix: PREFIX.into() })
}

/// Who an event is about, for people: the peer's name, with its group's when that is not the default one.
pub(crate) fn about(event: &AlertEvent) -> String {
    let peer = event.peer.as_ref().map_or("the group".to_owned(), |peer| {
        peer.name.clone().unwrap_or_else(|| format!("peer {}", peer.id))
    });
    if event.group.name == "default" { peer } else { format!("{}/{peer}", event.group.name) }
}

/// A random source that gives the same numbers for the same seed, everywhere (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// What an event says to people: the summary, the reasons, the advice with its commands, and the diagnosis.
pub(crate) fn texts(event: &AlertEvent) -> Vec<String> {
    let mut texts = vec![event.summary.clone()];
    texts.extend(event.cause.iter().flat_map(|cause| cause.because.clone()));
    for advice in &event.advice {
        let command = advice.command.iter().map(|command| format!(": {command}"));
        texts.push(command.fold(advice.action.clone(), |text, command| text + &command));
    }
    texts.extend(
        event.diagnosis.iter().map(|said| format!("{} ({}): {}", said.server, said.asked, said.says)),
    );
    texts
}

/// The time of the machine, in seconds since 1970, for what real servers compare with it.
#[expect(clippy::disallowed_methods, reason = "servers go by the time of the machine")]
pub(crate) fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Says something that is shown though the test passes.
pub(crate) fn say(what: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{what}\n").as_bytes()).expect("stderr");
}

/// Says that a test does nothing here, and why.
pub(crate) fn skipped(why: &str) {
    say(&format!("skipped: {why}"));
}
