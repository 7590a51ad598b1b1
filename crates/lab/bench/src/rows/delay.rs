use bondwire_netns::traffic::{Direction, Probe, ProbeReport, Timeline};

use crate::figure::delay;
use crate::fixture::seconds;
use crate::stand::late_goodput;
use crate::{BenchError, Figure, Stand, Unit, Way, peers};

/// How much later a packet may be than on the idle link with the least delay, in milliseconds.
const ALLOWED: f64 = 15.0;
/// How much of its goodput the TCP flow keeps.
const KEPT: f64 = 0.9;

/// The one-way delay of a UDP flow of 200 packets a second beside one TCP flow, and what that flow pays for it.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let (_, idle) = quickest(stand, direction, 0.95)?;
    let sum = stand.sum(direction);
    let way = Way::default();
    let all = stand.links();
    // A bond that has run knows its links, and would have an advantage: each gets a new one.
    let alone = stand.bonded("speed", &all, |stand| stand.goodput(&way, direction))?;
    let (beside, report) = stand.bonded("speed", &all, |stand| both(stand, &way, &way, direction))?;
    let kept = late_goodput(&beside, stand.settings().length) / alone.max(1.0);
    let mut figures = vec![
        Figure::new("UDP beside one TCP flow, p50", delay(&report, 0.5), Unit::Ms),
        Figure::new("UDP beside one TCP flow, p95", delay(&report, 0.95), Unit::Ms).at_most(idle + ALLOWED),
        Figure::new("UDP beside one TCP flow, lost", report.loss() * 100.0, Unit::Percent),
        Figure::new("goodput that TCP keeps", kept, Unit::Ratio).at_least(KEPT),
        Figure::new("best idle link, p95", idle, Unit::Ms),
    ];
    figures.extend(peers::measure(
        stand,
        direction,
        |_| true,
        |peer, way| {
            let (beside_it, report) = both(stand, way, way, direction)?;
            let share = late_goodput(&beside_it, stand.settings().length) / sum;
            let beside = if way.multipath.is_some() { "UDP on the best link beside it" } else { "UDP" };
            let name = |what: &str| format!("{}: {beside}, {what}", peer.label());
            Ok(vec![
                Figure::new(name("p95"), delay(&report, 0.95), Unit::Ms),
                Figure::new(name("lost"), report.loss() * 100.0, Unit::Percent),
                Figure::new(format!("{}: TCP, of the sum", peer.label()), share, Unit::Ratio),
            ])
        },
    ));
    Ok(figures)
}

/// A TCP flow and a UDP flow at the same time; of the latter what was sent in the last two thirds.
fn both(
    stand: &Stand,
    tcp: &Way,
    udp: &Way,
    direction: Direction,
) -> Result<(Timeline, ProbeReport), BenchError> {
    let length = stand.settings().length;
    let bulk = stand.bulk(tcp, direction, length)?;
    let report = stand.probe(udp, direction, length)?.finish()?;
    Ok((bulk.finish()?.timeline, report.between(length / 3, length)))
}

/// The idle link that delivers this share of the packets soonest, and within how many milliseconds. All are asked at
/// once, which is no load: bond and rivals are down.
pub(super) fn quickest(stand: &Stand, direction: Direction, share: f64) -> Result<(String, f64), BenchError> {
    let mut best = (String::new(), f64::INFINITY);
    for (name, report) in idle(stand, direction)? {
        let value = delay(&report, share);
        if value < best.1 || best.0.is_empty() {
            best = (name, value);
        }
    }
    Ok(best)
}

/// What a UDP flow of 200 packets a second meets on each idle link, for 4 s.
pub(super) fn idle(stand: &Stand, direction: Direction) -> Result<Vec<(String, ProbeReport)>, BenchError> {
    let start = |name: String| {
        let probe = stand.probe(&Way::interface(&name), direction, seconds(4))?;
        Ok((name, probe))
    };
    let probes =
        stand.links().into_iter().map(start).collect::<Result<Vec<(String, Probe)>, BenchError>>()?;
    probes.into_iter().map(|(name, probe)| Ok((name, probe.finish()?))).collect()
}
