//! What has not changed since the epoch before is taken from there.
//!
//! In a healthy system almost every reply says what the last one said, but for times. A group whose members all do so is
//! not merged again: its view and its findings are those of the epoch before, with the new times. **Invariant:** that is
//! what merging it again would lead to. It takes three things:
//!
//! - the group is settled ([`is_settled`]): its view depends on nothing but these replies, and no clock of it runs but
//!   the one that tells since when enough of its members answer;
//! - every server of its domain gave one answer in the epoch before and one in this, which say the same but for the
//!   sequence number, how long ago the leader heard whom, and the load of the server
//!   ([`crate::epoch::Respondent::unchanged`]), and nothing else arrived about any of them. Replies are joined to groups
//!   within their domain, so nobody else can belong to it, unless somebody there names a leader that does not answer in
//!   it: such a domain is never unchanged;
//! - we saw the epoch before, and this one in full.
//!
//! A domain with anything else in it is looked at as a whole, as if nothing had been seen before.

use std::collections::BTreeSet;

use super::contact::contact_in_term;
use super::history::{GroupHistory, History};
use super::{Answer, Contact, GroupView, PeerView, Run, Streak};
use crate::epoch::{Ended, Gathered, ServerKey};
use crate::name::{Name, PeerId};
use crate::rules::Rules;
use crate::wire::JetStream;

/// Which domains an epoch shows unchanged.
pub(super) struct Unchanged {
    /// The domains that are not; `None` where none can be said to be unchanged.
    changed: Option<BTreeSet<Name>>,
}

impl Unchanged {
    /// Looks for what is as it was, before the epoch is taken in. `seen` tells whether there is a view of the epoch
    /// before.
    pub(super) fn new(gathered: &Gathered, history: &History, rules: &Rules, seen: bool) -> Self {
        let last = history.last_closed(gathered).filter(|_| seen);
        let whole = matches!(gathered.ended, Ended::AllHeard | Ended::Deadline | Ended::Quiet)
            && gathered.counts_absence()
            && !gathered.asked_statsz;
        let Some(last) = last.filter(|_| whole && !history.is_blind(gathered, rules)) else {
            return Self { changed: None };
        };
        let mut changed = BTreeSet::new();
        let mut add = |domain: &Name| {
            if !changed.contains(domain) {
                changed.insert(domain.clone());
            }
        };
        // Both are in the order of the keys.
        let mut respondents = gathered.respondents.iter().peekable();
        for (key, server) in history.servers() {
            while let Some(stranger) = respondents.next_if(|respondent| respondent.key < *key) {
                add(&stranger.key.domain);
            }
            let respondent = respondents.next_if(|respondent| respondent.key == *key);
            let answered = server.last_heard == last;
            let same = answered && server.alone && respondent.is_some_and(|respondent| respondent.unchanged);
            if !same && (answered || respondent.is_some()) {
                add(&key.domain);
            }
        }
        respondents.for_each(|stranger| add(&stranger.key.domain));
        let events = gathered.announcements.iter().map(|(_, announcement)| &announcement.server);
        let rejects = gathered.rejects.iter().filter_map(|reject| reject.server.as_deref());
        events.chain(rejects).for_each(|server| add(&server.domain));
        gathered.advisories.iter().for_each(|(_, advisory)| add(&advisory.domain));
        gathered.conflicts.iter().for_each(|conflict| add(&conflict.server.domain));
        history.mixed_domains.iter().for_each(&mut add);
        for (_, group) in history.groups().filter(|(_, group)| !group.settled) {
            add(&group.domain);
        }
        Self { changed: Some(changed) }
    }

    /// Whether a domain is as it was.
    pub(super) fn has(&self, domain: &Name) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.contains(domain))
    }

    /// Brings the views of the groups that are as they were up to date, out of the views of the epoch before. In the
    /// order of their keys. Gives the keys of those, too, whose members have other loads.
    pub(super) fn renew(
        &self,
        last: Vec<GroupView>,
        gathered: &Gathered,
        history: &mut History,
        rules: &Rules,
    ) -> (Vec<GroupView>, BTreeSet<Name>) {
        let (mut ages, mut loads) = (Vec::new(), BTreeSet::new());
        let renewed = last.into_iter().filter(|view| self.has(&view.domain)).filter_map(|mut view| {
            let group = history.group_mut(&view.key).filter(|group| group.settled)?;
            renew(&mut view, group, gathered, &mut ages);
            if gathered.new_loads && super::load::renew(&mut view, group, gathered, rules) {
                loads.insert(view.key.clone());
            }
            Some(view)
        });
        (renewed.collect(), loads)
    }
}

