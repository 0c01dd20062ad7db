//! Asks the servers and hears them: drives one [`Epoch`] after the other, and listens in between.
//!
//! It decides nothing about the cluster. [`Collector::epoch`] ends when the epoch says so, within one absolute
//! deadline; without a connection or without the rights it ends at once and says why. What arrives between two
//! epochs is kept, within limits, and told to the next one.

mod backlog;
mod capture;
mod diagnose_access;
#[cfg(test)]
pub(crate) mod fake;
mod permissions;
mod reply;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use tokio::time::{timeout, timeout_at};

pub use capture::Capture;
pub use diagnose_access::{Access, Trouble};
pub use transport::{Incoming, NatsTransport, Subscription, Transport};

use crate::daemon::LossKind;
use crate::epoch::{Epoch, Gathered, Heard, LastReplies, Plan};
use crate::shell::clock::Clock;
use crate::shell::connect::{Link, LinkEvent};
use crate::stamp::Stamp;
use backlog::Backlog;
use permissions::{Permission, Permissions, SUBSCRIPTIONS};
use reply::Token;

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
pub enum WakeReason {
    /// The time has come.
    Time,
    /// A server announced that it stops, or told of its storage or its membership: the next epoch will hear of it.
    Event,
    /// The connection is there again.
    Connected,
}

/// What a collector does besides asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollectorOptions {
    /// It listens to the events of servers.
    pub events: bool,
    /// It keeps the payloads of each epoch for [`Collector::take_capture`].
    pub raw: bool,
    /// Epoch follows epoch: what servers answered is kept, to know what has not changed.
    pub again: bool,
}

/// Asks the servers and hears them. One epoch at a time.
#[derive(Debug)]
pub struct Collector<P = NatsTransport> {
    transport: P,
    clock: Clock,
    options: CollectorOptions,
    permissions: Permissions,
    backlog: Backlog,
    news: VecDeque<LinkEvent>,
    /// News that had no room.
    news_dropped: u64,
    /// Questions that the client did not take.
    unsent: u64,
    capture: Capture,
    /// What was answered in the last epochs.
    last_replies: LastReplies,
    /// Something has come since the last epoch opened that makes the next one urgent: an event of a server, an
    /// election.
    urgent: bool,
    /// When the server at the other end is to be left.
    leave_at: Option<Stamp>,
    /// A server was left, and the connection to another one is waited for until then.
    moving_until: Option<Stamp>,
}

impl Collector<NatsTransport> {
    /// A collector on this connection, which it takes over.
    pub async fn new(link: Link, clock: Clock, options: CollectorOptions) -> Self {
        Self::on(NatsTransport::new(link), clock, options).await
    }

    /// The client, to publish with.
    pub fn client(&self) -> &Client {
        self.transport.client()
    }

    /// Sends what is left, and ends the connection.
    pub async fn close(mut self) {
        if let Err(error) = self.transport.client().drain().await {
            return tracing::debug!(%error, "the connection has ended already");
        }
        while !matches!(self.transport.next().await, Incoming::Link(LinkEvent::Closed)) {}
    }
}

