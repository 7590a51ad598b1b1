//! `cargo xtask demo`: builds the release binary and becomes it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Builds `bondwire` and replaces this process with `bondwire demo ARGS`, so that signals, the terminal and the exit
/// code are the demo's own.
///
/// # Errors
/// When the build fails. Once the demo runs this function does not return.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let binary = build_release()?;
    let error = Command::new(&binary).arg("demo").args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", binary.display()))
}

/// Builds the release binary and says where cargo put it (a target directory may be set in several places).
fn build_release() -> Result<PathBuf> {
    let mut build = process::cargo(&[
        "build",
        "--release",
        "--package=bondwire-cli",
        "--bin=bondwire",
        "--message-format=json-render-diagnostics",
    ]);
    let output = process::output(&mut build)?;
    executable(&String::from_utf8_lossy(&output)).context("cargo built bondwire, but did not say where")
}

/// The executable in cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "bondwire")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\nno json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"bondwire"},"executable":"/t/release/bondwire"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some("/t/release/bondwire".into()));
        assert_eq!(executable("{}"), None);
    }
}
