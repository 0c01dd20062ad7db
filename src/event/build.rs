//! Makes an event of a transition, from the view that caused it.

use std::collections::BTreeMap;

use super::truncate::fit;
use super::{
    AlertEvent, EVENT_TYPE, EventEpoch, EventGroup, EventPeer, Evidence, LIST_MAX, Monitor, NOTES_MAX,
    Outgoing, summary,
};
use crate::advice::{self, Advice};
use crate::alert::{State, Transition};
use crate::check::{self, Finding, Impact, Verdict, Witness};
use crate::diagnosis::Diagnosis;
use crate::name::{Name, PeerId};
use crate::stamp::Stamp;
use crate::view::{Answer, ClusterView, EpochFacts, GroupView, Opinion, PeerView, Route};

/// What all events of one epoch share.
pub struct EventContext<'a> {
    /// The view.
    pub view: &'a ClusterView,
    /// The findings.
    pub findings: &'a [Finding],
    /// What they mean for the groups that events are about, by key.
    pub impacts: BTreeMap<Name, Impact>,
    /// Which system is watched, where that is known.
    pub system: Option<&'a str>,
    /// Who watches.
    pub monitor: &'a Monitor,
    /// The prefix of the subjects.
    pub prefix: &'a str,
    /// The time of the events: the end of the epoch, or later when something came in after it.
    pub now: Stamp,
}

/// Makes the event that tells of a transition of this epoch; `None` when the transition is not of this epoch.
pub fn alert_event(transition: &Transition, context: &EventContext<'_>) -> Option<Outgoing> {
    let alert = &transition.alert;
    let unshown;
    let group = match context.view.group(&alert.identity.group) {
        Some(group) => group,
        // Nothing shows the group any more: that is what the event tells.
        None if transition.finding.is_none() => {
            unshown = GroupView::unshown(alert.identity.group.clone(), alert.domain.clone());
            &unshown
        }
        None => return None,
    };
    let check = check::by_code(alert.identity.check)?;
    let peer = alert.identity.peer.and_then(|id| group.peer(id));
    let finding = transition.finding.and_then(|index| context.findings.get(index));
    let now = context.now;
    // What nothing shows any more has no numbers.
    let unknown = || check::impact(group, &[]);
    let impact = context.impacts.get(&group.key).copied().unwrap_or_else(unknown);
    let name = alert.identity.peer.map(|id| match peer {
        Some(peer) => peer.label(),
        None => crate::view::label(Some(&alert.subject_name), id),
    });
    let subject = || name.clone().unwrap_or_else(|| format!("meta group {}", group.key));
    let condition = check.about == check::Subject::Condition;
    let mut summary = match &name {
        _ if condition => summary::of_condition(alert, transition.reason, finding, check, &subject(), now),
        Some(name) => summary::of_peer(alert, transition.reason, finding, name, group, impact, now),
        None => summary::of_group(alert, transition.reason, finding, group, impact, now),
    };
    summary += &summary::diagnosis(&alert.diagnosis);
    let over = alert.state == State::Resolved;
    let told =
        finding.filter(|finding| matches!(finding.verdict, Verdict::Fault | Verdict::Suspect) && !over);
    let mut event = AlertEvent {
        event_type: format!("{EVENT_TYPE}.{}", check.event),
        id: format!("{}.{}", alert.incident, alert.sequence),
        timestamp: now.to_string(),
        check: check.code.to_owned(),
        title: check.title.to_owned(),
        category: check.category.to_owned(),
        severity: alert.severity(),
        state: alert.state,
        reason: transition.reason,
        incident: alert.incident.clone(),
        seq: alert.sequence,
        since: alert.since.to_string(),
        flaps: alert.flaps,
        merged: alert.merged.clone(),
        summary,
        peer: alert.identity.peer.map(|id| event_peer(id, &alert.subject_name, peer)),
        group: group_of_event(group, impact),
        basis: if over { None } else { alert.grounds.filter(|_| alert.fired) },
        evidence: peer.filter(|_| !condition).map(|peer| evidence(peer, finding)),
        measure: finding.and_then(|finding| finding.measure),
        cause: told.and_then(|finding| finding.cause.clone()),
        diagnosis: alert.diagnosis.clone(),
        advice: told
            .map(|finding| {
                advice_for(finding, group, context.view, context.findings, impact, &alert.diagnosis)
            })
            .unwrap_or_default(),
        notes: context.view.remarks().take(NOTES_MAX).cloned().collect(),
        left_out: left_out(group, peer, context.view),
        epoch: event_epoch(&context.view.epoch, context.monitor),
        system: context.system.map(str::to_owned),
        monitor: context.monitor.clone(),
    };
    fit(&mut event);
    let subject = event.subject(context.prefix, alert.subject_name.as_str());
    Some(Outgoing { headers: event.headers(&subject), subject, event })
}

