//! What the tests need beside cargo: looked for, installed where that is possible, and named exactly where it is not.
//!
//! Root on a machine with apt gets what is missing. Anyone else gets the line to type, and nothing is started that could
//! only fail later with a worse message.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A program that the tests call, and the Debian package that holds it.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("unshare", "util-linux"),
    ("cc", "gcc"),
    ("curl", "curl"),
    ("wget", "wget"),
    ("aria2c", "aria2"),
];

/// What one test more needs, too large to be installed unasked; without it that test is passed over.
const OPTIONAL: &[(&str, &str)] = &[("chromium", "chromium")];

/// Directories that hold system programs but are missing from an ordinary user's PATH on Debian.
const SYSTEM: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

/// Makes sure that programs, cargo's components and namespaces are there.
///
/// # Errors
/// Names what is missing, and what to type.
pub(crate) fn run() -> Result<()> {
    programs()?;
    components()?;
    namespaces()
}

fn programs() -> Result<()> {
    if !is_root() {
        eprintln!(
            "without root the kernel takes no programs: tests of `balance` pass over what only those can do"
        );
    }
    for (program, package) in OPTIONAL.iter().filter(|(program, _)| !is_installed(program)) {
        eprintln!(
            "without {program} one test is passed over: apt-get install -y --no-install-recommends {package}"
        );
    }
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y {}", packages.join(" "));
    if is_root() && is_installed("apt-get") {
        eprintln!("installing what is missing: {line}");
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "--no-install-recommends"]);
        if process::run(install.args(&packages)).is_err() {
            // A machine that never fetched the lists of packages knows none of them.
            process::run(Command::new("apt-get").arg("update"))?;
            process::run(&mut install)?;
        }
        if missing_packages().is_empty() {
            return Ok(());
        }
    }
    bail!("the tests need programs that are missing here; as root, type: {line}");
}

fn missing_packages() -> Vec<&'static str> {
    PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(SYSTEM.iter().map(Into::into));
    places.any(|place| place.join(program).is_file())
}

fn components() -> Result<()> {
    for component in ["fmt", "clippy"] {
        if process::succeeds(process::cargo(&[component]).arg("--version")) {
            continue;
        }
        let package = if component == "fmt" { "rustfmt" } else { component };
        let mut add = Command::new("rustup");
        if process::run(add.args(["component", "add", package])).is_err() {
            bail!("`cargo {component}` is missing; type: rustup component add {package}");
        }
    }
    Ok(())
}

/// An ordinary user's lab lives in a user namespace, which some distributions forbid.
fn namespaces() -> Result<()> {
    if is_root() || process::succeeds(Command::new("unshare").args(["-U", "-r", "-n", "true"])) {
        return Ok(());
    }
    let off = |name: &str, value: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(name.replace('.', "/")))
            .is_ok_and(|text| text.trim() == value)
    };
    let hint = if off("kernel.apparmor_restrict_unprivileged_userns", "1") {
        "as root, type: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if off("kernel.unprivileged_userns_clone", "0") {
        "as root, type: sysctl -w kernel.unprivileged_userns_clone=1"
    } else if off("user.max_user_namespaces", "0") {
        "as root, type: sysctl -w user.max_user_namespaces=10000"
    } else {
        "run this as root, or outside of the container that forbids it"
    };
    bail!("this user may not create network namespaces, which the end-to-end tests run in; {hint}");
}

pub(crate) fn is_root() -> bool {
    // A process' own directory belongs to its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
