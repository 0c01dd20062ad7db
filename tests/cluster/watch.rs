//! metawatch itself, running against a cluster, and a subscriber that knows nothing of it but the subjects.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use metawatch::alert::{LifeRules, State};
use metawatch::event::heartbeat::Status;
use metawatch::event::{AlertEvent, Heartbeat, Monitor, PREFIX};
use metawatch::pipeline::Settings;
use metawatch::rules::Rules;
use metawatch::shell::config::{ConnectConfig, ConnectFlags, Env};
use metawatch::shell::daemon::{self, RunOptions};
use metawatch::shell::http::HttpOptions;
use metawatch::shell::publish::Mode;
use metawatch::shell::state_file::StateLocation;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::{Cluster, LONG};

/// Something that arrived at the subscriber.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// On which subject.
    pub subject: String,
    /// The line that `nats sub` shows in the headers.
    pub summary: String,
    /// The event.
    pub event: AlertEvent,
}

/// A running metawatch and what its subscriber saw.
pub struct Watch {
    events: mpsc::Receiver<Seen>,
    heartbeats: mpsc::Receiver<Heartbeat>,
    seen: Vec<Seen>,
    stop: Option<oneshot::Sender<()>>,
    daemon: JoinHandle<()>,
    _subscribers: JoinSet<()>,
}

