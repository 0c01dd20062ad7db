//! The verdict as a Nagios plugin prints it: one line, performance data behind `|`, then details.

use std::collections::BTreeSet;

use crate::event::GROUPS_TOLD_MAX;
use crate::name::{printable, shortened};
use crate::report::{CheckReport, GroupNumbers};

/// Of so many findings the details are told.
pub(super) const FINDINGS_MAX: usize = 20;
/// The summary has at most so many bytes, and so has the performance data: as much as monitoring systems keep of a
/// line.
const LINE_PART_MAX: usize = 500;

/// The report.
pub fn page(report: &CheckReport) -> String {
    let mut text = format!(
        "{} metawatch {} | {}\n",
        report.status.as_str(),
        clean(&shortened(&report.summary, LINE_PART_MAX)),
        performance(report)
    );
    for finding in report.bad().take(FINDINGS_MAX) {
        text.push_str(&clean(&format!("{} {} {}", finding.check, finding.group, finding.summary)));
        text.push('\n');
        if let Some(cause) = &finding.cause {
            text.push_str(&clean(&format!("  because {}", cause.because.join(", "))));
            text.push('\n');
        }
        for said in &finding.diagnosis {
            text.push_str(&clean(&format!("  {} says: {} ({})", said.server, said.says, said.asked)));
            text.push('\n');
        }
        for advice in &finding.advice {
            let command = advice.command.as_ref().map_or_else(String::new, |command| format!(": {command}"));
            text.push_str(&clean(&format!("  next: {}{command}", advice.action)));
            text.push('\n');
        }
    }
    if let Some(more) = report.bad().count().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("and {more} more findings: see --format json\n"));
    }
    for (kind, remarks) in [("warning", &report.warnings), ("note", &report.notes)] {
        for remark in remarks {
            text.push_str(&clean(&format!("{kind}: {remark}")));
            text.push('\n');
        }
    }
    for reason in report.untold() {
        text.push_str(&clean(&format!("not known: {reason}")));
        text.push('\n');
    }
    text
}

/// `|` begins the performance data, and a line ends the first one.
fn clean(text: &str) -> String {
    printable(text).replace('|', "/")
}

fn performance(report: &CheckReport) -> String {
    let mut data = of_groups(&report.groups);
    if report.groups.len() > GROUPS_TOLD_MAX
        || data.iter().map(|one| one.len() + 1).sum::<usize>() > LINE_PART_MAX
    {
        data = sums(report);
    }
    if let Some(epoch) = &report.epoch {
        data.push(format!("servers={};;;0;{}", epoch.heard, epoch.expected));
        data.push(format!("elapsed={:.3}s", report.elapsed.as_secs_f64()));
    } else {
        data.push("servers=0".to_owned());
    }
    data.join(" ")
}

fn of_groups(groups: &[GroupNumbers]) -> Vec<String> {
    let several = groups.len() > 1;
    let mut data = Vec::new();
    for group in groups.iter().take(GROUPS_TOLD_MAX) {
        let prefix = if several { format!("{}.", label(&group.numbers.name)) } else { String::new() };
        data.extend(of_group(group).into_iter().map(|(name, value)| format!("{prefix}{name}={value}")));
    }
    data
}

/// Many groups as one: sums, and of the failures left and the lag the worst. A sum of which a part is not known is not
/// known.
fn sums(report: &CheckReport) -> Vec<String> {
    let groups = &report.groups;
    let known = |value: Option<String>| value.unwrap_or_else(|| "U".to_owned());
    let sum = |of: fn(&GroupNumbers) -> Option<u64>| {
        known(groups.iter().map(of).sum::<Option<u64>>().map(|sum| sum.to_string()))
    };
    let bad: BTreeSet<&str> = report.bad().map(|finding| finding.group.as_str()).collect();
    let left = groups.iter().map(|group| group.numbers.failures_left).collect::<Option<Vec<_>>>();
    let left = left.and_then(|left| left.into_iter().min()).map(|left| left.to_string());
    let peers = sum(|group| group.numbers.size);
    [
        ("groups", groups.len().to_string()),
        ("groups_bad", bad.len().to_string()),
        ("peers", peers.clone()),
        ("online", format!("{};;;0;{peers}", sum(|group| group.numbers.online))),
        ("failures_left", known(left)),
        ("offline", sum(|group| Some(group.offline))),
        ("suspected", sum(|group| Some(group.suspected))),
        ("silent", sum(|group| Some(group.silent))),
        ("not_current", sum(|group| Some(group.not_current))),
        ("lag", known(groups.iter().filter_map(|group| group.lag).max().map(|lag| lag.to_string()))),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .into()
}

fn of_group(group: &GroupNumbers) -> Vec<(&'static str, String)> {
    let numbers = &group.numbers;
    // `U` is how performance data says that a value is not known.
    let known = |value: Option<String>| value.unwrap_or_else(|| "U".to_owned());
    let size = numbers.size.map(|size| size.to_string());
    vec![
        ("peers", known(size.clone())),
        (
            "online",
            format!(
                "{};;;0;{}",
                known(numbers.online.map(|online| online.to_string())),
                size.unwrap_or_default()
            ),
        ),
        ("quorum", known(numbers.quorum.map(|quorum| quorum.to_string()))),
        ("failures_left", known(numbers.failures_left.map(|left| left.to_string()))),
        ("offline", group.offline.to_string()),
        ("suspected", group.suspected.to_string()),
        ("silent", group.silent.to_string()),
        ("not_current", group.not_current.to_string()),
        ("lag", known(group.lag.map(|lag| lag.to_string()))),
    ]
}

/// A label holds no blank, no quote and no equals sign.
fn label(name: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' }
    };
    name.chars().map(plain).collect()
}
