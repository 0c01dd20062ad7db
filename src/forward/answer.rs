//! What the answer of a receiver means, and when it is asked again.

use std::time::Duration;

/// The pause after the first failure, and the longest one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What a receiver refuses is not likely to be taken soon.
const PARKED: Duration = Duration::from_secs(300);
/// A receiver may ask for so long a pause.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// What came of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status, with the pause in seconds that the receiver asks for (`Retry-After`).
    Status {
        /// The status.
        code: u16,
        /// The pause.
        retry_after: Option<u64>,
    },
    /// No answer, and why: in words without any secret.
    None(String),
}

/// What is to be done with what was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It has arrived.
    Taken,
    /// The receiver cannot take anything now.
    Later(Option<Duration>),
    /// The receiver does not take this one.
    Refused,
    /// It is not the receiver that was meant, or it does not let us in: it takes nothing.
    Misdirected,
}

impl Answer {
    /// What it means. A redirect is not followed: where it leads is nobody's who configured this.
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::None(_) => Meaning::Later(None),
            Self::Status { code: 200..=299, .. } => Meaning::Taken,
            Self::Status { code: 408 | 425 | 429 | 500..=599, retry_after } => {
                let asked = retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
                Meaning::Later(asked)
            }
            Self::Status { code: 100..=399 | 401 | 403..=405 | 407, .. } => Meaning::Misdirected,
            Self::Status { .. } => Meaning::Refused,
        }
    }

    /// The same in words, with what to do.
    pub fn in_words(&self) -> (String, &'static str) {
        match self {
            Self::None(why) => (why.clone(), "it is tried again for as long as it takes"),
            Self::Status { code: code @ 300..=399, .. } => (
                format!("it answers {code}, a redirect, which is not followed"),
                "give the address that it redirects to",
            ),
            Self::Status { code: code @ (401 | 403 | 407), .. } => (
                format!("it answers {code}: it wants another login"),
                "see the headers that are sent (--webhook-header, --alertmanager-header)",
            ),
            Self::Status { code: code @ (404 | 405), .. } => {
                (format!("it answers {code}: there is nothing to post to"), "see the path of the address")
            }
            Self::Status { code: code @ 400..=499, .. } => {
                (format!("it answers {code}"), "see the receiver's own log")
            }
            Self::Status { code, .. } => {
                (format!("it answers {code}"), "it is tried again for as long as it takes")
            }
        }
    }
}

/// How long a receiver is left alone after so many failures in a row; `asked` is what it asks for.
pub fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let grown = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(10)));
    grown.min(PAUSE_MAX).max(asked.unwrap_or_default())
}

/// How long something is left aside that a receiver refused.
pub fn parked() -> Duration {
    PARKED
}
