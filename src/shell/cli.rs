//! The command line: what can be asked, and how it is explained.

mod delivery;
mod forward;
mod help;
mod limits;
mod listen;
mod values;

pub use delivery::DeliveryFlags;
pub use forward::ForwardFlags;
pub use limits::LimitFlags;
pub use listen::{LineFormat, ListenFlags, StateWord};

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::rules::Basis;
use crate::shell::config::ConnectFlags;
use crate::shell::http::HttpOptions;
use crate::status::access;
use crate::system::SystemId;

/// The version of this program, with the commit that it is built from where that is known: `0.1.0 (0123456789)`.
pub const VERSION: &str = env!("METAWATCH_VERSION");

/// Watches the JetStream meta group of a NATS system and says, over NATS, which peer is offline.
#[derive(Debug, Parser)]
#[command(name = "metawatch", version = VERSION, about, after_help = help::TOP, after_long_help = help::TOP_LONG)]
#[command(disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to reach the servers.
    #[command(flatten)]
    pub connect: ConnectFlags,
    /// How much to tell.
    #[command(flatten)]
    pub output: OutputFlags,
}

/// How much is told, and in which colours.
#[derive(Clone, Debug, Args)]
pub struct OutputFlags {
    /// Tell more on stderr
    #[arg(
        global = true,
        long,
        short,
        env = "METAWATCH_VERBOSE",
        help_heading = "Output",
        conflicts_with = "quiet"
    )]
    #[arg(hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub verbose: bool,
    /// Tell only warnings and errors on stderr
    #[arg(global = true, long, short, env = "METAWATCH_QUIET", help_heading = "Output")]
    #[arg(hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
    /// Colours: auto is on a terminal only, and respects NO_COLOR
    #[arg(global = true, long, env = "METAWATCH_COLOR", help_heading = "Output", value_name = "WHEN")]
    #[arg(value_enum, default_value_t = ColorWhen::Auto, hide_env_values = true)]
    pub color: ColorWhen,
    /// How to write what is told on stderr
    #[arg(global = true, long, env = "METAWATCH_LOG_FORMAT", help_heading = "Output", value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = LineFormat::Text, hide_env_values = true)]
    pub log_format: LineFormat,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster on this machine, break it, and show what metawatch says
    #[cfg(unix)]
    #[command(after_help = help::DEMO)]
    Demo {
        /// Leave the cluster running, to try things on, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Watch until stopped, and publish every alert on NATS
    #[command(after_help = help::RUN)]
    Run(Box<RunFlags>),
    /// Look at everything that `run` would use: rights, servers, who hears alerts; say what is missing
    #[command(after_help = help::DOCTOR)]
    Doctor(Box<DoctorFlags>),
    /// Look once and give one verdict with an exit code: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    #[command(after_help = help::CHECK)]
    Check(CheckFlags),
    /// Show the merged view: groups, leaders, peers, and who says what of whom
    #[command(after_help = help::VIEW)]
    View(ViewFlags),
    /// Send recorded epochs through the same pipeline, on the recording's own clock
    #[command(after_help = help::REPLAY)]
    Replay(ReplayFlags),
    /// Print the alert events that a running metawatch publishes, one line each
    #[command(after_help = help::LISTEN)]
    Listen(ListenFlags),
    /// Post alerts to Alertmanagers and webhooks: to where people are paged
    #[command(after_help = help::FORWARD)]
    Forward(Box<ForwardFlags>),
    /// Print the JSON Schema of the alert event
    #[command(after_help = help::SCHEMA)]
    Schema,
    /// Print the completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = help::MAN)]
    Man,
    /// Install the manual page and the completions where man and the shells look for them
    #[command(after_help = help::INSTALL_DOCS)]
    InstallDocs {
        /// Install under share/ of this folder [default: /usr/local for root, else ~/.local]
        #[arg(long, value_name = "FOLDER")]
        prefix: Option<PathBuf>,
    },
}

impl Command {
    fn limits(&self) -> Option<&LimitFlags> {
        match self {
            Self::Run(flags) => Some(&flags.rules.limits),
            Self::Check(flags) => Some(&flags.rules.limits),
            Self::View(flags) => Some(&flags.rules.limits),
            Self::Replay(flags) => Some(&flags.rules.limits),
            Self::Demo { .. }
            | Self::Doctor(_)
            | Self::Listen(_)
            | Self::Forward(_)
            | Self::Schema
            | Self::Completions { .. }
            | Self::Man
            | Self::InstallDocs { .. } => None,
        }
    }

