//! `bondwire up`

use std::time::Duration;

use bondwire_api::{Fault, Mode};
use bondwire_daemon::UpOptions;

use crate::args::Global;
use crate::link_arg::LinkArg;
use crate::output;

/// Connects to the server, and sends this machine's traffic through the bond.
///
/// Stays in the foreground, prints `ready` when traffic can flow, and undoes everything on Ctrl-C. Needs root, or
/// CAP_NET_ADMIN.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How packets are spread: speed, streaming or redundant [default: that of client.toml, streaming]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Use this link, and no other that is not named too; may be repeated, and may end in :always, :secondary, :backup,
    /// :never or :automatic, its priority (see `bondwire links set --help`) [default: those of client.toml, all with
    /// an address and a gateway]
    #[arg(long = "link", value_name = "LINK[:PRIORITY]")]
    links: Vec<LinkArg>,
    /// Send only what is for the server's network through the bond
    #[arg(long)]
    no_default_route: bool,
    /// Give up if there is no connection within this many seconds [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    wait: Option<u32>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<(), Fault> {
    let options = UpOptions {
        mode: args.mode,
        priorities: args.links.iter().filter_map(|link| Some((link.name.clone(), link.priority?))).collect(),
        links: args.links.into_iter().map(|link| link.name).collect(),
        default_route: if args.no_default_route { Some(false) } else { None },
        wait: args.wait.map(|seconds| Duration::from_secs(u64::from(seconds))),
    };
    let json = global.json;
    bondwire_daemon::up(&global.folders(), options, move || say_ready(json))
}

/// Tells whoever waits for it that traffic can flow. It flows even if that cannot be written.
pub(crate) fn say_ready(json: bool) {
    if let Err(fault) = output::say(if json { "{\"state\":\"ready\"}\n" } else { "ready\n" }) {
        output::note(&format!("warning: {fault}"));
    }
}
