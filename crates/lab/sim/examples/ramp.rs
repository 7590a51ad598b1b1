//! How long one TCP flow takes from its first byte until 200 ms have passed at 90 % of its steady rate (that of the last half), through a bond that had
//! nothing to do for ten seconds, and over one link of the summed rate and the mean delay, weighted by capacity; seed by seed.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example ramp -- [PROFILE or FILE ...] [--seeds N] [--trace SEED]
//! ```

use core::time::Duration;
use std::process::ExitCode;

use bondwire_scenario::Scenario;
use bondwire_sim::bonded::Bonded;
use bondwire_sim::network::{Network, Plain};
use bondwire_sim::report::{self, MEMORY};
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_sim::world::{FlowId, World};
use bondwire_units::Bitrate;
use bondwire_wire::Mode;

/// The profiles that the target names.
const PROFILES: [&str; 4] = ["twin", "home", "skew", "event"];
const IDLE: Duration = Duration::from_secs(10);
const LENGTH: Duration = Duration::from_secs(12);
/// The distance of two readings, and how many of them are the stretch in which the rate has to be reached.
const STEP: Duration = Duration::from_millis(10);
const STRETCH: usize = 20;
/// The lines of a trace, one for each reading.
const LINES: usize = 150;

struct Options {
    profiles: Vec<String>,
    seeds: u64,
    trace: Option<u64>,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| {
        println!("{:10} {:4} {:>8}  bond in ms, sorted; times one link", "profile", "", "one link");
        let run = |name: &String| Direction::BOTH.into_iter().try_for_each(|way| row(name, way, &options));
        options.profiles.iter().try_for_each(run)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn row(name: &str, direction: Direction, options: &Options) -> Result<(), String> {
    let mut scenario = Scenario::find(name).map_err(|error| error.to_string())?;
    let one = one_link(&scenario, direction);
    let mut times = Vec::new();
    for seed in 0..options.seeds {
        scenario.seed = seed;
        times.push(bonded(&scenario, direction, options.trace == Some(seed))?.as_millis());
    }
    times.sort_unstable();
    let arrow = if direction == Direction::Down { "down" } else { "up" };
    let ratio = times[times.len() / 2] as f64 / one.as_secs_f64() / 1e3;
    println!("{name:10} {arrow:4} {:>5} ms  {times:?}; {ratio:.1}", one.as_millis());
    Ok(())
}

fn bonded(scenario: &Scenario, direction: Direction, trace: bool) -> Result<Duration, String> {
    let mut world = report::connected(scenario, Mode::Speed, MEMORY, scenario.seed)?;
    world.run_for(IDLE);
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    let flow = world.add_flow(FlowConfig::tcp(direction, mtu));
    Ok(ramp(&mut world, flow, |world, number| {
        if trace && number < LINES {
            print_state(world, direction, flow);
        }
    }))
}

/// One link of the summed rate, without loss or jitter.
fn one_link(scenario: &Scenario, direction: Direction) -> Duration {
    let rate = |link| report::link_rate(link, direction);
    let sum: Bitrate = scenario.links.iter().map(rate).sum();
    let weighted = scenario.links.iter().map(|link| link.delay.as_secs_f64() * rate(link).as_bps() as f64);
    let delay = weighted.sum::<f64>() / sum.as_bps().max(1) as f64;
    let link = report::link(sum, Duration::from_secs_f64(delay));
    let mut world = World::new(Plain::new(link, 0), Vec::new());
    let flow = world.add_flow(FlowConfig::tcp(direction, 1500));
    ramp(&mut world, flow, |_, _| {})
}

/// Runs the flow to its end, and finds the time.
fn ramp<N: Network>(
    world: &mut World<N>,
    flow: FlowId,
    mut each: impl FnMut(&mut World<N>, usize),
) -> Duration {
    let mut received = Vec::new();
    for number in 0..LENGTH.div_duration_f64(STEP) as usize {
        world.run_for(STEP);
        received.push(world.flow(flow).progress.bytes);
        each(world, number);
    }
    let first = received.iter().position(|bytes| *bytes > 0).unwrap_or(received.len());
    let (half, last) = ((first + received.len()) / 2, received.len() - 1);
    let steady = (received[last] - received[half]) as f64 / (last - half) as f64;
    let is_steady =
        |at: &usize| (received[at + STRETCH] - received[*at]) as f64 >= 0.9 * steady * STRETCH as f64;
    let begun = (first..received.len() - STRETCH).find(is_steady).unwrap_or(received.len());
    STEP * (begun + STRETCH - first) as u32
}

fn print_state(world: &mut World<Bonded>, direction: Direction, flow: FlowId) {
    let now = world.now();
    let client = world.network.client_status(now);
    let (paths, counters) = match world.network.server_status(now) {
        Some(server) if direction == Direction::Down => (server.paths, server.counters),
        _ => (client.paths, client.counters),
    };
    let flow = world.flow(flow);
    print!(
        "{:6} ms  received {:9}  window {:5.0}  rtt {:4}  reduced {:2}  queued {:7}  repaired {:5}  dropped {:3}",
        now.as_micros() / 1_000,
        flow.progress.bytes,
        flow.window.map_or(0.0, |(segments, _)| segments),
        flow.window.and_then(|(_, rtt)| rtt).unwrap_or_default().as_millis(),
        flow.sender.reductions,
        counters.queued_bytes,
        counters.repaired,
        counters.ingress.dropped_delay,
    );
    for path in &paths {
        let [capacity, rate] = [path.capacity_tx, path.tx].map(|rate| rate.as_mbps());
        print!("  | {capacity:.1} {rate:.1} {}", path.in_flight.get());
    }
    println!();
}

fn options() -> Result<Options, String> {
    let mut options = Options { profiles: Vec::new(), seeds: 6, trace: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().ok_or(format!("{argument} needs a value"))?;
            text.parse::<u64>().map_err(|_| format!("`{text}` is no whole number"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?.max(1),
            "--trace" => options.trace = Some(number()?),
            flag if flag.starts_with('-') => {
                return Err(format!("there is no option `{flag}`: --seeds or --trace"));
            }
            profile => options.profiles.push(profile.to_owned()),
        }
    }
    if options.profiles.is_empty() {
        options.profiles = PROFILES.map(str::to_owned).to_vec();
    }
    Ok(options)
}
