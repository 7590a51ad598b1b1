//! What arrived on a path, and when to say so (docs/protocol.md, FRAME-3).
//!
//! Ranges of packet numbers are kept, newest first. A range that did not change for a second has been told many
//! times and is dropped; so is everything beyond the newest [`MAX_RANGES`].

use bondwire_units::Timestamp;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::rtt::MAX_ACK_DELAY;

/// The most ranges of an ACK (docs/protocol.md, section 5).
pub const MAX_RANGES: usize = 64;
/// How often an ACK goes over the path itself while packets arrive on it. The protocol asks for 100 ms at
/// least; a quarter of that keeps a living path from being suspected with the one that used to carry its ACKs.
pub const SELF_ACK_INTERVAL: Duration = Duration::from_millis(25);
/// For how long a range is repeated after it last changed.
const REPEAT: Duration = Duration::from_secs(1);

/// An ACK that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckToSend<'a> {
    /// The largest packet number received.
    pub largest: u64,
    /// How long its acknowledgement waited.
    pub delay: Duration,
    /// When it came: microseconds of our clock, modulo 2^32.
    pub received_at_micros: u32,
    /// What was received, newest first; the first range ends with `largest`. Between 1 and [`MAX_RANGES`].
    pub ranges: &'a [RangeInclusive<u64>],
}

/// The receiving side of a path.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    ranges: Vec<RangeInclusive<u64>>,
    changed: Vec<Timestamp>,
    largest_at: Timestamp,
    pending: u32,
    oldest_pending: Option<Timestamp>,
    at_once: bool,
    told_itself: Option<Timestamp>,
    last_at: Option<Timestamp>,
    /// The last packet that asked for an acknowledgement. One that did not must not cause one, or both ends would go on for ever.
    eliciting_at: Option<Timestamp>,
    packets: u64,
}

impl Received {
    pub(crate) fn new() -> Self {
        Self {
            ranges: Vec::with_capacity(MAX_RANGES + 1),
            changed: Vec::with_capacity(MAX_RANGES + 1),
            largest_at: Timestamp::ZERO,
            pending: 0,
            oldest_pending: None,
            at_once: false,
            told_itself: None,
            last_at: None,
            eliciting_at: None,
            packets: 0,
        }
    }

    pub(crate) fn on_packet(&mut self, number: u64, ack_eliciting: bool, waited: Duration, now: Timestamp) {
        let arrived = now.saturating_sub(waited);
        let largest = self.ranges.first().map(|r| *r.end());
        let in_order = largest.is_none_or(|l| number == l + 1);
        if largest.is_none_or(|l| number > l) {
            self.largest_at = arrived;
        }
        self.insert(number, now);
        self.packets += 1;
        self.last_at = Some(now);
        if ack_eliciting {
            self.eliciting_at = Some(now);
            self.pending += 1;
            self.oldest_pending.get_or_insert(arrived);
            // A gap opens with a number beyond the next, and closes (or shrinks) with one before the largest.
            self.at_once |= !in_order;
        }
    }

    fn insert(&mut self, number: u64, now: Timestamp) {
        // Nearly always the first range or the one after it.
        let at = self.ranges.iter().position(|r| *r.start() <= number).unwrap_or(self.ranges.len());
        if self.ranges.get(at).is_some_and(|r| number <= *r.end()) {
            return;
        }
        let joins_below = self.ranges.get(at).is_some_and(|r| *r.end() + 1 == number);
        let joins_above = at > 0 && *self.ranges[at - 1].start() == number + 1;
        match (joins_below, joins_above) {
            (true, true) => {
                let below = self.ranges.remove(at);
                self.changed.remove(at);
                self.ranges[at - 1] = *below.start()..=*self.ranges[at - 1].end();
                self.changed[at - 1] = now;
            }
            (true, false) => {
                self.ranges[at] = *self.ranges[at].start()..=number;
                self.changed[at] = now;
            }
            (false, true) => {
                self.ranges[at - 1] = number..=*self.ranges[at - 1].end();
                self.changed[at - 1] = now;
            }
            (false, false) => {
                self.ranges.insert(at, number..=number);
                self.changed.insert(at, now);
                self.ranges.truncate(MAX_RANGES);
                self.changed.truncate(MAX_RANGES);
            }
        }
    }

    pub(crate) fn ack_due(&self, now: Timestamp) -> bool {
        self.pending > 0 && (self.at_once || self.pending >= 2 || self.deadline().is_some_and(|at| at <= now))
    }

