//! What comes in while no epoch is open: late replies and events. The next epoch hears it.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Message;

use super::reply::{self, Token};
use crate::epoch::{Epoch, Heard};
use crate::stamp::Stamp;

/// More messages than this are not kept.
const MESSAGES_MAX: usize = 4_096;
/// More bytes than this are not kept.
const BYTES_MAX: usize = 16 << 20;
/// No more late replies than this, so that events have room. An epoch looks at so many of them as examples.
const REPLIES_MAX: usize = 256;

/// No more elections than this: nobody elects so often, and whoever says so anyway keeps nothing else out.
const ELECTIONS_MAX: usize = 64;
/// A message is kept for so long, which is longer than any epoch is away from the next one where a watcher looks.
const KEPT_MAX: Duration = Duration::from_secs(600);

/// A message with the time of its arrival. The payload is a copy: the original pins a whole read buffer.
#[derive(Debug)]
struct BufferedMessage {
    at: Stamp,
    kind: Kind,
    subject: String,
    payload: Vec<u8>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reply,
    Event,
    Election,
}

/// The messages between two epochs, and whether any was lost.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    messages: VecDeque<BufferedMessage>,
    bytes: usize,
    replies: usize,
    elections: usize,
    /// Further late replies, which are counted and not kept.
    further: u64,
    dropped: bool,
}

impl Backlog {
    /// Keeps a reply that belongs to no open epoch.
    pub(super) fn reply(&mut self, at: Stamp, message: &Message) {
        // What is not a reply has no content to keep.
        if message.status.is_some() {
            return;
        }
        // It answers an epoch that is over: a burst of such replies costs the next one nothing.
        if self.replies >= REPLIES_MAX {
            self.further += 1;
            return;
        }
        self.replies += 1;
        self.keep(at, Kind::Reply, message);
    }

    /// Keeps an event of a server.
    pub(super) fn event(&mut self, at: Stamp, message: &Message) {
        self.keep(at, Kind::Event, message);
    }

    /// Keeps the word on an election. It counts beside what the servers answer, so that one that has no room costs
    /// nothing but itself.
    pub(super) fn election(&mut self, at: Stamp, message: &Message) {
        if self.elections < ELECTIONS_MAX {
            self.elections += 1;
            self.keep(at, Kind::Election, message);
        }
    }

    /// Remembers that messages were lost.
    pub(super) fn lost(&mut self) {
        self.dropped = true;
    }

    fn keep(&mut self, at: Stamp, kind: Kind, message: &Message) {
        self.forget_before(at);
        let bytes = self.bytes.saturating_add(message.payload.len());
        if self.messages.len() >= MESSAGES_MAX || bytes > BYTES_MAX {
            self.dropped = true;
            return;
        }
        self.bytes = bytes;
        let (subject, payload) = (message.subject.to_string(), message.payload.to_vec());
        self.messages.push_back(BufferedMessage { at, kind, subject, payload });
    }

    /// Where no epoch has been opened for long, another watcher has heard what is old.
    fn forget_before(&mut self, now: Stamp) {
        let is_old = |oldest: &BufferedMessage| now.since(oldest.at) > KEPT_MAX;
        while self.messages.front().is_some_and(is_old)
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(oldest.payload.len());
            self.replies = self.replies.saturating_sub(usize::from(oldest.kind == Kind::Reply));
            self.elections = self.elections.saturating_sub(usize::from(oldest.kind == Kind::Election));
        }
    }

    /// Tells an epoch everything; `on_event` sees the events.
    pub(super) fn tell(
        &mut self,
        epoch: &mut Epoch,
        now: Stamp,
        inbox: &str,
        mut on_event: impl FnMut(Stamp, &str, &[u8]),
    ) {
        for BufferedMessage { at, kind, subject, payload } in self.messages.drain(..) {
            let payload = &payload[..];
            let heard = if kind != Kind::Reply {
                on_event(at, &subject, payload);
                Heard::Event { at, subject: &subject, payload }
            } else {
                match reply::token(&subject, inbox) {
                    Some(Token::Jsz(epoch)) => Heard::Jsz { epoch, payload },
                    Some(Token::Statsz(epoch)) => Heard::Statsz { epoch, payload },
                    None => Heard::Unexpected,
                }
            };
            epoch.hear(at, heard);
        }
        (self.bytes, self.replies, self.elections) = (0, 0, 0);
        let replies = std::mem::take(&mut self.further);
        if replies > 0 {
            epoch.hear(now, Heard::Late { replies });
        }
        if std::mem::take(&mut self.dropped) {
            epoch.hear(now, Heard::Dropped);
        }
    }
}
