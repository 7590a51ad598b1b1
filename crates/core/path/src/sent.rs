//! The packets of a path that are on their way, indexed by packet number.
//!
//! A packet is pushed when it is sent and leaves when it is acknowledged, declared lost, or given up with its
//! path ([`SentPackets::abandon`]). The numbers of lost and given-up packets are remembered for a while, so
//! that an ACK that comes after all is recognised as a spurious loss.
//!
//! Bounds: [`MAX_TRACKED`] packets between the oldest in flight and the newest, [`MAX_REMEMBERED`] numbers of
//! lost ones. Nothing is allocated per packet once the queue has grown to the path's window.

use std::collections::VecDeque;

use bondwire_units::Timestamp;
use core::ops::RangeInclusive;

/// The most packets between the oldest in flight and the newest.
pub const MAX_TRACKED: usize = 65_536;
/// The most lost or given-up packets whose late ACK would be recognised.
pub(crate) const MAX_REMEMBERED: usize = 4_096;

/// What is known of a packet when it is sent, and needed when its ACK comes.
#[derive(Clone, Debug)]
pub(crate) struct Sent<C> {
    /// What the bond wants back; none once the packet is resolved.
    pub(crate) content: Option<C>,
    pub(crate) sent_at: Timestamp,
    /// Bytes with IP and UDP headers.
    pub(crate) size: u32,
    /// Our own queue before it, as estimated, in microseconds.
    pub(crate) queued: u32,
    /// Bytes acknowledged on this path when it was sent.
    pub(crate) delivered: u64,
    /// The last time before it at which the sender did not use what it could have.
    pub(crate) bubble: Timestamp,
    pub(crate) ack_eliciting: bool,
    /// Sent while the pacing gain was below one or the source was limited: its loss is not of our making.
    pub(crate) gentle: bool,
    /// A probe for a greater MTU: its loss says nothing about congestion.
    pub(crate) mtu_probe: bool,
}

/// A packet whose fate was decided before its ACK could prove otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    pub(crate) number: u64,
    pub(crate) sent_at: Timestamp,
    pub(crate) declared_at: Timestamp,
    pub(crate) size: u32,
    /// Given up with the path rather than found lost.
    pub(crate) abandoned: bool,
}

/// The packets in flight.
#[derive(Debug)]
pub(crate) struct SentPackets<C> {
    first: u64,
    packets: VecDeque<Sent<C>>,
    remembered: VecDeque<Remembered>,
    in_flight: usize,
    eliciting: usize,
    /// Contents that had to make room; handed over as lost at the next opportunity.
    pub(crate) evicted: Vec<C>,
}

impl<C> SentPackets<C> {
    pub(crate) fn new() -> Self {
        Self {
            first: 0,
            packets: VecDeque::new(),
            remembered: VecDeque::new(),
            in_flight: 0,
            eliciting: 0,
            evicted: Vec::new(),
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// Bytes of ack-eliciting packets in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Ack-eliciting packets in flight.
    pub(crate) fn eliciting(&self) -> usize {
        self.eliciting
    }

    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= MAX_TRACKED
    }

    pub(crate) fn push(&mut self, packet: Sent<C>) -> u64 {
        if self.is_full() {
            let number = self.first;
            if let Some(content) = self.take(number).and_then(|packet| packet.content) {
                self.evicted.push(content);
            }
            self.trim();
        }
        let number = self.next_number();
        if packet.ack_eliciting {
            self.in_flight += packet.size as usize;
            self.eliciting += 1;
        }
        self.packets.push_back(packet);
        number
    }

    /// Takes packet `number` out of flight; none if it was not in flight.
    pub(crate) fn take(&mut self, number: u64) -> Option<Sent<C>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let slot = self.packets.get_mut(index)?;
        let content = slot.content.take()?;
        if slot.ack_eliciting {
            self.in_flight -= slot.size as usize;
            self.eliciting -= 1;
        }
        Some(Sent { content: Some(content), ..*slot })
    }

