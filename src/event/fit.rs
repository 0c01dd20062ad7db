//! Keeps an event small: its lists are cut, and what each of them lacks is counted.

use std::collections::BTreeMap;

use super::{AlertEvent, EVENT_BYTES_MAX};

/// Cuts entry by entry from the longest list, until the event has at most [`EVENT_BYTES_MAX`] bytes or no list has
/// any entry left. The state, the names, the numbers and the summary stay whole.
pub(super) fn fit(event: &mut AlertEvent) {
    while bytes(event) > EVENT_BYTES_MAX {
        let Some(list) = cut(event) else { return };
        *event.left_out.entry(list.to_owned()).or_default() += 1;
    }
}

fn bytes(event: &AlertEvent) -> usize {
    serde_json::to_vec(event).map_or(0, |json| json.len())
}

/// Drops the last entry of the longest list, of equal ones of the least telling one, and says which list it was.
fn cut(event: &mut AlertEvent) -> Option<&'static str> {
    let mut none = BTreeMap::new();
    let mut nothing = Vec::new();
    let (reporters, routes) = match &mut event.evidence {
        Some(evidence) => (&mut evidence.reporters, &mut evidence.routes),
        None => (&mut none, &mut BTreeMap::new()),
    };
    let because = event.cause.as_mut().map_or(&mut nothing, |cause| &mut cause.because);
    // From the most to the least telling: of equals, the last is taken.
    let mut lists: [(&'static str, &mut dyn List); 8] = [
        ("because", because),
        ("diagnosis", &mut event.diagnosis),
        ("advice", &mut event.advice),
        ("notes", &mut event.notes),
        ("reporters", reporters),
        ("routes", routes),
        ("missing", &mut event.epoch.missing),
        ("clusters", &mut event.group.clusters),
    ];
    let (name, longest) = lists.iter_mut().max_by_key(|(_, list)| list.entries())?;
    longest.drop_last().then_some(name)
}

/// What a list of an event can do, be it a list or a map.
trait List {
    fn entries(&self) -> usize;
    /// Drops the last entry; whether there was one.
    fn drop_last(&mut self) -> bool;
}

impl<T> List for Vec<T> {
    fn entries(&self) -> usize {
        self.len()
    }

    fn drop_last(&mut self) -> bool {
        self.pop().is_some()
    }
}

impl List for BTreeMap<String, String> {
    fn entries(&self) -> usize {
        self.len()
    }

    fn drop_last(&mut self) -> bool {
        self.pop_last().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Diagnosis;

    /// A real event with as much to say as there can be, by servers whose names have so many bytes.
    fn wordy(name_bytes: usize) -> AlertEvent {
        let kept = include_str!("../../tests/events/v1/meta_001-firing-diagnosed.json");
        let mut event: AlertEvent = serde_json::from_str(kept).expect("an event");
        let names: Vec<String> =
            (1..=5).map(|number| format!("s{number:0>width$}", width = name_bytes - 1)).collect();
        let say = |word: &str| names.iter().map(|name| (name.clone(), word.to_owned())).collect();
        let evidence = event.evidence.as_mut().expect("evidence");
        (evidence.routes, evidence.reporters) = (say("held"), say("offline"));
        let diagnosis = |server: &String| {
            let (server, asked) = (server.clone(), "RAFTZ".to_owned());
            Diagnosis { server, asked, says: "é".repeat(200), kind: None, missing: Vec::new() }
        };
        event.diagnosis = names.iter().take(4).map(diagnosis).collect();
        event.peer.as_mut().expect("a peer").name = Some(names[0].clone());
        (event.group.leader, event.group.clusters) = (Some(names[1].clone()), names.clone());
        event.epoch.missing = names;
        event
    }

    #[test]
    fn lists_are_cut_until_the_event_fits_and_what_they_lack_is_counted() {
        for name_bytes in [2, 63, 128] {
            let whole = wordy(name_bytes);
            let mut event = whole.clone();
            fit(&mut event);
            assert!(bytes(&event) <= EVENT_BYTES_MAX, "{name_bytes}: {} bytes", bytes(&event));
            assert!(bytes(&event) > EVENT_BYTES_MAX * 3 / 4, "{name_bytes}: no more is cut than must be");
            let lacks = |list: &str| event.left_out.get(list).map_or(0, |count| *count as usize);
            let (before, after) = (whole.evidence.unwrap(), event.evidence.as_ref().unwrap());
            assert_eq!(after.reporters.len() + lacks("reporters"), before.reporters.len());
            assert_eq!(after.routes.len() + lacks("routes"), before.routes.len());
            assert_eq!(event.diagnosis.len() + lacks("diagnosis"), whole.diagnosis.len());
            assert_eq!(event.epoch.missing.len() + lacks("missing"), whole.epoch.missing.len());
            assert_eq!(event.group.clusters.len() + lacks("clusters"), whole.group.clusters.len());
            assert_eq!(event.summary, whole.summary);
            assert!(!event.advice.is_empty() && !event.cause.as_ref().unwrap().because.is_empty());
        }
    }

    #[test]
    fn an_event_that_fits_is_left_as_it_is() {
        let kept = include_str!("../../tests/events/v1/meta_001-firing-observed.json");
        let event: AlertEvent = serde_json::from_str(kept).expect("an event");
        let mut fitted = event.clone();
        fit(&mut fitted);
        assert_eq!(fitted, event);
    }
}
