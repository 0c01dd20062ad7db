//! One peer: what every witness says of it in this epoch, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::connections::Connections;
use super::contact::{LedFor, contact_in_term};
use super::history::{PeerHistory, ServerHistory};
use super::opinions::Said;
use super::reply_index::ReplyIndex;
use super::{Answer, Authority, Contact, Load, Opinion, PeerView, Route, Run, Streak};
use crate::epoch::{Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::{ANNOUNCED_FLAG_MAX, Rules, STANDING_EPOCHS_MIN, STORAGE_SAID_MAX};
use crate::stamp::Stamp;
use crate::wire::{AdvisoryKind, Meta, Reply, Row};

/// How many reporters and routes are told of one peer. All count.
pub(super) const TOLD_MAX: usize = 64;

/// All that this epoch holds of one peer.
pub(super) struct PeerEvidence<'a> {
    pub(super) gathered: &'a Gathered,
    pub(super) reply_index: &'a ReplyIndex<'a>,
    pub(super) rules: &'a Rules,
    pub(super) authority: Option<&'a Authority>,
    /// How long the authority has led; `None` when it was there before us.
    pub(super) led_for: Option<LedFor>,
    /// The list lacks it, and too few could agree on that.
    pub(super) held: bool,
    /// We have watched without a gap since its last answer.
    pub(super) watched_since_heard: bool,
    /// It answers, and no list has it.
    pub(super) outsider: bool,
    /// The cluster of the servers that hold, or lately held, a route to it.
    pub(super) cluster_by_routes: Option<&'a Name>,
    /// Servers have told of gateway connections to its cluster.
    pub(super) has_gateways: bool,
    /// Its row in the authoritative list.
    pub(super) row: Option<&'a Row>,
    /// Its own reply, as a member.
    pub(super) reply: Option<(&'a Reply, &'a Meta)>,
    /// What is remembered of it as a server.
    pub(super) server: Option<&'a ServerHistory>,
    /// Whether another member of its group answered.
    pub(super) others_answer: bool,
    /// Whether as many members answer as must agree.
    pub(super) quorum_answers: bool,
    pub(super) member: bool,
    /// It belongs to another group now.
    pub(super) moved: bool,
    pub(super) clusters: &'a BTreeSet<Name>,
    pub(super) domain: &'a Name,
    pub(super) opinions: &'a [Said<'a>],
    /// How many other members sent a list.
    pub(super) lists: u64,
}

/// Joins what the witnesses say with what is remembered of the peer.
pub(super) fn merge(id: PeerId, evidence: &PeerEvidence<'_>, history: &mut PeerHistory) -> PeerView {
    let answer = evidence.answer(id);
    evidence.switched_off(answer, history);
    let answers_statsz = evidence.answers_statsz(id);
    evidence.announcement(id, answer != Answer::None || answers_statsz, history);
    evidence.silence(answer, history);
    let lost_earlier = history.contact_lost;
    let contact = history.contact(evidence.row, evidence.gathered, evidence.led_for, evidence.rules);
    if answer == Answer::Member && evidence.row.is_none() {
        history.contact_lost = false;
    }
    let flagged = evidence.flag(answer, history);
    let Connections { routes, more_routes, gateways } = evidence.connections(id, answers_statsz, history);
    evidence.storage(id, answer, history);
    evidence.membership(id, answer, history);
    evidence.down(answer, history);
    let behind = evidence.behind(answer, history);
    let load = evidence.load(history);
    let heard = |row: &Row| leader_still_hears(row, history.silence, evidence.gathered);
    // A leader of its own cluster that holds no route to it cannot have heard it, whatever its list says.
    let cut_off = evidence.authority.is_some_and(|leader| routes.get(&leader.name) == Some(&Route::Lost));
    let hears = contact == Contact::Fresh && !cut_off && evidence.row.is_some_and(heard);
    let leader_still_hears = answer == Answer::None && hears;
    let said_offline = evidence.opinions.iter().filter(|(.., said)| *said == Opinion::Offline).count();
    PeerView {
        id,
        name: history.name.clone().or_else(|| evidence.server.map(|server| server.name.clone())),
        cluster: evidence.cluster(),
        server_id: evidence.server.map(|server| server.id.clone()).unwrap_or_default(),
        leader: evidence.authority.is_some_and(|authority| authority.peer == id),
        member: evidence.member,
        online: false,
        row: evidence.row.cloned(),
        answer,
        load,
        behind,
        outsider: evidence.outsider,
        flagged,
        flag_epochs: history.flag_epochs,
        flag_announced: history.flag_announced,
        contact,
        leader_heard: evidence.row.and_then(|row| contact_in_term(row, evidence.led_for)),
        leader_still_hears,
        answers_statsz,
        contact_lost_earlier: evidence.authority.is_none() && lost_earlier && history.contact_lost,
        silence: history.silence,
        back_since: history.back_since,
        disconnected_epochs: history.disconnected_epochs,
        routes,
        more_routes,
        gateways,
        routes_held: history.routes_held,
        routes_closed: history.routes_closed,
        receive_nothing: history.received.nothing_for(evidence.gathered),
        still_receive: history.received.lately(evidence.gathered),
        out_of_storage: history.out_of_storage.as_ref().map(|(_, stream)| stream.clone()),
        said_removed: history.said_removed,
        watched_since_heard: evidence.watched_since_heard,
        off_since_start: history.off_since_start,
        announced: history.announced,
        hearsay: (if evidence.authority.is_none() { said_offline as u64 } else { 0 }, evidence.lists),
        opinions: evidence.told_opinions(),
        more_opinions: evidence.opinions.len().saturating_sub(TOLD_MAX),
        unlisted: history.unlisted,
        absent_epochs: history.absent_epochs,
        last_heard: evidence.server.map(|server| server.last_heard),
        down_since: history.down_since,
        met: history.met,
    }
}

