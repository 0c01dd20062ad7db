//! The manual page and the completions: as text, and where man and the shells look for them.

use std::path::PathBuf;

use clap_complete::Shell;

use crate::shell::cli;
use crate::shell::config::Env;
use crate::shell::failure::{Failure, FailureKind};
use crate::shell::report::{self, Out};

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "metawatch", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The page of `metawatch` itself, with a section for each command.
pub(super) fn manual() -> Result<String, Failure> {
    let command = cli::command().mut_args(|arg| arg.hide_short_help(false));
    let mut page = Vec::new();
    let failed = |error: std::io::Error| {
        let message = format!("cannot write the manual page: {error}");
        Failure::new(FailureKind::Io, message, "report this as a defect")
    };
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    for sub in command.get_subcommands() {
        let name = format!("metawatch {}", sub.get_name());
        page.extend(format!(".SH \"{}\"\n", name.to_uppercase()).into_bytes());
        let mut section = Vec::new();
        let sub = clap_mangen::Man::new(sub.clone().bin_name(name).disable_help_flag(true));
        sub.render_synopsis_section(&mut section).map_err(failed)?;
        sub.render_description_section(&mut section).map_err(failed)?;
        sub.render_options_section(&mut section).map_err(failed)?;
        sub.render_extra_section(&mut section).map_err(failed)?;
        page.extend(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").into_bytes());
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Where each of them is looked for, under `share` of a prefix: by man-db 2.11, bash-completion 2.11, zsh 5.9 and
/// fish 3.6.
const PLACES: [(&str, Option<Shell>); 4] = [
    ("man/man1/metawatch.1", None),
    ("bash-completion/completions/metawatch", Some(Shell::Bash)),
    ("zsh/site-functions/_metawatch", Some(Shell::Zsh)),
    ("fish/vendor_completions.d/metawatch.fish", Some(Shell::Fish)),
];

/// Writes all of them, and says where.
pub(super) fn install(prefix: Option<PathBuf>, around: &Env, out: &mut Out) -> Result<(), Failure> {
    let share = match prefix {
        Some(prefix) => prefix.join("share"),
        None => usual_share(around)?,
    };
    for (place, shell) in PLACES {
        let path = share.join(place);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                let message = format!("cannot make the folder {}: {error}", folder.display());
                Failure::new(FailureKind::Io, message, "name another one with --prefix, or run it with sudo")
            })?;
        }
        let text = shell.map_or_else(manual, |shell| Ok(completions(shell)))?;
        report::write_file(&path, &text)?;
        out.write(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn usual_share(around: &Env) -> Result<PathBuf, Failure> {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/usr/local/share"));
    }
    let own = around.variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    own.or_else(|| Some(around.home()?.join(".local/share"))).ok_or_else(|| {
        let message = "this user has no home: HOME is not set";
        Failure::new(FailureKind::Config, message, "say where to install with --prefix FOLDER")
    })
}
