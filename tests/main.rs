//! What metawatch promises, checked in one binary: real replies, recordings of real clusters, scripted and random
//! histories, the command line, and live clusters.
//!
//! Golden files are rewritten by `UPDATE=1 cargo test --test metawatch`; read the difference before it is kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captures;
#[cfg(feature = "cli")]
mod cases;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
#[expect(unreachable_pub, reason = "the harness is shared with the examples")]
mod cluster;
mod contract;
#[cfg(feature = "cli")]
mod contradictions;
mod daemon;
#[cfg(feature = "cli")]
mod deploy;
mod election;
mod hostile;
#[cfg(feature = "cli")]
mod http;
mod inherited;
#[cfg(feature = "cli")]
mod live;
mod many;
mod metrics;
mod model;
#[cfg(feature = "cli")]
mod mutations;
mod recordings;
mod scenarios;
mod schedules;
mod sidecars;
mod simulation;
mod status;
mod support;
mod systems;
mod unchanged;
