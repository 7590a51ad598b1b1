use bondwire_netns::traffic::Direction;

use crate::stand::late_goodput;
use crate::{BenchError, Figure, Stand, Unit, Way, peers};

/// How much longer a bond is watched whose round trips are so long that CUBIC takes its time.
const SLOW: u32 = 3;

/// The goodput of one TCP flow: through the bond, through a bond of the best link, over the best link without a bond, and
/// through each rival.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let (sum, best, all) = (stand.sum(direction), stand.best(direction).name, stand.links());
    let name = stand.scenario().name.clone();
    let length = stand.settings().length;
    let is_slow = name == "geo";

    let plain = stand.goodput(&Way::interface(&best), direction)?;
    let single = stand
        .bonded("speed", std::slice::from_ref(&best), |stand| stand.goodput(&Way::default(), direction))?;
    let watched = if is_slow { length * SLOW } else { length };
    let timeline =
        stand.bonded("speed", &all, |stand| stand.transfer(&Way::default(), direction, watched))?;
    let bonded = late_goodput(&timeline, length);

    let mut figures = vec![
        Figure::new("one TCP flow through the bond", bonded / 1e6, Unit::Mbps),
        with_least(Figure::new("of the sum of the links", bonded / sum, Unit::Ratio), share(&name)),
    ];
    if is_slow {
        let late = timeline.goodput(length * 2, length * SLOW).as_bps() as f64;
        let figure = Figure::new("of the sum, last third of three times the time", late / sum, Unit::Ratio);
        figures.push(figure.at_least(0.83));
    }
    let times = |other: f64| bonded / other.max(1.0);
    figures.push(Figure::new("× a bond of the best link alone", times(single), Unit::Ratio).at_least(0.97));
    figures.push(Figure::new("× plain TCP over the best link", times(plain), Unit::Ratio));
    figures.push(Figure::new("a bond of the best link: of the sum", single / sum, Unit::Ratio));
    figures.push(Figure::new("plain TCP over the best link: of the sum", plain / sum, Unit::Ratio));
    figures.extend(peers::measure(
        stand,
        direction,
        |_| true,
        |peer, way| {
            let share = stand.goodput(way, direction)? / sum;
            Ok(vec![Figure::new(format!("{}: of the sum", peer.label()), share, Unit::Ratio)])
        },
    ));
    Ok(figures)
}

/// The least share of the sum, for the profiles that have one.
fn share(profile: &str) -> Option<f64> {
    match profile {
        "twin" | "home" | "skew" => Some(0.88),
        "road" | "event" => Some(0.83),
        "geo" => Some(0.60),
        _ => None,
    }
}

fn with_least(figure: Figure, least: Option<f64>) -> Figure {
    match least {
        Some(least) => figure.at_least(least),
        None => figure,
    }
}
