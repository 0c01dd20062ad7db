//! Asks the servers and hears them: drives one [`Epoch`] after the other, and listens in between.
//!
//! It decides nothing about the cluster. [`Collector::epoch`] ends when the epoch says so, within one absolute
//! deadline; without a connection or without the rights it ends at once and says why. What arrives between two
//! epochs is kept, within limits, and told to the next one.

mod access;
#[cfg(test)]
pub(crate) mod fake;
mod kept;
mod port;
mod raw;
mod reply;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use tokio::time::{timeout, timeout_at};

pub use access::{Access, Trouble};
pub use port::{Ear, Incoming, NatsPort, Port};
pub use raw::Raw;

use crate::epoch::{Epoch, Gathered, Heard, Plan};
use crate::shell::clock::Clock;
use crate::shell::connect::{Link, LinkEvent};
use crate::stamp::Stamp;
use kept::Kept;
use reply::Token;
use rights::{EARS, Right, Rights};

/// The question.
pub(crate) const PING_JSZ: &str = "$SYS.REQ.SERVER.PING.JSZ";
/// The second question, while somebody is silent.
pub(crate) const PING_STATSZ: &str = "$SYS.REQ.SERVER.PING.STATSZ";

/// News of the connection that nobody has fetched; more is dropped.
const NEWS_MAX: usize = 64;
/// Messages that are taken in before the epoch is asked again whether it is over.
const BATCH: usize = 1_024;
/// An epoch that is woken this late was kept from running (a stopped process, a busy host) ...
const OVERSLEPT: Duration = Duration::from_millis(50);
/// ... and hears for this long what has arrived meanwhile.
const GRACE: Duration = Duration::from_millis(20);
/// A request that is not taken by the client in this time is not sent.
const SEND_MAX: Duration = Duration::from_millis(500);

/// A server in lame duck mode is left after this long: the alert about it goes out over its own connection
/// first. It lets its clients stay for 10 s, and closes their connections during the 2 minutes after that
/// (nats-server `server/const.go`).
const LAME_DUCK_STAY: Duration = Duration::from_secs(1);
/// The next epoch waits this long for the connection to the other server.
const MOVE_MAX: Duration = Duration::from_secs(1);

/// Why [`Collector::idle_until`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time has come.
    Time,
    /// A server announced that it stops: the next epoch will hear of it.
    Event,
    /// The connection is there again.
    Connected,
}

/// What a collector does besides asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Also {
    /// It listens to the events of servers that stop.
    pub events: bool,
    /// It keeps the payloads of each epoch for [`Collector::take_raw`].
    pub raw: bool,
}

/// Asks the servers and hears them. One epoch at a time.
#[derive(Debug)]
pub struct Collector<P = NatsPort> {
    port: P,
    clock: Clock,
    also: Also,
    rights: Rights,
    kept: Kept,
    news: VecDeque<LinkEvent>,
    raw: Raw,
    /// Something has come since the last epoch opened that makes the next one urgent: a server stops, a leader was
    /// elected.
    urgent: bool,
    /// When the server at the other end is to be left.
    leave_at: Option<Stamp>,
    /// A server was left, and the connection to another one is waited for until then.
    moving_until: Option<Stamp>,
}

impl Collector<NatsPort> {
    /// A collector on this connection, which it takes over.
    pub async fn new(link: Link, clock: Clock, also: Also) -> Self {
        Self::on(NatsPort::new(link), clock, also).await
    }

    /// The client, to publish with.
    pub fn client(&self) -> &Client {
        self.port.client()
    }

    /// Sends what is left, and ends the connection.
    pub async fn close(mut self) {
        if let Err(error) = self.port.client().drain().await {
            return tracing::debug!(%error, "the connection has ended already");
        }
        while !matches!(self.port.next().await, Incoming::Link(LinkEvent::Closed)) {}
    }
}

