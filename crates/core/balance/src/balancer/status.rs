//! What the world may look at: the plan for the kernel, and snapshots.

use bondwire_units::{Bitrate, ByteCount, LinkId, Timestamp};

use super::Balancer;
use super::choose::Wish;
use crate::config::{Action, Rule};
use crate::event::{Event, Snapshot, SocketStatus};
use crate::flows::Flow;
use crate::plan::{KernelAction, KernelPlan, KernelRule, PlanLink, WEIGHTS};
use crate::request::SocketId;
use crate::shares::{ahead, slots};

/// For how many sockets a plan is made, at least, and for how long a time at the present pace.
const AHEAD: f64 = 4.0;
const AHEAD_SECONDS: f64 = 0.25;
/// Weights that differ by less make no new plan.
const TOLERANCE: u16 = 20;

impl Balancer {
    /// What the kernel's program needs. Made when [`Event::PlanChanged`] says so; O(links + rules).
    pub fn plan(&mut self, now: Timestamp) -> KernelPlan {
        if self.plan_due.is_some() {
            self.make_plan(now);
        }
        self.plan.clone()
    }

    /// Makes a new plan, and says so if it differs.
    pub(super) fn make_plan(&mut self, now: Timestamp) {
        self.plan_due = None;
        self.planned = now;
        let mut new = KernelPlan {
            version: self.plan.version,
            bulk: self.bulk_weights(now),
            interactive: self.interactive_weights(now),
            interactive_ports: self.interactive_ports.clone(),
            sticky_ports: self.sticky_ports.clone(),
            sticky_time: self.sticky_time,
            rules: self.kernel_rules(now),
            links: self.plan_links(),
        };
        if is_alike(&new, &self.plan) {
            return;
        }
        new.version += 1;
        self.plan = new;
        if !self.events.contains(&Event::PlanChanged) {
            self.push(Event::PlanChanged);
        }
    }

    fn bulk_weights(&self, now: Timestamp) -> Vec<(LinkId, u16)> {
        let mask = self.candidates(Wish::default()).map_or(0, |candidates| candidates.mask);
        if mask == 0 {
            return Vec::new();
        }
        let sockets = (self.pace * AHEAD_SECONDS).max(AHEAD);
        let mut parts = ahead(&self.links, mask, sockets, self.mix, now);
        parts.sort_by_key(|&(slot, _)| self.id(slot));
        self.to_weights(&parts)
    }

    fn interactive_weights(&mut self, now: Timestamp) -> Vec<(LinkId, u16)> {
        let mask = self.candidates(Wish::default()).map_or(0, |candidates| candidates.mask);
        let quickest = if self.prefer_delay { self.quickest(mask) } else { None };
        match quickest {
            Some(slot) => vec![(self.id(slot), WEIGHTS)],
            None => self.bulk_weights(now),
        }
    }

    /// Whole weights whose sum is exact: what rounding leaves goes to the largest.
    fn to_weights(&self, parts: &[(usize, f64)]) -> Vec<(LinkId, u16)> {
        let total: f64 = parts.iter().map(|&(_, part)| part).sum();
        let whole = |part: f64| (part / total * f64::from(WEIGHTS)) as u16;
        let mut weights: Vec<_> = parts.iter().map(|&(slot, part)| (self.id(slot), whole(part))).collect();
        let rest = WEIGHTS - weights.iter().map(|&(_, weight)| weight).sum::<u16>();
        if let Some((_, largest)) = weights.iter_mut().max_by_key(|&&mut (_, weight)| weight) {
            *largest += rest;
        }
        weights
    }

    fn plan_links(&self) -> Vec<PlanLink> {
        let fallback = |slot: usize| {
            let wish = Wish { without: 1 << slot, ..Wish::default() };
            let mask = self.candidates(wish)?.mask;
            let works = || slots(mask).filter(|&other| self.links[other].is_stable());
            // What went there would have to move once more for a better one.
            let before = self.plan.links.iter().find(|before| before.link == self.id(slot));
            let before = before.and_then(|before| self.slot(before.fallback?));
            works().find(|&other| Some(other) == before).or_else(|| {
                works().max_by(|&a, &b| self.links[a].down.capacity.total_cmp(&self.links[b].down.capacity))
            })
        };
        let candidates = self.candidates(Wish::default()).map_or(0, |candidates| candidates.mask);
        let state = |&slot: &usize| {
            let link = &self.links[slot];
            // In doubt nothing moves: a false alarm would change addresses for good.
            let is_lost = !link.may_be_used() || link.is_lost();
            PlanLink {
                link: link.config.id,
                state: link.health.state(),
                priority: link.priority,
                keeps_sites: candidates >> slot & 1 == 1 && self.keeps_sites(slot, candidates),
                fallback: if is_lost { fallback(slot).map(|slot| self.id(slot)) } else { None },
            }
        };
        // Absent links too: marks may still point at them.
        self.by_id.values().map(state).collect()
    }

