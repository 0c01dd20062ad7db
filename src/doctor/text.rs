//! An item as lines on a terminal of 80 columns.

use super::{DoctorReport, Grant, Item, Operation, Outcome};
use crate::report::style::{Style, Tone, wrapped};

/// Where the words of an item begin, and how many columns they have.
const OUTCOME: usize = 9;
const TOPIC: usize = 12;
const WORDS: usize = 80 - OUTCOME - TOPIC;

/// How the users of a system are given their rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// In the configuration of the servers.
    Configured,
    /// In JWTs, with nsc.
    Jwt,
}

/// The lines of one item.
pub fn lines(item: &Item, users: Users, style: Style) -> String {
    let outcome = style.paint(tone(item.outcome), item.outcome.as_str());
    let pad = " ".repeat(OUTCOME - item.outcome.as_str().len());
    let mut text = format!("{outcome}{pad}{}", block(item.topic, &item.text));
    let indent = " ".repeat(OUTCOME);
    if let Some(grant) = &item.add {
        text.push_str(&format!("{indent}{}", block("add", &addition(grant, users))));
    }
    if let Some(next) = &item.next {
        text.push_str(&format!("{indent}{}", block("next", next)));
    }
    text
}

/// What stands below the last item.
pub fn end(report: &DoctorReport, style: Style) -> String {
    let tone = if report.code == 0 { Tone::Good } else { Tone::Strong };
    format!("\n{}\n", style.paint(tone, &report.summary))
}

/// The permission as somebody writes it down: a line of a server's configuration, or a command of nsc.
pub fn addition(grant: &Grant, users: Users) -> String {
    let Grant { operation, subject, .. } = grant;
    match users {
        Users::Configured => format!("{}: {subject:?}", operation.as_str()),
        Users::Jwt => {
            let flag = match operation {
                Operation::Publish => "--allow-pub",
                Operation::Subscribe => "--allow-sub",
            };
            format!("nsc edit user NAME {flag} '{subject}'")
        }
    }
}

/// A word, and a text that goes on below itself.
fn block(word: &str, text: &str) -> String {
    let mut block = String::new();
    for (number, line) in wrapped(text, WORDS).iter().enumerate() {
        let before = if number == 0 { format!("{word:TOPIC$}") } else { " ".repeat(OUTCOME + TOPIC) };
        block.push_str(&format!("{before}{line}\n"));
    }
    block
}

fn tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Ok => Tone::Good,
        Outcome::Note => Tone::Faint,
        Outcome::Unknown => Tone::Unknown,
        Outcome::Warning => Tone::Warning,
        Outcome::Failed => Tone::Bad,
    }
}
