//! The transparent way: the kernel chooses by the policy's plan, and tells of each socket afterwards.
//!
//! Here the policy's plan is put into the kernel's terms ([`plan`]), what the kernel tells is brought to the policy, and a dead link's mark
//! is led to the link that stands in for it. Links have numbers below 16 there, their slots.
//!
//! Bound: one entry for each captured socket that lives, at most [`MAX_LED`].

mod marks;
mod plan;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bondwire_api::Fault;
use bondwire_balance::{KernelPlan, Request, SocketId, Transport};
use bondwire_capture::{
    Capture, CaptureError, CapturedSocket, Config, DnsRedirect, Event, LinkName, Protocol, Reason,
    SharedChanges, Slot, Way, mark_of, slot_of,
};
use bondwire_netctl::{Family, Link, NetError};
use bondwire_sockets::State;
use bondwire_units::LinkId;

use super::policy::Policy;
use super::shown::Led;
use super::tracked::Tracked;
use super::traffic::Placed;
use crate::faults;

use plan::Context;
use slots::Slots;

/// Sockets that are followed; those beyond go on, unseen.
const MAX_LED: usize = 65_536;

/// Captured sockets.
#[derive(Debug)]
pub(super) struct Captured {
    capture: Capture,
    slots: Slots,
    led: BTreeMap<u64, Led>,
    lost: u64,
}

/// What is to be captured.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) local: bool,
    pub(super) lan: Vec<String>,
    pub(super) dns: Option<DnsRedirect>,
    pub(super) links: Vec<&'a Link>,
}

impl Captured {
    /// Attaches the programs; nothing is led anywhere before the first plan.
    pub(super) fn start(wanted: Wanted<'_>, changes: SharedChanges) -> Result<Self, Fault> {
        let mut slots = Slots::default();
        let links = wanted.links.iter().filter_map(|link| {
            Some(LinkName { slot: slots.take(LinkId(link.index), &link.name)?, name: link.name.clone() })
        });
        let config = Config {
            local: wanted.local,
            lan: wanted.lan.clone(),
            dns: wanted.dns,
            ..Config::new(links.collect())
        };
        let capture = Capture::attach(config, changes)
            .map_err(|error| fault("cannot lead this machine's sockets to links", &error))?;
        tracing::info!("new sockets are led to links by {:?}", capture.way());
        Ok(Self { capture, slots, led: BTreeMap::new(), lost: 0 })
    }

