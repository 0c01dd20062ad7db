//! The whole path in one function: what an epoch gathered goes in, what is to be told comes out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::alert::{About, Alert, AlertTable, Identity, LifeRules, Shown, State};
use crate::cadence::Cadence;
use crate::check::{self, Check, Finding, Known, Subject, Verdict};
use crate::diagnosis::{self, QUESTIONS_MAX, Question, Replies};
use crate::epoch::{Gathered, Plan};
use crate::event::{self, EventContext, Heartbeat, Monitor, Outgoing};
use crate::name::Name;
use crate::replicated_state::ReplicatedState;
use crate::rules::Rules;
use crate::stamp::Stamp;
use crate::system::{KnownSystem, SystemId};
use crate::view::{self, ClusterView, History, Moments, Remembered, SavedHistory};

/// So many alerts are asked about at once.
const ABOUT_MAX: usize = 16;

/// What the pipeline is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The thresholds of the checks.
    pub rules: Rules,
    /// How alerts live.
    pub life: LifeRules,
    /// Who watches.
    pub monitor: Monitor,
    /// The prefix of the subjects.
    pub prefix: String,
}

/// Everything that is remembered between epochs.
#[derive(Clone, Debug)]
pub struct Pipeline {
    settings: Settings,
    history: History,
    alert_table: AlertTable,
    system: KnownSystem,
    cadence: Cadence,
    /// The last answer may change what the next epoch shows.
    learned: bool,
    /// Another watcher tells what there is to tell; this one only follows.
    standby: bool,
    disbelieved: u64,
}

/// What one epoch leads to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The merged view.
    pub view: ClusterView,
    /// What the checks say.
    pub findings: Vec<Finding>,
    /// Which checks those are.
    pub checks: Vec<&'static Check>,
    /// What is to be told.
    pub events: Vec<Outgoing>,
    /// The sign of life that goes with it.
    pub heartbeat: Heartbeat,
    /// When the next epoch should open, counted from the opening of this one.
    pub next_in: Duration,
    /// How many groups have not changed since the last epoch, and were taken from it.
    pub unchanged_groups: usize,
}

/// Further questions, to be asked once the alerts are out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowUp {
    /// The alerts it is about, and since when they have stood.
    pub about: Vec<(Identity, Stamp)>,
    /// What to ask.
    pub questions: BTreeSet<Question>,
    /// How many servers answered the last epoch: so many may answer a question to all.
    pub answering: usize,
}

