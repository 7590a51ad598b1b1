//! The longest gap of one TCP flow and of one UDP flow (200 packets a second) while the link with the highest rate is silent for four seconds, seed by
//! seed; the target is 3 × (SRTT + 4 RTTVAR) of the dead path + the delay of the quickest other link.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example failover -- [PROFILE or FILE ...] [--seeds N] [--trace SEED]
//! ```

use core::cmp::Reverse;
use core::time::Duration;
use std::process::ExitCode;

use bondwire_bond::{Counters, PathStatus};
use bondwire_scenario::{Action, Event, PUBLIC_PROFILES, Scenario};
use bondwire_sim::bonded::Bonded;
use bondwire_sim::report::{self, MEMORY};
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_sim::world::{FlowId, World};
use bondwire_units::Timestamp;
use bondwire_wire::Mode;

/// When traffic begins, the link falls silent, it returns, and the run ends, in milliseconds.
const BEGIN: u64 = 2_000;
const SILENCE: u64 = 6_000;
const RETURN: u64 = 10_000;
const END: u64 = 12_000;
/// The distance of two lines of a trace, and the time that it covers before and after the death.
const STEP: u64 = 20;
const BEFORE: u64 = 40;
const AFTER: u64 = 2_000;

struct Options {
    profiles: Vec<String>,
    seeds: u64,
    trace: Option<u64>,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| {
        println!("{:10} {:4} {:>9}  longest gaps in ms, sorted: TCP; UDP", "profile", "", "target");
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
    let (mut tcp, mut udp, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..options.seeds {
        let mut scenario = Scenario::find(name).map_err(|error| error.to_string())?;
        scenario.seed = seed;
        let [gap, call, target] = run(scenario, direction, options.trace == Some(seed))?;
        tcp.push(gap.as_millis());
        udp.push(call.as_millis());
        targets.push(target.as_millis());
    }
    for list in [&mut tcp, &mut udp, &mut targets] {
        list.sort_unstable();
    }
    let arrow = if direction == Direction::Down { "down" } else { "up" };
    println!("{name:10} {arrow:4} {:>6} ms  {tcp:?}; {udp:?}", targets[targets.len() / 2]);
    Ok(())
}

/// The gaps of both flows, and the target.
fn run(mut scenario: Scenario, direction: Direction, trace: bool) -> Result<[Duration; 3], String> {
    let rate = |i: &usize| report::link_rate(&scenario.links[*i], direction);
    let best = (0..scenario.links.len())
        .max_by_key(|i| (rate(i), Reverse(scenario.links[*i].delay)))
        .ok_or("a scenario without links")?;
    let others = scenario.links.iter().enumerate().filter(|(i, _)| *i != best);
    let survivor = others.map(|(_, link)| link.delay).min().ok_or("it takes two links")?;
    let event = |at, action| Event { at: Duration::from_millis(at), link: best, action };
    scenario.events = vec![event(SILENCE, Action::Silence), event(RETURN, Action::Return)];
    let mut world = report::connected(&scenario, Mode::Speed, MEMORY, scenario.seed)?;
    world.run_until(Timestamp::from_millis(BEGIN));
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    let bulk = world.add_flow(FlowConfig::tcp(direction, mtu));
    let call = world.add_flow(FlowConfig::udp(direction, 200, 200));
    world.run_until(Timestamp::from_millis(SILENCE - BEFORE));
    let dead = sender(&mut world, direction).0.swap_remove(best);
    let target = (dead.rtt.unwrap_or_default() + dead.rtt_variation * 4) * 3 + survivor;
    while trace && world.now() < Timestamp::from_millis(SILENCE + AFTER) {
        world.run_for(Duration::from_millis(STEP));
        print_state(&mut world, direction, bulk);
    }
    world.run_until(Timestamp::from_millis(END));
    let gap = |flow| world.flow(flow).progress.longest_gap;
    Ok([gap(bulk), gap(call), target])
}

/// The sending end's paths and totals.
fn sender(world: &mut World<Bonded>, direction: Direction) -> (Vec<PathStatus>, Counters) {
    let now = world.now();
    let client = world.network.client_status(now);
    match world.network.server_status(now) {
        Some(server) if direction == Direction::Down => (server.paths, server.counters),
        _ => (client.paths, client.counters),
    }
}

fn print_state(world: &mut World<Bonded>, direction: Direction, bulk: FlowId) {
    let (paths, counters) = sender(world, direction);
    let (now, flow) = (world.now(), world.flow(bulk));
    print!(
        "{:6} ms  received {:9}  queued {:7}  kept {:7}  rescued {:5}  repaired {:5}  dropped {:3}  refused {:4}",
        now.as_micros() / 1_000,
        flow.progress.bytes,
        counters.queued_bytes,
        counters.kept_bytes,
        counters.rescued,
        counters.repaired,
        counters.ingress.dropped_delay,
        counters.ingress.repeated,
    );
    for path in &paths {
        let [capacity, rate] = [path.capacity_tx, path.tx].map(|rate| rate.as_mbps());
        print!("  | {:?} {capacity:.1} {rate:.1} {}", path.state, path.in_flight.get());
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
        options.profiles = PUBLIC_PROFILES.map(str::to_owned).to_vec();
    }
    Ok(options)
}
