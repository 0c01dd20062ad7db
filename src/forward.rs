//! Passes alerts on to those who page people: what is to be posted where and when, and what an answer changes.
//!
//! A pure state machine: `shell::forward` hears the alerts and heartbeats, posts what [`Forward::next`] gives, and tells
//! [`Forward::done`] what came of it. Every receiver is on its own: one that is down holds up no other. **Invariants:** one
//! post at a time is on its way to a receiver; an event is posted until the receiver has taken it, or a newer one of
//! its incident stands in its place, or it is dropped, counted and told; no queue grows without a limit. What has not
//! arrived, and what is known to be open, can be saved and gone on with ([`SavedForward`]).

pub mod alertmanager;
pub mod answer;
mod notice;
mod receiver;
mod saved;
pub mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alert::State;
use crate::daemon::{Level, Line};
use crate::event::incidents::{Heard, Incidents, Missed, Quiet};
use crate::event::{AlertEvent, Heartbeat};
use crate::stamp::Stamp;
use alertmanager::{Annotations, Labels};
use answer::Answer;
use notice::{Notice, QUIET};
use receiver::{Backlog, Receiver};
pub use saved::SavedForward;
use webhook::Delivery;

/// So many alerts are followed.
const STANDING_MAX: usize = 1_000;

/// What a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverKind {
    /// The v2 API of an Alertmanager: states.
    Alertmanager,
    /// Anything that takes JSON: events.
    Webhook,
}

/// What is passed on.
#[derive(Clone, Debug)]
pub struct ForwardRules {
    /// Only alerts that fire, and their ends.
    pub only_firing: bool,
    /// For so long open alerts are kept open when nobody watches any more.
    pub keep: Duration,
}

/// Something to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// To which of the receivers, in their order.
    pub receiver: usize,
    /// The same for every try of the same event; `None` where a repetition does no harm.
    pub key: Option<String>,
    /// JSON.
    pub body: String,
}

/// One alert as it stands.
#[derive(Clone, Debug)]
struct Standing {
    labels: Labels,
    annotations: Annotations,
    since: Stamp,
    /// Counts its changes.
    state: u64,
    ended: Option<Stamp>,
    /// The incidents that it stands for.
    incidents: BTreeSet<String>,
}

/// An incident that is open, and where it stands.
#[derive(Clone, Debug)]
struct Followed {
    labels: Labels,
    system: Option<String>,
}

/// Everything that is passed on.
#[derive(Clone, Debug)]
pub struct Forward {
    rules: ForwardRules,
    started: Stamp,
    incidents: Incidents,
    followed: BTreeMap<String, Followed>,
    book: BTreeMap<Labels, Standing>,
    receivers: Vec<Receiver>,
    /// The systems that nobody watches, by the moment of their last heartbeat.
    quiet: BTreeMap<Option<String>, Stamp>,
    /// Those of them that were told before a restart.
    quiet_before: BTreeSet<Option<String>>,
    changes: u64,
    /// Counts everything that is worth saving.
    revision: u64,
    /// That too many alerts stand has been told.
    told_full: bool,
}

impl Forward {
    /// For these receivers, each with the name that it is told by.
    pub fn new(receivers: Vec<(ReceiverKind, String)>, rules: ForwardRules, now: Stamp) -> Self {
        Self {
            rules,
            started: now,
            incidents: Incidents::default(),
            followed: BTreeMap::new(),
            book: BTreeMap::new(),
            receivers: receivers.into_iter().map(|(kind, name)| Receiver::new(kind, name)).collect(),
            quiet: BTreeMap::new(),
            quiet_before: BTreeSet::new(),
            changes: 0,
            revision: 0,
            told_full: false,
        }
    }

    /// An alert event was heard; `raw` is the payload as it came.
    pub fn event(&mut self, event: &AlertEvent, raw: &str, now: Stamp) -> Vec<Line> {
        let before = match self.incidents.event(event, now.since(self.started)) {
            Heard::News { before } => before,
            Heard::Again => return Vec::new(),
            Heard::Unsound => {
                let text = format!("an event with the seq {} cannot be: it is left out", event.seq);
                return vec![line(Level::Warn, text, "see who else publishes on these subjects")];
            }
        };
        self.take(Notice::of_event(event, raw, now), before, now)
    }

