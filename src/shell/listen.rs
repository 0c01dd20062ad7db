//! Hears what watchers tell, for people: alert events, heartbeats, and when the heartbeats stop.

use std::future::Future;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use crate::alert::State;
use crate::event::heartbeat::ActiveIncident;
use crate::event::incidents::{Beside, Heard, Incidents, Missed, Quiet};
use crate::event::{AlertEvent, Heartbeat};
use crate::name::printable;
use crate::shell::clock::Clock;
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Link, LinkEvent, Operation, Retry, connect};
use crate::shell::failure::{Failure, FailureKind};
use crate::stamp::Stamp;

/// A larger payload is not read. An event is a few kilobytes.
const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// What to do besides telling.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenOptions {
    /// End after so many alerts: events, and incidents that only heartbeats told of.
    pub count: Option<u64>,
    /// Only alerts with this state are told and counted.
    pub state: Option<State>,
    /// End after this long.
    pub within: Option<Duration>,
}

/// Something that was heard, or was not.
#[derive(Debug)]
pub enum ListenEvent<'a> {
    /// The listening begins.
    Begun {
        /// On this subject.
        subject: &'a str,
        /// At this server.
        server: &'a str,
    },
    /// The first heartbeat was heard: who watches, and how things stand. It is told as a heartbeat, too.
    First(&'a Heartbeat),
    /// An alert event.
    Alert {
        /// Its subject.
        subject: &'a str,
        /// What it says.
        event: Box<AlertEvent>,
        /// The payload as it came.
        raw: &'a [u8],
    },
    /// A heartbeat.
    Heartbeat(Box<Heartbeat>),
    /// An incident that heartbeats tell of, but no event that was heard.
    Missed {
        /// When the heartbeat was sent.
        at: &'a str,
        /// On which subject.
        subject: &'a str,
        /// The incident, as it stands now.
        incident: &'a ActiveIncident,
    },
    /// A message that is neither; the words are printable.
    Unreadable {
        /// Its subject, printable.
        subject: &'a str,
        /// What is wrong with it.
        detail: String,
    },
    /// More systems speak here than can be followed. Told once.
    TooManySystems,
    /// Somebody else speaks on the same subjects. Told once.
    Beside(&'a Beside),
    /// No heartbeat since: nobody watches, or we cannot hear it. Told once.
    Quiet {
        /// Which system, where it has told.
        system: Option<String>,
        /// The last heartbeat; `None` when none was ever heard.
        since: Option<Stamp>,
        /// How long it has been.
        lasted: Duration,
    },
    /// Heartbeats are heard again.
    BackAgain {
        /// Of which system, where it tells.
        system: Option<&'a str>,
    },
}

/// Why the listening ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenEnd {
    /// It was told to.
    Stopped,
    /// As many events came as were asked for; without a number, any, within the time.
    Counted,
    /// The time is over, and fewer came.
    TimedOut,
}

/// Hears what watchers publish under `prefix`, until `shutdown` is ready or enough has come.
///
/// Every event is told once, however often it is delivered. What is open when the listening begins, and what was
/// missed while the connection was lost, is learned from heartbeats.
///
/// It fails when no connection comes about at first, and when the user may not subscribe to alerts; a connection
/// that is lost later is made again.
pub async fn listen(
    config: &ConnectConfig,
    prefix: &str,
    options: ListenOptions,
    shutdown: impl Future<Output = ()>,
    tell: &mut dyn FnMut(ListenEvent<'_>),
) -> Result<ListenEnd, Failure> {
    tokio::pin!(shutdown);
    let clock = Clock::new();
    let Link { client, mut events, .. } = connect(config, Retry::Once).await?;
    let (alerts_on, heartbeats_on) = (format!("{prefix}.alert.>"), format!("{prefix}.heartbeat"));
    let mut alerts = subscribe(&client, &alerts_on).await?;
    let mut heartbeats = subscribe(&client, &heartbeats_on).await?;
    let mut listener = Listener {
        options,
        started: clock.now(),
        incidents: Incidents::default(),
        deaf: false,
        came: 0,
        told_first: false,
    };
    tell(ListenEvent::Begun { subject: &alerts_on, server: &client.server_info().server_name });
    let over = options.within.map(|within| clock.instant(clock.now().plus(within)));
    while !listener.is_enough() {
        let quiet_at = listener.quiet_at().map(|at| clock.instant(at));
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(ListenEnd::Stopped),
            Some(event) = events.recv() => refused(&event, &alerts_on, &heartbeats_on, &mut listener.deaf)?,
            Some(message) = alerts.next() => listener.alert(&message, clock.now(), tell),
            Some(message) = heartbeats.next() => listener.heartbeat(&message, clock.now(), tell),
            () = overdue(over) => {
                let enough = options.count.is_none() && listener.came > 0;
                return Ok(if enough { ListenEnd::Counted } else { ListenEnd::TimedOut });
            }
            () = overdue(quiet_at) => listener.quiet(clock.now(), tell),
        }
    }
    Ok(ListenEnd::Counted)
}