/// Brings the view of a group up to date of which only times have changed.
fn renew(view: &mut GroupView, group: &mut GroupHistory, gathered: &Gathered, ages: &mut Vec<(PeerId, i64)>) {
    let now = gathered.closed;
    ages.clear();
    if let Some(leader) = &view.authority {
        let key = ServerKey { peer: leader.peer, domain: view.domain.clone() };
        let reply = gathered.reply(&key).map(|reply| &reply.jetstream);
        if let Some(JetStream::Member(meta)) = reply {
            ages.extend(meta.rows.iter().map(|row| (row.peer, row.active_ns)));
        }
    }
    // A group lists each peer once: with the peers in order, one walk finds all.
    ages.sort_unstable_by_key(|(peer, _)| *peer);
    let mut ages = ages.iter();
    view.led_for = group.tenure.and_then(|tenure| tenure.led_for(now));
    for peer in &mut view.peers {
        peer.last_heard = Some(now);
        if let Some(row) = &mut peer.row
            && let Some((_, active_ns)) = ages.find(|(id, _)| *id == peer.id)
        {
            row.active_ns = *active_ns;
            peer.leader_heard = contact_in_term(row, view.led_for);
        }
    }
    view.heard_by_leader = view.count_heard_by_leader();
    group.last_heard = Some(now);
    if let Some((_, at)) = &mut group.last_online {
        *at = now;
    }
    group.enough = (!view.quorum_gone()).then(|| Streak::again(group.enough, gathered));
    view.enough = group.enough;
}

/// Whether the same replies would lead to the same view of a group again, but for times: one leader with a complete
/// list, in which everybody is current; everybody answers as a member; nothing is suspected, remembered against
/// anybody, or counted.
pub(super) fn is_settled(view: &GroupView, group: &GroupHistory, gathered: &Gathered) -> bool {
    let led = view.authority.as_ref().is_some_and(|leader| {
        leader.complete && leader.accounts_for_all && leader.uncertain == 0 && view.claimants.len() == 1
    });
    let clocks = [view.leaderless, view.claimed, view.unheard, view.short, view.disagreement];
    let agreed = view.led
        && view.heard
        && !view.followed
        && !group.leader_unseen
        && group.has_list
        && clocks.iter().all(Option::is_none)
        && view.held.is_none()
        && view.sizes.is_none()
        && view.unreadable_leader.is_none()
        && view.silent_leader.is_none()
        && view.listless.is_empty()
        && view.outsiders.is_empty();
    let all = group.members.len() == view.peers.len() && group.peers.len() == view.peers.len();
    let remembered = group.last_online.as_ref().map(|(online, _)| online) == view.last_online.as_ref();
    led && agreed
        && all
        && is_calm(view, group)
        && remembered
        && !gathered.asked_statsz
        && view.peers.iter().all(|peer| is_well(peer, gathered))
}

/// Whether nothing that is told of for a while has changed, and no load is followed over time.
pub(super) fn is_calm(view: &GroupView, group: &GroupHistory) -> bool {
    let same_run = |peer: &PeerView| peer.load.as_ref().is_some_and(|load| load.run == Run::Same);
    view.leader_changes.is_empty()
        && view.shrunk.is_none()
        && view.pending_over.is_none()
        && view.peers.iter().all(same_run)
        && group.peers.values().all(|peer| peer.storage.is_idle())
}

fn is_well(peer: &PeerView, gathered: &Gathered) -> bool {
    let listed = peer.row.as_ref().is_some_and(|row| row.current && !row.offline && !row.offline_unreadable);
    let takes_part = peer.member && peer.online && peer.answer == Answer::Member;
    let has_a_place = peer.leader || (listed && peer.contact == Contact::Fresh && peer.met);
    let unsuspected = peer.silence.is_none()
        && peer.announced.is_none()
        && peer.unlisted.is_none()
        && peer.down_since.is_none()
        && peer.behind.is_none()
        && peer.flag_epochs == 0
        && peer.absent_epochs == 0
        && peer.disconnected_epochs == 0;
    let plain = !peer.outsider
        && !peer.flagged
        && !peer.leader_still_hears
        && !peer.answers_statsz
        && !peer.contact_lost_earlier
        && !peer.routes_held
        && !peer.off_since_start
        && !peer.said_removed
        && peer.out_of_storage.is_none()
        && peer.routes.is_empty()
        && peer.gateways.is_empty()
        && peer.receive_nothing.is_empty()
        && peer.still_receive.is_empty();
    let watched = peer.watched_since_heard && peer.last_heard == Some(gathered.closed);
    takes_part && has_a_place && unsuspected && plain && watched
}