    fn kernel_rules(&self, now: Timestamp) -> Vec<KernelRule> {
        let _ = now;
        self.rules.iter().flat_map(|rule| self.kernel_rule(rule)).collect()
    }

    fn kernel_rule(&self, Rule { when, then }: &Rule) -> Vec<KernelRule> {
        let process = when.process.as_ref().map(|name| {
            let end =
                (0..=name.len().min(15)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default();
            name[..end].to_owned()
        });
        let rule = KernelRule {
            prefix: when.prefix,
            ports: when.ports.clone(),
            transport: when.transport,
            process,
            uid: when.uid,
            then: self.kernel_action(then),
        };
        let Some(name) = &when.name else { return vec![rule] };
        let within = |address: &core::net::IpAddr| when.prefix.is_none_or(|prefix| prefix.contains(*address));
        self.rules.addresses(name).filter(within).map(|address| rule.clone().narrowed(address)).collect()
    }

    fn kernel_action(&self, action: &Action) -> KernelAction {
        let named = |name: &str| self.links.iter().find(|link| link.config.name == name && link.is_present);
        match action {
            Action::Bypass => KernelAction::Bypass,
            Action::Avoid { name } => {
                named(name).map_or(KernelAction::Choose, |link| KernelAction::Avoid(link.config.id))
            }
            Action::Link { name, strict } => match self.working(name) {
                Some(slot) => KernelAction::Link(self.id(slot)),
                None if *strict => KernelAction::Refuse,
                None => KernelAction::Choose,
            },
        }
    }

    /// How everything stands. O(links).
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let weights = self.bulk_weights(now);
        let weight = |link: LinkId| {
            weights
                .iter()
                .find(|&&(id, _)| id == link)
                .map_or(0.0, |&(_, w)| f64::from(w) / f64::from(WEIGHTS))
        };
        let present = self.by_id.values().map(|&slot| &self.links[slot]).filter(|link| link.is_present);
        Snapshot {
            links: present.map(|link| link.status(weight(link.config.id), now)).collect(),
            sockets: self.flows.len(),
            sites: self.sites.len(),
            opened: self.totals.opened,
            refused: self.totals.refused,
            forgotten: self.totals.forgotten,
            raced: self.totals.raced,
            moved: self.totals.moved,
        }
    }

    /// Every socket of the table. O(sockets).
    pub fn sockets(&self, now: Timestamp) -> impl Iterator<Item = SocketStatus<'_>> {
        self.flows.iter().map(move |(socket, flow)| self.socket_status(socket, flow, now))
    }

    /// One socket; none if it is not in the table any more.
    pub fn socket(&self, socket: SocketId, now: Timestamp) -> Option<SocketStatus<'_>> {
        self.flows.get(socket).map(|flow| self.socket_status(socket, flow, now))
    }

    fn socket_status<'a>(&'a self, socket: SocketId, flow: &'a Flow, now: Timestamp) -> SocketStatus<'a> {
        let runs = flow.counted & (crate::flows::counts::UP | crate::flows::counts::DOWN) != 0;
        let rate = |rate: f64| Bitrate::from_bps(if runs { rate as u64 } else { 0 });
        SocketStatus {
            socket,
            transport: flow.transport,
            remote: flow.remote,
            name: flow.name.as_deref(),
            process: flow.process.as_deref(),
            link: flow.link.map(|slot| self.id(usize::from(slot))),
            reason: flow.reason,
            stage: flow.stage(now),
            opened: flow.opened,
            up: ByteCount::new(flow.up),
            down: ByteCount::new(flow.down),
            rate_up: rate(flow.rate_up),
            rate_down: rate(flow.rate_down),
            connect_rtt: flow.connect_rtt,
        }
    }
}

/// Whether two plans differ by a little load only.
fn is_alike(new: &KernelPlan, old: &KernelPlan) -> bool {
    let near = |new: &[(LinkId, u16)], old: &[(LinkId, u16)]| {
        let pairs = || new.iter().zip(old);
        new.len() == old.len() && pairs().all(|(a, b)| a.0 == b.0 && a.1.abs_diff(b.1) <= TOLERANCE)
    };
    old.version > 0
        && near(&new.bulk, &old.bulk)
        && near(&new.interactive, &old.interactive)
        && new.rules == old.rules
        && new.links == old.links
}
