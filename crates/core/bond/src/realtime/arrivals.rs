//! What comes in, flow by flow of the peer's numbering, without a look into each packet.
//!
//! Only the first packet of a wire flow, one after a pause, and every [`LOOK`]th one are parsed to learn which inner flow the number stands
//! for; the others cost a few additions. The numbers' gaps say what was lost, and what came late says what was saved.
//!
//! Bounds: one entry for each flow number that the peer uses for flows that are not TCP, at most the 4,096 of docs/protocol.md, DATA-1.

use super::stats::{Fates, Save};
use bondwire_units::{PathId, Timestamp};
use core::time::Duration;

/// Every how many packets the inner flow is looked at again.
const LOOK: u32 = 32;
/// After so long without a packet it is, too: the number may have gone to another flow.
const PAUSE: Duration = Duration::from_millis(400);
/// A gap in the numbers that is larger than this is no loss: the number has gone on for another flow, or the link was away.
const MAX_GAP: u64 = 2_048;
/// What is behind the newest by this much is lost if it has not come.
const SETTLED: u64 = 64;
/// A change of path explains what comes late for so long.
const CHANGE: Duration = Duration::from_secs(1);

/// One wire flow, as it comes in.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The record of the inner flow.
    pub(crate) stream: u32,
    /// Where the payload of its packets begins; 0 if that is not known.
    pub(crate) payload_at: usize,
    /// Packets since the flow was last looked at.
    since_look: u32,
    last: Timestamp,
    /// One above the newest sequence.
    next: u64,
    /// Which of the last 64 sequences below `next` have come; bit 0 is `next - 1`.
    seen: u64,
    /// Which of them came by parity, and not by themselves.
    recovered: u64,
    path: Option<PathId>,
    changed_at: Option<Timestamp>,
    /// Mean gap, and mean deviation from it, in microseconds.
    gap: f32,
    jitter: f32,
    /// What became of the packets.
    pub(crate) fates: Fates,
}

impl Arrival {
    fn new(now: Timestamp) -> Self {
        Self {
            stream: super::NO_STREAM,
            payload_at: 0,
            since_look: LOOK,
            last: now,
            next: 0,
            seen: u64::MAX,
            recovered: 0,
            path: None,
            changed_at: None,
            gap: 0.0,
            jitter: 0.0,
            fates: Fates::default(),
        }
    }

    /// Starts over, for another inner flow.
    pub(crate) fn restart(&mut self, stream: u32) {
        let (next, path, payload_at) = (self.next, self.path, self.payload_at);
        *self = Self { stream, payload_at, since_look: 0, next, path, ..Self::new(self.last) };
    }

    /// By how much gaps vary.
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter as u64)
    }

    /// The path on which the newest packet came.
    pub(crate) fn path(&self) -> Option<PathId> {
        self.path
    }

    /// When the last packet came.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    fn note_gap(&mut self, now: Timestamp) {
        let gap = now.since(self.last).as_secs_f32() * 1e6;
        if self.gap == 0.0 {
            self.gap = gap;
        }
        self.jitter += ((gap - self.gap).abs() - self.jitter) / 16.0;
        self.gap += (gap - self.gap) / 16.0;
    }

    /// Books a packet that came for the first time.
    fn on_sequence(&mut self, sequence: u64, path: PathId, size: usize, recovered: bool, now: Timestamp) {
        if sequence >= self.next {
            let step = sequence - self.next + 1;
            if self.next == 0 || step > MAX_GAP {
                (self.next, self.seen, self.recovered) = (sequence + 1, u64::MAX, 0);
                self.fates.on_packets(1, size, now);
            } else {
                self.fates.on_packets(step, size, now);
                self.fates.on_lost_first(step - 1);
                // What leaves the window of the last 64 without having come is lost.
                let leaving = if step >= SETTLED { u64::MAX } else { !(u64::MAX >> step) };
                let missing = u64::from((!self.seen & leaving).count_ones()) + step.saturating_sub(SETTLED);
                self.fates.on_lost(missing);
                self.seen = if step >= SETTLED { 0 } else { self.seen << step };
                self.seen |= 1;
                self.recovered = if step >= SETTLED { 0 } else { self.recovered << step };
                self.next = sequence + 1;
            }
            if recovered {
                self.fates.on_lost_first(1);
                self.fates.on_saved(Save::Redundancy);
                self.recovered |= 1;
                return;
            }
            if self.path != Some(path) {
                self.changed_at = self.path.map(|_| now);
                self.path = Some(path);
            }
            return;
        }
        self.fates.on_packets(0, size, now);
        let behind = self.next - 1 - sequence;
        let bit = 1_u64.checked_shl(behind as u32).unwrap_or(0);
        if bit == 0 || self.seen & bit != 0 {
            return;
        }
        self.seen |= bit;
        let moved = self.changed_at.is_some_and(|at| now.since(at) < CHANGE);
        match (recovered, moved) {
            (true, _) => {
                self.fates.on_saved(Save::Redundancy);
                self.recovered |= bit;
            }
            // Overtaken on one and the same path: nothing was lost.
            (false, _) if self.path == Some(path) && behind < 3 => self.fates.on_spurious(),
            (false, true) => self.fates.on_saved(Save::Failover),
            (false, false) => self.fates.on_saved(Save::Repair),
        }
    }

    /// A packet that was recovered has come by itself.
    fn on_overtaken(&mut self, sequence: u64) {
        let behind = (self.next - 1).saturating_sub(sequence);
        let bit = 1_u64.checked_shl(behind as u32).unwrap_or(0);
        if sequence < self.next && self.recovered & bit != 0 {
            self.recovered &= !bit;
            self.fates.on_spurious();
            self.fates.saved[Save::Redundancy as usize] -= 1;
        }
    }
}

