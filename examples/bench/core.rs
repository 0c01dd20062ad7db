//! What one reply costs the core: decode, merge, evaluate, at three sizes of a system.

use std::io::Write;
use std::time::{Duration, Instant};

use metawatch::alert::LifeRules;
use metawatch::epoch::{Epoch, Heard};
use metawatch::event::{Monitor, PREFIX};
use metawatch::name::PeerId;
use metawatch::pipeline::{Pipeline, Settings};
use metawatch::rules::Rules;
use metawatch::stamp::Stamp;

/// Prints a row a size: microseconds a reply, and the ratio to the smallest size. Decoding alone is the same work a
/// reply at every size: what it grows by is the machine's, what the rest grows by is the depth of the maps too.
pub(crate) fn run(out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "decode + merge + evaluate, per reply (median of the epochs of 1 s of work)")?;
    let mut smallest = None;
    for servers in [3, 100, 10_000] {
        let replies = replies(servers);
        let (whole, decoding) = (measure(&replies), decoding(&replies));
        let (base_whole, base_decoding) = *smallest.get_or_insert((whole, decoding));
        writeln!(
            out,
            "  {servers:>6} servers  {whole:>6.2} µs (ratio {:.2}), of which decoding {decoding:.2} µs (ratio {:.2})",
            whole / base_whole,
            decoding / base_decoding
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

fn measure(replies: &[Vec<u8>]) -> f64 {
    let servers = replies.len();
    let mut pipeline = Pipeline::new(Settings {
        rules: Rules::default(),
        life: LifeRules::default(),
        monitor: Monitor { name: "bench".into(), version: "0".into(), instance: "bench".into() },
        prefix: PREFIX.into(),
    });
    let mut took = Vec::new();
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(1) || took.len() < 5 {
        number += 1;
        let opened = Stamp::new(number as i64 * 1_000_000_000, number as i64 * 1_000_000_000);
        let plan = pipeline.plan(number, opened, Duration::from_secs(5));
        let begun = Instant::now();
        let mut epoch = Epoch::open(plan, opened);
        let heard_at = opened.plus(Duration::from_millis(2));
        for payload in replies {
            epoch.hear(heard_at, Heard::Jsz { epoch: number, payload });
        }
        let now = opened.plus(Duration::from_millis(10));
        let ended = epoch.ended(now).unwrap_or(metawatch::epoch::Ended::Deadline);
        let step = pipeline.step(&epoch.close(now, ended));
        took.push(begun.elapsed());
        assert!(step.events.is_empty(), "a healthy system makes no event");
        assert_eq!(step.view.servers.len(), servers, "every reply was merged");
    }
    took.sort();
    took[took.len() / 2].as_secs_f64() * 1e6 / servers as f64
}

/// A healthy system of one meta group as servers of 2.14 answer: about 940 bytes each, and the leader's list.
fn replies(servers: usize) -> Vec<Vec<u8>> {
    let name = |index: usize| format!("s{index}");
    let rows: Vec<String> = (1..servers)
        .map(|index| {
            let (name, id) = (name(index), PeerId::of_server(&name(index)));
            format!(r#"{{"name":"{name}","current":true,"active":350000000,"peer":"{id}"}}"#)
        })
        .collect();
    let leader = PeerId::of_server("s0");
    let rows = rows.join(",");
    (0..servers)
        .map(|index| {
            let list = if index == 0 { format!(r#""replicas":[{rows}],"#) } else { String::new() };
            let (name, id) = (name(index), format!("N{index:055}"));
            format!(
                r#"{{"server":{{"name":"{name}","host":"127.0.0.1","id":"{id}","cluster":"c1","ver":"2.14.6","feature_flags":{{"js_ack_fc_v2":false,"js_raft_delete_range":false}},"jetstream":true,"flags":7,"seq":23,"time":"2026-11-23T04:58:05.302382482Z"}},"data":{{"memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"accounts":1,"ha_assets":1,"api":{{"level":4,"total":0,"errors":0}},"server_id":"{id}","now":"2026-11-23T04:58:05.302339141Z","config":{{"max_memory":64000000,"max_storage":256000000,"store_dir":"/data/jetstream","sync_interval":120000000000,"compress_ok":true,"strict":true}},"limits":{{}},"streams":0,"consumers":0,"messages":0,"bytes":0,"meta_cluster":{{"name":"c1","leader":"s0","peer":"{leader}",{list}"cluster_size":{servers},"pending":0,"pending_requests":0,"pending_infos":0,"snapshot":{{"pending_entries":1,"pending_size":86,"last_time":"0001-01-01T00:00:00Z"}}}},"total":1}}}}"#
            )
            .into_bytes()
        })
        .collect()
}
