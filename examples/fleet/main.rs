//! A simulated fleet of servers on a real nats-server, and what it costs to watch it. See README.md.
//!
//! `cargo build --release && cargo run --release --example fleet -- measure`

#![expect(clippy::disallowed_methods, reason = "a simulation runs in real time")]

mod bare;
#[expect(unreachable_pub, dead_code, unused_imports, reason = "the tests use the rest of the harness")]
#[path = "../../tests/cluster/mod.rs"]
mod cluster;
#[expect(dead_code, reason = "the benchmark uses the rest")]
#[path = "../bench/figures.rs"]
mod figures;
#[expect(unreachable_pub, reason = "the tests use it, too")]
mod fleet;
mod measure;
#[expect(unreachable_pub, reason = "the tests use it, too")]
mod system;
#[expect(dead_code, reason = "the benchmark uses the rest")]
#[path = "../bench/tools.rs"]
mod tools;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::{Cluster, Layout, Node};
use fleet::{Fleet, Way};
use system::Shape;

const HELP: &str = "\
A simulated fleet of servers: connections to the system account of a real nats-server that answer JSZ, STATSZ and
HEALTHZ as many servers would.

usage: fleet [COMMAND] [OPTIONS]

commands:
  serve    answers until it is ended [default]
  measure  what `metawatch run` and `metawatch check` cost, next to a client that only takes the replies and to the
           nats CLI, at 100, 1,000 and 10,000 servers in groups of 9 and with one group of 1,000; about 5 minutes

options:
  --servers N        how many servers [default: 1000; `measure`: only this size]
  --group N          how many make a meta group [default: 9]
  --versions A,B     their versions, in turn [default: 2.14.6]
  --dead N           so many of them are dead [default: 0]
  --delay MIN-MAX    milliseconds that they take to answer [default: 0-0]
  --loss N           so many of a thousand answers are lost [default: 0]
  --seed N           decides who is dead, lost and slow [default: 1]
  --connections N    connections to answer over [default: 2]
  --server ADDRESS   a server to answer on, as host:port, with the system user admin, password admin [default: one is
                     started]
  --epochs N         epochs that `measure` takes at each size [default: 10]
  --runs N           runs of each program that `measure` takes at each size [default: 10]
  --nats PATH        the nats CLI to compare with [default: the one on PATH; without one it is left out]
  -h, --help         this text

`measure` measures the release build of metawatch: run `cargo build --release` first.
";

/// One real nats-server, without JetStream.
struct Real {
    cluster: Cluster,
}

const HUB: &str = "hub";

impl Real {
    async fn start() -> io::Result<Self> {
        let node = Node { jetstream: false, ..Node::new(HUB, "hub") };
        let layout = Layout { nodes: vec![node], ..Layout::default() };
        let mut cluster = Cluster::prepare(layout).await?;
        cluster.boot(HUB)?;
        let real = Self { cluster };
        let begun = Instant::now();
        while std::net::TcpStream::connect(real.address()).is_err() {
            if begun.elapsed() > cluster::LONG {
                return Err(io::Error::other("the nats-server does not start"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(real)
    }

    fn url(&self) -> String {
        self.cluster.url(HUB)
    }

    fn address(&self) -> String {
        self.url().trim_start_matches("nats://").to_owned()
    }

    fn folder(&self) -> PathBuf {
        self.cluster.folder()
    }

    /// Waits until the real server counts so many servers, itself included.
    async fn wait_until_counted(&self, servers: usize) -> io::Result<()> {
        let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
        let client = options.connect(self.url()).await.map_err(io::Error::other)?;
        let request = format!("$SYS.REQ.SERVER.{}.STATSZ", client.server_info().server_id);
        let begun = Instant::now();
        loop {
            let reply = client.request(request.clone(), "".into()).await.map_err(io::Error::other)?;
            let said: serde_json::Value = serde_json::from_slice(&reply.payload)?;
            if said["statsz"]["active_servers"].as_u64() >= Some(servers as u64) {
                return Ok(());
            }
            if begun.elapsed() > cluster::LONG {
                return Err(io::Error::other(format!(
                    "the nats-server does not count {servers} servers: {said}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the command line says.
struct Arguments {
    command: String,
    servers: Option<usize>,
    way: Way,
    server: Option<String>,
    plan: measure::Plan,
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return write!(io::stdout(), "{HELP}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let [command, url, count] = &words[..]
        && let Ok(count) = count.parse()
    {
        match command.as_str() {
            "bare-once" => return runtime.block_on(bare::once(url, count)),
            "bare-again" => return runtime.block_on(bare::again(url, count, Duration::from_secs(2))),
            _ => {}
        }
    }
    let arguments = parse(words).map_err(|what| io::Error::other(format!("{what}\n\n{HELP}")))?;
    runtime.block_on(async {
        tokio::select! {
            done = run(arguments) => done,
            done = tools::told_to_stop() => done,
        }
    })
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let Arguments { command, servers, way, server, mut plan } = arguments;
    let group = plan.shape.group;
    match command.as_str() {
        "measure" => {
            if let Some(servers) = servers {
                plan.sizes = vec![(servers, group)];
            }
            measure::run(&plan).await
        }
        "" | "serve" => {
            let real = if server.is_none() { Some(Real::start().await?) } else { None };
            let address = server.or_else(|| real.as_ref().map(Real::address)).unwrap_or_default();
            let fleet = Fleet::start(&address, ("admin", "admin"), &plan.shape, way, plan.connections)?;
            figures::say(&format!(
                "{} servers answer on nats://{address} (admin, admin)",
                plan.shape.servers
            ))?;
            std::future::pending::<()>().await;
            drop(fleet);
            Ok(())
        }
        other => Err(io::Error::other(format!("what is {other:?}?\n\n{HELP}"))),
    }
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let shape = Shape { servers: 1_000, group: 9, versions: vec!["2.14.6".to_owned()], dead: 0, seed: 1 };
    let sizes = vec![(100, 9), (1_000, 9), (10_000, 9), (1_000, 1_000)];
    let nats = tools::on_path("nats");
    let mut arguments = Arguments {
        command: String::new(),
        servers: None,
        way: Way::default(),
        server: None,
        plan: measure::Plan { sizes, epochs: 10, runs: 10, nats, shape, connections: 2 },
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if !word.starts_with('-') && arguments.command.is_empty() {
            arguments.command = word;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let plan = &mut arguments.plan;
        match word.as_str() {
            "--servers" => {
                plan.shape.servers = count(&value)?.max(1);
                arguments.servers = Some(plan.shape.servers);
            }
            "--group" => plan.shape.group = count(&value)?.max(1),
            "--versions" => plan.shape.versions = value.split(',').map(str::to_owned).collect(),
            "--dead" => plan.shape.dead = count(&value)?,
            "--delay" => {
                let (least, most) = value.split_once('-').unwrap_or((&value, &value));
                let time = |text| count(text).map(|ms| Duration::from_millis(ms as u64));
                arguments.way.delay = (time(least)?, time(most)?);
            }
            "--loss" => arguments.way.loss_per_mille = count(&value)? as u64,
            "--seed" => plan.shape.seed = count(&value)? as u64,
            "--connections" => plan.connections = count(&value)?.max(1),
            "--server" => arguments.server = Some(value),
            "--epochs" => plan.epochs = u32::try_from(count(&value)?.max(1)).unwrap_or(u32::MAX),
            "--runs" => plan.runs = count(&value)?.max(1),
            "--nats" => plan.nats = Some(PathBuf::from(value)),
            _ => return Err(format!("what is {word:?}?")),
        }
    }
    Ok(arguments)
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is no count"))
}
