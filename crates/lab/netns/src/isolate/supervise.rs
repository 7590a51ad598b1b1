use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{INSIDE, IsolationError, STAGE_VARIABLE, SUPERVISED_CHILD};

/// Runs this program with `arguments` as the first process of a PID namespace, and returns its exit code.
pub(super) fn supervise(arguments: Vec<OsString>) -> Result<i32, IsolationError> {
    run(arguments).map_err(IsolationError::Supervise)
}

fn run(arguments: Vec<OsString>) -> io::Result<i32> {
    if std::env::var(STAGE_VARIABLE).as_deref() == Ok(SUPERVISED_CHILD) {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    // Before the child exists, so that its end is not missed.
    let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM])?;
    // The child mounts its own view of processes over this one.
    let processes = File::open("/proc")?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(io::Error::from)?;
    let name = std::env::args_os().next().unwrap_or_default();
    let mut child =
        Command::new("/proc/self/exe").arg0(name).args(arguments).env(STAGE_VARIABLE, INSIDE).spawn()?;
    let mut killed_for = None;
    for signal in signals.forever() {
        if signal == SIGCHLD {
            if let Some(status) = child.try_wait()? {
                return Ok(exit_code(status, killed_for));
            }
        } else if heeds(&processes, &child, signal) {
            send(&child, signal)?;
        } else {
            // The first process of a PID namespace does not die of what it does not handle, as others would.
            killed_for = Some(signal);
            child.kill()?;
        }
    }
    // The iterator ends only when it is closed, which nobody does; waiting is right all the same.
    Ok(exit_code(child.wait()?, killed_for))
}

/// Whether the child handles, blocks or ignores a signal instead of leaving it to the kernel.
fn heeds(processes: &File, child: &Child, signal: i32) -> bool {
    let mut status = String::new();
    let path = format!("{}/status", child.id());
    let opened = openat(processes, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    if !opened.is_ok_and(|file| File::from(file).read_to_string(&mut status).is_ok()) {
        // Not to be seen: it is given the benefit of the doubt.
        return true;
    }
    let masks = ["SigCgt:", "SigBlk:", "SigIgn:"].into_iter().filter_map(|name| {
        let hex = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(hex.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) >> (signal - 1) & 1 == 1
}

fn send(child: &Child, signal: i32) -> io::Result<()> {
    let signal = match signal {
        SIGHUP => Signal::HUP,
        SIGINT => Signal::INT,
        _ => Signal::TERM,
    };
    let pid =
        Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("child without a pid"))?;
    // Not yet waited for, so the number is still the child's.
    Ok(kill_process(pid, signal)?)
}

/// As a shell has it: 128 + n for a death of signal n.
fn exit_code(status: ExitStatus, killed_for: Option<i32>) -> i32 {
    status.code().unwrap_or_else(|| 128 + killed_for.or(status.signal()).unwrap_or(0))
}
