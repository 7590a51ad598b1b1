//! `bondwire demo`, the whole of it: lab, server, client, download, cut, restore, figures.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bondwire"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

#[test]
fn one_download_runs_over_all_links_and_survives_the_death_of_the_best() {
    let output = demo(&["--seconds", "20", "--json"]).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object, and nothing else");
    println!("{report:#}\n{log}");
    assert_eq!(report["cut"]["link"], report["best_single_link"]);
    assert!(report["longest_gap_ms"].as_f64().expect("a number") > 0.0);
    let links = report["links"].as_array().expect("a list");
    assert_eq!(links.len(), 3);
    for link in links {
        assert!(link["bytes_rx"].as_u64().expect("a number") > 1_000_000, "{link}");
    }
    // How much faster it is stands in the report: that depends on how busy this machine is. That it is faster does not.
    assert!(report["ratio"].as_f64().expect("a number") > 1.0, "{report}");
}

#[test]
fn eight_downloads_are_balanced_and_connect_again_when_a_link_dies() {
    let output = demo(&["--mode", "balance", "--seconds", "16", "--json"]).output().expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object, and nothing else");
    println!("{report:#}\n{log}");
    assert_eq!(report["mode"], "balance");
    assert!(report["reconnects"].as_u64().expect("a number") > 0, "the sockets of the dead link were closed");
    let links = report["links"].as_array().expect("a list");
    let shares: Vec<f64> = links.iter().map(|link| link["share"].as_f64().expect("a number")).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.01, "{shares:?}");
    // The slowest of the three has a fifth of the sum; that the others carry more than it does not depend on the machine.
    assert!(shares.iter().filter(|share| **share > 0.1).count() >= 2, "{shares:?}");
    assert!(report["ratio"].as_f64().expect("a number") > 1.0, "{report}");
}

#[test]
fn a_signal_ends_it() {
    let mut demo =
        demo(&["--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut log = BufReader::new(demo.stderr.take().expect("a pipe"));
    let mut line = String::new();
    // The first link was measured: the lab stands, and signals are taken.
    log.read_line(&mut line).expect("text");
    assert!(line.contains("measuring"), "{line}");
    let pid = Pid::from_raw(demo.id().cast_signed()).expect("a process has a number");
    kill_process(pid, Signal::TERM).expect("it runs");
    let rest: Vec<String> = log.lines().map_while(Result::ok).collect();
    assert_eq!(demo.wait().expect("it ends").code(), Some(1));
    assert!(rest.join("\n").contains("interrupted"), "{rest:?}");
}

#[test]
fn a_profile_that_does_not_exist_is_bad_usage() {
    let output = demo(&["--profile", "moon"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("choose one of"), "{output:?}");
}
