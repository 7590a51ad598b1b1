//! A socket's life, as the world tells it.

use core::net::IpAddr;
use core::time::Duration;

use bondwire_units::{LinkId, Timestamp};

use super::Balancer;
use super::choose::Wish;
use crate::delay::DEFAULT_PATIENCE;
use crate::event::{Event, Evidence};
use crate::flows::{Age, Flow, counts};
use crate::link::Link;
use crate::request::{ConnectFailure, Placement, Reason, Refusal, Request, SocketId, Stage, Transport};
use crate::shares::take;
use crate::sites::plain_name;

/// The least rate, in bits per second, that makes a socket a transfer, and its part of a slow link's capacity.
const TRANSFER: f64 = 1e6;
const TRANSFER_PART: f64 = 0.05;
/// What goes against a transfer's direction are acknowledgements, up to this part of it.
const ACKNOWLEDGEMENTS: f64 = 0.1;
/// When a socket that does not transfer is no fresh one any more.
const SMALL_AFTER: Duration = Duration::from_secs(1);

impl Balancer {
    /// Chooses a link for a new socket.
    ///
    /// # Errors
    /// When no link may be used, or a strict rule names one that does not work.
    pub fn open(&mut self, request: &Request<'_>, now: Timestamp) -> Result<Placement, Refusal> {
        self.now = self.now.max(now);
        let refused = |balancer: &mut Self, refusal| {
            balancer.totals.refused += 1;
            Err(refusal)
        };
        let wish = match self.wish(request) {
            Ok(Some(wish)) => wish,
            Ok(None) => return Ok(self.insert_bypassed(request, now)),
            Err(refusal) => return refused(self, refusal),
        };
        let key = self
            .sticky
            .contains(request.transport, request.remote.port())
            .then(|| self.sites.key(request.name, request.remote.ip()));
        let site = key.and_then(|key| self.sites.get(key, now));
        let Some((slot, reason)) = self.choose(wish, site, now) else {
            return refused(self, Refusal::NoLink);
        };
        if let Some(key) = key {
            self.sites.set(key, slot, now);
        }
        let mut flow = flow(request, now);
        (flow.reason, flow.site) = (reason, key);
        (flow.interactive, flow.avoid, flow.tried) = (wish.interactive, wish.avoid, 1 << slot);
        let socket = self.insert(flow, Some(slot), now);
        Ok(self.placement(socket, slot, reason))
    }

    fn placement(&self, socket: SocketId, slot: usize, reason: Reason) -> Placement {
        let Link { config, delay, .. } = &self.links[slot];
        Placement { socket, link: Some(config.id), reason, patience: delay.patience() }
    }

    fn insert_bypassed(&mut self, request: &Request<'_>, now: Timestamp) -> Placement {
        let mut flow = flow(request, now);
        flow.reason = Reason::Rule;
        let socket = self.insert(flow, None, now);
        Placement { socket, link: None, reason: Reason::Rule, patience: DEFAULT_PATIENCE }
    }

    /// Takes in a socket for which the kernel chose `link`; none, or a link that is not known: bypassed.
    pub fn adopt(&mut self, request: &Request<'_>, link: Option<LinkId>, now: Timestamp) -> SocketId {
        self.now = self.now.max(now);
        let mut flow = flow(request, now);
        flow.reason = Reason::Adopted;
        let slot = link.and_then(|link| self.slot(link));
        if let Ok(Some(wish)) = self.wish(request) {
            (flow.interactive, flow.avoid) = (wish.interactive, wish.avoid);
            let candidates = self.candidates(wish).map_or(0, |candidates| candidates.mask);
            if let Some(slot) = slot.filter(|slot| !wish.interactive && candidates >> slot & 1 == 1) {
                take(&mut self.links, candidates, slot, self.mix, now);
            }
        }
        self.insert(flow, slot, now)
    }

    fn insert(&mut self, mut flow: Flow, slot: Option<usize>, now: Timestamp) -> SocketId {
        while self.flows.is_full() {
            let Some(oldest) = self.flows.most_forgettable() else { break };
            self.totals.forgotten += 1;
            self.forget(oldest);
        }
        self.totals.opened += 1;
        let pace = (-now.since(self.paced).as_secs_f64()).exp();
        (self.pace, self.paced) = (self.pace * pace + 1.0, now);
        let is_udp = flow.transport == Transport::Udp;
        if flow.stage == Stage::Created && slot.is_some() {
            flow.stage = Stage::Bound;
        }
        flow.tried |= slot.map_or(0, |slot| 1 << slot);
        let is_small = flow.interactive;
        let socket = self.flows.insert(flow);
        self.put_on(socket, slot, is_udp);
        if let Some(slot) = slot {
            self.links[slot].opened += 1;
            if !is_small {
                self.recount(socket, counts::FRESH);
            }
            self.on_load(now);
        }
        socket
    }

    /// The socket is on `slot` from now on, and counts as nothing yet.
    fn put_on(&mut self, socket: SocketId, slot: Option<usize>, is_udp: bool) {
        let Some(flow) = self.flows.get_mut(socket) else { return };
        let old = flow.link;
        flow.link = slot.map(|slot| slot as u8);
        if let Some(old) = old {
            self.links[usize::from(old)].sockets -= 1;
        }
        if let Some(slot) = slot {
            self.links[slot].sockets += 1;
        }
        if is_udp {
            self.flows.on_datagram_link(socket, slot);
        }
    }