/// A finding in words, for reports that tell of no alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What is said, without the numbers of the group: `s3 is offline (stopped)`.
    pub headline: String,
    /// What to do next.
    pub advice: Vec<Advice>,
}

/// Explains a fault or a suspicion, by the findings about its group and what they mean for that; `None` for every other
/// verdict.
pub fn explain(
    finding: &Finding,
    group: &GroupView,
    view: &ClusterView,
    findings: &[Finding],
    impact: Impact,
    diagnosis: &[Diagnosis],
) -> Option<Explained> {
    let name = finding.peer.map(|id| match group.peer(id) {
        Some(peer) => peer.label(),
        None => crate::view::label(None, id),
    });
    let check = check::by_code(finding.check)?;
    let headline = match (finding.verdict, name) {
        (Verdict::Fault | Verdict::Suspect, name) if check.about == check::Subject::Condition => {
            let subject = name.unwrap_or_else(|| format!("meta group {}", group.key));
            summary::condition(check, &subject, Some(finding))
        }
        (Verdict::Fault, Some(name)) => summary::offline(&name, Some(finding)),
        (Verdict::Suspect, Some(name)) => summary::suspected(&name, Some(finding)),
        (Verdict::Fault | Verdict::Suspect, None) => {
            summary::group_fault(finding.check, group, Some(finding))
        }
        (Verdict::Clear | Verdict::Gone | Verdict::Unknown, _) => return None,
    };
    Some(Explained { headline, advice: advice_for(finding, group, view, findings, impact, diagnosis) })
}

fn text(name: &Name) -> String {
    name.as_str().to_owned()
}

fn known(name: &Name) -> Option<String> {
    (!name.is_empty()).then(|| text(name))
}

fn event_peer(id: PeerId, subject_name: &Name, peer: Option<&PeerView>) -> EventPeer {
    EventPeer {
        id: id.as_str().to_owned(),
        name: match peer {
            Some(peer) => peer.name.as_ref().map(text),
            None => known(subject_name),
        },
        cluster: peer.and_then(|peer| known(&peer.cluster)),
        last_heard: peer.and_then(|peer| peer.last_heard).map(|heard| heard.to_string()),
    }
}

/// What the lists lack that are cut before they are made.
fn left_out(group: &GroupView, peer: Option<&PeerView>, view: &ClusterView) -> BTreeMap<String, u64> {
    let (routes, opinions) = peer.map_or((0, 0), |peer| {
        (peer.routes.len() + peer.more_routes, peer.opinions.len() + peer.more_opinions)
    });
    let epoch = &view.epoch;
    let missing = epoch.expected.saturating_sub(epoch.heard).max(epoch.missing.len());
    let lists = [
        ("clusters", group.clusters.len(), LIST_MAX),
        ("routes", routes, LIST_MAX),
        ("reporters", opinions, LIST_MAX),
        ("missing", missing, LIST_MAX),
        ("notes", view.remarks().count(), NOTES_MAX),
    ];
    let cut = lists.into_iter().filter(|(_, entries, max)| entries > max);
    cut.map(|(list, entries, max)| (list.to_owned(), (entries - max) as u64)).collect()
}

/// The numbers of a group, as events tell them.
pub fn event_group(group: &GroupView, impact: Impact) -> EventGroup {
    EventGroup {
        name: text(&group.key),
        domain: text(&group.domain),
        clusters: group.clusters.iter().take(LIST_MAX).map(text).collect(),
        leader: group.authority.as_ref().map(|authority| text(&authority.name)),
        size: group.size,
        quorum: group.quorum,
        online: impact.online,
        failures_left: impact.failures_left,
        answering: Some(group.answering),
        rescue: group.rescue,
    }
}

/// The numbers of a group beside an alert. Where the epoch could not count, the last count goes on, less those that
/// the alerts are about.
fn group_of_event(group: &GroupView, impact: Impact) -> EventGroup {
    let numbers = event_group(group, impact);
    let online = impact.online.or(impact.last_online);
    EventGroup { online, failures_left: Impact::failures_left(group, online), ..numbers }
}

