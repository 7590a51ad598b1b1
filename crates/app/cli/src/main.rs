//! The `bondwire` command.
//!
//! One file per command below `commands`; each turns its arguments into one call of the daemon crate (offline work, or
//! the daemon itself) or of the control API (everything that a running daemon is asked). What all share stands here:
//! arguments, output, errors. Errors have one form (what, why, what to do), on stderr, as text or as JSON under `--json`;
//! exit codes are 0 done, 1 failed, 2 bad usage, 3 no permission, 4 not reachable.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod output;
mod table;

use std::process::ExitCode;

use bondwire_api::Fault;
use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return on_usage_error(&error),
    };
    output::start_log(cli.global.verbose);
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            output::print_fault(&fault, json);
            ExitCode::from(fault.kind.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Fault> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => commands::demo::run(args, global.json),
        Command::Server(args) => commands::server::run(args, global),
        Command::Join(args) => commands::join::run(&args, global),
        Command::Up(args) => commands::up::run(args, global),
        Command::Down(args) => commands::down::run(&args, global),
        Command::Status(args) => commands::status::run(&args, global),
        Command::Mode(args) => commands::mode::run(&args, global),
    }
}

/// Help and version are no errors; the rest is, in the form that was asked for.
fn on_usage_error(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::say(&error.render().to_string());
            ExitCode::SUCCESS
        }
        _ if json => {
            let text = error.render().to_string();
            let mut parts = text.trim().split("\n\n");
            let why = parts.next().unwrap_or_default().trim_start_matches("error: ");
            let rest = parts.collect::<Vec<_>>().join("\n");
            output::print_fault(&Fault::usage("the command was not understood", why, rest.trim()), true);
            ExitCode::from(2)
        }
        _ => {
            // Nothing can be done about a stderr that is closed.
            let _ = error.print();
            ExitCode::from(2)
        }
    }
}
