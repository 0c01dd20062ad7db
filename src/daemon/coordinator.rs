//! One watcher among several: whether it is the active one, and what it replicates to the others.
//!
//! It drives [`Company`], which decides who is active, and hands what the others replicate to the pipeline and the
//! outbox. **Invariant:** what the active watcher is about to publish is with the others before it is published.

use std::time::Duration;

use super::effect::{Line, LinkNews};
use crate::company::{Company, Heard, Me, Role, Word};
use crate::ledger::Ledger;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::stamp::Stamp;

/// A watcher that sees nothing in so many epochs running leaves its place to one that does.
const BLIND_EPOCHS: u32 = 2;

/// What one watcher is to the others.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    company: Company,
    /// The subjects of the messages between watchers begin so.
    subjects: String,
    blind_epochs: u32,
    /// An epoch has not ended though its time is long over.
    stuck: bool,
    role: Role,
    changed_role: bool,
    /// How many batches of messages to the others are on their way.
    telling: u32,
    /// The messages could not be sent, and are tried again then.
    again: Option<Stamp>,
    said_isolated: bool,
    said_too_large: bool,
    /// How often the state could not be replicated.
    unreplicated: u64,
}

impl Coordinator {
    /// A watcher that knows of no other yet.
    pub(super) fn new(me: Me, interval: Duration, prefix: &str) -> Self {
        Self {
            company: Company::new(me, interval),
            subjects: format!("{prefix}.watcher."),
            blind_epochs: 0,
            stuck: false,
            role: Role::Joining,
            changed_role: false,
            telling: 0,
            again: None,
            said_isolated: false,
            said_too_large: false,
            unreplicated: 0,
        }
    }

    /// How often the message to the others is repeated.
    pub(super) fn pace(&self) -> Duration {
        self.company.pace()
    }

    /// Whether this watcher is the active one, and may publish.
    pub(super) fn is_active(&self, now: Stamp) -> bool {
        self.company.may_speak(now)
    }

    /// What it is to the others since the last [`Self::turn`].
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// How many watchers there are, this one included.
    pub(super) fn watchers(&self) -> usize {
        self.company.size()
    }

    /// Messages that were not understood or not believed.
    pub(super) fn refused(&self) -> u64 {
        self.company.refused()
    }

    /// How often the state was too large for the messages of the server.
    pub(super) fn unreplicated(&self) -> u64 {
        self.unreplicated
    }

    /// When [`Self::turn`] may come to another end though nothing is heard.
    pub(super) fn next_turn(&self, now: Stamp) -> Stamp {
        self.company.next_turn(now)
    }

    /// Takes what happened to the observing connection.
    pub(super) fn hear_of(&mut self, news: &LinkNews, lines: &mut Vec<Line>) {
        match news {
            LinkNews::Connected => self.company.set_denied(false),
            LinkNews::Refused { subject, publish } if subject.starts_with(&self.subjects) => {
                self.company.set_denied(true);
                let right = if *publish { "publish" } else { "subscribe" };
                self.tell_isolated(
                    &format!("add \"{}*\" to the user's permissions to {right}", self.subjects),
                    lines,
                );
            }
            LinkNews::Refused { .. } => {}
        }
    }

    fn tell_isolated(&mut self, hint: &str, lines: &mut Vec<Line>) {
        if !std::mem::replace(&mut self.said_isolated, true) {
            let text = "other watchers cannot be heard: this one speaks as if it were alone. Where others run, \
                        alerts come twice";
            lines.push(Line::warn(text).hint(hint));
        }
    }

    /// Takes a message of another watcher, or an own one that came back. True when the alerts or the outbox are others
    /// than before.
    pub(super) fn hear(
        &mut self,
        message: Word,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        now: Stamp,
        lines: &mut Vec<Line>,
    ) -> bool {
        let sender = message.name.clone();
        let refused = match self.company.hear(message, now) {
            Heard::Nothing => return false,
            Heard::Adopt(ledger) => {
                let (waiting, refused) = pipeline.adopt(ledger, now);
                outbox.replace(waiting);
                refused
            }
            Heard::Merge(ledger) => {
                let text = format!("{sender}, another watcher, spoke unheard: its incidents are taken over");
                lines.push(Line::info(text));
                self.merge(ledger, pipeline, outbox, now)
            }
        };
        if let Some(other) = pipeline.take_other_system() {
            let own = pipeline.system().unwrap_or("none");
            let text = format!(
                "{sender}, another watcher, calls this system {other}, not {own}: subscribers take it for another one"
            );
            let hint = "give all watchers of a system the same --system, or none";
            lines.push(Line::warn(text).hint(hint));
        }
        if refused > 0 {
            lines.push(Line::warn(format!("{refused} entries of what {sender} knows are not believed")));
        }
        true
    }

