//! What can be typed.

use std::path::PathBuf;

use bondwire_daemon::Folders;
use clap::{Parser, Subcommand};

use crate::commands;

/// Combines all internet connections of this machine into one.
#[derive(Debug, Parser)]
#[command(name = "bondwire", bin_name = "bondwire", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The heading of what every command accepts.
const GLOBAL: &str = "Global options";

const EXAMPLES: &str = "\
To try it without a server or real links:
  bondwire demo

To set it up:
  server$ bondwire server init --endpoint vpn.example.org:4433 --network 10.99.0.0/24
  server$ bondwire server invite laptop
  server$ bondwire server run
  laptop$ bondwire join bw1-...
  laptop$ bondwire up

Without a server, each socket on one link:
  laptop$ bondwire balance

Exit codes: 0 done, 1 failed, 2 bad usage, 3 no permission, 4 not reachable.";

/// What every command accepts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Configuration, identity and clients
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", default_value = "/etc/bondwire")]
    pub(crate) config_dir: PathBuf,
    /// What a running bondwire has to remember
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", default_value = "/var/lib/bondwire")]
    pub(crate) state_dir: PathBuf,
    /// The control socket of a running bondwire
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH", default_value = "/run/bondwire/control.sock")]
    pub(crate) socket: PathBuf,
    /// Print one JSON object on stdout, and errors as JSON on stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Log more: paths, addresses, passing failures; twice for everything
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Global {
    /// The three places.
    pub(crate) fn folders(&self) -> Folders {
        Folders {
            config: self.config_dir.clone(),
            state: self.state_dir.clone(),
            socket: self.socket.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: a private internet with three links, no server and no real links needed
    Demo(commands::demo::Args),
    /// The server's side: make one, invite clients, run it
    Server(commands::server::Args),
    /// Make this machine a client, once, by an invite
    Join(commands::join::Args),
    /// Connect, and send this machine's traffic through the bond
    Up(commands::up::Args),
    /// Spread this machine's sockets over its links, without a server
    Balance(commands::balance::Args),
    /// Stop a running bondwire, and undo what a killed one left
    Down(commands::down::Args),
    /// Show how a running bondwire stands
    Status(commands::status::Args),
    /// Show the links; set when each is used, and how much it may carry
    Links(commands::links::Args),
    /// List the sockets: process, remote, stage, link, bytes, rate
    Sockets(commands::sockets::Args),
    /// List the real-time flows: calls, games, live video
    Streams(commands::streams::Args),
    /// Change how packets are spread over the links
    Mode(commands::mode::Args),
}
