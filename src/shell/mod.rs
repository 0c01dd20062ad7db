//! The thin shell around the core: it fetches and delivers, and leaves every decision to [`crate::pipeline`].

pub mod clock;
pub mod collect;
pub mod config;
pub mod connect;
pub mod daemon;
pub mod failure;
pub mod listen;
pub mod look;
pub mod publish;
pub mod record;
