//! One watcher among several: whether it is the active one, and what it replicates to the others.
//!
//! It drives [`Election`], which decides who is active, and hands what the others replicate to the pipeline and the
//! outbox. **Invariant:** what the active watcher is about to publish is with the others before it is published.

use std::time::Duration;

use super::Daemon;
use super::effect::{Line, LinkNews};
use crate::election::{Election, Heard, Me, Notice, PeerMessage, Role};
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::replicated_state::{ReplicatedState, StateVersion};
use crate::stamp::Stamp;
use crate::view::{Moments, SavedHistory};

/// A watcher that sees nothing in so many epochs running leaves its place to one that does.
const BLIND_EPOCHS: u32 = 2;
/// A watcher whose alerts have no connection for so long leaves its place, too.
const MUTE_MAX: Duration = Duration::from_secs(3);

/// What one watcher is to the others.
#[derive(Clone, Debug)]
pub(super) struct Coordinator {
    election: Election,
    /// The subjects of the messages between watchers begin so.
    subjects: String,
    heartbeats: String,
    blind_epochs: u32,
    /// An epoch has not ended though its time is long over.
    stuck: bool,
    /// Since when there is no connection for alerts.
    mute_since: Option<Stamp>,
    role: Role,
    changed_role: bool,
    /// How many batches of messages to the others are on their way.
    telling: u32,
    /// The messages could not be sent, and are tried again then.
    again: Option<Stamp>,
    said_isolated: bool,
    said_too_large: bool,
    said_other_version: bool,
    /// How often the state could not be replicated.
    unreplicated: u64,
    /// Messages of other versions.
    other_versions: u64,
}

impl Coordinator {
    /// A watcher that knows of no other yet.
    pub(super) fn new(
        me: Me,
        interval: Duration,
        prefix: &str,
        restored: ReplicatedState,
        now: Stamp,
    ) -> Self {
        Self {
            election: Election::new(me, interval, restored, now),
            subjects: format!("{prefix}.watcher."),
            heartbeats: format!("{prefix}.heartbeat"),
            blind_epochs: 0,
            stuck: false,
            mute_since: None,
            role: Role::Joining,
            changed_role: false,
            telling: 0,
            again: None,
            said_isolated: false,
            said_too_large: false,
            said_other_version: false,
            unreplicated: 0,
            other_versions: 0,
        }
    }

    /// Whether this watcher is the active one, and may publish.
    pub(super) fn is_active(&self, now: Stamp) -> bool {
        self.election.is_active(now)
    }

    /// What it is to the others since the last [`Self::tick`].
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether this watcher is to see the servers.
    pub(super) fn collects(&self, now: Stamp) -> bool {
        self.election.collects(now)
    }

    /// Whether it hears the subjects of all other watchers.
    pub(super) fn hears_all(&self) -> bool {
        self.election.hears_all()
    }

    /// Which state it holds.
    pub(super) fn version(&self) -> Option<&StateVersion> {
        self.election.version()
    }

    /// About how many watchers there are, this one included.
    pub(super) fn watchers(&self) -> u64 {
        self.election.watchers()
    }

    /// Messages that were not understood or not believed.
    pub(super) fn refused(&self) -> u64 {
        self.election.refused() + self.other_versions
    }

    /// How often the state was too large for the messages of the server.
    pub(super) fn unreplicated(&self) -> u64 {
        self.unreplicated
    }

    /// When [`Self::tick`] may come to another end, or something is to be said, though nothing is heard.
    pub(super) fn next_tick(&self, now: Stamp) -> Stamp {
        self.election.next_tick(now)
    }

    /// Takes what happened to the observing connection.
    pub(super) fn hear_of(&mut self, news: &LinkNews, lines: &mut Vec<Line>) {
        match news {
            LinkNews::Connected => self.election.set_denied(false),
            LinkNews::Refused { subject, publish: false } if *subject == self.heartbeats => {
                self.hear_no_heartbeats();
            }
            LinkNews::Refused { subject, publish } if subject.starts_with(&self.subjects) => {
                self.election.set_denied(true);
                let right = if *publish { "publish" } else { "subscribe" };
                self.tell_isolated(
                    &format!("add \"{}*\" to the user's permissions to {right}", self.subjects),
                    lines,
                );
            }
            LinkNews::Refused { .. } => {}
        }
    }