    /// Whether a failure of the command means that the verdict is UNKNOWN.
    pub fn is_check(&self) -> bool {
        matches!(self, Self::Check(_))
    }
}

/// Which evidence may call a peer offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BasisWord {
    /// The servers' own flag, or two independent witnesses that agree without it.
    Observed,
    /// The servers' own flag only; everything else stays a warning.
    Reported,
}

impl From<BasisWord> for Basis {
    fn from(word: BasisWord) -> Self {
        match word {
            BasisWord::Observed => Self::Observed,
            BasisWord::Reported => Self::Reported,
        }
    }
}

/// What counts as offline.
#[derive(Clone, Debug, Args)]
pub struct RuleFlags {
    /// How long the leader may be without contact to a peer before that counts
    #[arg(long, env = "METAWATCH_LOST_CONTACT", hide_env_values = true, help_heading = "Verdict")]
    #[arg(value_name = "DURATION", default_value = "10s", value_parser = values::lost_contact)]
    pub lost_contact: Duration,
    /// The same where the peer is silent to this monitor, too: then it is offline
    #[arg(long, env = "METAWATCH_LOST_CONTACT_SILENT", hide_env_values = true, help_heading = "Verdict")]
    #[arg(value_name = "DURATION", default_value = "4s", value_parser = values::lost_contact)]
    pub lost_contact_silent: Duration,
    /// Which evidence may call a peer offline
    #[arg(long, env = "METAWATCH_BASIS", hide_env_values = true, help_heading = "Verdict")]
    #[arg(value_name = "BASIS", value_enum, default_value_t = BasisWord::Observed)]
    pub basis: BasisWord,
    /// A peer that has been offline for longer is taken for one that will not come back
    #[arg(long, env = "METAWATCH_GHOST_AFTER", hide_env_values = true, help_heading = "Verdict")]
    #[arg(value_name = "DURATION", default_value = "24h", value_parser = values::positive)]
    pub ghost_after: Duration,
    /// Which checks, and how much is too much.
    #[command(flatten)]
    pub limits: LimitFlags,
}

/// How alerts live, and under which subjects they are published.
#[derive(Clone, Debug, Args)]
pub struct LifeFlags {
    /// How many good epochs running end an alert
    #[arg(long, env = "METAWATCH_RESOLVE_AFTER", hide_env_values = true, help_heading = "Alerts")]
    #[arg(value_name = "EPOCHS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub resolve_after: u32,
    /// An alert that returns this soon opens the same incident again
    #[arg(long, env = "METAWATCH_FLAP_WINDOW", hide_env_values = true, help_heading = "Alerts")]
    #[arg(value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub flap_window: Duration,
    /// How often a firing alert is told again
    #[arg(long, env = "METAWATCH_REMIND", hide_env_values = true, help_heading = "Alerts")]
    #[arg(value_name = "DURATION", default_value = "15m", value_parser = values::remind)]
    pub remind: Duration,
    /// First part of the subjects of alerts and heartbeats
    #[arg(long, env = "METAWATCH_PREFIX", hide_env_values = true, help_heading = "Alerts")]
    #[arg(value_name = "SUBJECT", default_value = crate::event::PREFIX, value_parser = values::prefix)]
    pub prefix: String,
}

