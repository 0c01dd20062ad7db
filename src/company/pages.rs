//! A ledger in parts: each fits into one message, and half a ledger is none.

use serde::{Deserialize, Serialize};

use super::{Edition, LINEAGE_MAX};
use crate::ledger::Ledger;

/// So many alerts and events go into one page. The largest event has a few kilobytes, a message has at most one
/// megabyte.
const ENTRIES: usize = 64;
/// A ledger of more pages than this is not believed: twice the most that there can be.
const PAGES_MAX: usize = 1_024;

/// A part of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Of which ledger it is a part.
    pub edition: Edition,
    /// The editions of earlier speakers that went into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Edition>,
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
pub(super) fn paginate(ledger: &Ledger, edition: &Edition, lineage: &[Edition], yields: bool) -> Vec<Page> {
    let of = ledger.alerts.len().div_ceil(ENTRIES).max(ledger.waiting.len().div_ceil(ENTRIES)).max(1);
    let part = |number: usize| Ledger {
        alerts: ledger.alerts.iter().skip(number * ENTRIES).take(ENTRIES).cloned().collect(),
        waiting: ledger.waiting.iter().skip(number * ENTRIES).take(ENTRIES).cloned().collect(),
        system: ledger.system.clone(),
    };
    let page = |number: usize| Page {
        edition: edition.clone(),
        lineage: lineage.to_vec(),
        number,
        of,
        yields,
        ledger: part(number),
    };
    (0..of).map(page).collect()
}

/// The pages of one ledger that have come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    edition: Option<Edition>,
    pages: Vec<Option<Ledger>>,
}

/// A ledger whose pages are all there.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) ledger: Ledger,
    pub(super) edition: Edition,
    pub(super) lineage: Vec<Edition>,
}

impl Assembly {
    /// Takes a page; gives the ledger when it is the last one that was missing.
    pub(super) fn take(&mut self, page: Page) -> Option<Whole> {
        let Page { edition, mut lineage, number, of, ledger, .. } = page;
        if of > PAGES_MAX || number >= of {
            return None;
        }
        if self.edition.as_ref() != Some(&edition) || self.pages.len() != of {
            *self = Self { edition: Some(edition.clone()), pages: vec![None; of] };
        }
        self.pages[number] = Some(ledger);
        if self.pages.iter().any(Option::is_none) {
            return None;
        }
        let mut whole = Ledger::default();
        for part in std::mem::take(&mut self.pages).into_iter().flatten() {
            whole.alerts.extend(part.alerts);
            whole.waiting.extend(part.waiting);
            whole.system = whole.system.or(part.system);
        }
        lineage.truncate(LINEAGE_MAX);
        Some(Whole { ledger: whole, edition, lineage })
    }
}
