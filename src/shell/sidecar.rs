//! One watcher among several, and across restarts: who speaks, the ledger that all of them keep, and the state file.
//!
//! The order is what makes it safe: what is about to be published is first in the state file and with the others
//! ([`Sidecar::keep`]), then it is published if we still may ([`Sidecar::may_speak`]).

use crate::company::{Company, Heard, Me, Role, Word};
use crate::epoch::Gathered;
use crate::event::{Monitor, Outgoing};
use crate::pipeline::Pipeline;
use crate::shell::clock::Clock;
use crate::shell::connect::{LinkEvent, Operation};
use crate::shell::presence::Presence;
use crate::shell::state::StateFile;
use crate::stamp::Stamp;

/// A watcher that sees nothing in so many epochs running leaves the word to one that does.
const BLIND_EPOCHS: u32 = 2;

/// What one watcher is to the others.
#[derive(Debug)]
pub struct Sidecar {
    company: Company,
    presence: Presence,
    state: Option<StateFile>,
    clock: Clock,
    /// The subjects of the words begin so.
    subjects: String,
    /// Events of the watcher that speaks, or of our own last run, that may not have arrived.
    inherited: Vec<Outgoing>,
    blind_epochs: u32,
    role: Role,
    changed_role: bool,
    deaf: bool,
}

impl Sidecar {
    /// A watcher that listens for others. `client` is the observing connection: words travel in its account.
    pub async fn new(
        client: async_nats::Client,
        clock: Clock,
        pipeline: &Pipeline,
        state: Option<StateFile>,
        inherited: Vec<Outgoing>,
    ) -> Self {
        let settings = pipeline.settings();
        let Monitor { name, instance, .. } = settings.monitor.clone();
        let me = Me { instance, name, started_ns: clock.now().wall_ns() };
        let instance = me.instance.clone();
        let company = Company::new(me, settings.rules.interval);
        let presence = Presence::new(client, clock, &settings.prefix, &instance, company.pace()).await;
        presence.repeat(company.word(clock.now()));
        Self {
            company,
            presence,
            state,
            clock,
            subjects: format!("{}.watcher.", settings.prefix),
            inherited,
            blind_epochs: 0,
            role: Role::Joining,
            changed_role: false,
            deaf: false,
        }
    }

    /// The next word of another watcher.
    pub async fn heard(&mut self) -> Word {
        self.presence.next().await
    }

    /// When [`Self::turn`] may come to another end though nothing is heard.
    pub fn next_turn(&self) -> Stamp {
        self.company.next_turn(self.clock.now())
    }

    /// Whether what was decided may still be published.
    pub fn may_speak(&self) -> bool {
        self.company.may_speak(self.clock.now())
    }

    /// The company.
    pub fn company(&self) -> &Company {
        &self.company
    }

    /// Messages on the subjects of the watchers that were not understood or not believed.
    pub fn refused(&self) -> u64 {
        self.company.refused() + self.presence.unreadable()
    }

    /// Takes what happened to the connection.
    pub fn hear_of(&mut self, news: &LinkEvent) {
        match news {
            LinkEvent::Connected => self.company.set_denied(false),
            LinkEvent::PermissionDenied { subject, operation } if subject.starts_with(&self.subjects) => {
                self.company.set_denied(true);
                let right = match operation {
                    Operation::Publish => "publish",
                    Operation::Subscribe => "subscribe",
                };
                self.tell_deaf(&format!("add \"{}*\" to the user's permissions to {right}", self.subjects));
            }
            LinkEvent::PermissionDenied { .. }
            | LinkEvent::Disconnected
            | LinkEvent::SlowConsumer
            | LinkEvent::AuthorizationViolation
            | LinkEvent::LameDuck
            | LinkEvent::Closed
            | LinkEvent::Error(_) => {}
        }
    }

    fn tell_deaf(&mut self, hint: &str) {
        if !std::mem::replace(&mut self.deaf, true) {
            tracing::warn!(
                hint,
                "other watchers cannot be heard: this one speaks as if it were alone. Where others run, alerts come twice"
            );
        }
    }

    /// Takes a word of another watcher, and every further one that is there.
    pub fn take(&mut self, word: Word, pipeline: &mut Pipeline) {
        self.take_one(word, pipeline);
        self.take_ready(pipeline);
    }

