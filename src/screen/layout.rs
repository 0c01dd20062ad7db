//! What stands where: incidents, groups with their peers, the last events, the foot.

use std::cmp::Reverse;
use std::time::Duration;

use super::keys::{Controls, Sort};
use super::line::{Line, filled, whole_parts};
use super::{Size, since, table};
use crate::alert::{Reason, State};
use crate::check::{Severity, Verdict};
use crate::name::printable;
use crate::report::Status;
use crate::report::style::{Tone, ago};
use crate::status::{GroupStatus, IncidentStatus, PeerStatus, RecentEvent, SystemStatus};

/// So many lines of a terminal leave room for the reasons of one incident; of the others there is one line.
const ROWS_OF_DETAILS: usize = 20;
/// So many events are told.
const EVENTS_MAX: usize = 12;
/// From this width on, the words in front of reasons and advice are written out.
const WIDE: usize = 60;

/// What is shown, in small letters: which epoch, how old, of what.
pub(super) fn subtitle(status: &SystemStatus, age: Duration) -> String {
    let age = if age < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", ago(age)) };
    let system = status.system.as_ref().map_or_else(String::new, |system| format!(" · system {system}"));
    let only = match status.only.as_slice() {
        [] => String::new(),
        names => format!(" · only {}", names.join(", ")),
    };
    let every = ago(Duration::from_millis(status.interval_ms)).replace(".0s", "s");
    format!("epoch {}, {age} · every {every}{system}{only}", status.epoch.number)
}

/// Everything between head and foot.
pub(super) fn body(status: &SystemStatus, controls: &Controls, size: Size, now_ns: i64) -> Vec<Line> {
    let columns = size.columns;
    let detailed = if controls.details { usize::MAX } else { size.rows / ROWS_OF_DETAILS };
    let mut lines = Vec::new();
    incidents(status, detailed, columns, now_ns, &mut lines);
    let (groups, hidden) = chosen(status, controls);
    for group in groups {
        group_lines(group, controls, columns, &mut lines);
        lines.push(Line::default());
    }
    if status.groups.is_empty() {
        lines.push(Line::toned(Tone::Unknown, "no meta group is seen"));
        lines.push(Line::default());
    }
    if hidden > 0 {
        lines.push(Line::toned(Tone::Faint, &format!("meta groups that are well and not shown: {hidden}")));
        lines.push(Line::default());
    }
    if let Some(left_out) = status.left_out.get("groups") {
        lines.push(Line::toned(Tone::Faint, &format!("and {left_out} more meta groups")));
        lines.push(Line::default());
    }
    events(status, columns, &mut lines);
    notes(status, columns, &mut lines);
    while lines.last().is_some_and(|line| line.spans.is_empty()) {
        lines.pop();
    }
    lines.into_iter().map(|line| line.cut(columns)).collect()
}

fn chosen<'a>(status: &'a SystemStatus, controls: &Controls) -> (Vec<&'a GroupStatus>, usize) {
    let wanted = |group: &&GroupStatus| !controls.only_problems || group.status != Status::Ok;
    let mut groups: Vec<&GroupStatus> = status.groups.iter().filter(wanted).collect();
    match controls.sort {
        Sort::Worst => {}
        Sort::Name => groups.sort_by(|a, b| a.group.cmp(&b.group)),
        Sort::Lag => {
            groups.sort_by_key(|group| Reverse(group.peers.iter().filter_map(|peer| peer.lag).max()));
        }
    }
    let hidden = status.groups.len() - groups.len();
    (groups, hidden)
}

fn incidents(status: &SystemStatus, detailed: usize, columns: usize, now_ns: i64, lines: &mut Vec<Line>) {
    if status.incidents.is_empty() {
        return;
    }
    let open = status.counts.incidents;
    let heading = if open == 1 { "1 OPEN INCIDENT".to_owned() } else { format!("{open} OPEN INCIDENTS") };
    lines.push(Line::toned(Tone::Strong, &heading));
    for (index, incident) in status.incidents.iter().enumerate() {
        incident_lines(incident, index < detailed, columns, now_ns, lines);
    }
    let more = open.saturating_sub(status.incidents.len() as u64);
    if more > 0 {
        lines.push(Line::toned(Tone::Faint, &format!("  and {more} more")));
    }
    lines.push(Line::default());
}

