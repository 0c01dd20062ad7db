//! Real clusters.

mod harness;
mod alerts;
