use std::time::Duration;

use bondwire_netns::now;
use bondwire_netns::traffic::{Bulk, Direction};

use super::need_several;
use crate::fixture::{ms, seconds};
use crate::stand::sleep_until;
use crate::{BenchError, Figure, Series, Stand, Unit, Way};

const BEFORE: Duration = seconds(6);
/// The part before the silence that says what the link's share is.
const USUAL: Duration = seconds(2);
const SILENCE: Duration = seconds(4);
const AFTER: Duration = seconds(12);
/// Over how long the link has to carry its share, and how much of it.
const WINDOW: Duration = ms(500);
const ENOUGH: f64 = 0.9;

/// The time from the return of the best link until it carries 90 % of what it carried before: with eight TCP flows, and
/// with one.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    need_several(stand)?;
    let (link, all) = (stand.best(direction).name, stand.links());
    let eight = stand.bonded("speed", &all, |stand| back(stand, &link, direction, 8))?;
    let one = stand.bonded("speed", &all, |stand| back(stand, &link, direction, 1))?;
    Ok(vec![
        Figure::new("until the link's share is back, 8 flows", eight, Unit::Seconds).at_most(2.0),
        Figure::new("until the link's share is back, 1 flow", one, Unit::Seconds).at_most(6.0),
    ])
}

fn back(stand: &Stand, link: &str, direction: Direction, flows: usize) -> Result<f64, BenchError> {
    let limit = BEFORE + SILENCE + AFTER + seconds(2);
    let start = now();
    let transfers: Vec<Bulk> = (0..flows)
        .map(|_| stand.bulk(&Way::default(), direction, limit))
        .collect::<Result<_, BenchError>>()?;
    let mut readings = stand.watch(link, direction, start + BEFORE)?;
    let silent = now();
    stand.lab().silence(link)?;
    sleep_until(silent + SILENCE);
    stand.lab().restore(link)?;
    let returned = now();
    let end = returned + AFTER;
    readings.extend(stand.watch(link, direction, end)?);
    drop(transfers);
    let carried: Vec<_> = readings.iter().map(|(at, _, carried)| (*at, *carried)).collect();
    let series = Series::of_counter(&carried);
    let usual = series.rate(silent.saturating_sub(USUAL), silent);
    Ok(series.first(returned, end, WINDOW, |rate| rate >= ENOUGH * usual))
}
