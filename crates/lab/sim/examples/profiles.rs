//! Goodput of one inner TCP flow over whole bonds in virtual time, profile by profile: the share of the links' sum, and
//! the ratio to the best link alone.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example profiles -- [PROFILE or FILE ...] [--mode MODE] [--seconds N] [--paths] [--seed N]
//! ```

use core::time::Duration;
use std::process::ExitCode;

use bondwire_scenario::{PUBLIC_PROFILES, Scenario};
use bondwire_sim::report::{self, Goodput};
use bondwire_sim::traffic::Direction;
use bondwire_wire::Mode;

struct Options {
    profiles: Vec<String>,
    mode: Mode,
    span: Duration,
    paths: bool,
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| {
        println!(
            "{:10} {:4} {:>7} {:>9} {:>6} {:>9} {:>6} {:>8}  sender",
            "profile", "", "sum", "bonded", "/sum", "best link", "/best", "gap"
        );
        options.profiles.iter().try_for_each(|name| run(name, &options))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, options: &Options) -> Result<(), String> {
    let mut scenario = Scenario::find(name).map_err(|error| error.to_string())?;
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    for direction in Direction::BOTH {
        let best = report::best_link(&scenario, direction, options.span);
        let arrow = if direction == Direction::Down { "down" } else { "up" };
        match report::bonded(&scenario, direction, options.mode, options.span) {
            Ok(bonded) => print_row(name, arrow, &bonded, best, options.paths),
            Err(why) => println!("{name:10} {arrow:4} failed: {why}"),
        }
    }
    Ok(())
}

fn print_row(name: &str, arrow: &str, bonded: &Goodput, best: Option<(String, Goodput)>, paths: bool) {
    let alone = best.map(|(_, goodput)| goodput.rate.as_mbps()).unwrap_or_default();
    let rate = bonded.rate.as_mbps();
    println!(
        "{name:10} {arrow:4} {:7.1} {rate:9.2} {:6.3} {alone:9.2} {:6.2} {:6.0}ms  {:?}",
        bonded.sum.as_mbps(),
        bonded.share(),
        rate / alone.max(0.001),
        bonded.longest_gap.as_secs_f64() * 1e3,
        bonded.sender,
    );
    for path in bonded.paths.iter().filter(|_| paths) {
        println!("    {path:?}");
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        profiles: Vec::new(),
        mode: Mode::Speed,
        span: Duration::from_secs(12),
        paths: false,
        seed: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--mode" => {
                options.mode = match value()?.as_str() {
                    "speed" => Mode::Speed,
                    "streaming" => Mode::Streaming,
                    "redundant" => Mode::Redundant,
                    other => {
                        return Err(format!("there is no mode `{other}`: speed, streaming or redundant"));
                    }
                };
            }
            "--seconds" => {
                let text = value()?;
                let seconds = text.parse().map_err(|_| format!("`{text}` is no whole number of seconds"))?;
                options.span = Duration::from_secs(seconds);
            }
            "--seed" => {
                let text = value()?;
                options.seed = Some(text.parse().map_err(|_| format!("`{text}` is no seed"))?);
            }
            "--paths" => options.paths = true,
            flag if flag.starts_with('-') => {
                return Err(format!("there is no option `{flag}`: --mode, --seconds, --seed or --paths"));
            }
            profile => options.profiles.push(profile.to_owned()),
        }
    }
    if options.profiles.is_empty() {
        options.profiles = PUBLIC_PROFILES.map(str::to_owned).to_vec();
    }
    Ok(options)
}
