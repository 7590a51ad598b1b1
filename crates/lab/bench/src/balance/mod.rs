//! The load balancer's rows of the targets: what `bondwire balance` costs and how quickly it connects, beside other proxies.
//!
//! There is nothing to emulate here: the links are unshaped cables, so that the processors are the bound. A ground is a
//! client's machine and a web host between which two such cables run, with the real `bondwire balance` on it. Rows take their
//! contestants by turns, in slices of a second, within one run: whatever else the machine does meets all of them alike.
//!
//! **Bounds.** 10,000 connections at a time in the row `memory`, 8 clients elsewhere; each slice has its length, and what hangs
//! runs into the sockets' own timeouts.

mod ground;
mod load;
mod rival;
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ground::Ground;
pub use rival::Rival;
pub use rows::{LENGTH, ROWS, Row};

use crate::machine::{Conditions, CpuTime};
use crate::measure::{tell, words};
use crate::{BenchError, Machine, Measurement, Plan, Report};

/// What stands for the profile: the links have no other name.
pub const PROFILE: &str = "balance";

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Measures these rows, and tells on stderr how far it is. `notes` go into the report: what was left out.
pub fn run(plan: &Plan, rows: &[&'static Row], rivals: &[Rival], notes: Vec<String>) -> Report {
    let mut report = Report::new(Machine::here(), plan, notes);
    for number in 0..plan.runs {
        for row in rows {
            eprintln!("{PROFILE} {}, run {}", row.name, number + 1);
            let measurement = measure(row, plan, rivals);
            tell(&measurement);
            report.measurements.push(measurement);
        }
    }
    report
}

/// One row once, on a ground of its own.
fn measure(row: &Row, plan: &Plan, rivals: &[Rival]) -> Measurement {
    let mut conditions = Conditions { cpu_idle: 1.0, is_full: row.is_full, ..Conditions::default() };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut ground = Ground::build(&plan.settings)?;
        let before = CpuTime::now();
        let figures = (row.run)(&mut ground, rivals);
        conditions.cpu_idle = CpuTime::now().idle_since(before);
        figures
    }));
    let result = result.unwrap_or_else(|panic| Err(BenchError::GaveUp(words(panic.as_ref()))));
    let (figures, failure) = match result {
        Ok(figures) => (figures, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Measurement {
        profile: PROFILE.to_owned(),
        direction: "down",
        row: row.name,
        figures,
        conditions,
        failure,
    }
}
