//! The memory of `metawatch run`, and the size of the program.

use std::io;
use std::time::Duration;

use crate::cluster::{Cluster, Layout};
use crate::figures::{progress, say};
use crate::tools::{self, Tool};

/// When its first epochs are over.
const START: Duration = Duration::from_secs(3);
const LASTS: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    progress("memory: starting three servers …");
    let cluster = Cluster::start(Layout::cluster(3)).await?;
    let urls = cluster.urls();
    let arguments = ["run", "--interval", "1s", "--user", "admin", "--password", "admin", "--server", &urls];
    let tool = Tool::new("metawatch run", &metawatch, &arguments);
    let mut running = tool.command(&cluster.folder()).spawn()?;
    progress(&format!("memory: metawatch runs for {} s …", LASTS.as_secs()));
    tokio::time::sleep(START).await;
    let begin = resident_kib(&running)?;
    tokio::time::sleep(LASTS - START).await;
    let end = resident_kib(&running)?;
    running.kill().await?;
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    say("`metawatch run --interval 1s` on 3 healthy servers")?;
    say(&format!(
        "  resident memory  {} after {} s, {} after {} s",
        mib(begin),
        START.as_secs(),
        mib(end),
        LASTS.as_secs()
    ))?;
    let size = std::fs::metadata(&metawatch)?.len();
    say(&format!("  the program      {:.1} MiB on disk (release build)", size as f64 / 1024.0 / 1024.0))
}

/// `VmRSS`, where the system tells it.
fn resident_kib(running: &tokio::process::Child) -> io::Result<u64> {
    let id = running.id().ok_or_else(|| io::Error::other("metawatch run has ended"))?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("the system does not tell the resident memory"))
}
