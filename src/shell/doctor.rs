//! Looks at everything that a watcher would use, the way it would use it, and disturbs nobody: rights are tried by
//! subscriptions, by the questions that a watcher asks, and by messages that no server delivers.

mod others;
mod probe;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::ServerAddr;

use crate::doctor::judge::{self, AccountFacts, ClockReading, Reach};
use crate::doctor::rights::{self, Right, Trial, Tried};
use crate::doctor::user_info::{USER_INFO, UserInfo};
use crate::doctor::{Connection, Grant, Item, Operation, Outcome};
use crate::epoch::{Ended, Epoch, Heard};
use crate::pipeline::{Pipeline, Step};
use crate::shell::clock::Clock;
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Link, Retry, connect};
use crate::shell::daemon::RunOptions;
use crate::shell::failure::Failure;
use crate::shell::publish::Mode;
use crate::stamp::Stamp;
use others::Others;
use probe::{Answers, Probe, Wanted};

const PING_JSZ: &str = "$SYS.REQ.SERVER.PING.JSZ";
const RAFT_GROUP: &str = r#"{"group":"_meta_"}"#;
const STREAM_NAMES: &str = "$JS.API.STREAM.NAMES";
/// The server that we are connected to answers at least one of so many questions.
const USER_INFO_TRIES: usize = 20;
/// How long other watchers are listened to, at least and at most.
const LISTEN: [Duration; 2] = [Duration::from_millis(2_500), Duration::from_secs(10)];

/// Looks at everything that `metawatch run` would use with these options, and tells each finding when it is there.
///
/// It fails when there is no connection to watch on; everything else is a finding.
pub async fn examine(
    config: &ConnectConfig,
    options: &RunOptions,
    tell: &mut dyn FnMut(Item),
) -> Result<(), Failure> {
    let clock = Clock::new();
    let link = connect(&config.watching_every(options.settings.rules.interval), Retry::Once).await?;
    let mut examination = Examination { options, config, tell };
    examination.connected(Connection::Watching, config, &link);
    let prefix = &options.settings.prefix;
    let mut others = Others::listen(&link.client, prefix).await;
    let mut watching = Probe::new(link, clock).await;
    let info = user_info(&mut watching).await;
    let seen = examination.watching(&mut watching, info.as_ref(), clock).await;
    match &options.alerts {
        // Nothing that would be found in another account matters.
        None if seen == Seen::WrongAccount => {}
        None => examination.alerts(Connection::Watching, &mut watching, info.as_ref()).await,
        Some(own) => match connect(own, Retry::Once).await {
            Err(failure) => {
                let text = format!("for alerts: {failure}");
                (examination.tell)(Item::new("connection", Outcome::Failed, text).next(failure.hint()));
            }
            Ok(link) => {
                examination.connected(Connection::Alerts, own, &link);
                others.listen_beside(&link.client, prefix).await;
                let mut probe = Probe::new(link, clock).await;
                let info = user_info(&mut probe).await;
                examination.alerts(Connection::Alerts, &mut probe, info.as_ref()).await;
            }
        },
    }
    (examination.tell)(state::item(&options.state).await);
    if seen == Seen::WrongAccount {
        return Ok(());
    }
    let patience = (options.settings.rules.interval * 2 + QUIET).clamp(LISTEN[0], LISTEN[1]);
    others.hear_until(clock.instant(Stamp::new(0, 0).plus(patience))).await;
    (examination.tell)(others.watchers.judge(seen == Seen::WithOthers, env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// A heartbeat is on its way this long at most.
const QUIET: Duration = Duration::from_millis(500);

/// What the connection that watches can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing, for it is in another account.
    WrongAccount,
    /// Servers, as far as its rights go, and no other watchers.
    WithoutOthers,
    /// The same with other watchers.
    WithOthers,
}

async fn user_info(probe: &mut Probe) -> Option<UserInfo> {
    let server_id = probe.client().server_info().server_id;
    // Only the first answer comes, and up to 2.10 any server may be first.
    for _ in 0..USER_INFO_TRIES {
        let answers = probe.ask(USER_INFO, "", Wanted::One).await;
        let (payload, _) = answers.came.first()?;
        if let Some(info) = UserInfo::decode(payload, &server_id) {
            return Some(info);
        }
    }
    None
}

/// What is looked at, and whom it is told.
struct Examination<'a> {
    options: &'a RunOptions,
    config: &'a ConnectConfig,
    tell: &'a mut dyn FnMut(Item),
}

impl Examination<'_> {
    fn connected(&mut self, connection: Connection, config: &ConnectConfig, link: &Link) {
        let info = link.client.server_info();
        let address = config.servers.iter().find(|server| server.port() == info.port);
        let address = address.or(config.servers.first()).map_or("", ServerAddr::as_url_str);
        let tls =
            config.tls.required() || info.tls_required || config.servers.iter().any(ServerAddr::tls_required);
        let item = judge::connected(connection, &info.server_name, address, &info.version, tls);
        (self.tell)(item);
    }

    /// The connection that watches: account, rights, and what the servers say.
    async fn watching(&mut self, probe: &mut Probe, info: Option<&UserInfo>, clock: Clock) -> Seen {
        let prefix = &self.options.settings.prefix;
        let server_id = probe.client().server_info().server_id;
        let rights = rights::of_watching(&self.config.inbox_prefix, prefix, &server_id);
        let mut asked: BTreeMap<&str, Answers> = BTreeMap::new();
        for right in rights.iter().filter(|right| right.trial == Trial::Request) {
            let payload = if right.tried.ends_with("RAFTZ") { RAFT_GROUP } else { "" };
            let wanted = if right.tried.contains(".PING.") { Wanted::All } else { Wanted::One };
            asked.insert(&right.tried, probe.ask(&right.tried, payload, wanted).await);
        }
        let none = Answers::default();
        let jsz = asked.get(PING_JSZ).unwrap_or(&none);
        let step = seen(self.options, jsz, clock);
        let to_one = asked.iter().filter(|(subject, _)| !subject.contains(".PING."));
        let facts = AccountFacts {
            name: info.map(|info| info.account.as_str()).filter(|name| !name.is_empty()),
            heard: step.view.servers.len(),
            nobody_answers: jsz.nobody,
            imported: to_one.clone().count() > 0 && to_one.clone().all(|(_, answers)| answers.nobody),
        };
        (self.tell)(judge::account(&facts));
        if facts.nobody_answers {
            return Seen::WrongAccount;
        }
        if let Some(item) = judge::leaf(&server_id, &step.view.servers) {
            (self.tell)(item);
        }
        let refused = self.try_subscriptions(probe, &rights).await;
        for right in &rights {
            let tried = match right.trial {
                Trial::Subscribe if refused.contains(&right.tried) => Tried::Refused,
                Trial::Subscribe => Tried::Granted,
                Trial::Request => asked.get(right.tried.as_str()).map_or(Tried::Silence, Answers::tried),
                Trial::Undelivered => probe.publish_undelivered(&right.tried, prefix, info).await.0,
            };
            (self.tell)(right.judge(&tried));
        }
        if facts.heard > 0 {
            let readings: Vec<ClockReading> = readings(jsz);
            let items = judge::versions(&step.view.servers).into_iter();
            for item in items.chain(judge::groups(&step)).chain(judge::clocks(&readings)) {
                (self.tell)(item);
            }
        }
        if refused.contains(&format!("{prefix}.watcher.*")) { Seen::WithoutOthers } else { Seen::WithOthers }
    }

    /// The connection that alerts are published on: rights, and whether anybody hears them.
    async fn alerts(&mut self, connection: Connection, probe: &mut Probe, info: Option<&UserInfo>) {
        let prefix = self.options.settings.prefix.as_str();
        let inbox = self.options.alerts.as_ref().unwrap_or(self.config).inbox_prefix.as_str();
        let rights = rights::of_alerts(connection, inbox, prefix, self.options.mode == Mode::Core);
        let refused = self.try_subscriptions(probe, &rights).await;
        let sample = rights::sample_alert(prefix);
        let mut reach = Reach::Unknown("it was not tried");
        for right in &rights {
            let tried = match right.trial {
                Trial::Subscribe if refused.contains(&right.tried) => Tried::Refused,
                Trial::Subscribe => Tried::Granted,
                Trial::Request => probe.ask(&right.tried, "", Wanted::One).await.tried(),
                Trial::Undelivered => {
                    let (tried, reached) = probe.publish_undelivered(&right.tried, prefix, info).await;
                    if right.tried == sample {
                        reach = reached;
                    }
                    tried
                }
            };
            (self.tell)(right.judge(&tried));
        }
        let account = info.map(|info| info.account.as_str()).filter(|account| !account.is_empty());
        (self.tell)(judge::arrival(&reach, prefix, account));
        if self.options.mode == Mode::JetStream {
            let item = stream(connection, probe, &sample, &reach).await;
            (self.tell)(item);
        }
    }

    async fn try_subscriptions(&mut self, probe: &mut Probe, rights: &[Right]) -> BTreeSet<String> {
        let tried = rights.iter().filter(|right| right.trial == Trial::Subscribe);
        probe.subscribe(tried.map(|right| right.tried.clone())).await
    }
}

