//! One function per row. What each figure means stands in docs/benchmarks.md.

use std::time::Duration;

use super::Rival;
use super::ground::{Ground, LINKS, PROXY, connections};
use super::load::{self, DOWN, SHORT, Target, Work};
use super::rival::Running;
use crate::figure::millis;
use crate::fixture::seconds;
use crate::{BenchError, Figure, Unit};

/// What each contestant gets at a time, and how often.
const SLICE: Duration = seconds(1);
const ROUNDS: usize = 2;
const DOWNLOADS: usize = 4;
/// How long a contestant is measured in one run.
pub const LENGTH: Duration = seconds(SLICE.as_secs() * ROUNDS as u64);
/// Connects whose times are taken, and how many at a time.
const CONNECTS: usize = 5_000;
const BATCH: usize = 1_000;
/// Open connections of the row `memory`, and what the process may hold with them.
const OPEN: usize = 10_000;
const MEGABYTES: f64 = 200.0;
/// The policy sees them for so long before the memory is read.
const SETTLE: Duration = seconds(3);

/// One row.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Whether it fills the processors on purpose.
    pub(super) is_full: bool,
    /// Measures it once.
    pub(super) run: fn(&mut Ground, &[Rival]) -> Result<Vec<Figure>, BenchError>,
}

/// All rows, in the order of the targets.
pub const ROWS: &[Row] = &[
    Row { name: "proxy", is_full: true, run: proxy },
    Row { name: "connects", is_full: true, run: connects },
    Row { name: "proxy-delay", is_full: false, run: proxy_delay },
    Row { name: "transparent", is_full: true, run: transparent },
    Row { name: "transparent-delay", is_full: false, run: transparent_delay },
    Row { name: "memory", is_full: false, run: memory },
];

/// A proxy that is measured.
struct Contestant {
    /// None is bondwire itself.
    rival: Option<Running>,
    process: u32,
    proxy: std::net::SocketAddr,
}

impl Contestant {
    fn label(&self) -> &'static str {
        self.rival.as_ref().map_or("bondwire", |running| running.rival.label())
    }
}

/// Starts bondwire's proxy and all rivals; bondwire stands first.
fn contestants(ground: &mut Ground, rivals: &[Rival]) -> Result<Vec<Contestant>, BenchError> {
    let process = ground.balance(&["--proxy", &PROXY.to_string()]);
    let mut all = vec![Contestant { rival: None, process, proxy: PROXY }];
    for rival in rivals {
        let running = rival.start(ground)?;
        all.push(Contestant { process: running.id(), proxy: running.proxy, rival: Some(running) });
    }
    Ok(all)
}

/// Gives each contestant its slices by turns, and adds them up.
fn by_turns<C>(
    contestants: &[C],
    mut slice: impl FnMut(&C) -> Result<Work, BenchError>,
) -> Result<Vec<Work>, BenchError> {
    let mut sums = vec![Work::default(); contestants.len()];
    for _ in 0..ROUNDS {
        for (sum, contestant) in sums.iter_mut().zip(contestants) {
            *sum = sum.and(slice(contestant)?);
        }
    }
    Ok(sums)
}

/// Bytes per processor second of the proxy, and how fast it was.
fn proxy(ground: &mut Ground, rivals: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    let all = contestants(ground, rivals)?;
    let works = by_turns(&all, |contestant| {
        let target = ground.target(DOWN).through(contestant.proxy);
        load::download(&ground.client, vec![target; DOWNLOADS], Some(contestant.process), SLICE)
    })?;
    ground.stop();
    let mut figures = Vec::new();
    for (contestant, work) in all.iter().zip(&works) {
        let label = contestant.label();
        let value = work.gigabytes_per_processor_second();
        figures.push(Figure::new(format!("{label}: per processor second"), value, Unit::Gigabytes));
        if let Some(running) = &contestant.rival {
            let times = works[0].gigabytes_per_processor_second() / value;
            let figure = Figure::new(format!("bondwire × {label}, the same"), times, Unit::Ratio);
            figures.push(figure.at_least(running.rival.bytes_target()));
        }
        figures.push(Figure::new(format!("{label}: rate"), work.gigabits_per_second(), Unit::Gbps));
    }
    Ok(figures)
}

/// Short connections per second, all processors being used by clients, proxy and web host.
fn connects(ground: &mut Ground, rivals: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    const TIMES: f64 = 1.2;
    let all = contestants(ground, rivals)?;
    let mut figures = Vec::new();
    for clients in [4, 8] {
        let works = by_turns(&all, |contestant| {
            let target = ground.target(SHORT).through(contestant.proxy);
            load::exchange(&ground.client, &target, clients, Some(contestant.process), SLICE)
        })?;
        for (contestant, work) in all.iter().zip(&works) {
            let (label, value) = (contestant.label(), work.connects_per_second());
            figures.push(Figure::new(
                format!("{label}: {clients} clients, connects"),
                value,
                Unit::PerSecond,
            ));
            if contestant.rival.is_some() {
                let times = works[0].connects_per_second() / value;
                let name = format!("bondwire × {label}, {clients} clients");
                figures.push(Figure::new(name, times, Unit::Ratio).at_least(TIMES));
            }
            let value = work.connects_per_processor_second();
            let name = format!("{label}: {clients} clients, connects per processor second");
            figures.push(Figure::new(name, value, Unit::PerSecond));
        }
    }
    ground.stop();
    Ok(figures)
}

