//! Bugs that random scenarios have found, each by the seed that found it.

use core::time::Duration;

use bondwire_sim::check::{self, Bounds};
use bondwire_sim::random;
use bondwire_wire::Mode;

/// The span of the random scenarios: part of what a seed means.
const SPAN: Duration = Duration::from_secs(6);

fn replay(seed: u64, mode: Mode) {
    let scenario = random::scenario(seed, SPAN);
    if let Err(why) = check::run(&scenario, mode, SPAN * 2, Bounds::default()) {
        panic!("seed {seed}, {mode:?}: {why}");
    }
}

/// Acknowledgements with many ranges left no room for the PING of a probe: the probe stayed due, and time stood still.
#[test]
fn a_probe_is_sent_however_much_there_is_to_acknowledge() {
    replay(73, Mode::Speed);
    replay(192, Mode::Speed);
}

/// Without a single link the client went on asking to be called about its dead paths.
#[test]
fn a_client_without_links_waits_quietly() {
    replay(38, Mode::Speed);
    replay(39, Mode::Redundant);
}

/// A path's estimate sank so low that its next samples came too far apart to count, and it never rose again.
#[test]
fn a_slow_path_does_not_talk_itself_down() {
    replay(82, Mode::Speed);
    replay(54, Mode::Redundant);
}
