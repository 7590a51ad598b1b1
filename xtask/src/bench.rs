//! `cargo xtask bench`: builds bondwire and the benchmark in release mode, and becomes the benchmark.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::release;

/// Replaces this process with `bondwire-bench ARGS`, so that signals and the exit code are its own. Another program than
/// the one built here is measured with `--bondwire PATH`; then that is not built.
///
/// # Errors
/// When a build fails. Once the benchmark runs this function does not return.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let is_named = args.iter().any(|arg| arg == "--bondwire" || arg.starts_with("--bondwire="));
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let bench = release::build("bondwire-bench", "bondwire-bench")?;
    let mut command = Command::new(&bench);
    command.args(args);
    if !is_named && !asks_for_help {
        command.arg("--bondwire").arg(release::build("bondwire-cli", "bondwire")?);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", bench.display()))
}
