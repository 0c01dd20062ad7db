//! What the servers answered in the last epochs: one that says the same again is not read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{REPLIES_MAX, ServerKey};
use crate::wire::{self, Changes, Reject, Reply, Template};

/// So many bytes of answers are kept.
const TEMPLATE_BYTES_MAX: usize = 32 << 20;
/// An answer that comes no more is forgotten after so many epochs.
const FORGOTTEN_AFTER: u64 = 16;
/// A server whose answers fit no template so many times running is read anew each time.
const MISSES_MAX: u8 = 8;
/// So much of an answer is looked at for the id of its server.
const BEGINNING: usize = 512;
/// What the id comes after.
const ID: &[u8] = b"\"id\":\"";

/// The last answer of each server. It goes from one epoch to the next, and changes nothing but what an epoch costs: an
/// epoch that begins without it reads everything.
#[derive(Debug, Default)]
pub struct LastReplies {
    known: Vec<Known>,
    /// Where the answer is that begins like this. It only says where to look.
    places: BTreeMap<u64, usize>,
    bytes: usize,
    changes: Changes,
    /// Who was expected in the last epoch.
    expected: Vec<ServerKey>,
    is_kept: bool,
}

/// The last answer of one server.
#[derive(Debug)]
struct Known {
    reply: Arc<Reply>,
    /// Made once the server has said the same twice.
    template: Option<Template>,
    misses: u8,
    /// When it came.
    epoch: u64,
    /// Nothing else came then that begins like it.
    alone: bool,
    /// Where the server was among those of the last epoch.
    hint: usize,
    /// It lists nobody who was not expected then.
    lists_expected: bool,
}

/// An answer that was read.
pub(super) struct Read {
    pub(super) reply: Arc<Reply>,
    /// The run of the server said the same in the epoch before, but for its sequence number, how long ago it heard whom,
    /// and its load.
    pub(super) unchanged: bool,
    /// ... and its load is another one.
    pub(super) new_load: bool,
    /// Where the server may be among those of the epoch.
    pub(super) hint: usize,
    known: Option<usize>,
}

impl LastReplies {
    /// For epochs that follow each other.
    pub fn new() -> Self {
        Self { is_kept: true, ..Self::default() }
    }

    /// Reads an answer to the epoch with this number.
    pub(super) fn read(&mut self, epoch: u64, payload: &[u8]) -> Result<Read, Reject> {
        if !self.is_kept {
            let reply = Arc::new(wire::decode_jsz(payload)?);
            return Ok(Read { reply, unchanged: false, new_load: false, hint: usize::MAX, known: None });
        }
        let beginning = beginning(payload);
        let place = self.places.get(&beginning).copied();
        let Self { known, changes, bytes, .. } = self;
        let mut last = place.and_then(|place| known.get_mut(place));
        if let Some(again) = last.as_deref_mut().filter(|last| last.epoch >= epoch) {
            again.alone = false;
            last = None;
        }
        let Some(last) = last else {
            let reply = Arc::new(wire::decode_jsz(payload)?);
            let known = if place.is_none() { self.keep(beginning, &reply, epoch) } else { None };
            return Ok(Read { reply, unchanged: false, new_load: false, hint: usize::MAX, known });
        };
        let in_a_row = last.alone && last.epoch + 1 == epoch;
        let fits = last.template.as_ref().is_some_and(|template| template.fit(payload, changes));
        let (same, new_load) = if fits {
            let new_load = changes.apply(Arc::make_mut(&mut last.reply));
            last.misses = 0;
            (true, new_load)
        } else {
            let reply = wire::decode_jsz(payload)?;
            let same = reply.says_the_same(&last.reply);
            let new_load = reply.jetstream.usage() != last.reply.jetstream.usage();
            *bytes -= last.template.take().map_or(0, |template| template.bytes());
            last.misses = last.misses.saturating_add(1);
            if same && last.misses <= MISSES_MAX && *bytes < TEMPLATE_BYTES_MAX {
                last.template = Template::new(payload, &reply);
                *bytes += last.template.as_ref().map_or(0, |template| template.bytes());
            }
            last.reply = Arc::new(reply);
            (same, new_load)
        };
        (last.epoch, last.alone) = (epoch, true);
        let (reply, unchanged) = (Arc::clone(&last.reply), same && in_a_row);
        Ok(Read { reply, unchanged, new_load, hint: last.hint, known: place })
    }

    fn keep(&mut self, beginning: u64, reply: &Arc<Reply>, epoch: u64) -> Option<usize> {
        if self.known.len() >= REPLIES_MAX {
            return None;
        }
        self.places.insert(beginning, self.known.len());
        let reply = Arc::clone(reply);
        self.known.push(Known {
            reply,
            template: None,
            misses: 0,
            epoch,
            alone: true,
            hint: usize::MAX,
            lists_expected: false,
        });
        Some(self.known.len() - 1)
    }

    /// Begins an epoch that expects these servers. Whether the last one expected the same.
    pub(super) fn expects<'a>(&mut self, expected: impl Iterator<Item = &'a ServerKey> + Clone) -> bool {
        let same = self.is_kept && self.expected.iter().eq(expected.clone());
        if self.is_kept && !same {
            self.expected = expected.cloned().collect();
        }
        same
    }

    /// Whether all that this answer lists were expected in the last epoch.
    pub(super) fn lists_expected(&self, read: Option<usize>) -> bool {
        read.and_then(|place| self.known.get(place)).is_some_and(|known| known.lists_expected)
    }

    /// Remembers whether all that this answer lists are expected.
    pub(super) fn set_lists_expected(&mut self, read: Option<usize>, lists_expected: bool) {
        if let Some(known) = read.and_then(|place| self.known.get_mut(place)) {
            known.lists_expected = lists_expected;
        }
    }

    /// Remembers where the server was found of which this was the answer.
    pub(super) fn found(&mut self, read: Option<usize>, hint: usize) {
        if let Some(known) = read.and_then(|place| self.known.get_mut(place)) {
            known.hint = hint;
        }
    }

    /// Forgets, from time to time, who does not answer any more.
    pub(super) fn begin(&mut self, epoch: u64) {
        if !epoch.is_multiple_of(FORGOTTEN_AFTER) {
            return;
        }
        let is_over = |known: &Known| known.epoch + FORGOTTEN_AFTER < epoch;
        if !self.known.iter().any(is_over) {
            return;
        }
        let mut places = vec![None; self.known.len()];
        let mut left = Vec::with_capacity(self.known.len());
        for (before, known) in std::mem::take(&mut self.known).into_iter().enumerate() {
            if !is_over(&known) {
                places[before] = Some(left.len());
                left.push(known);
            }
        }
        self.known = left;
        self.places.retain(|_, place| match places[*place] {
            Some(new) => {
                *place = new;
                true
            }
            None => false,
        });
        let bytes = self.known.iter().filter_map(|known| known.template.as_ref());
        self.bytes = bytes.map(|template| template.bytes()).sum();
    }
}

impl Read {
    /// Which of the known answers it is.
    pub(super) fn known(&self) -> Option<usize> {
        self.known
    }
}

/// A number for how an answer begins, up to the id of the server's run. Two that begin alike cost a reading, and nothing
/// else.
fn beginning(payload: &[u8]) -> u64 {
    let beginning = &payload[..payload.len().min(BEGINNING)];
    let id = beginning.windows(ID.len()).position(|part| part == ID).map_or(0, |at| at + ID.len());
    let length = beginning[id..].iter().position(|byte| *byte == b'"').unwrap_or(0);
    let mut sum = 0_u64;
    for part in beginning[..id + length].chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        sum = (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    sum
}
