//! An active watcher that says that it is there, and does not watch: it gives the lease up by itself, or is overtaken,
//! and either is said.

use metawatch::alert::State;

use super::INTERVAL;
use super::story::Story;

/// Three watchers, the active one of which is not well in this way; whether another one is active `after` it.
fn with_leader(seed: u64, after: i64, hurt: impl FnOnce(&mut Story, usize)) -> (Story, usize) {
    let mut story = Story::new(seed, 3);
    story.rough = false;
    story.calm(12_000);
    let leader = story.active()[0];
    hurt(&mut story, leader);
    story.calm(after);
    let active = story.active();
    assert_eq!(active.len(), 1, "seed {seed}: {}", story.roles());
    assert_ne!(active[0], leader, "seed {seed}: {}", story.roles());
    // What happens now is told by the other one, once.
    story.set_down("s2", true);
    story.calm(6_000);
    let told = story.arrived.iter().filter(|(_, _, outgoing)| {
        let about = outgoing.event.peer.as_ref().and_then(|peer| peer.name.as_deref());
        outgoing.event.state == State::Firing && about == Some("s2")
    });
    let firing: Vec<usize> = told.map(|(_, who, _)| *who).collect();
    assert!(!firing.is_empty() && !firing.contains(&leader), "seed {seed}: {firing:?}");
    (story, leader)
}

fn says(story: &Story, who: usize, text: &str) -> bool {
    story.lines.iter().any(|(by, line)| *by == who && line.contains(text))
}

#[test]
fn one_whose_connection_is_dead_or_whose_epochs_never_end_resigns_and_says_so() {
    for seed in 0..4 {
        let (story, leader) = with_leader(seed, 4 * INTERVAL, |story, at| story.nodes[at].blind = true);
        assert!(says(&story, leader, "sees no servers"), "{:?}", story.lines);
        // The patience of an epoch, two seconds that it may take longer, and the takeover.
        let (story, leader) = with_leader(seed, 9 * INTERVAL, |story, at| story.nodes[at].stuck = true);
        assert!(says(&story, leader, "sees no servers"), "{:?}", story.lines);
    }
}

#[test]
fn one_whose_disk_hangs_resigns_once_there_is_something_to_save() {
    for seed in 0..4 {
        let (story, leader) = with_leader(seed, 5 * INTERVAL, |story, at| {
            story.nodes[at].disk_hangs_until = i64::MAX / 2;
            story.set_down("s1", true);
        });
        assert!(says(&story, leader, "cannot save its state"), "{:?}", story.lines);
    }
}

#[test]
fn one_that_beats_and_sends_no_heartbeats_is_overtaken_and_that_is_said() {
    for seed in 0..4 {
        // Three intervals, six seconds at least. The one that is overtaken goes on until it hears of it.
        let (story, leader) = with_leader(seed, 9 * INTERVAL, |story, at| {
            story.nodes[at].without_heartbeats = true;
            story.partitions = true;
        });
        let others = (0..3).filter(|at| *at != leader);
        let told =
            others.filter(|at| says(&story, *at, "sends no heartbeats: another one takes over")).count();
        assert!(told > 0, "{:?}", story.lines);
    }
}
