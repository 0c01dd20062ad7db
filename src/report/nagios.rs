//! The verdict as a Nagios plugin prints it: one line, performance data behind `|`, then details.

use crate::name::printable;
use crate::report::{CheckReport, GroupNumbers};

/// The report.
pub fn page(report: &CheckReport) -> String {
    let mut text = format!(
        "{} metawatch {} | {}\n",
        report.status.as_str(),
        clean(&report.summary),
        performance(report)
    );
    for finding in report.bad() {
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
    let several = report.groups.len() > 1;
    let mut data: Vec<String> = Vec::new();
    for group in &report.groups {
        let prefix = if several { format!("{}.", label(&group.numbers.name)) } else { String::new() };
        data.extend(of_group(group).into_iter().map(|(name, value)| format!("{prefix}{name}={value}")));
    }
    if let Some(epoch) = &report.epoch {
        data.push(format!("servers={};;;0;{}", epoch.heard, epoch.expected));
        data.push(format!("elapsed={:.3}s", report.elapsed.as_secs_f64()));
    } else {
        data.push("servers=0".to_owned());
    }
    data.join(" ")
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
