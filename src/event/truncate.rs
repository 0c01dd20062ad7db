//! Keeps messages small: lists are cut, and what each of them lacks is counted.

use std::collections::BTreeMap;

use super::{AlertEvent, EVENT_BYTES_MAX, Heartbeat, Outgoing};

/// Cuts entry by entry from the longest list, until the event has at most [`EVENT_BYTES_MAX`] bytes or no list has
/// any entry left. The state, the names, the numbers and the summary stay whole.
pub(super) fn fit(event: &mut AlertEvent) {
    while bytes(event) > EVENT_BYTES_MAX {
        let Some(list) = cut(event) else { return };
        *event.left_out.entry(list.to_owned()).or_default() += 1;
    }
}

/// What was done to a message so that the server takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Nothing: it fits.
    Whole,
    /// Something was left out.
    Shortened,
    /// It has so many bytes at least, which are too many.
    TooLarge(usize),
}

/// The headers that receivers depend on; the others repeat what the event says.
const HEADERS_NEEDED: [&str; 2] = ["Nats-Msg-Id", "Content-Type"];
/// The longest summary of an event or a heartbeat that has no room for a longer one, in characters.
const SUMMARY_SHORT: usize = 80;

/// Shortens an event until the server takes it: `limit` is the server's `max_payload` in bytes, which counts the
/// payload and the headers (nats-server, `client.go`, `processInboundMsg`). First the lists are cut, then the headers
/// that repeat the event are left out, then the evidence, the cause and a part of the summary.
pub fn fit_to(outgoing: &mut Outgoing, limit: usize) -> Fit {
    if message_bytes(outgoing) <= limit {
        return Fit::Whole;
    }
    let too_large = |outgoing: &Outgoing| message_bytes(outgoing) > limit;
    outgoing.headers.retain(|(name, _)| HEADERS_NEEDED.contains(name) || *name == "Metawatch-Summary");
    while too_large(outgoing) {
        let Some(list) = cut(&mut outgoing.event) else { break };
        *outgoing.event.left_out.entry(list.to_owned()).or_default() += 1;
    }
    if too_large(outgoing) {
        outgoing.headers.retain(|(name, _)| HEADERS_NEEDED.contains(name));
    }
    if too_large(outgoing) {
        let event = &mut outgoing.event;
        (event.evidence, event.cause) = (None, None);
        event.left_out = BTreeMap::from([("evidence".to_owned(), 1)]);
        event.summary = shortened(&event.summary);
    }
    if too_large(outgoing) { Fit::TooLarge(message_bytes(outgoing)) } else { Fit::Shortened }
}

/// Shortens a heartbeat in the same way. `headers` is how many bytes its headers have.
pub fn fit_heartbeat(heartbeat: &mut Heartbeat, headers: usize, limit: usize) -> Fit {
    let bytes = |heartbeat: &Heartbeat| headers + serde_json::to_vec(heartbeat).map_or(0, |json| json.len());
    if bytes(heartbeat) <= limit {
        return Fit::Whole;
    }
    while bytes(heartbeat) > limit {
        let Heartbeat { active, notes, groups, epoch, left_out, .. } = heartbeat;
        let mut lists: [(&str, &mut dyn List); 4] =
            [("notes", notes), ("active", active), ("missing", &mut epoch.missing), ("groups", groups)];
        let Some(name) = lists.iter_mut().find_map(|(name, list)| list.drop_last().then_some(*name)) else {
            break;
        };
        *left_out.entry(name.to_owned()).or_default() += 1;
    }
    if bytes(heartbeat) > limit {
        heartbeat.summary = shortened(&heartbeat.summary);
    }
    if bytes(heartbeat) > limit { Fit::TooLarge(bytes(heartbeat)) } else { Fit::Shortened }
}

fn shortened(summary: &str) -> String {
    match summary.char_indices().nth(SUMMARY_SHORT) {
        Some((end, _)) => format!("{}…", &summary[..end]),
        None => summary.to_owned(),
    }
}

/// How many bytes a message has for the server: its payload and its headers.
fn message_bytes(outgoing: &Outgoing) -> usize {
    bytes(&outgoing.event)
        + header_bytes(outgoing.headers.iter().map(|(name, value)| (*name, value.as_str())))
}

/// How many bytes headers have on the wire: the line `NATS/1.0`, a line each, and an empty one.
pub fn header_bytes<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    headers.map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 12
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

    fn outgoing(name_bytes: usize) -> Outgoing {
        let event = wordy(name_bytes);
        let subject = event.subject("metawatch", "s1");
        Outgoing { headers: event.headers(&subject), subject, event }
    }

    #[test]
    fn an_event_fits_into_the_messages_of_its_server_or_is_known_not_to() {
        for name_bytes in [2, 63, 128] {
            for limit in [64, 600, 1_024, 1_400, 2_048, 4_096, 1 << 20] {
                let whole = outgoing(name_bytes);
                let mut fitted = whole.clone();
                let fit = fit_to(&mut fitted, limit);
                let size = message_bytes(&fitted);
                match fit {
                    Fit::Whole => assert_eq!(fitted, whole),
                    Fit::Shortened => assert!(message_bytes(&whole) > limit && size <= limit),
                    Fit::TooLarge(bytes) => assert!(bytes == size && size > limit && limit < 1_400, "{size}"),
                }
                let told = (&fitted.event.id, &fitted.event.peer, fitted.event.state, &fitted.subject);
                assert_eq!(told, (&whole.event.id, &whole.event.peer, whole.event.state, &whole.subject));
                assert!(fitted.headers.iter().any(|(name, _)| *name == "Nats-Msg-Id"));
            }
        }
    }

    #[test]
    fn an_event_of_a_usual_server_fits_into_1024_bytes() {
        let kept = include_str!("../../tests/events/v1/meta_001-firing-reported.json");
        let event: AlertEvent = serde_json::from_str(kept).expect("an event");
        let subject = event.subject("metawatch", "s3");
        let mut outgoing = Outgoing { headers: event.headers(&subject), subject, event };
        assert_eq!(fit_to(&mut outgoing, 1_024), Fit::Shortened, "{} bytes", message_bytes(&outgoing));
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
