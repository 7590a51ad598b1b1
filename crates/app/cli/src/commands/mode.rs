//! `bondwire mode M`

use bondwire_api::{ControlClient, Fault, Mode};

use crate::args::Global;
use crate::output;

/// Changes how packets are spread over the links, until bondwire ends. No connection is interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// speed, streaming or redundant
    mode: Mode,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let answer = ControlClient::new(&global.socket).set_mode(args.mode)?;
    output::answer(global, &answer, |answer| {
        let remark = answer.remark.as_ref().map_or_else(String::new, |remark| format!("note: {remark}\n"));
        format!("mode {}\n{remark}", answer.mode)
    })
}
