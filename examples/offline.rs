//! The pure core on a file: what a recording's epochs lead to, without a server, a clock or a runtime.
//!
//! `cargo run --example offline -- recording.ndjson`

use std::io::Write;
use std::time::Duration;

use metawatch::alert::LifeRules;
use metawatch::event::{Monitor, PREFIX};
use metawatch::pipeline::{Pipeline, Settings};
use metawatch::recording::{Item, RecordingClock, items};
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: offline FILE")?;
    let text = std::fs::read(file)?;
    let mut out = std::io::stdout().lock();
    let mut pipeline = Pipeline::new(Settings {
        rules: Rules { interval: Duration::from_secs(1), ..Rules::default() },
        life: LifeRules::default(),
        monitor: Monitor { name: "offline".into(), version: "0".into(), instance: "offline".into() },
        prefix: PREFIX.into(),
    });
    let mut clock = RecordingClock::default();
    for (number, item) in items(&text, 1).enumerate() {
        let Item::Epoch(epoch) = item? else { continue };
        let number = number as u64 + 1;
        let gathered = epoch
            .play(&mut clock, Stamp::new(0, 0), |now| pipeline.plan(number, now, Duration::from_secs(5)));
        for outgoing in pipeline.step(&gathered).events {
            let event = outgoing.event;
            writeln!(out, "{} {:<9} {}", event.timestamp, event.state.as_str(), event.summary)?;
        }
    }
    Ok(())
}
