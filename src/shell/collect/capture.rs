//! The payloads of one epoch as they came, for a recording.

use crate::epoch::BYTES_MAX;
use crate::stamp::Stamp;

/// What arrived in time for one epoch. No more than [`BYTES_MAX`] bytes: an epoch ends there, too.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// The server we were connected to.
    pub connected_to: String,
    /// The replies to `JSZ`.
    pub replies: Vec<Vec<u8>>,
    /// The replies to `STATSZ`.
    pub statsz: Vec<Vec<u8>>,
    /// The events: when, on which subject, what.
    pub events: Vec<(Stamp, String, Vec<u8>)>,
    /// Payloads that had no room.
    pub left_out: u64,
    bytes: usize,
}

impl Capture {
    pub(super) fn of(connected_to: String) -> Self {
        Self { connected_to, ..Self::default() }
    }

    pub(super) fn jsz(&mut self, payload: &[u8]) {
        if self.has_room(payload) {
            self.replies.push(payload.to_vec());
        }
    }

    pub(super) fn statsz(&mut self, payload: &[u8]) {
        if self.has_room(payload) {
            self.statsz.push(payload.to_vec());
        }
    }

    pub(super) fn event(&mut self, at: Stamp, subject: &str, payload: &[u8]) {
        if self.has_room(payload) {
            self.events.push((at, subject.to_owned(), payload.to_vec()));
        }
    }

    fn has_room(&mut self, payload: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(payload.len());
        let has_room = self.bytes <= BYTES_MAX;
        self.left_out += u64::from(!has_room);
        has_room
    }
}
