//! One random scenario, for whoever looks into a failure: its links and accidents, and how it went.
//!
//! ```text
//! cargo run -p bondwire-sim --example seed -- SEED [redundant]
//! ```

use core::time::Duration;
use std::process::ExitCode;

use bondwire_sim::check::{self, Bounds};
use bondwire_sim::random;
use bondwire_wire::Mode;

const SPAN: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(seed) = arguments.first().and_then(|text| text.parse().ok()) else {
        eprintln!("usage: seed SEED [redundant]");
        return ExitCode::from(2);
    };
    let mode = if arguments.get(1).is_some_and(|m| m == "redundant") { Mode::Redundant } else { Mode::Speed };
    let scenario = random::scenario(seed, SPAN);
    for link in &scenario.links {
        println!("{link:?}");
    }
    for event in &scenario.events {
        println!("{event:?}");
    }
    match check::run(&scenario, mode, SPAN * 2, Bounds::default()) {
        Ok(outcome) => {
            println!("{outcome:?}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
