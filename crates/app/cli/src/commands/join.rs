//! `bondwire join INVITE`

use bondwire_api::Fault;
use bondwire_daemon::identity;

use crate::args::Global;
use crate::output;

/// Makes this machine a client. Works offline and changes nothing but the configuration folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The line that `bondwire server invite` printed
    invite: String,
    /// Replace the server that this machine has joined before
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let report = identity::join(&global.folders(), &args.invite, args.force)?;
    output::answer(global, &report, |report| {
        let mut text = format!("joined the server at {}\n", report.endpoints.join(", "));
        if report.expired {
            text.push_str(
                "note: by this machine's clock the invite has expired; if the server says so too, ask for a new one\n",
            );
        }
        text.push_str("now connect: bondwire up\n");
        text
    })
}
