//! Who says that it is active, and what that is worth.
//!
//! Anybody can say so; whoever is active also watches, and tells so by heartbeats. A claim is believed at first, so that
//! a takeover costs no time. One that no heartbeat follows is not: then, and as long as such claims come and for ten
//! minutes after, only those count that heartbeats have followed. So nobody silences all watchers by words alone.

use std::time::Duration;

use super::message::PeerMessage;
use super::timing::{LEASE_UNIT_MAX, Timing};
use crate::stamp::Stamp;

/// So many that claim to be active are told apart.
const CLAIMS_MAX: usize = 8;
/// An active watcher without a heartbeat for so many intervals does not watch ...
const HEARTBEATS_MISSED: u32 = 3;
/// ... but an epoch, which comes before each, may take 5 s.
const HEARTBEAT_MIN: Duration = Duration::from_secs(6);
/// For so long after the last claim without heartbeats, no such claim is believed.
const WARY: Duration = Duration::from_secs(600);
/// So many claims running that ended without a single heartbeat are those of strangers.
const STRIKES_MAX: u32 = 3;
/// Each time that this watcher was right to be suspicious doubles its patience, up to so many times: where heartbeats
/// do not come through and messages do, watchers must not take turns.
const DOUBLINGS_MAX: u32 = 5;

/// One that says that it is active.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) message: PeerMessage,
    /// When it last said so.
    pub(super) at: Stamp,
    /// When its last heartbeat was heard.
    backed: Option<Stamp>,
}

/// All that say that they are active.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    claims: Vec<Claim>,
    /// The last heartbeats of others.
    heartbeats: Vec<(String, Stamp)>,
    /// Heartbeats come through to this watcher.
    hears_heartbeats: bool,
    /// When the one that was followed then last sent a heartbeat, or when that one was first followed.
    backed: Option<Stamp>,
    /// Until then only claims with heartbeats count.
    wary_until: Option<Stamp>,
    /// The standbys that the last one named whose heartbeats were heard.
    heirs: Vec<String>,
    strikes: u32,
    doublings: u32,
}

impl Claims {
    /// Takes the claim of another watcher. False when there is no room for it.
    pub(super) fn hear(&mut self, message: &PeerMessage, now: Stamp) -> bool {
        let backed = self.heartbeats.iter().find(|(name, _)| *name == message.instance).map(|(_, at)| *at);
        let message = PeerMessage { chunk: None, ..message.clone() };
        if backed.is_some() && !self.is_wary(now) {
            self.heirs.clone_from(&message.standbys);
        }
        if self.is_wary(now) && backed.is_none() {
            self.wary_until = Some(now.plus(WARY));
        }
        if let Some(known) = self.claims.iter_mut().find(|claim| claim.message.instance == message.instance) {
            (known.message, known.at) = (message, now);
            return true;
        }
        if self.claims.len() >= CLAIMS_MAX {
            let Some(unbacked) = self.claims.iter().position(|claim| claim.backed.is_none()) else {
                return false;
            };
            self.claims.remove(unbacked);
        }
        self.claims.push(Claim { message, at: now, backed });
        true
    }

    /// One that claimed to be active no longer does.
    pub(super) fn withdraw(&mut self, instance: &str) {
        self.claims.retain(|claim| claim.message.instance != instance);
    }

    pub(super) fn clear(&mut self) {
        self.claims.clear();
    }

    /// Takes a heartbeat; one's own tells that they come through.
    pub(super) fn hear_heartbeat(&mut self, instance: &str, own: bool, now: Stamp) {
        self.hears_heartbeats = true;
        if own {
            return;
        }
        self.heartbeats.retain(|(name, _)| name != instance);
        if self.heartbeats.len() >= CLAIMS_MAX {
            self.heartbeats.remove(0);
        }
        self.heartbeats.push((instance.to_owned(), now));
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.message.instance == instance) {
            claim.backed = Some(now);
            (self.strikes, self.doublings) = (0, 0);
        }
    }

    /// The server does not let us hear heartbeats.
    pub(super) fn hears_no_heartbeats(&mut self) {
        self.hears_heartbeats = false;
    }

    /// Forgets those that were not heard for so long.
    pub(super) fn expire(&mut self, timing: Timing, now: Stamp) {
        let gone = |claim: &Claim| now.since(claim.at) > timing.silence() * 2;
        let strangers = self.claims.iter().filter(|claim| gone(claim) && claim.backed.is_none()).count();
        self.claims.retain(|claim| !gone(claim));
        self.heartbeats.retain(|(_, at)| now.since(*at) <= WARY);
        if self.hears_heartbeats {
            self.strikes = self.strikes.saturating_add(u32::try_from(strangers).unwrap_or(u32::MAX));
            if self.strikes >= STRIKES_MAX {
                (self.strikes, self.wary_until) = (0, Some(now.plus(WARY)));
            }
        }
    }

    fn is_wary(&self, now: Stamp) -> bool {
        self.hears_heartbeats && self.wary_until.is_some_and(|until| !now.has_reached(until))
    }

    /// The active watcher: of those that count, the one that goes on whoever else there is.
    pub(super) fn leader(&self, timing: Timing, interval: Duration, now: Stamp) -> Option<&Claim> {
        let wary = self.is_wary(now);
        let counts = |claim: &&Claim| {
            let unit =
                timing.unit.max(Duration::from_millis(claim.message.lease_unit_ms())).min(LEASE_UNIT_MAX);
            let alive = now.since(claim.at) <= unit * 2;
            let backed =
                claim.backed.is_some_and(|at| now.since(at) <= patience(&claim.message, interval, 0));
            alive && (!wary || backed || self.heirs.contains(&claim.message.instance))
        };
        self.claims
            .iter()
            .filter(counts)
            .max_by(|one, other| one.message.active_rank().cmp(&other.message.active_rank()))
    }

    /// Whether the one that is followed sends no heartbeats, though they come through. Then it is not believed any
    /// more. Gives its name.
    pub(super) fn judge(&mut self, timing: Timing, interval: Duration, now: Stamp) -> Option<String> {
        let Some(leader) = self.leader(timing, interval, now) else {
            self.backed = None;
            return None;
        };
        let since = self.backed.unwrap_or(now);
        let heard = leader.backed.map_or(since, |at| at.max(since));
        let limit = patience(&leader.message, interval, self.doublings);
        let (name, distrusted) = (leader.message.name.clone(), leader.message.instance.clone());
        self.backed = Some(heard);
        if !self.hears_heartbeats || now.since(heard) <= limit {
            return None;
        }
        self.heirs.retain(|heir| *heir != distrusted);
        self.wary_until = Some(now.plus(WARY));
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        self.backed = None;
        Some(name)
    }
}

/// How long an active watcher may send no heartbeat: by its interval or ours, whichever is longer, as far as that can be.
fn patience(message: &PeerMessage, interval: Duration, doublings: u32) -> Duration {
    let theirs = Duration::from_millis(message.interval_ms).min(interval * 4);
    (theirs.max(interval) * HEARTBEATS_MISSED).max(HEARTBEAT_MIN) * 2_u32.pow(doublings)
}
