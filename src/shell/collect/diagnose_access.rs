//! Why an epoch saw nothing at all: a fault of the monitor's access, never of the cluster.

use super::PING_JSZ;
use crate::epoch::{Ended, Gathered};
use crate::shell::failure::{Failure, FailureKind};

/// What keeps us from seeing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens to the request.
    NotSystemAccount,
    /// The user may not publish the request.
    MayNotAsk,
    /// The user may not subscribe to the replies.
    MayNotHear,
    /// No answer, and no reason given. With rights, the own server always answers.
    NoReply,
    /// There is no connection.
    Disconnected,
}

impl Trouble {
    /// What kept an epoch from seeing anything; `None` when it saw something.
    pub(super) fn of(gathered: &Gathered, ask_refused: bool, inbox_refused: bool) -> Option<Self> {
        if gathered.heard > 0 || gathered.counts.rejected > 0 {
            return None;
        }
        Some(match gathered.ended {
            Ended::NoResponders => Self::NotSystemAccount,
            Ended::Denied if inbox_refused && !ask_refused => Self::MayNotHear,
            Ended::Denied => Self::MayNotAsk,
            Ended::Disconnected => Self::Disconnected,
            Ended::AllHeard | Ended::Quiet | Ended::Deadline | Ended::Full => Self::NoReply,
        })
    }

    /// The same in words, with what to do. `inbox_prefix` is the one of the configuration.
    pub fn failure(self, inbox_prefix: &str) -> Failure {
        match self {
            Self::NotSystemAccount => Failure::new(
                FailureKind::NotSystemAccount,
                format!("nobody listens to {PING_JSZ}: this login is not in the system account"),
                "use a login of the system account (system_account in the server's configuration, usually SYS); \
                 `nats server list` works with the right one",
            ),
            Self::MayNotAsk => Failure::new(
                FailureKind::Permission,
                format!("this user may not publish to {PING_JSZ}"),
                format!("add {PING_JSZ:?} to the user's permissions {{ publish: {{ allow: [ … ] }} }}"),
            ),
            Self::MayNotHear => {
                let inbox = format!("{inbox_prefix}.>");
                let hint = format!(
                    "add {inbox:?} to the user's permissions {{ subscribe: {{ allow: [ … ] }} }}, \
                     or choose the prefix that the user may use with --inbox-prefix"
                );
                let message = format!("this user may not subscribe to the replies on {inbox}");
                Failure::new(FailureKind::Permission, message, hint)
            }
            Self::NoReply => Failure::new(
                FailureKind::NoReply,
                format!("no server answered {PING_JSZ} in time"),
                format!(
                    "the server we are connected to always answers a user with the rights for it: check that the user \
                     is in the system account, may publish to {PING_JSZ:?} and may subscribe to \
                     \"{inbox_prefix}.>\" (or set --inbox-prefix); a larger --timeout helps where servers are slow"
                ),
            ),
            Self::Disconnected => Failure::new(
                FailureKind::Disconnected,
                "the connection was lost",
                "look at the log of the server; with several servers in --server the next one is used",
            ),
        }
    }
}

/// What is known of our access from epoch to epoch. It says what changes, once.
#[derive(Debug, Default)]
pub struct Access {
    said: Option<Trouble>,
    silent: u32,
    /// The connection on which something was seen last.
    seen_on: Option<u64>,
}

/// A single epoch without a reply may be an accident.
const SILENT_BEFORE_SAID: u32 = 2;
/// So many epochs without a reply on a connection that was good tell that it still is: by then unanswered
/// pings would have ended it, which the connection itself says.
const SILENT_BEFORE_SAID_OF_A_GOOD_ONE: u32 = 5;

impl Access {
    /// Takes the trouble of an epoch, if it had any. `generation` tells one connection from the next.
    pub fn take(&mut self, trouble: Option<Trouble>, generation: u64, inbox_prefix: &str) {
        self.silent = if trouble == Some(Trouble::NoReply) { self.silent.saturating_add(1) } else { 0 };
        let good = self.seen_on == Some(generation);
        let patience = if good { SILENT_BEFORE_SAID_OF_A_GOOD_ONE } else { SILENT_BEFORE_SAID };
        match trouble {
            // The connection itself says that it was lost, and why.
            Some(Trouble::Disconnected) => {}
            Some(Trouble::NoReply) if self.silent < patience => {}
            Some(trouble) if self.said == Some(trouble) => {}
            Some(trouble) => {
                self.said = Some(trouble);
                if trouble == Trouble::NoReply && good {
                    tracing::warn!(
                        hint = "the server at the other end answers pings: look whether its disk is stuck, \
                                and whether this user still may ask",
                        "no server answers any more on this connection"
                    );
                    return;
                }
                let failure = trouble.failure(inbox_prefix);
                tracing::error!(reason = %failure, hint = failure.hint(), "cannot see the cluster; trying on");
            }
            None => {
                self.seen_on = Some(generation);
                if self.said.take().is_some() {
                    tracing::warn!("the cluster can be seen again");
                }
            }
        }
    }
}
