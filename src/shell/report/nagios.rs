//! The verdict as a Nagios plugin prints it: one line, performance data behind `|`, then details.

use crate::name::printable;
use crate::shell::verdict::{GroupNumbers, Judgement};

/// The report.
pub fn report(judgement: &Judgement) -> String {
    let mut text = format!(
        "{} metawatch {} | {}\n",
        judgement.status.as_str(),
        clean(&judgement.summary),
        performance(judgement)
    );
    for judged in judgement.bad() {
        text.push_str(&clean(&format!("{} {} {}", judged.check, judged.group, judged.summary)));
        text.push('\n');
        if let Some(cause) = &judged.cause {
            text.push_str(&clean(&format!("  because {}", cause.because.join(", "))));
            text.push('\n');
        }
        for advice in &judged.advice {
            let command = advice.command.as_ref().map_or_else(String::new, |command| format!(": {command}"));
            text.push_str(&clean(&format!("  next: {}{command}", advice.action)));
            text.push('\n');
        }
    }
    for reason in judgement.untold() {
        text.push_str(&clean(&format!("not known: {reason}")));
        text.push('\n');
    }
    text
}

/// `|` begins the performance data, and a line ends the first one.
fn clean(text: &str) -> String {
    printable(text).replace('|', "/")
}

fn performance(judgement: &Judgement) -> String {
    let several = judgement.groups.len() > 1;
    let mut data: Vec<String> = Vec::new();
    for group in &judgement.groups {
        let prefix = if several { format!("{}.", label(&group.numbers.name)) } else { String::new() };
        data.extend(of_group(group).into_iter().map(|(name, value)| format!("{prefix}{name}={value}")));
    }
    if let Some(epoch) = &judgement.epoch {
        data.push(format!("servers={};;;0;{}", epoch.heard, epoch.expected));
        data.push(format!("elapsed={:.3}s", judgement.elapsed.as_secs_f64()));
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
    ]
}

/// A label holds no blank, no quote and no equals sign.
fn label(name: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' }
    };
    name.chars().map(plain).collect()
}
