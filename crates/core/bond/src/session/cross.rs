//! Protects what real-time flows send on a path that loses packets: parities of their own, which may travel on ANOTHER path.
//!
//! A packet that is sent again comes two round trips late and more; a parity comes a few packets late. It names the path that it covers, and
//! goes where it arrives first: on that path itself, the preferred one as it is the quickest, until that has a queue, or no room.
//!
//! The flows that are covered pay for it, each by its bytes, out of their budgets (`Streams::affords`): a parity follows each [`SPACING`] packets, or
//! after [`LATEST`] where the flows are thin and have something saved up. A lost packet waits for its parity only while that is a matter of
//! [`PATIENCE`]; else it is sent again at once.
//!
//! A guard is made with the first real-time packet on a path that loses some, and goes when none has come for [`UNUSED`].
//! Bounds: [`REMEMBERED`] parities, [`MAX_DEFERRED`] contents, [`MAX_SHARES`] flows between two parities; an encoder.

use super::content::Content;
use super::{Lane, Session};
use crate::realtime::Streams;
use crate::types::DatagramBatch;
use bondwire_fec::{Encoder, Parity};
use bondwire_units::Timestamp;
use bondwire_wire::frame::PARITY_HEADER;
use core::time::Duration;
use std::collections::VecDeque;

/// Parities that cover each packet.
const OVERLAP: usize = 3;
/// Packets per parity, where they come quickly.
const SPACING: usize = 4;
/// A packet gets its first parity after this, where the budget allows it.
const LATEST: Duration = Duration::from_millis(12);
/// For how long a lost packet waits for its parity before it is sent again.
const PATIENCE: Duration = Duration::from_millis(15);
/// What an answer may take beyond a round trip: a needless repair costs less than a late one.
const SLACK: Duration = Duration::from_millis(4);
/// Loss of a flow, lately, from which on it is protected whatever its path shows.
pub(super) const LEAST_LOSS: f64 = 0.000_5;
/// What the mask takes, as a rule, in bytes.
const MASK: usize = 8;
/// Parities that are remembered, to know when one that covers a lost packet will have been heard of.
const REMEMBERED: usize = 16;
/// Lost contents that wait for a parity.
const MAX_DEFERRED: usize = 64;
/// Flows that share a parity; the bytes of more count for the last one.
const MAX_SHARES: usize = 16;
/// A guard that has covered nothing for so long goes.
const UNUSED: Duration = Duration::from_secs(10);

/// The sending end of the protection of one path's real-time packets.
#[derive(Debug)]
pub(crate) struct CrossGuard {
    encoder: Encoder,
    /// Flows covered since the last parity, with their bytes, and the longest plaintext.
    shares: Vec<(u32, usize)>,
    longest: usize,
    /// When the oldest packet was sent for which a parity is still to be timed.
    since: Option<Timestamp>,
    newest: u64,
    last_sent: Timestamp,
    /// The last parities: the newest number that each covers, and when what it recovers will have been heard of.
    sent: VecDeque<(u64, Timestamp)>,
    /// Lost packets that a parity may bring back, and until when they wait. Not in the order of time.
    deferred: VecDeque<(Timestamp, Content)>,
}

