//! What shows health by itself, without metawatch: the replies of one epoch.

use std::collections::BTreeSet;

use metawatch::name::PeerId;
use serde_json::Value;

use crate::recordings::Line;

/// A contact is fresh for so long.
const FRESH_NS: i64 = 10_000_000_000;

fn replies(line: &Line) -> Vec<Value> {
    line.replies.iter().filter_map(|reply| serde_json::from_slice(reply).ok()).collect()
}

fn id_of(reply: &Value) -> Option<String> {
    Some(PeerId::of_server(reply["server"]["name"].as_str()?).to_string())
}

fn rows(reply: &Value) -> impl Iterator<Item = &Value> {
    reply["data"]["meta_cluster"]["replicas"].as_array().into_iter().flatten()
}

/// The ids of everybody who ever was in a list, or answered as a member.
pub(super) fn everybody(lines: &[Line]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for reply in lines.iter().flat_map(replies) {
        if reply["data"]["meta_cluster"].is_object() {
            ids.extend(id_of(&reply));
        }
        ids.extend(rows(&reply).filter_map(|row| row["peer"].as_str().map(str::to_owned)));
    }
    ids
}

/// Whether each of these is shown to be well: by the row of a leader that lists as many as it counts, not offline
/// and in fresh contact, or by leading; and by an answer of its own as an enabled member.
pub(super) fn shown(line: &Line, everybody: &BTreeSet<String>) -> bool {
    let replies = replies(line);
    let members: BTreeSet<String> =
        replies.iter().filter(|reply| reply["data"]["meta_cluster"].is_object()).filter_map(id_of).collect();
    let leads = |reply: &&Value| reply["data"]["meta_cluster"]["leader"] == reply["server"]["name"];
    let mut well: BTreeSet<String> = BTreeSet::new();
    for leader in replies.iter().filter(leads) {
        let complete = leader["data"]["meta_cluster"]["cluster_size"] == rows(leader).count() + 1;
        let fresh = |row: &&Value| {
            let contact = row["active"].as_i64().unwrap_or(0);
            row["offline"] != true && (row["current"] == true || (contact > 0 && contact <= FRESH_NS))
        };
        if complete {
            well.extend(id_of(leader));
            well.extend(rows(leader).filter(fresh).filter_map(|row| row["peer"].as_str().map(str::to_owned)));
        }
    }
    everybody.iter().all(|id| well.contains(id) && members.contains(id))
}
