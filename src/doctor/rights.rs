//! The rights that a watcher uses, one by one, and what it costs to lack one.

use super::{Connection, Grant, Item, Operation, Outcome};
use crate::name::printable;

/// How much depends on a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Without it nothing is seen or nothing is told.
    Vital,
    /// Without it the watching is slower or poorer.
    Useful,
    /// Whoever does not want what it brings can leave it out.
    Optional,
}

/// How a right is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// By subscribing.
    Subscribe,
    /// By the request itself, as a watcher sends it.
    Request,
    /// By a message that no server delivers ([`trace_only`]), or by what the server says of our user.
    Undelivered,
}

/// One right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// What is to be allowed, and to whom.
    pub grant: Grant,
    /// How it is tried.
    pub trial: Trial,
    /// The subject that is tried: one of those that the grant covers.
    pub tried: String,
    need: Need,
    without: &'static str,
}

/// What came of trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was not refused.
    Granted,
    /// The request was answered, by so many.
    Answered(usize),
    /// The request was not refused, and there is nobody to answer it.
    NobodyThere,
    /// The request was not refused, and no answer came.
    Silence,
    /// The server refused it.
    Refused,
    /// It could not be tried, and why.
    NotTried(&'static str),
}

/// The headers of a message that a server of 2.11 or later takes like any other, rights and all, and delivers to
/// nobody. It reports to `destination` where the message would have gone. Source: nats-server 2.11 to 2.15,
/// `server/msgtrace.go`.
pub fn trace_only(destination: &str) -> [(&'static str, String); 2] {
    [("Nats-Trace-Dest", destination.to_owned()), ("Nats-Trace-Only", "true".to_owned())]
}

/// Whether a server of this version knows messages that are not delivered. An older one would deliver them.
pub fn knows_traces(version: &str) -> bool {
    super::judge::release(version).is_some_and(|release| release >= (2, 11))
}

/// What the connection that watches uses, in the order of its use.
pub fn of_watching(inbox_prefix: &str, prefix: &str, server_id: &str) -> Vec<Right> {
    let request = |granted: &str, tried: String| (Trial::Request, granted.to_owned(), tried);
    let subscribe = |subject: String| (Trial::Subscribe, subject.clone(), subject);
    let own = |what: &str| format!("$SYS.REQ.SERVER.{server_id}.{what}");
    let at = |last: &str| format!("$SYS.REQ.SERVER.{last}");
    let inbox = (Trial::Subscribe, format!("{inbox_prefix}.>"), format!("{inbox_prefix}.doctor"));
    let others = format!("{prefix}.watcher.*");
    let told = (Trial::Undelivered, others.clone(), format!("{prefix}.watcher.doctor"));
    [
        (Need::Vital, inbox, "no answer arrives"),
        (Need::Vital, request(&at("PING.JSZ"), at("PING.JSZ")), "nothing is seen"),
        (
            Need::Useful,
            request(&at("PING.STATSZ"), at("PING.STATSZ")),
            "a crash is critical after about 5 s instead of 3 s, the loss of a leader later",
        ),
        (
            Need::Useful,
            request(&at("*.STATSZ"), own("STATSZ")),
            "a single look takes longer to know how many servers there are",
        ),
        (
            Need::Useful,
            request(&at("*.HEALTHZ"), own("HEALTHZ")),
            "no server is asked what it knows of a fault",
        ),
        (
            Need::Useful,
            request(&at("PING.RAFTZ"), at("PING.RAFTZ")),
            "members are not asked what they know of a fault",
        ),
        (
            Need::Useful,
            subscribe("$SYS.SERVER.*.SHUTDOWN".to_owned()),
            "a stop is noticed at the next epoch instead of at once",
        ),
        (
            Need::Useful,
            subscribe("$SYS.SERVER.*.LAMEDUCK".to_owned()),
            "a server in lame duck mode is noticed at the next epoch instead of at once",
        ),
        (
            Need::Optional,
            subscribe("$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED".to_owned()),
            "an election is noticed at the next epoch instead of at once",
        ),
        (
            Need::Useful,
            subscribe("$JS.EVENT.ADVISORY.SERVER.*".to_owned()),
            "a JetStream that a full disk switched off is critical after about 4 s, without the stream that filled it",
        ),
        (Need::Useful, subscribe(others), "other watchers are not heard, and each of them speaks"),
        (Need::Useful, told, "other watchers do not hear this one, and each of them speaks"),
    ]
    .into_iter()
    .map(|(need, (trial, subject, tried), without)| {
        Right::new(Connection::Watching, need, trial, subject, tried, without)
    })
    .collect()
}

/// What publishing uses, on the connection that it goes over. `asks` says whether that is one of its own on which
/// the arrival of alerts is asked for, as in core mode.
pub fn of_alerts(connection: Connection, inbox_prefix: &str, prefix: &str, asks: bool) -> Vec<Right> {
    let own = connection == Connection::Alerts;
    let right = |need, trial, subject: String, tried: String, without| {
        Right::new(connection, need, trial, subject, tried, without)
    };
    let heartbeat = format!("{prefix}.heartbeat");
    let mut rights = Vec::new();
    if own {
        let (granted, tried) = (format!("{inbox_prefix}.>"), format!("{inbox_prefix}.doctor"));
        rights.push(right(Need::Vital, Trial::Subscribe, granted, tried, "it is not known what has arrived"));
    }
    let alert = sample_alert(prefix);
    rights.push(right(
        Need::Vital,
        Trial::Undelivered,
        format!("{prefix}.alert.>"),
        alert,
        "no alert is published",
    ));
    rights.push(right(
        Need::Useful,
        Trial::Undelivered,
        format!("{prefix}.critical.>"),
        format!("{prefix}.critical.META_001.default.doctor.firing"),
        "whoever subscribes to what is critical alone hears nothing",
    ));
    rights.push(right(
        Need::Vital,
        Trial::Undelivered,
        heartbeat.clone(),
        heartbeat.clone(),
        "subscribers take the watcher for dead",
    ));
    if own && asks {
        let (subject, tried) =
            (super::user_info::USER_INFO.to_owned(), super::user_info::USER_INFO.to_owned());
        let without = "the server notes a violation in its log with each alert";
        rights.push(right(Need::Useful, Trial::Request, subject, tried, without));
    }
    rights.push(right(
        Need::Useful,
        Trial::Subscribe,
        heartbeat.clone(),
        heartbeat,
        "standbys do not notice an active watcher that sends no heartbeats",
    ));
    for subject in
        ["$SRV.>".to_owned(), format!("{prefix}.view"), format!("{prefix}.alerts"), format!("{prefix}.check")]
    {
        let tried = subject.clone();
        rights.push(right(
            Need::Optional,
            Trial::Subscribe,
            subject,
            tried,
            "the micro service is not offered whole",
        ));
    }
    rights
}

/// A subject like that of an alert, whoever may be subscribed to whichever part of them.
pub fn sample_alert(prefix: &str) -> String {
    format!("{prefix}.alert.META_001.default.doctor.firing")
}

impl Right {
    fn new(
        connection: Connection,
        need: Need,
        trial: Trial,
        subject: String,
        tried: String,
        without: &'static str,
    ) -> Self {
        let operation = match trial {
            Trial::Subscribe => Operation::Subscribe,
            Trial::Request | Trial::Undelivered => Operation::Publish,
        };
        Self { grant: Grant { connection, operation, subject }, trial, tried, need, without }
    }

    /// What came of trying it, as an item.
    pub fn judge(&self, tried: &Tried) -> Item {
        let Grant { operation, subject, .. } = &self.grant;
        let what = format!("{} {}", operation.as_str(), printable(subject));
        match tried {
            Tried::Granted => Item::new("right", Outcome::Ok, what),
            Tried::Answered(1) => Item::new("right", Outcome::Ok, format!("{what}: 1 answer")),
            Tried::Answered(count) => Item::new("right", Outcome::Ok, format!("{what}: {count} answers")),
            Tried::NobodyThere => Item::new("right", Outcome::Note, format!("{what}: nobody answers it here")),
            Tried::Silence => {
                Item::new("right", Outcome::Unknown, format!("{what}: not refused, and no answer came"))
                    .next("see whether this user may subscribe to the answers, and whether servers are slow (--timeout)")
            }
            Tried::Refused => {
                let outcome = match self.need {
                    Need::Vital => Outcome::Failed,
                    Need::Useful => Outcome::Warning,
                    Need::Optional => Outcome::Note,
                };
                let text = format!("may not {what}: {}", self.without);
                Item::new("right", outcome, text).granting(self.grant.clone())
            }
            Tried::NotTried(why) => {
                Item::new("right", Outcome::Unknown, format!("{what}: {why}")).next(format!(
                    "allow this user to publish {}, so that the server tells",
                    super::user_info::USER_INFO
                ))
            }
        }
    }
}
