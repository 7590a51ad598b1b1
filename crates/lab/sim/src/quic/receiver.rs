use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeSet;

use bondwire_units::Timestamp;

use super::MAX_RANGES;
use crate::tcp::Progress;

/// The longest delay of an acknowledgement (RFC 9000, section 18.2: the default of `max_ack_delay`).
const MAX_DELAY: Duration = Duration::from_millis(25);

/// The receiving half: acknowledges every second packet, and at once what comes out of order (RFC 9000, section 13.2.1).
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// The highest numbers first.
    ranges: Vec<RangeInclusive<u64>>,
    /// Chunks above `whole` that came.
    chunks: BTreeSet<u32>,
    /// All chunks below this one came.
    whole: u32,
    unacknowledged: u32,
    at_once: bool,
    since: Option<Timestamp>,
    serial: u32,
    progress: Progress,
}

impl Receiver {
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn handle_data(&mut self, number: u64, chunk: u32, bytes: usize, now: Timestamp) {
        let expected = self.ranges.first().map_or(number, |range| range.end() + 1);
        self.at_once |= number != expected || self.ranges.len() > 1 && number < expected;
        self.note(number);
        self.unacknowledged += 1;
        self.since.get_or_insert(now);
        if chunk >= self.whole && self.chunks.insert(chunk) {
            self.progress.on_bytes(bytes as u64, now);
            while self.chunks.remove(&self.whole) {
                self.whole += 1;
            }
        }
    }

    fn note(&mut self, number: u64) {
        let at = self.ranges.iter().position(|range| number + 1 >= *range.start());
        match at {
            Some(index) if self.ranges[index].contains(&number) => {}
            Some(index) if number == self.ranges[index].end() + 1 => {
                self.ranges[index] = *self.ranges[index].start()..=number;
                if index > 0 && *self.ranges[index - 1].start() == number + 1 {
                    self.ranges[index - 1] = *self.ranges[index].start()..=*self.ranges[index - 1].end();
                    self.ranges.remove(index);
                }
            }
            Some(index) if number + 1 == *self.ranges[index].start() => {
                self.ranges[index] = number..=*self.ranges[index].end();
                if self.ranges.get(index + 1).is_some_and(|lower| lower.end() + 1 == number) {
                    self.ranges[index] = *self.ranges[index + 1].start()..=*self.ranges[index].end();
                    self.ranges.remove(index + 1);
                }
            }
            Some(index) => self.ranges.insert(index, number..=number),
            None => self.ranges.push(number..=number),
        }
        self.ranges.truncate(MAX_RANGES);
    }

    pub(super) fn poll_ack(&mut self, now: Timestamp) -> Option<(u32, Vec<RangeInclusive<u64>>)> {
        let late = self.since.is_some_and(|since| now >= since + MAX_DELAY);
        if self.unacknowledged == 0 || !(self.at_once || late || self.unacknowledged >= 2) {
            return None;
        }
        (self.unacknowledged, self.at_once, self.since) = (0, false, None);
        self.serial += 1;
        Some((self.serial, self.ranges.clone()))
    }

    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        self.since.map(|since| since + MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut receiver = Receiver::default();
        for number in [1, 2, 5, 4, 9, 3, 7, 8] {
            receiver.handle_data(number, number as u32, 100, Timestamp::ZERO);
        }
        assert_eq!(receiver.ranges, [7..=9, 1..=5]);
        assert!(receiver.poll_ack(Timestamp::ZERO).is_some());
        assert_eq!(receiver.progress().bytes, 800);
    }
}