/// What has been heard so far.
struct Listener {
    options: ListenOptions,
    started: Stamp,
    incidents: Incidents,
    /// Heartbeats cannot be heard, and that is told.
    deaf: bool,
    /// How many alerts were told.
    came: u64,
    told_first: bool,
}

impl Listener {
    fn is_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.came >= count)
    }

    fn is_wanted(&self, state: State) -> bool {
        self.options.state.is_none_or(|wanted| wanted == state)
    }

    fn alert(&mut self, message: &Message, now: Stamp, tell: &mut dyn FnMut(ListenEvent<'_>)) {
        let told = alert(message);
        if let ListenEvent::Alert { event, subject, .. } = &told {
            match self.incidents.event(event, now.since(self.started)) {
                Heard::News { .. } if self.is_wanted(event.state) => self.came += 1,
                Heard::News { .. } | Heard::Again => return,
                Heard::Unsound => {
                    let detail = format!("no event has the seq {}", event.seq);
                    return tell(ListenEvent::Unreadable { subject, detail });
                }
            }
        }
        tell(told);
    }

    /// When a quiet is to be told, unless a heartbeat comes before.
    fn quiet_at(&self) -> Option<Stamp> {
        let at = self.incidents.quiet_at().filter(|_| !self.deaf)?;
        Some(self.started.plus(at))
    }

    fn quiet(&mut self, now: Stamp, tell: &mut dyn FnMut(ListenEvent<'_>)) {
        for Quiet { system, since, lasted } in self.incidents.quiet(now.since(self.started)) {
            tell(ListenEvent::Quiet { system, since: since.map(|since| self.started.plus(since)), lasted });
        }
    }

    fn heartbeat(&mut self, message: &Message, now: Stamp, tell: &mut dyn FnMut(ListenEvent<'_>)) {
        let told = heartbeat(message);
        if let ListenEvent::Heartbeat(heartbeat) = &told {
            if !std::mem::replace(&mut self.told_first, true) {
                tell(ListenEvent::First(heartbeat));
            }
            let learned = self.incidents.heartbeat(heartbeat, now.since(self.started));
            if learned.back {
                tell(ListenEvent::BackAgain { system: heartbeat.system.as_deref() });
            }
            if learned.too_many {
                tell(ListenEvent::TooManySystems);
            }
            if let Some(beside) = &learned.beside {
                tell(ListenEvent::Beside(beside));
            }
            for Missed { incident, .. } in learned.missed {
                if self.is_wanted(incident.state) && !self.is_enough() {
                    self.came += 1;
                    tell(ListenEvent::Missed {
                        at: &heartbeat.timestamp,
                        subject: &message.subject,
                        incident: &incident,
                    });
                }
            }
        }
        tell(told);
    }
}

pub(super) async fn subscribe(client: &async_nats::Client, subject: &str) -> Result<Subscriber, Failure> {
    client.subscribe(subject.to_owned()).await.map_err(|error| {
        Failure::new(
            FailureKind::Config,
            format!("cannot subscribe to {subject}: {error}"),
            "choose another --prefix: tokens with dots between them, without wildcards or blanks",
        )
    })
}

/// Waits for a moment; for ever, where there is none.
pub(super) async fn overdue(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Without the right to hear alerts there is nothing to do here; heartbeats can be done without.
pub(super) fn refused(
    event: &LinkEvent,
    alerts: &str,
    heartbeats: &str,
    deaf: &mut bool,
) -> Result<(), Failure> {
    let LinkEvent::PermissionDenied { operation: Operation::Subscribe, subject } = event else {
        return Ok(());
    };
    let hint = format!("add {subject:?} to the user's permissions {{ subscribe: {{ allow: [ … ] }} }}");
    if subject == alerts {
        return Err(Failure::new(
            FailureKind::Permission,
            format!("this user may not subscribe to {subject}"),
            hint,
        ));
    }
    if subject == heartbeats && !std::mem::replace(deaf, true) {
        tracing::warn!(
            subject,
            hint,
            "no right to hear heartbeats: it cannot be told whether anybody watches"
        );
    }
    Ok(())
}

fn alert(message: &Message) -> ListenEvent<'_> {
    let (subject, raw) = (message.subject.as_str(), &message.payload[..]);
    match read(raw) {
        Ok(event) => ListenEvent::Alert { subject, event, raw },
        Err(detail) => ListenEvent::Unreadable { subject, detail },
    }
}

fn heartbeat(message: &Message) -> ListenEvent<'_> {
    match read(&message.payload) {
        Ok(heartbeat) => ListenEvent::Heartbeat(heartbeat),
        Err(detail) => ListenEvent::Unreadable { subject: message.subject.as_str(), detail },
    }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<Box<T>, String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("{} bytes, more than the {PAYLOAD_BYTES_MAX} that are read", payload.len()));
    }
    serde_json::from_slice(payload).map_err(|error| printable(&error.to_string()).into_owned())
}

#[cfg(test)]
mod tests;