    /// What packet `number` carries, if it is in flight.
    pub(crate) fn content(&self, number: u64) -> Option<&C> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get(index)?.content.as_ref()
    }

    /// When packet `number` was sent, if it is in flight.
    pub(crate) fn in_flight_since(&self, number: u64) -> Option<Timestamp> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.packets.get(index).filter(|p| p.content.is_some()).map(|p| p.sent_at)
    }

    /// Drops what is resolved from the old end, and packets there that nobody will acknowledge.
    pub(crate) fn trim(&mut self) {
        while self.packets.front().is_some_and(|p| p.content.is_none() || !p.ack_eliciting) {
            self.packets.pop_front();
            self.first += 1;
        }
    }

    /// The packets from number `from` to the newest, with their numbers.
    pub(crate) fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, &Sent<C>)> {
        let skip =
            usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.packets.len());
        self.packets.range(skip..).enumerate().map(move |(i, p)| (self.first + (skip + i) as u64, p))
    }

    /// The part of `range` that may still be in flight.
    pub(crate) fn clip(&self, range: &RangeInclusive<u64>) -> core::ops::Range<u64> {
        let start = (*range.start()).max(self.first);
        let end = (*range.end()).saturating_add(1).min(self.next_number());
        start..end.max(start)
    }

    /// The oldest number that is tracked.
    pub(crate) fn first_number(&self) -> u64 {
        self.first
    }

    pub(crate) fn remember(&mut self, lost: Remembered) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        // Losses are found in order but for the rare one; keeping the order makes the search by range a binary
        // one.
        let at = self.remembered.partition_point(|r| r.number < lost.number);
        self.remembered.insert(at, lost);
    }

    /// Forgets the numbers of packets that were given up before `limit`.
    pub(crate) fn forget_before(&mut self, limit: Timestamp) {
        while self.remembered.front().is_some_and(|r| r.declared_at < limit) {
            self.remembered.pop_front();
        }
    }

    /// Takes the remembered packets that `range` acknowledges after all.
    pub(crate) fn take_remembered(&mut self, range: &RangeInclusive<u64>, mut found: impl FnMut(Remembered)) {
        let from = self.remembered.partition_point(|r| r.number < *range.start());
        let to = self.remembered.partition_point(|r| r.number <= *range.end());
        if from < to {
            self.remembered.drain(from..to).for_each(&mut found);
        }
    }

    pub(crate) fn remembers_any(&self) -> bool {
        !self.remembered.is_empty()
    }

    /// Takes everything out of flight; late ACKs will still be recognised. Returns how many of the contents were sent before `boundary`.
    pub(crate) fn abandon(&mut self, boundary: Timestamp, out: &mut Vec<C>, now: Timestamp) -> usize {
        let before = out.len();
        let mut older = 0;
        for number in self.first..self.next_number() {
            if let Some(packet) = self.take(number) {
                self.remember(Remembered {
                    number,
                    sent_at: packet.sent_at,
                    declared_at: now,
                    size: packet.size,
                    abandoned: true,
                });
                out.extend(packet.content);
                if packet.sent_at < boundary {
                    older = out.len() - before;
                }
            }
        }
        self.trim();
        older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64, ack_eliciting: bool) -> Sent<u64> {
        Sent {
            content: Some(number),
            sent_at: Timestamp::from_millis(number),
            size: 100,
            queued: 0,
            delivered: 0,
            bubble: Timestamp::ZERO,
            ack_eliciting,
            gentle: false,
            mtu_probe: false,
        }
    }

    #[test]
    fn counts_what_is_in_flight_and_is_bounded() {
        let mut sent = SentPackets::new();
        for n in 0..10 {
            assert_eq!(sent.push(packet(n, n % 2 == 0)), n);
        }
        assert_eq!((sent.in_flight(), sent.eliciting()), (500, 5));
        assert!(sent.take(0).is_some() && sent.take(0).is_none() && sent.take(99).is_none());
        sent.trim();
        assert_eq!(sent.first_number(), 2);
        for n in 10..MAX_TRACKED as u64 + 20 {
            sent.push(packet(n, true));
        }
        assert!(sent.packets.len() <= MAX_TRACKED);
        assert!(!sent.evicted.is_empty());
        let mut out = Vec::new();
        assert_eq!(sent.abandon(Timestamp::ZERO, &mut out, Timestamp::ZERO), 0);
        assert_eq!((sent.in_flight(), sent.eliciting()), (0, 0));
        assert!(sent.remembered.len() <= MAX_REMEMBERED);
        let mut late = 0;
        sent.take_remembered(&(0..=u64::MAX), |_| late += 1);
        assert_eq!(late, MAX_REMEMBERED);
    }
}
