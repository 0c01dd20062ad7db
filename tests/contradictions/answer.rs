//! One answer, whether it came as an event or in a report, as the rules look at it.

use metawatch::event::{AlertEvent, EventGroup, Evidence};
use metawatch::stamp::parse_wall_ns;
use serde_json::Value;

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) check: String,
    /// The name of the peer, as people read it, and its id; none for an answer about a group.
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    /// `firing`, `suspected`, `resolved`; for a finding, what it amounts to.
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) cause: String,
    pub(crate) summary: String,
    pub(crate) because: Vec<String>,
    /// What to do, each with its command.
    pub(crate) advice: Vec<String>,
    pub(crate) group: Option<EventGroup>,
    pub(crate) evidence: Option<Evidence>,
    /// When it last answered, and since when it is spoken against.
    pub(crate) last_heard: Option<i64>,
    pub(crate) since: Option<i64>,
}

impl Answer {
    pub(crate) fn of_event(event: &AlertEvent) -> Self {
        let reason = serde_json::to_value(event.reason).expect("a reason");
        let command =
            |command: &Option<String>| command.as_ref().map_or(String::new(), |text| format!(": {text}"));
        Self {
            check: event.check.clone(),
            name: event.peer.as_ref().and_then(|peer| peer.name.clone()),
            id: event.peer.as_ref().map(|peer| peer.id.clone()),
            state: event.state.as_str().to_owned(),
            reason: reason.as_str().unwrap_or_default().to_owned(),
            cause: event.cause.as_ref().map_or(String::new(), |cause| cause.kind.as_str().to_owned()),
            summary: event.summary.clone(),
            because: event.cause.iter().flat_map(|cause| cause.because.clone()).collect(),
            advice: event
                .advice
                .iter()
                .map(|advice| advice.action.clone() + &command(&advice.command))
                .collect(),
            group: Some(event.group.clone()),
            evidence: event.evidence.clone(),
            last_heard: event.peer.as_ref().and_then(|peer| parse_wall_ns(peer.last_heard.as_deref()?)),
            since: parse_wall_ns(&event.since),
        }
    }

    /// The findings of a report, each as an answer of its own.
    pub(crate) fn of_report(report: &Value) -> Vec<Self> {
        let groups: Vec<&Value> = report["groups"].as_array().into_iter().flatten().collect();
        report["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|finding| Self::of_finding(finding, &groups))
            .collect()
    }

    fn of_finding(finding: &Value, groups: &[&Value]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let known = |value: &Value| value.as_str().map(str::to_owned);
        let group = groups.iter().find(|group| group["name"] == finding["group"]);
        let list = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
        let advice = |advice: &Value| match advice["command"].as_str() {
            Some(command) => format!("{}: {command}", text(&advice["do"])),
            None => text(&advice["do"]),
        };
        let state = match finding["verdict"].as_str().unwrap_or_default() {
            "fault" => "firing",
            "suspect" => "suspected",
            other => other,
        };
        Self {
            check: text(&finding["check"]),
            name: known(&finding["peer"]["name"]),
            id: known(&finding["peer"]["id"]),
            state: state.to_owned(),
            cause: text(&finding["cause"]["kind"]),
            summary: text(&finding["summary"]),
            because: list(&finding["cause"]["because"]).iter().map(text).collect(),
            advice: list(&finding["advice"]).iter().map(advice).collect(),
            group: group.map(|group| serde_json::from_value((*group).clone()).expect("numbers")),
            ..Self::default()
        }
    }

    /// Everything it says, in one text.
    pub(crate) fn text(&self) -> String {
        let parts = [self.summary.clone()].into_iter().chain(self.because.clone()).chain(self.advice.clone());
        parts.collect::<Vec<_>>().join(" | ")
    }

    /// A server of its group, by domain and name.
    pub(crate) fn server(&self, name: &str) -> (String, String) {
        let domain = self.group.as_ref().map_or(String::new(), |group| group.domain.clone());
        (domain, name.to_owned())
    }

    /// Whether it calls the peer offline.
    pub(crate) fn accuses(&self) -> bool {
        self.state == "firing" && self.summary.contains(" is offline")
    }
}
