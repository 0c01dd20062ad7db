//! The thin shell around the core: it fetches and delivers, and leaves every decision to [`crate::daemon`]
//! and [`crate::pipeline`].

pub mod atomic_file;
pub mod clock;
pub mod failure;

pub mod config;

pub mod connect;

pub mod collect;

pub mod record;

pub mod publish;

pub mod service;

pub mod state_file;

pub mod peer_channel;

pub mod follow_up;

pub mod service_manager;

pub mod daemon;

pub mod one_shot;

pub mod doctor;

pub mod http;

pub mod listen;

pub mod forward;

// The command line.
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(all(unix, feature = "cli"))]
pub mod demo;
#[cfg(feature = "cli")]
pub mod offline;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "cli")]
pub mod report;
#[cfg(feature = "cli")]
mod unpack;
#[cfg(feature = "cli")]
pub mod watch;
