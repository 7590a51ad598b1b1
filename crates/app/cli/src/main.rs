//! The `bondwire` command.
//!
//! One file per command below `commands`; each turns its arguments into one call of the daemon crate (offline work, or
//! the daemon itself) or of the control API (everything that a running daemon is asked). What all share stands here:
//! arguments, output, errors. Errors have one form (what, why, what to do), on stderr, as text or as JSON under `--json`;
//! exit codes are 0 done, 1 failed, 2 bad usage, 3 no permission, 4 not reachable.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod link_arg;
mod output;
mod table;
mod usage;

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
    finish(run(cli), json)
}

/// The exit code, after a word about what went wrong.
fn finish(result: Result<(), Fault>, json: bool) -> ExitCode {
    match result {
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
        Command::Balance(args) => commands::balance::run(args, global),
        Command::Down(args) => commands::down::run(&args, global),
        Command::Status(args) => commands::status::run(&args, global),
        Command::Links(args) => commands::links::run(&args, global),
        Command::Sockets(args) => commands::sockets::run(&args, global),
        Command::Streams(args) => commands::streams::run(&args, global),
        Command::Mode(args) => commands::mode::run(&args, global),
    }
}

/// Help and version are no errors; the rest is, in the form of all errors.
fn on_usage_error(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            finish(output::say(&error.render().to_string()).map(drop), json)
        }
        // Nothing but a command was missing: the help says what there is.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !json => {
            output::note(error.render().to_string().trim_end());
            ExitCode::from(2)
        }
        _ => finish(Err(usage::fault(error, std::env::args_os().skip(1))), json),
    }
}
