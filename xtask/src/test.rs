//! `cargo xtask test`: set-up, checks, and all tests.
//!
//! Tests come in two kinds. Most need a processor and nothing else, and run side by side. The end-to-end ones build
//! networks in namespaces and move real traffic: they run one at a time, since a second one would take the time that the
//! emulator needs. They are told apart by place: `tests/` of every crate but the pure ones and the simulation.
//!
//! Both kinds, the binary that the end-to-end tests start, and the checks share one profile, so nothing is built twice.

use anyhow::Result;

use crate::{check, process, setup};

/// Crates whose `tests/` need no network.
const PURE: &str = "units|packet|wire|fec|crypto|path|bond|netem|scenario|sim";

/// Runs everything, or with a filter only the tests whose name contains it.
///
/// # Errors
/// When the machine cannot be set up, or a step failed.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    setup::run()?;
    let mut steps = process::Steps::default();
    if filter.is_none() {
        check::steps(&mut steps);
    }
    if process::succeeds(process::cargo(&["nextest"]).arg("--version")) {
        steps.step("unit, property and simulation tests", || nextest(filter, false));
        steps.step("end-to-end tests", || nextest(filter, true));
    } else {
        eprintln!("cargo-nextest is not installed: `cargo test` runs the tests, without its limits of time");
        steps.step("unit tests", || cargo_test(filter, &["--lib", "--bins"], None));
        steps.step("property, simulation and end-to-end tests", || {
            cargo_test(filter, &["--test", "*"], Some(1))
        });
    }
    if filter.is_none() {
        steps.step("examples in the documentation", || cargo_test(None, &["--doc"], None));
    }
    steps.finish("cargo xtask test")
}

fn nextest(filter: Option<&str>, end_to_end: bool) -> Result<()> {
    let not = if end_to_end { "" } else { "not " };
    let mut set = format!("{not}(kind(test) & not package(/^bondwire-({PURE})$/))");
    if let Some(filter) = filter {
        set = format!("({set}) & test({filter})");
    }
    let mut command = process::cargo(&["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"]);
    if std::env::var_os("CI").is_some() {
        command.arg("--profile=ci");
    }
    process::run(command.args(["--filterset", &set]))
}

fn cargo_test(filter: Option<&str>, targets: &[&str], threads: Option<usize>) -> Result<()> {
    let mut command = process::cargo(&["test", "--workspace", "--quiet", "--no-fail-fast"]);
    command.args(targets).args(filter);
    if let Some(threads) = threads {
        command.arg("--").arg(format!("--test-threads={threads}"));
    }
    process::run(&mut command)
}