/// The flags of `metawatch run`.
#[derive(Clone, Debug, Args)]
pub struct RunFlags {
    /// Time between two epochs; something suspicious is looked at more often
    #[arg(long, env = "METAWATCH_INTERVAL", hide_env_values = true, value_name = "DURATION")]
    #[arg(default_value = "2s", value_parser = values::interval)]
    pub interval: Duration,
    /// Where open incidents are kept for the next run; none keeps them in memory [default: a file under
    /// $STATE_DIRECTORY, else $XDG_STATE_HOME, else ~/.local/state]
    #[arg(long, env = "METAWATCH_STATE", hide_env_values = true, value_name = "FILE|none")]
    pub state: Option<PathBuf>,
    /// Name of the system that is watched, for those who hear several; the same for all its watchers
    /// [default: an id that the first watcher makes up and the others and its next runs take over]
    #[arg(long, env = "METAWATCH_SYSTEM", hide_env_values = true, value_name = "NAME")]
    #[arg(value_parser = SystemId::parse)]
    pub system: Option<SystemId>,
    /// Append every epoch to this file, as a recording for `metawatch replay`
    #[arg(long, env = "METAWATCH_RECORD", hide_env_values = true, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Serve a status page, /metrics for Prometheus, /healthz and /readyz on this port of this host; any other address is
    /// written in full: 0.0.0.0:8222
    #[arg(long, env = "METAWATCH_LISTEN", hide_env_values = true, value_name = "[ADDRESS:]PORT")]
    #[arg(help_heading = "Status page", value_parser = access::listen_address)]
    pub listen: Option<SocketAddr>,
    /// Answer browsers that call this host so; IP addresses and localhost need no name, and scrapers never do
    #[arg(long, env = "METAWATCH_LISTEN_HOST", hide_env_values = true, value_name = "NAME")]
    #[arg(help_heading = "Status page", value_delimiter = ',', requires = "listen")]
    #[arg(value_parser = access::host_name)]
    pub listen_host: Vec<String>,
    /// What counts as offline, and what else is watched.
    #[command(flatten)]
    pub rules: RuleFlags,
    /// How alerts live.
    #[command(flatten)]
    pub life: LifeFlags,
    /// Where alerts go.
    #[command(flatten)]
    pub delivery: DeliveryFlags,
}

impl RunFlags {
    /// Where the status page is served, if anywhere.
    pub fn page(&self) -> Option<HttpOptions> {
        self.listen.map(|listen| HttpOptions { listen, hosts: self.listen_host.clone() })
    }
}

/// The flags of `metawatch doctor`: those of `run`, which it looks at in their place.
#[derive(Clone, Debug, Args)]
pub struct DoctorFlags {
    /// How to print what was found
    #[arg(long, env = "METAWATCH_DOCTOR_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = DoctorFormat::Text)]
    pub format: DoctorFormat,
    /// What `run` would do.
    #[command(flatten)]
    pub run: RunFlags,
}

/// The formats of what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// A line for each finding, when it is there.
    Text,
    /// One JSON object, at the end.
    Json,
}

/// The flags of `metawatch check`.
#[derive(Clone, Debug, Args)]
pub struct CheckFlags {
    /// Judge what this file holds instead of asking the servers: a recording, a capture, or bare replies; - is stdin
    #[arg(long, env = "METAWATCH_FROM", hide_env_values = true, value_name = "FILE|-")]
    pub from: Option<PathBuf>,
    /// How to print the verdict [default: text on a terminal, else nagios]
    #[arg(long, env = "METAWATCH_CHECK_FORMAT", hide_env_values = true, value_name = "FORMAT", value_enum)]
    pub format: Option<CheckFormat>,
    /// Write the verdict to this file instead of stdout, all at once: a reader never sees half of it
    #[arg(long, env = "METAWATCH_OUTFILE", hide_env_values = true, value_name = "FILE")]
    pub outfile: Option<PathBuf>,
    /// What to show.
    #[command(flatten)]
    pub selection: SelectionFlags,
    /// What counts as offline, and what else is watched.
    #[command(flatten)]
    pub rules: RuleFlags,
}

/// Which part of a large system is shown.
#[derive(Clone, Debug, Args)]
pub struct SelectionFlags {
    /// Only this meta group: its domain, or `default` for the one without; may be given several times
    #[arg(long = "group", value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub groups: Vec<String>,
    /// Show only what is not well or not known
    #[arg(long)]
    pub problems: bool,
}

/// The formats of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// One line with performance data, then details: for Nagios, Icinga, Sensu, and people.
    Nagios,
    /// One JSON object.
    Json,
    /// For the textfile collector of the Prometheus node exporter.
    Prometheus,
    /// Several lines for people.
    Text,
}