/// All that comes in unordered.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// By flow number.
    entries: Vec<Option<Box<Arrival>>>,
}

impl Arrivals {
    /// A packet of a flow that is not TCP came for the first time. Returns the entry if the inner flow has to be looked at now, so that
    /// the caller can [`Arrival::restart`] it.
    pub(crate) fn on_packet(
        &mut self,
        flow: u16,
        sequence: u64,
        path: PathId,
        size: usize,
        now: Timestamp,
    ) -> (&mut Arrival, bool) {
        let arrival = self.entry(flow, now);
        let look = arrival.since_look >= LOOK || now.since(arrival.last) >= PAUSE;
        arrival.since_look = if look { 0 } else { arrival.since_look + 1 };
        arrival.note_gap(now);
        arrival.last = now;
        arrival.on_sequence(sequence, path, size, false, now);
        (arrival, look)
    }

    /// A packet was made whole from parity: to be called for one that [`Arrivals::on_packet`] has not seen.
    pub(crate) fn on_recovered(&mut self, flow: u16, sequence: u64, size: usize, now: Timestamp) {
        let arrival = self.entry(flow, now);
        let path = arrival.path.unwrap_or_default();
        arrival.on_sequence(sequence, path, size, true, now);
    }

    /// A packet came that the receiver had already. If it had it by parity, and this is its first transmission, nothing was lost.
    pub(crate) fn on_duplicate(&mut self, flow: u16, sequence: u64, path: PathId) {
        let entry = self.entries.get_mut(usize::from(flow)).and_then(Option::as_mut);
        if let Some(arrival) = entry.filter(|arrival| arrival.path == Some(path)) {
            arrival.on_overtaken(sequence);
        }
    }

    /// All that has come, with the record that it belongs to.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.entries.iter().flatten().map(Box::as_ref)
    }

    fn entry(&mut self, flow: u16, now: Timestamp) -> &mut Arrival {
        let index = usize::from(flow);
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index].get_or_insert_with(|| Box::new(Arrival::new(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn gaps_are_losses_and_what_fills_them_is_saved() {
        let mut arrivals = Arrivals::default();
        let mut looks = 0;
        for n in 1..=1_000_u64 {
            if n % 50 == 0 {
                continue;
            }
            looks += u32::from(arrivals.on_packet(1, n, PathId(0), 200, at(n * 20)).1);
            if n % 100 == 53 {
                arrivals.on_packet(1, n - 3, PathId(1), 200, at(n * 20 + 1));
            }
            if n % 100 == 3 && n > 100 {
                arrivals.on_recovered(1, n - 3, 200, at(n * 20 + 1));
            }
        }
        let fates = arrivals.iter().next().unwrap().fates;
        assert_eq!((fates.packets, fates.lost_first), (999, 19), "the last gap is not known yet");
        assert_eq!(fates.saved, [0, 9, 10]);
        assert_eq!(fates.lost, 0);
        assert!(looks < 60, "{looks}");
    }

    #[test]
    fn what_never_comes_is_lost_and_a_change_of_path_is_a_failover() {
        let mut arrivals = Arrivals::default();
        for n in (1..=100).chain(110..=120).chain(103..=106).chain(121..=300) {
            let path = PathId(u8::from(n > 100));
            arrivals.on_packet(1, n, path, 200, at(n * 5));
        }
        let fates = arrivals.iter().next().unwrap().fates;
        assert_eq!((fates.packets, fates.lost_first, fates.lost), (300, 9, 5));
        assert_eq!(fates.saved, [4, 0, 0]);
    }

    #[test]
    fn a_parity_that_was_quicker_than_its_packet_saved_nothing() {
        let mut arrivals = Arrivals::default();
        for n in [1, 2, 3] {
            arrivals.on_packet(1, n, PathId(0), 200, at(n));
        }
        arrivals.on_recovered(1, 4, 200, at(4));
        arrivals.on_packet(1, 5, PathId(0), 200, at(5));
        arrivals.on_duplicate(1, 4, PathId(1));
        let fates = arrivals.iter().next().unwrap().fates;
        assert_eq!(
            (fates.lost_first, fates.saved),
            (1, [0, 1, 0]),
            "what came on another path was sent again"
        );
        arrivals.on_duplicate(1, 4, PathId(0));
        arrivals.on_duplicate(1, 4, PathId(0));
        let fates = arrivals.iter().next().unwrap().fates;
        assert_eq!((fates.packets, fates.lost_first, fates.saved), (5, 0, [0, 0, 0]));
    }

    #[test]
    fn what_is_overtaken_on_its_own_path_was_not_lost() {
        let mut arrivals = Arrivals::default();
        for n in [1, 2, 4, 3, 5, 6] {
            arrivals.on_packet(1, n, PathId(0), 200, at(n));
        }
        let fates = arrivals.iter().next().unwrap().fates;
        assert_eq!((fates.packets, fates.lost_first, fates.saved), (6, 0, [0, 0, 0]));
    }
}
