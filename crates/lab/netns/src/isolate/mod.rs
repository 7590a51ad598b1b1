//! The wrapper around a lab: a process tree in namespaces of its own, which vanishes as a whole.
//!
//! A program is started three times over, told apart by an environment variable:
//!
//! 1. **outside**: finds out whether namespaces are to be had (an ordinary user needs a user namespace for them), and
//!    runs itself again under `unshare` of util-linux, in a new network and mount namespace;
//! 2. **supervisor**: makes a PID namespace, runs the program a third time as its first process, hands signals on to it
//!    and takes over its exit code;
//! 3. **inside**: the program proper. When it ends, or is killed, or its supervisor is, the kernel ends all that it
//!    started; with the last process the namespaces go, and all interfaces with them.
//!
//! `unshare --fork` would do the second step as well, but it does not hand on SIGTERM.

mod diagnose;
mod supervise;
mod testing;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::mount::{MountFlags, mount};
use rustix::process::{Signal, set_parent_process_death_signal};

pub use diagnose::IsolationError;
pub use testing::isolated_test;

/// Names the stage that a process is in; not handed on to the lab's processes.
pub(crate) const STAGE_VARIABLE: &str = "BONDWIRE_LAB_STAGE";
const SUPERVISOR: &str = "supervisor";
const SUPERVISED_CHILD: &str = "supervised-child";
const INSIDE: &str = "inside";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Outside,
    Supervisor,
    Inside,
}

impl Stage {
    fn current() -> Self {
        match env::var(STAGE_VARIABLE).as_deref() {
            Ok(SUPERVISOR | SUPERVISED_CHILD) => Self::Supervisor,
            Ok(INSIDE) => Self::Inside,
            _ => Self::Outside,
        }
    }
}

/// For the start of a program's `main`: runs the program again, with the same arguments, inside the lab's wrapper, and
/// returns only there. Outside it never returns, unless it fails: the process becomes the wrapper, ends with the exit
/// code of the program inside (128 + n if that died of signal n), and hands SIGINT, SIGTERM and SIGHUP on to it.
///
/// Returns at once if the process is inside already.
///
/// # Errors
/// Says why namespaces are refused here, and what to do about it.
pub fn enter() -> Result<(), IsolationError> {
    match Stage::current() {
        Stage::Outside => {
            let mut command = wrapper()?;
            command.args(env::args_os().skip(1)).env(STAGE_VARIABLE, SUPERVISOR);
            Err(IsolationError::Unshare(command.exec()))
        }
        Stage::Supervisor => {
            let code = supervise::supervise(env::args_os().skip(1).collect())?;
            std::process::exit(code)
        }
        Stage::Inside => settle(),
    }
}

/// `unshare … this-program`, once it is known to work.
fn wrapper() -> Result<Command, IsolationError> {
    let flags = diagnose::usable_flags()?;
    let mut command = Command::new("unshare");
    command.args(flags).arg("--").arg(this_program()?);
    Ok(command)
}

fn this_program() -> Result<PathBuf, IsolationError> {
    env::current_exe().map_err(IsolationError::OwnPath)
}

/// The first steps inside: die with the supervisor, and see one's own processes in `/proc`.
fn settle() -> Result<(), IsolationError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| IsolationError::Supervise(error.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", flags, None) {
        // Containers hide parts of /proc, which forbids mounting a whole one; the lab can do without.
        tracing::debug!(%error, "/proc shows the processes of another namespace");
    }
    Ok(())
}

/// The arguments of this process without the program's name.
fn arguments() -> Vec<OsString> {
    env::args_os().skip(1).collect()
}
