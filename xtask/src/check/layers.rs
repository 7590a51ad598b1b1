//! Arrows go downwards only: which crate of the workspace may depend on which.
//!
//! The table is complete. A new crate is added here, where its place in the house is a decision that a reader sees. Crates
//! that only tests use (`[dev-dependencies]`) keep to the same table, except for the lab, which exists for tests.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// Each crate with the workspace crates that it may use. Names go without their `bondwire-`.
const TABLE: &[(&str, &[&str])] = &[
    // core: pure, and `bond` is its top
    ("units", &[]),
    ("packet", &["units"]),
    ("wire", &["units"]),
    ("netem", &["units"]),
    ("fec", &[]),
    ("crypto", &["units", "wire"]),
    ("path", &["units", "wire"]),
    ("bond", &["units", "packet", "wire", "fec", "crypto", "path"]),
    // The other way, without a tunnel: it knows nothing of the bond.
    ("balance", &["units"]),
    // io: Linux at its edge, which knows batches but no bond
    ("netctl", &["units"]),
    ("udp", &["units", "packet"]),
    // The device of a namespace without /dev/net/tun is a pair of interfaces, which `netctl` makes.
    ("tun", &["units", "packet", "netctl"]),
    ("capture", &["units", "netctl"]),
    ("rawlink", &["units"]),
    ("sockets", &[]),
    ("stream", &[]),
    // app
    ("engine", &["units", "packet", "wire", "crypto", "path", "bond", "udp", "tun"]),
    ("proxy", &["units", "stream"]),
    ("api", &["units"]),
    (
        "daemon",
        &[
            "units", "packet", "wire", "crypto", "path", "bond", "balance", "udp", "tun", "netctl",
            "sockets", "capture", "engine", "proxy", "api",
        ],
    ),
    // The command line starts a daemon in its own process, and reaches a running one through `api` alone.
    ("cli", &["units", "wire", "crypto", "netctl", "api", "daemon", "netns", "scenario"]),
    // lab
    ("scenario", &["units", "netem"]),
    ("sim", &["units", "packet", "wire", "crypto", "path", "bond", "netem", "scenario"]),
    ("netns", &["units", "packet", "netem", "rawlink", "scenario"]),
    // It starts the real binary, and asks it how it stands.
    ("bench", &["units", "api", "netns", "scenario"]),
    ("xtask", &[]),
];

/// The crates that have no clock, socket, thread or `unsafe`.
const CORE: &[&str] = &["units", "packet", "wire", "netem", "fec", "crypto", "path", "bond", "balance"];

/// What a test of any crate may use on top of its row.
const FOR_TESTS: &[&str] = &["netem", "scenario", "sim", "netns", "bench"];

/// More that the tests of single crates use: routing is tested with the sockets that it is for.
const TEST_EDGES: &[(&str, &str)] = &[("netctl", "packet"), ("netctl", "udp"), ("engine", "netctl")];

/// Crates from outside that bring what the core must not have.
const NOT_IN_CORE: &[&str] =
    &["tokio", "mio", "libc", "rustix", "nix", "socket2", "rand", "getrandom", "fastrand", "tracing", "log"];

/// Compares the table with the workspace as cargo sees it.
///
/// # Errors
/// When cargo cannot describe the workspace.
pub(crate) fn check() -> Result<Vec<String>> {
    let output = process::output(&mut process::cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_slice(&output).context("cargo metadata printed no JSON")?;
    Ok(judge(&edges(&metadata)))
}

/// One dependency as a manifest states it.
#[derive(Debug, PartialEq)]
struct Edge {
    name: String,
    for_tests: bool,
}

/// The direct dependencies of each package, from `cargo metadata`.
fn edges(metadata: &Value) -> BTreeMap<String, Vec<Edge>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| short(value.as_str().unwrap_or_default());
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let edges = list(&package["dependencies"])
                .iter()
                .map(|edge| Edge { name: text(&edge["name"]), for_tests: edge["kind"] == "dev" })
                .collect();
            (text(&package["name"]), edges)
        })
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("bondwire-").unwrap_or(name).to_owned()
}

fn judge(packages: &BTreeMap<String, Vec<Edge>>) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut findings = Vec::new();
    for (package, edges) in packages {
        let Some(allowed) = table.get(package.as_str()) else {
            findings.push(format!("{package} has no row: decide which crates it may depend on"));
            continue;
        };
        let mut seen = BTreeSet::new();
        for edge in edges.iter().filter(|edge| seen.insert((&edge.name, edge.for_tests))) {
            let name = edge.name.as_str();
            if packages.contains_key(name) {
                let in_test = FOR_TESTS.contains(&name) || TEST_EDGES.contains(&(package.as_str(), name));
                // A crate may name itself for its tests, to switch on a feature.
                let may = allowed.contains(&name) || name == package || (edge.for_tests && in_test);
                if !may {
                    findings.push(format!("{package} depends on {name}, which its row does not allow"));
                }
            } else if !edge.for_tests && CORE.contains(&package.as_str()) && NOT_IN_CORE.contains(&name) {
                findings.push(format!("{package} is pure and must not depend on {name}"));
            }
        }
    }
    for name in table.keys().filter(|name| !packages.contains_key(**name)) {
        findings.push(format!("{name} has a row but is no crate of the workspace"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with every row's crate, and these extra dependencies.
    fn workspace(extra: &[(&str, &str, bool)]) -> BTreeMap<String, Vec<Edge>> {
        let mut packages: BTreeMap<String, Vec<Edge>> =
            TABLE.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
        for (from, to, for_tests) in extra {
            let edge = Edge { name: (*to).to_owned(), for_tests: *for_tests };
            packages.entry((*from).to_owned()).or_default().push(edge);
        }
        packages
    }

    #[test]
    fn rows_point_downwards_only() {
        let mut above = BTreeSet::new();
        for (name, below) in TABLE.iter().filter(|(name, _)| *name != "cli") {
            assert!(below.iter().all(|below| above.contains(below)), "{name} points upwards");
            above.insert(*name);
        }
    }

    #[test]
    fn what_the_rows_allow_passes() {
        let good = [("bond", "path", false), ("path", "netem", true), ("engine", "tokio", false)];
        assert_eq!(judge(&workspace(&good)), Vec::<String>::new());
    }

    #[test]
    fn arrows_upwards_and_sideways_are_found() {
        let bad = [
            ("path", "bond", false),
            ("udp", "bond", false),
            ("wire", "udp", true),
            ("wire", "tokio", false),
        ];
        for edge in bad {
            assert_eq!(judge(&workspace(&[edge])).len(), 1, "{edge:?}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(judge(&workspace(&[("novel", "units", false)])).len(), 1);
    }

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({"packages": [{"name": "bondwire-bond", "dependencies": [
            {"name": "bondwire-path", "kind": null}, {"name": "proptest", "kind": "dev"}]}]});
        let edges = edges(&metadata);
        let expected = [("path", false), ("proptest", true)]
            .map(|(name, for_tests)| Edge { name: name.to_owned(), for_tests });
        assert_eq!(edges["bond"], expected);
    }
}
