//! Real clusters.

mod alerts;
mod connect;
mod faults;
mod harness;
