//! The thin shell around the core: it fetches and delivers, and leaves every decision to [`crate::pipeline`].

pub mod clock;
pub mod failure;
pub mod place;

pub mod config;

pub mod connect;

pub mod collect;

pub mod record;

pub mod publish;

pub mod service;

pub mod state;

pub mod presence;

pub mod sidecar;

pub mod ask;

pub mod daemon;

pub mod look;

pub mod listen;

// The command line.
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(feature = "cli")]
pub mod from;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "cli")]
pub mod report;
#[cfg(feature = "cli")]
mod unpack;
