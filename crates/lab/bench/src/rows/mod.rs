//! One row of the targets per file: what is started, what is measured, and what it has to be.
//!
//! A row is a function of a [`Stand`] and a direction, which leaves the stand as it found it: links restored, the client
//! down. What each figure means stands in docs/benchmarks.md.

mod aggregation;
mod changes;
mod delay;
mod failover;
mod quic;
mod ramp;
mod redundant;
mod restore;
mod streaming;

use bondwire_netns::traffic::Direction;
use bondwire_scenario::Scenario;

use crate::{BenchError, Figure, Stand};

/// One row.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Whether the targets are about this scenario; a row that is asked for by name runs on any.
    pub is_for: fn(&Scenario) -> bool,
    /// Measures it once.
    pub run: fn(&mut Stand, Direction) -> Result<Vec<Figure>, BenchError>,
}

/// All rows, in the order of the targets.
pub const ROWS: &[Row] = &[
    Row { name: "aggregation", is_for: any, run: aggregation::run },
    Row { name: "quic", is_for: any, run: quic::run },
    Row { name: "delay", is_for: any, run: delay::run },
    Row { name: "failover", is_for: several, run: failover::run },
    Row { name: "restore", is_for: several, run: restore::run },
    Row { name: "redundant", is_for: several, run: redundant::run },
    Row { name: "streaming", is_for: streaming::is_for, run: streaming::run },
    Row { name: "changes", is_for: any, run: changes::run },
    Row { name: "ramp", is_for: ramp::is_for, run: ramp::run },
];

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

fn any(_: &Scenario) -> bool {
    true
}

fn several(scenario: &Scenario) -> bool {
    scenario.links.len() > 1
}

/// The links other than this one.
fn others(stand: &Stand, link: &str) -> Vec<bondwire_scenario::Link> {
    stand.scenario().links.iter().filter(|other| other.name != link).cloned().collect()
}

/// For rows that make no sense with one link.
fn need_several(stand: &Stand) -> Result<(), BenchError> {
    if several(stand.scenario()) {
        return Ok(());
    }
    Err(BenchError::Scenario("this row needs a scenario with two links or more".to_owned()))
}
