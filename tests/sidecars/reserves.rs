//! What a reserve knows when it takes over: a crash in that very moment is told as fast as any.

use metawatch::alert::State;
use metawatch::election::Role;

use super::node::Node;
use super::story::Story;
use super::{INTERVAL, TICK};
use crate::model::Answers;

/// From a crash until it is critical, where somebody looks on all the time: two epochs and two seconds of silence.
const USUAL: i64 = 3_500;
/// How long a reserve needs to take over at most (`election::timing`), at an interval of a second.
const TAKEOVER: i64 = 3 * INTERVAL + 250 + INTERVAL + 300;

impl Story {
    /// The process of a server is gone: its routes are closed, and nobody says that it is offline.
    fn crash(&mut self, name: &str) {
        let group = &mut self.world.groups[0];
        let known = group.server(name).expect("a server");
        (known.answers, known.cut) = (Answers::Not, true);
    }

    /// What the leader says of a server that crashed then.
    fn age(&mut self, name: &str, crashed: i64) {
        let now = self.now;
        let group = &mut self.world.groups[0];
        let leader = group.leader.clone().expect("a leader");
        group.say(&leader, name, |said| {
            said.active_ms = now - crashed + 400;
            said.current = said.active_ms < 10_000;
        });
    }

    pub(super) fn with_role(&self, role: Role) -> Vec<usize> {
        let has = |(at, node): (usize, &Node)| (node.moves() && node.daemon.role() == role).then_some(at);
        self.nodes.iter().enumerate().filter_map(has).collect()
    }

    pub(super) fn calm(&mut self, millis: i64) {
        for _ in 0..millis / TICK {
            self.tick();
        }
    }
}

/// The active watcher and all standbys are lost with a server. Gives when that is critical, and by whose word.
fn lost_with_a_server(seed: u64, watchers: usize, known_for: i64) -> (i64, usize) {
    let mut story = Story::new(seed, watchers);
    story.rough = false;
    story.calm(known_for);
    let electors: Vec<usize> = story.active().into_iter().chain(story.with_role(Role::Standby)).collect();
    assert_eq!(electors.len(), 3, "seed {seed}: {}", story.roles());
    for at in electors {
        story.nodes[at].running = false;
    }
    let crashed = story.now;
    story.crash("s3");
    loop {
        story.age("s3", crashed);
        story.tick();
        let firing = |told: &&(i64, usize, metawatch::event::Outgoing)| told.2.event.state == State::Firing;
        if let Some((at, who, outgoing)) = story.arrived.iter().find(firing) {
            let peer = outgoing.event.peer.as_ref().expect("a peer");
            assert_eq!(peer.name.as_deref(), Some("s3"), "seed {seed}");
            return (at - crashed, *who);
        }
        assert!(story.now - crashed < 60_000, "seed {seed}: never told: {}", story.roles());
    }
}

#[test]
fn a_crash_that_takes_the_active_watcher_and_all_standbys_with_it_is_told_as_fast_as_any() {
    for (seed, watchers) in [(1, 4), (2, 5), (4, 8), (5, 30)] {
        // Just begun, and after a time in which nothing has changed.
        for known_for in [12_000, 300_000] {
            let (took, _) = lost_with_a_server(seed, watchers, known_for);
            assert!(took <= TAKEOVER + USUAL, "seed {seed}, {watchers} watchers: critical after {took} ms");
        }
    }
}
