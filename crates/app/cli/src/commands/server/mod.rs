//! `bondwire server ...`

mod clients;
mod init;
mod invite;
mod revoke;
mod run;

use bondwire_api::Fault;
use clap::Subcommand;

use crate::args::Global;

/// The server's side.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a server: its key and its configuration
    Init(init::Args),
    /// Let a client in: prints an invite, one line
    Invite(invite::Args),
    /// Run the server
    Run(run::Args),
    /// List the clients
    Clients(clients::Args),
    /// End a client's access
    Revoke(revoke::Args),
}

pub(crate) fn run(args: Args, global: &Global) -> Result<(), Fault> {
    match args.command {
        Command::Init(args) => init::run(args, global),
        Command::Invite(args) => invite::run(&args, global),
        Command::Run(args) => run::run(&args, global),
        Command::Clients(args) => clients::run(&args, global),
        Command::Revoke(args) => revoke::run(&args, global),
    }
}
