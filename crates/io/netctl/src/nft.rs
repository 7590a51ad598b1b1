//! nftables by its own program: its language is stable, its netlink interface is not meant for others.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use crate::error::NetError;

/// Where it lives when the caller's PATH leaves out the administrator's programs.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// The longest part of its message that is shown, in lines.
const MESSAGE_LINES: usize = 3;

/// Replaces a table in one transaction: the kernel shows either the old one or the new one, or an error and the old one.
pub(crate) fn replace_table(name: &str, body: &str) -> Result<(), NetError> {
    let script = format!("add table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{body}}}\n");
    run("set up the nftables table", &["-f", "-"], &script).map(|_| ())
}

/// Runs commands of `nft`, in one transaction.
pub(crate) fn commands(what: &str, script: &str) -> Result<(), NetError> {
    run(what, &["-f", "-"], script).map(|_| ())
}

/// Whether `nft` is installed and may list what there is.
///
/// # Errors
/// Why not.
pub fn probe() -> Result<(), NetError> {
    run("use nftables", &["list", "tables"], "").map(|_| ())
}

/// Deletes a table; one that is not there is no error.
pub(crate) fn delete_table(name: &str) -> Result<(), NetError> {
    run(
        "take the nftables table down",
        &["-f", "-"],
        &format!("add table inet {name}\ndelete table inet {name}\n"),
    )
    .map(|_| ())
}

/// The whole ruleset as JSON; none where `nft` is missing or may not be used.
pub(crate) fn ruleset() -> Option<serde_json::Value> {
    let text = run("list the firewall", &["-j", "list", "ruleset"], "").ok()?;
    serde_json::from_str(&text).ok()
}

fn run(what: &str, arguments: &[&str], input: &str) -> Result<String, NetError> {
    let kernel = |source| NetError::kernel(what, source);
    for program in PROGRAMS {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(kernel)?,
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended early says why on stderr; its closed pipe says nothing.
            let _ = stdin.write_all(input.as_bytes());
        }
        return answer(what, &child.wait_with_output().map_err(kernel)?);
    }
    Err(NetError::NftMissing { what: what.to_owned() })
}

fn answer(what: &str, output: &Output) -> Result<String, NetError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message: Vec<&str> = std::str::from_utf8(&output.stderr)
        .unwrap_or("(not readable)")
        .lines()
        .take(MESSAGE_LINES)
        .map(str::trim)
        .collect();
    let message = message.join(" ");
    if message.contains("Operation not permitted") {
        return Err(NetError::NoPermission { what: what.to_owned() });
    }
    Err(NetError::Nft { what: what.to_owned(), message })
}