    /// Readable when the kernel tells something.
    pub(super) fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.capture.events_fd()
    }

    /// Whether flows are led after their sockets have chosen an address, which is translated then.
    pub(super) fn translates(&self) -> bool {
        self.capture.way() == Way::Nftables
    }

    /// What is known of sockets that were led, by cookie.
    pub(super) fn led(&self) -> &BTreeMap<u64, Led> {
        &self.led
    }

    /// The marks that lead to each link now: its own, and those of dead ones for which it stands in.
    pub(super) fn marks(&self) -> impl Iterator<Item = (u32, LinkId)> {
        self.slots.taken().filter_map(|slot| Some((mark_of(slot), self.link_of(slot)?)))
    }

    /// The link by which a flow with this connection mark leaves.
    pub(super) fn link_of_mark(&self, mark: u32) -> Option<LinkId> {
        self.slots.link(slot_of(mark)?)
    }

    /// The link to which a slot's mark leads now.
    fn link_of(&self, slot: Slot) -> Option<LinkId> {
        self.slots.link(self.capture.moved_to(slot).unwrap_or(slot))
    }

    /// The mark of a link, be it gone or not.
    pub(super) fn mark(&self, link: LinkId) -> Option<u32> {
        self.slots.last(link).map(mark_of)
    }

    /// A link is there, or is different from before.
    pub(super) fn set_link(&mut self, link: &Link) -> Result<(), CaptureError> {
        let Some(slot) = self.slots.take(LinkId(link.index), &link.name) else {
            tracing::warn!("link `{}` is one too many for the transparent way", link.name);
            return Ok(());
        };
        self.capture.set_link(LinkName { slot, name: link.name.clone() })?;
        self.capture.refresh()
    }

    /// A link is gone. What has its mark goes where the next plan says, until the link is back under its name.
    pub(super) fn leave_link(&mut self, link: LinkId) -> Result<(), CaptureError> {
        match self.slots.free(link) {
            Some(_) => self.capture.refresh(),
            None => Ok(()),
        }
    }

    /// Looks at links and routes again: what is kept for a while, such as a lost address, ends by it.
    pub(super) fn refresh(&mut self) -> Result<(), CaptureError> {
        self.capture.refresh()
    }

    /// Redirects questions to these resolvers.
    pub(super) fn set_resolvers(&mut self, resolvers: &[IpAddr]) -> Result<(), CaptureError> {
        self.capture.set_resolvers(resolvers)
    }

    /// Follows a plan from now on, and leads the marks of lost links where it says. What cannot be led keeps no new socket from it.
    pub(super) fn apply(
        &mut self,
        plan: &KernelPlan,
        patience: &BTreeMap<LinkId, Duration>,
        refuse: Vec<Family>,
    ) -> Result<(), CaptureError> {
        let led = marks::lead(plan, &self.slots, &mut self.capture);
        let context = Context { slots: &self.slots, patience, refuse };
        self.capture.apply(&plan::plan_for(plan, &context)).and(led)
    }

    /// Brings what the kernel tells to the policy.
    pub(super) fn listen(&mut self, policy: &Policy) {
        while let Some(event) = self.capture.poll_event() {
            self.on_event(event, policy);
        }
        let lost = self.capture.lost_events();
        if lost > self.lost {
            tracing::debug!("{} of the kernel's events were lost", lost - self.lost);
            self.lost = lost;
        }
    }

    fn on_event(&mut self, event: Event, policy: &Policy) {
        match event {
            // One that is moved, or connects anew, is another flow to the policy.
            Event::Opened { socket, .. } | Event::Moved { socket, .. } => {
                self.forget(socket.cookie, policy);
                self.on_opened(&socket, policy);
            }
            Event::Active { cookie, .. } => {
                let Some(led) = self.led.get(&cookie) else { return };
                policy.with(|balancer, now| balancer.handle_alive(led.id, true, now));
            }
            Event::Connected { cookie, slot, rtt, .. } => {
                let Some((id, link)) = self.find(cookie, slot) else { return };
                policy.with(|balancer, now| balancer.handle_connected(id, link, rtt, now));
            }
            Event::TimedOut { cookie, slot, connecting: true, .. } => {
                let Some((id, _)) = self.find(cookie, slot) else { return };
                policy.with(|balancer, now| balancer.handle_syn_repeated(id, now));
            }
            Event::TimedOut { .. } => {}
            Event::Closed { cookie, bytes_up, bytes_down, protocol, .. } => {
                if let Some(led) = self.led.get(&cookie)
                    && protocol == Protocol::Tcp
                {
                    let id = led.id;
                    policy.with(|balancer, now| balancer.handle_bytes(id, bytes_up, bytes_down, now));
                }
                self.forget(cookie, policy);
            }
        }
    }

    fn on_opened(&mut self, socket: &CapturedSocket, policy: &Policy) {
        let Some(link) = self.slots.link(socket.slot) else { return };
        if self.led.len() >= MAX_LED {
            return;
        }
        let transport = match socket.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        let request = Request {
            process: Some(socket.command.as_str()),
            uid: Some(socket.uid),
            ..Request::new(transport, socket.remote)
        };
        let id = policy.with(|balancer, now| {
            let id = balancer.adopt(&request, Some(link), now);
            if transport == Transport::Tcp {
                balancer.handle_connecting(id, link, now);
            }
            id
        });
        self.led.insert(socket.cookie, Led { id, reason: word_of(socket.reason), seen: false });
    }

    fn find(&self, cookie: u64, slot: Slot) -> Option<(SocketId, LinkId)> {
        Some((self.led.get(&cookie)?.id, self.link_of(slot)?))
    }

    fn forget(&mut self, cookie: u64, policy: &Policy) {
        if let Some(led) = self.led.remove(&cookie) {
            policy.with(|balancer, now| balancer.handle_closed(led.id, now));
        }
    }

    /// What the sockets' diagnostics say of those that were led: bytes, ends, and the end of those of which an event was lost.
    /// `tracked` tells which flows of sockets that connect still send, which the diagnostics do not.
    pub(super) fn note(&mut self, placed: &[Placed], tracked: &Tracked, policy: &Policy) {
        let mut alive = BTreeSet::new();
        policy.with(|balancer, now| {
            for placed in placed {
                let socket = &placed.seen.socket;
                let Some(led) = self.led.get(&socket.cookie) else { continue };
                alive.insert(socket.cookie);
                if let Some(tcp) = socket.tcp {
                    let up = tcp.bytes_acknowledged.saturating_sub(1);
                    balancer.handle_bytes(led.id, up, tcp.bytes_received, now);
                } else {
                    let flow = tracked.flow(socket.protocol, socket.local, socket.remote);
                    if let Some((up, down)) = flow.and_then(|flow| flow.bytes) {
                        balancer.handle_bytes(led.id, up, down, now);
                    }
                    balancer.handle_alive(led.id, flow.is_some_and(|flow| flow.moves), now);
                }
                if !matches!(socket.state, State::Established | State::SynSent | State::SynReceived) {
                    balancer.handle_closing(led.id, now);
                }
            }
        });
        // A socket that sends without connecting is not seen there, so only those go that were seen once.
        let gone: Vec<u64> = self
            .led
            .iter_mut()
            .filter_map(|(cookie, led)| {
                let seen = alive.contains(cookie);
                let was = std::mem::replace(&mut led.seen, seen);
                (was && !seen).then_some(*cookie)
            })
            .collect();
        gone.into_iter().for_each(|cookie| self.forget(cookie, policy));
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<(), Fault> {
        self.capture.detach().map_err(|error| fault("the network is not quite as it was before", &error))
    }
}

fn word_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Weight => "load",
        Reason::Sticky => "sticky",
        Reason::Rule => "rule",
        Reason::Fallback => "fallback",
    }
}

/// An error of the transparent way, in the form that people meet.
pub(super) fn fault(what: &str, error: &CaptureError) -> Fault {
    let (why, what_to_do) = faults::halves(&error.to_string());
    match error {
        CaptureError::Network(NetError::NoPermission { .. }) => Fault::permission(what, why, what_to_do),
        CaptureError::Unsupported { nftables, .. } if nftables.contains("CAP_NET_ADMIN") => {
            Fault::permission(what, why, what_to_do)
        }
        _ => Fault::failed(what, why, what_to_do),
    }
}
