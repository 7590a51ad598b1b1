//! Puts ordered flows back in order, and drops what came twice.
//!
//! Each flow waits for its own gaps only. A gap ends when it is filled, when the sender says that nothing will come (SKIP), or when
//! the wait is over (docs/protocol.md, DATA-3); a packet that was given up on is still delivered if it comes later, once.
//! A TCP acknowledgement without data waits for nothing: it says all that earlier ones said, and one that is lost would hold the sender's whole
//! transfer up until it is repaired. One that was overtaken by a later one of its connection is dropped.
//! Flows that are not ordered are delivered at once (DATA-4); a window of [`UNORDERED_WINDOW`] sequences recognises copies.
//!
//! Bounds: [`MAX_FLOW_ID`] flows; the bytes given at construction for held packets of all flows together, each counted with
//! [`HELD_OVERHEAD`] (when they are exceeded, the longest held gap is given up); one place for each [`PLACE_BYTES`] of them, however many flows have
//! gaps; [`MAX_LATE`] given-up sequences remembered per flow.

use crate::pool::Pool;
use bondwire_packet::{FlowKey, Offload, PacketBatch, parse};
use bondwire_units::Timestamp;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

/// Flow identifiers above this are not accepted.
pub(crate) const MAX_FLOW_ID: u16 = 4_095;
/// How far behind the newest a copy of an unordered packet is recognised.
const UNORDERED_WINDOW: u64 = 4_096;
/// How far ahead of the next one a packet of an ordered flow may be.
const ORDERED_WINDOW: u64 = 1 << 17;
/// Given-up sequences remembered per flow.
const MAX_LATE: usize = 128;
/// What a held packet costs beside its bytes.
const HELD_OVERHEAD: usize = 64;
/// The greatest packet that is a mere acknowledgement: IPv6 and a full TCP header.
const SMALL: usize = 40 + 60;
/// Bytes of the budget for each place in a ring, filled or missing.
const PLACE_BYTES: usize = 32;
/// A ring that is empty gives its memory back from this many places on.
const IDLE_RING: usize = 256;

/// Where packets go that wait for nothing any more.
pub(crate) trait Deliver {
    /// Takes the next one.
    fn deliver(&mut self, packet: &[u8]);
}

impl Deliver for PacketBatch {
    fn deliver(&mut self, packet: &[u8]) {
        self.push(packet, Offload::default());
    }
}

/// What happened to packets here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounters {
    /// Packets delivered.
    pub delivered: u64,
    /// Bytes delivered.
    pub delivered_bytes: u64,
    /// Copies dropped.
    pub duplicates: u64,
    /// Packets that had to wait for an earlier one.
    pub held: u64,
    /// Sequences whose wait was over before they came.
    pub gave_up: u64,
    /// Sequences that the sender said would not come.
    pub skipped: u64,
    /// Packets that came after they were given up on, and were delivered all the same.
    pub late: u64,
    /// Acknowledgements that came after a later one of their connection, and were dropped.
    pub overtaken: u64,
    /// Packets outside every window.
    pub out_of_window: u64,
}

/// Which inner packet it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    /// The flow's identifier.
    pub(crate) flow: u16,
    /// Its place in the flow.
    pub(crate) sequence: u64,
    /// The flow is put in order.
    pub(crate) ordered: bool,
}

#[derive(Debug)]
enum Place {
    Missing,
    Held(Vec<u8>),
    /// Delivered before its turn.
    Gone,
    Skipped,
}

#[derive(Debug, Default)]
struct Flow {
    /// Ordered: the next sequence to be delivered. Unordered: one above the newest seen.
    next: u64,
    /// Places from `next` on. Ordered flows only; the first one, if any, is `Missing`.
    ring: VecDeque<Place>,
    /// Packets held in the ring, and those that went before their turn.
    held: usize,
    /// The connection of the acknowledgement that last went before its turn, and what it acknowledged, as long as there is a gap.
    newest: Option<(FlowKey, u32)>,
    /// When the present gap began.
    gap_since: Timestamp,
    late: BTreeSet<u64>,
    /// Unordered flows: which of the last sequences have come.
    seen: Vec<u64>,
}

