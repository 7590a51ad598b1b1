use std::time::Duration;

use bondwire_netns::now;
use bondwire_netns::traffic::{Bulk, Direction, ProbeOptions, Timeline};
use bondwire_scenario::Change;
use bondwire_units::{Bitrate, Timestamp};

use crate::figure::{delay, millis, unrest};
use crate::fixture::{ms, seconds};
use crate::stand::rate;
use crate::{BenchError, Figure, Series, Stand, Unit, Way};

const BEFORE: Duration = seconds(6);
/// The part before a change that says what is usual.
const USUAL: Duration = seconds(2);
const HALVED: Duration = seconds(6);
const DOUBLED: Duration = seconds(10);
const FLOWS: usize = 8;
/// Over how long what a link is offered is looked at, and how near its rate it has to be. Probing goes over it for a
/// round trip.
const OFFERED_WINDOW: Duration = seconds(1);
const OFFERED: f64 = 1.1;
/// The same for the goodput.
const GOODPUT_WINDOW: Duration = ms(500);
const ENOUGH: f64 = 0.9;
/// How much the delay may rise before it counts as a queue, in milliseconds.
const RISE: f64 = 15.0;

/// The best link's rate is halved, and doubled again, under eight TCP flows.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let (link, all) = (stand.best(direction), stand.links());
    let round_trip = 2.0 * link.delay.as_secs_f64();
    let full = rate(&link, direction);
    let to = |rate: f64| {
        let rate = Some(Bitrate::from_bps(rate as u64));
        match direction {
            Direction::Up => Change { up: rate, ..Change::default() },
            Direction::Down => Change { down: rate, ..Change::default() },
        }
    };
    let (half, whole) = (to(full / 2.0), to(full));
    stand.bonded("speed", &all, |stand| {
        let way = Way::default();
        let length = BEFORE + HALVED + DOUBLED;
        let start = now();
        let flows: Vec<Bulk> = (0..FLOWS)
            .map(|_| stand.bulk(&way, direction, length + seconds(1)))
            .collect::<Result<_, BenchError>>()?;
        let options = ProbeOptions { direction, duration: length, ..ProbeOptions::default() };
        let probe = stand.flow(&way, options)?;
        let mut readings = stand.watch(&link.name, direction, start + BEFORE)?;
        stand.lab().change(&link.name, &half)?;
        let halved = now();
        readings.extend(stand.watch(&link.name, direction, halved + HALVED)?);
        stand.lab().change(&link.name, &whole)?;
        let doubled = now();
        readings.extend(stand.watch(&link.name, direction, doubled + DOUBLED)?);

        let timelines: Vec<Timeline> =
            flows.into_iter().map(|flow| Ok(flow.finish()?.timeline)).collect::<Result<_, BenchError>>()?;
        let report = probe.finish()?;
        let since = |time: Timestamp| time.since(report.started);
        let usual = report.between(since(halved.saturating_sub(USUAL)), since(halved)).delay(0.95);
        let limit = usual.map_or(f64::INFINITY, millis) + RISE;
        let offered: Vec<_> = readings.iter().map(|(at, taken, _)| (*at, *taken)).collect();
        let offered = Series::of_counter(&offered)
            .first(halved, halved + HALVED, OFFERED_WINDOW, |rate| rate <= OFFERED * full / 2.0);
        let goodput = Series::of(&timelines);
        let (before, sum) = (goodput.rate(halved.saturating_sub(USUAL), halved), stand.sum(direction));
        // What the links could carry then, at the same cost.
        let less = ENOUGH * before * (sum - full / 2.0) / sum;
        let used = goodput.first(halved, doubled, OFFERED_WINDOW, |rate| rate >= less);
        let again = goodput.first(doubled, doubled + DOUBLED, GOODPUT_WINDOW, |rate| rate >= ENOUGH * before);
        let (for_half, for_double) = (f64::max(1.0, 3.0 * round_trip), f64::max(2.0, 25.0 * round_trip));
        let during = report.between(since(halved), since(doubled));
        Ok(vec![
            Figure::new("goodput before, of the sum", before / sum, Unit::Ratio),
            Figure::new("halved: until the link is offered no more than it takes", offered, Unit::Seconds)
                .at_most(for_half),
            Figure::new("halved: until the goodput is that of the new sum", used, Unit::Seconds)
                .at_most(for_half),
            Figure::new(
                "halved: until the delay of UDP beside it is as before",
                unrest(&report, halved, halved + HALVED, limit),
                Unit::Seconds,
            )
            .at_most(for_half),
            Figure::new("halved: delay of UDP beside it, p95", delay(&during, 0.95), Unit::Ms),
            Figure::new("doubled: until the goodput is as before", again, Unit::Seconds).at_most(for_double),
        ])
    })
}
