//! The verdict for people.

use super::nagios::FINDINGS_MAX;
use super::style::{Style, Tone};
use crate::name::printable;
use crate::report::CheckReport;

/// The report.
pub fn page(report: &CheckReport, style: Style) -> String {
    let status = style.paint(report.status, report.status.as_str());
    let mut text = format!("{status}  {}\n", printable(&report.summary));
    for finding in report.bad().take(FINDINGS_MAX) {
        let head = format!("\n{}  {}\n", finding.check, printable(&finding.summary));
        text.push_str(&style.paint(Tone::Strong, head.trim_end_matches('\n')));
        text.push('\n');
        if let Some(cause) = &finding.cause {
            for because in &cause.because {
                text.push_str(&format!("  because  {}\n", printable(because)));
            }
        }
        for said in &finding.diagnosis {
            let says = format!("{}: {} ({})", said.server, said.says, said.asked);
            text.push_str(&format!("  says     {}\n", printable(&says)));
        }
        for advice in &finding.advice {
            text.push_str(&format!("  next     {}\n", printable(&advice.action)));
            if let Some(command) = &advice.command {
                text.push_str(&format!("             {}\n", style.paint(Tone::Strong, &printable(command))));
            }
        }
    }
    if let Some(more) = report.bad().count().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(
            "\nand {more} more findings: see --format json, or one group with --group NAME\n"
        ));
    }
    let remarks = report.warnings.len() + report.notes.len();
    if remarks > 0 || report.untold().next().is_some() {
        text.push('\n');
    }
    for warning in &report.warnings {
        text.push_str(&format!("{}  {}\n", style.paint(Tone::Bad, "warning"), printable(warning)));
    }
    for note in &report.notes {
        text.push_str(&format!("{}  {}\n", style.paint(Tone::Strong, "note"), printable(note)));
    }
    for reason in report.untold() {
        text.push_str(&format!("{}  {}\n", style.paint(Tone::Unknown, "not known"), printable(reason)));
    }
    if let Some(epoch) = &report.epoch {
        let epochs =
            if report.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", report.epochs) };
        let line = format!("{} of {} servers answered, {epochs}", epoch.heard, epoch.expected);
        text.push_str(&format!("\n{}\n", style.paint(Tone::Faint, &line)));
    }
    text
}
