use std::time::Duration;

use bondwire_netns::now;
use bondwire_netns::traffic::Direction;
use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer};
use bondwire_netns::{Lab, LabOptions};
use bondwire_scenario::{Link, Scenario};
use bondwire_units::Bitrate;

use crate::fixture::seconds;
use crate::series::ramp;
use crate::stand::{rate, sleep_until};
use crate::{BenchError, Figure, Stand, Unit, Way};

/// How long the bond has nothing to do before.
const IDLE: Duration = seconds(10);
/// How many times longer than one link the bond may take.
const ALLOWED: f64 = 2.0;

/// The profiles that the target names.
pub(super) fn is_for(scenario: &Scenario) -> bool {
    matches!(scenario.name.as_str(), "twin" | "home" | "skew" | "event")
}

/// The time from the first byte to 90 % of the steady rate: of an idle bond, and of plain TCP over one link that has the
/// sum of the rates and the mean of the delays.
pub(super) fn run(stand: &mut Stand, direction: Direction) -> Result<Vec<Figure>, BenchError> {
    let (all, length) = (stand.links(), stand.settings().length);
    let bond = stand.bonded("speed", &all, |stand| {
        sleep_until(now() + IDLE);
        stand.transfer(&Way::default(), direction, length)
    })?;
    let one = merged(stand.scenario(), direction);
    let lab = Lab::build(&one, LabOptions::default())?;
    let server = BulkServer::start(lab.web(), (lab.web_addr_v4(), 8080).into())?;
    let options = BulkOptions {
        direction,
        limit: length,
        congestion: Some(stand.settings().congestion.clone()),
        verify: false,
        ..BulkOptions::default()
    };
    let plain = Bulk::start(lab.client(), &server, options)?.finish()?.timeline;
    let other = lab.emulator().report()?;
    if !other.kept_up() {
        // The row's conditions are those of the stand's emulator.
        eprintln!("  one link of the summed rate: emulator p99 {} us late", other.lateness_us.p99);
    }
    let (bond, plain) = (ramp(&bond), ramp(&plain));
    Ok(vec![
        Figure::new("first byte to 90 % of the steady rate, bond", bond, Unit::Seconds),
        Figure::new("the same, one link of the summed rate", plain, Unit::Seconds),
        Figure::new("bond ÷ one link", bond / plain, Unit::Ratio).at_most(ALLOWED),
    ])
}

/// A scenario with one link of the summed rates, and the mean of the delays by capacity in `direction`.
fn merged(scenario: &Scenario, direction: Direction) -> Scenario {
    let links = &scenario.links;
    let sum = |direction: Direction| links.iter().map(|link| rate(link, direction)).sum::<f64>();
    let weighted = links.iter().map(|link| link.delay.as_secs_f64() * rate(link, direction)).sum::<f64>();
    let rate_of = |direction: Direction| Some(Bitrate::from_bps(sum(direction) as u64));
    let link = Link {
        name: "one".to_owned(),
        up: rate_of(Direction::Up),
        down: rate_of(Direction::Down),
        delay: Duration::from_secs_f64(weighted / sum(direction).max(1.0)),
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: None,
        trace_up: None,
        trace_down: None,
        ..links[0].clone()
    };
    Scenario { links: vec![link], events: Vec::new(), ..scenario.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_link_has_the_sum_and_the_weighted_delay() {
        let home = Scenario::builtin("home").expect("a profile");
        let one = merged(&home, Direction::Up);
        assert_eq!(one.links[0].up, Some(Bitrate::from_mbps(30.0)));
        assert_eq!(one.links[0].down, Some(Bitrate::from_mbps(90.0)));
        // (10 Mbit/s × 10 ms + 20 Mbit/s × 25 ms) ÷ 30 Mbit/s
        assert_eq!(one.links[0].delay, Duration::from_millis(20));
    }
}
