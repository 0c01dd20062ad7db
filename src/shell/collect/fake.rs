//! A port without servers: a test says what comes in, and sees what went out.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::transport::{Incoming, Subscription, Transport};
use crate::shell::connect::LinkEvent;

/// What the test and the port share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) asked: Vec<String>,
    pub(crate) listened: Vec<Subscription>,
    pub(crate) disconnected: bool,
    pub(crate) generation: u64,
    /// No other server is known.
    pub(crate) alone: bool,
    /// How often the server was left.
    pub(crate) left: u32,
    /// Answers to each request with this subject, after this time; the request's reply subject is filled in.
    pub(crate) answers: BTreeMap<String, Vec<(Duration, Answer)>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Payload(String),
    Status(StatusCode),
}

/// The test's end.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) world: Arc<Mutex<World>>,
    sender: mpsc::Sender<Incoming>,
}

/// The collector's end.
#[derive(Debug)]
pub(crate) struct FakeTransport {
    world: Arc<Mutex<World>>,
    incoming: mpsc::Receiver<Incoming>,
    due: VecDeque<(Instant, Incoming)>,
    now: fn() -> Instant,
}

pub(crate) fn fake() -> (Fake, FakeTransport) {
    let (sender, incoming) = mpsc::channel(100_000);
    let world = Arc::new(Mutex::new(World::default()));
    let now = || {
        let clock = crate::shell::clock::Clock::new();
        clock.instant(clock.now())
    };
    (Fake { world: world.clone(), sender }, FakeTransport { world, incoming, due: VecDeque::new(), now })
}

pub(crate) fn message(subject: &str, payload: &str, status: Option<StatusCode>) -> Message {
    let payload = payload.to_owned();
    Message {
        subject: subject.into(),
        reply: None,
        length: payload.len(),
        payload: payload.into(),
        headers: None,
        status,
        description: None,
    }
}

impl Fake {
    pub(crate) fn arrives(&self, incoming: Incoming) {
        self.sender.try_send(incoming).expect("room");
    }

    pub(crate) fn link(&self, event: LinkEvent) {
        self.arrives(Incoming::Link(event));
    }

    pub(crate) fn reply(&self, subject: &str, payload: &str) {
        self.arrives(Incoming::Reply(message(subject, payload, None)));
    }

    pub(crate) fn stop(&self, name: &str) {
        let payload = format!(r#"{{"name":"{name}","id":"N{name}","cluster":"c1","seq":9}}"#);
        self.arrives(Incoming::ServerEvent(message(
            &format!("$SYS.SERVER.N{name}.SHUTDOWN"),
            &payload,
            None,
        )));
    }

    pub(crate) fn elect(&self, name: &str) {
        let payload = format!(r#"{{"leader":"{}","cluster":"c1"}}"#, crate::name::PeerId::of_server(name));
        self.arrives(Incoming::Elected(message(crate::wire::ELECTIONS, &payload, None)));
    }

    pub(crate) fn answers(&self, request: &str, answers: Vec<(u64, Answer)>) {
        let answers = answers.into_iter().map(|(millis, answer)| (Duration::from_millis(millis), answer));
        self.world.lock().unwrap().answers.insert(request.to_owned(), answers.collect());
    }

    /// What was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.world.lock().unwrap().asked)
    }
}

impl Transport for FakeTransport {
    async fn next(&mut self) -> Incoming {
        loop {
            let first = self.due.front().map(|(at, _)| *at);
            let timer = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(incoming) = self.incoming.recv() => return incoming,
                () = timer => if let Some((_, incoming)) = self.due.pop_front() { return incoming },
            }
        }
    }

    fn ready(&mut self) -> Option<Incoming> {
        self.next().now_or_never()
    }

    fn ask(&mut self, subject: &str, reply: String) -> impl Future<Output = bool> {
        let now = (self.now)();
        let mut world = self.world.lock().unwrap();
        world.asked.push(format!("{subject} {reply}"));
        for (after, answer) in world.answers.get(subject).into_iter().flatten() {
            let (payload, status) = match answer {
                Answer::Payload(payload) => (payload.as_str(), None),
                Answer::Status(status) => ("", Some(*status)),
            };
            self.due.push_back((now + *after, Incoming::Reply(message(&reply, payload, status))));
        }
        self.due.make_contiguous().sort_by_key(|(at, _)| *at);
        std::future::ready(true)
    }

    fn listen(&mut self, subscription: Subscription) -> impl Future<Output = ()> {
        self.world.lock().unwrap().listened.push(subscription);
        std::future::ready(())
    }

    fn leave(&mut self) -> impl Future<Output = bool> {
        let mut world = self.world.lock().unwrap();
        world.left += u32::from(!world.alone);
        std::future::ready(!world.alone)
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn connected(&self) -> bool {
        !self.world.lock().unwrap().disconnected
    }

    fn generation(&self) -> u64 {
        self.world.lock().unwrap().generation
    }

    fn server_id(&self) -> String {
        "NOWN".to_owned()
    }

    fn server_name(&self) -> String {
        "s1".to_owned()
    }

    fn inbox(&self) -> &str {
        "_INBOX.t"
    }
}

/// The reply of a member of a group of three, which follows `leader` or leads itself; `offline` is who the leader
/// flags.
pub(crate) fn jsz(name: &str, leader: Option<&str>, offline: &[&str]) -> Answer {
    let rows: Vec<String> = ["s1", "s2", "s3"]
        .iter()
        .filter(|peer| **peer != name && leader == Some(name))
        .map(|peer| {
            let id = crate::name::PeerId::of_server(peer);
            let off = offline.contains(peer);
            let flag = if off { r#""offline":true,"# } else { "" };
            format!(r#"{{"name":"{peer}","current":{},{flag}"active":500000000,"peer":"{id}"}}"#, !off)
        })
        .collect();
    let led = leader.map_or(String::new(), |leader| {
        let id = crate::name::PeerId::of_server(leader);
        format!(r#""leader":"{leader}","peer":"{id}","#)
    });
    let replicas =
        if rows.is_empty() { String::new() } else { format!(r#""replicas":[{}],"#, rows.join(",")) };
    Answer::Payload(format!(
        r#"{{"server":{{"name":"{name}","id":"N{name}","cluster":"c1","ver":"2.14.6","seq":7}},"data":{{"meta_cluster":{{"name":"c1",{led}{replicas}"cluster_size":3}}}}}}"#
    ))
}

/// The reply to `STATSZ` of a server of a system of three.
pub(crate) fn statsz(name: &str) -> Answer {
    Answer::Payload(format!(
        r#"{{"server":{{"name":"{name}","id":"N{name}","cluster":"c1","seq":8}},"statsz":{{"active_servers":3}}}}"#
    ))
}
