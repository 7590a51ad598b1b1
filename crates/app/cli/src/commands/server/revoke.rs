//! `bondwire server revoke NAME`

use bondwire_api::Fault;
use bondwire_daemon::identity;
use bondwire_daemon::names::ClientName;
use serde::Serialize;

use crate::args::Global;
use crate::output;

/// Ends a client's access, and its session within a second. To let it in again, invite it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The client's name
    name: ClientName,
}

#[derive(Debug, Serialize)]
struct Report {
    revoked: String,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    identity::revoke(&global.folders(), &args.name)?;
    let report = Report { revoked: args.name.to_string() };
    output::answer(global, &report, |report| format!("revoked {}\n", report.revoked))
}
