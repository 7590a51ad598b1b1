//! `bondwire down`

use std::time::{Duration, Instant};

use bondwire_api::{ControlClient, Fault, FaultKind};
use serde::Serialize;

use crate::args::Global;
use crate::output;

/// How long a daemon may take to end; it promises two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Stops a running bondwire, and undoes what a killed one left behind: routes, rules, firewall and devices are as they
/// were before. It is no error if there is nothing to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    /// The process that was stopped.
    stopped: Option<u32>,
    /// Changes of a killed one that were undone.
    undone: usize,
}

pub(crate) fn run(_args: &Args, global: &Global) -> Result<(), Fault> {
    let folders = global.folders();
    let stopped = stop(&ControlClient::new(&folders.socket))?;
    let undone = bondwire_daemon::recover(&folders)?;
    output::answer(global, &Report { stopped, undone }, |report| match (report.stopped, report.undone) {
        (None, 0) => "bondwire was not running, and left nothing to undo\n".to_owned(),
        (Some(pid), 0) => format!("stopped bondwire (process {pid})\n"),
        (None, count) => format!("undid {count} changes that a killed bondwire had left\n"),
        (Some(pid), count) => format!("stopped bondwire (process {pid}), and undid {count} changes\n"),
    })
}

fn stop(client: &ControlClient) -> Result<Option<u32>, Fault> {
    let Some(pid) = client.daemon() else { return Ok(None) };
    match client.down() {
        // It may have ended by itself in between.
        Err(fault) if fault.kind == FaultKind::Unreachable && client.daemon().is_none() => {
            return Ok(Some(pid));
        }
        Err(fault) => return Err(fault),
        Ok(()) => {}
    }
    let since = Instant::now();
    while client.daemon().is_some() {
        if since.elapsed() > PATIENCE {
            return Err(Fault::failed(
                "bondwire does not end",
                format!("process {pid} has not ended {} s after it was asked to", PATIENCE.as_secs()),
                format!("end it with `kill -9 {pid}`, then undo what it left with `bondwire down`"),
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(Some(pid))
}
