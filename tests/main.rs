//! The integration tests: one binary.

#![expect(unreachable_pub, reason = "the harness is shared with the examples")]

mod cluster;
mod live;
