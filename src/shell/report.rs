//! What people and programs read: data on stdout, everything else on stderr.
//!
//! The reports themselves are text when they come here ([`crate::report`]); only [`Out`] and the functions beside it
//! write.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use crate::name::printable;
use crate::report::style::Style;
use crate::shell::atomic_file::{file_at, replace};
use crate::shell::cli::{ColorWhen, LineFormat, OutputFlags};
use crate::shell::config::Env;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::service_manager::is_journal;

/// How wide a terminal is that does not say.
const COLUMNS: u16 = 80;

/// Where data goes: stdout, behind a buffer. When its reader goes away, writing ends without a word.
pub struct Out {
    stdout: io::BufWriter<Box<dyn Write>>,
    terminal: bool,
    drawn_on: bool,
    style: Style,
    closed: bool,
}

impl Out {
    /// The stdout of this process.
    pub fn stdout(color: ColorWhen, around: &Env) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let style = Style::new(colored(color, terminal, around));
        let drawn_on = terminal && around.variable("TERM") != Some("dumb");
        Self { terminal, drawn_on, style, stdout: io::BufWriter::new(Box::new(stdout)), closed: false }
    }

    /// Whether people read it as it comes.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether it is a terminal that understands more than lines.
    pub fn is_drawn_on(&self) -> bool {
        self.drawn_on
    }

    /// How to colour it.
    pub fn style(&self) -> Style {
        self.style
    }

    /// How wide the terminal is.
    pub fn columns(&self) -> usize {
        let (columns, _) = crossterm::terminal::size().unwrap_or((COLUMNS, 0));
        usize::from(if columns == 0 { COLUMNS } else { columns })
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed || (!self.terminal && reader_is_gone())
    }

    /// Writes `text`, which ends its own lines.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.stdout.write_all(text.as_bytes());
        self.judge(written)
    }

    /// Passes on what is written so far.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.stdout.flush();
        self.judge(flushed)
    }

    fn judge(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        match result {
            Ok(()) => Ok(()),
            Err(_) if self.closed => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::new(
                FailureKind::Io,
                format!("cannot write to stdout: {error}"),
                "see whether the disk is full, or where the output goes",
            )),
        }
    }
}

/// Whether the other end of a pipe is closed: what is written next would be lost.
#[cfg(unix)]
fn reader_is_gone() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

#[cfg(not(unix))]
fn reader_is_gone() -> bool {
    false
}

/// Whether to colour a stream.
fn colored(when: ColorWhen, terminal: bool, around: &Env) -> bool {
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => {
            terminal && around.variable("NO_COLOR").is_none() && around.variable("TERM") != Some("dumb")
        }
    }
}

/// One line on stderr. Nothing is to be done when even that fails.
fn tell(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// What is told goes through the log, a JSON object a line.
static AS_JSON: AtomicBool = AtomicBool::new(false);

fn is_json() -> bool {
    AS_JSON.load(Ordering::Relaxed)
}

/// Says what went wrong and what to do about it.
pub fn failed(failure: &Failure) {
    // Why a command has failed is told whatever the log shows.
    if is_json() && tracing::enabled!(tracing::Level::ERROR) {
        return tracing::error!(hint = failure.hint(), "{failure}");
    }
    tell(&format!("error: {}", safe_lines(&failure.to_string())));
    hint(failure);
}

/// Says what to do, where what went wrong is told already.
pub fn hint(failure: &Failure) {
    tell(&format!("hint: {}", safe_lines(failure.hint())));
}

/// Says something that does not end the command.
pub fn warn(message: &str) {
    if is_json() {
        return tracing::warn!("{message}");
    }
    tell(&format!("warning: {}", printable(message)));
}

/// Says what was done.
pub fn note(message: &str) {
    if is_json() {
        return tracing::info!("{message}");
    }
    tell(&printable(message));
}

/// The text with its line ends kept and everything else made visible.
fn safe_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Says why a command line is not run, or shows the help that was asked for.
pub fn refused(error: &clap::Error, around: &Env) {
    if !error.use_stderr() {
        // A closed stream wants to hear nothing.
        drop(error.print());
        return;
    }
    let color = colored(ColorWhen::Auto, io::stderr().is_terminal(), around);
    let text = if color { error.render().ansi().to_string() } else { error.render().to_string() };
    tell(text.replace("For more information, try ", "hint: try ").trim_end());
}

/// Sends what the program tells of itself to stderr, as far as the flags and `METAWATCH_LOG` ask for it.
pub fn trace(output: &OutputFlags, around: &Env) {
    let default = match (output.verbose, output.quiet) {
        (true, _) => "metawatch=debug,async_nats=off",
        (_, true) => "metawatch=warn,async_nats=off",
        (false, false) => "metawatch=info,async_nats=off",
    };
    let given = around.variable("METAWATCH_LOG");
    let parsed = given.map(EnvFilter::try_new).transpose();
    let (filter, broken) = match parsed {
        Ok(filter) => (filter.unwrap_or_else(|| EnvFilter::new(default)), None),
        Err(error) => (EnvFilter::new(default), Some(error.to_string())),
    };
    let color = colored(output.color, io::stderr().is_terminal(), around);
    let json = output.log_format == LineFormat::Json;
    AS_JSON.store(json, Ordering::Relaxed);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log_writer);
    let subscriber = subscriber.with_ansi(color && !json).with_target(false);
    // A second subscriber can only be set by a test; the first one stays.
    drop(match json {
        true => subscriber.json().flatten_event(true).with_span_list(false).try_init(),
        false if is_journal(around) => subscriber.without_time().try_init(),
        false => subscriber.try_init(),
    });
    if let Some(broken) = broken {
        warn(&format!("METAWATCH_LOG is not a filter and is ignored: {broken}"));
    }
}

/// Something is drawn on the terminal: lines in between would spoil it.
static HELD_BACK: AtomicBool = AtomicBool::new(false);

/// While something is drawn on the terminal, what the program tells of itself goes only where that is no terminal.
pub fn hold_back(hold: bool) {
    HELD_BACK.store(hold, Ordering::Relaxed);
}

fn log_writer() -> Box<dyn Write> {
    if HELD_BACK.load(Ordering::Relaxed) && io::stderr().is_terminal() {
        Box::new(io::sink())
    } else {
        Box::new(io::stderr())
    }
}

/// Writes a file all at once: whoever reads it sees the old text or the new one.
pub fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |why: &str| {
        let hint = "name a file in a directory that exists and that this user may write in";
        Failure::new(FailureKind::Io, format!("cannot write {}: {why}", path.display()), hint)
    };
    let path = file_at(path).map_err(failed)?;
    let written = replace(&path, text.as_bytes(), 0o644).and_then(|file| file.sync_all());
    written.map_err(|error| failed(&error.to_string()))
}
