//! Builds packets, in place, in the batch that the caller sends.
//!
//! In order of urgency: what belongs to one path alone (challenges, their answers, probes), control frames and keys, repairs, fresh data
//! and its copies, acknowledgements that found no packet to ride on.

use super::content::{Content, Control, Cover, Item, MAX_ITEMS};
use super::lane::{COPY_WAIT, Copy, Outgoing, overhead};
use super::{Lane, Role, Session, SessionEvent};
use crate::realtime::NO_STREAM;
use crate::reassembly::FRAGMENT_LEN;
use crate::types::{DatagramBatch, Route};
use bondwire_packet::FlowClass;
use bondwire_path::ProbeKind;
use bondwire_units::Timestamp;
use bondwire_wire::frame::{ACK_SINGLE_MAX, CLOSE_MAX, DATA_FRAGMENT_LEN, DATA_HEADER_MIN, DATA_LENGTH_LEN};
use bondwire_wire::{DataHeader, Fragment, HEADER_LEN, INITIATION_LEN, Mode, TAG_LEN, Writer};

/// Packets that one call builds at most.
const RUN: usize = 64;
/// From so many packets on that wait to be sent again, they keep to the pacer.
const MANY_REPAIRS: usize = 16;
/// The plaintext of a packet that fills a challenge's datagram (docs/protocol.md, PATH-1).
const CHALLENGE_ROOM: usize = INITIATION_LEN - HEADER_LEN - TAG_LEN;
/// The plaintext of a challenge or an answer that has to be short.
const SHORT_ROOM: usize = 16;
/// What a CLOSE costs of an address's allowance at most.
const CLOSE_COST: u64 = (CLOSE_MAX + HEADER_LEN + TAG_LEN) as u64 + 48;
/// What they cost of an address's allowance, with the outer headers.
const FULL_CHALLENGE: u64 = INITIATION_LEN as u64 + 48;
pub(super) const SHORT_CHALLENGE: u64 = (SHORT_ROOM + HEADER_LEN + TAG_LEN) as u64 + 48;
/// Frames around an inner packet that is alone in its datagram.
pub(super) const DATAGRAM_OVERHEAD: usize = HEADER_LEN + DATA_HEADER_MIN + TAG_LEN;

/// A packet that is being built.
pub(super) struct Draft {
    len: usize,
    eliciting: bool,
    pub(super) content: Content,
}

