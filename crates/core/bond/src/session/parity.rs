//! Protects what ordered flows send on a path that loses packets (for real-time ones see `cross`): parities, from which the receiver finds what was lost without a round
//! trip (docs/protocol.md, section 8; the code is in `bondwire-fec`).
//!
//! A repair takes a round trip, and everything behind it in its flow waits. At one percent of loss and some thousand packets a second
//! something is always being repaired: the inner sender sees twice the round trip, all the time. A parity each few dozen packets, a few
//! percent of the path's bytes, makes that a few milliseconds. How many there are follows the loss that the path shows, and there are none where there is none.
//!
//! [`Guard`] is the sender's end of one path, [`Solver`] the receiver's. A packet that is lost is sent again only if the first parity
//! behind it has not brought it back.
//!
//! Bounds: [`MAX_DEFERRED`] contents wait for their parity; a solver keeps what its decoder keeps, and [`MAX_REPORTS`] numbers to report. All of it is
//! counted, and comes out of the session's memory (`budget`).

use super::content::{Content, Cover, Item};
use super::cross::{CrossGuard, LEAST_LOSS as LEAST_FLOW_LOSS};
use super::lane::Lane;
use super::send::Draft;
use super::{Delivery, Session};
use crate::realtime::Streams;
use crate::types::{DatagramBatch, DropReason};
use bondwire_fec::{Decoder, Encoder, Parity, ParityRef};
use bondwire_units::{PathId, Timestamp};
use bondwire_wire::frame::{MAX_RECOVERED, PARITY_HEADER, RECOVERED_MAX};
use bondwire_wire::{
    Frame, Frames, Parity as ParityFrame, ParityPart, Recovered, Writer, expand_packet_number,
};
use core::time::Duration;
use std::collections::VecDeque;

/// Parities that cover each packet: as many losses between two parities are made good.
const OVERLAP: usize = 6;
/// Loss from which on a path is protected.
const LEAST_LOSS: f64 = 0.000_5;
/// What is left after 50 ms of the highest loss seen: parities go within seconds when the loss is gone, not between two losses.
const FADE: f64 = 0.985;
/// Parities per packet: so many times the loss, and a share that lets the first one come soon, and keeps [`OVERLAP`] of them within the span
/// of one parity. A quarter of what is sent at most.
const PER_LOSS: f64 = 2.0;
const BASE: f64 = 0.02;
const MOST: f64 = 0.25;
/// The last packets of a burst get their parity after this, and a thin flow one each so often.
const TAIL: Duration = Duration::from_millis(4);
const THIN: Duration = Duration::from_millis(20);
/// Parities that are remembered, to know when one that covers a lost packet will have been heard of.
const REMEMBERED: usize = 16;
/// Lost contents that wait for a parity.
const MAX_DEFERRED: usize = 256;
/// Recovered numbers that wait to be reported.
const MAX_REPORTS: usize = 64;
/// Paths of a session whose packets are remembered at a time, if its memory suffices.
pub(super) const MAX_SOLVERS: usize = 4;
/// A solver that heard of no parity for so long is given up.
const UNUSED: Duration = Duration::from_secs(10);

/// The sending end of a protected path.
#[derive(Debug)]
pub(crate) struct Guard {
    /// None until the path needs protection.
    encoder: Option<Box<Encoder>>,
    /// The highest loss seen, fading.
    loss: f64,
    /// Packets per parity at present; none while the path needs no protection.
    spacing: Option<usize>,
    /// When the oldest packet was sent that no parity covers yet.
    since: Option<Timestamp>,
    newest: u64,
    /// The last parities: the newest number that each covers, and when it was sent.
    sent: VecDeque<(u64, Timestamp)>,
    /// Lost packets that a parity may bring back: until when they wait, their numbers, what they carried.
    deferred: VecDeque<(Timestamp, u64, Content)>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            encoder: None,
            loss: 0.0,
            spacing: None,
            since: None,
            newest: 0,
            sent: VecDeque::new(),
            deferred: VecDeque::new(),
        }
    }
}

