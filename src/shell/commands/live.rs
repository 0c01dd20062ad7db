//! The commands that talk to servers: a runtime around them, and an end on SIGINT and SIGTERM.

use tokio::sync::Notify;

use crate::doctor::Item;
use crate::pipeline::Settings;
use crate::report::selection::ChosenGroups;
use crate::report::{json, lines};
use crate::screen::Line;
use crate::shell::cli::{ForwardFlags, LineFormat, ListenFlags, ViewFlags, ViewFormat};
use crate::shell::config::{ConnectConfig, Env};
use crate::shell::daemon::{self, RunOptions};
use crate::shell::doctor;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::forward;
use crate::shell::listen::{self, ListenEnd, ListenEvent, ListenOptions};
use crate::shell::one_shot::{self, Look, Looked};
use crate::shell::report::{self, Out};
use crate::shell::watch::{self, Observer};
use crate::status::SystemStatus;

/// Looks once, or until what needs several epochs has had them.
pub(super) fn look(
    config: &ConnectConfig,
    settings: Settings,
    until_settled: bool,
    quiet: bool,
) -> Result<Looked, Failure> {
    let mut progress = |message: &str| {
        if !quiet {
            report::note(message);
        }
    };
    let how = if until_settled { Look::UntilSettled { progress: &mut progress } } else { Look::Once };
    block_on(one_shot::look(config, settings, how))
}

/// Watches until it is told to stop.
pub(super) fn run(config: &ConnectConfig, options: RunOptions) -> Result<(), Failure> {
    block_on(daemon::run(config, options, told_to_stop()))
}

/// Posts alerts where people are paged, until it is told to stop.
pub(super) fn forward(config: &ConnectConfig, flags: ForwardFlags, around: &Env) -> Result<(), Failure> {
    block_on(forward::forward(config, flags.into_options(), around, told_to_stop()))
}

/// Looks at everything that the watching would use, until it has or is told to stop.
pub(super) fn examine(
    config: &ConnectConfig,
    options: &RunOptions,
    tell: &mut dyn FnMut(Item),
) -> Result<(), Failure> {
    block_on(doctor::examine(config, options, tell))
}

/// Shows a cluster that breaks, until it is told to stop.
#[cfg(unix)]
pub(super) fn demo(keep: bool, out: &mut Out) -> Result<(), Failure> {
    let done = block_on(async {
        tokio::select! {
            done = crate::shell::demo::show(keep, out) => done.map(|()| true),
            () = told_to_stop() => Ok(false),
        }
    })?;
    if !done {
        report::note("stopped: every process has ended, and every file is removed");
    }
    Ok(())
}

/// Shows how the system stands until somebody has seen enough.
pub(super) fn watch(
    config: &ConnectConfig,
    settings: Settings,
    flags: &ViewFlags,
    out: &mut Out,
) -> Result<(), Failure> {
    let format = flags.format;
    let style = out.style();
    let drawn = out.is_drawn_on() && format == ViewFormat::Table;
    let selection = &flags.selection;
    block_on(async {
        let looking = Observer::start(config, settings, ChosenGroups::new(&selection.groups)).await?;
        if drawn {
            return watch::on_terminal(looking, selection.problems, style, told_to_leave()).await;
        }
        let mut tell = |status: &SystemStatus, line: Option<Line>| {
            match (format, line) {
                (ViewFormat::Json, _) if selection.problems => {
                    out.write(&json::document(&status.only_problems(), false)?)?;
                }
                (ViewFormat::Json, _) => out.write(&json::document(status, false)?)?,
                (ViewFormat::Table, Some(line)) => out.write(&lines::of_screen(&line, style))?,
                (ViewFormat::Table, None) => {}
            }
            out.flush()?;
            Ok(!out.is_closed())
        };
        watch::in_lines(looking, told_to_leave(), &mut tell).await
    })
}

