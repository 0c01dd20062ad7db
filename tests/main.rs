//! The integration tests: one binary.

#![expect(unreachable_pub, reason = "the harness is shared with the examples")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod cli;
#[expect(dead_code, reason = "the examples use the rest")]
mod cluster;
mod live;
