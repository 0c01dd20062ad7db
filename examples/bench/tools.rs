//! The programs that are measured, and how they are started.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// The first program of this name on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The release build of metawatch, next to which this program was built.
pub(crate) fn metawatch() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target =
        own.ancestors().nth(3).ok_or_else(|| io::Error::other("this program has no target folder"))?;
    let binary = target.join("release").join("metawatch");
    if binary.is_file() {
        return Ok(binary);
    }
    Err(io::Error::other(format!("{} is missing\nhint: `cargo build --release` makes it", binary.display())))
}

/// A program and its arguments, in an environment that holds no settings of the user.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) label: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Tool {
    pub(crate) fn new(label: &'static str, program: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { label, program: program.to_path_buf(), arguments }
    }

    /// The command to start, silent; `home` is where it finds no configuration.
    pub(crate) fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        prepare(&mut command, home);
        command
    }
}

/// Silent, in a bare environment, and ended with us.
pub(crate) fn prepare(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
}

/// `nats server check meta` with the thresholds that find a lost peer soonest.
pub(crate) fn check_meta(nats: &Path, url: &str) -> Tool {
    let arguments =
        "--user admin --password admin server check meta --expect 3 --lag-critical 10 --seen-critical 10s";
    let arguments: Vec<&str> = ["--server", url].into_iter().chain(arguments.split(' ')).collect();
    Tool::new("nats server check meta", nats, &arguments)
}

/// Ready on SIGINT and SIGTERM.
pub(crate) async fn told_to_stop() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
