//! What can wake the daemon, and what it wants done.

use super::losses::LossKind;
use crate::diagnosis::Replies;
use crate::election::PeerMessage;
use crate::epoch::{Gathered, Plan};
use crate::event::{AlertEvent, Heartbeat};
use crate::outbox::Dispatched;
use crate::pipeline::FollowUp;
use crate::replicated_state::ReplicatedState;
use crate::stamp::Stamp;

/// Everything that can wake the daemon.
#[derive(Clone, Debug)]
pub enum Wake {
    /// Time has passed.
    Time,
    /// The epoch has ended.
    Gathered(Box<EpochEnd>),
    /// Something was announced that the next epoch is to see soon: a server stops, a leader was elected.
    Urgent,
    /// The observing connection is there again; what happened to it since the last word of it.
    Connected(Vec<LinkNews>),
    /// Messages between watchers have come, own ones among them.
    Peers(Vec<PeerMessage>),
    /// A heartbeat of this instance was heard, where the heartbeats of this watcher go.
    Heartbeat(String),
    /// The server does not let us hear heartbeats.
    HeartbeatsRefused,
    /// A watcher of this name was heard whose messages are of another version.
    OtherVersion(String),
    /// Somebody asks for the verdict of a new epoch.
    CheckWanted,
    /// Further questions are answered, or given up.
    Answered(Box<(FollowUp, Replies)>),
    /// What became of deliveries, or of the connection for them.
    Delivery(DeliveryReport),
    /// The state file was written, or why not.
    Saved(Result<(), String>),
    /// The messages to the other watchers were sent, or could not be.
    PeersTold(bool),
    /// How much was lost since the start, by those who carry effects out.
    Lost(Vec<(LossKind, u64)>),
    /// It is time to go.
    Shutdown,
}

/// What became of deliveries, or of the connection for them.
#[derive(Clone, Debug)]
pub enum DeliveryReport {
    /// The connection for alerts is another one, or in another state.
    Link(AlertLink),
    /// The client has taken events, or has not.
    Published(Published),
    /// What was published over this connection has arrived (`passed`), or nobody can tell.
    Confirmed {
        /// Which connection.
        generation: u64,
        /// Whether an answer came to a request behind the events.
        passed: bool,
    },
    /// A stream has answered, or has not.
    Stored {
        /// Which event.
        place: u64,
        /// Over which connection it was sent.
        generation: u64,
        /// What became of it.
        outcome: Stored,
    },
    /// The server refused to let us publish on this subject of ours.
    Refused {
        /// The subject.
        subject: String,
    },
}

/// An epoch and what happened to the observing connection until its end.
#[derive(Clone, Debug)]
pub struct EpochEnd {
    /// What was gathered.
    pub gathered: Gathered,
    /// Which connection it was at the end.
    pub generation: u64,
    /// The largest message that its server takes, in bytes.
    pub max_payload: usize,
    /// What happened to it.
    pub news: Vec<LinkNews>,
}

/// What happened to the observing connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// It is there again.
    Connected,
    /// The server refused a subject.
    Refused {
        /// The subject.
        subject: String,
        /// To publish there; otherwise, to subscribe.
        publish: bool,
    },
}

/// The connection that alerts are published on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertLink {
    /// Counts the connections.
    pub generation: u64,
    /// Whether it can be used.
    pub up: bool,
    /// The largest message that its server takes, in bytes.
    pub max_payload: usize,
}

/// What the client did with events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Over which connection.
    pub generation: u64,
    /// It took these, and when.
    pub handed: Vec<(u64, Stamp)>,
    /// It does not take these now.
    pub not_taken: Vec<u64>,
    /// No client will ever take these, and why.
    pub impossible: Vec<(u64, String)>,
}

/// What became of an event that was sent to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the stream, or was before.
    Done,
    /// It is not, and why; it is to be tried again.
    NotYet {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: &'static str,
        /// A stream has refused this very event.
        refused: bool,
    },
    /// It never will be, and why.
    Never(String),
}

/// What the daemon wants done. Whoever does it reports with a [`Wake`]; none of it may keep the daemon waiting.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Run an epoch; [`Wake::Gathered`] tells its end.
    OpenEpoch(Plan),
    /// Replace what the state file holds; [`Wake::Saved`] tells whether it worked.
    Save(ReplicatedState),
    /// Say this to other watchers now, in place of what was to be said before and could not be; no report is wanted.
    SayToPeers(Box<PeerMessage>),
    /// Send these to other watchers now; [`Wake::PeersTold`] tells whether it worked.
    TellPeers(Vec<PeerMessage>),
    /// From now on, hear the subjects of all watchers, or only the one for all and one's own.
    HearAllPeers(bool),
    /// Deliver something, or ask whether it has arrived.
    Deliver(Order),
    /// Put further questions; [`Wake::Answered`] tells the answers.
    Ask(FollowUp),
    /// Tell the operator of an event that was decided.
    Announce(Box<AlertEvent>),
    /// Tell the operator.
    Log(Line),
    /// It is over.
    Stop,
}

/// What is to be done to deliver events and signs of life.
#[derive(Clone, Debug)]
pub enum Order {
    /// Publish these in this order; [`DeliveryReport::Published`] tells what became of it. With `confirm`, ask behind them
    /// whether they have arrived; [`DeliveryReport::Confirmed`] tells.
    Publish {
        /// The events.
        batch: Vec<Dispatched>,
        /// Over which connection: on another one they are not to be published.
        generation: u64,
        /// Whether to ask.
        confirm: bool,
    },
    /// Ask again whether what was published has arrived; [`DeliveryReport::Confirmed`] tells.
    Confirm {
        /// Over which connection.
        generation: u64,
    },
    /// Send an event to its stream; [`DeliveryReport::Stored`] tells what became of it.
    Store {
        /// The event.
        event: Box<Dispatched>,
        /// Over which connection.
        generation: u64,
    },
    /// Publish a sign of life.
    Heartbeat(Box<Heartbeat>),
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a defect.
    Debug,
    /// What goes on.
    Info,
    /// Something is lost, or worse than it should be.
    Warn,
    /// Something does not work.
    Error,
}

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What is said.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    pub hint: String,
}

impl Line {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), hint: String::new() }
    }

    /// For whoever looks for a defect.
    pub fn debug(text: impl Into<String>) -> Self {
        Self::new(Level::Debug, text)
    }

    /// What goes on.
    pub fn info(text: impl Into<String>) -> Self {
        Self::new(Level::Info, text)
    }

    /// Something is lost, or worse than it should be.
    pub fn warn(text: impl Into<String>) -> Self {
        Self::new(Level::Warn, text)
    }

    /// Something does not work.
    pub fn error(text: impl Into<String>) -> Self {
        Self::new(Level::Error, text)
    }

    /// The same line, with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}