impl<P: Port> Collector<P> {
    /// A collector on any port.
    pub async fn on(mut port: P, clock: Clock, also: Also) -> Self {
        port.listen(Ear::Inbox).await;
        if also.events {
            port.listen(Ear::Shutdown).await;
            port.listen(Ear::Lameduck).await;
            port.listen(Ear::Elected).await;
        }
        Self {
            port,
            clock,
            also,
            rights: Rights::default(),
            kept: Kept::default(),
            news: VecDeque::new(),
            raw: Raw::default(),
            urgent: false,
            leave_at: None,
            moving_until: None,
        }
    }

    /// Runs one epoch. A dropped future drops the epoch; nothing else is lost but what it had heard.
    pub async fn epoch(&mut self, mut plan: Plan) -> Gathered {
        self.moved().await;
        // What came before the opening is stamped before it.
        self.drain();
        self.urgent = false;
        let now = self.clock.now();
        plan.ask_statsz &= self.rights.may(Right::PingStatsz, now);
        let may_ask = self.port.connected() && self.may_see(now).await;
        let number = plan.number;
        let (learning, ask_statsz) = (plan.learning, plan.ask_statsz);
        self.raw = Raw::of(self.port.server_name());
        let (generation, opened) = (self.port.generation(), self.clock.now());
        let mut open = Open { number, generation, epoch: Epoch::open(plan, opened) };
        self.tell_kept(&mut open);
        if may_ask {
            self.ask(number, learning, ask_statsz).await;
        } else {
            let why = if self.port.connected() { Heard::Denied } else { Heard::Disconnected };
            open.epoch.hear(self.clock.now(), why);
        }
        self.hear_out(open).await
    }

    /// Listens until `at`, or until something makes the next epoch urgent.
    pub async fn idle_until(&mut self, at: Stamp) -> Woken {
        if self.urgent {
            return Woken::Event;
        }
        loop {
            let until = self.clock.instant(self.leave_at.map_or(at, |leave| leave.min(at)));
            let Ok(incoming) = timeout_at(until, self.port.next()).await else {
                self.leave_when_due().await;
                if self.clock.now().has_reached(at) {
                    return Woken::Time;
                }
                continue;
            };
            let connected = matches!(incoming, Incoming::Link(LinkEvent::Connected));
            self.keep(incoming);
            if connected {
                return Woken::Connected;
            }
            if self.urgent {
                return Woken::Event;
            }
        }
    }

    /// Waits until `at` at most for the connection to be there again. Whether it is.
    pub async fn reconnected(&mut self, at: Stamp) -> bool {
        let at = self.clock.instant(at);
        while !self.port.connected() {
            let Ok(incoming) = timeout_at(at, self.port.next()).await else { return false };
            self.keep(incoming);
        }
        true
    }

    /// Leaves a server that is about to stop, once the time has come and where another one is known.
    async fn leave_when_due(&mut self) {
        let now = self.clock.now();
        if !self.leave_at.is_some_and(|leave| now.has_reached(leave)) {
            return;
        }
        let left = timeout(SEND_MAX, self.port.leave()).await.unwrap_or(false);
        self.leave_at = None;
        self.moving_until = left.then(|| self.clock.now().plus(MOVE_MAX));
    }

    /// Waits for the connection to another server, where one was just left.
    async fn moved(&mut self) {
        while let Some(until) = self.moving_until {
            match timeout_at(self.clock.instant(until), self.port.next()).await {
                Ok(incoming) => self.keep(incoming),
                Err(_) => self.moving_until = None,
            }
        }
    }

    /// What happened to the connection that is not the collector's own concern, and every loss and return of it.
    pub fn take_news(&mut self) -> VecDeque<LinkEvent> {
        std::mem::take(&mut self.news)
    }

    /// The payloads of the last epoch, when they are kept.
    pub fn take_raw(&mut self) -> Raw {
        std::mem::take(&mut self.raw)
    }

    /// How many connections there have been.
    pub fn generation(&self) -> u64 {
        self.port.generation()
    }

    /// The name of the server at the other end; empty when not known.
    pub fn server_name(&self) -> String {
        self.port.server_name()
    }

