//! `cargo xtask demo`: builds the release binary and becomes it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::release;

/// Builds `bondwire` and replaces this process with `bondwire demo ARGS`, so that signals, the terminal and the exit
/// code are the demo's own.
///
/// # Errors
/// When the build fails. Once the demo runs this function does not return.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let binary = release::build("bondwire-cli", "bondwire")?;
    let error = Command::new(&binary).arg("demo").args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}
