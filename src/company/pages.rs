//! A ledger in parts: each fits into one message, and half a ledger is none.

use serde::{Deserialize, Serialize};

use super::{Edition, LINEAGE_MAX};
use crate::ledger::Ledger;

/// No part is larger than this, whatever the server takes: the messages of others go between two of them.
const PART_BYTES: usize = 256 << 10;
/// Parts smaller than this are not worth their messages.
const PART_BYTES_MIN: usize = 64;
/// A ledger of more parts than this is not believed ...
const PAGES_MAX: usize = 1 << 16;
/// ... nor one of more bytes: twice the most that there can be.
const BYTES_MAX: usize = 128 << 20;

/// A part of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Of which ledger it is a part.
    pub edition: Edition,
    /// Which part, from 0.
    pub number: usize,
    /// How many parts there are.
    pub of: usize,
    /// The sender spoke, and now lets another one speak for what it announced.
    #[serde(default)]
    pub yields: bool,
    /// The part: all of them in a row are one JSON document.
    pub text: String,
}

/// What all parts together say.
#[derive(Serialize, Deserialize)]
struct Body {
    /// The editions of earlier speakers that went into the ledger.
    lineage: Vec<Edition>,
    ledger: Ledger,
}

/// Why a ledger cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The server takes messages of so many bytes at most, which is less than any part needs.
    #[error("the server takes messages of {0} bytes at most")]
    NoRoom(usize),
    /// It would take so many messages.
    #[error("it would take {0} messages")]
    Parts(usize),
    /// It cannot be written.
    #[error("{0}")]
    Unwritable(String),
}

/// The parts of a ledger, one at least. A message has `overhead` bytes besides the text of its part, and `limit` at
/// most.
pub(super) fn paginate(
    whole: &Whole,
    yields: bool,
    overhead: usize,
    limit: usize,
) -> Result<Vec<Page>, TooLarge> {
    let room = limit.saturating_sub(overhead).min(PART_BYTES);
    if room < PART_BYTES_MIN {
        return Err(TooLarge::NoRoom(limit));
    }
    let body = Body { lineage: whole.lineage.clone(), ledger: whole.ledger.clone() };
    let text = serde_json::to_string(&body).map_err(|error| TooLarge::Unwritable(error.to_string()))?;
    let parts = split(&text, room);
    let of = parts.len();
    if of > PAGES_MAX {
        return Err(TooLarge::Parts(of));
    }
    let page = |(number, text): (usize, &str)| Page {
        edition: whole.edition.clone(),
        number,
        of,
        yields,
        text: text.to_owned(),
    };
    Ok(parts.into_iter().enumerate().map(page).collect())
}

/// Cuts a JSON text into parts that have at most `room` bytes as JSON strings.
fn split(text: &str, room: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (at, character) in text.char_indices() {
        // Nothing else is escaped: a JSON text holds no control characters.
        let bytes = if matches!(character, '"' | '\\') { 2 } else { character.len_utf8() };
        if used + bytes > room {
            parts.push(&text[start..at]);
            (start, used) = (at, 0);
        }
        used += bytes;
    }
    parts.push(&text[start..]);
    parts
}

/// The parts of one ledger that have come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    edition: Option<Edition>,
    pages: Vec<Option<String>>,
    missing: usize,
    bytes: usize,
}

/// A ledger whose parts are all there.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) ledger: Ledger,
    pub(super) edition: Edition,
    pub(super) lineage: Vec<Edition>,
}

impl Assembly {
    /// Takes a part; gives the ledger when it is the last one that was missing.
    pub(super) fn take(&mut self, page: Page) -> Option<Whole> {
        let Page { edition, number, of, text, .. } = page;
        if of > PAGES_MAX || number >= of {
            return None;
        }
        if self.edition.as_ref() != Some(&edition) || self.pages.len() != of {
            *self = Self { edition: Some(edition.clone()), pages: vec![None; of], missing: of, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > BYTES_MAX {
            *self = Self::default();
            return None;
        }
        if self.pages[number].replace(text).is_none() {
            self.missing -= 1;
        }
        if self.missing > 0 {
            return None;
        }
        let text: String = std::mem::take(self).pages.into_iter().flatten().collect();
        let Body { mut lineage, ledger } = serde_json::from_str(&text).ok()?;
        lineage.truncate(LINEAGE_MAX);
        Some(Whole { ledger, edition, lineage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_parts_that_fit_as_json_strings() {
        let text = serde_json::to_string(&["a\\b\"c\n", "é€😀", "plain"].repeat(50)).unwrap();
        for room in [64, 65, 100, 10_000] {
            let parts = split(&text, room);
            assert!(parts.iter().all(|part| serde_json::to_string(part).unwrap().len() <= room + 2));
            assert_eq!(parts.concat(), text);
        }
    }

    #[test]
    fn a_ledger_that_has_no_room_is_told_to_have_none() {
        let edition = Edition { term: 1, revision: 1, of: "a".into() };
        let whole = Whole { ledger: Ledger::default(), edition, lineage: Vec::new() };
        assert_eq!(paginate(&whole, false, 400, 450).unwrap_err(), TooLarge::NoRoom(450));
        assert_eq!(paginate(&whole, false, 400, 600).map(|pages| pages.len()), Ok(1));
    }
}
