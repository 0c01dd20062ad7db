//! Servers whose streams live on a disk that can be filled.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Process, Reaper};

/// The server replaces the shell, so the process we know is the server.
const ON_TINY_DISK: &str = r#"mkdir -p "$2" && mount -t tmpfs -o size=10m tmpfs "$2" && exec "$0" -c "$1""#;

/// Whether this machine lets us mount a disk for one process.
pub fn can_mount() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /tmp"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Starts a server with a disk of 10 MB mounted on `store` for this process alone (a namespace of its own).
pub fn start_on_tiny_disk(
    server: &Path,
    config: &Path,
    store: &Path,
    log: &Path,
    reaper: &mut Reaper,
) -> io::Result<Process> {
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(ON_TINY_DISK)
        .arg(server)
        .arg(config)
        .arg(store);
    Process::spawn(command, log, reaper)
}