/// The receiving end of all flows.
#[derive(Debug)]
pub(crate) struct Order {
    flows: Vec<Option<Box<Flow>>>,
    gapped: BTreeSet<u16>,
    held_bytes: usize,
    limit: usize,
    /// Places in all rings together.
    places: usize,
    counters: OrderCounters,
}

impl Order {
    /// A receiver that holds at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            flows: Vec::new(),
            gapped: BTreeSet::new(),
            held_bytes: 0,
            limit,
            places: 0,
            counters: OrderCounters::default(),
        }
    }

    /// Holds at most `limit` bytes from now on. What is held beyond that goes with the next packet.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What happened so far.
    pub(crate) fn counters(&self) -> OrderCounters {
        self.counters
    }

    /// Bytes that wait for earlier ones.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The sequence that a truncated one of this flow is expanded around; none if the flow id is not acceptable.
    pub(crate) fn expected(&mut self, flow: u16) -> Option<u64> {
        self.flow(flow).map(|f| f.next)
    }

    /// Whether this packet would be delivered or held, not dropped: to be asked before fragments are put together.
    pub(crate) fn wants(&mut self, Tag { flow: id, sequence, ordered }: Tag) -> bool {
        let Some(flow) = self.flow(id) else { return false };
        if !ordered {
            return !flow.has_seen(sequence);
        }
        match sequence.checked_sub(flow.next) {
            None => flow.late.contains(&sequence),
            Some(ahead) => {
                ahead < ORDERED_WINDOW
                    && flow
                        .ring
                        .get(ahead as usize)
                        .is_none_or(|place| matches!(place, Place::Missing | Place::Skipped))
            }
        }
    }

    /// A packet arrived. It, and whatever waited for it, goes to `deliver`.
    pub(crate) fn handle_packet(
        &mut self,
        Tag { flow: id, sequence, ordered }: Tag,
        packet: &[u8],
        deliver: &mut impl Deliver,
        pool: &mut Pool,
        now: Timestamp,
    ) {
        if !ordered {
            self.handle_unordered(id, sequence, packet, deliver);
            return;
        }
        let Some(flow) = self.flow(id) else {
            self.counters.out_of_window += 1;
            return;
        };
        let Some(ahead) = sequence.checked_sub(flow.next) else {
            let late = flow.late.remove(&sequence);
            if late {
                self.counters.late += 1;
                self.deliver(packet, deliver);
            } else {
                self.counters.duplicates += 1;
            }
            return;
        };
        if ahead == 0 && flow.ring.is_empty() {
            flow.next += 1;
            self.deliver(packet, deliver);
            return;
        }
        if ahead >= ORDERED_WINDOW {
            self.counters.out_of_window += 1;
            return;
        }
        match acknowledgement_of(packet) {
            Some(acknowledged) => self.pass(id, ahead as usize, packet, acknowledged, deliver, now),
            None => self.hold(id, ahead as usize, packet, pool, now),
        }
        if ahead == 0 {
            self.release(id, deliver, pool, now);
        }
        while self.held_bytes > self.limit && self.give_up_longest(deliver, pool, now) {}
    }

    /// The sender says that `count` sequences from `first` on will not come.
    pub(crate) fn handle_skip(
        &mut self,
        id: u16,
        first: u64,
        count: u16,
        deliver: &mut impl Deliver,
        pool: &mut Pool,
        now: Timestamp,
    ) {
        let places = self.places;
        let most = self.limit / PLACE_BYTES;
        let Some(flow) = self.flow(id) else { return };
        let end = first + u64::from(count);
        if end <= flow.next {
            return;
        }
        if flow.ring.is_empty() && first <= flow.next {
            // Nothing waits: the flow simply goes on behind what will not come.
            let skipped = end - flow.next;
            flow.remember_run(flow.next, end);
            flow.next = end;
            self.counters.skipped += skipped;
            return;
        }
        let ahead = (end - flow.next) as usize;
        let grow = ahead.saturating_sub(flow.ring.len());
        if ahead as u64 > ORDERED_WINDOW || places + grow > most {
            self.counters.out_of_window += 1;
            return;
        }
        flow.ring.resize_with(flow.ring.len() + grow, || Place::Missing);
        let mut skipped = 0;
        let from = (first.max(flow.next) - flow.next) as usize;
        for place in flow.ring.iter_mut().take(ahead).skip(from) {
            if matches!(place, Place::Missing) {
                *place = Place::Skipped;
                skipped += 1;
            }
        }
        self.places += grow;
        self.counters.skipped += skipped;
        self.release(id, deliver, pool, now);
    }

    /// Gives up on gaps that have been waited for longer than `wait`.
    pub(crate) fn handle_timeout(
        &mut self,
        wait: Duration,
        deliver: &mut impl Deliver,
        pool: &mut Pool,
        now: Timestamp,
    ) {
        while let Some((since, id)) = self.longest_gap() {
            if now.since(since) < wait {
                return;
            }
            self.give_up(id, deliver, pool, now);
        }
    }

    /// When the longest gap will have lasted for `wait`.
    pub(crate) fn poll_deadline(&self, wait: Duration) -> Option<Timestamp> {
        self.longest_gap().map(|(since, _)| since + wait)
    }

    fn longest_gap(&self) -> Option<(Timestamp, u16)> {
        self.gapped
            .iter()
            .filter_map(|id| Some((self.flows.get(usize::from(*id))?.as_ref()?.gap_since, *id)))
            .min()
    }

    fn flow(&mut self, id: u16) -> Option<&mut Flow> {
        if id > MAX_FLOW_ID {
            return None;
        }
        let index = usize::from(id);
        if self.flows.len() <= index {
            self.flows.resize_with(index + 1, || None);
        }
        Some(self.flows[index].get_or_insert_with(Box::default))
    }

    fn handle_unordered(&mut self, id: u16, sequence: u64, packet: &[u8], deliver: &mut impl Deliver) {
        let Some(flow) = self.flow(id) else {
            self.counters.out_of_window += 1;
            return;
        };
        if flow.has_seen(sequence) {
            self.counters.duplicates += 1;
            return;
        }
        flow.on_seen(sequence);
        self.deliver(packet, deliver);
    }

    fn deliver(&mut self, packet: &[u8], deliver: &mut impl Deliver) {
        self.counters.delivered += 1;
        self.counters.delivered_bytes += packet.len() as u64;
        deliver.deliver(packet);
    }

    fn hold(&mut self, id: u16, ahead: usize, packet: &[u8], pool: &mut Pool, now: Timestamp) {
        if !self.occupy(id, ahead, now) {
            return;
        }
        let Some(flow) = self.flow(id) else { return };
        flow.ring[ahead] = Place::Held(pool.copy(packet));
        self.held_bytes += packet.len() + HELD_OVERHEAD;
        if ahead > 0 {
            self.counters.held += 1;
        }
    }

    /// Delivers an acknowledgement before its turn, unless a later one went before.
    fn pass(
        &mut self,
        id: u16,
        ahead: usize,
        packet: &[u8],
        (key, number): (FlowKey, u32),
        deliver: &mut impl Deliver,
        now: Timestamp,
    ) {
        if !self.occupy(id, ahead, now) {
            return;
        }
        let Some(flow) = self.flow(id) else { return };
        flow.ring[ahead] = Place::Gone;
        let overtaken = flow
            .newest
            .is_some_and(|(other, newest)| other == key && (number.wrapping_sub(newest) as i32) < 0);
        if overtaken {
            self.counters.overtaken += 1;
        } else {
            flow.newest = Some((key, number));
            self.deliver(packet, deliver);
        }
    }

    /// Takes the place of a packet that came. False if it is taken, or beyond what may be remembered.
    fn occupy(&mut self, id: u16, ahead: usize, now: Timestamp) -> bool {
        let places = self.places;
        let most = self.limit / PLACE_BYTES;
        let Some(flow) = self.flow(id) else { return false };
        let grow = (ahead + 1).saturating_sub(flow.ring.len());
        if places + grow > most {
            self.counters.out_of_window += 1;
            return false;
        }
        flow.ring.resize_with(flow.ring.len() + grow, || Place::Missing);
        let taken = matches!(flow.ring[ahead], Place::Held(_) | Place::Gone);
        if !taken {
            flow.held += 1;
            if flow.held == 1 && ahead > 0 {
                flow.gap_since = now;
            }
        }
        self.places += grow;
        if taken {
            self.counters.duplicates += 1;
        } else {
            self.gapped.insert(id);
        }
        !taken
    }

    /// Delivers what no longer waits for anything.
    fn release(&mut self, id: u16, deliver: &mut impl Deliver, pool: &mut Pool, now: Timestamp) {
        loop {
            let Some(flow) = self.flow(id) else { return };
            match flow.ring.front() {
                Some(Place::Held(_)) => {}
                Some(Place::Gone) => {
                    flow.ring.pop_front();
                    flow.next += 1;
                    flow.held -= 1;
                    self.places -= 1;
                    continue;
                }
                Some(Place::Skipped) => {
                    let passed = self.pass_over(id, |place| matches!(place, Place::Skipped));
                    self.places -= passed;
                    continue;
                }
                Some(Place::Missing) | None => break,
            }
            let Some(Place::Held(packet)) = flow.ring.pop_front() else { break };
            flow.next += 1;
            flow.held -= 1;
            self.places -= 1;
            self.held_bytes -= packet.len() + HELD_OVERHEAD;
            self.deliver(&packet, deliver);
            pool.give_back(packet);
        }
        let Some(flow) = self.flow(id) else { return };
        if flow.held > 0 {
            flow.gap_since = now;
            return;
        }
        flow.newest = None;
        let trimmed = flow.trim();
        self.places -= trimmed;
        self.gapped.remove(&id);
    }

    /// Goes beyond the places at the front that are `empty`; returns how many.
    fn pass_over(&mut self, id: u16, empty: fn(&Place) -> bool) -> usize {
        let Some(flow) = self.flow(id) else { return 0 };
        let passed = flow.ring.iter().take_while(|place| empty(place)).count();
        flow.ring.drain(..passed);
        let from = flow.next;
        flow.next += passed as u64;
        flow.remember_run(from, flow.next);
        passed
    }

    /// Stops waiting for the first gap of a flow.
    fn give_up(&mut self, id: u16, deliver: &mut impl Deliver, pool: &mut Pool, now: Timestamp) {
        let passed = self.pass_over(id, |place| !matches!(place, Place::Held(_) | Place::Gone));
        self.places -= passed;
        self.counters.gave_up += passed as u64;
        self.release(id, deliver, pool, now);
    }

    fn give_up_longest(&mut self, deliver: &mut impl Deliver, pool: &mut Pool, now: Timestamp) -> bool {
        let Some((_, id)) = self.longest_gap() else { return false };
        self.give_up(id, deliver, pool, now);
        true
    }
}

