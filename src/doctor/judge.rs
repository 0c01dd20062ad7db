//! What the answers of servers mean for a watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::{Connection, Grant, Item, Outcome};
use crate::check::{self, Verdict};
use crate::event::{self, GROUPS_TOLD_MAX};
use crate::name::{join_some, printable};
use crate::pipeline::Step;
use crate::stamp::{human_duration, parse_wall_ns};
use crate::view::{GroupView, ServerView};
use crate::wire::REPLY_BYTES_MAX;

/// The oldest and the newest release that metawatch was tried with.
const TRIED: [(u32, u32); 2] = [(2, 9), (2, 15)];
/// Clocks that differ by more than this make times in alerts and in the servers' logs hard to compare.
const CLOCK_MAX: Duration = Duration::from_secs(1);

/// The connection that there is.
pub fn connected(connection: Connection, server: &str, address: &str, version: &str, tls: bool) -> Item {
    let which = match connection {
        Connection::Watching => "",
        Connection::Alerts => "for alerts: ",
    };
    let tls = if tls { "with TLS" } else { "no TLS" };
    let text = format!("{which}{} at {address}, version {}, {tls}", printable(server), printable(version));
    Item::new("connection", Outcome::Ok, text)
}

/// What is known of the account of the connection that watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountFacts<'a> {
    /// Its name, where the server told it.
    pub name: Option<&'a str>,
    /// How many servers answered `JSZ`.
    pub heard: usize,
    /// Nobody in this account answers `JSZ`.
    pub nobody_answers: bool,
    /// Questions to one server are answered by nobody, although those to all of them are: they are imported.
    pub imported: bool,
}

/// Whether it is the system account.
pub fn account(facts: &AccountFacts<'_>) -> Item {
    let named = |else_words: &str| {
        facts.name.map_or_else(|| else_words.to_owned(), |name| printable(name).into_owned())
    };
    match facts {
        AccountFacts { nobody_answers: true, .. } => {
            let text =
                format!("{} is not the system account: no server answers there", named("this account"));
            Item::new("account", Outcome::Failed, text).next(
                "use a login of the system account (system_account in the server's configuration, usually SYS)",
            )
        }
        AccountFacts { heard: 0, .. } => Item::new(
            "account",
            Outcome::Unknown,
            format!("{}: no server answers", named("its name is not known")),
        )
        .next("see what is said of the rights below"),
        AccountFacts { imported: true, .. } => {
            let text = format!(
                "{} imports the questions from the system account: stops are noticed by silence, not by announcement",
                named("this account")
            );
            Item::new("account", Outcome::Note, text)
        }
        AccountFacts { .. } => {
            let text = facts.name.map_or_else(
                || "the system account".to_owned(),
                |name| format!("{}, the system account", printable(name)),
            );
            Item::new("account", Outcome::Ok, text)
        }
    }
}

/// What is to be known when the server at the other end is a leaf node. A leaf node without a cluster of its own gives
/// its own name for it (measured, 2.10 to 2.15).
pub fn leaf(server_id: &str, servers: &[ServerView]) -> Option<Item> {
    let own = servers.iter().find(|server| server.id.as_str() == server_id)?;
    if own.cluster.is_empty() || own.cluster != own.name {
        return None;
    }
    let name = printable(own.name.as_str());
    Some(if servers.len() == 1 {
        let text =
            format!("only {name} answers, and it is a leaf node: its system account is not that of its hub");
        Item::new("account", Outcome::Failed, text).next(
            "connect to a server of the hub, or bind the system account in the remotes of the leaf node",
        )
    } else {
        let text = format!("{name} is a leaf node: when its link breaks, this watcher sees nobody else");
        Item::new("account", Outcome::Note, text)
    })
}

