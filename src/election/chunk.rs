//! A state in parts: each fits into one message, and half a state is none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::replicated_state::{ReplicatedState, StateVersion};
use crate::stamp::Stamp;

/// No part is larger than this, whatever the server takes: other messages go between two of them.
const PART_BYTES: usize = 256 << 10;
/// Parts smaller than this are not worth their messages.
const PART_BYTES_MIN: usize = 64;
/// A state of more parts than this is not believed ...
const CHUNKS_MAX: usize = 1 << 16;
/// ... nor one of more bytes: about what 10,000 alerts and as many waiting events have.
const BYTES_MAX: usize = 64 << 20;
/// Parts of a state that has not become whole in this time are given back.
const UNFINISHED_MAX: Duration = Duration::from_secs(10);

/// A part of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Of which state it is a part.
    pub version: StateVersion,
    /// Which part, from 0.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
    /// The part: all of them in a row are one JSON document.
    pub text: String,
}

/// Why a state cannot be replicated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The server takes messages of so many bytes at most, which is less than any part needs.
    #[error("the server takes messages of {0} bytes at most")]
    NoRoom(usize),
    /// It would take so many messages.
    #[error("it would take {0} messages")]
    Chunks(usize),
    /// It has so many bytes, which others do not take.
    #[error("it has {0} bytes")]
    Bytes(usize),
    /// It cannot be written.
    #[error("{0}")]
    Unwritable(String),
}

/// The parts of a state, one at least. A message has `overhead` bytes besides the text of its part, and `limit` at
/// most.
pub(super) fn split_state(
    state: &ReplicatedState,
    version: &StateVersion,
    overhead: usize,
    limit: usize,
) -> Result<Vec<Chunk>, TooLarge> {
    let room = limit.saturating_sub(overhead).min(PART_BYTES);
    if room < PART_BYTES_MIN {
        return Err(TooLarge::NoRoom(limit));
    }
    let text = serde_json::to_string(state).map_err(|error| TooLarge::Unwritable(error.to_string()))?;
    if text.len() > BYTES_MAX {
        return Err(TooLarge::Bytes(text.len()));
    }
    let parts = split(&text, room);
    let count = parts.len();
    if count > CHUNKS_MAX {
        return Err(TooLarge::Chunks(count));
    }
    let chunk = |(index, text): (usize, &str)| Chunk {
        version: version.clone(),
        index,
        count,
        text: text.to_owned(),
    };
    Ok(parts.into_iter().enumerate().map(chunk).collect())
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

/// What a part led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reassembled {
    /// Others are missing.
    NotYet,
    /// That was the last one.
    Whole(Box<ReplicatedState>),
    /// It cannot be a part of a state, or all of them together are none.
    Refused,
}

/// The parts of one state of one sender that have come so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Reassembly {
    of: Option<(String, StateVersion)>,
    chunks: Vec<Option<String>>,
    missing: usize,
    bytes: usize,
    last: Option<Stamp>,
}

impl Reassembly {
    /// Takes a part; gives the state when it is the last one that was missing.
    pub(super) fn take(&mut self, sender: &str, chunk: Chunk, now: Stamp) -> Reassembled {
        let Chunk { version, index, count, text } = chunk;
        // A sender that means well leaves no part empty, but for a state of one part.
        if count > CHUNKS_MAX || index >= count || text.len() > 2 * PART_BYTES {
            return Reassembled::Refused;
        }
        let of = (sender.to_owned(), version);
        if self.of.as_ref() != Some(&of) || self.chunks.len() != count {
            *self = Self { of: Some(of), chunks: vec![None; count], missing: count, bytes: 0, last: None };
        }
        self.last = Some(now);
        if let Some(before) = &self.chunks[index] {
            self.bytes = self.bytes.saturating_sub(before.len());
        } else {
            self.missing -= 1;
        }
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > BYTES_MAX {
            *self = Self::default();
            return Reassembled::Refused;
        }
        self.chunks[index] = Some(text);
        if self.missing > 0 {
            return Reassembled::NotYet;
        }
        let Self { of, chunks, .. } = std::mem::take(self);
        let text: String = chunks.into_iter().flatten().collect();
        match serde_json::from_str::<ReplicatedState>(&text) {
            Ok(state) if state.is_sound() && state.version == of.map(|(_, version)| version) => {
                Reassembled::Whole(Box::new(state))
            }
            Ok(_) | Err(_) => Reassembled::Refused,
        }
    }

    /// Gives back what does not become whole.
    pub(super) fn expire(&mut self, now: Stamp) {
        if self.last.is_some_and(|last| now.since(last) > UNFINISHED_MAX) {
            *self = Self::default();
        }
    }

    /// How many bytes it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Stamp {
        Stamp::new(millis * 1_000_000, 1_795_380_222_000_000_000 + millis * 1_000_000)
    }

    fn version() -> StateVersion {
        StateVersion { term: 1, revision: 1, writer: "a".into() }
    }

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
    fn a_state_that_has_no_room_is_told_to_have_none() {
        let state = ReplicatedState::default();
        assert_eq!(split_state(&state, &version(), 400, 450).unwrap_err(), TooLarge::NoRoom(450));
        assert_eq!(split_state(&state, &version(), 400, 600).map(|chunks| chunks.len()), Ok(1));
    }

    #[test]
    fn parts_that_never_become_whole_are_limited_and_given_back() {
        let mut reassembly = Reassembly::default();
        let text = "x".repeat(2 * PART_BYTES);
        for index in 0..1_020 {
            let chunk = Chunk { version: version(), index, count: 1_021, text: text.clone() };
            reassembly.take("stranger", chunk, at(0));
            assert!(reassembly.bytes() <= BYTES_MAX);
        }
        assert!(reassembly.bytes() > 0);
        reassembly.expire(at(11_000));
        assert_eq!(reassembly.bytes(), 0);
        assert!(reassembly.chunks.is_empty() && reassembly.chunks.capacity() == 0);
    }

    #[test]
    fn half_a_state_is_none_and_what_cannot_be_read_as_a_whole_is_refused() {
        let state = ReplicatedState { version: Some(version()), ..ReplicatedState::default() };
        let chunks = split_state(&state, &version(), 0, 64).unwrap();
        assert!(chunks.len() > 1);
        let mut reassembly = Reassembly::default();
        for chunk in chunks.iter().skip(1).chain(chunks.iter().skip(1)).cloned() {
            assert_eq!(reassembly.take("a", chunk, at(0)), Reassembled::NotYet);
        }
        // A part of another sender begins anew.
        assert_eq!(reassembly.clone().take("b", chunks[0].clone(), at(0)), Reassembled::NotYet);
        assert_eq!(reassembly.take("a", chunks[0].clone(), at(0)), Reassembled::Whole(Box::new(state)));
        let bad = |index: usize, count: usize, text: &str| Chunk {
            version: version(),
            index,
            count,
            text: text.into(),
        };
        for (index, count) in [(0, 0), (5, 5), (0, usize::MAX), (usize::MAX, 2)] {
            assert_eq!(reassembly.take("a", bad(index, count, ""), at(0)), Reassembled::Refused);
        }
        for text in [
            "",
            "no JSON",
            r#"{"alerts":[]}"#,
            r#"{"alerts":[],"version":{"term":1,"revision":2,"writer":"a"}}"#,
        ] {
            assert_eq!(reassembly.take("a", bad(0, 1, text), at(0)), Reassembled::Refused, "{text}");
        }
    }
}