    /// The observing connection is another one.
    pub(super) fn reconnected(&mut self, now: Stamp) {
        self.election.reconnected(now);
    }

    /// Takes a heartbeat of this instance.
    pub(super) fn hear_heartbeat(&mut self, instance: &str, now: Stamp) {
        self.election.hear_heartbeat(instance, now);
    }

    /// The server does not let us hear heartbeats.
    pub(super) fn hear_no_heartbeats(&mut self) {
        self.election.set_heartbeats_denied();
    }

    /// A watcher was heard that does not understand this one.
    pub(super) fn hear_other_version(&mut self, name: &str, lines: &mut Vec<Line>) {
        self.other_versions += 1;
        if !std::mem::replace(&mut self.said_other_version, true) {
            let text = format!(
                "another watcher, {name}, is of a version that does not understand this one: alerts may come twice"
            );
            lines.push(Line::warn(text).hint("renew all watchers of the system"));
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
        message: PeerMessage,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        now: Stamp,
        lines: &mut Vec<Line>,
    ) -> bool {
        let sender = message.name.clone();
        let refused = match self.election.hear(message, now) {
            Heard::Nothing => return false,
            Heard::Adopt(state) => {
                let (waiting, refused) = pipeline.adopt(state, now);
                outbox.replace(waiting);
                refused
            }
            Heard::Merge(state) => {
                let text =
                    format!("{sender}, another watcher, was active unheard: its incidents are taken over");
                lines.push(Line::info(text));
                Self::merge(state, pipeline, outbox, now)
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

    fn merge(state: ReplicatedState, pipeline: &mut Pipeline, outbox: &mut Outbox, now: Stamp) -> usize {
        let (waiting, refused) = pipeline.merge(state, now);
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

    /// Whether the disk takes the state.
    pub(super) fn take_disk(&mut self, saves: bool) {
        self.election.set_saves(saves);
    }

    /// Whether there is a connection for alerts.
    pub(super) fn take_alert_link(&mut self, up: bool, now: Stamp) {
        self.mute_since = if up { None } else { self.mute_since.or(Some(now)) };
    }

    /// Decides anew whether this watcher is active, and tells the pipeline and the outbox. True when it has just
    /// become so.
    pub(super) fn tick(
        &mut self,
        pipeline: &mut Pipeline,
        outbox: &mut Outbox,
        now: Stamp,
        lines: &mut Vec<Line>,
    ) -> bool {
        let mute = self.mute_since.is_some_and(|since| now.since(since) > MUTE_MAX);
        let sees_servers = self.blind_epochs < BLIND_EPOCHS && !self.stuck && !mute;
        let role = self.election.tick(sees_servers, now);
        if self.election.is_isolated(now) {
            let hint = "a server or a gateway on the way keeps them, or the connection does not echo";
            self.tell_isolated(hint, lines);
        }
        lines.extend(self.election.take_notices().into_iter().map(line_of_notice));
        pipeline.set_active(role == Role::Active);
        let before = std::mem::replace(&mut self.role, role);
        if before == role {
            return false;
        }
        self.changed_role = true;
        lines.extend(self.line_of(before, now));
        if role == Role::Standby {
            let active = self.election.active_name(now).unwrap_or("nobody");
            lines.push(Line::debug(format!("{active} names this watcher as one that takes over")));
        }
        if before == Role::Active {
            outbox.hold();
        }
        if role == Role::Reserve {
            // It does not look any more: what it saw last says nothing of later.
            (self.blind_epochs, self.stuck) = (0, false);
        }
        for state in self.election.take_unmerged() {
            Self::merge(state, pipeline, outbox, now);
        }
        role == Role::Active
    }

    fn line_of(&self, before: Role, now: Stamp) -> Option<Line> {
        let active = self.election.active_name(now).unwrap_or("nobody");
        let watchers = self.election.watchers();
        let was_silent = matches!(before, Role::Standby | Role::Reserve);
        match self.role {
            Role::Active if watchers > 1 => {
                Some(Line::info(format!("of {watchers} watchers this one speaks; the others stand by")))
            }
            Role::Standby | Role::Reserve if !was_silent && before != Role::Candidate => {
                Some(Line::info(format!("another watcher, {active}, speaks; this one stands by")))
            }
            Role::Reserve => Some(Line::debug("others take over before this watcher")),
            // A frozen server or a lost connection says so itself.
            Role::Joining if before == Role::Active && watchers > 1 => Some(Line::warn(
                "this watcher lost touch with the others, and listens before it speaks again",
            )),
            Role::Joining | Role::Standby | Role::Candidate | Role::Active => None,
        }
    }

    /// Takes the state as it is now; true when it is another one than before.
    pub(super) fn keep(&mut self, state: ReplicatedState, now: Stamp) -> bool {
        self.election.keep(state, now)
    }

    /// What the active watcher remembered of the servers, for this one, which begins to look; once.
    pub(super) fn take_inherited(&mut self, now: Stamp) -> Option<(SavedHistory, Moments)> {
        self.election.take_inherited(now)
    }

    /// What a restart is to go on with.
    pub(super) fn to_be_saved(&self) -> &ReplicatedState {
        self.election.to_be_saved()
    }

    /// What is to be said now, if anything is; it counts as said.
    pub(super) fn due_message(&mut self, now: Stamp) -> Option<PeerMessage> {
        self.election.due_message(now)
    }

    /// The messages with the state that are to be sent now; none when there are none. No message has more bytes than
    /// `max_payload`. [`Self::told`] is to be called when they are sent.
    pub(super) fn state_messages(
        &mut self,
        now: Stamp,
        max_payload: usize,
        lines: &mut Vec<Line>,
    ) -> Option<Vec<PeerMessage>> {
        self.again.take_if(|at| now.has_reached(*at));
        if self.telling > 0 || self.again.is_some() {
            return None;
        }
        match self.election.state_messages(now, max_payload)? {
            Ok(messages) => {
                self.telling += 1;
                Some(messages)
            }
            Err(too_large) => {
                self.unreplicated += 1;
                if !std::mem::replace(&mut self.said_too_large, true) {
                    let text = format!("what this watcher knows cannot be told to the others: {too_large}");
                    lines.push(Line::error(text).hint("raise max_payload in the servers' configuration"));
                }
                None
            }
        }
    }

    /// The messages are sent, or could not be.
    pub(super) fn told(&mut self, sent: bool, now: Stamp) {
        self.telling = self.telling.saturating_sub(1);
        if !sent {
            self.again = Some(now.plus(self.election.pace() / 2));
            self.election.send_again();
        }
    }

    /// Whether the others know what is about to be published.
    pub(super) fn has_told(&self) -> bool {
        !self.election.has_changed() && self.telling == 0
    }

    /// Whether nothing is on its way to the others.
    pub(super) fn is_quiet(&self) -> bool {
        self.telling == 0
    }

    /// The last message, so that another watcher takes over at once.
    pub(super) fn farewell(&mut self, now: Stamp) -> PeerMessage {
        self.telling += 1;
        self.election.farewell(now)
    }
}

impl Daemon {
    /// Takes what happened to the observing connection.
    pub(super) fn hear_of_links(&mut self, news: &[LinkNews], now: Stamp) {
        for news in news {
            self.dispatcher.hear_of(news, now, &mut self.lines);
            self.coordinator.hear_of(news, &mut self.lines);
        }
    }
}

fn line_of_notice(notice: Notice) -> Line {
    match notice {
        Notice::WithoutHeartbeats(name) => {
            Line::warn(format!("the active watcher, {name}, sends no heartbeats: another one takes over"))
                .hint("see whether that watcher hangs, or whether it is none")
        }
        Notice::Resigned => Line::warn(
            "this watcher sees no servers, cannot send alerts or cannot save its state: another one takes over",
        ),
    }
}
