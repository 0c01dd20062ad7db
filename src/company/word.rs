//! What watchers tell each other, and what it is worth.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::Page;

/// The version of the words. Those of another are not understood, and so not counted on.
pub(super) const WORD_VERSION: u32 = 2;
/// Terms and revisions beyond this are not believed: nobody comes to them by counting.
const COUNT_MAX: u64 = 1 << 48;
/// The longest instance or name that is believed, in bytes.
const NAME_MAX: usize = 128;

/// What one watcher tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The version of this document.
    pub v: u32,
    /// Which run of which watcher.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// When this was sent, in nanoseconds on the sender's own steady clock: by this it knows its echo.
    pub sent_ns: i64,
    /// When it started, in nanoseconds since 1970.
    pub started_ns: i64,
    /// Whether it sees the servers.
    pub able: bool,
    /// Since when it has spoken, in nanoseconds since 1970; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_ns: Option<i64>,
    /// It still listens for others and does not count yet.
    #[serde(default)]
    pub joining: bool,
    /// These are its last words.
    #[serde(default)]
    pub leaving: bool,
    /// It lacks the ledger of the speaker.
    #[serde(default)]
    pub behind: bool,
    /// Which ledger it keeps: its own when it speaks, else that of the one it heard speak last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<Edition>,
    /// The ledger of another watcher that it took over last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_out: Option<Edition>,
    /// A part of its ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
}

/// A ledger as it stood at some time while one watcher spoke.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edition {
    /// Counts those who spoke one after the other, as far as is known to each of them.
    pub term: u64,
    /// How often the ledger had changed.
    pub revision: u64,
    /// The instance that spoke.
    pub of: String,
}

/// Who comes first is the smallest: those that see the servers, those that speak already, those that know most of what
/// was told, those that have run longest.
pub(super) type Rank<'a> = (bool, i64, Reverse<(u64, u64)>, i64, &'a str);

pub(super) fn rank(word: &Word) -> Rank<'_> {
    let claim = word.claim_ns.unwrap_or(i64::MAX);
    (!word.able, claim, version(word.keeps.as_ref(), claim), word.started_ns, &word.instance)
}

/// Who speaks already goes on, whoever knows more: the other one's knowledge is merged.
pub(super) fn version(keeps: Option<&Edition>, claim: i64) -> Reverse<(u64, u64)> {
    let known = keeps.map_or((0, 0), |edition| (edition.term, edition.revision));
    Reverse(if claim == i64::MAX { known } else { (0, 0) })
}

fn is_named(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX
}

impl Edition {
    /// Whether there can be such a one: numbers at the end of their range would stop to count.
    pub(super) fn is_sound(&self) -> bool {
        is_named(&self.of) && self.term < COUNT_MAX && self.revision < COUNT_MAX
    }

    /// Whether this is the same speaker's ledger, as it stood then or later.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.of == other.of && self.term == other.term && self.revision >= other.revision
    }
}

pub(super) fn is_sound(word: &Word) -> bool {
    let page = word.page.iter().map(|page| &page.edition);
    let mut editions = word.keeps.iter().chain(&word.heard_out).chain(page);
    // Before 1970 nobody claims, and the end of time stands for no claim.
    let claims = |claim: i64| (0..i64::MAX).contains(&claim);
    word.v == WORD_VERSION
        && is_named(&word.instance)
        && word.name.len() <= NAME_MAX
        && word.started_ns >= 0
        && word.claim_ns.is_none_or(claims)
        && editions.all(Edition::is_sound)
}
