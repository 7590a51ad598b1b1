//! Whole bonds in the lab, for the end-to-end tests and the example that prints figures.
//!
//! [`Bond`] is a lab with a server and a client in it; [`Side`] is one bondwire on one machine with folders of its own;
//! [`Process`] is a running command whose output can be waited for; [`Snapshot`] is how a machine's network stands.
#![allow(dead_code, reason = "each test binary uses its part")]

mod bond;
mod process;
mod side;
mod snapshot;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use bond::{Bond, Options, PORT, assert_whole};
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use process::{Ended, Process};
pub(crate) use side::Side;
#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use snapshot::Snapshot;

/// Runs a test inside the lab's wrapper. `name` is the test's full path.
///
/// One at a time, whatever the number of test threads and of test processes: two labs on one machine measure each other.
pub(crate) fn in_lab(name: &str, body: impl FnOnce()) {
    let inside = std::env::var_os("BONDWIRE_LAB_STAGE").is_some();
    let _turn = if inside { None } else { take_turn() };
    bondwire_netns::isolated_test(name, body);
}

/// A lock that is held as long as the file is open.
fn take_turn() -> Option<File> {
    let folder = option_env!("CARGO_TARGET_TMPDIR")?;
    let file = File::create(Path::new(folder).join("lab.lock")).expect("a file in the target folder");
    file.lock().expect("a lock on it");
    Some(file)
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const MEGABYTE: u64 = 1_000_000;

/// Waits until something is so that tells nobody when it becomes so: looks every 5 ms. How long it took.
///
/// # Panics
/// If it is not so after `limit`.
pub(crate) fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(ms(5));
    }
    start.elapsed()
}