impl Guard {
    /// Adapts to the loss that the path shows.
    pub(super) fn set_loss(&mut self, loss: f64) {
        self.loss = loss.max(self.loss * FADE);
        let ratio = (self.loss * PER_LOSS + BASE).min(MOST);
        self.spacing = (self.loss >= LEAST_LOSS).then_some((1.0 / ratio) as usize);
        if !self.is_active() {
            self.encoder = None;
        }
    }

    /// Whether the path is protected now.
    pub(super) fn is_active(&self) -> bool {
        self.spacing.is_some()
    }

    /// A packet with content of ordered flows is sent.
    pub(super) fn on_sent(&mut self, number: u64, plaintext: &[u8], now: Timestamp) {
        if !self.is_active() {
            return;
        }
        let encoder = self.encoder.get_or_insert_with(|| Box::new(Encoder::new(OVERLAP)));
        if encoder.add(number, plaintext) {
            self.since.get_or_insert(now);
            self.newest = number;
        }
    }

    /// Whether a parity is due because enough was sent.
    pub(super) fn is_due(&self) -> bool {
        let covered = self.encoder.as_ref().map_or(0, |encoder| encoder.covered());
        self.spacing.is_some_and(|spacing| covered >= spacing)
    }

    /// When the packets sent so far get a parity though they are few, if nothing follows them.
    pub(super) fn tail_due(&self) -> Option<Timestamp> {
        let after_last = self.sent.back().map_or(Timestamp::ZERO, |(_, at)| *at + THIN);
        self.since.filter(|_| self.is_active()).map(|since| (since + TAIL).max(after_last))
    }

    /// Bytes that it takes at present.
    pub(super) fn bytes(&self) -> usize {
        let deferred = self.deferred.capacity() * size_of::<(Timestamp, u64, Content)>();
        self.encoder.as_ref().map_or(0, |encoder| encoder.bytes()) + deferred
    }

    fn take(&mut self, now: Timestamp) -> Option<Parity> {
        self.since = None;
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.newest, now));
        self.encoder.as_mut()?.take_parity()
    }

    /// Lets a lost packet wait for its parity. False if there is no use in it.
    fn defer(&mut self, content: Content, round_trip: Duration, now: Timestamp) -> bool {
        if !self.is_active() || self.deferred.len() >= MAX_DEFERRED {
            return false;
        }
        let covering = self.sent.iter().find(|(newest, _)| *newest >= content.number).map(|(_, at)| *at);
        // One that is yet to come is sent within the time that a few packets take.
        let until = covering.unwrap_or(now + TAIL) + round_trip;
        if until <= now {
            return false;
        }
        self.deferred.push_back((until, content.number, content));
        true
    }

    /// When the first of the deferred has waited long enough.
    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        self.deferred.front().map(|(until, ..)| *until)
    }

    /// Takes the deferred back whose time is over; all of them without a time.
    pub(super) fn take_overdue(&mut self, now: Option<Timestamp>) -> Option<Content> {
        let (until, ..) = self.deferred.front()?;
        if now.is_none_or(|now| *until <= now) { self.deferred.pop_front().map(|(_, _, c)| c) } else { None }
    }

    fn take_deferred(&mut self, number: u64) -> Option<Content> {
        let at = self.deferred.iter().position(|(_, deferred, _)| *deferred == number)?;
        self.deferred.remove(at).map(|(_, _, content)| content)
    }
}

/// The receiving end of a protected path.
#[derive(Debug)]
pub(crate) struct Solver {
    decoder: Decoder,
    /// The first part of a parity that came in two.
    half: Option<Half>,
    reports: VecDeque<u64>,
    last_parity: Timestamp,
}

#[derive(Debug)]
struct Half {
    first: u64,
    key: u8,
    mask: Vec<u8>,
    symbol: Vec<u8>,
}

impl Solver {
    fn new(now: Timestamp) -> Self {
        Self { decoder: Decoder::new(), half: None, reports: VecDeque::new(), last_parity: now }
    }

    /// A packet arrived on the path.
    pub(super) fn handle_packet(&mut self, number: u64, plaintext: &[u8]) {
        self.decoder.handle_packet(number, plaintext);
    }