    fn merge(&self, ledger: Ledger, pipeline: &mut Pipeline, outbox: &mut Outbox, now: Stamp) -> usize {
        let (waiting, refused) = pipeline.merge(ledger, now);
        outbox.merge(waiting);
        refused
    }

    /// Takes the end of an epoch: whether anything was seen.
    pub(super) fn epoch_ended(&mut self, saw: bool) {
        self.stuck = false;
        self.blind_epochs = if saw { 0 } else { self.blind_epochs.saturating_add(1) };
    }

    /// An epoch has not ended though its time is long over: another watcher may be better off.
    pub(super) fn epoch_is_stuck(&mut self) {
        self.stuck = true;
    }

    /// Decides anew whether this watcher is active, and tells the pipeline and the outbox. True when it has just
    /// become so.
    pub(super) fn turn(
        &mut self,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        now: Stamp,
        lines: &mut Vec<Line>,
    ) -> bool {
        let sees_servers = self.blind_epochs < BLIND_EPOCHS && !self.stuck;
        let role = self.company.turn(sees_servers, now);
        if self.company.is_deaf(now) {
            let hint = "a server or a gateway on the way keeps them, or the connection does not echo";
            self.tell_isolated(hint, lines);
        }
        pipeline.set_silent(role != Role::Speaking);
        let before = std::mem::replace(&mut self.role, role);
        if before == role {
            return false;
        }
        self.changed_role = true;
        lines.extend(self.line_of(before));
        if before == Role::Speaking {
            outbox.hold();
        }
        if role == Role::Speaking
            && let Some(ledger) = self.company.reclaim()
        {
            self.merge(ledger, pipeline, outbox, now);
        }
        role == Role::Speaking
    }

    fn line_of(&self, before: Role) -> Option<Line> {
        let speaker = self.company.speaker().unwrap_or("nobody");
        match self.role {
            Role::Speaking if self.company.size() > 1 => {
                let watchers = self.company.size();
                Some(Line::info(format!("of {watchers} watchers this one speaks; the others stand by")))
            }
            Role::Silent if before != Role::Claiming => {
                Some(Line::info(format!("another watcher, {speaker}, speaks; this one stands by")))
            }
            // A frozen server or a lost connection says so itself.
            Role::Joining if before == Role::Speaking && self.company.size() > 1 => Some(Line::warn(
                "this watcher lost touch with the others, and listens before it speaks again",
            )),
            Role::Joining | Role::Silent | Role::Claiming | Role::Speaking => None,
        }
    }

    /// Takes the state as it is now; true when it is another one than before.
    pub(super) fn keep(&mut self, ledger: Ledger) -> bool {
        self.company.keep(ledger)
    }

    /// The state as it was kept last.
    pub(super) fn kept(&self) -> &Ledger {
        self.company.ledger()
    }

    /// The message that is repeated as long as nothing changes.
    pub(super) fn message(&self, now: Stamp) -> Word {
        self.company.word(now)
    }

    /// The messages that are to be sent now; none when there are none. No message has more bytes than
    /// `max_payload`. [`Self::told`] is to be called when they are sent.
    pub(super) fn messages(
        &mut self,
        now: Stamp,
        max_payload: usize,
        lines: &mut Vec<Line>,
    ) -> Option<Vec<Word>> {
        self.again.take_if(|at| now.has_reached(*at));
        if self.telling > 0 || self.again.is_some() || !(self.changed_role || self.company.owes_ledger(now)) {
            return None;
        }
        self.changed_role = false;
        self.telling += 1;
        Some(self.company.words(now, max_payload).unwrap_or_else(|too_large| {
            self.unreplicated += 1;
            if !std::mem::replace(&mut self.said_too_large, true) {
                let text = format!("what this watcher knows cannot be told to the others: {too_large}");
                lines.push(Line::error(text).hint("raise max_payload in the servers' configuration"));
            }
            vec![self.company.word(now)]
        }))
    }

    /// The messages are sent, or could not be.
    pub(super) fn told(&mut self, sent: bool, now: Stamp) {
        self.telling = self.telling.saturating_sub(1);
        if !sent {
            self.again = Some(now.plus(self.pace() / 2));
            self.company.tell_again();
        }
    }

    /// Whether the others know what is about to be published.
    pub(super) fn has_told(&self) -> bool {
        !self.company.has_changed() && self.telling == 0
    }

    /// Whether nothing is on its way to the others.
    pub(super) fn is_quiet(&self) -> bool {
        self.telling == 0
    }

    /// The last message, so that another watcher takes over at once.
    pub(super) fn farewell(&mut self, now: Stamp) -> Word {
        self.telling += 1;
        self.company.farewell(now)
    }
}
