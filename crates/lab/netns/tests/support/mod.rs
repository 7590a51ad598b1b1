//! What the tests of the lab share.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bondwire_netns::traffic::{Direction, Probe, ProbeOptions, ProbeReport};
use bondwire_netns::{Lab, LabOptions, Node};
use bondwire_scenario::Scenario;

pub(crate) fn build(scenario: &str) -> (Lab, Scenario) {
    let scenario = Scenario::parse(scenario).unwrap();
    let lab = Lab::build(&scenario, LabOptions::default()).unwrap();
    (lab, scenario)
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A light flow over one link to or from the web host.
pub(crate) fn probe(
    lab: &Lab,
    link: &str,
    to: impl Into<IpAddr>,
    direction: Direction,
    duration: Duration,
) -> ProbeReport {
    let options =
        ProbeOptions { direction, duration, interface: Some(link.to_owned()), ..ProbeOptions::default() };
    probe_with(lab.client(), lab.web(), to, options)
}

pub(crate) fn probe_with(
    from: &Node,
    to: &Node,
    address: impl Into<IpAddr>,
    options: ProbeOptions,
) -> ProbeReport {
    Probe::start(from, to, SocketAddr::new(address.into(), 0), options).unwrap().finish().unwrap()
}