impl CrossGuard {
    /// One that covers nothing yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            encoder: Encoder::new(OVERLAP),
            shares: Vec::new(),
            longest: 0,
            since: None,
            newest: 0,
            last_sent: now,
            sent: VecDeque::new(),
            deferred: VecDeque::new(),
        }
    }

    /// A packet of `stream` is sent.
    pub(super) fn on_sent(&mut self, number: u64, plaintext: &[u8], stream: u32, now: Timestamp) {
        if !self.encoder.add(number, plaintext) {
            return;
        }
        self.since.get_or_insert(now);
        self.newest = number;
        self.last_sent = now;
        self.longest = self.longest.max(plaintext.len());
        let full = self.shares.len() >= MAX_SHARES;
        match self.shares.iter_mut().find(|(known, _)| *known == stream) {
            Some((_, bytes)) => *bytes += plaintext.len(),
            None if full => self.shares[MAX_SHARES - 1].1 += plaintext.len(),
            None => self.shares.push((stream, plaintext.len())),
        }
    }

    /// Whether a parity is due: enough was sent, or the oldest has waited long enough.
    fn is_due(&self, now: Timestamp) -> bool {
        self.since.is_some_and(|since| self.encoder.covered() >= SPACING || now >= since + LATEST)
    }

    /// When to look again: a parity is due, or has not helped.
    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        let overdue = self.deferred.iter().map(|(until, _)| *until).min();
        [self.since.map(|since| since + LATEST), overdue].into_iter().flatten().min()
    }

    /// Bytes that it takes at present.
    pub(super) fn bytes(&self) -> usize {
        self.encoder.bytes() + self.deferred.capacity() * size_of::<(Timestamp, Content)>()
    }

    /// Whether it is of no use any more.
    pub(super) fn is_unused(&self, now: Timestamp) -> bool {
        self.deferred.is_empty() && now.since(self.last_sent) > UNUSED
    }

    /// What the next parity will take on the wire, about.
    fn cost(&self) -> usize {
        PARITY_HEADER + MASK + bondwire_fec::LENGTH_LEN + self.longest
    }

    /// Each covered flow's share of `cost` bytes.
    fn split(&self, cost: usize) -> impl Iterator<Item = (u32, usize)> {
        let total = self.shares.iter().map(|(_, bytes)| bytes).sum::<usize>().max(1);
        self.shares.iter().map(move |(stream, bytes)| (*stream, cost * bytes / total))
    }

    fn is_affordable(&self, streams: &Streams) -> bool {
        self.split(self.cost()).all(|(stream, bytes)| streams.affords(stream, bytes))
    }

    /// Closes a parity, paid for by the flows; the answer to it is expected at `heard`.
    fn take(&mut self, streams: &mut Streams, heard: Timestamp) -> Option<Parity> {
        self.since = None;
        let parity = self.encoder.take_parity()?;
        let cost = PARITY_HEADER + parity.mask.as_bytes().len() + parity.symbol.len();
        for (stream, bytes) in self.split(cost) {
            streams.spend(stream, bytes);
        }
        self.shares.clear();
        self.longest = 0;
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.newest, heard));
        Some(parity)
    }

    /// Lets a lost packet wait for the first parity that covers it. False if it is better to send it again at once.
    pub(super) fn defer(&mut self, content: Content, now: Timestamp) -> bool {
        let covering = self.sent.iter().find(|(newest, _)| *newest >= content.number);
        let Some((_, until)) = covering.filter(|(_, at)| *at > now && *at <= now + PATIENCE) else {
            return false;
        };
        if self.deferred.len() >= MAX_DEFERRED {
            return false;
        }
        self.deferred.push_back((*until, content));
        true
    }

    /// Takes back one that has waited long enough; any without a time.
    pub(super) fn take_overdue(&mut self, now: Option<Timestamp>) -> Option<Content> {
        let at = self.deferred.iter().position(|(until, _)| now.is_none_or(|now| *until <= now))?;
        self.deferred.remove(at).map(|(_, content)| content)
    }

    /// Takes the one with this number back, if it waits.
    pub(super) fn take_deferred(&mut self, number: u64) -> Option<Content> {
        let at = self.deferred.iter().position(|(_, content)| content.number == number)?;
        self.deferred.remove(at).map(|(_, content)| content)
    }
}

impl Session {
    /// Sends the parities of real-time packets that are due, whatever else waits.
    pub(super) fn send_cross_parities(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].cross.as_ref().is_some_and(|cross| cross.is_due(now)) {
                self.send_cross_parity(index, out, now);
            }
        }
    }

    fn send_cross_parity(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        let Some(cross) = &self.lanes[index].cross else { return };
        let carrier =
            self.pick_carrier(index, cross.cost(), now).filter(|_| cross.is_affordable(&self.streams));
        let heard = carrier.map(|carrier| now + self.lanes[carrier].path.rtt().smoothed() + SLACK);
        let (streams, lane) = (&mut self.streams, &mut self.lanes[index]);
        let Some(cross) = &mut lane.cross else { return };
        let (Some(carrier), Some(heard)) = (carrier, heard) else {
            // The next packet begins a new wait; what is covered stays so.
            cross.since = None;
            return;
        };
        let Some(parity) = cross.take(streams, heard) else { return };
        self.write_parity(index, carrier, &parity, out, now);
        if let Some(cross) = &mut self.lanes[index].cross {
            cross.encoder.give_back(parity.symbol);
        }
    }

    /// The path that carries a parity of `size` bytes for the path `index`.
    fn pick_carrier(&self, index: usize, size: usize, now: Timestamp) -> Option<usize> {
        let own = &self.lanes[index];
        self.usable()
            .filter(|(other, lane)| *other == index || lane.takes_copies())
            .filter(|(_, lane)| lane.path.urgent_room(now) >= size)
            .map(|(other, lane)| (lane.path.arrival_after(size, now), other))
            .min()
            .map(|(_, other)| other)
            .or_else(|| (own.is_active() && own.path.urgent_room(now) >= size).then_some(index))
    }
}