    /// What was told may not have arrived: it is told again at once.
    pub(crate) fn tell_again(&mut self, now: Timestamp) {
        if !self.ranges.is_empty() {
            self.pending = self.pending.max(1);
            self.oldest_pending.get_or_insert(now);
            self.at_once = true;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.oldest_pending.map(|at| if self.at_once || self.pending >= 2 { at } else { at + MAX_ACK_DELAY })
    }

    pub(crate) fn build(&mut self, now: Timestamp) -> Option<AckToSend<'_>> {
        while self.ranges.len() > 1 && self.changed.last().is_some_and(|&at| at + REPEAT < now) {
            self.ranges.pop();
            self.changed.pop();
        }
        let largest = *self.ranges.first()?.end();
        self.pending = 0;
        self.oldest_pending = None;
        self.at_once = false;
        Some(AckToSend {
            largest,
            delay: now.since(self.largest_at),
            received_at_micros: self.largest_at.as_micros() as u32,
            ranges: &self.ranges,
        })
    }

    pub(crate) fn wants_ack_on_itself(&self, now: Timestamp) -> bool {
        self.eliciting_at.is_some_and(|arrived| {
            self.told_itself.is_none_or(|told| arrived > told && told + SELF_ACK_INTERVAL <= now)
        })
    }

    pub(crate) fn on_told_itself(&mut self, now: Timestamp) {
        self.told_itself = Some(now);
    }

    pub(crate) fn last_at(&self) -> Option<Timestamp> {
        self.last_at
    }

    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn time_in_the_socket_is_not_the_links() {
        let mut received = Received::new();
        received.on_packet(0, true, Duration::from_millis(12), at(20));
        assert!(received.ack_due(at(20)), "it has waited for long enough");
        let ack = received.build(at(21)).unwrap();
        assert_eq!((ack.received_at_micros, ack.delay), (8_000, Duration::from_millis(13)));
    }

    #[test]
    fn every_second_packet_a_gap_and_five_milliseconds() {
        let mut received = Received::new();
        received.on_packet(0, true, Duration::ZERO, at(0));
        assert!(!received.ack_due(at(4)) && received.ack_due(at(5)));
        assert_eq!(received.deadline(), Some(at(5)));
        received.on_packet(1, true, Duration::ZERO, at(1));
        assert!(received.ack_due(at(1)));
        let ack = received.build(at(3)).unwrap();
        assert_eq!((ack.largest, ack.delay, ack.ranges), (1, Duration::from_millis(2), &[0..=1][..]));
        assert!(!received.ack_due(at(100)) && received.deadline().is_none());
        received.on_packet(3, true, Duration::ZERO, at(4));
        assert!(received.ack_due(at(4)), "a gap opens");
        received.build(at(4));
        received.on_packet(2, true, Duration::ZERO, at(5));
        assert!(received.ack_due(at(5)), "a gap closes");
        assert_eq!(received.build(at(5)).unwrap().ranges, &[0..=3]);
        received.on_packet(4, false, Duration::ZERO, at(6));
        assert!(!received.ack_due(at(1000)), "not ack-eliciting");
        received.tell_again(at(1000));
        assert!(received.ack_due(at(1000)));
        assert_eq!(received.build(at(1000)).unwrap().ranges, &[0..=4]);
    }

    #[test]
    fn ranges_are_exact_and_bounded() {
        let mut received = Received::new();
        for n in 0..1_000_u64 {
            received.on_packet(n * 2, true, Duration::ZERO, at(0));
        }
        let ack = received.build(at(0)).unwrap();
        assert_eq!(ack.ranges.len(), MAX_RANGES);
        assert!(ack.ranges.windows(2).all(|w| w[0].start() > w[1].end()));
        received.on_packet(1_997, true, Duration::ZERO, at(0));
        assert_eq!(received.build(at(0)).unwrap().ranges[0], 1_996..=1_998);
        assert_eq!(received.build(at(2_000)).unwrap().ranges.len(), 1, "old ranges have been told");
    }

    #[test]
    fn tells_itself_while_packets_arrive() {
        let mut received = Received::new();
        assert!(!received.wants_ack_on_itself(at(0)));
        received.on_packet(0, true, Duration::ZERO, at(0));
        assert!(received.wants_ack_on_itself(at(0)));
        received.on_told_itself(at(0));
        assert!(!received.wants_ack_on_itself(at(500)), "nothing arrived since");
        received.on_packet(1, true, Duration::ZERO, at(24));
        assert!(!received.wants_ack_on_itself(at(24)));
        assert!(received.wants_ack_on_itself(at(50)));
    }
}
