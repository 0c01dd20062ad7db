//! What really happened to the servers: each is asked four times a second, by a client of its own that nobody else
//! is between.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::cluster::Cluster;

/// How often a server is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// After so long without an answer it is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Whoever has not answered for so long was away, whatever the reason: pauses that are shorter page nobody.
pub(crate) const AWAY: Duration = Duration::from_millis(3_500);
/// For so long nobody leads after the longest ordinary election.
const LEADERLESS: Duration = Duration::from_secs(9);
/// What is told so long after the end of an outage may have been decided in it.
const SLACK: Duration = Duration::from_secs(2);
/// How often this process looks whether it runs at all.
const TICK: Duration = Duration::from_millis(20);
/// It did not run when that comes so late.
const LATE: Duration = Duration::from_millis(250);

/// A server was away, from its last sign of life to the next one.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) name: String,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    /// It was stopped in an orderly way.
    pub(crate) announced: bool,
}

/// Everything that was seen of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    away: Vec<Away>,
    /// From when to when nobody led.
    leaderless: Vec<(Instant, Instant)>,
    longest: Duration,
    longest_leaderless: Duration,
    led: Instant,
    led_stalled: Duration,
    /// For how long this process did not run although it had something to do.
    stalled: Duration,
}

impl Truth {
    fn new() -> Self {
        Self {
            away: Vec::new(),
            leaderless: Vec::new(),
            longest: Duration::ZERO,
            longest_leaderless: Duration::ZERO,
            led: Instant::now(),
            led_stalled: Duration::ZERO,
            stalled: Duration::ZERO,
        }
    }

    /// With what was done to the servers besides.
    pub(crate) fn with(mut self, away: &[Away]) -> Self {
        self.away.extend(away.iter().cloned());
        self
    }

    /// Whether something had happened that an alert about this server, or about all of them, tells.
    pub(crate) fn explains(&self, about: Option<&str>, at: Instant) -> bool {
        let covers = |from: Instant, until: Instant| from <= at && at <= until + SLACK;
        let mut away = self.away.iter().filter(|away| covers(away.from, away.until));
        match about {
            Some(name) => away.any(|away| away.name == name),
            None => {
                let two = away.next().is_some_and(|first| away.any(|other| other.name != first.name));
                two || self.leaderless.iter().any(|(from, until)| covers(*from, *until))
            }
        }
    }

    fn answered(&mut self, name: &str, asked: Instant, stalled: Duration, leads: bool) {
        let now = Instant::now();
        let silent = now.duration_since(asked).saturating_sub(self.stalled.saturating_sub(stalled));
        self.longest = self.longest.max(silent);
        if silent >= AWAY {
            let name = name.to_owned();
            self.away.push(Away { name, from: asked, until: now, announced: false });
        }
        if leads {
            let stalled = self.stalled.saturating_sub(self.led_stalled);
            let unled = now.duration_since(self.led).saturating_sub(stalled);
            self.longest_leaderless = self.longest_leaderless.max(unled);
            if unled >= LEADERLESS {
                self.leaderless.push((self.led, now));
            }
            (self.led, self.led_stalled) = (now, self.stalled);
        }
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "asked on its own, no server was silent for longer than {:.1} s, and somebody led after {:.1} s at the latest",
            self.longest.as_secs_f64(),
            self.longest_leaderless.as_secs_f64()
        )
    }
}

/// Asks the servers.
pub(crate) struct Witness {
    truth: Arc<Mutex<Truth>>,
    _tasks: JoinSet<()>,
}

impl Witness {
    pub(crate) async fn start(cluster: &Cluster) -> io::Result<Self> {
        let truth = Arc::new(Mutex::new(Truth::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(notice_stalls(Arc::clone(&truth)));
        for name in cluster.names() {
            let client = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into())
                .retry_on_initial_connect()
                .ignore_discovered_servers()
                .reconnect_delay_callback(|_| Duration::from_millis(100))
                .connect(cluster.url(&name))
                .await
                .map_err(io::Error::other)?;
            tasks.spawn(ask(name, client, Arc::clone(&truth)));
        }
        Ok(Self { truth, _tasks: tasks })
    }

    /// What is known until now.
    pub(crate) fn truth(&self) -> Truth {
        self.truth.lock().expect("nobody panics here").clone()
    }
}

/// A process that is starved hears answers late: that is no silence of the servers.
async fn notice_stalls(truth: Arc<Mutex<Truth>>) {
    loop {
        let before = Instant::now();
        tokio::time::sleep(TICK).await;
        let late = before.elapsed().saturating_sub(TICK);
        if late >= LATE {
            truth.lock().expect("nobody panics here").stalled += late;
        }
    }
}

async fn ask(name: String, client: async_nats::Client, truth: Arc<Mutex<Truth>>) {
    let filter = format!(r#"{{"server_name":"{name}"}}"#);
    let stalled = || truth.lock().expect("nobody panics here").stalled;
    let mut unanswered = None;
    loop {
        let (asked, before) = *unanswered.get_or_insert_with(|| (Instant::now(), stalled()));
        let question = client.request("$SYS.REQ.SERVER.PING.JSZ", filter.clone().into());
        if let Ok(Ok(reply)) = tokio::time::timeout(PATIENCE, question).await {
            let reply: Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
            let leads = reply["data"]["meta_cluster"]["leader"] == name.as_str();
            truth.lock().expect("nobody panics here").answered(&name, asked, before, leads);
            unanswered = None;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
