//! A ledger in parts: each fits into one message, and half a ledger is none.

use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;

/// So many alerts and events go into one page. The largest event has a few kilobytes, a message has at most one
/// megabyte.
const ENTRIES: usize = 64;
/// A ledger of more pages than this is not believed: twice the most that there can be.
const PAGES_MAX: usize = 1_024;

/// A part of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Of which revision of the sender's ledger it is a part.
    pub revision: u64,
    /// Which part, from 0.
    pub number: usize,
    /// How many parts there are.
    pub of: usize,
    /// The sender spoke, and now lets another one speak for what it announced.
    #[serde(default)]
    pub yields: bool,
    /// The part.
    pub ledger: Ledger,
}

/// The pages of a ledger, one at least.
pub(super) fn paginate(ledger: &Ledger, revision: u64, yields: bool) -> Vec<Page> {
    let of = ledger.alerts.len().div_ceil(ENTRIES).max(ledger.waiting.len().div_ceil(ENTRIES)).max(1);
    let part = |number: usize| Ledger {
        alerts: ledger.alerts.iter().skip(number * ENTRIES).take(ENTRIES).cloned().collect(),
        waiting: ledger.waiting.iter().skip(number * ENTRIES).take(ENTRIES).cloned().collect(),
    };
    (0..of).map(|number| Page { revision, number, of, yields, ledger: part(number) }).collect()
}

/// The pages of one ledger that have come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    sender: String,
    revision: u64,
    pages: Vec<Option<Ledger>>,
}

impl Assembly {
    /// Takes a page; gives the ledger when it is the last one that was missing.
    pub(super) fn take(&mut self, sender: &str, page: Page) -> Option<Ledger> {
        if page.of == 0 || page.of > PAGES_MAX || page.number >= page.of {
            return None;
        }
        let same = self.sender == sender && self.revision == page.revision && self.pages.len() == page.of;
        if !same {
            *self = Self { sender: sender.to_owned(), revision: page.revision, pages: vec![None; page.of] };
        }
        self.pages[page.number] = Some(page.ledger);
        if self.pages.iter().any(Option::is_none) {
            return None;
        }
        let mut whole = Ledger::default();
        for part in std::mem::take(&mut self.pages).into_iter().flatten() {
            whole.alerts.extend(part.alerts);
            whole.waiting.extend(part.waiting);
        }
        Some(whole)
    }
}
