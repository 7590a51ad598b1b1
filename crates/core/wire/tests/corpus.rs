//! Replays the fuzz corpus through the checks of the fuzz targets (fuzz/README.md).
#![allow(missing_docs, reason = "tests")]

use std::path::Path;

#[path = "../../../../fuzz/checks/wire.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/corpus").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} is empty", corpus.display());
    for seed in seeds {
        println!("{}", seed.display());
        check(&std::fs::read(&seed).expect("a readable seed"));
    }
}

#[test]
fn header() {
    replay("header", checks::header);
}

#[test]
fn frames() {
    replay("frames", checks::frames);
}

#[test]
fn params() {
    replay("params", checks::params);
}

#[test]
fn invite() {
    replay("invite", checks::invite);
}
