//! `metawatch check` as a whole process, next to a client that only asks, and to the nats CLI.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use futures_util::StreamExt;

use crate::cluster::{Cluster, Layout};
use crate::figures::{Samples, ms, progress, say};
use crate::tools::{self, Tool};

const RUNS: usize = 20;
const SERVERS: usize = 3;

/// The least that any client does: it connects, asks, takes the replies that it knows will come, and ends.
pub(crate) async fn bare(url: &str) -> io::Result<()> {
    let client = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into())
        .connect(url)
        .await
        .map_err(io::Error::other)?;
    let inbox = client.new_inbox();
    let replies = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
    let request = "$SYS.REQ.SERVER.PING.JSZ";
    client.publish_with_reply(request, inbox, "".into()).await.map_err(io::Error::other)?;
    let heard = replies.take(SERVERS).count().await;
    if heard == SERVERS { Ok(()) } else { Err(io::Error::other(format!("{heard} replies"))) }
}

pub(crate) async fn run(nats: Option<&Path>) -> io::Result<()> {
    let metawatch = tools::metawatch()?;
    progress("check: starting three servers …");
    // Fresh ones: servers that were killed are counted as there for minutes.
    let cluster = Cluster::start(Layout::cluster(SERVERS)).await?;
    let home = cluster.folder();
    let url = cluster.url("s1");
    let login = ["--user", "admin", "--password", "admin", "--server", &url];
    let mut tools = vec![
        Tool::new("bare client", &std::env::current_exe()?, &["bare", &url]),
        Tool::new("metawatch check", &metawatch, &[&["check", "--quiet"][..], &login].concat()),
    ];
    match nats {
        Some(nats) => {
            tools.push(tools::check_meta(nats, &url));
            let report = [&login[..], &["server", "report", "jetstream"]].concat();
            tools.push(Tool::new("nats server report jetstream", nats, &report));
        }
        None => progress("check: there is no nats CLI to compare with"),
    }
    progress(&format!("check: {RUNS} runs of each, in turn …"));
    let mut walls = vec![Samples::default(); tools.len()];
    for _ in 0..RUNS {
        for (tool, wall) in tools.iter().zip(&mut walls) {
            let begun = Instant::now();
            let status = tool.command(&home).status().await?;
            wall.push(begun.elapsed());
            if !status.success() {
                return Err(io::Error::other(format!("{}: {status}", tool.label)));
            }
        }
    }
    progress(&format!("check: {RUNS} runs of each for the CPU time …"));
    say(&format!(
        "one check of 3 healthy servers, whole process ({RUNS} runs each, in turn; CPU is user + system)"
    ))?;
    let (mut bare_cpu, bare_wall) = (None, walls[0].median());
    for (tool, wall) in tools.iter().zip(&walls) {
        let cpu = cpu(tool, &home).await?;
        let base = *bare_cpu.get_or_insert(cpu);
        let (median, max) = (wall.median(), wall.max());
        say(&format!(
            "  {:<28}  wall median {:>9} ({:.2} × bare), max {:>9}   CPU mean {:>9} ({:.2} × bare)",
            tool.label,
            ms(median),
            median / bare_wall,
            ms(max),
            ms(cpu),
            cpu / base
        ))?;
    }
    Ok(())
}

/// The mean CPU seconds of a run, as bash counts them over many.
async fn cpu(tool: &Tool, home: &Path) -> io::Result<f64> {
    let script = format!(
        "TIMEFORMAT='%3U %3S'; time for ((run = 0; run < {RUNS}; run++)); do \"$@\" >/dev/null 2>&1; done"
    );
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(&tool.program).args(&tool.arguments);
    tools::prepare(&mut command, home);
    let output = command.stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let times: Option<Vec<f64>> = said.split_whitespace().map(|word| word.parse().ok()).collect();
    match times.as_deref() {
        Some([user, system]) => Ok((user + system) / RUNS as f64),
        _ => Err(io::Error::other(format!("bash does not tell the times, but {said:?}"))),
    }
}
