//! Real clusters.

mod alerts;
mod faults;
mod harness;
