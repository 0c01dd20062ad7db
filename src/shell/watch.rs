//! `metawatch view --watch`: looks for as long as somebody looks on, and publishes nothing.
//!
//! Three things go on beside each other: epochs in a task, keys in a thread, and drawing in another one, so that neither
//! a slow server nor a stuck terminal holds up the end.

mod terminal;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::pipeline::{Pipeline, Settings, Step};
use crate::report::selection::ChosenGroups;
use crate::report::style::Style;
use crate::screen::{Line, Reaction, Viewer, plain_line};
use crate::shell::clock::Clock;
use crate::shell::collect::{Collector, CollectorOptions, WakeReason};
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Retry, connect};
use crate::shell::failure::Failure;
use crate::shell::follow_up::FollowUpTask;
use crate::stamp::Stamp;
use crate::status::{Limits, RecentEvents, StatusContext, SystemStatus, Totals};
use terminal::{Input, Terminal};

/// What is announced brings the next epoch forward, but not closer than this to the last one.
const EPOCHS_APART_MIN: Duration = Duration::from_millis(100);
/// Ages on the screen grow so often.
const TICK: Duration = Duration::from_secs(1);
/// How long the connection may take to end.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// What the last epoch led to.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How the system stands.
    pub status: Arc<SystemStatus>,
    /// Why nothing was learned, where that is so.
    pub trouble: Option<String>,
}

/// Somebody who looks again and again.
pub struct Observer {
    collector: Collector,
    pipeline: Pipeline,
    chosen: ChosenGroups,
    follow_ups: FollowUpTask,
    clock: Clock,
    config: ConnectConfig,
    login: String,
    recent: RecentEvents,
    totals: Totals,
    since: Stamp,
    number: u64,
}

impl Observer {
    /// Connects, and looks once. Fails when nothing at all could be seen, or a group that is asked for is not there, and
    /// says why.
    pub async fn start(
        config: &ConnectConfig,
        settings: Settings,
        chosen: ChosenGroups,
    ) -> Result<(Self, Seen), Failure> {
        let clock = Clock::new();
        let login = config.login();
        let config = config.watching_every(settings.rules.interval);
        let link = connect(&config, Retry::Once).await?;
        let options = CollectorOptions { events: true, ..CollectorOptions::default() };
        let collector = Collector::new(link, clock, options).await;
        let mut observer = Self {
            follow_ups: FollowUpTask::new(collector.client().clone()),
            collector,
            pipeline: Pipeline::new(settings),
            chosen,
            clock,
            config,
            login,
            recent: RecentEvents::default(),
            totals: Totals::default(),
            since: clock.now(),
            number: 0,
        };
        let (step, trouble) = observer.epoch().await;
        match trouble {
            Some(trouble) => Err(trouble),
            None => {
                observer.chosen.learn(&step)?;
                let seen = observer.seen(&step, None);
                Ok((observer, seen))
            }
        }
    }

    async fn epoch(&mut self) -> (Step, Option<Failure>) {
        self.number += 1;
        let plan = self.pipeline.plan(self.number, self.clock.now(), self.config.timeout);
        let gathered = self.collector.epoch(plan).await;
        self.collector.drain();
        let trouble = self.collector.trouble(&gathered);
        let step = self.pipeline.step(&gathered);
        self.totals.take(&step.view.epoch);
        for outgoing in &step.events {
            self.recent.take(&outgoing.event);
        }
        // News of the connection are shown by what they lead to.
        drop(self.collector.take_news());
        (step, trouble.map(|trouble| trouble.failure(&self.config.inbox_prefix)))
    }

    fn seen(&self, step: &Step, trouble: Option<&Failure>) -> Seen {
        let context = StatusContext {
            alerts: self.pipeline.alert_table(),
            recent: &self.recent,
            totals: &self.totals,
            monitor: &self.pipeline.settings().monitor,
            since: self.since,
            // Who only looks on is told no name of the system, and makes none up.
            system: None,
            login: &self.login,
            limits: Limits::SCREEN,
        };
        Seen {
            status: Arc::new(SystemStatus::of_groups(step, &self.chosen, &context)),
            trouble: trouble.map(ToString::to_string),
        }
    }

