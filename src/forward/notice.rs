//! What there is to tell, for an Alertmanager as labels and annotations, for a webhook as JSON.

use serde::Serialize;

use super::alertmanager::{Annotations, Labels};
use crate::advice::Advice;
use crate::alert::State;
use crate::check::Severity;
use crate::event::heartbeat::ActiveIncident;
use crate::event::{AlertEvent, Heartbeat};
use crate::name::{printable, shortened};
use crate::stamp::{Stamp, parse_wall_ns};

/// The alert that nobody watches.
pub(super) const QUIET: &str = "MetawatchQuiet";
/// The types of what a webhook gets besides alert events.
const INCIDENT_TYPE: &str = "io.metawatch.forward.v1.incident";
const QUIET_TYPE: &str = "io.metawatch.forward.v1.quiet";

/// So many bytes of a name become a label, and of a text an annotation: an Alertmanager keeps them all in memory.
const NAME_MAX: usize = 1 << 10;
const TEXT_MAX: usize = 8 << 10;

/// Something to tell.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// The same at every repetition.
    pub(super) id: String,
    /// What belongs together, in order.
    pub(super) incident: String,
    pub(super) state: State,
    pub(super) system: Option<String>,
    pub(super) since: Stamp,
    pub(super) labels: Labels,
    pub(super) annotations: Annotations,
    /// For a webhook.
    pub(super) body: String,
}

/// What a heartbeat tells of an incident, and no event did.
#[derive(Serialize)]
struct IncidentDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    timestamp: &'a str,
    #[serde(flatten)]
    incident: &'a ActiveIncident,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
}

/// Nobody watches, or somebody does again.
#[derive(Serialize)]
struct QuietDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    timestamp: String,
    state: State,
    summary: &'a str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
}

impl Notice {
    /// An event, which a webhook gets as it is.
    pub(super) fn of_event(event: &AlertEvent, raw: &str, now: Stamp) -> Self {
        let peer = event.peer.as_ref().map(|peer| peer.name.as_deref().unwrap_or(&peer.id));
        let system = event.system.clone();
        let mut annotations = annotations(&event.summary, &event.title, &event.incident);
        let because = event.cause.iter().flat_map(|cause| &cause.because).map(|because| printable(because));
        let because: Vec<_> = because.collect();
        if !because.is_empty() {
            annotations.insert("because".into(), shortened(&because.join("; "), TEXT_MAX));
        }
        let advice: Vec<String> = event.advice.iter().map(advised).collect();
        if !advice.is_empty() {
            annotations.insert("description".into(), shortened(&advice.join("\n"), TEXT_MAX));
        }
        Self {
            id: event.id.clone(),
            incident: event.incident.clone(),
            state: event.state,
            since: moment(&event.since, now),
            labels: labels(&event.check, event.severity, &event.group.name, peer, system.as_deref()),
            annotations,
            body: raw.to_owned(),
            system,
        }
    }

    /// What only heartbeats tell: it began before this process, or its event was missed.
    pub(super) fn of_incident(incident: &ActiveIncident, heartbeat: &Heartbeat, now: Stamp) -> Self {
        let system = heartbeat.system.clone();
        let id = format!("{}.{}.{}", incident.incident, incident.seq, incident.state.as_str());
        let peer = (incident.name != "_").then_some(incident.name.as_str());
        let about = peer.map_or_else(|| format!("group {}", incident.group), str::to_owned);
        let summary = format!("{about}: {}, since {}", incident.state.as_str(), incident.since);
        let document = IncidentDocument {
            kind: INCIDENT_TYPE,
            id: &id,
            timestamp: &heartbeat.timestamp,
            incident,
            system: system.as_deref(),
        };
        Self {
            incident: incident.incident.clone(),
            state: incident.state,
            since: moment(&incident.since, now),
            labels: labels(&incident.check, incident.severity, &incident.group, peer, system.as_deref()),
            annotations: annotations(&summary, &incident.check, &incident.incident),
            // Texts and numbers can always be written.
            body: serde_json::to_string(&document).unwrap_or_default(),
            id,
            system,
        }
    }

    /// Nobody has watched since `last`.
    pub(super) fn of_quiet(system: Option<String>, last: Stamp, now: Stamp) -> Self {
        let summary = match &system {
            Some(system) => {
                format!("nobody watches the system {}: no heartbeat of metawatch arrives", printable(system))
            }
            None => "nobody watches: no heartbeat of metawatch arrives".to_owned(),
        };
        Self::about_quiet(system, State::Firing, &summary, last, now)
    }

    /// Somebody watches again.
    pub(super) fn of_return(system: Option<String>, now: Stamp) -> Self {
        Self::about_quiet(system, State::Resolved, "heartbeats of metawatch arrive again", now, now)
    }

    fn about_quiet(system: Option<String>, state: State, summary: &str, since: Stamp, now: Stamp) -> Self {
        let incident = format!("quiet.{}", system.as_deref().unwrap_or_default());
        let id = format!("{incident}.{}.{}", state.as_str(), now.wall_ns() / 1_000_000);
        let document = QuietDocument {
            kind: QUIET_TYPE,
            id: &id,
            timestamp: now.to_string(),
            state,
            summary,
            since: since.to_string(),
            system: system.as_deref(),
        };
        let mut labels = Labels::from([
            ("alertname".into(), QUIET.to_owned()),
            ("severity".into(), Severity::Critical.as_str().to_owned()),
        ]);
        labels.extend(system.iter().map(|system| ("system".into(), shortened(&printable(system), NAME_MAX))));
        let mut annotations = annotations(summary, "nobody watches the meta group", &incident);
        let description = "see whether metawatch runs, and whether its server does";
        annotations.insert("description".into(), description.to_owned());
        Self {
            state,
            since,
            labels,
            annotations,
            body: serde_json::to_string(&document).unwrap_or_default(),
            id,
            incident,
            system,
        }
    }
}

fn labels(check: &str, severity: Severity, group: &str, peer: Option<&str>, system: Option<&str>) -> Labels {
    let given = [
        ("alertname", Some(check)),
        ("severity", Some(severity.as_str())),
        ("group", Some(group)),
        ("peer", peer),
        ("system", system),
    ];
    // An Alertmanager takes no label without a value.
    let given =
        given.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    given.map(|(name, value)| (name.into(), shortened(&printable(value), NAME_MAX))).collect()
}

fn annotations(summary: &str, title: &str, incident: &str) -> Annotations {
    let given = [("summary", summary), ("title", title), ("incident", incident)];
    given.into_iter().map(|(name, value)| (name.into(), shortened(&printable(value), TEXT_MAX))).collect()
}

/// A moment as it was told; the present where it cannot be read.
fn moment(text: &str, now: Stamp) -> Stamp {
    parse_wall_ns(text).map_or(now, |wall_ns| Stamp::at_wall(wall_ns, now))
}

fn advised(advice: &Advice) -> String {
    let action = printable(&advice.action);
    advice
        .command
        .as_ref()
        .map_or_else(|| action.to_string(), |command| format!("{action}: {}", printable(command)))
}
