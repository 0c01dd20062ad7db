//! What a service manager hears of the real program, on real sockets.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::sidecar::Sidecar;
use crate::cluster::{Cluster, LONG, Layout, tested_version};

const METAWATCH: &str = env!("CARGO_BIN_EXE_metawatch");

/// A service manager, as far as it listens.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
    /// So many of those lines were waited for.
    passed: usize,
}

impl Manager {
    fn new(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self { socket, heard: Vec::new(), passed: 0 }
    }

    /// Hears on until a line begins so.
    fn hear(&mut self, wanted: &str) {
        for _ in 0..1_000 {
            let fits = |line: &String| line.starts_with(wanted);
            if let Some(place) = self.heard[self.passed..].iter().position(fits) {
                self.passed += place + 1;
                return;
            }
            self.passed = self.heard.len();
            let mut buffer = [0; 4_096];
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("no {wanted} was told ({error}) after {:?}", self.heard),
            };
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.extend(message.lines().map(str::to_owned));
        }
        panic!("no {wanted} was told in {:?}", self.heard);
    }

    fn has_heard(&self, line: &str) -> bool {
        self.heard.iter().any(|heard| heard == line)
    }
}

/// A watcher without a server.
fn alone(socket: &str) -> Child {
    Command::new(METAWATCH)
        .args(["run", "--no-context", "--server", "127.0.0.1:9", "--state", "none"])
        .env_clear()
        .envs([("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "3000000")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_watcher_without_a_server_asks_for_time_on_a_socket_with_a_path_and_on_an_abstract_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let name = format!("metawatch-test-{}", std::process::id());
    for (address, socket) in [
        (SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}")),
    ] {
        let mut manager = Manager::new(&address);
        let mut watcher = alone(&socket);
        manager.hear("STATUS=looking for a server");
        assert!(manager.has_heard("EXTEND_TIMEOUT_USEC=30000000"), "{:?}", manager.heard);
        // It asks again, and is not ready.
        manager.hear("EXTEND_TIMEOUT_USEC=");
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        assert!(!manager.has_heard("READY=1") && !manager.has_heard("WATCHDOG=1"), "{:?}", manager.heard);
    }
}

#[test]
fn lines_for_the_journal_have_no_time_of_their_own_and_all_others_have() {
    use std::os::linux::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let first_line = |stream: &dyn Fn(u64, u64) -> String, more: &[&str]| {
        let log = std::fs::File::create(&path).unwrap();
        let found = log.metadata().unwrap();
        let mut watcher = Command::new(METAWATCH)
            .args(["run", "--no-context", "--server", "127.0.0.1:9", "--state", "none"])
            .args(more)
            .env_clear()
            .env("JOURNAL_STREAM", stream(found.st_dev(), found.st_ino()))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let first = (0..3_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            let text = std::fs::read_to_string(&path).unwrap();
            text.split_once('\n').map(|(line, _)| line.to_owned())
        });
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        first.expect("something is told")
    };
    let ours = |device, inode| format!("{device}:{inode}");
    let journal = first_line(&ours, &[]);
    assert!(journal.trim_start().starts_with("WARN "), "{journal}");
    let timed = regex::Regex::new(r"^\d{4}-\d\d-\d\dT\S+Z +WARN ").unwrap();
    let (other, broken) =
        (|device, inode: u64| format!("{device}:{}", inode + 1), |_, _| "journal".to_owned());
    for stream in [&other as &dyn Fn(u64, u64) -> String, &broken] {
        let line = first_line(stream, &[]);
        assert!(timed.is_match(&line), "{line}");
    }
    let json = first_line(&ours, &["--log-format", "json"]);
    assert!(json.starts_with(r#"{"timestamp":""#), "{json}");
}

#[test]
fn a_socket_that_nobody_reads_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody");
    let mut watcher = alone(path.to_str().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    assert!(watcher.try_wait().unwrap().is_none(), "it goes on");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[tokio::test]
async fn it_is_ready_after_a_whole_epoch_and_feeds_the_watchdog_also_when_all_servers_are_away() {
    let layout = Layout::cluster(3).version(tested_version().as_deref());
    let mut cluster = Cluster::prepare(layout).await.unwrap();
    let path = cluster.folder().join("notify");
    let mut manager = Manager::new(&SocketAddr::from_pathname(&path).unwrap());
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1500000")];
    let urls = cluster.urls();
    let mut sidecar =
        Sidecar::start_in(&cluster, Path::new(METAWATCH), "alone", &urls, &[], &environment).unwrap();
    manager.hear("EXTEND_TIMEOUT_USEC=");
    assert!(!manager.has_heard("READY=1"));
    for name in cluster.names() {
        cluster.boot(&name).unwrap();
    }
    manager.hear("READY=1");
    // Whoever is ready has something to say of the servers.
    manager.hear("WATCHDOG=1");
    assert!(manager.heard.iter().any(|line| line.contains("servers answered")), "{:?}", manager.heard);
    manager.passed = 0;
    manager.hear("STATUS=ok: 3 of 3 servers answered");
    for name in cluster.names() {
        cluster.kill(&name).unwrap();
    }
    // A new process could do no more than this one does: it is not to be started again.
    manager.hear("STATUS=unknown: 0 of");
    for _ in 0..4 {
        manager.hear("WATCHDOG=1");
    }
    sidecar.signal("TERM").unwrap();
    manager.hear("STOPPING=1");
    assert_eq!(sidecar.wait().unwrap(), Some(0));
}
