use std::time::Duration;

use bondwire_netns::now;
use bondwire_netns::traffic::{Direction, ProbeReport};
use bondwire_scenario::Link;

use super::delay::idle;
use super::need_several;
use crate::figure::{delay, gap, millis};
use crate::fixture::seconds;
use crate::stand::{rate, sleep_until};
use crate::{BenchError, Figure, Stand, Unit, Way};

const BEFORE: Duration = seconds(4);
const SILENCE: Duration = seconds(4);
/// From one packet of the flow to the next, and what a gap may be longer than that, in milliseconds.
const INTERVAL: f64 = 5.0;
const ALLOWED: f64 = 20.0;
/// How much later a packet may be than over the better link alone, in milliseconds.
const LATER: f64 = 1.0;

/// A UDP flow over the two fastest links in mode `redundant`, of which the quicker one dies.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    need_several(stand)?;
    let (victim, survivor) = pair(stand, direction);
    let alone: Vec<(String, ProbeReport)> = idle(stand, direction)?;
    let of = |link: &Link| alone.iter().find(|(name, _)| *name == link.name).map(|(_, report)| report);
    let (Some(of_victim), Some(of_survivor)) = (of(&victim), of(&survivor)) else {
        return Err(BenchError::Scenario("a link was not measured".to_owned()));
    };
    let names = [victim.name.clone(), survivor.name.clone()];
    let (report, silent, end) = stand.bonded("redundant", &names, |stand| {
        let probe = stand.probe(&Way::default(), direction, BEFORE + SILENCE + seconds(1))?;
        let start = now();
        sleep_until(start + BEFORE);
        let silent = now();
        stand.lab().silence(&victim.name)?;
        sleep_until(silent + SILENCE);
        let end = now();
        stand.lab().restore(&victim.name)?;
        Ok((probe.finish()?, silent, end))
    })?;
    let during = report.between(silent.since(report.started), end.since(report.started));
    // Packets under way on the dead link and on the survivor: the wider of the two delays apart.
    let spread = millis(survivor.delay.abs_diff(victim.delay));
    let is_twin = stand.scenario().name == "twin";
    let most = if is_twin { INTERVAL + ALLOWED } else { (spread + ALLOWED).max(INTERVAL + ALLOWED) };
    let lost = if is_twin { 0.0 } else { of_survivor.loss() * during.sent as f64 };
    let mut figures = vec![
        Figure::new("lost while one of two links is dead", during.lost() as f64, Unit::Packets)
            .at_most(lost.ceil()),
        Figure::new("longest gap, UDP", gap(&report, silent, end), Unit::Ms).at_most(most),
    ];
    let whole = report.between(seconds(1), BEFORE);
    for (share, name) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")] {
        let better = delay(of_victim, share).min(delay(of_survivor, share));
        figures.push(
            Figure::new(format!("delay while both live, {name}"), delay(&whole, share), Unit::Ms)
                .at_most(better + LATER),
        );
    }
    Ok(figures)
}

/// The two links with the highest rates, the quicker one first.
fn pair(stand: &Stand, direction: Direction) -> (Link, Link) {
    let mut links = stand.scenario().links.clone();
    links.sort_by_key(|link| (std::cmp::Reverse(rate(link, direction) as u64), link.delay));
    let mut two = links.into_iter().take(2);
    let (first, second) = (two.next().expect("two links"), two.next().expect("two links"));
    if second.delay < first.delay { (second, first) } else { (first, second) }
}
