//! One receiver: what it is still to get, and what its answers change.

use super::alertmanager::{Labels, Told};
use super::answer::{Answer, Meaning, parked, pause};
use super::webhook::{Queue, Refusal};
use super::{ReceiverKind, line};
use crate::daemon::{Level, Line};
use crate::name::printable;
use crate::stamp::Stamp;

/// What a receiver is still to get.
#[derive(Clone, Debug)]
pub(super) enum Backlog {
    /// States of alerts.
    States(Told),
    /// Events, in the order of their incidents.
    Events(Queue),
}

/// One receiver.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) backlog: Backlog,
    pub(super) on_the_way: bool,
    pub(super) failures: u32,
    pub(super) again_at: Option<Stamp>,
    /// What was told of its failures last.
    pub(super) told: Option<String>,
    /// How many dropped events were told.
    pub(super) told_dropped: u64,
}

impl Receiver {
    pub(super) fn new(kind: ReceiverKind, name: String) -> Self {
        Self {
            name,
            backlog: match kind {
                ReceiverKind::Alertmanager => Backlog::States(Told::default()),
                ReceiverKind::Webhook => Backlog::Events(Queue::default()),
            },
            on_the_way: false,
            failures: 0,
            again_at: None,
            told: None,
            told_dropped: 0,
        }
    }

    /// What was on its way was answered so.
    pub(super) fn done(&mut self, answer: &Answer, now: Stamp) -> Vec<Line> {
        let meaning = answer.meaning();
        let mut lines = Vec::new();
        match (&mut self.backlog, meaning) {
            (Backlog::States(told), Meaning::Taken) => told.done(true, now),
            (Backlog::States(told), Meaning::Later(_) | Meaning::Misdirected) => told.done(false, now),
            (Backlog::Events(queue), Meaning::Taken) => queue.taken(),
            (Backlog::Events(queue), Meaning::Later(_) | Meaning::Misdirected) => queue.not_taken(),
            (Backlog::States(told), Meaning::Refused) => {
                lines.extend(told.refused(now).map(|labels| self.refused_alert(&labels, answer)));
            }
            (Backlog::Events(queue), Meaning::Refused) => {
                let refusal = queue.refused(now);
                lines.extend(refusal.and_then(|refusal| self.refused_event(&refusal, answer)));
            }
        }
        (self.failures, self.again_at) = match meaning {
            Meaning::Taken | Meaning::Refused => (0, None),
            Meaning::Later(asked) => {
                let failures = self.failures.saturating_add(1);
                (failures, Some(now.plus(pause(failures, asked))))
            }
            Meaning::Misdirected => (self.failures.saturating_add(1), Some(now.plus(parked()))),
        };
        lines.extend(self.tell(answer, meaning));
        lines
    }

    fn refused_alert(&self, labels: &Labels, answer: &Answer) -> Line {
        let of = |name: &str| labels.get(name).map_or("", String::as_str);
        let about = format!("{} {}", of("alertname"), of("peer"));
        let (why, hint) = answer.in_words();
        let text = format!(
            "{} refuses the alert {}, which is posted again every minute: {why}",
            self.name,
            about.trim_end()
        );
        line(Level::Error, text, hint)
    }

    /// Each event once: when it is refused first, and when a newer one takes its place.
    fn refused_event(&self, refusal: &Refusal, answer: &Answer) -> Option<Line> {
        let Refusal { id, again, replaced } = refusal;
        let (why, hint) = answer.in_words();
        let (name, id) = (&self.name, printable(id));
        let text = match (again, replaced) {
            (_, true) => format!(
                "{name} refuses the event {id} for good, and gets the next one of its incident: {why}"
            ),
            (false, false) => {
                format!("{name} refuses the event {id}, which is set aside and tried again: {why}")
            }
            (true, false) => return None,
        };
        Some(line(Level::Error, text, hint))
    }

    /// Tells what changes, once.
    fn tell(&mut self, answer: &Answer, meaning: Meaning) -> Vec<Line> {
        let name = &self.name;
        let mut lines = Vec::new();
        let what = match meaning {
            Meaning::Misdirected => Some("waits; it is tried again in 5 minutes"),
            Meaning::Later(_) => Some("waits"),
            Meaning::Refused => None,
            Meaning::Taken => {
                if self.told.take().is_some() {
                    lines.push(line(Level::Warn, format!("{name} takes alerts again"), ""));
                }
                None
            }
        };
        if let Some(what) = what {
            let (why, hint) = answer.in_words();
            if self.told.as_deref() != Some(why.as_str()) {
                let text = format!("{name} does not take an alert, which {what}: {why}");
                lines.push(line(Level::Error, text, hint));
                self.told = Some(why);
            }
        }
        if let Backlog::Events(queue) = &self.backlog
            && queue.dropped > self.told_dropped
        {
            self.told_dropped = queue.dropped;
            let text = format!("{name}: {} events were dropped, because too many wait", queue.dropped);
            lines.push(line(
                Level::Error,
                text,
                "mend the receiver, or listen to fewer systems with --prefix",
            ));
        }
        lines
    }
}
