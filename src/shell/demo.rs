//! `metawatch demo`: a real cluster on loopback that breaks before your eyes, and what metawatch says of it.
//!
//! [`binary`] and [`process`] serve the tests, too.

pub mod binary;
mod cluster;
pub mod process;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::alert::State;
use crate::event::heartbeat::Status;
use crate::event::{AlertEvent, Heartbeat};
use crate::name::printable;
use crate::report::style::{Style, Tone, folded, width, wrapped};
use crate::shell::clock::Clock;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::report::Out;
use crate::stamp::Stamp;
use cluster::{Cluster, USER};

/// The limit of every wait: long enough for a slow and busy machine.
const WAIT_MAX: Duration = Duration::from_secs(90);
/// How often it is looked whether everything still runs.
const LOOK: Duration = Duration::from_secs(1);
/// How wide the text is.
const WIDTH: usize = 80;

/// Shows it all, and ends; with `keep` the cluster stays until this future is dropped.
///
/// # Errors
///
/// Where there is no nats-server, where one does not start, or where nothing is heard for 90 s.
pub async fn show(keep: bool, out: &mut Out) -> Result<(), Failure> {
    let style = out.style();
    let mut demo = Demo::start(out).await?;
    demo.stop_and_start(style).await?;
    demo.kill_the_leader(style).await?;
    if keep {
        return demo.keep_running(style).await;
    }
    let this = this_program();
    demo.say(0, &format!("\n{}", style.paint(Tone::Strong, "What next")))?;
    for (words, does) in [
        ("demo --keep", "the same cluster, to try things on"),
        ("check --help", "one verdict on your own system"),
        ("run --help", "watch it, and publish alerts"),
    ] {
        let line = format!("  {this} {words:<12}  {does}");
        let fits = width(&line) <= WIDTH;
        demo.tell(&if fits { format!("{line}\n") } else { format!("  {this} {words}\n      {does}\n") })?;
    }
    Ok(())
}

/// How to call this program from here.
fn this_program() -> String {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("metawatch"));
    let here = std::env::current_dir().ok();
    let below = here.as_deref().and_then(|here| exe.strip_prefix(here).ok());
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("metawatch") == exe));
    if on_path { "metawatch".to_owned() } else { below.unwrap_or(&exe).display().to_string() }
}

fn failed(error: io::Error) -> Failure {
    let text = error.to_string();
    let (message, hint) = text
        .split_once("\nhint: ")
        .unwrap_or((&text, "see that this user may write to the temporary folder"));
    Failure::new(FailureKind::Io, message, hint)
}

/// What a subscriber hears.
enum Heard {
    Alert(Box<AlertEvent>),
    Heartbeat(Box<Heartbeat>),
}

struct Demo<'a> {
    out: &'a mut Out,
    cluster: Cluster,
    clock: Clock,
    /// The connection ends with it.
    _client: Client,
    messages: Subscriber,
    /// Who leads, by the last heartbeat.
    leader: String,
}

impl<'a> Demo<'a> {
    async fn start(out: &'a mut Out) -> Result<Self, Failure> {
        let style = out.style();
        out.write(&format!(
            "{}\n\nStarting s1, s2 and s3, and metawatch beside them …\n",
            style.paint(
                Tone::Strong,
                "Three real nats-servers on this machine, and what metawatch says of them."
            )
        ))?;
        out.flush()?;
        let mut cluster = Cluster::start().map_err(failed)?;
        let clock = Clock::new();
        let urls = cluster.urls();
        let (client, messages) = subscribe(&urls, &mut cluster).await?;
        cluster.watch().map_err(failed)?;
        let mut demo = Self { out, cluster, clock, _client: client, messages, leader: String::new() };
        let heartbeat = demo.well().await?;
        demo.say(2, &format!("{}  {}", style.paint(Tone::Good, "OK"), summary_of(&heartbeat)))?;
        Ok(demo)
    }

