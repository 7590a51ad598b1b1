//! A socket gets its link, another one in a race, and another one when its own is lost.

use core::time::Duration;

use bondwire_units::{LinkId, Timestamp};

use super::Balancer;
use super::choose::Wish;
use crate::delay::DEFAULT_PATIENCE;
use crate::event::{Event, Evidence};
use crate::flows::{Flow, counts};
use crate::link::Link;
use crate::request::{Placement, Reason, Refusal, Request, SocketId, Stage, Transport};
use crate::shares::take;
use crate::sites::plain_name;

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
    pub(super) fn recount(&mut self, socket: SocketId, counted: u8) {
        let Some(flow) = self.flows.get_mut(socket) else { return };
        let before = core::mem::replace(&mut flow.counted, counted);
        if let Some(slot) = flow.link {
            self.links[usize::from(slot)].count(before, -1);
            self.links[usize::from(slot)].count(counted, 1);
        }
    }

    /// What the socket transfers ends on its link; the counters will show it later.
    fn on_rate_gone(&mut self, socket: SocketId) {
        let Some(flow) = self.flows.get(socket).filter(|flow| flow.counted & !counts::FRESH != 0) else {
            return;
        };
        let Some(slot) = flow.link.map(usize::from) else { return };
        let (lasted, now) = (self.now.since(flow.opened), self.now);
        self.links[slot].up.meter.on_gone(flow.rate_up, lasted, now);
        self.links[slot].down.meter.on_gone(flow.rate_down, lasted, now);
    }

    /// The socket changes its link, with what it counts as.
    pub(super) fn move_to(&mut self, socket: SocketId, slot: usize, now: Timestamp) {
        let Some(flow) = self.flows.get(socket) else { return };
        let (counted, is_udp) = (flow.counted, flow.transport == Transport::Udp);
        if flow.link == Some(slot as u8) {
            return;
        }
        self.on_rate_gone(socket);
        self.recount(socket, 0);
        self.put_on(socket, Some(slot), is_udp);
        self.recount(socket, counted);
        if let Some(key) = self.flows.get(socket).and_then(|flow| flow.site) {
            self.sites.set(key, slot, now);
        }
        self.on_load(now);
    }

    pub(super) fn forget(&mut self, socket: SocketId) {
        self.on_rate_gone(socket);
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
    pub(super) fn on_unanswered(&mut self, slot: usize, why: Evidence, now: Timestamp) {
        self.links[slot].connects_failed += 1;
        self.links[slot].delay.on_connect_unanswered();
        let testable = self.probes.can_test(&self.links[slot], now);
        let change = self.links[slot].health.on_suspicion(why, testable, now);
        self.on_change(slot, change, now);
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
}

fn flow(request: &Request<'_>, now: Timestamp) -> Flow {
    let mut flow = Flow::new(request.transport, request.remote, now);
    flow.name = request.name.map(|name| plain_name(name).into());
    flow.process = request.process.map(Into::into);
    flow
}