impl PeerEvidence<'_> {
    fn told_opinions(&self) -> BTreeMap<Name, Opinion> {
        let told = self.opinions.iter().take(TOLD_MAX);
        told.map(|(_, name, said)| ((*name).clone(), *said)).collect()
    }

    fn answer(&self, id: PeerId) -> Answer {
        match self.reply {
            Some(_) => Answer::Member,
            None if self.moved => Answer::None,
            None => {
                let server = ServerKey { peer: id, domain: self.domain.clone() };
                self.reply_index.of(&server, self.server, self.clusters)
            }
        }
    }

    /// What the peer told of itself: that its storage is full, and that it was removed. Both stand until it takes part
    /// again, or another run of it answers.
    fn storage(&self, id: PeerId, answer: Answer, history: &mut PeerHistory) {
        for (at, advisory) in self.reply_index.advisories_of(id) {
            let same_run = self.server.is_none_or(|known| known.id == advisory.id || known.id.is_empty());
            if advisory.domain != *self.domain || !same_run {
                continue;
            }
            match &advisory.kind {
                AdvisoryKind::OutOfStorage { stream } => history.out_of_storage = Some((*at, stream.clone())),
                AdvisoryKind::Removed => history.said_removed = true,
                AdvisoryKind::MetaRescue | AdvisoryKind::Elected => {}
            }
        }
        if answer == Answer::Member {
            let lately = |at: Stamp| self.gathered.opened.since(at) <= STORAGE_SAID_MAX;
            history.out_of_storage = history.out_of_storage.take().filter(|(at, _)| lately(*at));
            history.said_removed &= self.row.is_none();
        }
    }

    /// The last cluster it answered from, else the one whose servers hold routes to it. Whoever never answered has no
    /// other: it may be in a cluster that none of those who answer is in.
    pub(super) fn cluster(&self) -> Name {
        // Whoever never answered as a member may be a server outside the group that has this one's name.
        let of_the_group = |server: &&ServerHistory| server.member || self.clusters.contains(&server.cluster);
        let known = self.server.filter(|server| of_the_group(server) || self.clusters.is_empty());
        known.map(|server| &server.cluster).or(self.cluster_by_routes).cloned().unwrap_or_default()
    }

    /// Whether its JetStream has been off since its server was started anew: after a stop or a silence, or in another
    /// run than the one that was a member.
    fn switched_off(&self, answer: Answer, history: &mut PeerHistory) {
        let another_run =
            self.server.is_some_and(|server| !server.member_run.is_empty() && server.member_run != server.id);
        let was_away = history.announced.is_some() || history.silence.is_some();
        history.off_since_start =
            answer == Answer::Disabled && (another_run || was_away || history.off_since_start);
    }

    /// Whether the peer itself answered the question for its routes, from the cluster that it is known to be in.
    fn answers_statsz(&self, id: PeerId) -> bool {
        self.gathered.asked_statsz && self.reply_index.has_statsz_of(id, self.domain, &self.cluster())
    }

    /// Since when it has answered without being current: noise for seconds, worth a word after minutes.
    fn behind(&self, answer: Answer, history: &mut PeerHistory) -> Option<(Streak, u64, u64)> {
        if answer == Answer::None && self.row.is_none() {
            return None;
        }
        let row = self.row.filter(|row| !row.current && !row.offline && answer == Answer::Member);
        let Some(row) = row else {
            history.behind = None;
            return None;
        };
        let (streak, first) = history.behind.map_or((None, row.lag), |(streak, lag)| (Some(streak), lag));
        let streak = Streak::again(streak, self.gathered);
        history.behind = Some((streak, first));
        Some((streak, first, row.lag))
    }

    /// What it carries by its own word.
    fn load(&self, history: &mut PeerHistory) -> Option<Load> {
        let (reply, meta) = self.reply?;
        let now = self.gathered.closed;
        Some(Load {
            usage: meta.usage,
            version: reply.server.version.clone(),
            growth: history.storage.take(&meta.usage, now),
            run: self.server.map_or(Run::First, |server| server.runs.view(now)),
        })
    }

    /// Since when it has been down, as far as somebody saw that: time in which we saw nothing does not count.
    fn down(&self, answer: Answer, history: &mut PeerHistory) {
        if answer == Answer::Member && history.flag_epochs == 0 {
            history.down_since = None;
        } else if answer != Answer::None || history.flag_epochs > 0 || history.silence.is_some() {
            history.down_since = history.down_since.or(Some(self.gathered.opened));
        }
    }

    /// An announcement stands until the peer answers; one stamped after the epoch opened is later than its replies.
    fn announcement(&self, id: PeerId, lives: bool, history: &mut PeerHistory) {
        for (at, announcement) in self.reply_index.announcements_of(id) {
            let server = &announcement.server;
            // Another run of it, or a server of the same name elsewhere, is not this peer's end.
            let same_run = self.server.is_none_or(|known| known.id == server.id || known.id.is_empty());
            if server.domain == *self.domain && same_run {
                history.announced = Some((*at, announcement.kind));
            }
        }
        let before_replies = history.announced.is_some_and(|(at, _)| at <= self.gathered.opened);
        if lives && before_replies {
            history.announced = None;
        }
    }

    fn silence(&self, answer: Answer, history: &mut PeerHistory) {
        if answer != Answer::None {
            if history.silence.is_some() {
                history.back_since = Some(self.gathered.opened);
            }
            (history.silence, history.disconnected_epochs, history.routes_held) = (None, 0, false);
            history.routes_closed = false;
            history.received.clear();
        } else if self.member && self.others_answer && self.gathered.counts_absence() {
            history.silence = Some(Streak::again(history.silence, self.gathered));
            history.back_since = None;
        }
    }

    /// Whether the flag stands. Counts for how long, and remembers whether it came too soon to be the sweep's: that one
    /// needs 150 s of silence. A flag outlives its row while the list lacks the peer without agreement.
    fn flag(&self, answer: Answer, history: &mut PeerHistory) -> bool {
        if self.held && history.flag_epochs > 0 && answer == Answer::None {
            history.flag_epochs = history.flag_epochs.saturating_add(1);
            return true;
        }
        let Some(row) = self.authority.and(self.row).filter(|row| row.offline) else {
            if self.authority.is_some() {
                history.flag_epochs = 0;
            }
            return false;
        };
        if history.flag_epochs == 0 {
            let heard = match self.server {
                Some(server) => Some(self.gathered.closed.since(server.last_heard)),
                // Who never heard it goes by the leader's last contact, as far as that is of its present term.
                None => contact_in_term(row, self.led_for),
            };
            history.flag_announced = row.name.is_some() && heard.is_some_and(|ago| ago <= ANNOUNCED_FLAG_MAX);
        }
        history.flag_epochs = history.flag_epochs.saturating_add(1);
        true
    }

    /// Whether the leader's complete list has the peer at all.
    fn membership(&self, id: PeerId, answer: Answer, history: &mut PeerHistory) {
        // A server that was removed while it ran answers as disabled; one that cannot be read may be anything.
        let may_be_gone =
            self.reply.is_none() && answer != Answer::Unreadable && self.gathered.counts_absence();
        let authority = self.authority.filter(|authority| authority.complete);
        let lacks_it = authority.is_some_and(|authority| authority.peer != id) && self.row.is_none();
        let lacks_it = lacks_it && !self.held;
        let absent = self.moved || (lacks_it && may_be_gone);
        // Its own word beside the list is as good as a second list.
        let more = if history.said_removed { STANDING_EPOCHS_MIN } else { 1 };
        history.absent_epochs = if absent { history.absent_epochs.saturating_add(more) } else { 0 };
        let Some(authority) = authority else { return };
        let follows = self.reply.is_some_and(|(_, meta)| meta.leader_id == Some(authority.peer));
        let unlisted = lacks_it && follows;
        history.unlisted = unlisted.then(|| Streak::again(history.unlisted, self.gathered));
    }
}

/// So much later than the peer's first missed epoch the leader must have heard it: it may have died while that epoch
/// waited for it.
const HEARD_LATER_MIN: Duration = Duration::from_secs(1);

/// Whether the leader has heard the peer since it fell silent to us, by the ages that both tell. A leader that lost it
/// in the same moment has an older contact.
pub(super) fn leader_still_hears(row: &Row, silence: Option<Streak>, gathered: &Gathered) -> bool {
    let Some(silence) = silence else { return false };
    let active = u64::try_from(row.active_ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos);
    active.is_some_and(|active| active + HEARD_LATER_MIN < gathered.opened.since(silence.since))
}