    fn take_ready(&mut self, pipeline: &mut Pipeline) {
        while let Some(word) = self.presence.ready() {
            self.take_one(word, pipeline);
        }
    }

    fn take_one(&mut self, word: Word, pipeline: &mut Pipeline) {
        let now = self.clock.now();
        let sender = word.name.clone();
        let refused = match self.company.hear(word, now) {
            Heard::Nothing => return,
            Heard::Adopt(ledger) => {
                let (waiting, refused) = pipeline.adopt(ledger, now);
                self.inherited = waiting;
                refused
            }
            Heard::Merge(ledger) => {
                tracing::info!(
                    watcher = sender,
                    "another watcher spoke unheard: its incidents are taken over"
                );
                pipeline.merge(ledger, now)
            }
        };
        if let Some(other) = pipeline.take_other_system() {
            tracing::warn!(
                watcher = sender,
                system = pipeline.system(),
                hint = "give all watchers of a system the same --system, or none",
                "another watcher calls this system {other}: subscribers take it for another one"
            );
        }
        if refused > 0 {
            tracing::warn!(watcher = sender, refused, "a part of another watcher's ledger is not believed");
        }
    }

    /// Takes the end of an epoch: whether anything was seen.
    pub fn epoch_ended(&mut self, gathered: &Gathered) {
        let saw = !gathered.delays.is_empty();
        self.blind_epochs = if saw { 0 } else { self.blind_epochs.saturating_add(1) };
    }

    /// Decides anew whether we speak, and tells the pipeline. True when we have just begun to.
    pub fn turn(&mut self, pipeline: &mut Pipeline) -> bool {
        self.take_ready(pipeline);
        let now = self.clock.now();
        let role = self.company.turn(self.blind_epochs < BLIND_EPOCHS, now);
        if self.company.is_deaf(now) {
            self.tell_deaf("a server or a gateway on the way keeps them, or the connection does not echo");
        }
        pipeline.set_silent(role != Role::Speaking);
        let before = std::mem::replace(&mut self.role, role);
        if before != role {
            self.changed_role = true;
            self.tell_role(before, role);
        }
        let begins = role == Role::Speaking && before != Role::Speaking;
        if begins && let Some(ledger) = self.company.reclaim() {
            pipeline.merge(ledger, now);
        }
        begins
    }

    fn tell_role(&self, before: Role, role: Role) {
        let speaker = self.company.speaker().unwrap_or("nobody");
        match role {
            Role::Speaking if self.company.size() > 1 => {
                tracing::info!(watchers = self.company.size(), "this watcher speaks; the others stand by");
            }
            Role::Silent if before != Role::Claiming => {
                tracing::info!(speaker, "another watcher speaks; this one stands by");
            }
            // A frozen server or a lost connection says so itself.
            Role::Joining if before == Role::Speaking && self.company.size() > 1 => {
                tracing::warn!("this watcher lost touch with the others, and listens before it speaks again");
            }
            Role::Joining | Role::Silent | Role::Claiming | Role::Speaking => {}
        }
    }

    /// The events to be published first by one who has just begun to speak.
    pub fn inherit(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.inherited)
    }

    /// Writes down how things stand, where that has changed: in the state file, and with the others. `waiting` is
    /// everything that is published or about to be, and may not have arrived.
    pub async fn keep(&mut self, pipeline: &Pipeline, waiting: Vec<&Outgoing>) {
        let ledger = pipeline.ledger(self.inherited.iter().chain(waiting));
        let changed = self.company.keep(ledger);
        if let Some(state) = &mut self.state
            && (changed || state.is_behind())
        {
            state.save(self.company.ledger()).await;
        }
        let now = self.clock.now();
        self.presence.repeat(self.company.word(now));
        // What has not changed is told by the steady repetition.
        if (self.changed_role || self.company.owes_ledger(now)) && self.presence.is_connected() {
            self.changed_role = false;
            let words = self.company.words(now);
            if !self.presence.say(words).await {
                self.company.tell_again();
            }
        }
    }

    /// Whether the others know what we are about to publish.
    pub fn has_told(&self) -> bool {
        !self.company.has_changed()
    }

    /// Keeps events that may not be published yet.
    pub fn hold(&mut self, events: Vec<Outgoing>) {
        self.inherited.extend(events);
    }

    /// The last word, so that another one speaks at once.
    pub async fn leave(&mut self) {
        self.presence.say(vec![self.company.farewell(self.clock.now())]).await;
    }
}