/// The numbers of an epoch, as events tell them.
pub(crate) fn event_epoch(epoch: &EpochFacts, monitor: &Monitor) -> EventEpoch {
    EventEpoch {
        id: format!("{}-{}", monitor.instance, epoch.number),
        ended: serde_json::to_value(epoch.ended)
            .ok()
            .and_then(|ended| ended.as_str().map(str::to_owned))
            .unwrap_or_default(),
        expected: epoch.expected as u64,
        heard: epoch.heard as u64,
        missing: epoch.missing.iter().take(LIST_MAX).map(text).collect(),
        elapsed_ms: u64::try_from(epoch.closed.since(epoch.opened).as_millis()).unwrap_or(u64::MAX),
    }
}

/// Who says what of a peer.
pub(crate) fn evidence(peer: &PeerView, finding: Option<&Finding>) -> Evidence {
    let row = peer.row.as_ref();
    let routes = peer.routes.iter().map(|(name, route)| {
        let route = match route {
            Route::Held => "held",
            Route::Lost => "lost",
        };
        (text(name), route.to_owned())
    });
    let reporters = peer.opinions.iter().map(|(name, said)| (text(name), opinion(*said).to_owned()));
    let witnesses = finding.map(|finding| finding.witnesses.iter().map(|witness| spoken(*witness)).collect());
    Evidence {
        witnesses: witnesses.unwrap_or_default(),
        flag: row.map(|row| row.offline),
        contact_ns: row.map(|row| row.active_ns),
        current: row.map(|row| row.current),
        silent_epochs: peer.silence.map_or(0, |silence| silence.epochs),
        disabled: peer.answer == Answer::Disabled,
        announced: peer.announced.map(|(_, kind)| kind.to_string()),
        answers: peer.answer != Answer::None,
        answers_statsz: peer.answers_statsz,
        leader_still_hears: peer.leader_still_hears,
        routes: routes.take(LIST_MAX).collect::<BTreeMap<_, _>>(),
        reporters: reporters.take(LIST_MAX).collect::<BTreeMap<_, _>>(),
    }
}

/// An opinion in the word that events and views carry.
pub(crate) fn opinion(opinion: Opinion) -> &'static str {
    match opinion {
        Opinion::Offline => "offline",
        Opinion::Online => "online",
        Opinion::Current => "current",
        Opinion::NotCurrent => "not_current",
    }
}

fn spoken(witness: Witness) -> String {
    let word = match witness {
        Witness::Flag => "flag",
        Witness::Contact => "contact",
        Witness::Silence => "silence",
        Witness::Disconnected => "disconnected",
        Witness::Disabled => "disabled",
        Witness::Announced => "announced",
        Witness::Hearsay => "hearsay",
        Witness::Unlisted => "unlisted",
        Witness::Standstill => "standstill",
        Witness::OutOfStorage => "out_of_storage",
        Witness::Leaderless => "leaderless",
        Witness::Short => "short",
        Witness::Disagreement => "disagreement",
        Witness::Unheard => "unheard",
    };
    word.to_owned()
}

/// What to do about a finding, by its cause and by what servers said when they were asked about it.
fn advice_for(
    finding: &Finding,
    group: &GroupView,
    view: &ClusterView,
    findings: &[Finding],
    impact: Impact,
    diagnosis: &[Diagnosis],
) -> Vec<Advice> {
    let cause = finding.cause.as_ref().map_or(check::CauseKind::Unknown, |cause| cause.kind);
    if let Some(peer) = finding.peer.and_then(|id| group.peer(id)) {
        let answers = |peer: &&PeerView| peer.answer == Answer::Member;
        let member = group.peers.iter().find(answers).and_then(|peer| peer.name.as_ref()).map(Name::as_str);
        let others = view.answering_groups > usize::from(group.answering > 0);
        return advice::for_peer(
            cause,
            &advice::PeerCase {
                name: peer.name.as_ref().map(Name::as_str),
                id: peer.id.as_str(),
                can_agree: impact.failures_left.is_some_and(|left| left >= 0),
                through: member.filter(|_| others),
                off_since_start: peer.off_since_start,
                diagnosis,
            },
        );
    }
    if finding.check == "META_002" {
        return advice::for_disagreement();
    }
    let bad = |other: &&Finding| matches!(other.verdict, Verdict::Fault | Verdict::Suspect);
    let down = check::of_group(findings, &group.key).iter().filter(bad);
    let down = down.filter_map(|other| other.peer.and_then(|id| group.peer(id)));
    let down = down.filter(|peer| peer.answer == Answer::None && peer.id.is_sound());
    let mut missing: Vec<String> = down.map(PeerView::label).collect();
    missing.sort();
    advice::for_group(cause, &advice::GroupCase { missing, diagnosis })
}