/// The release of a version: `2.15.1` is of 2.15.
pub(super) fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The versions of the servers that answered.
pub fn versions(servers: &[ServerView]) -> Option<Item> {
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for server in servers {
        by_version
            .entry(server.version.as_str())
            .or_default()
            .push(printable(server.name.as_str()).into_owned());
    }
    let releases: BTreeSet<Option<(u32, u32)>> = by_version.keys().map(|version| release(version)).collect();
    let told = match by_version.iter().next() {
        None => return None,
        Some((version, names)) if by_version.len() == 1 => {
            format!("{version} on {}", servers_in_words(names.len()))
        }
        Some(_) => {
            let each = by_version
                .iter()
                .map(|(version, names)| format!("{version} on {}", join_some(names.clone())));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    let old = releases.iter().flatten().any(|release| *release < TRIED[0]);
    let item = |outcome, text: String| Item::new("versions", outcome, text);
    Some(if old {
        item(Outcome::Warning, format!("{told}: older than what metawatch was tried with (2.9)"))
            .next("renew the servers")
    } else if by_version.len() > 1 {
        item(Outcome::Warning, format!("mixed: {told}")).next("end the upgrade of the servers")
    } else if releases.iter().flatten().any(|release| *release > TRIED[1]) {
        item(Outcome::Note, format!("{told}: newer than what metawatch was tried with (2.15)"))
    } else {
        item(Outcome::Ok, told)
    })
}

fn servers_in_words(count: usize) -> String {
    if count == 1 { "1 server".to_owned() } else { format!("{count} servers") }
}

/// The meta groups that are seen.
pub fn groups(step: &Step) -> Vec<Item> {
    let groups = &step.view.groups;
    if groups.is_empty() {
        let text =
            format!("no meta group: {} without a clustered JetStream", answer(step.view.servers.len()));
        return vec![Item::new("group", Outcome::Failed, text).next(
            "there is nothing to watch: is this the right system, and is JetStream on in its cluster?",
        )];
    }
    if groups.len() > GROUPS_TOLD_MAX {
        let led = groups.iter().filter(|group| group.authority.is_some()).count();
        let outcome = if led == groups.len() { Outcome::Ok } else { Outcome::Warning };
        let text = format!("{}, {led} of the groups with a leader", event::sums(&step.view));
        return vec![Item::new("group", outcome, text)];
    }
    groups.iter().map(|seen| group(seen, step)).collect()
}

fn answer(servers: usize) -> String {
    if servers == 1 { "1 server answers".to_owned() } else { format!("{servers} servers answer") }
}

fn group(group: &GroupView, step: &Step) -> Item {
    let impact = check::impact(group, &step.findings);
    let online = event::peers_online(group, impact);
    let well = check::of_group(&step.findings, &group.key)
        .iter()
        .all(|finding| matches!(finding.verdict, Verdict::Clear | Verdict::Gone));
    match &group.authority {
        Some(leader) => {
            let text = format!("{}, led by {}: {online}", group.key, printable(leader.name.as_str()));
            if well {
                Item::new("group", Outcome::Ok, text)
            } else {
                Item::new("group", Outcome::Note, text).next("metawatch check says what is wrong with it")
            }
        }
        None => Item::new("group", Outcome::Warning, format!("{}: {online}", group.key))
            .next("metawatch check says what is wrong with it"),
    }
}

/// When a server was asked and heard by our clock, and what it says the time is, all in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Its name.
    pub server: String,
    /// When it was asked.
    pub asked_ns: i64,
    /// When its answer was here.
    pub heard_ns: i64,
    /// The time in its answer.
    pub told_ns: i64,
}

impl ClockReading {
    /// Reads the clock of whoever sent this answer to any question.
    pub fn of(payload: &[u8], asked_ns: i64, heard_ns: i64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Reply {
            server: Server,
        }
        #[derive(Deserialize)]
        struct Server {
            name: String,
            time: String,
        }
        let fits = payload.len() <= REPLY_BYTES_MAX;
        let Server { name, time } =
            fits.then(|| serde_json::from_slice::<Reply>(payload).ok()).flatten()?.server;
        let told_ns = parse_wall_ns(&time)?;
        Some(Self { server: printable(&name).into_owned(), asked_ns, heard_ns, told_ns })
    }

    /// How far its clock is ahead of ours at least, in nanoseconds; negative where it is behind.
    fn ahead_ns(&self) -> i64 {
        if self.told_ns > self.heard_ns {
            self.told_ns.saturating_sub(self.heard_ns)
        } else {
            self.told_ns.saturating_sub(self.asked_ns).min(0)
        }
    }
}

/// How the clocks of the servers stand to ours.
pub fn clocks(readings: &[ClockReading]) -> Option<Item> {
    let off = |reading: &&ClockReading| Duration::from_nanos(reading.ahead_ns().unsigned_abs());
    let worst = readings.iter().max_by_key(off)?;
    let distance = off(&worst);
    if distance <= CLOCK_MAX {
        let text =
            format!("within {} s of ours on {}", CLOCK_MAX.as_secs(), servers_in_words(readings.len()));
        return Some(Item::new("clocks", Outcome::Ok, text));
    }
    let wrong = readings.iter().filter(|reading| off(reading) > CLOCK_MAX).count();
    let side = if worst.ahead_ns() > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "{} is {} {side} this host: times in alerts and in logs do not fit together",
        worst.server,
        human_duration(distance)
    );
    let whose = if wrong > 1 && wrong == readings.len() {
        "every server differs: set the clock of this host".to_owned()
    } else {
        format!("set the clocks ({wrong} of {} differ)", servers_in_words(readings.len()))
    };
    Some(Item::new("clocks", Outcome::Warning, text).next(whose))
}

