//! Real clusters.

mod alerts;
mod connect;
mod consumers;
mod delivery;
mod diagnosis;
mod faults;
mod harness;
mod listen;
mod recipes;
mod service;
mod sidecars;
