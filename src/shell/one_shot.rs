//! One look at the cluster, for commands that give one answer.

use std::time::Duration;

use async_nats::Client;

use crate::alert::AlertTable;
use crate::pipeline::{Pipeline, Settings, Step};
use crate::report::settled::{ELECTION, More, Settled};
use crate::shell::clock::Clock;
use crate::shell::collect::{Collector, CollectorOptions, Transport, Trouble};
use crate::shell::config::ConnectConfig;
use crate::shell::connect::{Retry, connect};
use crate::shell::failure::Failure;
use crate::shell::follow_up::FollowUpTask;
use crate::stamp::Stamp;

/// The time between two epochs.
const STEP: Duration = Duration::from_millis(250);
/// The least time between two pings, however short the timeout is.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// So often the servers are asked about what is left open.
const ROUNDS_MAX: usize = 2;

/// How long to look.
pub enum Look<'a> {
    /// One epoch.
    Once,
    /// Until every verdict is final: at once when all is well, else for 2.5 s, or 11 s while there is no leader.
    UntilSettled {
        /// Told, once, why it takes longer.
        progress: &'a mut dyn FnMut(&str),
    },
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Looked {
    /// What the last epoch that saw anything leads to.
    pub step: Step,
    /// The alerts that this leads to, with what servers said when they were asked about them.
    pub alerts: AlertTable,
    /// How many epochs it took.
    pub epochs: u32,
}

/// Connects, looks, and lets go. Fails when nothing at all could be seen, and says why.
pub async fn look(config: &ConnectConfig, settings: Settings, mut how: Look<'_>) -> Result<Looked, Failure> {
    let clock = Clock::new();
    // A server that freezes now leaves half of the time for another one.
    let ping_interval = (config.timeout / 6).max(PING_INTERVAL_MIN);
    let config = &ConnectConfig { ping_interval, ..config.clone() };
    let link = connect(config, Retry::Once).await?;
    let mut collector = Collector::new(link, clock, CollectorOptions::default()).await;
    let mut pipeline = Pipeline::new(settings);
    let mut looked = look_through(&mut collector, clock, config, &mut pipeline, &mut how).await?;
    if matches!(how, Look::UntilSettled { .. }) {
        if ask(&mut pipeline, &looked.step, collector.client().clone(), clock).await {
            let number = u64::from(looked.epochs) + 1;
            let gathered = collector.epoch(pipeline.plan(number, clock.now(), config.timeout)).await;
            if collector.trouble(&gathered).is_none() {
                looked.step = pipeline.step(&gathered);
                looked.epochs += 1;
                // What came to light may have opened a further question.
                ask(&mut pipeline, &looked.step, collector.client().clone(), clock).await;
            }
        }
        looked.alerts = pipeline.alert_table().clone();
    }
    // Whoever looks once ends now: the system takes what was remembered back at once.
    std::mem::forget(pipeline);
    Ok(looked)
}

/// Asks the servers why, about what is left open. Nobody who does not answer makes the verdict any worse. Tells whether
/// the answers may change what another epoch shows.
async fn ask(pipeline: &mut Pipeline, step: &Step, client: Client, clock: Clock) -> bool {
    let mut follow_ups = FollowUpTask::new(client);
    let mut learned = false;
    // Each question is put once; what has no room in one round comes in the next.
    for _ in 0..ROUNDS_MAX {
        let Some(follow_up) = pipeline.follow_ups(step) else { break };
        follow_ups.ask(follow_up);
        let (follow_up, replies) = follow_ups.answered().await;
        pipeline.answer(&follow_up, &replies, step, clock.now());
        learned |= pipeline.has_learned();
    }
    learned
}

async fn look_through<P: Transport>(
    collector: &mut Collector<P>,
    clock: Clock,
    config: &ConnectConfig,
    pipeline: &mut Pipeline,
    how: &mut Look<'_>,
) -> Result<Looked, Failure> {
    let (mut settled, mut told) = (Settled::default(), false);
    let mut last: Option<Looked> = None;
    // The clock was made when the look began.
    let (until, mut epochs) = (Stamp::new(0, 0).plus(config.timeout), 0);
    for number in 1.. {
        let plan = pipeline.plan(number, clock.now(), config.timeout);
        let gathered = collector.epoch(plan).await;
        if let Some(trouble) = collector.trouble(&gathered) {
            let lost = trouble == Trouble::Disconnected;
            if lost && last.is_none() && collector.reconnected(until).await {
                continue;
            }
            // What was seen before counts; it is only not settled.
            return last.ok_or_else(|| trouble.failure(&config.inbox_prefix));
        }
        epochs += 1;
        let step = pipeline.step(&gathered);
        let more = match how {
            Look::Once => More::No,
            Look::UntilSettled { .. } => settled.wants_more(&step, gathered.opened, gathered.closed, epochs),
        };
        let looked = Looked { step, alerts: pipeline.alert_table().clone(), epochs };
        match (more, &mut *how) {
            (More::No, _) | (_, Look::Once) => return Ok(looked),
            (More::ForALeader | More::ForCertainty, Look::UntilSettled { progress }) if !told => {
                told = true;
                let why = if more == More::ForALeader { "no leader yet" } else { "a peer may be offline" };
                progress(&format!("{why}: looking for up to {} s before judging", ELECTION.as_secs()));
            }
            (More::Yes | More::ForALeader | More::ForCertainty, Look::UntilSettled { .. }) => {}
        }
        last = Some(looked);
        collector.idle_until(gathered.opened.plus(STEP)).await;
    }
    unreachable!("the epochs never run out")
}

#[cfg(test)]
mod tests;