impl Lane {
    /// The time from sending something to hearing of it, with some slack.
    pub(super) fn answer_time(&self) -> Duration {
        let rtt = self.path.rtt();
        rtt.smoothed() + rtt.variation().clamp(Duration::from_millis(2), Duration::from_millis(20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::content::Cover;
    use bondwire_fec::Decoder;
    use bondwire_units::PathId;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn content(number: u64) -> Content {
        let mut content = Content::default();
        (content.number, content.cover) = (number, Cover::RealTime(0));
        content
    }

    #[test]
    fn a_parity_is_due_after_some_packets_or_some_time() {
        let mut streams = Streams::new();
        let mut cross = CrossGuard::new(at(0));
        assert_eq!(cross.poll_deadline(), None);
        for number in 0..SPACING as u64 {
            assert!(!cross.is_due(at(number)));
            cross.on_sent(number, &[7; 100], 0, at(number));
        }
        assert!(cross.is_due(at(SPACING as u64)));
        let parity = cross.take(&mut streams, at(90)).expect("packets are covered");
        assert!(!cross.is_due(at(1_000)), "nothing was sent since");
        cross.on_sent(9, &[7; 100], 0, at(100));
        assert!(!cross.is_due(at(100)));
        assert_eq!(cross.poll_deadline(), Some(at(100) + LATEST));
        assert!(cross.is_due(at(100) + LATEST));
        let mut decoder = Decoder::new();
        (0..3).for_each(|number| decoder.handle_packet(number, &[7; 100]));
        decoder.handle_parity(parity.view());
        assert_eq!(decoder.poll_recovered(), Some((3, vec![7; 100])));
        assert!(!cross.is_unused(at(100) + UNUSED));
        assert!(cross.is_unused(at(101) + UNUSED));
    }

    #[test]
    fn a_lost_packet_waits_only_for_a_parity_that_is_about_to_help() {
        let mut streams = Streams::new();
        let mut cross = CrossGuard::new(at(0));
        cross.on_sent(1, &[1; 100], 0, at(0));
        assert!(!cross.defer(content(1), at(5)), "no parity covers it yet");
        cross.take(&mut streams, at(80));
        assert!(!cross.defer(content(1), at(60)), "20 ms are too long");
        assert!(!cross.defer(content(1), at(80)), "it has not helped");
        assert!(cross.defer(content(1), at(70)));
        assert_eq!(cross.poll_deadline(), Some(at(80)));
        assert!(cross.take_overdue(Some(at(79))).is_none());
        assert_eq!(cross.take_overdue(Some(at(80))).map(|content| content.number), Some(1));
        assert!(cross.defer(content(1), at(70)));
        assert!(cross.take_deferred(1).is_some() && cross.take_deferred(1).is_none());
    }

    #[test]
    fn flows_pay_by_their_bytes_and_only_what_they_have() {
        let mut streams = Streams::new();
        let mut cross = CrossGuard::new(at(0));
        for number in 0..40 {
            cross.on_sent(number, &[0; 100], number as u32, at(0));
        }
        assert_eq!(cross.shares.len(), MAX_SHARES);
        assert_eq!(cross.split(4_000).map(|(_, bytes)| bytes).sum::<usize>(), 4_000);
        assert!(!cross.is_affordable(&streams), "flows that nobody knows have nothing");
        for number in 40..80 {
            cross.take(&mut streams, at(number));
            cross.on_sent(number, &[0; 100], 0, at(number));
            streams.on_sent(0, 100, at(number), PathId(0), at(number));
        }
        assert!(cross.sent.len() <= REMEMBERED);
    }
}
