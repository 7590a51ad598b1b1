//! What is heard of a socket between its opening and its end: connects, bytes, resets, age.

use core::net::IpAddr;
use core::time::Duration;

use bondwire_units::{LinkId, Timestamp};

use super::Balancer;
use crate::event::Evidence;
use crate::flows::{Age, counts};
use crate::link::Link;
use crate::request::{ConnectFailure, SocketId, Stage, Transport};

/// The least rate, in bits per second, that makes a socket a transfer, and its part of a slow link's capacity.
const TRANSFER: f64 = 1e6;
const TRANSFER_PART: f64 = 0.05;
/// What goes against a transfer's direction are acknowledgements, up to this part of it.
const ACKNOWLEDGEMENTS: f64 = 0.1;
/// How long a transfer may take to reach its rate (slow start over 200 ms).
const GROWS: Duration = Duration::from_secs(2);
/// When a socket that does not transfer is no fresh one any more.
const SMALL_AFTER: Duration = Duration::from_secs(1);

impl Balancer {
    /// The connect was started on `link` (TCP). Optional: it counts from the opening otherwise.
    pub fn handle_connecting(&mut self, socket: SocketId, link: LinkId, now: Timestamp) {
        let slot = self.slot(link);
        if let Some(flow) = self.flows.get_mut(socket).filter(|flow| flow.transport == Transport::Tcp) {
            flow.stage = Stage::Connecting;
            if flow.link.map(usize::from) == slot {
                flow.connecting = now;
            }
        }
    }

    /// The connect on `link` was answered after `rtt`, counted from its own start; zero if it is not known which question the answer is for (a
    /// repeated SYN). The socket is on `link` now.
    pub fn handle_connected(&mut self, socket: SocketId, link: LinkId, rtt: Duration, now: Timestamp) {
        let Some(slot) = self.slot(link) else { return };
        self.on_connect_answer(slot, rtt, now);
        self.move_to(socket, slot, now);
        if let Some(flow) = self.flows.get_mut(socket) {
            flow.connect_rtt = Some(rtt).filter(|rtt| !rtt.is_zero());
            if flow.transport == Transport::Tcp {
                flow.stage = Stage::Established;
            }
        }
    }

    fn on_connect_answer(&mut self, slot: usize, rtt: Duration, now: Timestamp) {
        let busy = self.links[slot].is_busy(now);
        self.links[slot].carries = true;
        self.links[slot].delay.on_connect(rtt, busy, now);
        let change =
            self.links[slot].health.on_answer(Evidence::TrafficAnswered, now.saturating_sub(rtt), now);
        self.on_change(slot, change, now);
    }

    /// The connect on `link` failed. The socket stays in the table for [`Balancer::next_link`]; if there is no
    /// next one, say [`Balancer::handle_closed`].
    pub fn handle_connect_failed(
        &mut self,
        socket: SocketId,
        link: LinkId,
        why: ConnectFailure,
        now: Timestamp,
    ) {
        self.now = self.now.max(now);
        let Some(slot) = self.slot(link) else { return };
        match why {
            ConnectFailure::Refused => {
                let started = self.flows.get(socket).map_or(now, |flow| flow.connecting);
                self.on_connect_answer(slot, now.since(started), now);
            }
            ConnectFailure::NoAnswer | ConnectFailure::Unreachable => {
                self.on_unanswered(slot, Evidence::ConnectUnanswered, now);
            }
            ConnectFailure::Local => self.on_unanswered(slot, Evidence::LocalError, now),
            ConnectFailure::NoAddress | ConnectFailure::LostRace | ConnectFailure::NotSent => {}
        }
    }

    /// The kernel sent this socket's SYN again (the kernel way; a proxy says `next_link`).
    pub fn handle_syn_repeated(&mut self, socket: SocketId, now: Timestamp) {
        if let Some(slot) = self.flows.get(socket).and_then(|flow| flow.link) {
            self.on_unanswered(usize::from(slot), Evidence::ConnectUnanswered, now);
        }
    }

