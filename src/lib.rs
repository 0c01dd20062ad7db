//! metawatch watches the JetStream meta group of a NATS system.

/// Everything that awaits, reads a clock, prints or talks to a server.
#[cfg(feature = "shell")]
pub mod shell;
