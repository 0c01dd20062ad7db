//! The socket on which a service manager is told how far the watcher is (`sd_notify(3)`); what it is told is decided in
//! [`crate::daemon::Supervision`].
//!
//! The messages are a few lines of text in one datagram. Libraries for it wait until the service manager takes a
//! message; nothing may hold up the watcher, so here one that is not taken at once is told again later.

use std::convert::Infallible;
use std::time::Duration;

use crate::daemon::{Progress, Supervision};
use crate::shell::clock::Clock;
use crate::shell::config::Env;
use crate::stamp::Stamp;

/// Where a service manager listens, as it says in the environment of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyOptions {
    /// The path of a socket, or `@` and its abstract name (`$NOTIFY_SOCKET`).
    pub socket: String,
    /// When it takes the process for dead without a word (`$WATCHDOG_USEC`); `None` when it never does.
    pub watchdog: Option<Duration>,
}

impl NotifyOptions {
    /// What the environment says, if there is a service manager that listens.
    pub fn of(around: &Env) -> Option<Self> {
        let socket = around.variable("NOTIFY_SOCKET")?.to_owned();
        let own = std::process::id().to_string();
        let is_ours = around.variable("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let micros = around.variable("WATCHDOG_USEC").and_then(|text| text.parse().ok());
        let watchdog = micros.filter(|micros| is_ours && *micros > 0).map(Duration::from_micros);
        Some(Self { socket, watchdog })
    }
}

/// Whether stderr leads into the journal, which notes the time of each line itself: `$JOURNAL_STREAM` names its device and
/// its inode, and whoever was started with another stderr inherits the variable all the same (`systemd.exec(5)`).
pub fn is_journal(around: &Env) -> bool {
    #[cfg(unix)]
    {
        let named = around.variable("JOURNAL_STREAM").and_then(|text| text.split_once(':'));
        let found = rustix::fs::fstat(std::io::stderr());
        matches!((named, found), (Some((device, inode)), Ok(found))
            if device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino))
    }
    #[cfg(not(unix))]
    {
        let _ = around;
        false
    }
}

/// A service manager that is told; without one nothing is.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    channel: Option<(Channel, Supervision)>,
}

impl ServiceManager {
    /// Opens the socket. One that cannot be used is told once, and ends nothing.
    pub(super) fn open(options: Option<&NotifyOptions>) -> Self {
        let opened = options.and_then(|options| match Channel::open(&options.socket) {
            Ok(channel) => Some((channel, Supervision::new(options.watchdog))),
            Err(error) => {
                tracing::warn!(%error, "the service manager ($NOTIFY_SOCKET) cannot be told anything");
                None
            }
        });
        Self { channel: opened }
    }

    /// Tells what is due now.
    pub(super) fn tell(&mut self, progress: impl FnOnce() -> Progress, now: Stamp) {
        if let Some((channel, supervision)) = &mut self.channel {
            supervision.tell(&progress(), now, |message| channel.send(message));
        }
    }

    /// The earlier of `wake` and the time when something is to be told though nothing happens.
    pub(super) fn wake_by(&self, wake: Stamp) -> Stamp {
        let due = self.channel.as_ref().and_then(|(_, supervision)| supervision.due());
        due.filter(|due| wake.has_reached(*due)).unwrap_or(wake)
    }

    /// While the first server is looked for: tells that the process works, until the future is dropped.
    pub(super) async fn wait(&mut self, clock: Clock) -> Infallible {
        loop {
            let now = clock.now();
            self.tell(Progress::connecting, now);
            tokio::time::sleep_until(clock.instant(self.wake_by(now.plus(Duration::from_secs(60))))).await;
        }
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct Channel {
    socket: std::os::unix::net::UnixDatagram,
    address: std::os::unix::net::SocketAddr,
}

#[cfg(unix)]
impl Channel {
    fn open(name: &str) -> std::io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = match name.strip_prefix('@') {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Some(name) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Whether the message was taken.
    fn send(&self, message: &str) -> bool {
        self.socket.send_to_addr(message.as_bytes(), &self.address).is_ok()
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
struct Channel;

#[cfg(not(unix))]
impl Channel {
    fn open(_name: &str) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn send(&self, _message: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_is_known_by_its_variables_and_its_watchdog_by_our_own_number() {
        let own = std::process::id().to_string();
        for (variables, watchdog) in [
            (vec![], None),
            (vec![("WATCHDOG_USEC", "30000000")], Some(Duration::from_secs(30))),
            (vec![("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", &own)], Some(Duration::from_secs(30))),
            (vec![("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "0")], None),
            (vec![("WATCHDOG_USEC", "0")], None),
            (vec![("WATCHDOG_USEC", "soon")], None),
        ] {
            assert_eq!(NotifyOptions::of(&Env::new(variables.clone())), None);
            let socket = "/run/systemd/notify";
            let around = Env::new(variables.into_iter().chain([("NOTIFY_SOCKET", socket)]));
            assert_eq!(
                NotifyOptions::of(&around),
                Some(NotifyOptions { socket: socket.to_owned(), watchdog })
            );
        }
    }
}
