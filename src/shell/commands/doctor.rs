//! `metawatch doctor`: what was found, as it is found.

use super::{Place, live, run_options};
use crate::doctor::text::{self, Users};
use crate::doctor::{Connection, DoctorReport, Item};
use crate::report::json;
use crate::shell::cli::{DoctorFlags, DoctorFormat};
use crate::shell::config::{Auth, ConnectConfig};
use crate::shell::failure::Failure;
use crate::shell::report::Out;

/// Tells each finding when it is there; as JSON, all of them at the end.
pub(super) fn examine(flags: &DoctorFlags, place: &Place<'_>, out: &mut Out) -> Result<u8, Failure> {
    let (config, options) = run_options(&flags.run, place)?;
    let (style, format) = (out.style(), flags.format);
    let mut items = Vec::new();
    let mut broken = None;
    let mut tell = |item: Item| {
        if format == DoctorFormat::Text && broken.is_none() {
            let own = options.alerts.as_ref().filter(|_| item.is_about(Connection::Alerts));
            let lines = text::lines(&item, users(own.unwrap_or(&config)), style);
            broken = out.write(&lines).and_then(|()| out.flush()).err();
        }
        items.push(item);
    };
    live::examine(&config, &options, &mut tell)?;
    if let Some(failure) = broken {
        return Err(failure);
    }
    let report = DoctorReport::new(items);
    let end = match format {
        DoctorFormat::Text => text::end(&report, style),
        DoctorFormat::Json => json::document(&report, out.is_terminal())?,
    };
    out.write(&end)?;
    Ok(report.code)
}

/// How whoever keeps this user is told what it lacks.
fn users(config: &ConnectConfig) -> Users {
    match config.auth {
        Auth::Creds(_) | Auth::Jwt { .. } => Users::Jwt,
        Auth::Nothing | Auth::Token(_) | Auth::Password { .. } | Auth::Nkey(_) => Users::Configured,
    }
}
