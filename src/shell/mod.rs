//! The thin shell around the core: it fetches and delivers, and leaves every decision to [`crate::pipeline`].

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
pub mod config;
pub mod connect;
pub mod failure;
#[cfg(feature = "cli")]
pub mod from;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "cli")]
pub mod report;