/// What a test can choose of how metawatch runs.
#[derive(Clone, Debug)]
pub struct Watching {
    /// The user it connects as.
    pub user: &'static str,
    /// The servers it may connect to; all when empty.
    pub servers: String,
    /// The prefix of its inboxes.
    pub inbox_prefix: Option<&'static str>,
    /// `--interval`.
    pub interval: Duration,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--checks`, and their limits.
    pub rules: Rules,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            user: "admin",
            servers: String::new(),
            inbox_prefix: None,
            interval: Duration::from_secs(1),
            listen: None,
            rules: Rules::default(),
        }
    }
}

/// What metawatch is told when it watches every `interval`.
pub fn settings(interval: Duration) -> Settings {
    Settings {
        rules: Rules { interval, ..Rules::default() },
        life: LifeRules::default(),
        monitor: Monitor {
            name: "metawatch".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: "test".to_owned(),
        },
        prefix: PREFIX.to_owned(),
    }
}

impl Cluster {
    /// How a client of this user finds the servers.
    pub fn connection(&self, watching: &Watching) -> io::Result<ConnectConfig> {
        let servers = if watching.servers.is_empty() { self.urls() } else { watching.servers.clone() };
        let flags = ConnectFlags {
            server: Some(servers.into()),
            user: Some(watching.user.into()),
            password: Some(watching.user.into()),
            inbox_prefix: watching.inbox_prefix.map(str::to_owned),
            no_context: true,
            ..ConnectFlags::default()
        };
        let nothing: [(&str, &str); 0] = [];
        ConnectConfig::resolve(&flags, &Env::new(nothing)).map_err(io::Error::other)
    }

    /// Starts metawatch and the subscriber, as soon as any server can be reached.
    pub async fn watch(&self, watching: Watching) -> io::Result<Watch> {
        let config = self.connection(&watching)?;
        let (events, subscribers, heartbeats) = self.subscribe(&watching).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let interval = watching.interval;
        let options = RunOptions {
            settings: Settings { rules: Rules { interval, ..watching.rules.clone() }, ..settings(interval) },
            system: None,
            state: StateLocation::Nowhere,
            alerts: None,
            mode: Mode::Core,
            record: None,
            page: watching.listen.map(|listen| HttpOptions { listen, hosts: Vec::new() }),
            notify: None,
        };
        let daemon = tokio::spawn(async move {
            let shutdown = async {
                stopped.await.ok();
            };
            daemon::run(&config, options, shutdown).await.expect("metawatch runs until it is stopped");
        });
        Ok(Watch {
            events,
            heartbeats,
            seen: Vec::new(),
            stop: Some(stop),
            daemon,
            _subscribers: subscribers,
        })
    }

    /// The subscriber alone: others publish.
    pub async fn observe(&self, watching: Watching) -> io::Result<Watch> {
        let (events, subscribers, heartbeats) = self.subscribe(&watching).await?;
        let daemon = tokio::spawn(async {});
        Ok(Watch { events, heartbeats, seen: Vec::new(), stop: None, daemon, _subscribers: subscribers })
    }

    /// A subscriber that hears through every server: what is said while the clients of one of them look for another
    /// server does not reach them, and another connection hears it.
    async fn subscribe(
        &self,
        watching: &Watching,
    ) -> io::Result<(mpsc::Receiver<Seen>, JoinSet<()>, mpsc::Receiver<Heartbeat>)> {
        let servers = if watching.servers.is_empty() { self.urls() } else { watching.servers.clone() };
        // A user of another account sees what reaches it.
        let user = if matches!(watching.user, "app" | "monitor") { watching.user } else { "admin" };
        let (events, event_receiver) = mpsc::channel(10_000);
        let (heartbeats, heartbeat_receiver) = mpsc::channel(10_000);
        let (heard, mut subscribers) = (Arc::default(), JoinSet::new());
        for server in servers.split(',') {
            let client = async_nats::ConnectOptions::with_user_and_password(user.into(), user.into())
                .retry_on_initial_connect()
                .ignore_discovered_servers()
                .connect(server)
                .await
                .map_err(io::Error::other)?;
            let messages = client.subscribe("metawatch.>").await.map_err(io::Error::other)?;
            let ear =
                Ear { heard: Arc::clone(&heard), events: events.clone(), heartbeats: heartbeats.clone() };
            subscribers.spawn(async move {
                ear.hear(messages).await;
                drop(client);
            });
        }
        Ok((event_receiver, subscribers, heartbeat_receiver))
    }
}

/// One connection of the subscriber.
struct Ear {
    /// What any of them has heard already: an event may be delivered more than once.
    heard: Arc<Mutex<BTreeSet<String>>>,
    events: mpsc::Sender<Seen>,
    heartbeats: mpsc::Sender<Heartbeat>,
}

impl Ear {
    async fn hear(&self, mut messages: async_nats::Subscriber) {
        while let Some(message) = messages.next().await {
            if message.subject.as_str() == "metawatch.heartbeat" {
                let heartbeat: Heartbeat =
                    serde_json::from_slice(&message.payload).expect("a heartbeat is JSON");
                if self.is_first(format!("{} {}", heartbeat.speaker, heartbeat.timestamp)) {
                    self.heartbeats.try_send(heartbeat).ok();
                }
            } else if message.subject.starts_with("metawatch.alert.") {
                let seen = event(&message);
                if self.is_first(seen.event.id.clone()) {
                    self.events.try_send(seen).ok();
                }
            }
        }
    }

    fn is_first(&self, id: String) -> bool {
        self.heard.lock().expect("nobody panics here").insert(id)
    }
}

fn event(message: &async_nats::Message) -> Seen {
    let headers = message.headers.clone().unwrap_or_default();
    let summary = headers.get("Metawatch-Summary").map(ToString::to_string).unwrap_or_default();
    let event: AlertEvent = serde_json::from_slice(&message.payload).expect("an alert event is JSON");
    // What was sent holds nothing that the types, and so the schema, do not know.
    let sent: serde_json::Value = serde_json::from_slice(&message.payload).expect("an alert event is JSON");
    assert_eq!(serde_json::to_value(&event).ok(), Some(sent), "the event is not what its schema says");
    Seen { at: Instant::now(), subject: message.subject.to_string(), summary, event }
}

impl Watch {
    /// Waits for the event that fits, with a generous limit. Events before it are kept in [`Self::seen`].
    pub async fn expect(&mut self, what: &str, fits: impl Fn(&AlertEvent) -> bool) -> Seen {
        let deadline = tokio::time::Instant::from_std(Instant::now() + LONG);
        loop {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(seen)) => {
                    self.seen.push(seen.clone());
                    if fits(&seen.event) {
                        return seen;
                    }
                }
                _ => {
                    let (story, last) = (self.story(), self.last_heartbeat());
                    panic!(
                        "no event fits «{what}» within {LONG:?}; the last heartbeat: {last:?}; seen:\n{story}"
                    )
                }
            }
        }
    }

    /// Waits until META_001 tells this of a peer.
    pub async fn expect_peer(&mut self, name: &str, state: State) -> Seen {
        self.expect(&format!("{name} {}", state.as_str()), |event| {
            let about = event.peer.as_ref().and_then(|peer| peer.name.as_deref());
            event.check == "META_001" && about == Some(name) && event.state == state
        })
        .await
    }

    /// Waits for a heartbeat with this status; older ones do not count.
    pub async fn expect_status(&mut self, status: Status) -> Heartbeat {
        self.expect_heartbeat(status.as_str(), |heartbeat| heartbeat.status == status).await
    }

    /// Waits for a heartbeat that fits; older ones do not count.
    pub async fn expect_heartbeat(&mut self, what: &str, fits: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        while self.heartbeats.try_recv().is_ok() {}
        let deadline = tokio::time::Instant::from_std(Instant::now() + LONG);
        let mut last = None;
        loop {
            match tokio::time::timeout_at(deadline, self.heartbeats.recv()).await {
                Ok(Some(heartbeat)) if fits(&heartbeat) => return heartbeat,
                Ok(Some(heartbeat)) => last = Some(heartbeat),
                _ => panic!("no heartbeat fits «{what}» within {LONG:?}; the last: {last:?}"),
            }
        }
    }

    /// The latest heartbeat of those nobody has asked for yet.
    fn last_heartbeat(&mut self) -> Option<Heartbeat> {
        let mut last = None;
        while let Ok(heartbeat) = self.heartbeats.try_recv() {
            last = Some(heartbeat);
        }
        last
    }

    /// Every alert event so far.
    pub fn seen(&mut self) -> &[Seen] {
        while let Ok(seen) = self.events.try_recv() {
            self.seen.push(seen);
        }
        &self.seen
    }

    /// The events so far, a line each.
    pub fn story(&mut self) -> String {
        let line = |seen: &Seen| format!("  {} {} {}\n", seen.event.timestamp, seen.subject, seen.summary);
        self.seen().iter().map(line).collect()
    }

    /// Stops metawatch in an orderly way and gives everything that was seen.
    pub async fn stop(mut self) -> Vec<Seen> {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        (&mut self.daemon).await.expect("metawatch ends in an orderly way");
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.seen().to_vec()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.daemon.abort();
    }
}
