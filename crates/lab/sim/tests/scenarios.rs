//! Random scenarios: each seed is one, with its links, accidents and traffic. A failure prints the seed; a bug that is
//! found here becomes a named test in `regressions.rs`.

use core::time::Duration;

use bondwire_sim::check::{self, Bounds, Outcome};
use bondwire_sim::random;
use bondwire_wire::Mode;

const SPAN: Duration = Duration::from_secs(6);

fn mode_of(seed: u64) -> Mode {
    if seed % 5 == 4 { Mode::Redundant } else { Mode::Speed }
}

fn run(seeds: core::ops::Range<u64>) {
    let mut failures = Vec::new();
    let mut worst = Outcome::default();
    for seed in seeds {
        let scenario = random::scenario(seed, SPAN);
        let judged =
            std::panic::catch_unwind(|| check::run(&scenario, mode_of(seed), SPAN * 2, Bounds::default()));
        match judged {
            Ok(Ok(outcome)) => {
                worst.longest_stall = worst.longest_stall.max(outcome.longest_stall);
                worst.recovery = worst.recovery.max(outcome.recovery);
                worst.bytes += outcome.bytes;
            }
            Ok(Err(why)) => failures.push(format!("seed {seed} ({:?}): {why}", mode_of(seed))),
            Err(_) => failures.push(format!("seed {seed} ({:?}): panicked", mode_of(seed))),
        }
    }
    println!("{worst:?}");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn seeds_0_to_63() {
    run(0..64);
}

#[test]
fn seeds_64_to_127() {
    run(64..128);
}

#[test]
fn seeds_128_to_191() {
    run(128..192);
}

#[test]
fn seeds_192_to_255() {
    run(192..256);
}