fn incident_lines(
    incident: &IncidentStatus,
    detailed: bool,
    columns: usize,
    now_ns: i64,
    lines: &mut Vec<Line>,
) {
    let about = &incident.incident;
    let (word, tone) = severity(about.state, about.severity);
    let mut head = Line::plain("  ");
    head.push(Some(tone), word);
    head.push(None, &format!(" {}", since(&about.since, now_ns)));
    head.push(Some(Tone::Strong), &format!("  {}", incident.summary));
    head.push(Some(Tone::Faint), &format!("  {} {}", about.check, about.group));
    lines.push(head);
    if !detailed {
        return;
    }
    for because in incident.cause.iter().flat_map(|cause| &cause.because) {
        labelled("because", because, columns, None, lines);
    }
    for said in &incident.diagnosis {
        labelled("says", &format!("{}: {} ({})", said.server, said.says, said.asked), columns, None, lines);
    }
    for advice in &incident.advice {
        labelled("next", &advice.action, columns, None, lines);
        if let Some(command) = &advice.command {
            labelled("", command, columns, Some(Tone::Strong), lines);
        }
    }
}

/// `    because  …`, in as many lines as it takes.
fn labelled(label: &str, text: &str, columns: usize, tone: Option<Tone>, lines: &mut Vec<Line>) {
    let indent = if columns >= WIDE { 13 } else { 4 };
    for (index, piece) in filled(&printable(text), columns.saturating_sub(indent)).into_iter().enumerate() {
        let label = if index == 0 && columns >= WIDE { label } else { "" };
        let mut line = Line::default();
        line.push(Some(Tone::Faint), &format!("{:indent$}", format!("    {label}")));
        line.push(tone, &piece);
        lines.push(line);
    }
}

fn severity(state: State, severity: Severity) -> (&'static str, Tone) {
    match (state, severity) {
        (State::Resolved, _) => ("OK", Tone::Good),
        (State::Firing, Severity::Critical) => ("CRITICAL", Tone::Bad),
        (State::Firing | State::Suspected, _) => ("WARNING", Tone::Warning),
    }
}

fn group_lines(group: &GroupStatus, controls: &Controls, columns: usize, lines: &mut Vec<Line>) {
    let mut head = Line::default();
    head.push(Some(Tone::from(group.status)), group.status.as_str());
    head.push(Some(Tone::Strong), &format!("  meta group {}", group.group));
    let leader = match (&group.leader, &group.leaderless) {
        (Some(leader), _) => format!(", led by {leader}"),
        (None, Some(why)) => format!(", {why}"),
        (None, None) => String::new(),
    };
    head.push(None, &leader);
    let clusters = match group.clusters.as_slice() {
        [] => String::new(),
        [one] => format!(", cluster {one}"),
        several => format!(", clusters {}", several.join(" ")),
    };
    head.push(Some(Tone::Faint), &clusters);
    lines.push(head);
    let mut numbers = Line::plain("  ");
    let told = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let of =
        format!("{} of {} online, {} must agree, ", told(group.online), told(group.size), told(group.quorum));
    numbers.push(None, &of);
    let (left, tone) = match group.failures_left {
        None => ("?".to_owned(), Some(Tone::Unknown)),
        Some(left) if left < 0 => ("quorum lost".to_owned(), Some(Tone::Bad)),
        Some(0) if group.size.is_some_and(|size| size > 2) => ("0".to_owned(), Some(Tone::Bad)),
        Some(left) => (left.to_string(), None),
    };
    numbers.push(None, "failures left: ");
    numbers.push(tone, &left);
    if group.rescue {
        numbers.push(Some(Tone::Warning), ", quorum lowered by an operator");
    }
    lines.push(numbers);
    let peers = peers(group, controls);
    lines.extend(table::peers(&peers, columns));
    let hidden = group.peers.len() - peers.len();
    let more = group.more_peers + hidden as u64;
    if more > 0 {
        let what = if hidden > 0 { "more, not shown" } else { "more" };
        lines.push(Line::toned(Tone::Faint, &format!("  {more} {what}")));
    }
}

