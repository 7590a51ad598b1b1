//! What the end-to-end tests share: bonds in the lab, which the benchmarks use too.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

pub(crate) use bondwire_bench::fixture::{
    Bond, Ended, MEGABYTE, Options, PORT, Process, Side, Snapshot, assert_whole, ms, seconds, until,
};
pub(crate) use bondwire_bench::{Quic, QuicOptions};

/// Runs a test inside the lab's wrapper, one at a time. `name` is the test's full path.
pub(crate) fn in_lab(name: &str, body: impl FnOnce()) {
    bondwire_bench::fixture::in_lab(env!("CARGO_TARGET_TMPDIR"), name, body);
}
