//! The commands that talk to servers: a runtime around them, and an end on SIGINT and SIGTERM.

use tokio::sync::Notify;

use crate::pipeline::Settings;
use crate::report::{json, lines};
use crate::shell::cli::{LineFormat, ListenFlags};
use crate::shell::config::ConnectConfig;
use crate::shell::daemon::{self, RunOptions};
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::listen::{self, ListenEnd, ListenEvent, ListenOptions};
use crate::shell::one_shot::{self, Look, Looked};
use crate::shell::report::{self, Out};

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

/// Prints what watchers publish, until it is told to stop, enough has come, or nobody reads any more. Gives the exit
/// code.
pub(super) fn listen(config: &ConnectConfig, flags: &ListenFlags, out: &mut Out) -> Result<u8, Failure> {
    let over = Notify::new();
    let shutdown = async {
        tokio::select! {
            () = told_to_stop() => {}
            () = over.notified() => {}
        }
    };
    let mut broken = None;
    let mut tell = |told: ListenEvent<'_>| {
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
        use tokio::signal::unix::{SignalKind, signal};
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            // Without handlers the signals end the process all the same.
            (Err(_), _) | (_, Err(_)) => std::future::pending().await,
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
