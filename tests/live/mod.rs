//! Real clusters.

mod harness;
