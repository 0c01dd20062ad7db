//! Real clusters.

mod alerts;
mod connect;
mod delivery;
mod diagnosis;
mod faults;
mod harness;
mod service;
mod sidecars;
