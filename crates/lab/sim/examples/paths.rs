//! Single paths under difficult conditions: share of the link, its queue, a call beside it, a neighbour beside it.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example paths -- [PART OF A NAME ...] [--seed N]
//! ```

use std::process::ExitCode;

use bondwire_sim::trial::{self, Trial};

fn main() -> ExitCode {
    let (mut wanted, mut seed) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--seed" {
            seed = arguments.next().and_then(|text| text.parse().ok());
            if seed.is_none() {
                eprintln!("--seed needs a whole number");
                return ExitCode::from(2);
            }
        } else {
            wanted.push(argument);
        }
    }
    let chosen = |trial: &Trial| wanted.is_empty() || wanted.iter().any(|part| trial.name.contains(part));
    for list in [trial::trials(), trial::neighbours()] {
        let mut list: Vec<Trial> = list.into_iter().filter(chosen).collect();
        list.iter_mut().for_each(|trial| trial.scenario.seed = seed.unwrap_or(trial.scenario.seed));
        if !list.is_empty() {
            println!("{}", trial::table(&list));
        }
    }
    ExitCode::SUCCESS
}
