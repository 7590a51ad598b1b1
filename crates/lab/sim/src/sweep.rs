//! Random link sets, for the two promises that no choice of profiles can prove: a bond is never slower than a bond of
//! its best link alone, and mostly near the sum.
//!
//! A set is two to four links, rates 1 to 300 Mbit/s for each direction by itself, delays 5 to 300 ms, often with
//! jitter, loss up to 5 %, some of it in bursts. Its seed says all; even seeds download, odd ones upload. For tests
//! that have to be quick the greatest rate can be set lower.

use core::fmt;
use core::time::Duration;

use bondwire_netem::{Burst, Rng};
use bondwire_scenario::{Link, LinkKind, Scenario};
use bondwire_units::Bitrate;
use bondwire_wire::Mode;

use crate::report;
use crate::traffic::{Direction, FlowConfig, FlowReport};

/// What fills the bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Datagrams, a tenth more than all links take: what the paths make of the links, whatever an inner TCP does.
    Greedy,
    /// One TCP flow, CUBIC.
    Cubic,
}

impl Source {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Greedy, Self::Cubic];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Cubic => "cubic",
        }
    }
}

/// How a set fared.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The set's seed.
    pub seed: u64,
    /// Its links.
    pub links: Vec<Link>,
    /// Which way the data went.
    pub direction: Direction,
    /// What filled the bond.
    pub source: Source,
    /// Over the last two thirds of the run.
    pub goodput: Bitrate,
    /// The same for a bond of the best link alone.
    pub alone: Bitrate,
    /// The links' rates together.
    pub sum: Bitrate,
}

impl Outcome {
    /// Against a bond of the best link alone.
    pub fn to_best(&self) -> f64 {
        self.goodput.as_bps() as f64 / self.alone.as_bps().max(1) as f64
    }

    /// Against the sum of the links' rates.
    pub fn to_sum(&self) -> f64 {
        self.goodput.as_bps() as f64 / self.sum.as_bps().max(1) as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.direction == Direction::Down { "down" } else { "up" };
        write!(
            f,
            "seed {:4} {:6} {way:4} {:7.2} Mbit/s, best alone {:7.2} ({:.2}), sum {:7.2} ({:.2}):",
            self.seed,
            self.source.name(),
            self.goodput.as_mbps(),
            self.alone.as_mbps(),
            self.to_best(),
            self.sum.as_mbps(),
            self.to_sum()
        )?;
        for link in &self.links {
            let rate = report::link_rate(link, self.direction).as_mbps();
            let ms = |span: Duration| span.as_millis();
            write!(f, " [{rate:.1} {}±{} {:.1}%", ms(link.delay), ms(link.jitter), link.loss * 100.0)?;
            match link.burst {
                Some(burst) => write!(f, " bursts {:.4}/{:.2}]", burst.p, burst.r)?,
                None => write!(f, "]")?,
            }
        }
        Ok(())
    }
}

/// The greatest rate of a sweep's links.
pub const MOST: Bitrate = Bitrate::from_bps(300_000_000);

/// The links of a seed, none faster than `most`.
pub fn set(seed: u64, most: Bitrate) -> Scenario {
    let mut rng = Rng::new(seed ^ 0x5ee9);
    let count = rng.between(2, 4) as usize;
    let links = (0..count).map(|number| link(&mut rng, number, most)).collect();
    Scenario { name: format!("set {seed}"), about: String::new(), seed, links, events: Vec::new() }
}

/// The direction in which a seed's data goes.
pub fn direction(seed: u64) -> Direction {
    Direction::BOTH[(seed % 2) as usize]
}

