//! What is downloaded in the demo: one flow through a bond, or several that are spread over links.
//!
//! A bond has to keep its one flow alive. In mode `balance` the sockets of a dead link are closed, and what any program would do then is done
//! here: it connects again, at once.

use std::time::Duration;

use bondwire_api::Fault;
use bondwire_netns::Lab;
use bondwire_netns::traffic::{Bulk, BulkServer, Timeline};
use bondwire_units::Timestamp;

use super::session::{broken_fault, start_download, traffic_fault};

/// The most that somebody looks at a demo.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// As many times in a row a download may fail before the demo is given up: a dead link costs each one attempt or two.
const PATIENCE: u32 = 20;

/// Downloads that run side by side.
#[derive(Debug)]
pub(super) struct Downloads {
    running: Vec<Bulk>,
    /// Of those that ended.
    past: Vec<Timeline>,
    past_bytes: u64,
    reconnects: u32,
    in_a_row: u32,
    may_reconnect: bool,
    start: Timestamp,
}

impl Downloads {
    /// One download that must not break.
    pub(super) fn one(lab: &Lab, web: &BulkServer, start: Timestamp) -> Result<Self, Fault> {
        Self::new(lab, web, 1, false, start)
    }

    /// Several that connect again when they break.
    pub(super) fn several(
        lab: &Lab,
        web: &BulkServer,
        count: usize,
        start: Timestamp,
    ) -> Result<Self, Fault> {
        Self::new(lab, web, count, true, start)
    }

    fn new(lab: &Lab, web: &BulkServer, count: usize, again: bool, start: Timestamp) -> Result<Self, Fault> {
        let running = (0..count).map(|_| start_download(lab, web, None, LONGEST));
        Ok(Self {
            running: running.collect::<Result<_, _>>()?,
            past: Vec::new(),
            past_bytes: 0,
            reconnects: 0,
            in_a_row: 0,
            may_reconnect: again,
            start,
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// How often one has connected again.
    pub(super) fn reconnects(&self) -> u32 {
        self.reconnects
    }

    /// Bytes that have arrived so far.
    pub(super) fn received(&self) -> u64 {
        self.past_bytes + self.running.iter().map(Bulk::received).sum::<u64>()
    }

    /// Whether all still run; those that may are begun again.
    ///
    /// # Errors
    /// One has ended that must not, or none gets through any more.
    pub(super) fn check(&mut self, lab: &Lab, web: &BulkServer) -> Result<(), Fault> {
        for at in 0..self.running.len() {
            if !self.running[at].is_over() {
                continue;
            }
            if !self.may_reconnect || self.in_a_row >= PATIENCE {
                let over = self.running.swap_remove(at);
                return Err(over.finish().map_or_else(traffic_fault, |report| {
                    broken_fault(report.error.as_deref().unwrap_or("it ended by itself"))
                }));
            }
            let next = start_download(lab, web, None, LONGEST)?;
            let over = std::mem::replace(&mut self.running[at], next);
            self.reconnects += 1;
            match over.finish() {
                Ok(report) if report.timeline.total().get() > 0 => {
                    self.in_a_row = 0;
                    self.past_bytes += report.timeline.total().get();
                    self.past.push(report.timeline);
                }
                // It did not even connect.
                _ => self.in_a_row += 1,
            }
        }
        Ok(())
    }

    /// Ends them, and says what arrived when, all together.
    ///
    /// # Errors
    /// The one that must not break did.
    pub(super) fn finish(self) -> Result<Timeline, Fault> {
        self.running.iter().for_each(Bulk::stop);
        let mut all = self.past;
        for download in self.running {
            match download.finish() {
                Ok(report) if report.error.is_none() || self.may_reconnect => all.push(report.timeline),
                Ok(report) => return Err(broken_fault(report.error.as_deref().unwrap_or("it broke"))),
                Err(_) if self.may_reconnect => {}
                Err(error) => return Err(traffic_fault(error)),
            }
        }
        Ok(merged(all, self.start))
    }
}

/// Several timelines as one; a single one as it is, to its last millisecond.
fn merged(mut all: Vec<Timeline>, start: Timestamp) -> Timeline {
    if all.len() == 1
        && let Some(only) = all.pop()
    {
        return only;
    }
    let mut arrivals = std::collections::BTreeMap::<Timestamp, u64>::new();
    for timeline in &all {
        for (at, bytes) in timeline.bins().iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
            let at = timeline.start() + Timeline::BIN * u32::try_from(at).unwrap_or(u32::MAX);
            *arrivals.entry(at).or_default() += bytes;
        }
    }
    let mut merged = Timeline::new(start);
    for (at, bytes) in arrivals {
        merged.record(usize::try_from(bytes).unwrap_or(usize::MAX), at);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_downloads_are_one_figure() {
        let start = Timestamp::from_millis(1_000);
        let ms = Duration::from_millis;
        let mut first = Timeline::new(start);
        let mut second = Timeline::new(start + ms(500));
        for at in 0..100 {
            first.record(1_000, start + ms(at * 10));
            second.record(500, start + ms(500 + at * 10));
        }
        let merged = merged(vec![first, second], start);
        assert_eq!(merged.total().get(), 150_000);
        assert_eq!(merged.bytes_between(ms(0), ms(500)).get(), 50_000);
        assert_eq!(merged.bytes_between(ms(500), ms(1_000)).get(), 75_000);
        assert!(merged.longest_gap(ms(0), ms(1_490)) <= ms(20));
    }
}
