use std::time::Duration;

use bondwire_netns::traffic::{Direction, ProbeOptions, ProbeReport};
use bondwire_scenario::Scenario;

use super::delay::quickest;
use crate::figure::delay;
use crate::fixture::{ms, seconds};
use crate::{BenchError, Figure, Stand, Unit, Way};

/// A share of the packets, in percent, and milliseconds more than on the best idle link.
const LOST: f64 = 0.1;
const LATER: f64 = 20.0;
/// The most that the bytes of a flow may grow, in percent.
const EXTRA: f64 = 40.0;
/// IPv4 and UDP.
const HEADERS: usize = 28;
/// How long a flow runs alone, to count its bytes.
const ALONE: Duration = seconds(5);

/// A flow: its name, the size of its IP packets, and the time from one to the next.
const FLOWS: [(&str, usize, Duration); 2] =
    [("200/s of 1,250 bytes", 1250, ms(5)), ("50/s of 1,000 bytes", 1000, ms(20))];

/// The targets name one profile.
pub(super) fn is_for(scenario: &Scenario) -> bool {
    scenario.name == "event"
}

/// Two kinds of streams in mode `streaming`, each beside one TCP flow: loss, delay, and what protecting them costs.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let all = stand.links();
    let (_, idle) = quickest(stand, direction, 0.99)?;
    let way = Way::default();
    let length = stand.settings().length;
    let (reports, protected) = stand.bonded("streaming", &all, |stand| {
        let mut reports = Vec::new();
        for (_, size, interval) in FLOWS {
            let bulk = stand.bulk(&way, direction, length)?;
            let report = stand.flow(&way, flow(size, interval, direction, length))?.finish()?;
            drop(bulk);
            reports.push(report.between(length / 3, length));
        }
        Ok((reports, costs(stand, direction)?))
    })?;
    let bare = stand.bonded("speed", &all, |stand| costs(stand, direction))?;
    let mut figures = Vec::new();
    for (at, (name, ..)) in FLOWS.iter().enumerate() {
        let report: &ProbeReport = &reports[at];
        let extra = (protected[at] / bare[at].max(1.0) - 1.0) * 100.0;
        figures.extend([
            Figure::new(format!("{name}: lost"), report.loss() * 100.0, Unit::Percent).at_most(LOST),
            Figure::new(format!("{name}: p99"), delay(report, 0.99), Unit::Ms).at_most(idle + LATER),
            Figure::new(format!("{name}: extra bytes, alone, to mode speed"), extra, Unit::Percent)
                .at_most(EXTRA),
        ]);
    }
    figures.push(Figure::new("best idle link, p99", idle, Unit::Ms));
    Ok(figures)
}

fn flow(size: usize, interval: Duration, direction: Direction, duration: Duration) -> ProbeOptions {
    ProbeOptions { direction, interval, size: size - HEADERS, duration, ..ProbeOptions::default() }
}

/// Bytes that each kind of flow, alone in the bond, puts on all links in its direction.
fn costs(stand: &Stand, direction: Direction) -> Result<Vec<f64>, BenchError> {
    let mut costs = Vec::new();
    for (_, size, interval) in FLOWS {
        let before = taken(stand, direction)?;
        stand.flow(&Way::default(), flow(size, interval, direction, ALONE))?.finish()?;
        costs.push((taken(stand, direction)? - before) as f64);
    }
    Ok(costs)
}

fn taken(stand: &Stand, direction: Direction) -> Result<u64, BenchError> {
    let links = stand.links();
    links.iter().map(|link| Ok(stand.carried(link, direction)?.0)).sum()
}
