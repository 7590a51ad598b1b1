//! The state machine that the world talks to. It routes; the algorithms stand in the modules beside it.

mod choose;
mod links;
mod probing;
mod reports;
mod sockets;
mod status;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bondwire_units::{Deadline, LinkId, Timestamp};

use crate::config::{Config, Ports};
use crate::event::{Event, LinkState};
use crate::flows::Flows;
use crate::health::Change;
use crate::link::Link;
use crate::plan::KernelPlan;
use crate::ports::PortSet;
use crate::probes::Probes;
use crate::rules::Rules;
use crate::shares::{Mix, slots};
use crate::sites::Sites;

/// The most events that wait; beyond it the oldest is lost, which a reader of the snapshot does not miss.
const MAX_EVENTS: usize = 512;
/// The shortest distance of two plans that differ by load alone: what opens meanwhile goes by an old one (with
/// 100 ms, random links were used to 0.97 of their sum instead of 0.99, the worst of 60 sets to 0.77 instead of 0.90).
const PLAN_GAP: Duration = Duration::from_millis(30);

/// The policy. See the crate's page for how to drive it.
#[derive(Debug)]
pub struct Balancer {
    links: Vec<Link>,
    by_id: BTreeMap<LinkId, usize>,
    flows: Flows,
    sites: Sites,
    rules: Rules,
    probes: Probes,
    sticky: PortSet,
    sticky_ports: Vec<Ports>,
    sticky_time: Duration,
    interactive: PortSet,
    interactive_ports: Vec<Ports>,
    prefer_delay: bool,
    mix: Mix,
    /// The link with the least delay, kept until another is clearly quicker.
    quickest: Option<usize>,
    /// Sockets a second, lately.
    pace: f64,
    paced: Timestamp,
    events: VecDeque<Event>,
    /// Slots whose UDP flows have to move, as bits.
    moving: u32,
    /// Slots whose TCP sockets are closed once another link works, as bits.
    evicting: u32,
    plan: KernelPlan,
    /// When the plan has to be looked at again.
    plan_due: Option<Timestamp>,
    planned: Timestamp,
    totals: Totals,
    now: Timestamp,
}

/// Counters of the whole life.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    opened: u64,
    refused: u64,
    forgotten: u64,
    raced: u64,
    moved: u64,
}

impl Balancer {
    /// A balancer without links. `seed` makes the site table's order unpredictable to others and keeps probes
    /// of several balancers apart; the same seed and the same calls give the same answers.
    pub fn new(config: Config, seed: u64) -> Self {
        let Config { rules, stickiness, probes, interactive, prefer_delay, max_sockets } = config;
        Self {
            links: Vec::new(),
            by_id: BTreeMap::new(),
            flows: Flows::new(max_sockets),
            sites: Sites::new(stickiness.duration, stickiness.max_sites, seed),
            rules: Rules::new(rules),
            probes: Probes::new(probes, seed),
            sticky: PortSet::new(&stickiness.ports),
            sticky_ports: stickiness.ports,
            sticky_time: stickiness.duration,
            interactive: PortSet::new(if prefer_delay { &interactive } else { &[] }),
            interactive_ports: if prefer_delay { interactive } else { Vec::new() },
            prefer_delay,
            mix: Mix::new(),
            quickest: None,
            pace: 0.0,
            paced: Timestamp::ZERO,
            events: VecDeque::new(),
            moving: 0,
            evicting: 0,
            plan: KernelPlan::default(),
            plan_due: Some(Timestamp::ZERO),
            planned: Timestamp::ZERO,
            totals: Totals::default(),
            now: Timestamp::ZERO,
        }
    }

    /// Other rules, from the next socket on; beyond [`crate::MAX_RULES`] they are not kept.
    pub fn set_rules(&mut self, rules: Vec<crate::Rule>, now: Timestamp) {
        self.rules.set(rules);
        self.plan_due = Some(now);
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.move_datagram())
    }

    /// When [`Balancer::handle_timeout`] wants to be called. A probe that is due counts too: ask
    /// [`Balancer::poll_probe`] after it.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let at = |at: Option<Timestamp>, why| at.map(|at| Deadline::new(at, why));
        let all = [
            at(self.flows.timeout(), "a socket ages"),
            at(self.probes.timeout(), "a probe is overdue"),
            at(self.next_probe().map(|(at, _)| at), "a probe is due"),
            at(self.health_timeout(), "a link's health"),
            at(self.plan_due.map(|due| due.max(self.planned + PLAN_GAP)), "the plan"),
        ];
        all.into_iter().fold(None, Deadline::earliest)
    }

    /// Does what is due. More calls than asked for do no harm.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.expire_sockets(now);
        self.expire_probes(now);
        self.expire_health(now);
        if self.rules.expire(now) {
            self.plan_due = Some(now);
        }
        if self.plan_due.is_some_and(|due| due.max(self.planned + PLAN_GAP) <= now) {
            self.make_plan(now);
        }
    }

    fn push(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// A link's state changed.
    fn on_change(&mut self, slot: usize, change: Option<Change>, now: Timestamp) {
        let Some(Change { from, to, why }) = change else { return };
        let link = self.links[slot].config.id;
        self.push(Event::LinkState { link, from, to, why });
        match to {
            LinkState::Failed => self.on_lost(slot),
            LinkState::Stable => self.on_refuge(slot),
            LinkState::Failing | LinkState::Returning => {}
        }
        self.make_plan(now);
    }

    /// What is on the link has to go elsewhere.
    fn on_lost(&mut self, slot: usize) {
        if self.quickest == Some(slot) {
            self.quickest = None;
        }
        self.moving |= 1 << slot;
        self.evicting |= 1 << slot;
        if self.links.iter().any(|link| link.may_be_used() && link.is_stable()) {
            self.evict();
        }
    }

    /// A link works: what had nowhere to go has now.
    fn on_refuge(&mut self, slot: usize) {
        self.evicting &= !(1 << slot);
        let lost = |link: &Link| !link.is_present || link.health.state() == LinkState::Failed;
        let lost = self.links.iter().enumerate().filter(|(_, link)| lost(link));
        self.moving |= lost.fold(0, |mask, (slot, _)| mask | 1 << slot);
        self.evict();
    }

    /// Closing what hangs on a dead link helps only if there is another one to connect by.
    fn evict(&mut self) {
        for slot in slots(core::mem::take(&mut self.evicting)) {
            self.push(Event::Evict { link: self.id(slot) });
        }
    }

    fn slot(&self, link: LinkId) -> Option<usize> {
        self.by_id.get(&link).copied()
    }

    /// `link` is not at `slot` any more, if it was.
    fn unname(&mut self, slot: usize) {
        let id = self.id(slot);
        if self.slot(id) == Some(slot) {
            self.by_id.remove(&id);
        }
    }

    fn id(&self, slot: usize) -> LinkId {
        self.links[slot].config.id
    }

    /// The plan may have to change, soon.
    fn on_load(&mut self, now: Timestamp) {
        self.plan_due.get_or_insert(now);
    }
}
