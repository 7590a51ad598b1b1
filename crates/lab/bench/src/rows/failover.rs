use std::time::Duration;

use bondwire_api::LinkStatus;
use bondwire_netns::now;
use bondwire_netns::traffic::Direction;
use bondwire_scenario::Link;
use bondwire_units::Timestamp;

use super::{need_several, others};
use crate::figure::{gap, millis};
use crate::fixture::{ms, seconds};
use crate::stand::sleep_until;
use crate::{BenchError, Figure, Peer, Stand, Unit, Way, peers};

/// How long the link is silent, and what comes before and after.
const BEFORE: Duration = seconds(4);
const SILENCE: Duration = seconds(4);
const AFTER: Duration = seconds(2);

/// What a silence did to the flows.
#[derive(Clone, Copy, Debug)]
struct Gaps {
    tcp: f64,
    udp: f64,
}

/// The longest pause of a TCP flow and of a UDP flow beside it from the moment at which the best link falls silent until
/// two seconds after its return.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    need_several(stand)?;
    let (victim, all) = (stand.best(direction), stand.links());
    let profile = stand.scenario().name.clone();
    let survivors = others(stand, &victim.name);
    let (gaps, target) = stand.bonded("speed", &all, |stand| {
        let mut states = Vec::new();
        let gaps =
            silence(stand, &Way::default(), &victim.name, direction, |stand| states = stand.link_states())?;
        let state = states.into_iter().find(|state| state.name == victim.name);
        Ok((gaps, allowed(&profile, &victim, state.as_ref(), &survivors)))
    })?;
    let mut figures = vec![
        Figure::new("longest gap, TCP", gaps.tcp, Unit::Ms).at_most(target.tcp),
        Figure::new("longest gap, UDP", gaps.udp, Unit::Ms).at_most(target.udp),
    ];
    figures.extend(peers::measure(stand, direction, Peer::is_bond, |peer, way| {
        let gaps = silence(stand, way, &victim.name, direction, |_| {})?;
        let figure =
            |what: &str, gap| Figure::new(format!("{}: longest gap, {what}", peer.label()), gap, Unit::Ms);
        let tcp = figure("TCP", gaps.tcp);
        Ok(if way.multipath.is_some() { vec![tcp] } else { vec![tcp, figure("UDP", gaps.udp)] })
    }));
    Ok(figures)
}

/// Both flows, and the silence in their midst; `look` comes just before it.
fn silence(
    stand: &Stand,
    way: &Way,
    victim: &str,
    direction: Direction,
    look: impl FnOnce(&Stand),
) -> Result<Gaps, BenchError> {
    let limit = BEFORE + SILENCE + AFTER;
    let bulk = stand.bulk(way, direction, limit + seconds(1))?;
    let probe = stand.probe(way, direction, limit + ms(500))?;
    let start = now();
    sleep_until(start + BEFORE);
    look(stand);
    let silent = now();
    stand.lab().silence(victim)?;
    sleep_until(silent + SILENCE);
    stand.lab().restore(victim)?;
    let end = silent + SILENCE + AFTER;
    sleep_until(end);
    let (timeline, report) = (bulk.finish()?.timeline, probe.finish()?);
    let since = |time: Timestamp| time.since(timeline.start());
    Ok(Gaps { tcp: millis(timeline.longest_gap(since(silent), since(end))), udp: gap(&report, silent, end) })
}

/// 250 and 150 ms on twin and home; elsewhere 3 × (the dead path's SRTT + 4 RTTVAR) + the survivor's delay. Without a
/// measured round trip that of the scenario counts.
fn allowed(profile: &str, victim: &Link, state: Option<&LinkStatus>, survivors: &[Link]) -> Gaps {
    if matches!(profile, "twin" | "home") {
        return Gaps { tcp: 250.0, udp: 150.0 };
    }
    let rtt = state.and_then(|state| state.rtt_ms).unwrap_or(2.0 * millis(victim.delay));
    let variation = state.and_then(|state| state.jitter_ms).unwrap_or(millis(victim.jitter));
    let survivor = survivors.iter().map(|link| millis(link.delay)).fold(f64::INFINITY, f64::min);
    let both = 3.0 * (rtt + 4.0 * variation) + survivor;
    Gaps { tcp: both, udp: both }
}

#[cfg(test)]
mod tests {
    use bondwire_scenario::Scenario;

    use super::*;

    #[test]
    fn the_target_follows_from_the_links() {
        let event = Scenario::builtin("event").expect("a profile");
        let links = &event.links;
        assert_eq!(allowed("home", &links[0], None, &links[1..]).tcp, 250.0);
        // 3 × (80 + 4 × 10) + 50
        assert_eq!(allowed("event", &links[0], None, &links[1..]).udp, 410.0);
    }
}
