//! What an Alertmanager is to know: every open alert once a minute, and every end for a while.
//!
//! An Alertmanager forgets what is not told again: it takes an alert for over when its `endsAt` has passed. So an open
//! one is posted with an end some minutes ahead, again and again, and its end once it is there. What an alert *is* to
//! an Alertmanager is the set of its labels; two incidents with the same labels are one there, open while either is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Standing;
use crate::stamp::Stamp;

/// How often an open alert is told again.
pub const AGAIN: Duration = Duration::from_secs(60);
/// How far ahead the end of an open alert is: as long as an Alertmanager itself waits (`resolve_timeout`).
pub const AHEAD: Duration = Duration::from_secs(300);
/// For so long an end is told again: an Alertmanager that has just started may have missed it.
pub const ENDS_TOLD: Duration = Duration::from_secs(300);
/// So many alerts are in one post.
const POST_MAX: usize = 64;

/// The labels of an alert: its identity.
pub(super) type Labels = BTreeMap<Cow<'static, str>, String>;
/// What else is told of it.
pub(super) type Annotations = Labels;

/// One alert as the v2 API takes it.
#[derive(Serialize)]
struct Alert<'a> {
    labels: &'a Labels,
    annotations: &'a Annotations,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
}

/// What one Alertmanager was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// By labels: which state of an alert it took, and when it was posted last.
    taken: BTreeMap<Labels, (u64, Stamp)>,
    /// What is on its way.
    on_the_way: Vec<(Labels, u64)>,
    /// What was in a post that was refused: one of those may have spoilt it for the others.
    alone: BTreeSet<Labels>,
    /// What was refused alone, and told.
    told: BTreeSet<Labels>,
}

impl Told {
    /// Whether this state of an alert is to be posted now.
    fn is_due(&self, standing: &Standing, now: Stamp) -> bool {
        self.due_at(standing, now).is_some_and(|at| now.has_reached(at))
    }

    /// When it is to be posted next; `None` for never.
    fn due_at(&self, standing: &Standing, now: Stamp) -> Option<Stamp> {
        let Some((state, at)) =
            self.taken.get(&standing.labels).filter(|(state, _)| *state == standing.state)
        else {
            return Some(now);
        };
        debug_assert_eq!(*state, standing.state);
        let over = standing.ended.is_some_and(|ended| at.since(ended) >= ENDS_TOLD);
        (!over).then(|| at.plus(AGAIN))
    }

    /// The next post, where anything is due. It is on its way from now on.
    pub(super) fn next(&mut self, book: &BTreeMap<Labels, Standing>, now: Stamp) -> Option<String> {
        let due = || book.values().filter(|standing| self.is_due(standing, now));
        let together = due().filter(|standing| !self.alone.contains(&standing.labels));
        let mut posted: Vec<&Standing> = together.take(POST_MAX).collect();
        if posted.is_empty() {
            posted.extend(due().next());
        }
        if posted.is_empty() {
            return None;
        }
        self.on_the_way = posted.iter().map(|standing| (standing.labels.clone(), standing.state)).collect();
        let alert = |standing: &&'_ Standing| {
            let end = standing.ended.unwrap_or_else(|| now.plus(AHEAD));
            // No Alertmanager takes an alert that begins after its end, as it may where clocks differ.
            let latest = standing.ended.unwrap_or(now);
            let start = if standing.since.wall_ns() > latest.wall_ns() { latest } else { standing.since };
            (start.to_string(), end.to_string())
        };
        let times: Vec<(String, String)> = posted.iter().map(alert).collect();
        let alerts = posted.iter().zip(times).map(|(standing, (starts_at, ends_at))| Alert {
            labels: &standing.labels,
            annotations: &standing.annotations,
            starts_at,
            ends_at,
        });
        // A list of texts can always be written.
        serde_json::to_string(&alerts.collect::<Vec<_>>()).ok()
    }

    /// What was on its way has arrived, or has not.
    pub(super) fn done(&mut self, taken: bool, now: Stamp) {
        for (labels, state) in std::mem::take(&mut self.on_the_way) {
            if taken {
                self.alone.remove(&labels);
                self.told.remove(&labels);
                self.taken.insert(labels, (state, now));
            }
        }
    }

    /// What was on its way is refused. Of several alerts each is posted alone from now on, so that one that cannot be read
    /// spoils no other. Gives what is refused alone, the first time.
    pub(super) fn refused(&mut self, now: Stamp) -> Option<Labels> {
        let mut on_the_way = std::mem::take(&mut self.on_the_way);
        if on_the_way.len() > 1 {
            self.alone.extend(on_the_way.into_iter().map(|(labels, _)| labels));
            return None;
        }
        let (labels, state) = on_the_way.pop()?;
        self.alone.insert(labels.clone());
        self.taken.insert(labels.clone(), (state, now));
        self.told.insert(labels.clone()).then_some(labels)
    }

    /// When anything is to be posted.
    pub(super) fn next_at(&self, book: &BTreeMap<Labels, Standing>, now: Stamp) -> Option<Stamp> {
        book.values().filter_map(|standing| self.due_at(standing, now)).min_by_key(|at| at.steady_ns())
    }

    /// Whether nothing is to be told of this alert any more.
    pub(super) fn has_done_with(&self, standing: &Standing, now: Stamp) -> bool {
        self.due_at(standing, now).is_none()
    }

    pub(super) fn forget(&mut self, labels: &Labels) {
        self.taken.remove(labels);
        self.alone.remove(labels);
        self.told.remove(labels);
    }
}
