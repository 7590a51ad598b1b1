//! `bondwire server init`

use bondwire_api::Fault;
use bondwire_daemon::identity::{self, InitOptions};
use bondwire_daemon::names::{Endpoint, Network4, Network6};

use crate::args::Global;
use crate::output;

/// Makes a server: its key and its configuration. Overwrites nothing, and needs no network.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where clients find this server: a name or an address, and a UDP port
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Endpoint,
    /// The addresses inside the tunnel, such as 10.99.0.0/24; the server gets the first
    #[arg(long, value_name = "NETWORK")]
    network: Network4,
    /// The IPv6 addresses inside the tunnel, such as fd99:1:2:3::/64
    #[arg(long, value_name = "PREFIX")]
    network6: Option<Network6>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<(), Fault> {
    let options = InitOptions { endpoint: args.endpoint, network: args.network, network6: args.network6 };
    let report = identity::server_init(&global.folders(), &options)?;
    output::answer(global, &report, |report| {
        format!(
            "made a server; its configuration is {}\nnow let clients in: bondwire server invite NAME\nand run it:         bondwire server run\n",
            report.config
        )
    })
}