    /// A follower is stopped as for maintenance.
    async fn stop_and_start(&mut self, style: Style) -> Result<(), Failure> {
        let leader = self.leader.clone();
        let Some(name) = self.cluster.others(&[&leader]).next() else { return Ok(()) };
        self.listen_without(name).await?;
        let title = format!(
            "1. {name} is stopped in an orderly way (SIGTERM): it says so, and no epoch is waited for."
        );
        self.say(0, &format!("\n{}", style.paint(Tone::Strong, &title)))?;
        let begun = self.clock.now();
        self.cluster.signal(name, "TERM").map_err(failed)?;
        self.until(name, State::Firing, begun, style).await?;
        self.start_again(name, style).await
    }

    /// The leader is killed. Nobody announces that.
    async fn kill_the_leader(&mut self, style: Style) -> Result<(), Failure> {
        let name = self.leader.clone();
        self.listen_without(&name).await?;
        let title = format!(
            "2. The leader {name} is killed (kill -9). The servers' own flag comes 2 to 4 minutes later."
        );
        self.say(0, &format!("\n{}", style.paint(Tone::Strong, &title)))?;
        let begun = self.clock.now();
        self.cluster.signal(&name, "KILL").map_err(failed)?;
        self.until(&name, State::Firing, begun, style).await?;
        self.say(0, "\nWhat `metawatch check` says now, after looking long enough to be sure:\n")?;
        let through = self.cluster.others(&[&name]).next().unwrap_or_default();
        let check = self.cluster.check(through).map_err(failed)?;
        for line in folded(&check, WIDTH - 3).lines() {
            self.tell(&format!("{}\n", format!("   {line}").trim_end()))?;
        }
        self.start_again(&name, style).await
    }

    async fn start_again(&mut self, name: &str, style: Style) -> Result<(), Failure> {
        self.say(0, &format!("\n   {name} is started again.\n"))?;
        let begun = self.clock.now();
        self.cluster.boot(name).map_err(failed)?;
        self.until(name, State::Resolved, begun, style).await?;
        self.well().await.map(drop)
    }

    /// Prints the events about a peer until its alert is in this state.
    async fn until(&mut self, name: &str, wanted: State, begun: Stamp, style: Style) -> Result<(), Failure> {
        loop {
            let Heard::Alert(event) = self.next().await? else { continue };
            if event.peer.as_ref().and_then(|peer| peer.name.as_deref()) != Some(name) {
                continue;
            }
            let (word, tone) = match event.state {
                State::Suspected => ("WARNING", Tone::Warning),
                State::Firing => ("CRITICAL", Tone::Bad),
                State::Resolved => ("OK", Tone::Good),
            };
            let after = self.clock.now().since(begun).as_secs_f64();
            let head = format!("   {after:>4.1} s  {}  ", style.paint(tone, &format!("{word:<8}")));
            let words = wrapped(&printable(&event.summary), WIDTH - 21);
            let mut lines = words.iter();
            self.tell(&format!("{head}{}\n", lines.next().map_or("", String::as_str)))?;
            for line in lines {
                self.tell(&format!("{}{line}\n", " ".repeat(21)))?;
            }
            if event.state == wanted {
                return Ok(());
            }
        }
    }

    /// Waits until all is well.
    async fn well(&mut self) -> Result<Heartbeat, Failure> {
        loop {
            let Heard::Heartbeat(heartbeat) = self.next().await? else { continue };
            let group = heartbeat.groups.first();
            let whole = group.is_some_and(|group| group.online == Some(3));
            if heartbeat.status == Status::Ok && whole {
                self.leader = group.and_then(|group| group.leader.clone()).unwrap_or_default();
                return Ok(*heartbeat);
            }
        }
    }

    async fn next(&mut self) -> Result<Heard, Failure> {
        let begun = self.clock.now();
        while self.clock.now().since(begun) < WAIT_MAX {
            if let Ok(Some(message)) = timeout(LOOK, self.messages.next()).await {
                let is_alert = message.subject.starts_with("metawatch.alert.");
                let alert = is_alert.then(|| serde_json::from_slice(&message.payload).ok()).flatten();
                let heartbeat = (&*message.subject == "metawatch.heartbeat")
                    .then(|| serde_json::from_slice(&message.payload).ok())
                    .flatten();
                if let Some(heard) = alert.map(Heard::Alert).or(heartbeat.map(Heard::Heartbeat)) {
                    return Ok(heard);
                }
            }
            if let Some((name, last)) = self.cluster.broken() {
                return Err(ended(&name, &last));
            }
        }
        Err(silent(&self.cluster))
    }

