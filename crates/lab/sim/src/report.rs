//! Goodput in the terms of the targets: ONE inner TCP flow, over the last two thirds of a run, as a share of the sum of
//! the links' rates and of what the best link alone gives.

use core::time::Duration;

use bondwire_bond::PathStatus;
use bondwire_scenario::{Link, LinkKind, Scenario};
use bondwire_units::{Bitrate, ByteCount, Timestamp};
use bondwire_wire::Mode;

use crate::bonded::Bonded;
use crate::network::{Network, Plain};
use crate::tcp::{SenderCounters, TcpConfig};
use crate::traffic::{Direction, FlowConfig, FlowReport};
use crate::world::World;

/// Memory for the queues of each end.
pub const MEMORY: ByteCount = ByteCount::new(64 << 20);
/// A bond that is not connected after this long does not connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Goodput {
    /// Over the last two thirds.
    pub rate: Bitrate,
    /// The sum of the links' rates in this direction.
    pub sum: Bitrate,
    /// The longest time in which nothing arrived.
    pub longest_gap: Duration,
    /// What the inner TCP sender did.
    pub sender: SenderCounters,
    /// The sending end's paths at the end of the run; none over a plain link.
    pub paths: Vec<PathStatus>,
}

impl Goodput {
    /// The share of the links' sum.
    pub fn share(&self) -> f64 {
        self.rate.as_bps() as f64 / self.sum.as_bps().max(1) as f64
    }
}

/// A plain link: this rate in both directions, this delay one way, nothing else.
pub fn link(rate: Bitrate, delay: Duration) -> Link {
    Link {
        name: "link".into(),
        kind: LinkKind::Unknown,
        up: Some(rate),
        down: Some(rate),
        delay,
        jitter: Duration::ZERO,
        jitter_reorders: false,
        loss: 0.0,
        burst: None,
        queue: None,
        reorder: 0.0,
        duplicate: 0.0,
        trace_up: None,
        trace_down: None,
        policer_up: None,
        policer_down: None,
        grants: Duration::ZERO,
        nat: false,
        v4: true,
        v6: false,
        mtu: 1500,
    }
}

/// A link's rate in one direction: of a trace, its mean.
pub fn link_rate(link: &Link, direction: Direction) -> Bitrate {
    let (up, down) = link.pipes();
    let pipe = if direction == Direction::Up { up } else { down };
    pipe.trace.map(|trace| trace.mean_rate()).or(pipe.rate).unwrap_or_default()
}

/// One TCP flow over the bond of a scenario's links, events included.
///
/// # Errors
/// Says why if the bond does not connect, or breaks a promise.
pub fn bonded(
    scenario: &Scenario,
    direction: Direction,
    mode: Mode,
    span: Duration,
) -> Result<Goodput, String> {
    let mut world = connected(scenario, mode, MEMORY, scenario.seed)?;
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    let (report, earlier, span) = one_flow(&mut world, direction, mtu, span);
    if let Some(violation) = world.violations().first() {
        return Err(format!("{}: {violation}", scenario.name));
    }
    let now = world.now();
    let paths = if direction == Direction::Up {
        world.network.client_status(now).paths
    } else {
        world.network.server_status(now).map(|status| status.paths).unwrap_or_default()
    };
    let sum = scenario.links.iter().map(|link| link_rate(link, direction)).sum();
    Ok(Goodput {
        rate: report.rate_since(&earlier, span),
        sum,
        longest_gap: report.progress.longest_gap,
        sender: report.sender,
        paths,
    })
}

/// One flow like QUIC over the bond of a scenario's links, events included: `rate` is what arrived for the first time, in IP bytes.
///
/// # Errors
/// Says why if the bond does not connect, or breaks a promise.
pub fn quic(
    scenario: &Scenario,
    direction: Direction,
    mode: Mode,
    span: Duration,
) -> Result<Goodput, String> {
    let mut world = connected(scenario, mode, MEMORY, scenario.seed)?;
    let flow = world.add_flow(FlowConfig::Quic { direction });
    world.run_for(span / 3);
    let earlier = world.flow(flow);
    world.run_for(span - span / 3);
    if let Some(violation) = world.violations().first() {
        return Err(format!("{}: {violation}", scenario.name));
    }
    let report = world.flow(flow);
    Ok(Goodput {
        rate: report.rate_since(&earlier, span - span / 3),
        sum: scenario.links.iter().map(|link| link_rate(link, direction)).sum(),
        longest_gap: report.progress.longest_gap,
        sender: report.sender,
        paths: Vec::new(),
    })
}

