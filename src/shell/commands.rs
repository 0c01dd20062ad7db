//! What each command does.

mod docs;
mod doctor;
mod live;

use std::hash::BuildHasher;
use std::path::Path;

use crate::alert::LifeRules;
use crate::event::{AlertEvent, Monitor, Outgoing, PREFIX, Snapshot};
use crate::pipeline::Settings;
use crate::report::style::folded;
use crate::report::table::Shown;
use crate::report::{CheckReport, json, lines, nagios, prometheus, selection, table, text};
use crate::rules::Rules;
use crate::shell::cli::{
    self, CheckFlags, CheckFormat, Cli, Command, LifeFlags, LineFormat, ReplayFlags, RuleFlags, RunFlags,
    ViewFlags, ViewFormat,
};
use crate::shell::config::{ConnectConfig, ConnectFlags, Env};
use crate::shell::daemon::RunOptions;
use crate::shell::failure::Failure;
use crate::shell::offline;
use crate::shell::one_shot::Looked;
use crate::shell::replay::{self, ReplaySink};
use crate::shell::report::{self, Out};
use crate::shell::service_manager::NotifyOptions;
use crate::shell::state_file::StateLocation;

/// The exit code of a check that cannot tell.
const UNKNOWN: u8 = 3;

/// Does what the command line asks for, and gives the exit code.
pub fn run(cli: Cli, around: &Env) -> u8 {
    let mut out = Out::stdout(cli.output.color, around);
    let is_check = cli.command.as_ref().is_some_and(Command::is_check);
    let done = dispatch(cli, around, &mut out).and_then(|code| out.flush().map(|()| code));
    done.unwrap_or_else(|failure| {
        report::failed(&failure);
        if is_check { UNKNOWN } else { 1 }
    })
}

fn dispatch(cli: Cli, around: &Env, out: &mut Out) -> Result<u8, Failure> {
    let Cli { command, connect, output } = cli;
    let place = Place { connect: &connect, around, quiet: output.quiet };
    let Some(command) = command else {
        out.write(&cli::command().render_help().to_string())?;
        return Ok(0);
    };
    match command {
        #[cfg(unix)]
        Command::Demo { keep } => live::demo(keep, out).map(|()| 0),
        Command::Run(flags) => run_live(&flags, &place).map(|()| 0),
        Command::Doctor(flags) => doctor::examine(&flags, &place, out),
        Command::Forward(flags) => live::forward(&place.config()?, *flags, around).map(|()| 0),
        Command::Check(flags) => check(&flags, &place, out),
        Command::View(flags) => view(&flags, &place, out).map(|()| 0),
        Command::Replay(flags) => replay(&flags, &place, out).map(|()| 0),
        Command::Listen(flags) => live::listen(&place.config()?, &flags, place.quiet, out),
        Command::Schema => out.write(&json::document(&AlertEvent::schema(), true)?).map(|()| 0),
        Command::Completions { shell } => out.write(&docs::completions(shell)).map(|()| 0),
        Command::Man => out.write(&docs::manual()?).map(|()| 0),
        Command::InstallDocs { prefix } => docs::install(prefix, around, out).map(|()| 0),
    }
}

/// Where we are: what was said of the connection, and the environment.
struct Place<'a> {
    connect: &'a ConnectFlags,
    around: &'a Env,
    /// Tell only warnings and errors.
    quiet: bool,
}

impl Place<'_> {
    fn config(&self) -> Result<ConnectConfig, Failure> {
        ConnectConfig::resolve(self.connect, self.around)
    }

    /// The name of this watcher where no connection is made.
    fn name(&self) -> String {
        let variable = || self.around.variable("METAWATCH_CONNECTION_NAME").map(str::to_owned);
        self.connect.connection_name.clone().or_else(variable).unwrap_or_else(|| PREFIX.to_owned())
    }
}

fn monitor(name: String, instance: impl Into<String>) -> Monitor {
    Monitor { name, version: env!("CARGO_PKG_VERSION").to_owned(), instance: instance.into() }
}