    /// A parity, or a part of one.
    fn handle_parity(&mut self, parity: &ParityFrame<'_>, first: u64, now: Timestamp) {
        self.last_parity = now;
        let (key, mask, symbol) = (parity.key, parity.mask, parity.symbol);
        match parity.part {
            ParityPart::Whole => self.decoder.handle_parity(ParityRef { first, mask, key, symbol }),
            ParityPart::First => {
                self.half = Some(Half { first, key, mask: mask.to_vec(), symbol: symbol.to_vec() });
            }
            ParityPart::Second => {
                let matching = self.half.take().filter(|half| (half.first, half.key) == (first, key));
                let Some(Half { mask, symbol: mut whole, .. }) = matching else { return };
                whole.extend_from_slice(symbol);
                self.decoder.handle_parity(ParityRef { first, mask: &mask, key, symbol: &whole });
            }
        }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_unused(&self, now: Timestamp) -> bool {
        now.since(self.last_parity) > UNUSED
    }

    /// Bytes that it takes at present.
    pub(super) fn bytes(&self) -> usize {
        let half = self.half.as_ref().map_or(0, |half| half.mask.capacity() + half.symbol.capacity());
        self.decoder.bytes() + half
    }

    /// Whether recovered packets wait to be reported.
    pub(super) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Writes what was recovered, as far as there is room.
    pub(super) fn write_reports(&mut self, path: PathId, writer: &mut Writer<'_>) {
        while self.has_reports() && writer.remaining() >= RECOVERED_MAX {
            let count = self.reports.len().min(MAX_RECOVERED);
            let numbers: Vec<u32> = self.reports.drain(..count).map(|number| number as u32).collect();
            writer.recovered(path, numbers.into_iter());
        }
    }
}

impl Session {
    /// Sends the parity of a path if one is due: on the path itself, which pays for what it loses.
    pub(super) fn send_parity_if_due(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        if self.lanes[index].guard.is_due() {
            self.send_parity(index, out, now);
        }
    }

    /// Sends the parities of bursts that have ended: with nothing queued there is room for them.
    pub(super) fn send_tail_parities(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            let due = lane.guard.tail_due().is_some_and(|at| at <= now);
            if due && lane.is_active() && lane.path.send_budget(now) > 0 {
                self.send_parity(index, out, now);
            }
        }
    }

    fn send_parity(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        let Some(parity) = self.lanes[index].guard.take(now) else { return };
        self.write_parity(index, index, &parity, out, now);
        if let Some(encoder) = &mut self.lanes[index].guard.encoder {
            encoder.give_back(parity.symbol);
        }
    }

    /// Sends a parity over the packets of the path `index`, on the path `carrier`.
    pub(super) fn write_parity(
        &mut self,
        index: usize,
        carrier: usize,
        parity: &Parity,
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        let path = self.lanes[index].id;
        let mask = parity.mask.as_bytes();
        let room = self.room(carrier);
        let fits = room.saturating_sub(PARITY_HEADER + mask.len());
        let frame = |part, mask, symbol| ParityFrame {
            path,
            part,
            key: parity.key,
            first: parity.first as u32,
            mask,
            symbol,
        };
        let parts = if parity.symbol.len() <= fits {
            [Some(frame(ParityPart::Whole, mask, &parity.symbol[..])), None]
        } else {
            let (head, tail) = parity.symbol.split_at(fits);
            [Some(frame(ParityPart::First, mask, head)), Some(frame(ParityPart::Second, &[], tail))]
        };
        for part in parts.iter().flatten() {
            self.send_packet(carrier, room, out, now, |_, w| {
                w.parity(part).then_some((true, Content::default()))
            });
        }
        self.counters.parities += 1;
    }

    /// A packet of a path is lost: its content is sent again, at once or if no parity brings it back.
    pub(super) fn on_lost_on(&mut self, index: usize, content: Content, now: Timestamp) {
        let lane = &mut self.lanes[index];
        let deferred = match content.cover {
            Cover::None => false,
            Cover::Ordered => {
                let answer = lane.answer_time();
                lane.guard.defer(content, answer, now)
            }
            Cover::RealTime(_) => {
                if content.items().any(|item| self.store.on_recovered_lost(item.stored(), &mut self.pool)) {
                    return;
                }
                lane.cross.as_mut().is_some_and(|cross| cross.defer(content, now))
            }
        };
        if !deferred {
            self.on_lost(content);
        }
    }