/// Prints what watchers publish, until it is told to stop, enough has come, or nobody reads any more. Gives the exit
/// code.
pub(super) fn listen(
    config: &ConnectConfig,
    flags: &ListenFlags,
    quiet: bool,
    out: &mut Out,
) -> Result<u8, Failure> {
    let over = Notify::new();
    let shutdown = async {
        tokio::select! {
            () = told_to_stop() => {}
            () = over.notified() => {}
        }
    };
    let mut broken = None;
    let mut tell = |told: ListenEvent<'_>| {
        let of_itself = matches!(told, ListenEvent::Begun { .. } | ListenEvent::First(_));
        if of_itself && quiet {
            return;
        }
        if let Err(failure) = print(told, flags, out) {
            broken = Some(failure);
        }
        if broken.is_some() || out.is_closed() {
            over.notify_one();
        }
    };
    let count = if flags.once { Some(1) } else { flags.count };
    let options = ListenOptions { count, state: flags.state.map(Into::into), within: flags.within };
    let end = block_on(listen::listen(config, &flags.prefix, options, shutdown, &mut tell))?;
    if let Some(failure) = broken {
        return Err(failure);
    }
    let too_little = match end {
        ListenEnd::Counted => false,
        ListenEnd::TimedOut => true,
        // A script that waits for an alert must not take its own end for one.
        ListenEnd::Stopped => count.is_some(),
    };
    Ok(too_little.into())
}

fn print(told: ListenEvent<'_>, flags: &ListenFlags, out: &mut Out) -> Result<(), Failure> {
    let text = match (told, flags.format) {
        (ListenEvent::Alert { subject, raw, event }, LineFormat::Json) => {
            lines::heard_as_json(subject, raw, &event)?
        }
        (ListenEvent::Alert { event, .. }, LineFormat::Text) => lines::as_text(&event, out.style()),
        (ListenEvent::Missed { at, subject, incident }, LineFormat::Json) => {
            lines::missed_as_json(at, subject, incident)?
        }
        (ListenEvent::Missed { at, incident, .. }, LineFormat::Text) => {
            lines::missed_as_text(at, incident, out.style())
        }
        (ListenEvent::Begun { subject, server }, _) => {
            report::note(&format!("listening on {subject} at {server}"));
            return Ok(());
        }
        (ListenEvent::First(_), _) if flags.heartbeats => return Ok(()),
        (ListenEvent::First(heartbeat), _) => {
            report::note(&lines::watched_by(heartbeat));
            return Ok(());
        }
        (ListenEvent::Heartbeat(_), _) if !flags.heartbeats => return Ok(()),
        (ListenEvent::Heartbeat(heartbeat), LineFormat::Json) => json::document(&heartbeat, false)?,
        (ListenEvent::Heartbeat(heartbeat), LineFormat::Text) => {
            lines::heartbeat_as_text(&heartbeat, out.style())
        }
        (ListenEvent::Unreadable { subject, detail }, _) => {
            report::warn(&format!("{subject} carries something that is no event of metawatch: {detail}"));
            return Ok(());
        }
        (ListenEvent::Quiet { system, since, lasted }, _) => {
            report::warn(&lines::quiet(system.as_deref(), since, lasted));
            return Ok(());
        }
        (ListenEvent::BackAgain { system }, _) => {
            report::note(&format!("heartbeats are heard again{}", lines::of_system(system)));
            return Ok(());
        }
        (ListenEvent::TooManySystems, _) => {
            report::warn(
                "more than 64 systems speak on these subjects: of the others only alerts are told, and not that they fall \
                 silent; listen to fewer with --prefix",
            );
            return Ok(());
        }
        (ListenEvent::Beside(beside), _) => {
            report::warn(&lines::beside(beside));
            return Ok(());
        }
    };
    out.write(&text)?;
    out.flush()
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(
            FailureKind::Io,
            format!("cannot start: {error}"),
            "see whether this process may open more files (ulimit -n)",
        )
    })?;
    let result = runtime.block_on(future);
    // What still hangs, on a disk or a name server, ends with the process.
    runtime.shutdown_background();
    result
}

/// Ready on SIGINT and SIGTERM.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        first_of(&[SignalKind::interrupt(), SignalKind::terminate()]).await;
    }
    #[cfg(not(unix))]
    interrupted().await;
}

/// Ready when a terminal is to be given back: also when it goes away, and on SIGQUIT.
async fn told_to_leave() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::SignalKind;
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        first_of(&kinds).await;
    }
    #[cfg(not(unix))]
    interrupted().await;
}

/// Ready on the first of these signals.
#[cfg(unix)]
async fn first_of(kinds: &[tokio::signal::unix::SignalKind]) {
    let signals: Result<Vec<_>, _> = kinds.iter().map(|kind| tokio::signal::unix::signal(*kind)).collect();
    // Without handlers the signals end the process all the same.
    let Ok(mut signals) = signals else { return std::future::pending().await };
    std::future::poll_fn(|context| {
        let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[cfg(not(unix))]
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