/// A word that no other run has.
fn instance() -> String {
    // The keys of the standard hasher are the random numbers of the standard library.
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    format!("{random:016x}")
}

fn rules(flags: &RuleFlags) -> Rules {
    Rules {
        lost_contact: flags.lost_contact,
        lost_contact_silent: flags.lost_contact_silent,
        basis: flags.basis.into(),
        ghost_after: flags.ghost_after,
        checks: flags.limits.checks(),
        limits: flags.limits.limits(),
        ..Rules::default()
    }
}

fn life(flags: &LifeFlags) -> LifeRules {
    LifeRules { resolve_after: flags.resolve_after, flap_window: flags.flap_window, remind: flags.remind }
}

/// The settings of a single look.
fn settings_of_look(flags: &RuleFlags, monitor: Monitor) -> Settings {
    Settings { rules: rules(flags), life: LifeRules::default(), monitor, prefix: PREFIX.to_owned() }
}

fn complain(message: &str) {
    report::warn(message);
}

fn check(flags: &CheckFlags, place: &Place<'_>, out: &mut Out) -> Result<u8, Failure> {
    let looked = look(flags.from.as_deref(), &flags.rules, place, Depth::Verdict).and_then(|mut looked| {
        selection::only_groups(&mut looked.step, &flags.selection.groups)?;
        Ok(looked)
    });
    let usual =
        if out.is_terminal() && flags.outfile.is_none() { CheckFormat::Text } else { CheckFormat::Nagios };
    let format = flags.format.unwrap_or(usual);
    let (report, failure) = match looked {
        Ok(looked) => {
            let judge = match format {
                CheckFormat::Nagios | CheckFormat::Text => CheckReport::of_problems,
                CheckFormat::Json | CheckFormat::Prometheus => CheckReport::new,
            };
            let report = judge(&looked.step, looked.epochs.into(), &looked.alerts);
            // The process ends: the system takes all of it back at once.
            std::mem::forget(looked);
            (report, None)
        }
        Err(failure) => (CheckReport::failed(&failure.to_string()), Some(failure)),
    };
    let login = if flags.from.is_none() {
        place.config().map(|config| config.login()).unwrap_or_default()
    } else {
        String::new()
    };
    let report = report.with_login(&login);
    // What is scraped has the same series at every time.
    let whole = !flags.selection.problems || format == CheckFormat::Prometheus;
    let report = if whole { report } else { report.only_problems() };
    let style = out.style();
    let text = match format {
        CheckFormat::Nagios => nagios::page(&report),
        CheckFormat::Json => json::document(&report, out.is_terminal())?,
        CheckFormat::Prometheus => prometheus::page(&report),
        CheckFormat::Text if out.is_terminal() && flags.outfile.is_none() => {
            folded(&text::page(&report, style), out.columns())
        }
        CheckFormat::Text => text::page(&report, style),
    };
    match &flags.outfile {
        Some(path) => report::write_file(path, &text)?,
        None => out.write(&text)?,
    }
    match failure {
        // Whoever reads the verdict has read why there is none, and on the same terminal.
        Some(failure) if format == CheckFormat::Text && out.is_terminal() && flags.outfile.is_none() => {
            out.flush()?;
            report::hint(&failure);
            Ok(UNKNOWN)
        }
        // The verdict is told; why there is none, and what to do about it, follows on stderr.
        Some(failure) => {
            out.flush()?;
            Err(failure)
        }
        None => Ok(report.code),
    }
}