    /// Sends again what no parity has brought back.
    pub(super) fn give_up_on_parities(&mut self, index: usize, now: Option<Timestamp>) {
        while let Some(content) = self.lanes[index].guard.take_overdue(now) {
            self.on_lost(content);
        }
        while let Some(content) = self.lanes[index].cross.as_mut().and_then(|cross| cross.take_overdue(now)) {
            self.on_lost(content);
        }
    }

    /// The peer has found packets without their being sent again (docs/protocol.md, FEC-3).
    pub(super) fn handle_recovered(&mut self, recovered: &Recovered<'_>) {
        let Some(index) = self.lanes.iter().position(|lane| lane.id == recovered.path) else { return };
        for number in recovered.numbers() {
            let lane = &mut self.lanes[index];
            let number = expand_packet_number(number, lane.path.next_number());
            let urgent = lane.cross.as_mut().and_then(|cross| cross.take_deferred(number));
            let lost = urgent.is_some();
            let content = urgent
                .or_else(|| lane.guard.take_deferred(number))
                .or_else(|| lane.path.content_of(number).copied());
            match content {
                Some(content) if matches!(content.cover, Cover::RealTime(_)) => {
                    self.on_recovered(content, lost)
                }
                Some(content) => self.on_acked(content),
                None => {}
            }
        }
    }

    /// A real-time packet reached the peer by its parity; whether it was lost is known, or will be.
    fn on_recovered(&mut self, content: Content, lost: bool) {
        for item in content.items() {
            match item {
                Item::Data(id) => self.store.on_recovered(id, lost, &mut self.pool),
                Item::Fragment(..) | Item::Control(_) => return self.on_acked(content),
            }
        }
    }

    /// A parity arrived, on whichever path (docs/protocol.md, FEC-2).
    pub(super) fn handle_parity(&mut self, parity: &ParityFrame<'_>, now: Timestamp) {
        let solvers = self.lanes.iter().filter(|lane| lane.solver.is_some()).count();
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == parity.path) else { return };
        if lane.solver.is_none() && (solvers >= self.budget.solvers() || lane.challenge.is_some()) {
            return;
        }
        let first = expand_packet_number(parity.first, lane.expected);
        let solver = lane.solver.get_or_insert_with(|| Box::new(Solver::new(now)));
        solver.handle_parity(parity, first, now);
    }

    /// Treats what was recovered as if it had arrived.
    pub(super) fn take_recovered(&mut self, delivery: &mut Delivery<'_>, now: Timestamp) {
        for index in 0..self.lanes.len() {
            // DATA opens and closes no path.
            while let Some((number, plain)) = self.lanes[index].poll_recovered() {
                let path = self.lanes[index].id;
                for frame in Frames::new(&plain) {
                    // Nothing else is ever covered: what is found so was not sealed by itself (docs/protocol.md, FEC-2).
                    match frame {
                        Ok(Frame::Data(data)) => self.handle_data(path, &data, true, delivery, now),
                        _ => self.counters.drops.count(DropReason::Malformed),
                    }
                }
                self.counters.recovered += 1;
                let Some(solver) = self.lanes[index].solver.as_mut() else { break };
                solver.decoder.give_back(plain);
                if solver.reports.len() < MAX_REPORTS {
                    solver.reports.push_back(number);
                }
            }
        }
    }

    /// Adds a packet to the parities of its path.
    pub(super) fn protect(
        lane: &mut Lane,
        streams: &Streams,
        number: u64,
        draft: &Draft,
        plain: &[u8],
        now: Timestamp,
    ) {
        match draft.content.cover {
            Cover::None => {}
            Cover::Ordered => lane.guard.on_sent(number, plain, now),
            Cover::RealTime(stream) => {
                if lane.guard.is_active() || streams.recent_loss(stream).0 >= LEAST_FLOW_LOSS {
                    let cross = lane.cross.get_or_insert_with(|| Box::new(CrossGuard::new(now)));
                    cross.on_sent(number, plain, stream, now);
                }
            }
        }
    }
}

impl Lane {
    fn poll_recovered(&mut self) -> Option<(u64, Vec<u8>)> {
        self.solver.as_mut()?.decoder.poll_recovered()
    }
}
