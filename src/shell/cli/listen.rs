//! What `metawatch listen` can be asked, and how lines are printed.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values;
use crate::alert::State;

/// The formats of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LineFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateWord {
    /// One witness speaks.
    Suspected,
    /// It is a fault.
    Firing,
    /// It is over.
    Resolved,
}

impl From<StateWord> for State {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Suspected => Self::Suspected,
            StateWord::Firing => Self::Firing,
            StateWord::Resolved => Self::Resolved,
        }
    }
}

/// The flags of `metawatch listen`.
#[derive(Clone, Debug, Args)]
pub struct ListenFlags {
    /// How to print events
    #[arg(long, env = "METAWATCH_LISTEN_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = LineFormat::Text)]
    pub format: LineFormat,
    /// Print heartbeats, too
    #[arg(long, env = "METAWATCH_HEARTBEATS", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub heartbeats: bool,
    /// End after so many alerts
    #[arg(long, env = "METAWATCH_COUNT", hide_env_values = true, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after one alert: the same as --count 1
    #[arg(long, env = "METAWATCH_ONCE", hide_env_values = true, conflicts_with = "count")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub once: bool,
    /// Print and count only alerts with this state
    #[arg(long, env = "METAWATCH_LISTEN_STATE", hide_env_values = true, value_name = "STATE", value_enum)]
    pub state: Option<StateWord>,
    /// End after this long; the exit code is 1 when fewer alerts came than --count asks for, or none
    #[arg(long = "for", env = "METAWATCH_LISTEN_FOR", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = values::positive)]
    pub within: Option<Duration>,
    /// First part of the subjects of alerts and heartbeats
    #[arg(long, env = "METAWATCH_PREFIX", hide_env_values = true)]
    #[arg(value_name = "SUBJECT", default_value = crate::event::PREFIX, value_parser = values::prefix)]
    pub prefix: String,
}
