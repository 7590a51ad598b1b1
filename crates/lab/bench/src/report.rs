//! All that was measured, as a Markdown table and as one JSON object.

mod json;
mod markdown;
#[cfg(test)]
mod tests;

use crate::machine::Conditions;
use crate::{Figure, Machine, Plan, Target, Unit, median};

/// One row, measured once.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The scenario's name.
    pub profile: String,
    /// `up` or `down`.
    pub direction: &'static str,
    /// The row's name.
    pub row: &'static str,
    /// What came out.
    pub figures: Vec<Figure>,
    /// How the machine did.
    pub conditions: Conditions,
    /// Why nothing came out.
    pub failure: Option<String>,
}

/// What all runs say, and how they were made.
#[derive(Clone, Debug)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// How often each row was measured.
    pub runs: usize,
    /// How long one transfer lasted, in seconds.
    pub seconds: u64,
    /// The inner TCP's congestion control.
    pub congestion: String,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// Everything, in the order of measuring.
    pub measurements: Vec<Measurement>,
}

/// All runs of one row on one profile in one direction.
#[derive(Debug)]
struct Summary<'a> {
    profile: &'a str,
    direction: &'a str,
    row: &'a str,
    lines: Vec<Line<'a>>,
    conditions: Conditions,
    failures: Vec<&'a str>,
}

/// All runs of one figure.
#[derive(Debug)]
struct Line<'a> {
    name: &'a str,
    unit: Unit,
    /// Those that could be had, in the order of the runs.
    values: Vec<f64>,
    /// The median of the runs' targets, which may follow from measurements.
    target: Option<Target>,
}

impl Report {
    /// An empty one.
    pub fn new(machine: Machine, plan: &Plan, notes: Vec<String>) -> Self {
        Self {
            machine,
            runs: plan.runs,
            seconds: plan.settings.length.as_secs(),
            congestion: plan.settings.congestion.clone(),
            notes,
            measurements: Vec::new(),
        }
    }

    fn summaries(&self) -> Vec<Summary<'_>> {
        let mut summaries: Vec<Summary<'_>> = Vec::new();
        for one in &self.measurements {
            let key = (one.profile.as_str(), one.direction, one.row);
            let at = summaries.iter().position(|all| (all.profile, all.direction, all.row) == key);
            let at = at.unwrap_or_else(|| {
                summaries.push(Summary::new(one));
                summaries.len() - 1
            });
            let summary = &mut summaries[at];
            summary.conditions = summary.conditions.worse(one.conditions);
            summary.failures.extend(one.failure.as_deref());
            for figure in &one.figures {
                if !summary.lines.iter().any(|line| line.name == figure.name) {
                    let line =
                        Line { name: &figure.name, unit: figure.unit, values: Vec::new(), target: None };
                    summary.lines.push(line);
                }
            }
        }
        for summary in &mut summaries {
            let runs: Vec<&Measurement> = self.measurements.iter().filter(|one| summary.is_of(one)).collect();
            for line in &mut summary.lines {
                let figures = || runs.iter().flat_map(|run| &run.figures).filter(|one| one.name == line.name);
                line.values = figures().filter_map(|figure| figure.value).collect();
                let targets: Vec<Target> = figures().filter_map(|figure| figure.target).collect();
                let values: Vec<f64> = targets.iter().map(|target| target.value()).collect();
                line.target = targets.first().zip(median(&values)).map(|(target, value)| target.with(value));
            }
        }
        summaries
    }
}

impl<'a> Summary<'a> {
    fn new(first: &'a Measurement) -> Self {
        Self {
            profile: &first.profile,
            direction: first.direction,
            row: first.row,
            lines: Vec::new(),
            conditions: Conditions { cpu_idle: 1.0, ..Conditions::default() },
            failures: Vec::new(),
        }
    }

    fn is_of(&self, one: &Measurement) -> bool {
        (self.profile, self.direction, self.row) == (one.profile.as_str(), one.direction, one.row)
    }
}

impl Line<'_> {
    fn median(&self) -> Option<f64> {
        median(&self.values)
    }

    /// The least and the greatest; nothing without values.
    fn range(&self) -> Option<(f64, f64)> {
        let least = self.values.iter().copied().min_by(f64::total_cmp)?;
        Some((least, self.values.iter().copied().max_by(f64::total_cmp)?))
    }

    /// Whether the median is as it has to be; none without a target or a value.
    fn is_met(&self) -> Option<bool> {
        Some(self.target?.is_met(self.median()?))
    }
}
