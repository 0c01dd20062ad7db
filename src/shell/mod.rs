//! The thin shell around the core: it fetches and delivers, and leaves every decision to [`crate::pipeline`].

pub mod config;
pub mod connect;
pub mod failure;