    /// What kept this epoch from seeing anything, if anything did.
    pub fn trouble(&self, gathered: &Gathered) -> Option<Trouble> {
        let refused = |right| self.rights.is_refused(right);
        Trouble::of(gathered, refused(Right::Jsz), refused(Right::Inbox))
    }

    /// Takes in what is there already. To be called when something else was waited for in between.
    pub fn drain(&mut self) {
        for _ in 0..crate::epoch::REPLIES_MAX {
            let Some(incoming) = self.port.ready() else { return };
            self.keep(incoming);
        }
    }

    fn keep(&mut self, incoming: Incoming) {
        let now = self.clock.now();
        match incoming {
            Incoming::Reply(message) => self.kept.reply(now, &message),
            Incoming::Stop(message) => {
                self.urgent = true;
                self.kept.stop(now, &message);
            }
            Incoming::Elected => self.urgent = true,
            Incoming::Link(event) => {
                if event == LinkEvent::SlowConsumer {
                    self.kept.lost();
                }
                self.note(event, now);
            }
        }
    }

    /// Whether there is any use in asking. Rights that were refused a while ago are tried again.
    async fn may_see(&mut self, now: Stamp) -> bool {
        if !self.rights.may(Right::Jsz, now) || !self.rights.may(Right::Inbox, now) {
            return false;
        }
        self.rights.try_again(Right::Jsz);
        for (right, ear) in EARS {
            // A refused subscription does not exist in the server: it takes a new one.
            if self.rights.is_refused(right) && self.rights.may(right, now) {
                self.rights.try_again(right);
                self.port.listen(ear).await;
            }
        }
        true
    }

    async fn ask(&mut self, number: u64, learning: bool, ask_statsz: bool) {
        let now = self.clock.now();
        let asking = async {
            let inbox = self.port.inbox().to_owned();
            let statsz = || Token::Statsz(number).subject(&inbox);
            self.port.ask(PING_JSZ, Token::Jsz(number).subject(&inbox)).await;
            let server = if learning { self.port.server_id() } else { String::new() };
            if !server.is_empty() && self.rights.may(Right::OwnStatsz, now) {
                self.port.ask(&format!("$SYS.REQ.SERVER.{server}.STATSZ"), statsz()).await;
            }
            if ask_statsz {
                self.port.ask(PING_STATSZ, statsz()).await;
            }
        };
        if timeout(SEND_MAX, asking).await.is_err() {
            tracing::debug!(epoch = number, "the connection does not take the request");
        }
    }

    /// Hears until the epoch is over.
    async fn hear_out(&mut self, mut open: Open) -> Gathered {
        let ended = loop {
            let now = self.clock.now();
            if let Some(ended) = open.epoch.ended(now) {
                break ended;
            }
            let wake = self.clock.instant(open.epoch.wake_at());
            match timeout_at(wake, self.port.next()).await {
                Ok(incoming) => self.hear_batch(&mut open, incoming),
                Err(_) => self.last_chance(&mut open, wake).await,
            }
        };
        open.epoch.close(self.clock.now(), ended)
    }

    fn hear_batch(&mut self, open: &mut Open, first: Incoming) {
        self.hear(open, first);
        for _ in 1..BATCH {
            let Some(incoming) = self.port.ready() else { return };
            self.hear(open, incoming);
        }
    }

    /// Before time runs out, what has arrived is heard: the silence may be our own.
    async fn last_chance(&mut self, open: &mut Open, wake: tokio::time::Instant) {
        tokio::task::yield_now().await;
        let overslept = self.clock.instant(self.clock.now()).duration_since(wake) > OVERSLEPT;
        if overslept {
            let until = self.clock.instant(self.clock.now().plus(GRACE));
            for _ in 0..crate::epoch::REPLIES_MAX {
                let Ok(incoming) = timeout_at(until, self.port.next()).await else { break };
                self.hear(open, incoming);
            }
        } else if let Some(incoming) = self.port.ready() {
            self.hear_batch(open, incoming);
        }
        if !self.port.connected() {
            open.epoch.hear(self.clock.now(), Heard::Disconnected);
        }
    }