fn peers<'a>(group: &'a GroupStatus, controls: &Controls) -> Vec<&'a PeerStatus> {
    let well = |verdict| matches!(verdict, Verdict::Clear | Verdict::Gone);
    let wanted = |peer: &&PeerStatus| !controls.only_problems || !well(peer.verdict);
    let mut peers: Vec<&PeerStatus> = group.peers.iter().filter(wanted).collect();
    match controls.sort {
        Sort::Worst => {}
        Sort::Name => peers.sort_by(|a, b| (a.name.is_none(), &a.name).cmp(&(b.name.is_none(), &b.name))),
        Sort::Lag => peers.sort_by_key(|peer| Reverse(peer.lag)),
    }
    peers
}

fn events(status: &SystemStatus, columns: usize, lines: &mut Vec<Line>) {
    if status.recent.is_empty() {
        return;
    }
    lines.push(Line::toned(Tone::Strong, "LAST EVENTS"));
    lines.extend(status.recent.iter().take(EVENTS_MAX).map(|event| event_line(event, columns).cut(columns)));
    lines.push(Line::default());
}

/// `  20:43:42 CRITICAL s3 is offline …`: the time of the day, UTC.
fn event_line(event: &RecentEvent, columns: usize) -> Line {
    let mut line = Line::default();
    let time = event.at.get(11..19).unwrap_or(&event.at);
    line.push(Some(Tone::Faint), &format!("  {time} "));
    let (word, tone) = match (event.reason, event.state) {
        // It ends because nothing shows it any more: that is no recovery.
        (Reason::Forgotten | Reason::Displaced, State::Resolved) => ("UNKNOWN", Tone::Unknown),
        (_, state) => severity(state, event.severity),
    };
    line.push(Some(tone), &format!("{word:<8} "));
    let room = columns.saturating_sub(line.width());
    line.push(None, whole_parts(&printable(&event.summary), room));
    line
}

fn notes(status: &SystemStatus, columns: usize, lines: &mut Vec<Line>) {
    let missing = &status.epoch.missing;
    if !missing.is_empty() {
        let text = format!("no answer: {}", missing.join(", "));
        lines.extend(filled(&printable(&text), columns).iter().map(|line| Line::toned(Tone::Unknown, line)));
    }
    for note in &status.notes {
        let text = format!("note: {note}");
        lines.extend(filled(&printable(&text), columns).iter().map(|line| Line::plain(line)));
    }
}

/// What the keys do.
pub(super) fn help(columns: usize) -> Vec<Line> {
    let keys = [
        ("q", "quit (Esc and Ctrl-C, too)"),
        ("p, space", "pause: the screen stays as it is; watching goes on"),
        ("s", "sort: the worst first, by name, by lag"),
        ("d", "details: the reasons and what to do for every incident"),
        ("o", "only problems: hide what is known to be well"),
        ("↑ ↓, k j", "scroll by a line"),
        ("PgUp PgDn, b f", "scroll by a page"),
        ("Home End, g G", "to the top, to the end"),
        ("?", "back"),
    ];
    let mut lines = vec![Line::toned(Tone::Strong, "KEYS")];
    for (key, does) in keys {
        let mut line = Line::default();
        line.push(Some(Tone::Strong), &format!("  {key:<15} "));
        line.push(None, does);
        lines.push(line.cut(columns));
    }
    lines.push(Line::default());
    let says = "An incident is counted from the first evidence that this look has seen. Who only looks publishes \
                nothing: metawatch run does.";
    lines.extend(filled(says, columns).iter().map(|line| Line::toned(Tone::Faint, line)));
    lines
}

/// The last line: the keys, and which part of the body is shown.
pub(super) fn foot(controls: &Controls, (from, to, of): (usize, usize, usize), columns: usize) -> Line {
    let place = if from == 0 && to == of { String::new() } else { format!(" {}-{to} of {of}", from + 1) };
    let pause = if controls.paused { "p go on" } else { "p pause" };
    let only = if controls.only_problems { "o show all" } else { "o problems only" };
    let long = format!("q quit  {pause}  s sort: {}  {only}  ↑↓ scroll  ? help", controls.sort.as_str());
    let short = format!("q quit  {pause}  ? help");
    let room = columns.saturating_sub(place.len());
    let fits = |text: &&String| crate::report::style::width(text) <= room;
    let keys = [&long, &short].into_iter().find(fits).cloned().unwrap_or_else(|| "q  ?".to_owned());
    let mut line = Line::default();
    let blank = room.saturating_sub(crate::report::style::width(&keys));
    line.push(Some(Tone::Faint), &format!("{keys}{:blank$}{place}", ""));
    line.cut(columns)
}