/// Whom an alert reaches now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Somebody; who, where the servers told.
    Somebody(BTreeSet<String>),
    /// Nobody at all.
    Nobody,
    /// The server is too old to tell.
    TooOld,
    /// It could not be found out, and why.
    Unknown(&'static str),
}

/// Reads whom a message would have been delivered to, of what a server reports about one that it did not deliver.
pub fn reached(report: &[u8]) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Report {
        #[serde(default)]
        events: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default, rename = "kind")]
        of: u8,
        #[serde(default)]
        name: String,
        #[serde(default)]
        acc: String,
        #[serde(default)]
        stream: String,
    }
    /// The kinds of connections, as nats-server numbers them (`server/client.go`).
    const CLIENT: u8 = 0;
    let fits = report.len() <= REPLY_BYTES_MAX;
    let report = fits.then(|| serde_json::from_slice::<Report>(report).ok()).flatten();
    let events = report.into_iter().flat_map(|report| report.events);
    let who = |event: Event| match event.kind.as_str() {
        "se" => Some(format!("account {}", printable(&event.acc))),
        "js" => Some(format!("stream {}", printable(&event.stream))),
        "eg" if event.of == CLIENT && event.name.is_empty() => Some("a client without a name".to_owned()),
        "eg" if event.of == CLIENT => Some(printable(&event.name).into_owned()),
        _ => None,
    };
    events.filter_map(who).collect()
}

/// Whether an alert arrives anywhere.
pub fn arrival(reach: &Reach, prefix: &str, account: Option<&str>) -> Item {
    let subject = format!("{prefix}.alert.>");
    match reach {
        Reach::Somebody(who) if who.is_empty() => {
            Item::new("alerts", Outcome::Ok, format!("somebody hears {subject}"))
        }
        Reach::Somebody(who) => Item::new(
            "alerts",
            Outcome::Ok,
            format!("{subject} is heard by {}", join_some(who.iter().cloned())),
        ),
        Reach::Nobody => {
            let account = account.map_or_else(String::new, |account| format!(" in {}", printable(account)));
            Item::new("alerts", Outcome::Warning, format!("nobody hears {subject}{account}")).next(
                "subscribe there, import it into the account where subscribers are, or publish into that one (--alert-creds)",
            )
        }
        // Nothing that is to be done would tell more.
        Reach::TooOld => {
            let why = "only servers of 2.11 or later tell without being sent one";
            Item::new("alerts", Outcome::Note, format!("who hears {subject} is not known: {why}"))
        }
        Reach::Unknown(why) => Item::new("alerts", Outcome::Unknown, format!("who hears {subject}: {why}")),
    }
}

/// The stream that would store alerts, by what JetStream answers to the question for its name.
pub fn stream(answer: Option<&[u8]>, refused: bool, reach: &Reach, grant: Grant) -> Item {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        streams: Option<Vec<String>>,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        description: String,
    }
    const ADD: &str = "nats stream add --config examples/deploy/stream-history.json, in this account";
    let names = answer.and_then(|answer| serde_json::from_slice::<Names>(answer).ok());
    let item = |outcome, text: String| Item::new("stream", outcome, text);
    match names {
        Some(Names { error: Some(error), .. }) => {
            item(Outcome::Failed, format!("JetStream answers: {}", printable(&error.description))).next(ADD)
        }
        Some(Names { streams, .. }) => match streams.unwrap_or_default().as_slice() {
            [] => item(Outcome::Failed, "no stream has the subject of alerts: they wait".to_owned()).next(ADD),
            [name] => item(Outcome::Ok, format!("{} stores alerts", printable(name))),
            several => {
                let names = join_some(several.iter().map(|name| printable(name).into_owned()));
                item(Outcome::Warning, format!("{names} have the subject of alerts: which one answers is open"))
                    .next("leave the subject to one of them")
            }
        },
        None if *reach == Reach::Nobody => {
            item(Outcome::Failed, "nobody takes alerts, so no stream does: they wait".to_owned()).next(ADD)
        }
        None if refused => {
            item(Outcome::Note, "whether a stream stores alerts cannot be asked".to_owned()).granting(grant)
        }
        None => item(Outcome::Failed, "JetStream does not answer in this account".to_owned()).next(
            "name an account that has JetStream with --alert-context or --alert-creds; the system account has none",
        ),
    }
}
