//! Hears what watchers tell, for people: alert events, heartbeats, and when the heartbeats stop.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use crate::alert::State;
use crate::event::heartbeat::ActiveIncident;
use crate::event::incidents::{Heard, Incidents, Missed};
use crate::event::{AlertEvent, Heartbeat};
use crate::name::printable;
use crate::shell::clock::Clock;
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Link, LinkEvent, Operation, Retry, connect};
use crate::shell::failure::{Failure, FailureKind};
use crate::stamp::Stamp;

/// A larger payload is not read. An event is a few kilobytes.
const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// Without a heartbeat for this long after the start, nobody seems to watch.
const FIRST_WITHIN: Duration = Duration::from_secs(15);
/// Watchers have gone quiet after three times the spacing of their heartbeats, within these bounds, but not before four
/// times the spacing that they promise: another one may need three to take over.
const QUIET_MIN: Duration = Duration::from_secs(10);
const QUIET_MAX: Duration = Duration::from_secs(60);
/// How many spacings are looked at; the longest counts, because something suspicious makes watchers faster.
const SPACINGS: usize = 8;
/// No watcher promises less than one heartbeat in this time.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

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
pub enum Told<'a> {
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
    /// No heartbeat since: nobody watches, or we cannot hear it. Told once.
    Quiet {
        /// The last heartbeat; `None` when none was ever heard.
        since: Option<Stamp>,
        /// How long it has been.
        lasted: Duration,
    },
    /// Heartbeats are heard again.
    BackAgain,
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
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<ListenEnd, Failure> {
    tokio::pin!(shutdown);
    let clock = Clock::new();
    let Link { client, mut events, .. } = connect(config, Retry::Once).await?;
    let (alerts_on, heartbeats_on) = (format!("{prefix}.alert.>"), format!("{prefix}.heartbeat"));
    let mut alerts = subscribe(&client, &alerts_on).await?;
    let mut heartbeats = subscribe(&client, &heartbeats_on).await?;
    let mut hearing =
        Hearing { options, pulse: Pulse::new(clock.now()), incidents: Incidents::default(), came: 0 };
    let over = options.within.map(|within| clock.instant(clock.now().plus(within)));
    while !hearing.is_enough() {
        let quiet_at = hearing.pulse.quiet_at().map(|at| clock.instant(at));
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(ListenEnd::Stopped),
            Some(event) = events.recv() => refused(&event, &alerts_on, &heartbeats_on, &mut hearing.pulse)?,
            Some(message) = alerts.next() => hearing.alert(&message, tell),
            Some(message) = heartbeats.next() => hearing.heartbeat(&message, clock.now(), tell),
            () = overdue(over) => {
                let enough = options.count.is_none() && hearing.came > 0;
                return Ok(if enough { ListenEnd::Counted } else { ListenEnd::TimedOut });
            }
            () = overdue(quiet_at) => {
                let (since, lasted) = hearing.pulse.quiet(clock.now());
                tell(Told::Quiet { since, lasted });
            }
        }
    }
    Ok(ListenEnd::Counted)
}

/// What has been heard so far.
struct Hearing {
    options: ListenOptions,
    pulse: Pulse,
    incidents: Incidents,
    /// How many alerts were told.
    came: u64,
}