fn link(rng: &mut Rng, number: usize, most: Bitrate) -> Link {
    // Evenly over the orders of magnitude.
    let between = |rng: &mut Rng, low: f64, high: f64| low * (high / low).powf(rng.unit());
    let rate = |rng: &mut Rng| Some(Bitrate::from_mbps(between(rng, 1.0, most.as_mbps())));
    let (up, down) = (rate(rng), rate(rng));
    let delay = Duration::from_secs_f64(between(rng, 0.005, 0.3));
    let jitter = if rng.chance(0.5) { delay.mul_f64(rng.unit() * 0.5) } else { Duration::ZERO };
    let loss = if rng.chance(0.5) { between(rng, 0.0005, 0.05) } else { 0.0 };
    let burst = rng.chance(0.2).then(|| Burst { p: rng.unit() * 0.005, r: 0.2 + rng.unit() * 0.5 });
    Link {
        name: format!("link{number}"),
        kind: LinkKind::Unknown,
        up,
        down,
        delay,
        jitter: jitter.min(Duration::from_millis(25)),
        loss,
        burst,
        ..report::link(Bitrate::ZERO, Duration::ZERO)
    }
}

/// Runs a set with rates up to `most`, and its best links by themselves, for `span` each.
///
/// # Errors
/// Says why if a bond does not connect, or breaks a promise.
pub fn run(seed: u64, most: Bitrate, source: Source, span: Duration) -> Result<Outcome, String> {
    let scenario = set(seed, most);
    let direction = direction(seed);
    let sum: Bitrate = scenario.links.iter().map(|link| report::link_rate(link, direction)).sum();
    let goodput = goodput(&scenario, direction, source, sum, span)?;
    let useful = |link: &Link| report::link_rate(link, direction).as_bps() as f64 * (1.0 - link.loss);
    let most = scenario.links.iter().map(useful).fold(0.0, f64::max);
    let mut alone = Bitrate::ZERO;
    // Which link is best is found out by trying those that might be.
    for link in scenario.links.iter().filter(|link| useful(link) >= 0.8 * most) {
        let single = Scenario { links: vec![link.clone()], ..scenario.clone() };
        alone = alone.max(self::goodput(&single, direction, source, sum, span)?);
    }
    Ok(Outcome { seed, links: scenario.links, direction, source, goodput, alone, sum })
}

fn goodput(
    scenario: &Scenario,
    direction: Direction,
    source: Source,
    sum: Bitrate,
    span: Duration,
) -> Result<Bitrate, String> {
    let mut world = report::connected(scenario, Mode::Speed, report::MEMORY, scenario.seed)?;
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    let flow = world.add_flow(match source {
        Source::Cubic => FlowConfig::tcp(direction, mtu),
        Source::Greedy => FlowConfig::greedy(direction, mtu, sum * 1.1),
    });
    world.run_for(span / 3);
    let earlier: FlowReport = world.flow(flow);
    world.run_for(span - span / 3);
    if let Some(violation) = world.violations().first() {
        return Err(format!("{}: {violation}", scenario.name));
    }
    Ok(world.flow(flow).rate_since(&earlier, span - span / 3))
}

/// Least, fifth percentile, median and 95th percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// The least value.
    pub min: f64,
    /// The fifth percentile.
    pub p5: f64,
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
}

impl Distribution {
    /// Of these values; none if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| values[(last as f64 * share).round() as usize];
        Some(Self { min: values[0], p5: at(0.05), median: at(0.5), p95: at(0.95) })
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, p5, median, p95 } = self;
        write!(f, "min {min:.3}  p5 {p5:.3}  median {median:.3}  p95 {p95:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_claim() {
        for seed in 0..200 {
            let scenario = set(seed, MOST);
            assert!((2..=4).contains(&scenario.links.len()));
            for link in &scenario.links {
                for direction in Direction::BOTH {
                    let rate = report::link_rate(link, direction).as_mbps();
                    assert!((1.0..=300.0).contains(&rate), "{rate}");
                }
                let delay = link.delay.as_secs_f64();
                assert!((0.0049..=0.3).contains(&delay) && link.jitter < link.delay && link.loss <= 0.05);
            }
        }
    }

    #[test]
    fn distributions() {
        let all = Distribution::of((0..=100).map(f64::from).collect()).unwrap();
        assert_eq!((all.min, all.p5, all.median, all.p95), (0.0, 5.0, 50.0, 95.0));
        assert_eq!(Distribution::of(Vec::new()), None);
    }
}