    /// A heartbeat was heard.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Stamp) -> Vec<Line> {
        let learned = self.incidents.heartbeat(heartbeat, now.since(self.started));
        let mut lines = Vec::new();
        let told_before =
            [&heartbeat.system, &None].into_iter().filter(|system| self.quiet_before.remove(*system)).count();
        if learned.back || told_before > 0 {
            for system in [heartbeat.system.clone(), None] {
                if self.quiet.remove(&system).is_some() {
                    lines.push(line(Level::Warn, "heartbeats are heard again".to_owned(), ""));
                    lines.extend(self.take(Notice::of_return(system, now), Some(State::Firing), now));
                }
            }
        }
        if learned.too_many {
            let text = "more systems speak on these subjects than can be followed".to_owned();
            lines.push(line(Level::Warn, text, "listen to fewer with --prefix"));
        }
        if let Some(beside) = &learned.beside {
            lines.push(line(Level::Warn, crate::report::lines::beside(beside), ""));
        }
        for Missed { incident, before } in learned.missed {
            lines.extend(self.take(Notice::of_incident(&incident, heartbeat, now), before, now));
        }
        lines
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Stamp) -> Vec<Line> {
        let mut lines = Vec::new();
        for Quiet { system, since, .. } in self.incidents.quiet(now.since(self.started)) {
            // It was told before a restart, and nobody was heard since.
            if since.is_none() && !self.quiet_before.is_empty() {
                continue;
            }
            let last = since.map_or(self.started, |since| self.started.plus(since));
            let text = crate::report::lines::quiet(system.as_deref(), since.map(|_| last), now.since(last));
            lines.push(line(
                Level::Error,
                text,
                "see whether metawatch runs; open alerts stay open meanwhile",
            ));
            self.quiet.insert(system.clone(), last);
            lines.extend(self.take(Notice::of_quiet(system, last, now), None, now));
        }
        let given_up: Vec<Option<String>> = self
            .quiet
            .iter()
            .filter(|(_, last)| now.since(**last) >= self.rules.keep)
            .map(|(system, _)| system.clone())
            .collect();
        for system in given_up {
            let of_it = |followed: &Followed| followed.system == system && !is_quiet(&followed.labels);
            let over: Vec<String> = self
                .followed
                .iter()
                .filter(|(_, followed)| of_it(followed))
                .map(|(incident, _)| incident.clone())
                .collect();
            if !over.is_empty() {
                let text = format!("{} open alerts are not kept any longer: nobody has watched", over.len());
                lines.push(line(Level::Warn, text, "--keep says for how long they are"));
            }
            over.iter().for_each(|incident| self.leave(incident, now));
        }
        self.forget(now);
        lines
    }

    /// The next post, to any receiver that has none on its way. It is on its way from now on.
    pub fn next(&mut self, now: Stamp) -> Option<Post> {
        let book = &self.book;
        for (number, receiver) in self.receivers.iter_mut().enumerate() {
            if receiver.on_the_way || receiver.again_at.is_some_and(|at| !now.has_reached(at)) {
                continue;
            }
            let post = match &mut receiver.backlog {
                Backlog::States(told) => told.next(book, now).map(|body| (None, body)),
                Backlog::Events(queue) => queue.next(now).map(|delivery| (Some(delivery.id), delivery.body)),
            };
            if let Some((key, body)) = post {
                receiver.on_the_way = true;
                return Some(Post { receiver: number, key, body });
            }
        }
        None
    }

    /// What came of the post that was on its way to this receiver.
    pub fn done(&mut self, receiver: usize, answer: &Answer, now: Stamp) -> Vec<Line> {
        let Some(receiver) = self.receivers.get_mut(receiver).filter(|receiver| receiver.on_the_way) else {
            return Vec::new();
        };
        receiver.on_the_way = false;
        self.revision += 1;
        let lines = receiver.done(answer, now);
        self.forget(now);
        lines
    }

    /// Grows with everything that is worth saving.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When there is something to do, unless something is heard before.
    pub fn next_wake(&self, now: Stamp) -> Option<Stamp> {
        let quiet = self.incidents.quiet_at().map(|at| self.started.plus(at));
        let kept =
            self.quiet.values().map(|last| last.plus(self.rules.keep)).filter(|at| !now.has_reached(*at));
        let posts = self.receivers.iter().filter(|receiver| !receiver.on_the_way).filter_map(|receiver| {
            let next = match &receiver.backlog {
                Backlog::States(told) => told.next_at(&self.book, now)?,
                Backlog::Events(queue) => queue.next_at(now)?,
            };
            Some(match receiver.again_at {
                Some(again) if !next.has_reached(again) => again,
                _ => next,
            })
        });
        quiet.into_iter().chain(kept).chain(posts).min_by_key(|at| at.steady_ns())
    }

    /// Whether everything that was heard has arrived everywhere.
    pub fn is_idle(&self, now: Stamp) -> bool {
        self.receivers.iter().all(|receiver| {
            !receiver.on_the_way
                && match &receiver.backlog {
                    Backlog::States(told) => {
                        told.next_at(&self.book, now).is_none_or(|at| !now.has_reached(at))
                    }
                    Backlog::Events(queue) => queue.len() == 0,
                }
        })
    }

    /// How many events wait for webhooks.
    pub fn waiting(&self) -> usize {
        let lengths = self.receivers.iter().map(|receiver| match &receiver.backlog {
            Backlog::States(_) => 0,
            Backlog::Events(queue) => queue.len(),
        });
        lengths.sum()
    }

    /// Takes something to tell. `before` is where its incident stood.
    fn take(&mut self, notice: Notice, before: Option<State>, now: Stamp) -> Vec<Line> {
        self.revision += 1;
        let is_end = notice.state == State::Resolved;
        let unwanted = self.rules.only_firing
            && (notice.state == State::Suspected || (is_end && before != Some(State::Firing)));
        if !unwanted {
            for receiver in &mut self.receivers {
                if let Backlog::Events(queue) = &mut receiver.backlog {
                    let delivery = Delivery {
                        id: notice.id.clone(),
                        lane: notice.incident.clone(),
                        is_end,
                        body: notice.body.clone(),
                    };
                    queue.push(delivery, now);
                }
            }
        }
        if is_end || unwanted {
            self.leave(&notice.incident, now);
            return Vec::new();
        }
        self.stand(notice, now)
    }

    /// An alert stands from now on, if it did not before.
    fn stand(&mut self, notice: Notice, now: Stamp) -> Vec<Line> {
        let mut labels = notice.labels;
        if let Some(known) = self.followed.get(&notice.incident) {
            // The name of a peer may become known; to an Alertmanager it would be another alert.
            let fixed = known.labels.iter().filter(|(name, _)| ["peer", "group"].contains(&name.as_ref()));
            labels.extend(fixed.map(|(name, value)| (name.clone(), value.clone())));
            if known.labels != labels {
                self.leave(&notice.incident, now);
            }
        }
        let full = self.book.len() >= STANDING_MAX;
        let crowded = self.followed.len() >= STANDING_MAX && !self.followed.contains_key(&notice.incident);
        if crowded || (full && !self.book.contains_key(&labels)) {
            let text =
                format!("more than {STANDING_MAX} alerts stand: Alertmanagers are not told of the rest");
            let news = !std::mem::replace(&mut self.told_full, true);
            let hint = "listen to fewer systems with --prefix";
            return news.then(|| line(Level::Warn, text, hint)).into_iter().collect();
        }
        self.told_full &= full || crowded;
        self.changes += 1;
        let standing = self.book.entry(labels.clone()).or_insert_with(|| Standing {
            labels: labels.clone(),
            annotations: Annotations::new(),
            since: notice.since,
            state: self.changes,
            ended: None,
            incidents: BTreeSet::new(),
        });
        if standing.ended.take().is_some() {
            standing.since = notice.since;
            standing.state = self.changes;
        }
        if standing.annotations != notice.annotations {
            standing.annotations = notice.annotations;
            standing.state = self.changes;
        }
        standing.incidents.insert(notice.incident.clone());
        self.followed.insert(notice.incident, Followed { labels, system: notice.system });
        Vec::new()
    }

    /// An incident is over, or has other labels now.
    fn leave(&mut self, incident: &str, now: Stamp) {
        let Some(followed) = self.followed.remove(incident) else { return };
        self.revision += 1;
        let Some(standing) = self.book.get_mut(&followed.labels) else { return };
        standing.incidents.remove(incident);
        if standing.incidents.is_empty() && standing.ended.is_none() {
            self.changes += 1;
            (standing.ended, standing.state) = (Some(now), self.changes);
        }
    }

    /// Forgets ends that every Alertmanager has heard for long enough.
    fn forget(&mut self, now: Stamp) {
        let Self { book, receivers, .. } = self;
        let tellers = |receivers: &[Receiver], standing: &Standing| {
            receivers.iter().all(|receiver| match &receiver.backlog {
                Backlog::States(told) => told.has_done_with(standing, now),
                Backlog::Events(_) => true,
            })
        };
        let over: Vec<Labels> = book
            .values()
            .filter(|standing| standing.ended.is_some() && tellers(receivers, standing))
            .map(|standing| standing.labels.clone())
            .collect();
        for labels in over {
            book.remove(&labels);
            for receiver in receivers.iter_mut() {
                if let Backlog::States(told) = &mut receiver.backlog {
                    told.forget(&labels);
                }
            }
        }
    }
}

fn is_quiet(labels: &Labels) -> bool {
    labels.get("alertname").is_some_and(|name| name == QUIET)
}

fn line(level: Level, text: String, hint: &str) -> Line {
    Line { level, text, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
