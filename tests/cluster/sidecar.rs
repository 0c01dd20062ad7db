//! The metawatch binary as operators run it: a process beside a server, with a state file, that can be killed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Cluster;

/// A running `metawatch run`. It ends with this value.
#[derive(Debug)]
pub struct Sidecar {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Sidecar {
    /// Starts a watcher with this name against these servers, with its state and log in the cluster's folder.
    pub fn start(
        cluster: &Cluster,
        binary: &Path,
        name: &str,
        servers: &str,
        more: &[&str],
    ) -> io::Result<Self> {
        Self::start_in(cluster, binary, name, servers, more, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_in(
        cluster: &Cluster,
        binary: &Path,
        name: &str,
        servers: &str,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> io::Result<Self> {
        let state = cluster.folder().join(format!("{name}.state"));
        let system = ["--user", "admin", "--password", "admin"];
        let system = if more.contains(&"--user") { &[] } else { system.as_slice() };
        let interval = if more.contains(&"--interval") { &[] } else { ["--interval", "1s"].as_slice() };
        let mut arguments: Vec<String> = std::iter::once("run")
            .chain(interval.iter().copied())
            .chain(system.iter().copied())
            .chain(["--connection-name", name, "--server", servers])
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect();
        if !more.contains(&"--state") {
            arguments.extend(["--state".to_owned(), state.display().to_string()]);
        }
        let log = cluster.folder().join(format!("{name}.log"));
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(owned).collect();
        let mut sidecar = Self { binary: binary.to_owned(), arguments, environment, log, child: None };
        sidecar.again()?;
        Ok(sidecar)
    }

    /// Starts it again, with the same flags and so the same state.
    pub fn again(&mut self) -> io::Result<()> {
        self.kill()?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .env_clear()
            .env("XDG_CONFIG_HOME", "/nowhere")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name} failed"))) }
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Waits for its end, after a signal that asks for it; gives the exit code.
    pub fn wait(&mut self) -> io::Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        Ok(child.wait()?.code())
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How much memory it holds, in bytes; `None` where the system does not tell.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1_024)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill().ok();
    }
}
