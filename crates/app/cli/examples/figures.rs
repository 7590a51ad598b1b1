//! Prints how a bond does on the public profiles, as a Markdown table: medians of several runs, each in a lab of its own.
//!
//! ```text
//! cargo build --release
//! cargo run --release -p bondwire-cli --example figures -- [--runs 3] [--seconds 12] [--bondwire PATH] [PROFILE …]
//! ```
//!
//! For each profile and direction: the goodput of one plain TCP connection (CUBIC) over the best single link, and of one
//! through the bond, both over the last two thirds of their time; the latter's share of the sum of the links' rates, and
//! its ratio to the best link's rate and to that link's measured goodput; the longest gap of a second connection during
//! which the best link goes silent for 4 s; and how late the emulator was, which tells whether to believe the rest.
#![forbid(unsafe_code)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bondwire_netns::traffic::{Bulk, BulkOptions, Direction, Timeline};
use bondwire_scenario::{Link, PUBLIC_PROFILES, Scenario};
use bondwire_units::Bitrate;
use support::{Bond, Options, ms, seconds, until};

/// How long a link is silent, and what comes before and after.
const SILENCE: Duration = seconds(4);
const BEFORE: Duration = seconds(3);
const AFTER: Duration = seconds(2);
const USAGE: &str = "usage: figures [--runs N] [--seconds S] [--bondwire PATH] [PROFILE …]";

/// What was asked for.
#[derive(Debug)]
struct Plan {
    runs: usize,
    length: Duration,
    program: PathBuf,
    profiles: Vec<String>,
}

/// The figures of one run. Rates are in bit/s.
#[derive(Clone, Copy, Debug)]
struct Run {
    single: f64,
    bonded: f64,
    gap: Duration,
    late_us: u64,
    dropped: u64,
}

fn main() -> ExitCode {
    let plan = match Plan::from_args() {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = bondwire_netns::enter() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    println!(
        "| profile | | sum of the links | best link alone | bond | of the sum | × best link's rate | × best link alone | longest gap, 4 s of silence | emulator late, p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for profile in &plan.profiles {
        for direction in [Direction::Down, Direction::Up] {
            let scenario = Scenario::builtin(profile).expect("it was looked up before");
            let runs: Vec<Run> =
                (0..plan.runs).map(|number| run(&scenario, direction, number, &plan)).collect();
            print_row(&scenario, direction, &runs);
        }
    }
    ExitCode::SUCCESS
}

impl Plan {
    fn from_args() -> Result<Self, String> {
        let mut plan = Self { runs: 3, length: seconds(12), program: sibling(), profiles: Vec::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let number = |text: String| text.parse::<u64>().ok().filter(|number| (1..=600).contains(number));
            match arg.as_str() {
                "--runs" => plan.runs = number(value()?).ok_or("--runs is a number from 1 to 600")? as usize,
                "--seconds" => {
                    plan.length = seconds(number(value()?).ok_or("--seconds is a number from 1 to 600")?)
                }
                "--bondwire" => plan.program = value()?.into(),
                option if option.starts_with('-') => return Err(format!("there is no option {option}")),
                profile => {
                    Scenario::builtin(profile).map_err(|error| error.to_string())?;
                    plan.profiles.push(profile.to_owned());
                }
            }
        }
        if plan.profiles.is_empty() {
            plan.profiles = PUBLIC_PROFILES.map(str::to_owned).into();
        }
        if !plan.program.is_file() {
            return Err(format!(
                "{} is missing: build bondwire, or name it with --bondwire",
                plan.program.display()
            ));
        }
        Ok(plan)
    }
}

/// The program in the folder above that of this example.
fn sibling() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.parent().and_then(|folder| folder.parent()).map(|folder| folder.join("bondwire")).unwrap_or_default()
}

fn run(scenario: &Scenario, direction: Direction, number: usize, plan: &Plan) -> Run {
    let mut scenario = scenario.clone();
    scenario.seed += number as u64;
    let options = Options { program: plan.program.clone(), ..Options::default() };
    let bond = Bond::build(scenario, options);
    let links: Vec<Link> = bond.scenario.links.clone();
    let last = |timeline: &Timeline| timeline.goodput(plan.length / 3, plan.length).as_bps() as f64;
    let single = links.iter().map(|link| last(&transfer(&bond, direction, Some(&link.name), plan.length)));
    let single = single.fold(0.0, f64::max);

    let bond = bond.started();
    bond.lab.emulator().reset_lateness().expect("the emulator runs");
    let bonded = last(&transfer(&bond, direction, None, plan.length));
    let gap = gap(&bond, direction);
    let report = bond.lab.emulator().report().expect("the emulator runs");
    let run = Run { single, bonded, gap, late_us: report.lateness_us.p99, dropped: report.overload_drops() };
    eprintln!("{} {direction:?} run {}: {run:?}", bond.scenario.name, number + 1);
    run
}

/// What arrived when, of one TCP connection.
fn transfer(bond: &Bond, direction: Direction, link: Option<&str>, limit: Duration) -> Timeline {
    let options = options(direction, link, limit);
    let transfer = Bulk::start(bond.lab.client(), &bond.web, options).expect("a transfer");
    transfer.finish().expect("a transfer").timeline
}

fn options(direction: Direction, link: Option<&str>, limit: Duration) -> BulkOptions {
    BulkOptions {
        direction,
        interface: link.map(str::to_owned),
        limit,
        verify: false,
        ..BulkOptions::default()
    }
}

/// The longest gap of a transfer from the moment at which the best link falls silent.
fn gap(bond: &Bond, direction: Direction) -> Duration {
    let best =
        bond.scenario.links.iter().max_by_key(|link| rate(link, direction)).expect("a scenario has links");
    let limit = BEFORE + SILENCE + AFTER;
    let transfer =
        Bulk::start(bond.lab.client(), &bond.web, options(direction, None, limit)).expect("a transfer");
    let start = std::time::Instant::now();
    let wait = |time: Duration| until("the time has come", limit, || start.elapsed() >= time);
    wait(BEFORE);
    bond.lab.silence(&best.name).expect("a link");
    wait(BEFORE + SILENCE);
    bond.lab.restore(&best.name).expect("a link");
    let timeline = transfer.finish().expect("a transfer").timeline;
    // Connecting is not part of the timeline, which starts a little later than this clock.
    timeline.longest_gap(BEFORE - seconds(1), limit - ms(500))
}

fn rate(link: &Link, direction: Direction) -> Bitrate {
    let rate = if direction == Direction::Up { link.up } else { link.down };
    rate.unwrap_or(Bitrate::ZERO)
}

fn print_row(scenario: &Scenario, direction: Direction, runs: &[Run]) {
    let rates = || scenario.links.iter().map(|link| rate(link, direction).as_bps() as f64);
    let (sum, best) = (rates().sum::<f64>(), rates().fold(0.0, f64::max));
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
    let (single, bonded) = (of(|run| run.single), of(|run| run.bonded));
    let word = if direction == Direction::Up { "up" } else { "down" };
    let late = of(|run| run.late_us as f64);
    let dropped: u64 = runs.iter().map(|run| run.dropped).sum();
    let note =
        if dropped > 0 { format!(", {dropped} packets dropped by this machine") } else { String::new() };
    println!(
        "| {} | {word} | {:.0} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0} ms | {late:.0} µs{note} |",
        scenario.name,
        sum / 1e6,
        single / 1e6,
        bonded / 1e6,
        bonded / sum,
        bonded / best,
        bonded / single.max(1.0),
        of(|run| run.gap.as_secs_f64() * 1e3),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}
