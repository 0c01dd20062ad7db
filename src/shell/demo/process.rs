//! Processes that never outlive us, and free ports for them.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A shell that waits for the end of its input, which comes when we end, however we end, and then kills every
/// process it was told of. It ignores the signals of a terminal, which would reach it together with us.
#[derive(Debug)]
pub struct Reaper {
    shell: Child,
    orders: Option<ChildStdin>,
}

const REAP: &str = r#"trap '' INT TERM HUP
pids=
while read -r order pid; do
    case $order in
    +) pids="$pids $pid" ;;
    -) kept=; for known in $pids; do [ "$known" = "$pid" ] || kept="$kept $known"; done; pids=$kept ;;
    esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
rm -rf -- "$1"
"#;

impl Reaper {
    /// Starts the shell. It also removes `folder` at the end.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", REAP, "reaper"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    fn tell(&mut self, order: char, pid: u32) -> io::Result<()> {
        match &mut self.orders {
            Some(orders) => writeln!(orders, "{order} {pid}"),
            None => Ok(()),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.shell.wait().ok();
    }
}

/// A running server.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `server -c config` in a process group of its own, so that Ctrl-C reaches us and not it.
    pub fn start(server: &Path, config: &Path, log: &Path, reaper: &mut Reaper) -> io::Result<Self> {
        let mut command = Command::new(server);
        command.arg("-c").arg(config);
        Self::spawn(command, log, reaper)
    }

    /// Starts any command in the same way; what it prints is appended to `log`.
    pub fn spawn(mut command: Command, log: &Path, reaper: &mut Reaper) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn()?;
        reaper.tell('+', child.id())?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name} failed"))) }
    }

    /// Ends it at once and waits for its end.
    pub fn kill(mut self, reaper: &mut Reaper) -> io::Result<()> {
        self.child.kill()?;
        self.reap(reaper)
    }

    /// Waits for its end.
    pub fn reap(&mut self, reaper: &mut Reaper) -> io::Result<()> {
        self.child.wait()?;
        reaper.tell('-', self.child.id())
    }
}

/// Where ports are looked for: below those that systems hand out to clients, any of which could take one in between.
const PORTS: std::ops::Range<u16> = 10_240..32_000;

/// A port of 127.0.0.1 that is free now, and given to nobody else in this process.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Other processes that do the same begin elsewhere.
    let start = std::process::id().wrapping_mul(1_009);
    for _ in 0..count {
        let offset = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port on 127.0.0.1"))
}