    /// The subscriber stays connected while this server goes.
    async fn listen_without(&mut self, name: &str) -> Result<(), Failure> {
        let others: Vec<&str> = self.cluster.others(&[name]).collect();
        let urls: Vec<String> = others.into_iter().filter_map(|other| self.cluster.url(other)).collect();
        let urls = urls.join(",");
        (self._client, self.messages) = subscribe(&urls, &mut self.cluster).await?;
        Ok(())
    }

    async fn keep_running(&mut self, style: Style) -> Result<(), Failure> {
        let folder = self.cluster.folder().display().to_string();
        self.tell(&format!(
            "\n{}\nIn another terminal:\n\n  \
               . {folder}/env\n  \
               metawatch view                      who is there, and who says so\n  \
               metawatch check                     one verdict, and an exit code\n  \
               metawatch listen                    alerts as they come\n  \
               nats sub 'metawatch.alert.>'        the same, with the nats CLI\n  \
               kill -9 $(cat $DEMO/s3.pid)         break something\n\n\
             Press Enter here to start again what you stopped, and Ctrl-C to end it all.\n",
            style.paint(Tone::Strong, "The cluster goes on running.")
        ))?;
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(_)) = lines.next_line().await {
            let started = self.cluster.boot_what_ended().map_err(failed)?;
            let text = if started.is_empty() {
                "all three run".to_owned()
            } else {
                format!("started {}", started.join(", "))
            };
            self.say(0, &text)?;
        }
        std::future::pending().await
    }

    /// Prints a paragraph.
    fn say(&mut self, indent: usize, text: &str) -> Result<(), Failure> {
        let blank = " ".repeat(indent);
        for (place, paragraph) in text.split('\n').enumerate() {
            if paragraph.is_empty() && place > 0 {
                continue;
            }
            let lines = wrapped(paragraph, WIDTH - indent);
            for line in if lines.is_empty() { vec![String::new()] } else { lines } {
                self.out.write(format!("{blank}{line}").trim_end())?;
                self.out.write("\n")?;
            }
        }
        self.out.flush()
    }

    fn tell(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write(text)?;
        self.out.flush()
    }
}

fn summary_of(heartbeat: &Heartbeat) -> String {
    let text = heartbeat.summary.split_once("; ").map_or(heartbeat.summary.as_str(), |(_, groups)| groups);
    printable(text).into_owned()
}

async fn subscribe(urls: &str, cluster: &mut Cluster) -> Result<(Client, Subscriber), Failure> {
    let clock = Clock::new();
    let begun = clock.now();
    while clock.now().since(begun) < WAIT_MAX {
        let options = ConnectOptions::with_user_and_password(USER.to_owned(), USER.to_owned());
        let servers: Vec<&str> = urls.split(',').collect();
        if let Ok(client) = options.name("metawatch-demo").connect(servers).await
            && let Ok(messages) = client.subscribe("metawatch.>").await
            && client.flush().await.is_ok()
        {
            return Ok((client, messages));
        }
        if let Some((name, last)) = cluster.broken() {
            return Err(ended(&name, &last));
        }
        tokio::time::sleep(LOOK / 4).await;
    }
    Err(silent(cluster))
}

fn ended(name: &str, last: &str) -> Failure {
    let message = format!("{name} ended by itself; the last line of its log: {}", printable(last));
    let hint = "where that is the version of nats-server, set NATS_SERVER to the path of another one";
    Failure::new(FailureKind::Io, message, hint)
}

fn silent(cluster: &Cluster) -> Failure {
    let message = format!(
        "nothing was heard of the cluster in {} for {} s",
        cluster.folder().display(),
        WAIT_MAX.as_secs()
    );
    Failure::new(FailureKind::NoReply, message, "try again when this machine has less to do")
}
