use std::time::Duration;

use bondwire_netns::traffic::ProbeReport;
use bondwire_units::Timestamp;
use serde::Serialize;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Millions of bits per second.
    Mbps,
    /// A number without a unit.
    Ratio,
    /// Milliseconds.
    Ms,
    /// Seconds.
    Seconds,
    /// Parts of a hundred.
    Percent,
    /// Packets.
    Packets,
    /// Billions of bits per second.
    Gbps,
    /// Billions of bytes.
    Gigabytes,
    /// Millions of bytes.
    Megabytes,
    /// So many a second.
    PerSecond,
    /// Milliseconds, where a few thousandths matter.
    FineMs,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "value")]
pub enum Target {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// One measured value of a row. An infinite one never came: a packet that was lost, a rate that was not reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is; the same in every run.
    pub name: String,
    /// The value; none where it cannot be had.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: Unit,
    /// What it has to be, if anything.
    pub target: Option<Target>,
}

impl Figure {
    /// One without a target.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value: Some(value), unit, target: None }
    }

    /// One that cannot be had.
    pub fn absent(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), value: None, unit, target: None }
    }

    /// The same with the least that it has to be.
    #[must_use]
    pub fn at_least(self, least: f64) -> Self {
        Self { target: Some(Target::AtLeast(least)), ..self }
    }

    /// The same with the most that it may be.
    #[must_use]
    pub fn at_most(self, most: f64) -> Self {
        Self { target: Some(Target::AtMost(most)), ..self }
    }
}

impl Unit {
    /// A value with its unit, as it stands in a table.
    pub fn show(self, value: f64) -> String {
        if value.is_infinite() {
            return "∞".to_owned();
        }
        match self {
            Self::Mbps => format!("{value:.1} Mbit/s"),
            Self::Ratio => format!("{value:.2}"),
            Self::Ms => format!("{value:.0} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Percent => format!("{value:.2} %"),
            Self::Packets => format!("{value:.0}"),
            Self::Gbps => format!("{value:.2} Gbit/s"),
            Self::Gigabytes => format!("{value:.2} GB"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::FineMs => format!("{value:.3} ms"),
        }
    }
}

impl Target {
    /// Its number.
    pub fn value(self) -> f64 {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }

    /// Whether a value is as it has to be. What a table rounds away does not decide.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least - 1e-9,
            Self::AtMost(most) => value <= most + 1e-9,
        }
    }

    /// The same kind of target with another number.
    #[must_use]
    pub fn with(self, value: f64) -> Self {
        match self {
            Self::AtLeast(_) => Self::AtLeast(value),
            Self::AtMost(_) => Self::AtMost(value),
        }
    }
}

/// The middle one, or the mean of the two in the middle; none of none. Infinite values are larger than all others.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { upper })
}

/// Milliseconds.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The one-way delay, in milliseconds, that this share of all packets did not exceed, the lost ones being infinitely late.
pub(crate) fn delay(report: &ProbeReport, share: f64) -> f64 {
    report.delay_or_lost(share).map_or(f64::INFINITY, millis)
}

/// The longest time without an arrival from `from` to `to`, in milliseconds.
pub(crate) fn gap(report: &ProbeReport, from: Timestamp, to: Timestamp) -> f64 {
    let mut longest = Duration::ZERO;
    let mut last = from;
    let mut arrivals: Vec<Timestamp> = report.packets.iter().map(|packet| packet.arrived).collect();
    arrivals.sort_unstable();
    for arrival in arrivals.into_iter().chain([to]) {
        let arrival = arrival.min(to);
        longest = longest.max(arrival.since(last));
        last = last.max(arrival);
    }
    millis(longest)
}

/// How long after `change` the flow's delay was the last time above `limit` (milliseconds), in seconds: the median of each
/// 200 ms counts, up to `end`, with the lost packets as infinitely late.
pub(crate) fn unrest(report: &ProbeReport, change: Timestamp, end: Timestamp, limit: f64) -> f64 {
    const WINDOW: Duration = Duration::from_millis(200);
    let mut from = change;
    let mut last = 0.0;
    while from + WINDOW <= end {
        let begin = from.since(report.started);
        if delay(&report.between(begin, begin + WINDOW), 0.5) > limit {
            last = (from + WINDOW).since(change).as_secs_f64();
        }
        from += WINDOW;
    }
    last
}

#[cfg(test)]
mod tests {
    use bondwire_netns::traffic::Received;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A packet each 5 ms for 2 s, 20 ms under way; lost from 500 to 700 ms, 90 ms under way from 1000 to 1400.
    fn report() -> ProbeReport {
        let started = Timestamp::from_millis(10_000);
        let packets = (0..400_u32).filter(|number| !(100..140).contains(number));
        let packets = packets.map(|number| {
            let sent = started + MS * 5 * number;
            let delay = if (200..280).contains(&number) { MS * 90 } else { MS * 20 };
            Received { number: number.into(), sent, arrived: sent + delay }
        });
        ProbeReport { started, interval: MS * 5, sent: 400, packets: packets.collect(), duplicates: 0 }
    }

    #[test]
    fn the_median_is_the_middle_or_between_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::INFINITY, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[f64::INFINITY, f64::INFINITY, 2.0]), Some(f64::INFINITY));
    }

    #[test]
    fn the_lost_are_infinitely_late() {
        let report = report();
        assert_eq!(delay(&report, 0.5), 20.0);
        assert_eq!(delay(&report, 0.9), 90.0);
        assert_eq!(delay(&report, 0.95), f64::INFINITY);
    }

    #[test]
    fn a_gap_is_what_lies_in_the_window() {
        let report = report();
        let at = |millis: u32| report.started + MS * millis;
        assert_eq!(gap(&report, at(100), at(1900)), 205.0);
        assert_eq!(gap(&report, at(600), at(1900)), 120.0);
        assert_eq!(gap(&report, at(100), at(400)), 5.0);
        assert_eq!(gap(&report, at(5000), at(5100)), 100.0);
    }

    #[test]
    fn unrest_ends_with_the_last_bad_window() {
        let report = report();
        let at = |millis: u32| report.started + MS * millis;
        assert_eq!(unrest(&report, at(1000), at(2000), 35.0), 0.4);
        assert_eq!(unrest(&report, at(1400), at(2000), 35.0), 0.0);
        assert_eq!(unrest(&report, at(500), at(900), 35.0), 0.2);
    }

    #[test]
    fn targets_are_met_from_their_side() {
        assert!(Target::AtLeast(0.88).is_met(0.9) && !Target::AtLeast(0.88).is_met(0.87));
        assert!(Target::AtMost(250.0).is_met(250.0) && !Target::AtMost(250.0).is_met(f64::INFINITY));
        assert_eq!(Unit::Ms.show(f64::INFINITY), "∞");
    }
}