    /// Looks until nobody is told any more.
    async fn look_on(mut self, told: watch::Sender<Seen>) {
        let mut due = self.clock.now();
        while !told.is_closed() {
            if self.rest(due, &told).await {
                break;
            }
            let opened = self.clock.now();
            let (step, trouble) = self.epoch().await;
            // A group that was there and is not seen now is told of: nobody answers for it.
            self.chosen.learn(&step).ok();
            if self.follow_ups.is_free()
                && let Some(follow_up) = self.pipeline.follow_ups(&step)
            {
                self.follow_ups.ask(follow_up);
            }
            told.send_replace(self.seen(&step, trouble.as_ref()));
            due = opened.plus(step.next_in);
            // What servers answer to further questions stands in the next status.
            self.rest_with_answers(&step, opened, &mut due, &told).await;
        }
        drop(timeout(CLOSE_MAX, self.collector.close()).await);
    }

    /// Waits until `due`. True when it is over.
    async fn rest(&mut self, due: Stamp, told: &watch::Sender<Seen>) -> bool {
        tokio::select! {
            () = told.closed() => true,
            _ = self.collector.idle_until(due) => false,
        }
    }

    async fn rest_with_answers(
        &mut self,
        step: &Step,
        opened: Stamp,
        due: &mut Stamp,
        told: &watch::Sender<Seen>,
    ) {
        loop {
            tokio::select! {
                () = told.closed() => return,
                (follow_up, replies) = self.follow_ups.answered() => {
                    for outgoing in self.pipeline.answer(&follow_up, &replies, step, self.clock.now()) {
                        self.recent.take(&outgoing.event);
                    }
                }
                woken = self.collector.idle_until(*due) => {
                    if woken != WakeReason::Time {
                        *due = opened.plus(EPOCHS_APART_MIN);
                    }
                    return;
                }
            }
        }
    }
}

/// Draws on the terminal until somebody has seen enough, or `stopped` is ready.
pub async fn on_terminal(
    (observer, first): (Observer, Seen),
    only_problems: bool,
    style: Style,
    stopped: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(stopped);
    let clock = observer.clock;
    let mut viewer = Viewer::new(only_problems);
    viewer.take(Arc::clone(&first.status));
    let (told, mut seen) = watch::channel(first);
    let looking = tokio::spawn(observer.look_on(told));
    let mut terminal = Terminal::enter(style)?;
    let mut ticks = interval(TICK);
    loop {
        let size = terminal.size();
        terminal.draw(viewer.draw(size, clock.now().wall_ns()));
        tokio::select! {
            () = &mut stopped => break,
            input = terminal.input() => match input {
                Input::Resized => {}
                Input::Gone => break,
                Input::Key(key) => match viewer.press(key, terminal.size()) {
                    Reaction::Quit => break,
                    Reaction::Redraw | Reaction::Nothing => {}
                },
            },
            changed = seen.changed() => {
                if changed.is_err() {
                    break;
                }
                let Seen { status, trouble } = seen.borrow_and_update().clone();
                viewer.take(status);
                viewer.set_trouble(trouble);
            }
            _ = ticks.tick() => {}
        }
    }
    terminal.leave().await;
    drop(seen);
    // It notices by itself that nobody looks any more.
    if timeout(CLOSE_MAX, looking).await.is_err() {
        tracing::debug!("the connection could not be ended in time");
    }
    Ok(())
}

/// Is told every status, and a line where something has changed; says whether anybody still reads.
pub type Tell<'a> = dyn FnMut(&SystemStatus, Option<Line>) -> Result<bool, Failure> + 'a;

/// Tells each change, where there is no terminal to draw on, until nobody reads any more, or `stopped` is ready.
pub async fn in_lines(
    (observer, first): (Observer, Seen),
    stopped: impl Future<Output = ()>,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    tokio::pin!(stopped);
    let mut said = None;
    let (told, mut seen) = watch::channel(first);
    let looking = tokio::spawn(observer.look_on(told));
    loop {
        let Seen { status, trouble } = seen.borrow_and_update().clone();
        let state = (status.status, status.summary.clone());
        let mut line = plain_line(&status);
        if let Some(trouble) = &trouble {
            line.push(None, &format!("; {trouble}"));
        }
        let news = said.as_ref() != Some(&state);
        if !tell(&status, news.then_some(line))? {
            break;
        }
        said = Some(state);
        tokio::select! {
            () = &mut stopped => break,
            changed = seen.changed() => if changed.is_err() { break },
        }
    }
    drop(seen);
    if timeout(CLOSE_MAX, looking).await.is_err() {
        tracing::debug!("the connection could not be ended in time");
    }
    Ok(())
}
