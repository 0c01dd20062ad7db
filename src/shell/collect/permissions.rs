//! What the server refused to let us do, and when it is worth another try.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::transport::Subscription;
use super::{PING_JSZ, PING_STATSZ};
use crate::shell::connect::Operation;
use crate::stamp::Stamp;

/// A watcher without these sees nothing, so they are asked for again soon: rights can be given while it runs.
const NEEDED_AGAIN: Duration = Duration::from_secs(10);
/// These only make it faster.
const USEFUL_AGAIN: Duration = Duration::from_secs(600);

/// Something that a user may be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Permission {
    /// To publish the `JSZ` request.
    Jsz,
    /// To subscribe to the replies.
    Inbox,
    /// To ask the own server for `STATSZ`.
    OwnStatsz,
    /// To ask all servers for `STATSZ`.
    PingStatsz,
    /// To hear which server shuts down.
    Shutdown,
    /// To hear which server is in lame duck mode.
    Lameduck,
    /// To hear that a leader was elected.
    Elected,
    /// To hear what servers tell of their storage and their membership.
    Advisories,
}

/// What each ear needs.
pub(super) const SUBSCRIPTIONS: [(Permission, Subscription); 5] = [
    (Permission::Inbox, Subscription::Inbox),
    (Permission::Shutdown, Subscription::Shutdown),
    (Permission::Lameduck, Subscription::Lameduck),
    (Permission::Elected, Subscription::Elected),
    (Permission::Advisories, Subscription::Advisories),
];

impl Permission {
    /// Which right a refusal is about; `None` when it is none of the collector's.
    pub(super) fn of(operation: Operation, subject: &str, inbox: &str) -> Option<Self> {
        match operation {
            Operation::Subscribe => SUBSCRIPTIONS
                .into_iter()
                .find(|(_, subscription)| subscription.subject(inbox) == subject)
                .map(|(permission, _)| permission),
            // A server may also object to where the reply should go.
            Operation::Publish if subject == PING_JSZ || subject.starts_with(inbox) => Some(Self::Jsz),
            Operation::Publish if subject == PING_STATSZ => Some(Self::PingStatsz),
            Operation::Publish if subject.starts_with("$SYS.REQ.SERVER.") && subject.ends_with(".STATSZ") => {
                Some(Self::OwnStatsz)
            }
            Operation::Publish => None,
        }
    }

    /// Whether nothing can be seen without it.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Self::Jsz | Self::Inbox)
    }
}

/// The rights that were refused on the present connection. Every right is taken as given until it is refused.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    refused: BTreeMap<Permission, Stamp>,
    said: BTreeSet<Permission>,
}

impl Permissions {
    /// Takes a refusal, and says once in the life of the process what it costs.
    ///
    /// Refusals of needed rights are said by whoever judges the epoch.
    pub(super) fn refuse(&mut self, permission: Permission, subject: &str, now: Stamp) {
        self.refused.insert(permission, now);
        // Two rights go together in words and in any sensible configuration.
        let spoken_of = match permission {
            Permission::OwnStatsz => Permission::PingStatsz,
            Permission::Lameduck => Permission::Shutdown,
            Permission::Jsz
            | Permission::Inbox
            | Permission::PingStatsz
            | Permission::Shutdown
            | Permission::Elected
            | Permission::Advisories => permission,
        };
        if permission.is_needed() || !self.said.insert(spoken_of) {
            return;
        }
        match permission {
            Permission::Shutdown | Permission::Lameduck => tracing::warn!(
                subject,
                hint = "allow the user to subscribe to \"$SYS.SERVER.*.SHUTDOWN\" and \"$SYS.SERVER.*.LAMEDUCK\"",
                "no permission to hear which server stops: a stop is noticed at the next epoch instead of at once",
            ),
            Permission::OwnStatsz | Permission::PingStatsz => tracing::info!(
                subject,
                hint = "allow the user to publish to \"$SYS.REQ.SERVER.PING.STATSZ\" and \"$SYS.REQ.SERVER.*.STATSZ\"",
                "no permission to ask for STATSZ: a crash is certain after about 5 s instead of 3 s, the loss of a leader later",
            ),
            Permission::Advisories => tracing::info!(
                subject,
                hint = "allow the user to subscribe to \"$JS.EVENT.ADVISORY.SERVER.*\"",
                "no permission to hear whose storage is full and who was removed: a JetStream that a full disk switched off is certain after about 4 s instead of at once, and the stream is not named",
            ),
            Permission::Elected => tracing::debug!(subject, "no permission to hear of elections"),
            Permission::Jsz | Permission::Inbox => {}
        }
    }

    /// Whether the right may be used: never refused, or refused long enough ago to try again.
    pub(super) fn may(&self, permission: Permission, now: Stamp) -> bool {
        let again = if permission.is_needed() { NEEDED_AGAIN } else { USEFUL_AGAIN };
        self.refused.get(&permission).is_none_or(|refused| now.since(*refused) >= again)
    }

    /// Whether it was refused when it was last tried.
    pub(super) fn is_refused(&self, permission: Permission) -> bool {
        self.refused.contains_key(&permission)
    }

    /// Forgets a refusal, to try again.
    pub(super) fn try_again(&mut self, permission: Permission) {
        self.refused.remove(&permission);
    }

    /// Another connection may have other rights.
    pub(super) fn reset(&mut self) {
        self.refused.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_subject() {
        let of = |operation, subject| Permission::of(operation, subject, "_INBOX.m.abc");
        for (operation, subject, permission) in [
            (Operation::Publish, "$SYS.REQ.SERVER.PING.JSZ", Some(Permission::Jsz)),
            (Operation::Publish, "_INBOX.m.abc.1.jsz", Some(Permission::Jsz)),
            (Operation::Publish, "$SYS.REQ.SERVER.PING.STATSZ", Some(Permission::PingStatsz)),
            (Operation::Publish, "$SYS.REQ.SERVER.NABC.STATSZ", Some(Permission::OwnStatsz)),
            (Operation::Publish, "metawatch.heartbeat", None),
            (Operation::Subscribe, "_INBOX.m.abc.*.*", Some(Permission::Inbox)),
            (Operation::Subscribe, "$SYS.SERVER.*.SHUTDOWN", Some(Permission::Shutdown)),
            (Operation::Subscribe, "$SYS.SERVER.*.LAMEDUCK", Some(Permission::Lameduck)),
            (Operation::Subscribe, "$JS.EVENT.ADVISORY.SERVER.*", Some(Permission::Advisories)),
            (Operation::Subscribe, "metawatch.view", None),
        ] {
            assert_eq!(of(operation, subject), permission, "{subject}");
        }
    }

    #[test]
    fn a_refused_right_is_tried_again_later_or_on_another_connection() {
        let at = |seconds: i64| Stamp::new(seconds * 1_000_000_000, 0);
        let mut permissions = Permissions::default();
        permissions.refuse(Permission::Jsz, PING_JSZ, at(0));
        permissions.refuse(Permission::PingStatsz, PING_STATSZ, at(0));
        assert!(!permissions.may(Permission::Jsz, at(9)) && permissions.may(Permission::Jsz, at(10)));
        assert!(
            !permissions.may(Permission::PingStatsz, at(599))
                && permissions.may(Permission::PingStatsz, at(600))
        );
        permissions.reset();
        assert!(permissions.may(Permission::PingStatsz, at(1)));
    }
}