/// The two percentiles that are spoken of, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> [(&'static str, f64); 2] {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    [("p50", millis(at(0.5))), ("p99", millis(at(0.99)))]
}

/// Connect times of some way and what they are more than `direct`, p99 at most `most`.
fn added(label: &str, direct: &[(&str, f64); 2], way: &[(&str, f64); 2], most: Option<f64>) -> Vec<Figure> {
    let pairs = direct.iter().zip(way);
    let figures = pairs.map(|((name, direct), (_, time))| {
        let figure = Figure::new(format!("{label}: connect time added, {name}"), time - direct, Unit::FineMs);
        match most {
            Some(most) if *name == "p99" => figure.at_most(most),
            _ => figure,
        }
    });
    figures.collect()
}

/// What a connect through each proxy takes longer, one at a time.
fn proxy_delay(ground: &mut Ground, rivals: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    let all = contestants(ground, rivals)?;
    let straight = ground.target(SHORT);
    let mut ways = vec![straight.clone()];
    ways.extend(all.iter().map(|contestant| straight.through(contestant.proxy)));
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..CONNECTS / BATCH {
        for (times, way) in times.iter_mut().zip(&ways) {
            times.extend(load::connect_times(&ground.client, way, BATCH)?);
        }
    }
    ground.stop();
    let mut times = times.into_iter().map(percentiles);
    let direct = times.next().expect("direct ones stand first");
    let mut figures: Vec<Figure> = direct.map(|(name, time)| direct_figure(name, time)).into();
    for (contestant, times) in all.iter().zip(times) {
        let most = contestant.rival.is_none().then_some(3.0);
        figures.extend(added(contestant.label(), &direct, &times, most));
    }
    Ok(figures)
}

fn direct_figure(name: &str, time: f64) -> Figure {
    Figure::new(format!("direct: connect time, {name}"), time, Unit::FineMs)
}

/// Downloads that know nothing of bondwire, beside the same ones spread by hand while it is not there.
fn transparent(ground: &mut Ground, _: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    let straight = ground.target(DOWN);
    let by_hand: Vec<Target> = (0..DOWNLOADS)
        .map(|at| Target { interface: Some(LINKS[at % LINKS.len()]), ..straight.clone() })
        .collect();
    let (mut direct, mut led) = (Work::default(), Work::default());
    for _ in 0..ROUNDS {
        direct = direct.and(load::download(&ground.client, by_hand.clone(), None, SLICE)?);
        ground.balance(&["--transparent"]);
        led = led.and(load::download(&ground.client, vec![straight.clone(); DOWNLOADS], None, SLICE)?);
        ground.stop();
    }
    let (direct, led) = (direct.gigabits_per_second(), led.gigabits_per_second());
    Ok(vec![
        Figure::new("direct, spread by hand: rate", direct, Unit::Gbps),
        Figure::new("transparent: rate", led, Unit::Gbps),
        Figure::new("transparent, of direct", led / direct, Unit::Ratio).at_least(0.95),
    ])
}

/// What a connect takes longer that a program in the kernel leads, one at a time.
fn transparent_delay(ground: &mut Ground, _: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    let straight = ground.target(SHORT);
    let (mut direct, mut led) = (Vec::new(), Vec::new());
    let rounds = 2;
    for _ in 0..rounds {
        direct.extend(load::connect_times(&ground.client, &straight, CONNECTS / rounds)?);
        ground.balance(&["--transparent"]);
        led.extend(load::connect_times(&ground.client, &straight, CONNECTS / rounds)?);
        ground.stop();
    }
    let (direct, led) = (percentiles(direct), percentiles(led));
    let mut figures: Vec<Figure> = direct.map(|(name, time)| direct_figure(name, time)).into();
    figures.extend(added("transparent", &direct, &led, Some(1.0)));
    Ok(figures)
}

/// What the daemon holds with many open connections through its proxy.
fn memory(ground: &mut Ground, _: &[Rival]) -> Result<Vec<Figure>, BenchError> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    ground.balance(&["--proxy", &PROXY.to_string()]);
    let before = megabytes(ground.memory());
    let wanted = OPEN.min(connections());
    let held = load::hold(&ground.client, ground.target(SHORT).through(PROXY), wanted)?;
    let count = held.len() as f64;
    std::thread::sleep(SETTLE);
    let with = megabytes(ground.memory());
    drop(held);
    ground.stop();
    Ok(vec![
        Figure::new("open connections", count, Unit::Packets).at_least(OPEN as f64),
        Figure::new("resident before", before, Unit::Megabytes),
        Figure::new("resident with them", with, Unit::Megabytes).at_most(MEGABYTES),
        Figure::new(
            "resident with 10,000, in proportion",
            before + (with - before) * OPEN as f64 / count.max(1.0),
            Unit::Megabytes,
        )
        .at_most(MEGABYTES),
    ])
}
