//! Real clusters.

mod alerts;
mod connect;
mod diagnosis;
mod faults;
mod harness;
mod sidecars;
