//! metawatch watches the JetStream meta group of a NATS system.

pub mod alert;
pub mod check;
pub mod epoch;
pub mod event;
pub mod name;
pub mod pipeline;
pub mod recording;
pub mod rules;
pub mod stamp;
pub mod view;
pub mod wire;

/// Everything that awaits, reads a clock, prints or talks to a server.
#[cfg(feature = "shell")]
pub mod shell;