    /// What the socket counts as on its link.
    fn recount(&mut self, socket: SocketId, counted: u8) {
        let Some(flow) = self.flows.get_mut(socket) else { return };
        let before = core::mem::replace(&mut flow.counted, counted);
        if let Some(slot) = flow.link {
            self.links[usize::from(slot)].count(before, -1);
            self.links[usize::from(slot)].count(counted, 1);
        }
    }

    /// The socket changes its link, with what it counts as.
    fn move_to(&mut self, socket: SocketId, slot: usize, now: Timestamp) {
        let Some(flow) = self.flows.get(socket) else { return };
        let (counted, is_udp) = (flow.counted, flow.transport == Transport::Udp);
        if flow.link == Some(slot as u8) {
            return;
        }
        self.recount(socket, 0);
        self.put_on(socket, Some(slot), is_udp);
        self.recount(socket, counted);
        if let Some(key) = self.flows.get(socket).and_then(|flow| flow.site) {
            self.sites.set(key, slot, now);
        }
        self.on_load(now);
    }

    fn forget(&mut self, socket: SocketId) {
        self.recount(socket, 0);
        if let Some(Flow { link: Some(slot), .. }) = self.flows.remove(socket) {
            self.links[usize::from(slot)].sockets -= 1;
        }
    }

    /// The next link for a socket whose connect was not answered within its patience, or failed. The one before
    /// may still win: [`Balancer::handle_connected`] says which did. None if all that may be used were tried.
    pub fn next_link(&mut self, socket: SocketId, now: Timestamp) -> Option<Placement> {
        self.now = self.now.max(now);
        let flow = self.flows.get(socket)?;
        let (before, connecting, tried) = (usize::from(flow.link?), flow.connecting, flow.tried);
        let wish = Wish {
            avoid: flow.avoid,
            without: tried,
            interactive: flow.interactive,
            // A site that is slow to answer is no reason to use a backup while other links hear something.
            no_backup: crate::shares::slots(tried).any(|slot| {
                self.links[slot].health.heard() > connecting
                    && self.links[slot].priority < crate::config::Priority::Backup
            }),
            named: None,
        };
        let (slot, _) = self.choose(wish, None, now)?;
        let waited = now.since(connecting);
        if waited + Duration::from_millis(10) >= self.links[before].delay.patience() {
            self.on_unanswered(before, Evidence::ConnectUnanswered, now);
        }
        self.totals.raced += 1;
        self.links[slot].opened += 1;
        self.move_to(socket, slot, now);
        if let Some(flow) = self.flows.get_mut(socket) {
            flow.tried |= 1 << slot;
            flow.connecting = now;
            flow.reason = Reason::Race;
        }
        Some(self.placement(socket, slot, Reason::Race))
    }

    /// Something speaks against a link.
    fn on_unanswered(&mut self, slot: usize, why: Evidence, now: Timestamp) {
        self.links[slot].connects_failed += 1;
        let testable = self.probes.can_test(&self.links[slot], now);
        let change = self.links[slot].health.on_suspicion(why, testable, now);
        self.on_change(slot, change, now);
    }

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

    /// The connect on `link` was answered after `rtt`, counted from its own start. The socket is on `link` now.
    pub fn handle_connected(&mut self, socket: SocketId, link: LinkId, rtt: Duration, now: Timestamp) {
        let Some(slot) = self.slot(link) else { return };
        self.on_connect_answer(slot, rtt, now);
        self.move_to(socket, slot, now);
        if let Some(flow) = self.flows.get_mut(socket) {
            flow.connect_rtt = Some(rtt);
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
            ConnectFailure::NoAddress | ConnectFailure::LostRace => {}
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
        let (is_small, before) = (flow.is_old(SMALL_AFTER, now), flow.counted);
        let quiet = quiet(flow.transport);
        let Some(slot) = flow.link.map(usize::from) else {
            if grew {
                self.flows.touch(socket, quiet, now);
            }
            return;
        };
        let counted = transfers(&self.links[slot], up, down);
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

    /// Moves the next UDP flow of a link that was lost, and says so. While no link works they stay where they are.
    pub(super) fn move_datagram(&mut self) -> Option<Event> {
        while self.moving != 0 {
            let from = self.moving.trailing_zeros() as usize;
            let Some(socket) = self.flows.datagram_on(from) else {
                self.moving &= self.moving - 1;
                continue;
            };
            let flow = self.flows.get(socket)?;
            let wish = Wish {
                avoid: flow.avoid,
                interactive: flow.interactive,
                without: 1 << from,
                ..Wish::default()
            };
            let target = if self.links[from].may_be_used() && self.links[from].is_stable() {
                None
            } else {
                self.choose(wish, None, self.now)
            };
            let Some((to, _)) = target.filter(|&(to, _)| self.links[to].is_stable()) else {
                self.moving &= self.moving - 1;
                continue;
            };
            self.move_to(socket, to, self.now);
            self.totals.moved += 1;
            return Some(Event::SocketMoved { socket, from: self.id(from), to: self.id(to) });
        }
        None
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

fn flow(request: &Request<'_>, now: Timestamp) -> Flow {
    let mut flow = Flow::new(request.transport, request.remote, now);
    flow.name = request.name.map(|name| plain_name(name).into());
    flow.process = request.process.map(Into::into);
    flow
}
