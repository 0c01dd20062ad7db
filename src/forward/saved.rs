//! What outlives a `forward` that is restarted: what has not arrived, and what is known to be open.
//!
//! What an Alertmanager was told is not among it: it is told everything anew. A webhook goes by its name, which holds no
//! path, and where several have the same one, by their order: with a new secret in its address it is the same one still.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::alertmanager::{Annotations, Labels};
use super::receiver::Backlog;
use super::webhook::Delivery;
use super::{Followed, Forward, STANDING_MAX, Standing, line};
use crate::daemon::{Level, Line};
use crate::event::incidents::{Incidents, SavedIncidents};
use crate::stamp::Stamp;

/// The state of a [`Forward`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedForward {
    incidents: SavedIncidents,
    standing: Vec<SavedStanding>,
    /// By the names of webhooks.
    waiting: Vec<(String, Vec<Delivery>)>,
    /// The systems that nobody watches, with the moment of their last heartbeat in nanoseconds since 1970.
    quiet: Vec<(Option<String>, i64)>,
}

/// One alert as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedStanding {
    labels: Labels,
    annotations: Annotations,
    since_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_ns: Option<i64>,
    /// Its incidents, with their systems.
    incidents: Vec<(String, Option<String>)>,
}

impl Forward {
    /// What is to be saved.
    pub fn save(&self) -> SavedForward {
        let system =
            |incident: &String| self.followed.get(incident).and_then(|followed| followed.system.clone());
        let standing = self.book.values().map(|standing| SavedStanding {
            labels: standing.labels.clone(),
            annotations: standing.annotations.clone(),
            since_ns: standing.since.wall_ns(),
            ended_ns: standing.ended.map(Stamp::wall_ns),
            incidents: standing
                .incidents
                .iter()
                .map(|incident| (incident.clone(), system(incident)))
                .collect(),
        });
        let waiting = self.receivers.iter().filter_map(|receiver| match &receiver.backlog {
            Backlog::States(_) => None,
            Backlog::Events(queue) => Some((receiver.name.clone(), queue.saved())),
        });
        SavedForward {
            incidents: self.incidents.save(),
            standing: standing.collect(),
            waiting: waiting.collect(),
            quiet: self.quiet.iter().map(|(system, last)| (system.clone(), last.wall_ns())).collect(),
        }
    }

    /// Goes on with what was saved, before anything else is done.
    pub fn restore(&mut self, saved: SavedForward, now: Stamp) -> Vec<Line> {
        self.incidents = Incidents::restore(saved.incidents);
        for standing in saved.standing.into_iter().take(STANDING_MAX) {
            self.changes += 1;
            let labels = standing.labels.clone();
            for (incident, system) in &standing.incidents {
                let followed = Followed { labels: labels.clone(), system: system.clone() };
                self.followed.insert(incident.clone(), followed);
            }
            let standing = Standing {
                labels: standing.labels,
                annotations: standing.annotations,
                since: Stamp::at_wall(standing.since_ns, now),
                state: self.changes,
                ended: standing.ended_ns.map(|wall_ns| Stamp::at_wall(wall_ns, now)),
                incidents: standing.incidents.into_iter().map(|(incident, _)| incident).collect(),
            };
            self.book.insert(labels, standing);
        }
        for (system, last) in saved.quiet {
            self.quiet_before.insert(system.clone());
            self.quiet.insert(system, Stamp::at_wall(last, now));
        }
        self.restore_waiting(saved.waiting, now)
    }

    fn restore_waiting(&mut self, waiting: Vec<(String, Vec<Delivery>)>, now: Stamp) -> Vec<Line> {
        let mut by_name: BTreeMap<String, Vec<Vec<Delivery>>> = BTreeMap::new();
        for (name, events) in waiting.into_iter().rev() {
            by_name.entry(name).or_default().push(events);
        }
        let mut taken_up = 0;
        for receiver in &mut self.receivers {
            let Backlog::Events(queue) = &mut receiver.backlog else { continue };
            let events = by_name.get_mut(&receiver.name).and_then(Vec::pop).unwrap_or_default();
            taken_up += events.len();
            events.into_iter().for_each(|event| queue.push(event, now));
        }
        let mut lines = Vec::new();
        if taken_up > 0 {
            let text = format!("{taken_up} events have waited since before the restart, and are posted now");
            lines.push(line(Level::Info, text, ""));
        }
        for (name, left) in by_name {
            let left: usize = left.iter().map(Vec::len).sum();
            if left > 0 {
                let text =
                    format!("{left} events have waited for {name}, which is given no more: they are dropped");
                lines.push(line(Level::Warn, text, ""));
            }
        }
        lines
    }
}
