//! Which checks are evaluated, and how much is too much for them.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values;
use crate::check::CHECKS;
use crate::rules::Limits;

/// Which checks, and their limits.
#[derive(Clone, Debug, Args)]
pub struct LimitFlags {
    /// Checks to evaluate, by code, comma separated; `default` stands for the usual ones and `all` for every one.
    /// META_001 is always among them
    #[arg(long, env = "METAWATCH_CHECKS", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "CODES", value_delimiter = ',', default_value = "default", value_parser = chosen)]
    pub checks: Vec<Chosen>,
    /// META_003: so many changes of the leader are usual within --leader-window
    #[arg(long, env = "METAWATCH_LEADER_CHANGES", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "N", default_value_t = Limits::default().leader_changes)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=50))]
    pub leader_changes: u64,
    /// META_003: within so long
    #[arg(long, env = "METAWATCH_LEADER_WINDOW", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "DURATION", default_value = "5m", value_parser = values::window)]
    pub leader_window: Duration,
    /// META_004: a meta snapshot may take so long
    #[arg(long, env = "METAWATCH_SNAPSHOT_WARNING", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "DURATION", default_value = "5s", value_parser = values::positive)]
    pub snapshot_warning: Duration,
    /// META_004: from here on it is critical
    #[arg(long, env = "METAWATCH_SNAPSHOT_CRITICAL", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "DURATION", default_value = "30s", value_parser = values::positive)]
    pub snapshot_critical: Duration,
    /// META_005: a group may hold so many replicas of streams and consumers
    #[arg(long, env = "METAWATCH_MAX_ASSETS", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "N", default_value_t = Limits::default().assets)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_assets: u64,
    /// META_008: so many API requests may wait at the leader
    #[arg(long, env = "METAWATCH_MAX_PENDING", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "N", default_value_t = Limits::default().pending)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_pending: u64,
    /// META_102: a member that answers may be behind the leader for so long
    #[arg(long, env = "METAWATCH_BEHIND", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "DURATION", default_value = "2m", value_parser = values::window)]
    pub behind: Duration,
    /// SERVER_008: how bad a restart is
    #[arg(long, env = "METAWATCH_RESTARTS", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "SEVERITY", value_enum, default_value_t = SeverityWord::Warning)]
    pub restarts: SeverityWord,
    /// SERVER_017, SERVER_019: from this share of the storage on, in percent, it is a warning
    #[arg(long, env = "METAWATCH_STORAGE_WARNING", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "PERCENT", default_value_t = Limits::default().storage_warning)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100))]
    pub storage_warning: u64,
    /// SERVER_019: from this share on it is critical
    #[arg(long, env = "METAWATCH_STORAGE_CRITICAL", hide_env_values = true, help_heading = "Checks")]
    #[arg(value_name = "PERCENT", default_value_t = Limits::default().storage_critical)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100))]
    pub storage_critical: u64,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SeverityWord {
    /// Worth a look.
    Warning,
    /// Worth a page.
    Critical,
}

/// What a word of `--checks` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The check with this code.
    One(&'static str),
    /// The usual ones.
    Usual,
    /// Every one.
    All,
}

fn chosen(word: &str) -> Result<Chosen, String> {
    match word.trim() {
        "default" => return Ok(Chosen::Usual),
        "all" => return Ok(Chosen::All),
        _ => {}
    }
    let check = CHECKS.iter().find(|check| check.code.eq_ignore_ascii_case(word.trim()));
    check.map(|check| Chosen::One(check.code)).ok_or_else(|| {
        let codes: Vec<&str> = CHECKS.iter().map(|check| check.code).collect();
        format!("there is no such check; there are {}, and default and all", codes.join(", "))
    })
}

impl LimitFlags {
    /// Why these limits cannot stand together, where they cannot.
    pub(super) fn conflict(&self) -> Option<String> {
        if self.snapshot_warning > self.snapshot_critical {
            return Some("--snapshot-warning is longer than --snapshot-critical".to_owned());
        }
        (self.storage_warning > self.storage_critical)
            .then(|| "--storage-warning is more than --storage-critical".to_owned())
    }

    /// The codes of the checks; `None` for the usual ones.
    pub fn checks(&self) -> Option<BTreeSet<&'static str>> {
        if self.checks == [Chosen::Usual] {
            return None;
        }
        let is_chosen = |check: &&crate::check::Check| {
            self.checks.iter().any(|chosen| match chosen {
                Chosen::One(code) => *code == check.code,
                Chosen::Usual => check.usual,
                Chosen::All => true,
            })
        };
        Some(CHECKS.iter().filter(is_chosen).map(|check| check.code).collect())
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        Limits {
            leader_changes: self.leader_changes,
            leader_window: self.leader_window,
            snapshot_warning: self.snapshot_warning,
            snapshot_critical: self.snapshot_critical,
            assets: self.max_assets,
            pending: self.max_pending,
            behind: self.behind,
            restarts_critical: self.restarts == SeverityWord::Critical,
            storage_warning: self.storage_warning,
            storage_critical: self.storage_critical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::cli::{Cli, Command, parse};

    fn parsed(words: &str) -> Result<Cli, String> {
        let words = std::iter::once("metawatch").chain(words.split_whitespace());
        parse(words.map(Into::into)).map_err(|refused| refused.error.to_string())
    }

    #[track_caller]
    fn check_chosen(words: &str, expected: Option<&[&str]>) {
        let cli = parsed(&format!("check {words}")).expect("a command");
        let Some(Command::Check(flags)) = cli.command else { panic!("no check") };
        let codes = flags.rules.limits.checks().map(|codes| codes.into_iter().collect::<Vec<_>>());
        assert_eq!(codes.as_deref(), expected, "{words}");
    }

    #[test]
    fn checks_are_chosen_by_code_and_added_to_the_usual_ones() {
        check_chosen("", None);
        check_chosen("--checks default", None);
        check_chosen("--checks META_001", Some(&["META_001"]));
        check_chosen("--checks server_008,META_003", Some(&["META_003", "SERVER_008"]));
        let usual = ["META_001", "META_002", "META_004", "META_006", "META_101", "SERVER_019"];
        check_chosen("--checks META_004,default", Some(&usual));
        let all: BTreeSet<&str> = CHECKS.iter().map(|check| check.code).collect();
        check_chosen("--checks all", Some(&all.into_iter().collect::<Vec<_>>()));
    }

    #[track_caller]
    fn check_refused(words: &str, why: &str) {
        let error = parsed(words).expect_err(words);
        assert!(error.contains(why), "{words}: {error}");
    }

    #[test]
    fn limits_that_cannot_be_are_refused() {
        check_refused("check --checks META_9", "there is no such check; there are META_001, ");
        check_refused("check --checks", "a value is required");
        check_refused("run --storage-warning 101", "101 is not in 1..=100");
        check_refused("run --storage-warning 96", "--storage-warning is more than --storage-critical");
        check_refused("view --snapshot-warning 31s", "--snapshot-warning is longer than");
        check_refused("run --leader-changes 0", "0 is not in 1..=50");
        check_refused("run --leader-window 1s", "at least 10s");
        check_refused("replay x --max-pending 0", "0 is not in");
        check_refused("run --restarts page", "possible values: warning, critical");
        assert!(parsed("run --storage-warning 96 --storage-critical 98").is_ok());
    }
}
