//! What watching costs, next to a client that only takes the replies, in one run.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::fleet::{Fleet, Way};
use super::system::Shape;
use super::{Real, figures, tools};
use figures::{Samples, progress, say};
use tools::Tool;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Numbers of servers, with the size of their groups.
    pub(crate) sizes: Vec<(usize, usize)>,
    pub(crate) epochs: u32,
    pub(crate) runs: usize,
    pub(crate) nats: Option<PathBuf>,
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
}

const INTERVAL: Duration = Duration::from_secs(2);
/// The first epochs get to know the system.
const WARM_UP: Duration = Duration::from_secs(6);

/// What one epoch costs, and how much memory is held.
struct Cost {
    cpu: f64,
    kib: u64,
}

pub(crate) async fn run(plan: &Plan) -> io::Result<()> {
    say(
        "`metawatch run --interval 2s`: CPU an epoch, beside a client that drops the same replies at the same time",
    )?;
    say("  servers  groups of   metawatch        bare      ratio   µs a server   memory")?;
    let mut checks = Vec::new();
    for (servers, group) in &plan.sizes {
        let shape = Shape { servers: *servers, group: *group, ..plan.shape.clone() };
        let real = Real::start().await?;
        let fleet =
            Fleet::start(&real.address(), ("admin", "admin"), &shape, Way::default(), plan.connections)?;
        real.wait_until_counted(servers + 1 - shape.dead).await?;
        progress(&format!("{servers} servers in groups of {group}: {} epochs …", plan.epochs));
        let (watcher, bare) = watch(&real, &shape, plan.epochs).await?;
        say(&format!(
            "  {servers:>7}  {group:>9}  {:>10}  {:>10}  {:>9.2}  {:>12.1}  {:>5.1} MiB",
            figures::ms(watcher.cpu),
            figures::ms(bare.cpu),
            watcher.cpu / bare.cpu,
            watcher.cpu * 1e6 / *servers as f64,
            watcher.kib as f64 / 1024.0,
        ))?;
        progress(&format!("{servers} servers in groups of {group}: checks …"));
        checks.push((*servers, *group, check(&real, &shape, plan).await?));
        drop(fleet);
    }
    say("one check, whole process (wall median / CPU mean), each in turn")?;
    say("  servers  groups of   program                              wall         CPU   × bare: wall, CPU")?;
    for (servers, group, costs) in checks {
        let (base_wall, base_cpu) =
            costs.first().map_or((f64::NAN, f64::NAN), |(_, wall, cpu)| (*wall, *cpu));
        for (label, wall, cpu) in &costs {
            say(&format!(
                "  {servers:>7}  {group:>9}   {label:<28}  {:>11}  {:>10}   {:>12.2}  {:>5.2}",
                figures::ms(*wall),
                figures::ms(*cpu),
                wall / base_wall,
                cpu / base_cpu,
            ))?;
        }
        if let [_, (_, wall, cpu), (_, nats_wall, nats_cpu)] = &costs[..] {
            say(&format!(
                "                       check × nats server report     {:>10.3}  {:>10.3}",
                wall / nats_wall,
                cpu / nats_cpu
            ))?;
        }
    }
    Ok(())
}

/// Lets `metawatch run` and a bare client ask the same fleet, and counts what they take.
async fn watch(real: &Real, shape: &Shape, epochs: u32) -> io::Result<(Cost, Cost)> {
    let metawatch = tools::metawatch()?;
    let home = real.folder();
    let url = real.url();
    let login = ["--interval", "2s", "--user", "admin", "--password", "admin", "--server", &url];
    let arguments = [&["run", "--state", "none"][..], &login].concat();
    let mut watcher = Tool::new("metawatch run", &metawatch, &arguments).command(&home).spawn()?;
    // Between the epochs of the watcher.
    tokio::time::sleep(INTERVAL / 2).await;
    let mut bare = bare(&["bare-again", &url, &answers(shape).to_string()], &home)?.spawn()?;
    tokio::time::sleep(WARM_UP).await;
    let before = (cpu(&watcher)?, cpu(&bare)?);
    tokio::time::sleep(INTERVAL * epochs).await;
    let after = (cpu(&watcher)?, cpu(&bare)?);
    let cost = |before: f64, after: f64, child: &Child| {
        Ok::<_, io::Error>(Cost { cpu: (after - before) / f64::from(epochs), kib: resident_kib(child)? })
    };
    let costs = (cost(before.0, after.0, &watcher)?, cost(before.1, after.1, &bare)?);
    watcher.kill().await?;
    bare.kill().await?;
    Ok(costs)
}

/// How many replies come: those of the fleet, and the real server's.
fn answers(shape: &Shape) -> usize {
    shape.servers - shape.dead + 1
}

fn bare(arguments: &[&str], home: &Path) -> io::Result<Command> {
    Ok(Tool::new("bare client", &std::env::current_exe()?, arguments).command(home))
}

/// Wall and CPU seconds of each program, as a whole process.
async fn check(real: &Real, shape: &Shape, plan: &Plan) -> io::Result<Vec<(&'static str, f64, f64)>> {
    let (url, home) = (real.url(), real.folder());
    let login = ["--user", "admin", "--password", "admin", "--server", &url];
    let mut programs = vec![
        Tool::new(
            "bare client",
            &std::env::current_exe()?,
            &["bare-once", &url, &answers(shape).to_string()],
        ),
        Tool::new("metawatch check", &tools::metawatch()?, &[&["check", "--quiet"][..], &login].concat()),
    ];
    if let Some(nats) = &plan.nats {
        let report = [&login[..], &["server", "report", "jetstream"]].concat();
        programs.push(Tool::new("nats server report jetstream", nats, &report));
    }
    let mut walls = vec![Samples::default(); programs.len()];
    for _ in 0..plan.runs {
        for (program, wall) in programs.iter().zip(&mut walls) {
            let begun = Instant::now();
            let status = program.command(&home).status().await?;
            wall.push(begun.elapsed());
            let said = status.code();
            if said != Some(0) {
                progress(&format!("{} ends with {said:?}", program.label));
            }
        }
    }
    let mut costs = Vec::new();
    for (program, wall) in programs.iter().zip(&walls) {
        costs.push((program.label, wall.median(), cpu_of_runs(program, &home, plan.runs).await?));
    }
    Ok(costs)
}

/// The mean CPU seconds of a run, as bash counts them over many.
async fn cpu_of_runs(tool: &Tool, home: &Path, runs: usize) -> io::Result<f64> {
    let script = format!(
        "TIMEFORMAT='%3U %3S'; time for ((run = 0; run < {runs}; run++)); do \"$@\" >/dev/null 2>&1; done"
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(&tool.program).args(&tool.arguments);
    tools::prepare(&mut command, home);
    let output = command.stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let times: Option<Vec<f64>> = said.split_whitespace().map(|word| word.parse().ok()).collect();
    match times.as_deref() {
        Some([user, system]) => Ok((user + system) / runs as f64),
        _ => Err(io::Error::other(format!("bash does not tell the times, but {said:?}"))),
    }
}

/// The CPU seconds of all threads of a process, as the scheduler counts them.
fn cpu(child: &Child) -> io::Result<f64> {
    let id = child.id().ok_or_else(|| io::Error::other("a program has ended"))?;
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let said = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += said.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// `VmHWM`: the most that it has held.
fn resident_kib(child: &Child) -> io::Result<u64> {
    let id = child.id().ok_or_else(|| io::Error::other("a program has ended"))?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("the system does not tell the resident memory"))
}
