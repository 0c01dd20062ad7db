//! The thresholds of the checks: what the flags of `metawatch run` set.

use std::collections::BTreeSet;
use std::time::Duration;

/// Which evidence may call a peer offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Basis {
    /// The server's own flag, or two independent witnesses that agree without it.
    #[default]
    Observed,
    /// Only the server's own flag: the literal definition of META_001. Everything else stays a suspicion.
    Reported,
}

/// How long is too long, and what counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The nominal time between two epochs. A gap of more than three of them makes us blind: our own clocks
    /// start again.
    pub interval: Duration,
    /// How long the leader may be without contact to a peer before that counts (the leader's own `current`
    /// turns false at about 10 s: nats-server `server/raft.go`, `lostQuorumIntervalDefault`).
    pub lost_contact: Duration,
    /// The same beside a silence, or beside the peer's own word that its JetStream is off: together they are a fault.
    /// 4 s is the least election timeout of nats-server (`server/raft.go`, `minElectionTimeoutDefault`). Under load,
    /// starved of CPU and over slow networks the contact of a healthy peer stays below 1.7 s (measured, 2.10 to 2.15).
    pub lost_contact_silent: Duration,
    /// Which evidence may call a peer offline.
    pub basis: Basis,
    /// How long a peer may be offline before it is taken for one that will not come back.
    pub ghost_after: Duration,
    /// The codes of the checks that are evaluated; `None` for the usual ones. META_001 always is: every number is
    /// made of it.
    pub checks: Option<BTreeSet<&'static str>>,
    /// How much is too much.
    pub limits: Limits,
}

/// How much is too much. The defaults are those of the checks as they are published, where those give a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// META_003: a group may change its leader so often within [`Self::leader_window`]. Changes whose leader had
    /// announced its stop do not count.
    pub leader_changes: u64,
    /// META_003: within so long.
    pub leader_window: Duration,
    /// META_004: a snapshot of the meta group may take so long ...
    pub snapshot_warning: Duration,
    /// ... and is critical from here on.
    pub snapshot_critical: Duration,
    /// META_005: a group may hold so many replicas of streams and consumers.
    pub assets: u64,
    /// META_008: so many API requests may wait at the leader.
    pub pending: u64,
    /// META_102: a member that answers may be behind its leader for so long. Seconds of it are normal (measured: 30 to
    /// 45 % of polls of a busy meta layer show healthy peers that are not current).
    pub behind: Duration,
    /// SERVER_008: whether a restart is critical, as in the published check, or a warning.
    pub restarts_critical: bool,
    /// SERVER_017 and SERVER_019: the share of the storage that may be used, in percent ...
    pub storage_warning: u64,
    /// ... and of the configured limit, from where on it is critical.
    pub storage_critical: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            leader_changes: 1,
            leader_window: Duration::from_secs(300),
            snapshot_warning: Duration::from_secs(5),
            snapshot_critical: Duration::from_secs(30),
            assets: 5_000,
            pending: 500,
            behind: Duration::from_secs(120),
            restarts_critical: false,
            storage_warning: 90,
            storage_critical: 95,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            lost_contact: Duration::from_secs(10),
            lost_contact_silent: Duration::from_secs(4),
            basis: Basis::Observed,
            ghost_after: Duration::from_secs(24 * 60 * 60),
            checks: None,
            limits: Limits::default(),
        }
    }
}

/// Silence counts once this much time has passed since the first missed epoch: longer than the 1.0 to 1.6 s
/// that replies stay away after a lost gateway or a lost route heals by itself.
pub const SILENCE_MIN: Duration = Duration::from_secs(2);
/// Silence counts once a peer has missed this many epochs running.
pub const SILENT_EPOCHS_MIN: u32 = 2;
/// Evidence that may be a passing state must stand in this many epochs running.
pub const STANDING_EPOCHS_MIN: u32 = 2;
/// A peer that its leader has heard within this long takes part: a heartbeat comes every second.
pub const HEARD_LATELY: Duration = Duration::from_secs(2);
/// That a leader has not heard a peer in its term counts beside silence once it has led for this long: by then it has
/// heard everybody who lives (measured: within one heartbeat, 1 s).
pub const LED_MIN: Duration = Duration::from_secs(2);
/// A leader from which its followers have received nothing for this long sends no heartbeats: one comes every second
/// (measured on 2.10.25 and 2.15.1: at most 1.0 s in health).
pub const STANDSTILL_MIN: Duration = Duration::from_secs(3);
/// That the storage of a server is full stands for this long, while its JetStream goes on.
pub const STORAGE_SAID_MAX: Duration = Duration::from_secs(10);
/// A meta group without a leader for this long is past any election (measured: 3.5 to 7.5 s).
pub const LEADERLESS_MIN: Duration = Duration::from_secs(10);
/// A leader may have fewer peers in contact than must agree for this long: it hears of every peer that lives within
/// one heartbeat, 1 s, of its election.
pub const SHORT_MIN: Duration = Duration::from_secs(2);
/// A server that answers and follows the leader may be missing from its list for this long.
pub const UNLISTED_MIN: Duration = Duration::from_secs(10);
/// Members may name different leaders for this long (an election, a thawed leader).
pub const DISAGREEMENT_MIN: Duration = Duration::from_secs(15);
/// A flag within this time of the peer's last answer was announced: an unannounced one takes 140 s or more
/// (nats-server `server/events.go`: silence over 150 s, looked at every 90 s).
pub const ANNOUNCED_FLAG_MAX: Duration = Duration::from_secs(120);
/// Members may tell different sizes of their group for this long, while a change of it reaches them all.
pub const SIZES_DIFFER_MIN: Duration = Duration::from_secs(2);
/// Nobody of a whole group may be heard for this long while others answer: longer than a gateway or a leaf connection
/// takes to come back (measured: 1.3 to 1.6 s for a gateway).
pub const UNHEARD_MIN: Duration = Duration::from_secs(10);
/// An alert that nothing shows any more ends after this long in which others answered.
pub const UNSHOWN_MAX: Duration = Duration::from_secs(600);
/// A restart and a smaller group are told for this long, unless they are undone before.
pub const CHANGE_SHOWN: Duration = Duration::from_secs(600);
/// A change of the leader counts once it is this old: its reason may be heard after it.
pub const LEADER_CHANGE_SETTLES: Duration = Duration::from_secs(3);
/// An alert about a value ends below this share of its limit, in percent: one that stays near it does not flap.
pub const RELEASE_PERCENT: u64 = 90;
/// How fast a storage grows is told after so long,
pub const GROWTH_MIN: Duration = Duration::from_secs(60);
/// ... and by the last so long.
pub const GROWTH_MAX: Duration = Duration::from_secs(600);
/// A leader whom as many known members follow as must agree may have no list for this long: it lists the servers that it
/// has heard of since its start (measured on 2.14.6 under a load of 60 processes on two cores: up to 21 s).
pub const LISTLESS_LEADS_MAX: Duration = Duration::from_secs(60);
/// A leader may have no list for this long after its election (measured: 1.0 s, once, on 2.14.6).
pub const CLAIM_SETTLES_MAX: Duration = Duration::from_secs(3);
