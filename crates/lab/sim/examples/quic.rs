//! Goodput of one flow like QUIC over whole bonds in virtual time, against bonds of one link each, profile by profile.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example quic -- [PROFILE or FILE ...]
//! ```

use core::time::Duration;
use std::process::ExitCode;

use bondwire_scenario::{PUBLIC_PROFILES, Scenario};
use bondwire_sim::report;
use bondwire_sim::traffic::Direction;
use bondwire_wire::Mode;

fn main() -> ExitCode {
    let mut profiles: Vec<String> = std::env::args().skip(1).collect();
    if profiles.is_empty() {
        profiles = PUBLIC_PROFILES.map(str::to_owned).to_vec();
    }
    println!(
        "{:10} {:4} {:>7} {:>7} {:>6} {:>9} {:>6}  sender",
        "profile", "", "sum", "bonded", "/sum", "best link", "/best"
    );
    for name in profiles {
        if let Err(why) = run(&name) {
            eprintln!("{name}: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(name: &str) -> Result<(), String> {
    let scenario = Scenario::find(name).map_err(|error| error.to_string())?;
    let span = Duration::from_secs(12);
    for direction in Direction::BOTH {
        let bonded = report::quic(&scenario, direction, Mode::Streaming, span)?;
        let mut best = 0.0_f64;
        for link in &scenario.links {
            let alone = Scenario { links: vec![link.clone()], events: Vec::new(), ..scenario.clone() };
            best = best.max(report::quic(&alone, direction, Mode::Streaming, span)?.rate.as_mbps());
        }
        let (rate, arrow) = (bonded.rate.as_mbps(), if direction == Direction::Down { "down" } else { "up" });
        println!(
            "{name:10} {arrow:4} {:7.1} {rate:7.2} {:6.3} {best:9.2} {:6.2}  {:?}",
            bonded.sum.as_mbps(),
            bonded.share(),
            rate / best.max(0.001),
            bonded.sender,
        );
    }
    Ok(())
}
