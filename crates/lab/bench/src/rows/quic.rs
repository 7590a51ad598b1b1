use bondwire_netns::traffic::Direction;

use crate::{BenchError, Figure, Stand, Unit, Way};

/// How much of what a bond of the best link alone gives it is there at least, over all links.
const KEPT: f64 = 0.97;

/// The goodput of one QUIC connection: through the bond, through a bond of the best link, and over the best link without a
/// bond.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let (sum, best, all) = (stand.sum(direction), stand.best(direction).name, stand.links());
    let plain = stand.quic(&Way::interface(&best), direction)?;
    let through_bond = |stand: &Stand| stand.quic(&Way::default(), direction);
    let single = stand.bonded("speed", std::slice::from_ref(&best), through_bond)?;
    let bonded = stand.bonded("speed", &all, through_bond)?;
    let times = |other: f64| bonded / other.max(1.0);
    Ok(vec![
        Figure::new("one QUIC flow through the bond", bonded / 1e6, Unit::Mbps),
        Figure::new("of the sum of the links", bonded / sum, Unit::Ratio),
        Figure::new("× a bond of the best link alone", times(single), Unit::Ratio).at_least(KEPT),
        Figure::new("× plain QUIC over the best link", times(plain), Unit::Ratio),
        Figure::new("a bond of the best link: of the sum", single / sum, Unit::Ratio),
        Figure::new("plain QUIC over the best link: of the sum", plain / sum, Unit::Ratio),
    ])
}
