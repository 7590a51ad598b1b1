//! Takes packets apart: opens, drops copies, and hands each frame to the part that it concerns.

use super::content::{Content, Control, Item};
use super::lane::{Challenge, Lane, overhead};
use super::{Delivery, MAX_PATHS, Outlet, Role, Session, SessionEvent};
use crate::order::Tag;
use crate::types::{Arrival, DropReason, Route};
use bondwire_path::{AckInfo, PathState};
use bondwire_units::{PathId, Timestamp};
use bondwire_wire::frame::PathState as PeerState;
use bondwire_wire::{
    Ack, Data, DataHeader, Frame, Frames, HEADER_LEN, Mode, PathStatus, expand_packet_number, expand_sequence,
};
use core::time::Duration;

/// A server takes path ids that are at most so far above the highest that it knows.
const PATH_AHEAD: u16 = 32;

impl Session {
    /// A Data datagram for this session arrived. It is opened in place. Returns whether it was authentic.
    pub(crate) fn handle_datagram(
        &mut self,
        arrival: Arrival,
        datagram: &mut [u8],
        delivery: &mut Delivery<'_>,
        now: Timestamp,
    ) -> bool {
        let route = arrival.route;
        match self.open(route, datagram, now) {
            Ok((index, plain)) => {
                self.last_received = now;
                let bytes = datagram.len() + overhead(route.remote);
                let eliciting = self.handle_frames(
                    index,
                    arrival,
                    &datagram[HEADER_LEN..HEADER_LEN + plain.len],
                    delivery,
                    now,
                );
                if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == plain.path) {
                    if let Some(solver) = &mut lane.solver {
                        solver.handle_packet(plain.number, &datagram[HEADER_LEN..HEADER_LEN + plain.len]);
                    }
                    lane.path.on_packet_received(plain.number, eliciting, arrival.waited, now);
                    self.on_address(plain, route, bytes, now);
                }
                self.take_recovered(delivery, now);
                true
            }
            Err(reason) => {
                self.counters.drops.count(reason);
                false
            }
        }
    }

    /// Finds the path, checks for replay, opens. Creates a path that the client has opened (docs/protocol.md, PATH-1).
    fn open(
        &mut self,
        route: Route,
        datagram: &mut [u8],
        now: Timestamp,
    ) -> Result<(usize, Opened), DropReason> {
        let header = DataHeader::decode(datagram).map_err(|_| DropReason::Malformed)?;
        let known = self.lanes.iter().position(|lane| lane.id == header.path);
        let fresh = known.is_none();
        if fresh && !self.may_create(header.path) {
            return Err(DropReason::UnknownPath);
        }
        let expected = known.map_or(0, |index| self.lanes[index].expected);
        let number = expand_packet_number(header.packet_number, expected);
        if known.is_some_and(|index| !self.lanes[index].replay.check(number)) {
            return Err(DropReason::Replayed);
        }
        let (head, sealed) = datagram.split_at_mut(HEADER_LEN);
        let len = self
            .keys
            .open_in_place(header.phase, header.path, number, head, sealed, now)
            .map_err(|_| DropReason::NotAuthentic)?;
        let index = match known {
            Some(index) => index,
            None => {
                let challenge = Challenge::new(self.random.token(), now);
                self.next_path = self.next_path.max(u16::from(header.path.0) + 1);
                self.lanes.push(Lane::new(header.path, route, 1_500, challenge, true, now));
                self.lanes.len() - 1
            }
        };
        let lane = &mut self.lanes[index];
        lane.replay.commit(number);
        let newest = number >= lane.expected;
        lane.expected = lane.expected.max(number + 1);
        Ok((index, Opened { path: header.path, number, len, newest }))
    }

    fn may_create(&self, id: PathId) -> bool {
        let id = u16::from(id.0);
        self.role == Role::Server
            && self.lanes.len() < MAX_PATHS
            && id >= self.next_path.saturating_sub(PATH_AHEAD)
            && id < self.next_path + PATH_AHEAD
            && !self.closed_paths.contains(&PathId(id as u8))
    }

    /// Books a packet with the address from which it came (docs/protocol.md, PATH-5).
    fn on_address(&mut self, packet: Opened, route: Route, bytes: usize, now: Timestamp) {
        let token = self.random_token_if_needed(packet, route);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == packet.path) else { return };
        if lane.route == route {
            lane.on_received(bytes, now);
            return;
        }
        lane.rx.add(bytes, now);
        lane.last_received = now;
        if let Some(token) = token {
            lane.on_other_address(route, bytes, token, now);
        }
    }

    /// A fresh token where this packet may begin a move to another address: at the server, and only by the newest packet.
    fn random_token_if_needed(&mut self, packet: Opened, route: Route) -> Option<[u8; 8]> {
        let lane = self.lanes.iter().find(|lane| lane.id == packet.path)?;
        let moved = self.role == Role::Server && packet.newest && lane.route != route;
        moved.then(|| self.random.token())
    }

    /// Hands out the frames of a packet. Returns whether it has to be acknowledged.
    fn handle_frames(
        &mut self,
        index: usize,
        arrival: Arrival,
        plain: &[u8],
        delivery: &mut Delivery<'_>,
        now: Timestamp,
    ) -> bool {
        let mut eliciting = false;
        let arrived_on = self.lanes[index].id;
        for frame in Frames::new(plain) {
            let Ok(frame) = frame else {
                self.events.push_back(SessionEvent::Fatal("the peer sent a frame that cannot be read"));
                return eliciting;
            };
            eliciting |= frame.is_ack_eliciting();
            match frame {
                Frame::Padding | Frame::Ping => {}
                Frame::Ack(ack) => self.handle_ack(arrived_on, &ack, arrival.waited, now),
                Frame::PathChallenge(token) => {
                    if let Some(lane) = self.lane(arrived_on) {
                        lane.response = Some((token, arrival.route));
                    }
                }
                Frame::PathResponse(token) => self.handle_path_response(arrived_on, token, now),
                Frame::PathStatus(status) => self.handle_path_status(status, now),
                Frame::PathClose(id) => self.handle_path_close(id, now),
                Frame::Close { code, .. } => self.events.push_back(SessionEvent::PeerClosed(code)),
                Frame::RekeyRequest { epoch, public } => self.handle_rekey_request(epoch, public, now),
                Frame::RekeyResponse { epoch, public } => {
                    self.handle_rekey_response(epoch, public, now);
                }
                Frame::Skip { flow, first, count } => {
                    if let Some(expected) = self.order.expected(flow) {
                        let first = expand_sequence(first, expected);
                        let mut outlet = Outlet { batch: delivery.batch, smoother: &mut self.smoother, now };
                        self.order.handle_skip(flow, first, count, &mut outlet, &mut self.pool, now);
                    }
                }
                Frame::Mode { sequence, mode } => self.handle_mode(sequence, mode),
                Frame::Parity(parity) => self.handle_parity(&parity, now),
                Frame::Recovered(recovered) => self.handle_recovered(&recovered),
                Frame::LinkPolicy(policy) => self.handle_link_policy(policy, now),
                Frame::FlowClass(flow) => self.handle_flow_class(&flow, now),
                Frame::Data(data) => self.handle_data(arrived_on, &data, false, delivery, now),
            }
        }
        eliciting
    }

    fn lane(&mut self, id: PathId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    fn handle_ack(&mut self, arrived_on: PathId, ack: &Ack<'_>, waited: Duration, now: Timestamp) {
        let Some(index) = self.lanes.iter().position(|lane| lane.id == ack.path) else { return };
        let info = AckInfo {
            largest: ack.largest,
            delay: Duration::from_micros(ack.delay_micros),
            received_at_micros: ack.received_at,
            waited,
            ranges: ack.ranges(),
        };
        let (mut acked, mut lost) = (core::mem::take(&mut self.acked), core::mem::take(&mut self.lost));
        let result =
            self.lanes[index].path.handle_ack(info, arrived_on == ack.path, &mut acked, &mut lost, now);
        if result.is_err() {
            // docs/protocol.md, FRAME-2
            self.events.push_back(SessionEvent::Fatal("the peer acknowledged what was never sent"));
        }
        for content in acked.drain(..) {
            self.on_acked(content);
        }
        for content in lost.drain(..) {
            self.on_lost_on(index, content, now);
        }
        (self.acked, self.lost) = (acked, lost);
        self.after_path_change(index, now);
    }

    pub(super) fn on_acked(&mut self, content: Content) {
        for item in content.items() {
            match item {
                Item::Data(id) => {
                    self.store.on_acknowledged(id, None, &mut self.pool);
                }
                Item::Fragment(id, index, count) => {
                    if self.store.on_acknowledged(id, Some((index, count)), &mut self.pool) {
                        self.queue_repair(id);
                    }
                }
                Item::Control(_) => {}
            }
        }
    }

    pub(super) fn on_lost(&mut self, content: Content) {
        for item in content.items() {
            match item {
                Item::Data(id) | Item::Fragment(id, _, _) => {
                    if self.store.on_lost(id) {
                        self.queue_repair(id);
                    }
                }
                Item::Control(control) => self.control_again(control),
            }
        }
    }

    /// A control frame goes out again, unless a newer one has overtaken it.
    pub(super) fn control_again(&mut self, control: Control) {
        let stale = match control {
            Control::Mode { sequence, .. } => sequence < self.mode_sequence,
            Control::Status(status) => {
                self.lanes.iter().any(|lane| lane.id == status.path && lane.status_told > status.sequence)
            }
            Control::Policy(policy) => self.is_stale(&policy),
            Control::PathClose(_) | Control::Skip { .. } | Control::FlowClass(_) => false,
        };
        if !stale {
            self.control.push_back(control);
        }
    }

    fn handle_path_response(&mut self, id: PathId, token: [u8; 8], now: Timestamp) {
        let Some(index) = self.lanes.iter().position(|lane| lane.id == id) else { return };
        let lane = &mut self.lanes[index];
        if lane.challenge.is_some_and(|challenge| challenge.token == token) {
            lane.on_validated(now);
            self.after_path_change(index, now);
            self.tell_policy(index);
        } else if let Some(candidate) = lane.candidate.filter(|c| c.challenge.token == token) {
            lane.route = candidate.route;
            lane.candidate = None;
            // What went to the old address since the move is gone, and says nothing of the path's loss.
            self.rescue_in_flight(index, now);
            self.lanes[index].path.on_link_up(now);
            self.after_path_change(index, now);
        }
    }

    /// The peer tells how it sees a path.
    fn handle_path_status(&mut self, status: PathStatus, now: Timestamp) {
        let Some(index) = self.lanes.iter().position(|lane| lane.id == status.path) else { return };
        if status.sequence <= self.lanes[index].status_seen {
            return;
        }
        self.lanes[index].status_seen = status.sequence;
        self.lanes[index].doubted = status.state != PeerState::Usable;
        match status.state {
            PeerState::NotUsable => {
                self.lanes[index].path.on_link_down(now);
                self.after_path_change(index, now);
            }
            // The peer doubts its own direction: see at once how this one is, and tell what came.
            PeerState::Standby => {
                self.lanes[index].probe_now = true;
                self.lanes[index].path.acknowledge_again(now);
            }
            PeerState::Usable => {
                self.lanes[index].path.on_link_up(now);
                self.lanes[index].probe_now = self.lanes[index].state != PathState::Active;
            }
        }
    }

    fn handle_path_close(&mut self, id: PathId, now: Timestamp) {
        if self.role == Role::Client {
            return;
        }
        // Also when the path's first packet is yet to come: it is closed before it was open.
        self.closed_paths.insert(id);
        if let Some(index) = self.lanes.iter().position(|lane| lane.id == id) {
            self.lanes[index].path.on_link_down(now);
            self.after_path_change(index, now);
            self.lanes.remove(index);
        }
    }

    fn handle_rekey_request(&mut self, epoch: u64, public: [u8; 32], now: Timestamp) {
        if self.role == Role::Client {
            return;
        }
        let ephemeral = self.random.bytes();
        match self.keys.handle_rekey_request(epoch, public, ephemeral, now) {
            Ok(response) => self.rekey_response = Some(response),
            Err(error) if error.is_fatal() => {
                self.events.push_back(SessionEvent::Fatal("the peer's new key is not usable"));
            }
            Err(_) => self.counters.drops.count(DropReason::Malformed),
        }
    }

    fn handle_rekey_response(&mut self, epoch: u64, public: [u8; 32], now: Timestamp) {
        if self.role == Role::Server {
            return;
        }
        match self.keys.handle_rekey_response(epoch, public, now) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => {
                self.events.push_back(SessionEvent::Fatal("the peer's new key is not usable"));
            }
            Err(_) => self.counters.drops.count(DropReason::Malformed),
        }
    }

    fn handle_mode(&mut self, sequence: u64, mode: Mode) {
        if self.role == Role::Server && sequence > self.mode_sequence {
            self.mode_sequence = sequence;
            self.mode = mode;
        }
    }

    pub(super) fn handle_data(
        &mut self,
        arrived_on: PathId,
        data: &Data<'_>,
        recovered: bool,
        delivery: &mut Delivery<'_>,
        now: Timestamp,
    ) {
        self.last_data = now;
        let Some(expected) = self.order.expected(data.flow) else {
            self.counters.drops.count(DropReason::Malformed);
            return;
        };
        let sequence = expand_sequence(data.sequence, expected);
        let tag = Tag { flow: data.flow, sequence, ordered: data.ordered };
        let whole;
        let packet = match data.fragment {
            None => data.payload,
            Some(fragment) => {
                if !self.order.wants(tag) {
                    return;
                }
                let pool = &mut self.pool;
                let complete =
                    self.reassembly.handle_fragment(data.flow, sequence, fragment, data.payload, pool, now);
                let Some(complete) = complete else { return };
                whole = complete;
                &whole[..]
            }
        };
        if let Err(reason) = (delivery.admit)(packet) {
            // docs/protocol.md, DATA-6. What is dropped here still has its place in the order of its flow.
            self.counters.drops.count(reason);
            if data.ordered {
                let mut outlet = Outlet { batch: delivery.batch, smoother: &mut self.smoother, now };
                self.order.handle_skip(data.flow, sequence, 1, &mut outlet, &mut self.pool, now);
            }
            return;
        }
        if is_datagram(packet) {
            match (self.order.wants(tag), recovered) {
                (true, false) => self.on_arrival(tag, packet, arrived_on, now),
                (true, true) => self.arrivals.on_recovered(tag.flow, sequence, packet.len(), now),
                (false, false) => self.arrivals.on_duplicate(tag.flow, sequence, arrived_on),
                (false, true) => {}
            }
        }
        let mut outlet = Outlet { batch: delivery.batch, smoother: &mut self.smoother, now };
        self.order.handle_packet(tag, packet, &mut outlet, &mut self.pool, now);
    }
}

/// Whether an inner packet is anything but TCP, as far as the first header says.
fn is_datagram(packet: &[u8]) -> bool {
    let protocol =
        if packet.first().is_some_and(|first| first >> 4 == 4) { packet.get(9) } else { packet.get(6) };
    protocol.is_some_and(|protocol| *protocol != bondwire_packet::protocol::TCP)
}

/// A packet that was opened.
#[derive(Clone, Copy, Debug)]
struct Opened {
    path: PathId,
    number: u64,
    len: usize,
    newest: bool,
}
