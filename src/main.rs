//! The `metawatch` command: parse, trace, run, exit code; nothing else.

use std::process::ExitCode;

use metawatch::shell::config::Env;
use metawatch::shell::{cli, commands, report};

fn main() -> ExitCode {
    let around = Env::of_process();
    let code = match cli::parse(std::env::args_os()) {
        Ok(cli) => {
            report::trace(&cli.output, &around);
            commands::run(cli, &around)
        }
        Err(refused) => {
            report::refused(&refused.error, &around);
            refused.code
        }
    };
    ExitCode::from(code)
}