impl<P: Transport> Collector<P> {
    /// A collector on any port.
    pub async fn on(mut transport: P, clock: Clock, options: CollectorOptions) -> Self {
        transport.listen(Subscription::Inbox).await;
        if options.events {
            transport.listen(Subscription::Shutdown).await;
            transport.listen(Subscription::Lameduck).await;
            transport.listen(Subscription::Elected).await;
            transport.listen(Subscription::Advisories).await;
        }
        Self {
            transport,
            clock,
            options,
            permissions: Permissions::default(),
            backlog: Backlog::default(),
            news: VecDeque::new(),
            news_dropped: 0,
            unsent: 0,
            capture: Capture::default(),
            last_replies: if options.again { LastReplies::new() } else { LastReplies::default() },
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
        plan.ask_statsz &= self.permissions.may(Permission::PingStatsz, now);
        let may_ask = self.transport.connected() && self.may_see(now).await;
        let number = plan.number;
        let (learning, ask_statsz) = (plan.learning, plan.ask_statsz);
        self.capture = Capture::of(self.transport.server_name());
        let (generation, opened) = (self.transport.generation(), self.clock.now());
        let last_replies = std::mem::take(&mut self.last_replies);
        let mut open = Open { number, generation, epoch: Epoch::open_after(plan, opened, last_replies) };
        self.tell_backlog(&mut open);
        if may_ask {
            self.ask(number, learning, ask_statsz).await;
        } else {
            let why = if self.transport.connected() { Heard::Denied } else { Heard::Disconnected };
            open.epoch.hear(self.clock.now(), why);
        }
        self.hear_out(open).await
    }

    /// Listens until `at`, or until something makes the next epoch urgent.
    pub async fn idle_until(&mut self, at: Stamp) -> WakeReason {
        self.listen(at, true).await
    }

    /// Listens until `at`, or until the connection is there again, whatever else comes.
    pub async fn listen_until(&mut self, at: Stamp) -> WakeReason {
        self.listen(at, false).await
    }

    async fn listen(&mut self, at: Stamp, or_urgent: bool) -> WakeReason {
        if self.urgent && or_urgent {
            return WakeReason::Event;
        }
        loop {
            let until = self.clock.instant(self.leave_at.map_or(at, |leave| leave.min(at)));
            let Ok(incoming) = timeout_at(until, self.transport.next()).await else {
                self.leave_when_due().await;
                if self.clock.now().has_reached(at) {
                    return WakeReason::Time;
                }
                continue;
            };
            let connected = matches!(incoming, Incoming::Link(LinkEvent::Connected));
            self.keep(incoming);
            if connected {
                return WakeReason::Connected;
            }
            if self.urgent && or_urgent {
                return WakeReason::Event;
            }
        }
    }

    /// Waits until `at` at most for the connection to be there again. Whether it is.
    pub async fn reconnected(&mut self, at: Stamp) -> bool {
        let at = self.clock.instant(at);
        while !self.transport.connected() {
            let Ok(incoming) = timeout_at(at, self.transport.next()).await else { return false };
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
        let left = timeout(SEND_MAX, self.transport.leave()).await.unwrap_or(false);
        self.leave_at = None;
        self.moving_until = left.then(|| self.clock.now().plus(MOVE_MAX));
    }

    /// Waits for the connection to another server, where one was just left.
    async fn moved(&mut self) {
        while let Some(until) = self.moving_until {
            match timeout_at(self.clock.instant(until), self.transport.next()).await {
                Ok(incoming) => self.keep(incoming),
                Err(_) => self.moving_until = None,
            }
        }
    }

    /// What happened to the connection that is not the collector's own concern, and every loss and return of it.
    pub fn take_news(&mut self) -> VecDeque<LinkEvent> {
        std::mem::take(&mut self.news)
    }

    /// What was lost since the start on the way to the servers and back.
    pub fn lost(&self) -> [(LossKind, u64); 2] {
        let events = self.news_dropped.saturating_add(self.transport.dropped());
        [(LossKind::Questions, self.unsent), (LossKind::ConnectionEvents, events)]
    }

    /// The payloads of the last epoch, when they are kept.
    pub fn take_capture(&mut self) -> Capture {
        std::mem::take(&mut self.capture)
    }

    /// How many connections there have been.
    pub fn generation(&self) -> u64 {
        self.transport.generation()
    }

    /// The name of the server at the other end; empty when not known.
    pub fn server_name(&self) -> String {
        self.transport.server_name()
    }

    /// What kept this epoch from seeing anything, if anything did.
    pub fn trouble(&self, gathered: &Gathered) -> Option<Trouble> {
        let refused = |permission| self.permissions.is_refused(permission);
        Trouble::of(gathered, refused(Permission::Jsz), refused(Permission::Inbox))
    }

    /// Takes in what is there already. To be called when something else was waited for in between.
    pub fn drain(&mut self) {
        for _ in 0..crate::epoch::REPLIES_MAX {
            let Some(incoming) = self.transport.ready() else { return };
            self.keep(incoming);
        }
    }

    fn keep(&mut self, incoming: Incoming) {
        let now = self.clock.now();
        match incoming {
            Incoming::Reply(message) => self.backlog.reply(now, &message),
            Incoming::ServerEvent(message) => {
                self.urgent = true;
                self.backlog.event(now, &message);
            }
            Incoming::Elected(message) => {
                self.urgent = true;
                self.backlog.election(now, &message);
            }
            Incoming::Link(event) => {
                if event == LinkEvent::SlowConsumer {
                    self.backlog.lost();
                }
                self.note(event, now);
            }
        }
    }

    /// Whether there is any use in asking. Permissions that were refused a while ago are tried again.
    async fn may_see(&mut self, now: Stamp) -> bool {
        if !self.permissions.may(Permission::Jsz, now) || !self.permissions.may(Permission::Inbox, now) {
            return false;
        }
        self.permissions.try_again(Permission::Jsz);
        for (permission, subscription) in SUBSCRIPTIONS {
            // A refused subscription does not exist in the server: it takes a new one.
            if self.permissions.is_refused(permission) && self.permissions.may(permission, now) {
                self.permissions.try_again(permission);
                self.transport.listen(subscription).await;
            }
        }
        true
    }

    async fn ask(&mut self, number: u64, learning: bool, ask_statsz: bool) {
        let now = self.clock.now();
        let asking = async {
            let inbox = self.transport.inbox().to_owned();
            let statsz = || Token::Statsz(number).subject(&inbox);
            let mut sent = self.transport.ask(PING_JSZ, Token::Jsz(number).subject(&inbox)).await;
            let server = if learning { self.transport.server_id() } else { String::new() };
            if !server.is_empty() && self.permissions.may(Permission::OwnStatsz, now) {
                sent &= self.transport.ask(&format!("$SYS.REQ.SERVER.{server}.STATSZ"), statsz()).await;
            }
            if ask_statsz {
                sent &= self.transport.ask(PING_STATSZ, statsz()).await;
            }
            sent
        };
        if !timeout(SEND_MAX, asking).await.unwrap_or(false) {
            self.unsent += 1;
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
            match timeout_at(wake, self.transport.next()).await {
                Ok(incoming) => self.hear_batch(&mut open, incoming),
                Err(_) => self.last_chance(&mut open, wake).await,
            }
        };
        let (gathered, last_replies) = open.epoch.close_with_replies(self.clock.now(), ended);
        self.last_replies = last_replies;
        gathered
    }

    /// Hears what is there. All of it came by now: the clock is read once for many.
    fn hear_batch(&mut self, open: &mut Open, first: Incoming) {
        let now = self.clock.now();
        self.hear(open, now, first);
        for _ in 1..BATCH {
            let Some(incoming) = self.transport.ready() else { return };
            self.hear(open, now, incoming);
        }
    }

    /// Before time runs out, what has arrived is heard: the silence may be our own.
    async fn last_chance(&mut self, open: &mut Open, wake: tokio::time::Instant) {
        tokio::task::yield_now().await;
        let overslept = self.clock.instant(self.clock.now()).duration_since(wake) > OVERSLEPT;
        if overslept {
            let until = self.clock.instant(self.clock.now().plus(GRACE));
            for _ in 0..crate::epoch::REPLIES_MAX {
                let Ok(incoming) = timeout_at(until, self.transport.next()).await else { break };
                self.hear(open, self.clock.now(), incoming);
            }
        } else if let Some(incoming) = self.transport.ready() {
            self.hear_batch(open, incoming);
        }
        if !self.transport.connected() {
            open.epoch.hear(self.clock.now(), Heard::Disconnected);
        }
    }

    fn hear(&mut self, open: &mut Open, now: Stamp, incoming: Incoming) {
        match incoming {
            Incoming::Reply(message) => self.hear_reply(open, now, &message),
            Incoming::ServerEvent(message) | Incoming::Elected(message) => {
                self.urgent = true;
                let (subject, payload) = (message.subject.as_str(), &message.payload[..]);
                if self.options.raw {
                    self.capture.event(now, subject, payload);
                }
                open.epoch.hear(now, Heard::Event { at: now, subject, payload });
            }
            Incoming::Link(event) => {
                let heard = match &event {
                    // It may tell of a loss before this epoch, which is mended.
                    LinkEvent::Disconnected
                        if self.transport.connected() && self.transport.generation() == open.generation =>
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
                let denied = self.permissions.is_refused(Permission::Jsz)
                    || self.permissions.is_refused(Permission::Inbox);
                if let Some(heard) = heard.or_else(|| denied.then_some(Heard::Denied)) {
                    open.epoch.hear(now, heard);
                }
            }
        }
    }

    fn hear_reply(&mut self, open: &mut Open, now: Stamp, message: &Message) {
        let payload = &message.payload[..];
        let heard = match (reply::token(&message.subject, self.transport.inbox()), message.status) {
            (Some(Token::Jsz(epoch)), Some(StatusCode::NO_RESPONDERS)) => Heard::NoResponders { epoch },
            (Some(Token::Statsz(_)), Some(StatusCode::NO_RESPONDERS)) => return,
            (None, _) | (_, Some(_)) => Heard::Unexpected,
            (Some(Token::Jsz(epoch)), None) => {
                if self.options.raw && epoch == open.number {
                    self.capture.jsz(payload);
                }
                Heard::Jsz { epoch, payload }
            }
            (Some(Token::Statsz(epoch)), None) => {
                if self.options.raw && epoch == open.number {
                    self.capture.statsz(payload);
                }
                Heard::Statsz { epoch, payload }
            }
        };
        open.epoch.hear(now, heard);
    }

    fn tell_backlog(&mut self, open: &mut Open) {
        let (now, raw, wanted) = (self.clock.now(), &mut self.capture, self.options.raw);
        self.backlog.tell(&mut open.epoch, now, self.transport.inbox(), |at, subject, payload| {
            if wanted {
                raw.event(at, subject, payload);
            }
        });
    }

    /// Takes what happened to the connection; what others may want to know is kept for them.
    fn note(&mut self, event: LinkEvent, now: Stamp) {
        match &event {
            LinkEvent::Connected => {
                self.permissions.reset();
                (self.leave_at, self.moving_until) = (None, None);
            }
            LinkEvent::PermissionDenied { operation, subject } => {
                if let Some(permission) = Permission::of(*operation, subject, self.transport.inbox()) {
                    return self.permissions.refuse(permission, subject, now);
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
        } else {
            self.news_dropped += 1;
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
