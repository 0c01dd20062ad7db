//! The verdict for people.

use super::style::{Style, Tone};
use crate::name::printable;
use crate::shell::verdict::Judgement;

/// The report.
pub fn report(judgement: &Judgement, style: Style) -> String {
    let status = style.paint(judgement.status, judgement.status.as_str());
    let mut text = format!("{status}  {}\n", printable(&judgement.summary));
    for judged in judgement.bad() {
        let head = format!("\n{}  {}\n", judged.check, printable(&judged.summary));
        text.push_str(&style.paint(Tone::Strong, head.trim_end_matches('\n')));
        text.push('\n');
        if let Some(cause) = &judged.cause {
            for because in &cause.because {
                text.push_str(&format!("  because  {}\n", printable(because)));
            }
        }
        for advice in &judged.advice {
            text.push_str(&format!("  next     {}\n", printable(&advice.action)));
            if let Some(command) = &advice.command {
                text.push_str(&format!("             {}\n", style.paint(Tone::Strong, &printable(command))));
            }
        }
    }
    if judgement.untold().next().is_some() {
        text.push('\n');
    }
    for reason in judgement.untold() {
        text.push_str(&format!("{}  {}\n", style.paint(Tone::Unknown, "not known"), printable(reason)));
    }
    if let Some(epoch) = &judgement.epoch {
        let epochs =
            if judgement.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", judgement.epochs) };
        let line = format!("{} of {} servers answered, {epochs}", epoch.heard, epoch.expected);
        text.push_str(&format!("\n{}\n", style.paint(Tone::Faint, &line)));
    }
    text
}