impl Hearing {
    fn is_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.came >= count)
    }

    fn is_wanted(&self, state: State) -> bool {
        self.options.state.is_none_or(|wanted| wanted == state)
    }

    fn alert(&mut self, message: &Message, tell: &mut dyn FnMut(Told<'_>)) {
        let told = alert(message);
        if let Told::Alert { event, .. } = &told {
            if self.incidents.event(event) == Heard::Again || !self.is_wanted(event.state) {
                return;
            }
            self.came += 1;
        }
        tell(told);
    }

    fn heartbeat(&mut self, message: &Message, now: Stamp, tell: &mut dyn FnMut(Told<'_>)) {
        let told = heartbeat(message);
        if let Told::Heartbeat(heartbeat) = &told {
            if self.pulse.beat(now, Duration::from_millis(heartbeat.interval_ms)) {
                tell(Told::BackAgain);
            }
            for Missed { incident, .. } in self.incidents.heartbeat(heartbeat) {
                if self.is_wanted(incident.state) && !self.is_enough() {
                    self.came += 1;
                    tell(Told::Missed {
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

async fn subscribe(client: &async_nats::Client, subject: &str) -> Result<Subscriber, Failure> {
    client.subscribe(subject.to_owned()).await.map_err(|error| {
        Failure::new(
            FailureKind::Config,
            format!("cannot subscribe to {subject}: {error}"),
            "choose another --prefix: tokens with dots between them, without wildcards or blanks",
        )
    })
}

/// Waits for a moment; for ever, where there is none.
async fn overdue(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Without the right to hear alerts there is nothing to do here; heartbeats can be done without.
fn refused(event: &LinkEvent, alerts: &str, heartbeats: &str, pulse: &mut Pulse) -> Result<(), Failure> {
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
    if subject == heartbeats && pulse.stop() {
        tracing::warn!(
            subject,
            hint,
            "no right to hear heartbeats: it cannot be told whether anybody watches"
        );
    }
    Ok(())
}

fn alert(message: &Message) -> Told<'_> {
    let (subject, raw) = (message.subject.as_str(), &message.payload[..]);
    match read(raw) {
        Ok(event) => Told::Alert { subject, event, raw },
        Err(detail) => Told::Unreadable { subject, detail },
    }
}

fn heartbeat(message: &Message) -> Told<'_> {
    match read(&message.payload) {
        Ok(heartbeat) => Told::Heartbeat(heartbeat),
        Err(detail) => Told::Unreadable { subject: message.subject.as_str(), detail },
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<Box<T>, String> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("{} bytes, more than the {PAYLOAD_BYTES_MAX} that are read", payload.len()));
    }
    serde_json::from_slice(payload).map_err(|error| printable(&error.to_string()).into_owned())
}

/// The heartbeats: when the next one is overdue.
#[derive(Debug)]
struct Pulse {
    started: Stamp,
    last: Option<Stamp>,
    spacings: VecDeque<Duration>,
    /// The spacing that the last one promises.
    promised: Duration,
    state: PulseState,
}

#[derive(Debug, PartialEq, Eq)]
enum PulseState {
    /// Heartbeats come, or may still come.
    Listening,
    /// They are overdue, and it has been told.
    Quiet,
    /// They cannot be heard.
    Deaf,
}

impl Pulse {
    fn new(now: Stamp) -> Self {
        Self {
            started: now,
            last: None,
            spacings: VecDeque::new(),
            promised: Duration::ZERO,
            state: PulseState::Listening,
        }
    }

    /// When the quiet is to be told, unless it has been.
    fn quiet_at(&self) -> Option<Stamp> {
        (self.state == PulseState::Listening).then(|| match self.last {
            None => self.started.plus(FIRST_WITHIN),
            Some(last) => last.plus(self.patience()),
        })
    }

    fn patience(&self) -> Duration {
        let spacing = self.spacings.iter().max().copied().unwrap_or_default();
        let promised = self.promised.min(INTERVAL_MAX).saturating_mul(4);
        spacing.saturating_mul(3).clamp(QUIET_MIN, QUIET_MAX).max(promised)
    }

    /// A heartbeat came; whether it ends a quiet.
    fn beat(&mut self, now: Stamp, promised: Duration) -> bool {
        self.promised = promised;
        let back = self.state == PulseState::Quiet;
        self.state = PulseState::Listening;
        // A quiet is no spacing.
        if let Some(last) = self.last.replace(now)
            && !back
        {
            if self.spacings.len() >= SPACINGS {
                self.spacings.pop_front();
            }
            self.spacings.push_back(now.since(last));
        }
        back
    }

    /// The quiet is being told.
    fn quiet(&mut self, now: Stamp) -> (Option<Stamp>, Duration) {
        self.state = PulseState::Quiet;
        (self.last, now.since(self.last.unwrap_or(self.started)))
    }

    /// Heartbeats cannot be heard; whether that is new.
    fn stop(&mut self) -> bool {
        std::mem::replace(&mut self.state, PulseState::Deaf) != PulseState::Deaf
    }
}

#[cfg(test)]
mod tests;
