//! What one reply costs the core, and which part of an epoch that is, at several sizes of a system.

use std::io::Write;
use std::time::{Duration, Instant};

use metawatch::alert::LifeRules;
use metawatch::epoch::{Ended, Epoch, Heard};
use metawatch::event::{Monitor, PREFIX};
use metawatch::pipeline::{Pipeline, Settings};
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

use crate::system::{Shape, Simulated, servers};

/// Prints a row a size: microseconds a reply, and the parts. Decoding alone is the same work a reply at every size: what
/// it grows by is the machine's, what the rest grows by is the depth of the maps and the processor's cache, too.
pub(crate) fn run(out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "a whole epoch in the core, µs a reply (median of the epochs of 1 s of work)")?;
    writeln!(out, "  servers  groups of    whole   plan  decode   hear  close   step")?;
    for (count, group) in [(3, 3), (100, 9), (1_000, 9), (10_000, 9), (1_000, 1_000)] {
        let shape = Shape { servers: count, group, versions: vec!["2.14.6".to_owned()], dead: 0, seed: 1 };
        let parts = measure(&shape);
        let [plan, hear, close, step] = parts.map(|took| took.as_secs_f64() * 1e6 / count as f64);
        let decode = decoding(&replies(&servers(&shape), 1));
        let whole = plan + hear + close + step;
        writeln!(
            out,
            "  {count:>7}  {group:>9}  {whole:>7.2}  {plan:>5.2}  {decode:>6.2}  {:>5.2}  {close:>5.2}  {step:>5.2}",
            hear - decode
        )?;
    }
    Ok(())
}

/// Decoding alone.
fn decoding(replies: &[Vec<u8>]) -> f64 {
    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < Duration::from_secs(1) || took.len() < 5 {
        let begun = Instant::now();
        let decoded: Vec<_> = replies.iter().map(|payload| metawatch::wire::decode_jsz(payload)).collect();
        took.push(begun.elapsed());
        assert!(decoded.iter().all(Result::is_ok), "every reply can be read");
    }
    took.sort();
    took[took.len() / 2].as_secs_f64() * 1e6 / replies.len() as f64
}

/// The median times of planning an epoch, hearing all replies, closing it, and taking what it gathered further.
fn measure(shape: &Shape) -> [Duration; 4] {
    let mut pipeline = Pipeline::new(Settings {
        rules: Rules::default(),
        life: LifeRules::default(),
        monitor: Monitor { name: "bench".into(), version: "0".into(), instance: "bench".into() },
        prefix: PREFIX.into(),
    });
    let mut took: [Vec<Duration>; 4] = Default::default();
    let started = Instant::now();
    let mut number = 0;
    let servers = servers(shape);
    // The last epoch is kept, as a watcher does.
    let mut last = None;
    while started.elapsed() < Duration::from_secs(1) || took[0].len() < 5 {
        number += 1;
        let replies = replies(&servers, number);
        let opened = Stamp::new(number as i64 * 1_000_000_000, number as i64 * 1_000_000_000);
        let mut laps = [Instant::now(); 5];
        let plan = pipeline.plan(number, opened, Duration::from_secs(5));
        laps[1] = Instant::now();
        let mut epoch = Epoch::open(plan, opened);
        let heard_at = opened.plus(Duration::from_millis(2));
        for payload in &replies {
            epoch.hear(heard_at, Heard::Jsz { epoch: number, payload });
        }
        let now = opened.plus(Duration::from_millis(10));
        let ended = epoch.ended(now).unwrap_or(Ended::Deadline);
        laps[2] = Instant::now();
        let gathered = epoch.close(now, ended);
        laps[3] = Instant::now();
        let step = pipeline.step(&gathered);
        drop(gathered);
        laps[4] = Instant::now();
        assert!(step.events.is_empty(), "a healthy system makes no event");
        assert_eq!(step.view.servers.len(), replies.len(), "every reply was merged");
        last = Some(step);
        for (took, laps) in took.iter_mut().zip(laps.windows(2)) {
            took.push(laps[1] - laps[0]);
        }
    }
    drop(last);
    took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    })
}

/// A healthy system as servers of 2.14 answer: about 940 bytes each, and the leaders' lists.
fn replies(servers: &[Simulated], number: u64) -> Vec<Vec<u8>> {
    let reply = |server: &Simulated| {
        let mut reply = Vec::new();
        server.write_jsz(&mut reply, number, number * 1_000_000_007);
        reply
    };
    servers.iter().map(reply).collect()
}
