//! What was told in a story, and who was what.

use std::collections::BTreeMap;

use metawatch::alert::State;
use metawatch::event::Outgoing;

use super::node::Node;
use super::story::Story;

impl Story {
    /// Who told what of an incident, for whoever looks for a defect.
    pub(super) fn history_of(&self, incident: &str) -> String {
        let of = |(at, who, outgoing): &(i64, usize, Outgoing)| {
            let event = &outgoing.event;
            let told = event.incident == incident || event.merged.iter().any(|id| id == incident);
            told.then(|| {
                format!(
                    "{at} ms w{who}: {} {:?} {:?} {:?}",
                    event.id, event.state, event.reason, event.merged
                )
            })
        };
        let told: Vec<_> = self.arrived.iter().filter_map(of).collect();
        format!("{}\n{}\n{:?}", told.join("\n"), self.roles(), self.faults)
    }

    /// What each watcher is, for whoever looks for a defect.
    pub(super) fn roles(&self) -> String {
        let role = |node: &Node| {
            let how = if node.blind {
                " blind"
            } else if node.moves() {
                ""
            } else {
                " still"
            };
            format!("{}@{}: {:?}{how} {:?}", node.name, node.side, node.daemon.role(), node.daemon.version())
        };
        self.nodes.iter().map(role).collect::<Vec<_>>().join(", ")
    }

    /// What reached subscribers of each incident: seq → state, and about which peer.
    pub(super) fn told(&self) -> BTreeMap<String, (String, BTreeMap<u64, State>)> {
        let seed = self.seed;
        let mut told: BTreeMap<String, (String, BTreeMap<u64, State>)> = BTreeMap::new();
        for (at, who, outgoing) in &self.arrived {
            let event = &outgoing.event;
            let name = event.peer.as_ref().and_then(|peer| peer.name.clone()).expect("a known peer");
            let (_, seen) = told.entry(event.incident.clone()).or_insert_with(|| (name, BTreeMap::new()));
            let before = seen.insert(event.seq, event.state);
            assert!(
                self.partitions || before.is_none_or(|before| before == event.state),
                "seed {seed}: {} stands for two events",
                event.id
            );
            assert!(
                self.partitions || event.seq == 1 || seen.contains_key(&(event.seq - 1)),
                "seed {seed}, {at} ms: w{who} tells {} before the one before it",
                event.id
            );
        }
        told
    }
}