fn view(flags: &ViewFlags, place: &Place<'_>, out: &mut Out) -> Result<(), Failure> {
    if flags.watch {
        let config = place.config()?;
        let mut settings = settings_of_look(&flags.rules, monitor(config.name.clone(), instance()));
        settings.rules.interval = flags.interval;
        return live::watch(&config, settings, flags, out);
    }
    let depth = if flags.once { Depth::Once } else { Depth::Verdict };
    let Looked { mut step, .. } = look(flags.from.as_deref(), &flags.rules, place, depth)?;
    selection::only_groups(&mut step, &flags.selection.groups)?;
    let shown = if flags.selection.problems { Shown::Problems } else { Shown::All };
    if shown == Shown::Problems {
        selection::only_problems(&mut step);
    }
    match flags.format {
        ViewFormat::Table => out.write(&table::report(&step, shown, out.style())),
        ViewFormat::Json => {
            let monitor = &step.heartbeat.monitor;
            let snapshot = Snapshot::new(&step.view, &step.findings, monitor);
            let document = json::document(&snapshot, out.is_terminal())?;
            out.write(&document)
        }
    }
}

/// How long to look.
#[derive(Clone, Copy)]
enum Depth {
    /// One epoch.
    Once,
    /// Until what needs more than one epoch has had it.
    Verdict,
}

/// Looks at what a file holds, or at the servers.
fn look(path: Option<&Path>, flags: &RuleFlags, place: &Place<'_>, depth: Depth) -> Result<Looked, Failure> {
    match path {
        Some(path) => {
            let settings = settings_of_look(flags, monitor(place.name(), "file"));
            offline::look(path, settings, &mut complain)
        }
        None => {
            let config = place.config()?;
            let settings = settings_of_look(flags, monitor(config.name.clone(), instance()));
            live::look(&config, settings, matches!(depth, Depth::Verdict), place.quiet)
        }
    }
}

struct Printer<'a> {
    out: &'a mut Out,
    format: LineFormat,
}

impl ReplaySink for Printer<'_> {
    fn event(&mut self, event: &Outgoing) -> Result<bool, Failure> {
        let line = match self.format {
            LineFormat::Json => lines::as_json(event)?,
            LineFormat::Text => lines::as_text(&event.event, self.out.style()),
        };
        self.out.write(&line)?;
        Ok(!self.out.is_closed())
    }

    fn bad_line(&mut self, message: &str) {
        report::warn(message);
    }

    fn pause(&mut self) -> Result<(), Failure> {
        self.out.flush()
    }
}

fn replay(flags: &ReplayFlags, place: &Place<'_>, out: &mut Out) -> Result<(), Failure> {
    let settings = Settings {
        rules: rules(&flags.rules),
        life: life(&flags.life),
        monitor: monitor(place.name(), "replay"),
        prefix: flags.life.prefix.clone(),
    };
    let mut printer = Printer { out, format: flags.format };
    let done = replay::replay(&flags.file, settings, flags.interval, &mut printer)?;
    out.flush()?;
    if !place.quiet && !out.is_closed() {
        let count =
            |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
        report::note(&format!(
            "{}, {}, {}",
            count(done.epochs, "epoch"),
            count(done.bad_lines, "unreadable line"),
            count(done.events, "event")
        ));
    }
    Ok(())
}

fn run_live(flags: &RunFlags, place: &Place<'_>) -> Result<(), Failure> {
    let (config, options) = run_options(flags, place)?;
    live::run(&config, options)
}

/// What the flags of `metawatch run` say.
fn run_options(flags: &RunFlags, place: &Place<'_>) -> Result<(ConnectConfig, RunOptions), Failure> {
    let config = place.config()?;
    let settings = Settings {
        rules: Rules { interval: flags.interval, ..rules(&flags.rules) },
        life: life(&flags.life),
        monitor: monitor(config.name.clone(), instance()),
        prefix: flags.life.prefix.clone(),
    };
    let state = match &flags.state {
        Some(file) => StateLocation::named(file),
        None => StateLocation::usual(place.around, &config, &settings.prefix),
    };
    let alerts = flags.delivery.connection().map(|given| config.beside(&given, place.around)).transpose()?;
    let (mode, record) = (flags.delivery.mode(), flags.record.clone());
    let system = flags.system.clone();
    let (page, notify) = (flags.page(), NotifyOptions::of(place.around));
    Ok((config, RunOptions { settings, system, state, alerts, mode, record, page, notify }))
}