/// What the answers of the servers show, as one epoch.
fn seen(options: &RunOptions, answers: &Answers, clock: Clock) -> Step {
    let mut pipeline = Pipeline::new(options.settings.clone());
    let opened = answers.asked.unwrap_or_else(|| clock.now());
    let plan = pipeline.plan(1, opened, Duration::from_secs(5));
    let mut epoch = Epoch::open(plan, opened);
    for (payload, at) in &answers.came {
        epoch.hear(*at, Heard::Jsz { epoch: 1, payload });
    }
    let ended = if answers.nobody { Ended::NoResponders } else { Ended::Quiet };
    let closed = answers.came.last().map_or(opened, |(_, at)| *at);
    pipeline.step(&epoch.close(closed, ended))
}

fn readings(answers: &Answers) -> Vec<ClockReading> {
    let Some(asked) = answers.asked else { return Vec::new() };
    let read = |(payload, at): &(Vec<u8>, Stamp)| ClockReading::of(payload, asked.wall_ns(), at.wall_ns());
    answers.came.iter().filter_map(read).collect()
}

/// The stream that would acknowledge alerts.
async fn stream(connection: Connection, probe: &mut Probe, sample: &str, reach: &Reach) -> Item {
    let request = serde_json::json!({ "subject": sample }).to_string();
    let answers = probe.ask(STREAM_NAMES, &request, Wanted::One).await;
    let payload = answers.came.first().map(|(payload, _)| payload.as_slice());
    let grant = Grant { connection, operation: Operation::Publish, subject: STREAM_NAMES.to_owned() };
    judge::stream(payload, answers.refused, reach, grant)
}
