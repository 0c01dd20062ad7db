//! Three to thirty watchers in random schedules: the active one and its standbys are lost together, the system falls
//! apart and heals, processes freeze and start again, links are slow and lose messages.

use metawatch::election::Role;

use super::story::Story;
use super::{INTERVAL, SERVERS, TICK, check_ended, check_told, seeds};

/// How the links between the watchers are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// They carry everything, soon.
    Good,
    /// They are cut for a while, so that there are two sides.
    Cut,
    /// They are slow, and one message of eight is lost.
    Bad,
}

impl Story {
    /// The active watcher and its standbys end at once, where a reserve knows what they know.
    fn lose_electors(&mut self) {
        let elects = |role: Role| matches!(role, Role::Active | Role::Standby | Role::Candidate);
        let newest = self.newest.clone();
        let goes_on = self
            .nodes
            .iter()
            .any(|node| node.daemon.role() == Role::Reserve && node.is_healthy(newest.as_ref(), true));
        let is_whole = self.nodes.iter().all(|node| node.side == 0);
        if goes_on && is_whole && self.active().len() == 1 {
            self.mute_since = self.mute_since.map(|_| self.now);
            for node in self.nodes.iter_mut().filter(|node| elects(node.daemon.role())) {
                node.running = false;
            }
        }
    }

    /// The system falls apart, or heals.
    fn cut_or_heal(&mut self) {
        let heals = self.nodes.iter().any(|node| node.side == 1);
        for node in &mut self.nodes {
            node.side = if heals { 0 } else { self.random.below(2) as u8 };
        }
    }
}

fn check_many(seed: u64, links: Links) {
    let mut story = Story::new(seed, 3 + (seed / 3 % 28) as usize);
    story.whoever = true;
    story.partitions = links != Links::Good;
    if links == Links::Bad {
        (story.latency, story.loses) = (400, Some(8));
    }
    for step in 0..90_000 / TICK {
        if (8_000 / TICK..75_000 / TICK).contains(&step) {
            story.trouble_servers();
            story.trouble_watchers();
            story.trouble_surroundings();
            if story.random.one_in(600) {
                story.lose_electors();
            }
            if links == Links::Cut && story.random.one_in(400) {
                story.cut_or_heal();
            }
        }
        story.tick();
    }
    (story.latency, story.loses) = (60, None);
    if links != Links::Good {
        // What only one knew that ended is on its disk.
        let dead: Vec<usize> = (0..story.nodes.len()).filter(|at| !story.nodes[*at].running).collect();
        dead.into_iter().for_each(|at| story.start_again(at));
    }
    story.end();
    if links == Links::Good {
        check_told(&story);
        // Three units of silence, the spread, a lost candidate, the settling.
        let longest = story.longest_mute;
        assert!(longest <= 5 * INTERVAL, "seed {seed}: nobody spoke for {longest} ms");
    } else {
        check_ended(&story);
        for at in 1..SERVERS {
            let name = format!("s{at}");
            let is_about = |outgoing: &metawatch::event::Outgoing| {
                outgoing.event.peer.as_ref().is_some_and(|peer| peer.name.as_ref() == Some(&name))
            };
            let was_told = story.arrived.iter().any(|(_, _, outgoing)| is_about(outgoing));
            let faults = story.faults.iter().filter(|fault| fault.server == name).count();
            assert!(was_told || faults == 0, "seed {seed}: {name}: {:?}", story.faults);
        }
    }
}

#[test]
fn every_fault_is_told_once_though_the_active_watcher_and_all_standbys_are_lost_together() {
    seeds(8).for_each(|seed| check_many(seed, Links::Good));
}

#[test]
fn of_up_to_thirty_watchers_on_two_sides_each_side_speaks_and_every_incident_ends() {
    seeds(8).for_each(|seed| check_many(seed, Links::Cut));
}

#[test]
fn every_incident_ends_though_messages_between_watchers_are_slow_and_some_are_lost() {
    seeds(8).for_each(|seed| check_many(seed, Links::Bad));
}
