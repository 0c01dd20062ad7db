//! metawatch watches the JetStream meta group of a NATS system.

pub mod stamp;
pub mod name;
pub mod rules;
pub mod epoch;
pub mod view;
pub mod wire;

/// Everything that awaits, reads a clock, prints or talks to a server.
#[cfg(feature = "shell")]
pub mod shell;