impl Session {
    /// Appends what can be sent now to `out`, at most a bounded run.
    pub(crate) fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        if self.close.is_some() {
            self.send_close(out, now);
            return;
        }
        for index in 0..self.lanes.len() {
            self.send_validation(index, out, now);
            self.send_probe(index, out, now);
        }
        self.send_control(out, now);
        let end = out.len() + RUN;
        while out.len() < end && self.send_urgent_repair(out, now) {}
        while out.len() < end && (self.send_sparse(out, now) || self.send_repair(out, now)) {}
        self.send_copies(out, end, now);
        while out.len() < end && self.send_fresh(out, now) {}
        self.send_cross_parities(out, now);
        if self.ingress.bytes() == 0 && self.repairs.is_empty() {
            self.send_tail_parities(out, now);
        }
        self.send_copies(out, end + RUN, now);
        self.send_acks(out, now);
    }

    /// Reserves a packet on a path, lets `fill` write frames into it, seals it, and books it with the path.
    pub(super) fn send_packet(
        &mut self,
        index: usize,
        room: usize,
        out: &mut DatagramBatch,
        now: Timestamp,
        fill: impl FnOnce(&mut Self, &mut Writer<'_>) -> Option<(bool, Content)>,
    ) -> bool {
        let buffer = out.reserve(HEADER_LEN + room + TAG_LEN);
        let mut writer = Writer::new(&mut buffer[HEADER_LEN..HEADER_LEN + room]);
        let Some((eliciting, content)) = fill(self, &mut writer) else { return false };
        let len = writer.written();
        if len == 0 {
            return false;
        }
        let total = self.seal(index, buffer, Draft { len, eliciting, content }, now);
        let route = self.lanes[index].route;
        self.lanes[index].tx.add(total + overhead(route.remote), now);
        out.commit(total, route);
        true
    }

    /// Writes the header, seals the frames behind it, and books the packet. Returns the size of the datagram.
    fn seal(&mut self, index: usize, buffer: &mut [u8], mut draft: Draft, now: Timestamp) -> usize {
        let lane = &mut self.lanes[index];
        let total = HEADER_LEN + draft.len + TAG_LEN;
        let size = total + overhead(lane.route.remote);
        draft.content.number = lane.path.next_number();
        let number = match lane.mtu_probe.take() {
            Some(mtu) => lane.path.on_mtu_probe_sent(mtu, draft.content, now),
            None => lane.path.on_packet_sent(size, draft.eliciting, draft.content, now),
        };
        lane.room.on_sent(size, lane.path.pacing_rate(), now);
        let header = DataHeader {
            phase: self.keys.phase(),
            receiver: self.theirs,
            path: lane.id,
            packet_number: number as u32,
        }
        .encode();
        buffer[..HEADER_LEN].copy_from_slice(&header);
        let (plain, rest) = buffer[HEADER_LEN..].split_at_mut(draft.len);
        Self::protect(lane, &self.streams, number, &draft, plain, now);
        let tag = self.keys.seal_in_place(lane.id, number, &header, plain);
        rest[..TAG_LEN].copy_from_slice(&tag);
        if self.keys.worn_out() {
            // docs/protocol.md, KEY-2
            self.events.push_back(SessionEvent::WornOut);
        }
        total
    }

    /// Room for frames in a full datagram of this path.
    pub(super) fn room(&self, index: usize) -> usize {
        self.lanes[index].path.mtu().saturating_sub(HEADER_LEN + TAG_LEN)
    }

    /// Challenges and answers of one path (docs/protocol.md, PATH-1 and PATH-3).
    fn send_validation(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        let lane = &mut self.lanes[index];
        let due = lane.challenge.is_some_and(|c| c.due <= now);
        let response = lane.response.take();
        if (due || response.is_some()) && lane.allowance.is_none_or(|a| a >= INITIATION_LEN as u64) {
            let elsewhere = response.filter(|(_, route)| *route != lane.route);
            let here = response.filter(|(_, route)| *route == lane.route);
            if due || here.is_some() {
                let challenge = lane.challenge.as_mut().filter(|_| due).map(|c| {
                    c.on_sent(now);
                    c.token
                });
                if let Some(allowance) = &mut lane.allowance {
                    *allowance -= INITIATION_LEN as u64;
                }
                self.send_packet(index, CHALLENGE_ROOM, out, now, |session, w| {
                    let written = here.is_none_or(|(token, _)| w.path_response(token))
                        && challenge.is_none_or(|token| w.path_challenge(token));
                    if let Some(policy) = session.lanes[index].policy().filter(|_| challenge.is_some()) {
                        w.link_policy(&policy);
                    }
                    w.padding_to(CHALLENGE_ROOM);
                    written.then_some((true, Content::default()))
                });
            }
            if let Some((token, route)) = elsewhere {
                // What an unproven address asks may not cost more than what it sent: the answer is short.
                self.send_elsewhere(index, route, SHORT_ROOM, |w| w.path_response(token), out, now);
            }
        }
        self.send_candidate(index, out, now);
    }

    /// Challenges the address that a path may have moved to (docs/protocol.md, PATH-5).
    fn send_candidate(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        let Some(candidate) = &mut self.lanes[index].candidate else { return };
        if candidate.expires <= now {
            self.lanes[index].candidate = None;
            return;
        }
        // A quiet client has not sent enough for a full-size challenge: a short one proves the address as well (RFC 9000, 8.2.1).
        let full = candidate.allowance >= FULL_CHALLENGE;
        let cost = if full { FULL_CHALLENGE } else { SHORT_CHALLENGE };
        if candidate.challenge.due > now || candidate.allowance < cost {
            return;
        }
        candidate.challenge.on_sent(now);
        candidate.allowance -= cost;
        let (route, token) = (candidate.route, candidate.challenge.token);
        let room = if full { CHALLENGE_ROOM } else { SHORT_ROOM };
        self.send_elsewhere(index, route, room, |w| w.path_challenge(token), out, now);
    }

    /// A challenge (or an answer) to another address than the path's.
    fn send_elsewhere(
        &mut self,
        index: usize,
        route: Route,
        room: usize,
        fill: impl FnOnce(&mut Writer<'_>) -> bool,
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        let buffer = out.reserve(HEADER_LEN + room + TAG_LEN);
        let mut writer = Writer::new(&mut buffer[HEADER_LEN..HEADER_LEN + room]);
        if !fill(&mut writer) || !writer.padding_to(room) {
            return;
        }
        let draft = Draft { len: room, eliciting: false, content: Content::default() };
        let total = self.seal(index, buffer, draft, now);
        out.commit(total, route);
    }

    /// A probe of a path that is due: for its life, or for a larger MTU.
    fn send_probe(&mut self, index: usize, out: &mut DatagramBatch, now: Timestamp) {
        let lane = &mut self.lanes[index];
        if lane.challenge.is_some() {
            return;
        }
        let at_once = core::mem::take(&mut lane.probe_now);
        let kind = lane.path.probe_due(now).or(at_once.then_some(ProbeKind::Ping));
        match kind {
            Some(ProbeKind::Ping) => {
                self.send_packet(index, 64, out, now, |session, w| {
                    // The acknowledgements take all the room that is left.
                    let written = w.ping();
                    session.write_acks(w, Some(index), now);
                    written.then_some((true, Content::default()))
                });
            }
            Some(ProbeKind::Mtu(size)) => {
                let room = size.saturating_sub(HEADER_LEN + TAG_LEN);
                self.lanes[index].mtu_probe = Some(size);
                self.send_packet(index, room, out, now, |_, w| {
                    (w.ping() && w.padding_to(room)).then_some((true, Content::default()))
                });
                self.lanes[index].mtu_probe = None;
            }
            None => {}
        }
    }

    /// Control frames and keys, on the path that delivers soonest.
    fn send_control(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        let mut request = self.poll_rekey(now);
        while !self.control.is_empty() || request.is_some() || self.rekey_response.is_some() {
            let Some(index) = self.pick_quickest(now) else { return };
            // A few frames always go; a long list (of what was given up after an outage) keeps to the window.
            let full = self.lanes[index].path.window_room() == 0 && self.control.len() > MAX_ITEMS;
            if full && request.is_none() && self.rekey_response.is_none() {
                return;
            }
            let room = self.room(index);
            let request = request.take();
            self.send_packet(index, room, out, now, |session, w| {
                let mut content = Content::default();
                if let Some((epoch, public)) = request {
                    w.rekey_request(epoch, &public);
                }
                if let Some(response) = session.rekey_response.take() {
                    w.rekey_response(response.epoch, &response.public);
                }
                while content.has_room()
                    && let Some(control) = session.control.pop_front()
                {
                    if session.write_flow_class(w, control) || write_control(w, control) {
                        content.add(Item::Control(control));
                    }
                }
                (!w.is_empty()).then_some((true, content))
            });
        }
    }

    /// The rekey request that is due, if any (docs/protocol.md, KEY-3).
    fn poll_rekey(&mut self, now: Timestamp) -> Option<(u64, [u8; 32])> {
        if self.role == Role::Server || !self.keys.rekey_due(now) || self.pick_quickest(now).is_none() {
            return None;
        }
        let ephemeral = self.random.bytes();
        let request = self.keys.start_rekey(ephemeral, now);
        Some((request.epoch, request.public))
    }

    /// Sends the next packet of a sparse or real-time flow before the many that wait to be sent again: what a path left behind when it died may
    /// take the others a second. False if there is none, or few wait.
    fn send_sparse(&mut self, out: &mut DatagramBatch, now: Timestamp) -> bool {
        if self.repairs.len() <= MANY_REPAIRS {
            return false;
        }
        self.ingress.bring_sparse();
        self.ingress.peek(&mut self.pool, now).is_some_and(|head| head.sparse || head.urgent)
            && self.send_fresh(out, now)
    }

    /// Sends one lost packet again. False if there is none, or no path has room.
    fn send_repair(&mut self, out: &mut DatagramBatch, now: Timestamp) -> bool {
        loop {
            let Some(id) = self.repairs.front().copied() else { return false };
            let Some(size) = self.store.get_mut(id).map(|stored| stored.bytes.len()) else {
                self.repairs.pop_front();
                continue;
            };
            let Some(index) =
                self.pick_repair(size + DATAGRAM_OVERHEAD, self.repairs.len() > MANY_REPAIRS, now)
            else {
                return false;
            };
            self.repairs.pop_front();
            if let Some(stored) = self.store.get_mut(id) {
                stored.queued = false;
                // All fragments go again: the peer may have dropped the ones that it had.
                stored.fragments = 0;
            }
            self.send_stored(index, id, out, now);
            self.counters.repaired += 1;
            return true;
        }
    }

    /// Sends a stored packet on a path: whole, or in fragments where it does not fit (docs/protocol.md, DATA-5).
    pub(super) fn send_stored(
        &mut self,
        index: usize,
        id: crate::store::StoreId,
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        let Some(stored) = self.store.get_mut(id) else { return };
        let (flow, sequence, len) = (stored.flow, stored.sequence, stored.bytes.len());
        let ordered = stored.ordered;
        let first = stored.copies == 0 && !stored.fate.lost && stored.fate.stream != NO_STREAM;
        let cover = match ordered {
            true => Cover::Ordered,
            // What protects real-time packets is not protected itself.
            false if first && self.mode != Mode::Redundant => Cover::RealTime(stored.fate.stream),
            false => Cover::None,
        };
        let whole = len + DATA_HEADER_MIN <= self.room(index);
        let count = if whole { 1 } else { len.div_ceil(FRAGMENT_LEN) };
        for part in 0..count {
            let (fragment, item) = if whole {
                (None, Item::Data(id))
            } else {
                let fragment = Fragment { index: part as u8, last: part + 1 == count };
                (Some(fragment), Item::Fragment(id, part as u8, count as u8))
            };
            let room = self.room(index);
            let sent = self.send_packet(index, room, out, now, |session, w| {
                let stored = session.store.get_mut(id)?;
                let piece = if whole {
                    &stored.bytes[..]
                } else {
                    &stored.bytes[part * FRAGMENT_LEN..len.min((part + 1) * FRAGMENT_LEN)]
                };
                write_data(w, flow, sequence, ordered, fragment, piece)
                    .then_some((true, Content::of(item, cover)))
            });
            if sent && let Some(stored) = self.store.get_mut(id) {
                stored.copies += 1;
            }
        }
        self.send_parity_if_due(index, out, now);
    }

    /// Sends an inner packet that is not kept.
    fn send_once(
        &mut self,
        index: usize,
        flow: u16,
        sequence: u64,
        bytes: &[u8],
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        let len = bytes.len();
        let whole = len + DATA_HEADER_MIN <= self.room(index);
        let count = if whole { 1 } else { len.div_ceil(FRAGMENT_LEN) };
        for part in 0..count {
            let fragment = (!whole).then_some(Fragment { index: part as u8, last: part + 1 == count });
            let range = if whole { 0..len } else { part * FRAGMENT_LEN..len.min((part + 1) * FRAGMENT_LEN) };
            let room = self.room(index);
            self.send_packet(index, room, out, now, |_, w| {
                write_data(w, flow, sequence, false, fragment, &bytes[range])
                    .then_some((true, Content::default()))
            });
        }
    }

    pub(super) fn send_outgoing(
        &mut self,
        index: usize,
        outgoing: Outgoing,
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        match outgoing {
            Outgoing::Kept(id) => self.send_stored(index, id, out, now),
            Outgoing::Once { flow, sequence, bytes } => {
                self.send_once(index, flow, sequence, &bytes, out, now);
                self.pool.give_back(bytes);
            }
        }
    }

    /// Sends the next inner packet from the ingress queue. False if there is none, or if it is better to wait.
    fn send_fresh(&mut self, out: &mut DatagramBatch, now: Timestamp) -> bool {
        let Some(head) = self.ingress.peek(&mut self.pool, now) else {
            for lane in self.lanes.iter_mut().filter(|lane| lane.is_active()) {
                lane.path.set_app_limited(now);
            }
            return false;
        };
        let Some((head, index)) = self.pick_for(head, now) else {
            // A path that is left unused by choice has not shown what it can do: its estimate must not sink for that.
            for lane in self.lanes.iter_mut().filter(|lane| lane.path.send_budget(now) > 0) {
                lane.path.set_app_limited(now);
            }
            return false;
        };
        let Some(packet) = self.ingress.pop(head) else { return false };
        self.counters.sent += 1;
        self.counters.sent_bytes += packet.bytes.len() as u64;
        let (flow, sequence) = (packet.flow, packet.sequence);
        self.ingress.set_path(flow, self.lanes[index].id);
        if packet.class == FlowClass::RealTime {
            self.send_real_time(index, packet, out, now);
            return true;
        }
        let outgoing = if packet.class == FlowClass::Stream {
            let id = self.store.keep(flow, sequence, packet.bytes, now);
            if let Some(segment) = packet.segment {
                self.ingress.on_kept(flow, segment, id, &self.store);
            }
            Outgoing::Kept(id)
        } else {
            Outgoing::Once { flow, sequence, bytes: packet.bytes }
        };
        if self.mode == Mode::Redundant {
            self.queue_copies(index, &outgoing, now);
        }
        let kept = if let Outgoing::Kept(id) = outgoing { Some(id) } else { None };
        self.send_outgoing(index, outgoing, out, now);
        if let Some(id) = kept
            && self.ingress.bytes() == 0
            && let Some(other) = self.pick_spare(index, head.demand, now)
        {
            self.send_stored(other, id, out, now);
            self.counters.copies += 1;
        }
        true
    }

    /// Puts copies of a packet in front of the other paths.
    pub(super) fn queue_copies(&mut self, first: usize, outgoing: &Outgoing, now: Timestamp) {
        for index in self.copy_lanes(first, now) {
            let packet = match outgoing {
                Outgoing::Kept(id) => Outgoing::Kept(*id),
                Outgoing::Once { flow, sequence, bytes } => {
                    Outgoing::Once { flow: *flow, sequence: *sequence, bytes: self.pool.copy(bytes) }
                }
            };
            self.lanes[index].copies.push_back(Copy { packet, since: now });
        }
    }

    /// Sends copies whose path has room; drops those that have waited too long to be of use.
    fn send_copies(&mut self, out: &mut DatagramBatch, end: usize, now: Timestamp) {
        for index in 0..self.lanes.len() {
            while let Some(copy) = self.lanes[index].copies.front() {
                let stale = now.since(copy.since) > COPY_WAIT;
                if !stale && (out.len() >= end || self.lanes[index].path.send_budget(now) == 0) {
                    break;
                }
                let Some(copy) = self.lanes[index].copies.pop_front() else { break };
                match copy.packet {
                    packet if !stale => {
                        self.send_outgoing(index, packet, out, now);
                        self.counters.copies += 1;
                    }
                    Outgoing::Once { bytes, .. } => self.pool.give_back(bytes),
                    Outgoing::Kept(_) => {}
                }
            }
        }
    }

    /// Acknowledgements that are due and found no other packet: all on the quickest path, and now and then each on its own
    /// (docs/protocol.md, FRAME-3).
    fn send_acks(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            if lane.path.wants_ack_on_itself(now) && lane.challenge.is_none() {
                let room = self.room(index);
                let sent = self.send_packet(index, room, out, now, |session, w| {
                    session.write_acks(w, Some(index), now).then_some((false, Content::default()))
                });
                if sent {
                    self.lanes[index].path.on_ack_sent_on_itself(now);
                }
            }
        }
        let reports = |lane: &Lane| lane.solver.as_ref().is_some_and(|solver| solver.has_reports());
        if !self.lanes.iter().any(|lane| lane.path.ack_due(now) || reports(lane)) {
            return;
        }
        // With no path alive an acknowledgement still goes where something came from last: it may be what revives it.
        let last = || {
            let proven = self.lanes.iter().enumerate().filter(|(_, lane)| lane.challenge.is_none());
            proven.max_by_key(|(_, lane)| lane.last_received).map(|(index, _)| index)
        };
        let Some(index) = self.pick_quickest(now).or_else(last) else { return };
        let room = self.room(index);
        self.send_packet(index, room, out, now, |session, w| {
            session.write_acks(w, None, now).then_some((false, Content::default()))
        });
    }

    /// Writes the acknowledgements of one path, or of all paths for which one is due. False if there was none.
    fn write_acks(&mut self, writer: &mut Writer<'_>, only: Option<usize>, now: Timestamp) -> bool {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(solver) = &mut lane.solver {
                solver.write_reports(lane.id, writer);
            }
            let wanted = only.map_or_else(|| lane.path.ack_due(now), |only| only == index);
            if !wanted || writer.remaining() < ACK_SINGLE_MAX {
                continue;
            }
            let id = lane.id;
            if let Some(ack) = lane.path.build_ack(now) {
                let delay = ack.delay.as_micros() as u64;
                writer.ack(id, delay, ack.received_at_micros, ack.ranges.iter().cloned());
            }
        }
        !writer.is_empty()
    }

    /// CLOSE, on every path that is proven, so that one of them arrives (docs/protocol.md, FRAME-5).
    fn send_close(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        let Some((code, text)) = self.close else { return };
        if self.close_sent.is_some() {
            return;
        }
        self.close_sent = Some(now);
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            // An address that is not proven yet may be told as well, within what it has earned: it may be all that there is.
            if let Some(allowance) = &mut lane.allowance {
                if *allowance < CLOSE_COST {
                    continue;
                }
                *allowance -= CLOSE_COST;
            }
            let room = self.room(index).min(CLOSE_MAX);
            self.send_packet(index, room, out, now, |_, w| {
                w.close(code, text).then_some((false, Content::default()))
            });
        }
    }
}

fn write_control(writer: &mut Writer<'_>, control: Control) -> bool {
    match control {
        Control::Mode { sequence, mode } => writer.mode(sequence, mode),
        Control::Status(status) => writer.path_status(&status),
        Control::Policy(policy) => writer.link_policy(&policy),
        Control::PathClose(path) => writer.path_close(path),
        Control::Skip { flow, first, count } => writer.skip(flow, first as u32, count),
        // Written by `write_flow_class`, or there is nothing to say any more.
        Control::FlowClass(_) => false,
    }
}

/// A DATA frame that ends its packet, so that it needs no length.
fn write_data(
    writer: &mut Writer<'_>,
    flow: u16,
    sequence: u64,
    ordered: bool,
    fragment: Option<Fragment>,
    payload: &[u8],
) -> bool {
    debug_assert!(
        payload.len() + DATA_HEADER_MIN + DATA_LENGTH_LEN + DATA_FRAGMENT_LEN <= usize::from(u16::MAX)
    );
    writer.data_header(flow, sequence as u32, ordered, fragment, None) && writer.bytes(payload)
}