    fn hear(&mut self, open: &mut Open, incoming: Incoming) {
        let now = self.clock.now();
        match incoming {
            Incoming::Reply(message) => self.hear_reply(open, now, &message),
            Incoming::Elected => self.urgent = true,
            Incoming::Stop(message) => {
                self.urgent = true;
                let (subject, payload) = (message.subject.as_str(), &message.payload[..]);
                if self.also.raw {
                    self.raw.event(now, subject, payload);
                }
                open.epoch.hear(now, Heard::Event { at: now, subject, payload });
            }
            Incoming::Link(event) => {
                let heard = match &event {
                    // It may tell of a loss before this epoch, which is mended.
                    LinkEvent::Disconnected
                        if self.port.connected() && self.port.generation() == open.generation =>
                    {
                        None
                    }
                    LinkEvent::Disconnected | LinkEvent::Closed => Some(Heard::Disconnected),
                    LinkEvent::SlowConsumer => Some(Heard::Dropped),
                    LinkEvent::Connected
                    | LinkEvent::PermissionDenied { .. }
                    | LinkEvent::AuthorizationViolation
                    | LinkEvent::LameDuck
                    | LinkEvent::Error(_) => None,
                };
                self.note(event, now);
                let denied = self.rights.is_refused(Right::Jsz) || self.rights.is_refused(Right::Inbox);
                if let Some(heard) = heard.or_else(|| denied.then_some(Heard::Denied)) {
                    open.epoch.hear(now, heard);
                }
            }
        }
    }

    fn hear_reply(&mut self, open: &mut Open, now: Stamp, message: &Message) {
        let payload = &message.payload[..];
        let heard = match (reply::token(&message.subject, self.port.inbox()), message.status) {
            (Some(Token::Jsz(epoch)), Some(StatusCode::NO_RESPONDERS)) => Heard::NoResponders { epoch },
            (Some(Token::Statsz(_)), Some(StatusCode::NO_RESPONDERS)) => return,
            (None, _) | (_, Some(_)) => Heard::Unexpected,
            (Some(Token::Jsz(epoch)), None) => {
                if self.also.raw && epoch == open.number {
                    self.raw.jsz(payload);
                }
                Heard::Jsz { epoch, payload }
            }
            (Some(Token::Statsz(epoch)), None) => {
                if self.also.raw && epoch == open.number {
                    self.raw.statsz(payload);
                }
                Heard::Statsz { epoch, payload }
            }
        };
        open.epoch.hear(now, heard);
    }

    fn tell_kept(&mut self, open: &mut Open) {
        let (now, raw, wanted) = (self.clock.now(), &mut self.raw, self.also.raw);
        self.kept.tell(&mut open.epoch, now, self.port.inbox(), |at, subject, payload| {
            if wanted {
                raw.event(at, subject, payload);
            }
        });
    }

    /// Takes what happened to the connection; what others may want to know is kept for them.
    fn note(&mut self, event: LinkEvent, now: Stamp) {
        match &event {
            LinkEvent::Connected => {
                self.rights.reset();
                (self.leave_at, self.moving_until) = (None, None);
            }
            LinkEvent::PermissionDenied { operation, subject } => {
                if let Some(right) = Right::of(*operation, subject, self.port.inbox()) {
                    return self.rights.refuse(right, subject, now);
                }
            }
            LinkEvent::Disconnected | LinkEvent::Closed => {}
            LinkEvent::LameDuck => {
                self.leave_at.get_or_insert(now.plus(LAME_DUCK_STAY));
                return;
            }
            LinkEvent::SlowConsumer | LinkEvent::AuthorizationViolation | LinkEvent::Error(_) => return,
        }
        if self.news.len() < NEWS_MAX {
            self.news.push_back(event);
        }
    }
}

/// The epoch that is open.
#[derive(Debug)]
struct Open {
    number: u64,
    /// The connection it was opened on.
    generation: u64,
    epoch: Epoch,
}
