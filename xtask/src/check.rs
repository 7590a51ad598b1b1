//! `cargo xtask check`: what must hold before any test runs.
//!
//! Formatting, lints and documentation are cargo's. The rest are this project's own rules, each in its file: which crate
//! may depend on which ([`layers`]), how long a file may be and where `unsafe` may stand ([`sources`]), and that every
//! requirement of the protocol is cited where it is met ([`requirements`]).

mod layers;
mod requirements;
mod sources;

use anyhow::{Result, bail};

use crate::process::{self, Steps};

/// Runs all checks.
///
/// # Errors
/// When one fails.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    self::steps(&mut steps);
    steps.finish("cargo xtask check")
}

/// Adds the checks to a longer run.
pub(crate) fn steps(steps: &mut Steps) {
    steps.step("format", || process::run(&mut process::cargo(&["fmt", "--all", "--check"])));
    steps.step("layers", || report(layers::check()?, "the layer table (xtask/src/check/layers.rs)"));
    steps.step("sources", || {
        report(sources::check(&process::root())?, "the rules for files (CONTRIBUTING.md)")
    });
    steps.step("requirements", || report(requirements::check(&process::root())?, "docs/protocol.md"));
    steps.step("clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        process::run(&mut process::cargo(&args))
    });
    steps.step("documentation", || {
        let mut doc = process::cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
        process::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
}

/// Turns a list of findings into a result.
fn report(findings: Vec<String>, rule: &str) -> Result<()> {
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("1 place does not keep to {rule}"),
        count => bail!("{count} places do not keep to {rule}"),
    }
}
