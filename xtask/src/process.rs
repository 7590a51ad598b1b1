//! Running other programs, and a record of which steps passed and how long each took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The workspace's root. Cargo sets the manifest directory at run time, so a moved clone is found too.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The cargo that runs this, in the workspace's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    // Set by the outer cargo for this process; an inner cargo that saw them would rebuild what depends on them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command with this process' output.
///
/// # Errors
/// When it cannot be started, or ends with anything but 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command and returns its standard output; its standard error is this process'.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({})", output.status);
    }
    Ok(output.stdout)
}

/// Whether a command runs and ends with 0; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// Steps that all run, whichever fail, so that one run shows everything that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    /// Runs one step under a heading.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let result = run();
        if let Err(error) = &result {
            eprintln!("-- {name}: {error:#}");
        }
        self.done.push((name, start.elapsed(), result.is_ok()));
    }

    /// Prints the summary line.
    ///
    /// # Errors
    /// When a step failed; the message names it.
    pub(crate) fn finish(self, what: &str) -> Result<()> {
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        let steps: Vec<String> =
            self.done.iter().map(|(name, took, _)| format!("{name} {} s", took.as_secs())).collect();
        let failed: Vec<&str> = self.done.iter().filter(|(_, _, ok)| !ok).map(|(name, _, _)| *name).collect();
        let verdict = if failed.is_empty() { "passed" } else { "FAILED" };
        eprintln!("\n{what} {verdict} in {} s ({})", total.as_secs(), steps.join(", "));
        if !failed.is_empty() {
            bail!("{what} failed at: {}", failed.join(", "));
        }
        Ok(())
    }
}
