//! Three nats-servers with JetStream on loopback, and metawatch beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::binary::nats_server;
use super::process::{Process, Reaper, free_port};

/// The names of the servers.
const NAMES: [&str; 3] = ["s1", "s2", "s3"];
/// Name and password of the user of the system account.
pub(super) const USER: &str = "admin";

/// The servers, and the watcher. All of them end with this value, or with this process, however that ends.
pub(super) struct Cluster {
    binary: PathBuf,
    servers: Vec<Server>,
    watcher: Option<Process>,
    reaper: Reaper,
    folder: TempDir,
}

struct Server {
    name: &'static str,
    port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Finds or fetches a nats-server, and starts three of them.
    pub(super) fn start() -> io::Result<Self> {
        let binary = nats_server(None)?;
        let folder = tempfile::Builder::new().prefix("metawatch-demo-").tempdir()?;
        let reaper = Reaper::start(folder.path())?;
        let ports = NAMES.map(|_| Ok((free_port()?, free_port()?)));
        let ports = ports.into_iter().collect::<io::Result<Vec<(u16, u16)>>>()?;
        let routes: Vec<u16> = ports.iter().map(|(_, route)| *route).collect();
        let mut servers = Vec::new();
        for (name, (port, route)) in NAMES.into_iter().zip(ports) {
            fs::write(
                folder.path().join(format!("{name}.conf")),
                configuration(folder.path(), name, port, route, &routes),
            )?;
            servers.push(Server { name, port, process: None });
        }
        let mut cluster = Self { binary, servers, watcher: None, reaper, folder };
        for name in NAMES {
            cluster.boot(name)?;
        }
        fs::write(cluster.folder().join("env"), cluster.environment())?;
        Ok(cluster)
    }

    /// Where configuration, logs and process ids are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of a server.
    pub(super) fn url(&self, name: &str) -> Option<String> {
        let server = self.servers.iter().find(|server| server.name == name)?;
        Some(format!("nats://127.0.0.1:{}", server.port))
    }

    /// The addresses of all of them.
    pub(super) fn urls(&self) -> String {
        NAMES.iter().filter_map(|name| self.url(name)).collect::<Vec<_>>().join(",")
    }

    /// The names of all but these.
    pub(super) fn others<'a>(&self, besides: &'a [&'a str]) -> impl Iterator<Item = &'static str> + 'a {
        NAMES.into_iter().filter(|name| !besides.contains(name))
    }

    /// Starts a server, for the first time or again.
    pub(super) fn boot(&mut self, name: &str) -> io::Result<()> {
        let config = self.folder.path().join(format!("{name}.conf"));
        let log = self.folder.path().join(format!("{name}.log"));
        for server in self.servers.iter_mut().filter(|server| server.name == name) {
            server.process = Some(Process::start(&self.binary, &config, &log, &mut self.reaper)?);
        }
        Ok(())
    }

    /// Starts what has ended; the names of those.
    pub(super) fn boot_what_ended(&mut self) -> io::Result<Vec<&'static str>> {
        let ended: Vec<&'static str> = self
            .servers
            .iter_mut()
            .filter_map(|server| {
                server.process.as_mut().is_none_or(Process::has_ended).then_some(server.name)
            })
            .collect();
        for name in &ended {
            self.forget(name)?;
            self.boot(name)?;
        }
        Ok(ended)
    }

    /// Sends a signal to a server: `TERM`, `KILL`.
    pub(super) fn signal(&mut self, name: &str, signal: &str) -> io::Result<()> {
        for server in self.servers.iter().filter(|server| server.name == name) {
            if let Some(process) = &server.process {
                process.signal(signal)?;
            }
        }
        self.forget(name)
    }

    /// Waits for the end of a server that was told to end.
    fn forget(&mut self, name: &str) -> io::Result<()> {
        for server in self.servers.iter_mut().filter(|server| server.name == name) {
            if let Some(mut process) = server.process.take() {
                process.reap(&mut self.reaper)?;
            }
        }
        Ok(())
    }

    /// Starts `metawatch run`: this very program.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--interval", "1s", "--state", "none"]);
        self.log_in(&mut command, &self.urls());
        let log = self.folder.path().join("metawatch.log");
        self.watcher = Some(Process::spawn(command, &log, &mut self.reaper)?);
        Ok(())
    }

    /// What `metawatch check` prints now, asked through a server that runs.
    pub(super) fn check(&self, through: &str) -> io::Result<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["check", "--format", "text", "--quiet"]);
        self.log_in(&mut command, &self.url(through).unwrap_or_else(|| self.urls()));
        let output = command.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn log_in(&self, command: &mut Command, servers: &str) {
        // Only what is given here counts: no variable, and no context of whoever shows this.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("NATS_") || text.starts_with("METAWATCH_") {
                command.env_remove(&name);
            }
        }
        command.env("XDG_CONFIG_HOME", self.folder.path());
        command.args(["--server", servers, "--user", USER, "--password", USER]);
    }

    /// Whether something has ended that nobody told to: its name, and the end of its log.
    pub(super) fn broken(&mut self) -> Option<(String, String)> {
        let servers =
            self.servers.iter_mut().filter_map(|server| Some((server.name, server.process.as_mut()?)));
        let watcher = self.watcher.as_mut().map(|watcher| ("metawatch", watcher));
        let (name, _) =
            servers.chain(watcher).find_map(|(name, process)| process.has_ended().then_some((name, ())))?;
        let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote no log");
        Some((name.to_owned(), last.trim().to_owned()))
    }

    /// What a shell reads to use the cluster with short commands.
    fn environment(&self) -> String {
        let exe = std::env::current_exe().ok();
        let path = exe
            .as_deref()
            .and_then(Path::parent)
            .map(|folder| format!("export PATH='{}':\"$PATH\"\n", folder.display()));
        format!(
            "export NATS_URL={} NATS_USER={USER} NATS_PASSWORD={USER}\nexport DEMO='{}'\n{}",
            self.urls(),
            self.folder.path().display(),
            path.unwrap_or_default()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let servers = self.servers.iter_mut().filter_map(|server| server.process.take());
        for process in servers.chain(self.watcher.take()).collect::<Vec<_>>() {
            // What cannot be ended here is ended by the reaper.
            drop(process.kill(&mut self.reaper));
        }
    }
}

fn configuration(folder: &Path, name: &str, port: u16, route: u16, routes: &[u16]) -> String {
    let folder = folder.display();
    let routes: Vec<String> = routes
        .iter()
        .filter(|other| **other != route)
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    format!(
        "server_name: {name}\n\
         listen: 127.0.0.1:{port}\n\
         pid_file: \"{folder}/{name}.pid\"\n\
         jetstream {{ store_dir: \"{folder}/{name}\", max_mem: 64MB, max_file: 256MB }}\n\
         accounts {{\n  \
           SYS {{ users: [{{ user: {USER}, password: {USER} }}] }}\n  \
           APP {{ jetstream: enabled, users: [{{ user: app, password: app }}] }}\n\
         }}\n\
         system_account: SYS\n\
         cluster {{ name: c1, listen: 127.0.0.1:{route}, routes: [{}] }}\n",
        routes.join(", ")
    )
}
