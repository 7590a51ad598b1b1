//! `bondwire server run`

use bondwire_api::Fault;

use crate::args::Global;
use crate::commands::up::say_ready;

/// Runs the server. Stays in the foreground, prints `ready` when clients can connect, and undoes everything on Ctrl-C.
/// Needs root, or CAP_NET_ADMIN.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<(), Fault> {
    let json = global.json;
    bondwire_daemon::server_run(&global.folders(), move || say_ready(json))
}
