//! `bondwire balance`

use std::net::SocketAddr;

use bondwire_api::Fault;
use bondwire_daemon::BalanceOptions;
use bondwire_daemon::names::InterfaceName;

use crate::args::Global;
use crate::commands::up::say_ready;
use crate::link_arg::LinkArg;

/// Spreads this machine's sockets over its links: each TCP connection and each UDP flow goes over one link, with that
/// link's own address. No server, no tunnel, no encryption of its own.
///
/// Stays in the foreground, prints `ready` when sockets are spread, and undoes everything on Ctrl-C. Needs root, or
/// CAP_NET_ADMIN and CAP_BPF; with --proxy alone an ordinary user can run it.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct Args {
    /// Use this link, and no other that is not named too; may be repeated, and may end in :always, :secondary, :backup,
    /// :never or :automatic, its priority (see `bondwire links set --help`) [default: those of client.toml, all with
    /// an address and a gateway]
    #[arg(long = "link", value_name = "LINK[:PRIORITY]")]
    links: Vec<LinkArg>,
    /// Listen here for programs that speak SOCKS5 or use an HTTP proxy, both on the one port
    #[arg(long, value_name = "ADDR:PORT")]
    proxy: Option<SocketAddr>,
    /// Spread all new sockets of this machine; no program has to know [default: without --proxy and --lan]
    #[arg(long)]
    transparent: bool,
    /// Spread what comes in on this interface too, from machines that have this one as their router; may be repeated
    #[arg(long, value_name = "INTERFACE")]
    lan: Vec<InterfaceName>,
    /// Leave TCP sockets open whose link has died, in case it comes back; otherwise they are closed, so that their programs
    /// connect again
    #[arg(long)]
    keep_sockets: bool,
}

const NOTES: &str = "\
No configuration file is needed. [balance] in client.toml has rules (this address, port, program or name
over that link), how long a site keeps its link, what is probed, and who may use the proxy.

  bondwire balance                                             all links, every program
  bondwire balance --proxy 127.0.0.1:1080                      programs that use the proxy, without root
  curl --proxy socks5h://127.0.0.1:1080 https://example.org/
  bondwire sockets --watch                                     what goes where";

pub(crate) fn run(args: Args, global: &Global) -> Result<(), Fault> {
    let options = BalanceOptions {
        priorities: args.links.iter().filter_map(|link| Some((link.name.clone(), link.priority?))).collect(),
        links: args.links.into_iter().map(|link| link.name).collect(),
        transparent: args.transparent || (args.proxy.is_none() && args.lan.is_empty()),
        proxy: args.proxy,
        lan: args.lan,
        keep_sockets: args.keep_sockets,
    };
    let json = global.json;
    bondwire_daemon::balance(&global.folders(), options, move || say_ready(json))
}
