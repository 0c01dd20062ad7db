//! The figures of the README, measured here and now.
//!
//! `cargo build --release && cargo run --release --example bench -- all`

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod alert;
mod check;
mod churn;
#[expect(unreachable_pub, dead_code, reason = "the tests use the rest of the harness")]
#[path = "../../tests/cluster/mod.rs"]
mod cluster;
mod core;
mod delivery;
mod elections;
mod epoch;
mod faults;
mod figures;
#[expect(dead_code, reason = "the tests use the rest of the simulation")]
#[path = "../../tests/election/fleet.rs"]
mod fleet;
mod hardship;
mod memory;
mod stress;
#[expect(dead_code, reason = "the simulation needs its random numbers alone")]
#[path = "../../tests/support.rs"]
mod support;
#[expect(unreachable_pub, dead_code, reason = "the simulated fleet uses the rest")]
#[path = "../fleet/system.rs"]
mod system;
mod tools;
mod watchers;
mod witness;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Measures metawatch on real nats-servers, which it starts on loopback and ends again. Figures go to stdout, progress to
stderr. Times depend on the machine; each command measures something to compare them with in the same run.

usage: bench COMMAND [OPTIONS]

commands:
  core     what a reply costs the core, and which part of an epoch that is, at 3 to 10,000 servers; needs no server
  epoch    how soon after the last reply an epoch ends, and how soon after the request that reply comes (3 servers)
  check    `metawatch check` as a whole process, next to a client that only asks, and to the nats CLI
  alert    from a server's announcement that it stops to the critical alert
  memory   the memory of `metawatch run`, and the size of the program
  faults   from a fault to `suspected` and `critical`, and until the nats CLI says critical, as a table
  all      everything so far, in this order; about 20 minutes
  delivery kills watchers, speakers and the server that alerts go to: counts what is lost and what is told twice;
           about 20 minutes
  watchers [N …] so many watchers of three servers [default: 3 30 80 150]: messages, questions and CPU that they cost, how
           many of them speak, and the incidents of one kill -9; about 5 minutes
  elections [N …] so many watchers in virtual time [default: 3 30 150 1000], --seeds of each: messages, takeovers,
           partitions; needs no server; about 5 minutes
  hardship stops the watcher for 3 s around a change, floods it, and lets the disk of its state file hang (as root):
           counts what is lost; about 7 minutes
  churn    rolling restarts, crashes, elections and new streams for a while, or one hardship under which nobody is
           offline: counts false criticals

options:
  --rounds N     how often each fault is made [default: 5]
  --fault TEXT   `faults` makes only those whose name holds this
  --for TIME     how long `churn` lasts [default: 1h]
  --stress NAME  what `churn` does instead: pauses, load, wan, or disk (as root); NATS_SERVER chooses the server
  --record FILE  where `churn` lets every epoch be recorded
  --seed N       other random moments for `churn` [default: 1]
  --seeds N      how many random runs `elections` makes [default: 10]
  --nats PATH    the nats CLI to compare with [default: the one on PATH; without one the comparison is left out]
  -h, --help     this text

`check`, `memory`, `delivery`, `hardship`, `watchers` and `churn` measure the release build of metawatch: run
`cargo build --release` first.
";

/// What the command line says.
struct Arguments {
    command: String,
    rounds: usize,
    fault: String,
    churn: churn::Churn,
    nats: Option<PathBuf>,
    seeds: u64,
    /// How many watchers.
    watchers: Vec<usize>,
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return write!(io::stdout(), "{HELP}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let [command, url] = &words[..]
        && command == "bare"
    {
        return runtime.block_on(check::bare(url));
    }
    let arguments = parse(words).map_err(|what| io::Error::other(format!("{what}\n\n{HELP}")))?;
    runtime.block_on(async {
        tokio::select! {
            done = measure(&arguments) => done,
            done = tools::told_to_stop() => done.and(Err(io::Error::other("stopped; every server is ended"))),
        }
    })
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        command: String::new(),
        rounds: 5,
        fault: String::new(),
        churn: churn::Churn {
            length: Duration::from_secs(3_600),
            stress: stress::Stress::None,
            seed: 1,
            record: None,
        },
        nats: tools::on_path("nats"),
        seeds: 10,
        watchers: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => {
                let rounds = value()?;
                let number = rounds.parse().ok().filter(|number| *number > 0);
                arguments.rounds = number.ok_or_else(|| format!("--rounds {rounds} is no count"))?;
            }
            "--for" => {
                let length = value()?;
                arguments.churn.length =
                    humantime::parse_duration(&length).map_err(|_| format!("--for {length} is no time"))?;
            }
            "--stress" => {
                let name = value()?;
                arguments.churn.stress =
                    stress::Stress::named(&name).ok_or_else(|| format!("--stress {name} is unknown"))?;
            }
            "--record" => arguments.churn.record = Some(PathBuf::from(value()?)),
            "--seed" => {
                let seed = value()?;
                arguments.churn.seed = seed.parse().map_err(|_| format!("--seed {seed} is no number"))?;
            }
            "--seeds" => {
                let seeds = value()?;
                arguments.seeds = seeds.parse().map_err(|_| format!("--seeds {seeds} is no count"))?;
            }
            "--fault" => arguments.fault = value()?,
            "--nats" => arguments.nats = Some(PathBuf::from(value()?)),
            number if takes_numbers(&arguments.command) && number.parse::<usize>().is_ok() => {
                arguments.watchers.extend(number.parse::<usize>());
            }
            _ if arguments.command.is_empty() && !word.starts_with('-') => arguments.command = word,
            _ => return Err(format!("what is {word:?}?")),
        }
    }
    if arguments.command.is_empty() { Err("which figures?".to_owned()) } else { Ok(arguments) }
}

/// Whether numbers of watchers may follow.
fn takes_numbers(command: &str) -> bool {
    matches!(command, "watchers" | "elections")
}

async fn measure(arguments: &Arguments) -> io::Result<()> {
    let nats = arguments.nats.as_deref();
    let all = arguments.command == "all";
    let mut known = all;
    let mut wanted = |command: &str| {
        let wanted = all || arguments.command == command;
        known |= wanted;
        wanted
    };
    if wanted("core") {
        core::run(&mut io::stdout().lock())?;
    }
    if wanted("epoch") {
        epoch::run().await?;
    }
    if wanted("check") {
        check::run(nats).await?;
    }
    if wanted("alert") {
        alert::run().await?;
    }
    if wanted("memory") {
        memory::run().await?;
    }
    if wanted("faults") {
        faults::run(arguments.rounds, &arguments.fault, nats).await?;
    }
    if arguments.command == "churn" {
        return churn::run(&arguments.churn).await;
    }
    if arguments.command == "hardship" {
        return hardship::run().await;
    }
    if arguments.command == "delivery" {
        return delivery::run().await;
    }
    if arguments.command == "elections" {
        let given = &arguments.watchers[..];
        return elections::run(if given.is_empty() { &[3, 30, 150, 1_000] } else { given }, arguments.seeds);
    }
    if arguments.command == "watchers" {
        let usual = [3, 30, 80, 150];
        let given = &arguments.watchers[..];
        return watchers::run(if given.is_empty() { &usual } else { given }).await;
    }
    if known { Ok(()) } else { Err(io::Error::other(format!("what is {:?}?\n\n{HELP}", arguments.command))) }
}
