//! The figures of the README, measured here and now.
//!
//! `cargo run --release --example bench -- core`

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod core;

fn main() -> std::io::Result<()> {
    core::run(&mut std::io::stdout().lock())
}