    /// All that the socket has sent and received since it was opened. Every 250 ms to 2 s while it transfers, and
    /// before it is closed; nothing has to be said while nothing passes.
    pub fn handle_bytes(&mut self, socket: SocketId, up: u64, down: u64, now: Timestamp) {
        self.now = self.now.max(now);
        let is_fresh = self.flows.is_fresh(socket);
        let Some(flow) = self.flows.get_mut(socket) else { return };
        let grew = flow.on_bytes(up, down, now);
        if grew
            && matches!(flow.stage, Stage::Created | Stage::Bound | Stage::Connecting | Stage::Established)
        {
            flow.stage = Stage::Transferring;
        }
        let (up, down) = (flow.rate_up, flow.rate_down);
        let is_growing = !flow.is_old(GROWS, now);
        let (is_small, before) = (flow.is_old(SMALL_AFTER, now), flow.counted);
        let quiet = quiet(flow.transport);
        let Some(slot) = flow.link.map(usize::from) else {
            if grew {
                self.flows.touch(socket, quiet, now);
            }
            return;
        };
        let growing = if is_growing { counts::GROWING } else { 0 };
        let counted = match transfers(&self.links[slot], up, down) {
            0 => 0,
            counted => counted | growing,
        };
        if counted != 0 {
            if grew {
                self.flows.touch(socket, Age::Busy, now);
            }
            self.recount(socket, counted);
        } else if !is_fresh || is_small {
            if grew || before != 0 {
                self.flows.touch(socket, quiet, now);
            }
            self.recount(socket, 0);
        }
        if counted != before {
            self.on_load(now);
        }
    }

    /// The socket is open, though its bytes are counted by nobody: it is not forgotten. `moves`: it sends or receives.
    pub fn handle_alive(&mut self, socket: SocketId, moves: bool, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(flow) = self.flows.get_mut(socket) else { return };
        if moves {
            flow.active = now;
        }
        if self.flows.is_quiet(socket) {
            let transport = self.flows.get(socket).map_or(Transport::Tcp, |flow| flow.transport);
            self.flows.touch(socket, quiet(transport), now);
        }
    }

    /// The remote end, or something that pretended to be it, reset the connection. The socket is gone.
    pub fn handle_reset(&mut self, socket: SocketId, now: Timestamp) {
        if let Some(slot) = self.flows.get(socket).and_then(|flow| flow.link).map(usize::from) {
            let testable = self.probes.can_test(&self.links[slot], now);
            let change = self.links[slot].on_reset(testable, now);
            self.on_change(slot, change, now);
        }
        self.handle_closed(socket, now);
    }

    /// One end has said that it sends no more (TCP).
    pub fn handle_closing(&mut self, socket: SocketId, now: Timestamp) {
        let _ = now;
        if let Some(flow) = self.flows.get_mut(socket).filter(|flow| flow.transport == Transport::Tcp) {
            flow.stage = Stage::Closing;
        }
    }

    /// The socket is gone. Unknown ones are no error: the table may have forgotten it.
    pub fn handle_closed(&mut self, socket: SocketId, now: Timestamp) {
        self.now = self.now.max(now);
        self.forget(socket);
        self.on_load(now);
    }

    /// A name was resolved: rules by name hold for this address in the kernel's way. Kept for an hour if a rule
    /// speaks of the name; at most 4,096.
    pub fn handle_name(&mut self, name: &str, address: IpAddr, now: Timestamp) {
        if self.rules.learn(name, address, now) {
            self.on_load(now);
        }
    }

    /// Sockets whose time in their list is over.
    pub(super) fn expire_sockets(&mut self, now: Timestamp) {
        while let Some((socket, age)) = self.flows.due(now) {
            match age {
                Age::Fresh | Age::Busy => {
                    let Some(transport) = self.flows.get(socket).map(|flow| flow.transport) else { return };
                    self.recount(socket, 0);
                    self.flows.touch(socket, quiet(transport), now);
                    self.on_load(now);
                }
                Age::QuietUdp | Age::QuietTcp => self.forget(socket),
            }
        }
    }
}

fn quiet(transport: Transport) -> Age {
    match transport {
        Transport::Tcp => Age::QuietTcp,
        Transport::Udp => Age::QuietUdp,
    }
}

/// In which directions a socket with these rates transfers.
fn transfers(link: &Link, up: f64, down: f64) -> u8 {
    let enough = |rate: f64, other: f64, capacity: f64| {
        rate >= TRANSFER.min(capacity * TRANSFER_PART) && rate > other * ACKNOWLEDGEMENTS
    };
    let up_counts = if enough(up, down, link.up.capacity) { counts::UP } else { 0 };
    let down_counts = if enough(down, up, link.down.capacity) { counts::DOWN } else { 0 };
    up_counts | down_counts
}