/// The connection and the number of a TCP segment that acknowledges and does nothing else.
fn acknowledgement_of(packet: &[u8]) -> Option<(FlowKey, u32)> {
    if packet.len() > SMALL {
        return None;
    }
    let info = parse(packet).ok()?;
    info.tcp.filter(bondwire_packet::TcpInfo::is_pure_ack).map(|tcp| (info.key, tcp.acknowledgement))
}

impl Flow {
    /// Remembers the last of the sequences `from..to`, in case they come after all.
    fn remember_run(&mut self, from: u64, to: u64) {
        self.late.extend(from.max(to.saturating_sub(MAX_LATE as u64))..to);
        while self.late.len() > MAX_LATE {
            self.late.pop_first();
        }
    }

    /// A ring that holds nothing keeps no empty places behind the last skip, and no memory for its worst time. Returns how many places went.
    fn trim(&mut self) -> usize {
        let before = self.ring.len();
        while matches!(self.ring.back(), Some(Place::Missing)) {
            self.ring.pop_back();
        }
        if self.ring.is_empty() && self.ring.capacity() > IDLE_RING {
            self.ring = VecDeque::new();
        }
        before - self.ring.len()
    }

    fn has_seen(&self, sequence: u64) -> bool {
        if sequence >= self.next {
            return false;
        }
        if sequence + UNORDERED_WINDOW < self.next || self.seen.is_empty() {
            return true;
        }
        let bit = sequence % UNORDERED_WINDOW;
        self.seen[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn on_seen(&mut self, sequence: u64) {
        if self.seen.is_empty() {
            self.seen = vec![0; (UNORDERED_WINDOW / 64) as usize];
        }
        if sequence >= self.next {
            if sequence - self.next >= UNORDERED_WINDOW {
                self.seen.fill(0);
            } else {
                for skipped in self.next..sequence {
                    let bit = skipped % UNORDERED_WINDOW;
                    self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
                }
            }
            self.next = sequence + 1;
        }
        let bit = sequence % UNORDERED_WINDOW;
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
