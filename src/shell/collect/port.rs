//! The collector's door to NATS: what goes out and what comes in, and nothing that decides.

use std::future::Future;
use std::sync::atomic::Ordering;

use async_nats::connection::State;
use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use crate::shell::connect::{Link, LinkEvent};

/// Something that came in.
#[derive(Debug)]
pub enum Incoming {
    /// A message on the inbox.
    Reply(Message),
    /// An event of a server that stops.
    Stop(Message),
    /// A meta group has elected a leader.
    Elected,
    /// Something happened to the connection.
    Link(LinkEvent),
}

/// What the collector listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ear {
    /// The replies: `<inbox>.*.*`.
    Inbox,
    /// `$SYS.SERVER.*.SHUTDOWN`.
    Shutdown,
    /// `$SYS.SERVER.*.LAMEDUCK`.
    Lameduck,
    /// `$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED`.
    Elected,
}

/// The way to the servers. Tests put their own in its place.
pub trait Port {
    /// The next thing that comes in. Nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Incoming>;
    /// What has come in already, without waiting.
    fn ready(&mut self) -> Option<Incoming>;
    /// Publishes an empty request. What cannot be sent is lost.
    fn ask(&mut self, subject: &str, reply: String) -> impl Future<Output = ()>;
    /// Listens, or listens again where the server refused it before.
    fn listen(&mut self, ear: Ear) -> impl Future<Output = ()>;
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
pub struct NatsPort {
    client: Client,
    events: mpsc::Receiver<LinkEvent>,
    inbox: String,
    replies: Option<Subscriber>,
    shutdowns: Option<Subscriber>,
    lameducks: Option<Subscriber>,
    elections: Option<Subscriber>,
}

impl NatsPort {
    /// Takes over the connection. It listens to nothing yet.
    pub fn new(link: Link) -> Self {
        let Link { client, events } = link;
        let inbox = client.new_inbox();
        Self { client, events, inbox, replies: None, shutdowns: None, lameducks: None, elections: None }
    }

    /// The client, to publish with.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Port for NatsPort {
    async fn next(&mut self) -> Incoming {
        tokio::select! {
            // What the connection went through matters for what came over it.
            biased;
            Some(event) = self.events.recv() => Incoming::Link(event),
            message = from(&mut self.replies) => Incoming::Reply(message),
            message = from(&mut self.shutdowns) => Incoming::Stop(message),
            message = from(&mut self.lameducks) => Incoming::Stop(message),
            _ = from(&mut self.elections) => Incoming::Elected,
        }
    }

    fn ready(&mut self) -> Option<Incoming> {
        self.next().now_or_never()
    }

    async fn ask(&mut self, subject: &str, reply: String) {
        if let Err(error) = self.client.publish_with_reply(subject.to_owned(), reply, "".into()).await {
            tracing::debug!(%error, subject, "a request could not be sent");
        }
    }

    async fn listen(&mut self, ear: Ear) {
        let subject = ear.subject(&self.inbox);
        let subscriber = match self.client.subscribe(subject).await {
            Ok(subscriber) => Some(subscriber),
            Err(error) => {
                tracing::warn!(%error, ?ear, "cannot subscribe");
                None
            }
        };
        match ear {
            Ear::Inbox => self.replies = subscriber,
            Ear::Shutdown => self.shutdowns = subscriber,
            Ear::Lameduck => self.lameducks = subscriber,
            Ear::Elected => self.elections = subscriber,
        }
    }

    fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn generation(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn server_id(&self) -> String {
        self.client.server_info().server_id
    }

    fn server_name(&self) -> String {
        self.client.server_info().server_name
    }

    fn inbox(&self) -> &str {
        &self.inbox
    }
}

impl Ear {
    /// What is subscribed.
    pub(super) fn subject(self, inbox: &str) -> String {
        match self {
            Self::Inbox => format!("{inbox}.*.*"),
            Self::Shutdown => "$SYS.SERVER.*.SHUTDOWN".to_owned(),
            Self::Lameduck => "$SYS.SERVER.*.LAMEDUCK".to_owned(),
            Self::Elected => "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED".to_owned(),
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
