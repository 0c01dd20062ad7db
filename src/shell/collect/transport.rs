//! The collector's door to NATS: what goes out and what comes in, and nothing that decides.

use std::future::Future;
use std::sync::atomic::Ordering;

use async_nats::connection::State;
use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt, StreamExt};

use crate::shell::connect::{Link, LinkEvent};
use crate::wire::{ADVISORIES, ELECTIONS};

/// Something that came in.
#[derive(Debug)]
pub enum Incoming {
    /// A message on the inbox.
    Reply(Message),
    /// An event of a server: it stops, or tells of its storage or its membership.
    ServerEvent(Message),
    /// A meta group has elected a leader.
    Elected(Message),
    /// Something happened to the connection.
    Link(LinkEvent),
}

/// What the collector listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subscription {
    /// The replies: `<inbox>.*.*`.
    Inbox,
    /// `$SYS.SERVER.*.SHUTDOWN`.
    Shutdown,
    /// `$SYS.SERVER.*.LAMEDUCK`.
    Lameduck,
    /// `$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED`.
    Elected,
    /// `$JS.EVENT.ADVISORY.SERVER.*`.
    Advisories,
}

/// The way to the servers. Tests put their own in its place.
pub trait Transport {
    /// The next thing that comes in. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Incoming>;
    /// What has come in already, without waiting.
    fn ready(&mut self) -> Option<Incoming>;
    /// Publishes an empty request. Whether the client took it.
    fn ask(&mut self, subject: &str, reply: String) -> impl Future<Output = bool>;
    /// Listens, or listens again where the server refused it before.
    fn listen(&mut self, subscription: Subscription) -> impl Future<Output = ()>;
    /// Leaves a server that is about to stop, where another one is known. Whether it did.
    fn leave(&mut self) -> impl Future<Output = bool>;
    /// How many events of the connection had no room.
    fn dropped(&self) -> u64;
    /// Whether there is a connection now.
    fn connected(&self) -> bool;
    /// How many connections there have been: another number is another connection.
    fn generation(&self) -> u64;
    /// The id of the server at the other end; empty when not known.
    fn server_id(&self) -> String;
    /// The name of the server at the other end; empty when not known.
    fn server_name(&self) -> String;
    /// The first tokens of the subject that replies come to.
    fn inbox(&self) -> &str;
}

/// The real one.
#[derive(Debug)]
pub struct NatsTransport {
    link: Link,
    inbox: String,
    replies: Option<Subscriber>,
    shutdowns: Option<Subscriber>,
    lameducks: Option<Subscriber>,
    elections: Option<Subscriber>,
    advisories: Option<Subscriber>,
}

impl NatsTransport {
    /// Takes over the connection. It listens to nothing yet.
    pub fn new(link: Link) -> Self {
        let inbox = link.client.new_inbox();
        Self {
            link,
            inbox,
            replies: None,
            shutdowns: None,
            lameducks: None,
            elections: None,
            advisories: None,
        }
    }

    /// The client, to publish with.
    pub fn client(&self) -> &Client {
        &self.link.client
    }
}

impl Transport for NatsTransport {
    async fn next(&mut self) -> Incoming {
        let incoming = tokio::select! {
            // What the connection went through matters for what came over it.
            biased;
            Some(event) = self.link.events.recv() => return Incoming::Link(event),
            message = from(&mut self.replies) => Incoming::Reply(message),
            message = from(&mut self.shutdowns) => Incoming::ServerEvent(message),
            message = from(&mut self.lameducks) => Incoming::ServerEvent(message),
            message = from(&mut self.advisories) => Incoming::ServerEvent(message),
            message = from(&mut self.elections) => Incoming::Elected(message),
        };
        self.link.heard();
        incoming
    }

    fn ready(&mut self) -> Option<Incoming> {
        self.next().now_or_never()
    }

    async fn ask(&mut self, subject: &str, reply: String) -> bool {
        self.link.asked();
        let sent = self.link.client.publish_with_reply(subject.to_owned(), reply, "".into()).await;
        sent.inspect_err(|error| tracing::debug!(%error, subject, "a request could not be sent")).is_ok()
    }

    async fn listen(&mut self, subscription: Subscription) {
        let subject = subscription.subject(&self.inbox);
        let subscriber = match self.link.client.subscribe(subject).await {
            Ok(subscriber) => Some(subscriber),
            Err(error) => {
                tracing::warn!(%error, ?subscription, "cannot subscribe");
                None
            }
        };
        match subscription {
            Subscription::Inbox => self.replies = subscriber,
            Subscription::Shutdown => self.shutdowns = subscriber,
            Subscription::Lameduck => self.lameducks = subscriber,
            Subscription::Elected => self.elections = subscriber,
            Subscription::Advisories => self.advisories = subscriber,
        }
    }

    async fn leave(&mut self) -> bool {
        self.link.leave().await
    }

    fn dropped(&self) -> u64 {
        self.link.dropped()
    }

    fn connected(&self) -> bool {
        self.link.client.connection_state() == State::Connected
    }

    fn generation(&self) -> u64 {
        self.link.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn server_id(&self) -> String {
        self.link.client.server_info().server_id
    }

    fn server_name(&self) -> String {
        self.link.client.server_info().server_name
    }

    fn inbox(&self) -> &str {
        &self.inbox
    }
}

impl Subscription {
    /// What is subscribed.
    pub(super) fn subject(self, inbox: &str) -> String {
        match self {
            Self::Inbox => format!("{inbox}.*.*"),
            Self::Shutdown => "$SYS.SERVER.*.SHUTDOWN".to_owned(),
            Self::Lameduck => "$SYS.SERVER.*.LAMEDUCK".to_owned(),
            Self::Elected => ELECTIONS.to_owned(),
            Self::Advisories => ADVISORIES.to_owned(),
        }
    }
}

/// The next message; never, where nothing is listened to or the client has ended.
async fn from(subscriber: &mut Option<Subscriber>) -> Message {
    if let Some(subscriber) = subscriber
        && let Some(message) = subscriber.next().await
    {
        return message;
    }
    std::future::pending().await
}