/// A world whose bond is connected, with all its paths given time to be validated.
///
/// # Errors
/// If the bond is not connected after ten seconds.
pub fn connected(
    scenario: &Scenario,
    mode: Mode,
    memory: ByteCount,
    seed: u64,
) -> Result<World<Bonded>, String> {
    let mut world = World::new(Bonded::new(scenario, mode, memory, seed), scenario.events.clone());
    let step = Duration::from_millis(50);
    while !world.network.is_connected(world.now()) {
        if world.now() >= Timestamp::ZERO + CONNECT {
            return Err(format!("{}: not connected after {CONNECT:?}", scenario.name));
        }
        world.run_for(step);
    }
    Ok(world)
}

/// One TCP flow over one link without a bond.
pub fn plain(link: &Link, direction: Direction, seed: u64, span: Duration) -> Goodput {
    let mut world = World::new(Plain::new(link.clone(), seed), Vec::new());
    let (report, earlier, span) = one_flow(&mut world, direction, link.mtu, span);
    Goodput {
        rate: report.rate_since(&earlier, span),
        sum: link_rate(link, direction),
        longest_gap: report.progress.longest_gap,
        sender: report.sender,
        paths: Vec::new(),
    }
}

/// The best of all links, each without a bond.
pub fn best_link(scenario: &Scenario, direction: Direction, span: Duration) -> Option<(String, Goodput)> {
    let run = |link: &Link| (link.name.clone(), plain(link, direction, scenario.seed, span));
    scenario.links.iter().map(run).max_by_key(|(_, goodput)| goodput.rate)
}

fn one_flow<N: Network>(
    world: &mut World<N>,
    direction: Direction,
    mtu: u16,
    span: Duration,
) -> (FlowReport, FlowReport, Duration) {
    let tcp = TcpConfig { mtu, ..TcpConfig::default() };
    let flow = world.add_flow(FlowConfig::Tcp { direction, tcp });
    world.run_for(span / 3);
    let earlier = world.flow(flow);
    world.run_for(span - span / 3);
    (world.flow(flow), earlier, span - span / 3)
}

/// Goodput and delay under load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// One TCP flow, with a call beside it, over the last two thirds.
    pub one: Bitrate,
    /// Eight TCP flows together.
    pub eight: Bitrate,
    /// The links' rates together.
    pub sum: Bitrate,
    /// The delay that 95 % of the call's packets (200 a second) stay below beside the one flow; none if more of them are lost.
    pub call: Option<Duration>,
    /// The same before the flow begins.
    pub idle: Option<Duration>,
}

/// Loads the bond of a scenario's links with one flow and a call, and with eight flows, for `span` each.
///
/// # Errors
/// If the bond does not connect, or breaks a promise.
pub fn load(scenario: &Scenario, direction: Direction, span: Duration) -> Result<Load, String> {
    let mut world = connected(scenario, Mode::Speed, MEMORY, scenario.seed)?;
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    world.run_for(Duration::from_millis(500));
    let call = world.add_flow(FlowConfig::udp(direction, 200, 200));
    let call = world.flow(call).data;
    let begun = world.now();
    world.run_for(Duration::from_secs(2));
    let tail = Duration::from_secs(1);
    let loaded = world.now();
    let tcp = world.add_flow(FlowConfig::tcp(direction, mtu));
    world.run_for(span / 3);
    let (settled, earlier) = (world.now(), world.flow(tcp));
    world.run_for(span - span / 3);
    let one = world.flow(tcp).rate_since(&earlier, span - span / 3);
    let delay = |from, to| world.ledger().delay_quantile(call, 0.95, from, to);
    let (idle, call) =
        (delay(begun, loaded.saturating_sub(tail)), delay(settled, world.now().saturating_sub(tail)));
    if let Some(violation) = world.violations().first() {
        return Err(format!("{}: {violation}", scenario.name));
    }
    let mut world = connected(scenario, Mode::Speed, MEMORY, scenario.seed)?;
    let flows: Vec<_> = (0..8).map(|_| world.add_flow(FlowConfig::tcp(direction, mtu))).collect();
    world.run_for(span / 3);
    let earlier: Vec<_> = flows.iter().map(|&flow| world.flow(flow)).collect();
    world.run_for(span - span / 3);
    let rates =
        flows.iter().zip(&earlier).map(|(&f, before)| world.flow(f).rate_since(before, span - span / 3));
    let eight = rates.sum();
    let sum = scenario.links.iter().map(|link| link_rate(link, direction)).sum();
    Ok(Load { one, eight, sum, call, idle })
}