/// The flags of `metawatch view`.
#[derive(Clone, Debug, Args)]
pub struct ViewFlags {
    /// Show what this file holds instead of asking the servers: a recording, a capture, or bare replies; - is stdin
    #[arg(long, env = "METAWATCH_FROM", hide_env_values = true, value_name = "FILE|-")]
    pub from: Option<PathBuf>,
    /// Show what one epoch says, and do not look again until every verdict is settled
    #[arg(long, env = "METAWATCH_ONCE", hide_env_values = true)]
    pub once: bool,
    /// Go on looking, and draw the screen anew after each epoch; a line for each change where stdout is no terminal
    #[arg(long, short, env = "METAWATCH_WATCH", hide_env_values = true, conflicts_with_all = ["from", "once"])]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub watch: bool,
    /// Time between two epochs with --watch; something suspicious is looked at more often
    #[arg(long, env = "METAWATCH_INTERVAL", hide_env_values = true, value_name = "DURATION")]
    #[arg(default_value = "2s", value_parser = values::interval)]
    pub interval: Duration,
    /// How to print the view
    #[arg(long, env = "METAWATCH_VIEW_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = ViewFormat::Table)]
    pub format: ViewFormat,
    /// What to show.
    #[command(flatten)]
    pub selection: SelectionFlags,
    /// What counts as offline, and what else is watched.
    #[command(flatten)]
    pub rules: RuleFlags,
}

/// The formats of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ViewFormat {
    /// A table for people.
    Table,
    /// One JSON object.
    Json,
}

/// The flags of `metawatch replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayFlags {
    /// The recording; - is stdin
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// How to print events
    #[arg(long, env = "METAWATCH_REPLAY_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = LineFormat::Json)]
    pub format: LineFormat,
    /// Nominal time between two epochs [default: what the recording says, else the median of its first epochs]
    #[arg(long, env = "METAWATCH_REPLAY_INTERVAL", hide_env_values = true, value_name = "DURATION")]
    #[arg(value_parser = values::interval)]
    pub interval: Option<Duration>,
    /// What counts as offline, and what else is watched.
    #[command(flatten)]
    pub rules: RuleFlags,
    /// How alerts live.
    #[command(flatten)]
    pub life: LifeFlags,
}

/// The commands that talk to no server: the flags of the connection are not shown in their help.
const OFFLINE: &[&str] = if cfg!(unix) {
    &["demo", "replay", "schema", "completions", "man", "install-docs"]
} else {
    &["replay", "schema", "completions", "man", "install-docs"]
};

/// The whole command line, as it is parsed, completed and documented.
pub fn command() -> clap::Command {
    let is_connection = |arg: &clap::Arg| arg.get_help_heading() == Some("Connection");
    let mut command = Cli::command();
    let connection: Vec<clap::Arg> =
        command.get_arguments().filter(|arg| is_connection(arg)).cloned().collect();
    command = command
        .mut_args(|arg| if is_connection(&arg) { arg.global(true).hide_short_help(true) } else { arg });
    for name in OFFLINE.iter().copied() {
        let hidden: Vec<clap::Arg> = connection
            .iter()
            .filter(|arg| name != "replay" || arg.get_id() != "connection_name")
            .map(|arg| arg.clone().hide(true))
            .collect();
        command = command.mut_subcommand(name, |sub| sub.args(hidden));
    }
    without_empty_variables(command)
}

/// A variable that is set to nothing counts as not set, as everywhere in metawatch.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Why a command line is not run: its help was asked for, or it is wrong.
#[derive(Debug)]
pub struct Refused {
    /// The help, or what is wrong.
    pub error: Box<clap::Error>,
    /// The code to exit with.
    pub code: u8,
}

/// Parses a command line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let words: Vec<OsString> = words.into_iter().collect();
    let parsed = command().try_get_matches_from(&words).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        match cli.command.as_ref().and_then(Command::limits).and_then(LimitFlags::conflict) {
            Some(conflict) => Err(command().error(clap::error::ErrorKind::ValueValidation, conflict)),
            None => Ok(cli),
        }
    });
    parsed.map_err(|error| {
        let code = if error.use_stderr() { usage_code(&words) } else { 0 };
        Refused { error: Box::new(error), code }
    })
}

/// A `check` that cannot start has no verdict: 3. Every other command just fails.
fn usage_code(words: &[OsString]) -> u8 {
    let command = command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let called = words.iter().skip(1).filter_map(|word| word.to_str()).find(|word| names.contains(word));
    if called == Some("check") { 3 } else { 1 }
}
