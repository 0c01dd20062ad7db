//! One watcher: the real daemon, and what carries its effects out in this world.

use std::collections::BTreeMap;
use std::time::Duration;

use metawatch::alert::LifeRules;
use metawatch::daemon::{Daemon, Mode, Options, Wake};
use metawatch::election::{PeerMessage, Role};
use metawatch::epoch::{Epoch, Gathered, Heard, Plan};
use metawatch::event::{Monitor, PREFIX};
use metawatch::outbox::Dispatched;
use metawatch::pipeline::Settings;
use metawatch::replicated_state::{ReplicatedState, StateVersion};
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

use super::{INTERVAL, START};
use crate::model::World;

/// What the tasks of a watcher are about to do.
pub(super) enum Pending {
    Wake(Wake),
    Connect,
    Epoch(Box<Plan>, Stamp),
    Write(ReplicatedState),
    Say(Box<PeerMessage>),
    Tell(Vec<PeerMessage>),
    HearAll(bool),
    Heartbeat(String),
    Publish(Vec<Dispatched>, u64, bool),
    Store(Box<Dispatched>, u64),
}

/// How a watcher is set up.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) mode: Mode,
    /// Alerts go over the observing connection.
    pub(super) shared: bool,
    pub(super) flap_window: Duration,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) daemon: Daemon,
    pub(super) way: Way,
    /// How far its wall clock is off, in milliseconds.
    pub(super) skew: i64,
    pub(super) running: bool,
    pub(super) frozen: bool,
    pub(super) blind: bool,
    /// Its epochs never end.
    pub(super) stuck: bool,
    /// Its heartbeats reach nobody.
    pub(super) without_heartbeats: bool,
    /// Which side of a partition it is on.
    pub(super) side: u8,
    pub(super) tasks: BTreeMap<(i64, u64), Pending>,
    /// The connection for alerts.
    pub(super) generation: u64,
    /// What a restart finds.
    pub(super) disk: ReplicatedState,
    /// The disk answers to nothing before this time.
    pub(super) disk_hangs_until: i64,
    /// When it is to be woken though nothing happens.
    pub(super) wake_at: Stamp,
    /// Which subjects it hears.
    pub(super) hears_all: bool,
}

impl Node {
    pub(super) fn new(name: &str, run: u64, now: i64, skew: i64, disk: ReplicatedState, way: Way) -> Self {
        let life = LifeRules { flap_window: way.flap_window, ..LifeRules::default() };
        let rules = Rules { interval: Duration::from_millis(INTERVAL as u64), ..Rules::default() };
        let monitor = Monitor { name: name.into(), version: "0".into(), instance: format!("{name}run{run}") };
        let settings = Settings { rules, life, monitor, prefix: PREFIX.into() };
        let Way { mode, shared, .. } = way;
        let options = Options {
            settings,
            mode,
            shared,
            timeout: Duration::from_secs(5),
            persistent: true,
            system: None,
            peer_limit: 1 << 14,
        };
        let daemon = Daemon::new(options, Some(disk.clone()), stamp(now, skew));
        let tasks = BTreeMap::from([((now, 0), Pending::Connect)]);
        Self {
            name: name.to_owned(),
            daemon,
            way,
            skew,
            running: true,
            frozen: false,
            blind: false,
            stuck: false,
            without_heartbeats: false,
            side: 0,
            tasks,
            generation: 1,
            disk,
            disk_hangs_until: 0,
            wake_at: stamp(now, skew),
            hears_all: false,
        }
    }

    pub(super) fn moves(&self) -> bool {
        self.running && !self.frozen
    }

    /// Sees the servers, stands by or is active, and knows what the active watcher knew last.
    pub(super) fn is_healthy(&self, newest: Option<&StateVersion>, whoever: bool) -> bool {
        let role = self.daemon.role();
        let sees = matches!(role, Role::Standby | Role::Active) || (whoever && role == Role::Reserve);
        self.moves() && !self.blind && sees && newest.is_some() && self.daemon.version() == newest
    }

    pub(super) fn gathered(&self, world: &World, plan: Plan, opened: Stamp, now: Stamp) -> Gathered {
        let (number, ask_statsz) = (plan.number, plan.ask_statsz);
        let mut epoch = Epoch::open(plan, opened);
        if self.blind {
            epoch.hear(now, Heard::Disconnected);
        } else {
            for reply in world.jsz() {
                epoch.hear(now, Heard::Jsz { epoch: number, payload: reply.as_bytes() });
            }
            for reply in world.statsz().iter().filter(|_| ask_statsz) {
                epoch.hear(now, Heard::Statsz { epoch: number, payload: reply.as_bytes() });
            }
        }
        let ended = epoch.ended(now.plus(Duration::from_secs(60))).expect("an end");
        epoch.close(now, ended)
    }
}

pub(super) fn stamp(now: i64, skew: i64) -> Stamp {
    Stamp::new(now * 1_000_000, (START + now + skew) * 1_000_000)
}