impl Pipeline {
    /// A pipeline that remembers nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            history: History::default(),
            alert_table: AlertTable::default(),
            system: KnownSystem::default(),
            cadence: Cadence::default(),
            learned: false,
            standby: false,
            disbelieved: 0,
        }
    }

    /// Goes by this name of the system, whatever other watchers call it.
    #[must_use]
    pub fn of_system(self, name: SystemId) -> Self {
        Self { system: KnownSystem::given(name), ..self }
    }

    /// Which system is watched, once that is known.
    pub fn system(&self) -> Option<&str> {
        self.system.id()
    }

    /// What another watcher calls the system, where this one was given another name; told once.
    pub fn take_other_system(&mut self) -> Option<SystemId> {
        self.system.take_other()
    }

    /// Whether this watcher tells what there is to tell. If not, the servers are followed all the same, but the
    /// alerts stay as that one's replicated state has them.
    pub fn set_active(&mut self, active: bool) {
        self.standby = !active;
    }

    /// The alerts as they stand and the events that wait, for a state file and for other watchers.
    pub fn replicated_state<'a>(
        &self,
        waiting: impl DoubleEndedIterator<Item = &'a Outgoing>,
    ) -> ReplicatedState {
        let system = self.system.id().map(str::to_owned);
        ReplicatedState { system, ..ReplicatedState::new(&self.alert_table, waiting, &self.settings.prefix) }
    }

    /// What is remembered of the servers, for other watchers.
    pub fn saved_history(&self, now: Stamp) -> SavedHistory {
        self.history.save(now)
    }

    /// Goes on with what another watcher remembered of the servers.
    pub fn inherit(&mut self, history: SavedHistory, at: Moments) {
        self.history.restore(history, at);
    }

    /// Goes on where this state stands. Gives the events that still wait, and how many entries were not believed.
    pub fn adopt(&mut self, state: ReplicatedState, now: Stamp) -> (Vec<Outgoing>, usize) {
        let unsound = state.system.as_deref().is_some_and(|system| self.system.learn(system).is_err());
        let restored = state.read(&self.settings.prefix, now);
        self.history.remember(remembered(&restored.alerts), now);
        self.alert_table.replace(restored.alerts);
        (restored.waiting, self.count_disbelieved(restored.refused, unsound))
    }

    /// Goes on with what another watcher announced that spoke unheard, besides one's own. Gives its events that still
    /// wait, and how many entries were not believed. Where the two called the system by different ids, one's own stays.
    ///
    /// An event is left out whose number this watcher has told already under the same incident, and so is one of an
    /// incident that goes on as a part of another: both are told.
    pub fn merge(&mut self, state: ReplicatedState, now: Stamp) -> (Vec<Outgoing>, usize) {
        let other = state.system.as_deref().filter(|_| self.system.id().is_none());
        let unsound = other.is_some_and(|system| self.system.learn(system).is_err());
        let mut restored = state.read(&self.settings.prefix, now);
        self.history.remember(remembered(&restored.alerts), now);
        let told = self.alert_table.sequences();
        self.alert_table.merge(restored.alerts);
        let part_of_others = self.alert_table.merged_incidents();
        restored.waiting.retain(|waiting| {
            let incident = waiting.event.incident.as_str();
            let is_news = told.get(incident).is_none_or(|told| *told < waiting.event.seq);
            is_news && !part_of_others.contains(incident)
        });
        (restored.waiting, self.count_disbelieved(restored.refused, unsound))
    }

    fn count_disbelieved(&mut self, entries: usize, system: bool) -> usize {
        let more = entries + usize::from(system);
        self.disbelieved = self.disbelieved.saturating_add(more as u64);
        more
    }

    /// How many entries of saved and replicated states were not believed.
    pub fn disbelieved(&self) -> u64 {
        self.disbelieved
    }

    /// What to ask in the next epoch, and whom to wait for.
    pub fn plan(&self, number: u64, now: Stamp, timeout: Duration) -> Plan {
        self.history.plan(number, now, timeout)
    }

    /// Whether the last answer may change what the next epoch shows.
    pub fn has_learned(&self) -> bool {
        self.learned
    }

    /// The alerts as they stand.
    pub fn alert_table(&self) -> &AlertTable {
        &self.alert_table
    }

    /// What the pipeline was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The path: replies → view → findings → alerts → events. Its time is the end of the epoch.
    pub fn step(&mut self, gathered: &Gathered) -> Step {
        self.step_after(gathered, None)
    }

    /// The same, where `last` is what the last epoch led to: what has not changed since is taken from it. It leads to the
    /// same, for less.
    pub fn step_after(&mut self, gathered: &Gathered, last: Option<Step>) -> Step {
        let rules = &self.settings.rules;
        let now = gathered.closed;
        let (last_view, last_findings) = last.map(|last| (last.view, last.findings)).unzip();
        let (view, mut unchanged) = view::merge_after(gathered, &mut self.history, rules, last_view);
        self.look_again_at_open_conditions(&view, &mut unchanged);
        let announced = |finding: &Finding| self.alert_table.announced_cause(&Identity::of(finding));
        let is_open = |alert: &Alert| alert.state != State::Resolved;
        let open = |finding: &Finding| self.alert_table.get(&Identity::of(finding)).is_some_and(is_open);
        let known = Known { announced: &announced, open: &open };
        let last_findings = last_findings.unwrap_or_default();
        let findings = check::evaluate_after(&view, rules, known, last_findings, &unchanged);
        if !self.standby {
            self.system.see(&view);
        }
        let Settings { rules, life, monitor, prefix } = &self.settings;
        let system = self.system.id();
        let transitions = if self.standby {
            Vec::new()
        } else {
            let whole = view.epoch.informative && gathered.counts_absence();
            let shown = Shown { whole, superseded: &view.superseded };
            self.alert_table.step(&findings, now, life, shown, |identity| about(&view, identity))
        };
        let told = transitions.iter().map(|transition| &transition.alert.identity.group);
        let impacts = check::impacts(&view, &findings, told);
        let context =
            EventContext { view: &view, findings: &findings, impacts, system, monitor, prefix, now };
        let events =
            transitions.iter().filter_map(|transition| event::alert_event(transition, &context)).collect();
        let heartbeat = Heartbeat::new(&view, &findings, &self.alert_table, rules.interval, monitor);
        let heartbeat = Heartbeat { system: system.map(str::to_owned), ..heartbeat };
        let next_in = self.cadence.next_in(&view, &findings, &self.alert_table, rules.interval, now);
        let unchanged_groups = unchanged.iter().filter(|unchanged| **unchanged).count();
        let checks = check::chosen(rules);
        Step { view, findings, checks, events, heartbeat, next_in, unchanged_groups }
    }

    /// What is found of a condition depends on whether its alert is open, too.
    fn look_again_at_open_conditions(&self, view: &ClusterView, unchanged: &mut [bool]) {
        let of_condition = |alert: &&Alert| {
            check::by_code(alert.identity.check).is_some_and(|check| check.about == Subject::Condition)
        };
        let open: BTreeSet<&Name> =
            self.alert_table.active().filter(of_condition).map(|alert| &alert.identity.group).collect();
        if !open.is_empty() {
            let groups = view.groups.iter().zip(unchanged);
            groups.for_each(|(group, unchanged)| *unchanged &= !open.contains(&group.key));
        }
    }

    /// What is worth asking about the alerts of the last step, which have gone out; `None` when nothing is. Each
    /// question is put once: what has no room here comes after the next step.
    pub fn follow_ups(&mut self, step: &Step) -> Option<FollowUp> {
        if self.standby {
            return None;
        }
        let mut follow_up = FollowUp { answering: step.view.servers.len(), ..FollowUp::default() };
        for finding in &step.findings {
            let Some(alert) = self.alert_table.open_question(finding) else { continue };
            let Some(group) = step.view.group(&finding.group) else {
                continue;
            };
            let questions = diagnosis::questions(finding, group, alert.state == State::Firing);
            let all: BTreeSet<_> =
                follow_up.questions.iter().cloned().chain(questions.iter().cloned()).collect();
            if questions.is_empty() || all.len() > QUESTIONS_MAX || follow_up.about.len() >= ABOUT_MAX {
                continue;
            }
            follow_up.questions = all;
            follow_up.about.push((alert.identity.clone(), alert.since));
            self.alert_table.followed_up(finding);
        }
        (!follow_up.about.is_empty()).then_some(follow_up)
    }

    /// What the replies to a follow-up lead to. `step` is the last one, which may be later than the follow-up's.
    pub fn answer(
        &mut self,
        follow_up: &FollowUp,
        replies: &Replies,
        step: &Step,
        now: Stamp,
    ) -> Vec<Outgoing> {
        if self.standby {
            return Vec::new();
        }
        let Settings { monitor, prefix, .. } = &self.settings;
        let system = self.system.id();
        let Step { view, findings, .. } = step;
        let impacts =
            check::impacts(view, findings, follow_up.about.iter().map(|(identity, _)| &identity.group));
        let context = EventContext { view, findings, impacts, system, monitor, prefix, now };
        let mut events = Vec::new();
        self.learned = false;
        for (identity, _) in follow_up.about.iter().filter(|(identity, _)| identity.peer.is_none()) {
            if let Some(group) = step.view.group(&identity.group)
                && let Some((expected, unseen)) = diagnosis::of_the_group(group, replies)
            {
                self.learned |= self.history.take_raft(&identity.group, &expected, unseen);
            }
        }
        for (identity, since) in &follow_up.about {
            // What is about to end needs no diagnosis, and what has left the view has none.
            let of =
                |finding: &Finding| Identity::of(finding) == *identity && finding.verdict != Verdict::Clear;
            let Some(index) = check::position(&step.findings, &identity.group, of) else { continue };
            let Some(group) = step.view.group(&identity.group) else {
                continue;
            };
            let cause = step.findings[index].cause.as_ref().map(|cause| cause.kind);
            let said = diagnosis::conclude(identity.peer, cause, group, replies);
            let transition = self.alert_table.diagnose(identity, *since, said, index, now);
            events.extend(transition.and_then(|transition| event::alert_event(&transition, &context)));
        }
        events
    }
}

/// What the view tells of what an alert is about.
fn about(view: &ClusterView, identity: &Identity) -> About {
    let group = view.group(&identity.group);
    let name = match identity.peer {
        None => Name::new("_"),
        Some(id) => {
            let known = group.and_then(|group| group.peer(id)).and_then(|peer| peer.name.clone());
            known.unwrap_or_else(|| Name::new(id.as_str()))
        }
    };
    About {
        name,
        domain: group.map(|group| group.domain.clone()).unwrap_or_default(),
        size: group.and_then(|group| group.size.zip(group.quorum)),
    }
}

/// What saved alerts that are not over tell of their groups.
fn remembered(alerts: &[Alert]) -> Vec<Remembered> {
    let open = alerts.iter().filter(|alert| alert.state != State::Resolved);
    let told = open.map(|alert| Remembered {
        group: alert.identity.group.clone(),
        domain: alert.domain.clone(),
        peer: alert.identity.peer.map(|id| (id, alert.subject_name.clone())),
        size: alert.size,
    });
    told.collect()
}
