//! A plan as the kernel's programs read it.

use std::collections::BTreeMap;
use std::time::Duration;

use bondwire_netctl::Family;

use crate::layout::{
    self, LINK_ALIVE, LINK_V4, LINK_V6, NO_LINK, PORT_INTERACTIVE_TCP, PORT_INTERACTIVE_UDP, PORT_STICKY,
};
use crate::links::Known;
use crate::plan::{Action, MAX_LINKS, Plan, Protocol, Rule, Slot, mapped, mapped_length, mark_of};

/// A prefix rule: the prefix's length and bytes, and what stands there.
pub(crate) type PrefixEntry = ((u32, [u8; 16]), layout::PrefixRule);

/// What the programs read for a plan.
pub(crate) struct Compiled {
    /// Without its epoch.
    pub(crate) plan: Box<layout::Plan>,
    /// The rules that are prefixes.
    pub(crate) prefixes: Vec<PrefixEntry>,
    /// What ports say.
    pub(crate) ports: BTreeMap<u16, u32>,
}

/// Turns a plan into what the programs read.
pub(crate) fn compile(plan: &Plan, links: &BTreeMap<Slot, Known>) -> Compiled {
    let mut out = Box::new(layout::empty_plan());
    out.sticky_ns = nanos(plan.sticky_for);
    out.idle_ns = nanos(plan.udp_idle);
    for family in &plan.refuse {
        out.refuse |= 1 << usize::from(*family == Family::V6);
    }
    for (slot, known) in links {
        let link = &mut out.links[usize::from(*slot)];
        link.mark = mark_of(*slot);
        link.fallback = u32::from(NO_LINK);
        if let Some(v4) = known.v4 {
            link.flags |= LINK_V4;
            link.v4 = v4.octets();
        }
        if let Some(v6) = known.v6 {
            link.flags |= LINK_V6;
            link.v6 = v6.octets();
        }
        let Some(said) = plan.link(*slot) else { continue };
        if said.alive {
            link.flags |= LINK_ALIVE;
        }
        for (family, able) in [known.v4.is_some(), known.v6.is_some()].into_iter().enumerate() {
            out.open[family] |= u32::from(able && said.open) << slot;
            out.sites[family] |= u32::from(able && said.keeps_sites) << slot;
        }
        link.syn_ms = said.syn_timeout.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(0));
        link.fallback = u32::from(said.fallback.unwrap_or(NO_LINK));
        out.weights[0][usize::from(*slot)] = said.bulk;
        out.weights[1][usize::from(*slot)] = said.interactive;
    }
    let numbered = plan.rules.iter().zip(0_u32..);
    let selective = numbered.clone().filter(|(rule, _)| !rule.is_prefix());
    for (place, (rule, order)) in out.rules.iter_mut().zip(selective) {
        *place = selective_rule(rule, order);
        out.rule_count += 1;
    }
    let prefixes = prefix_rules(numbered);
    out.has_prefixes = u32::from(!prefixes.is_empty());
    Compiled { plan: out, prefixes, ports: ports(plan) }
}

fn ports(plan: &Plan) -> BTreeMap<u16, u32> {
    let mut ports = BTreeMap::new();
    for port in &plan.interactive {
        *ports.entry(port.port).or_default() |= match port.protocol {
            Some(Protocol::Tcp) => PORT_INTERACTIVE_TCP,
            Some(Protocol::Udp) => PORT_INTERACTIVE_UDP,
            None => PORT_INTERACTIVE_TCP | PORT_INTERACTIVE_UDP,
        };
    }
    for port in &plan.sticky_ports {
        *ports.entry(*port).or_default() |= PORT_STICKY;
    }
    ports
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn code(action: Action) -> (u8, u8) {
    match action {
        Action::Bypass => (1, NO_LINK),
        Action::Use(slot) => (2, slot),
        Action::Only(slot) => (3, slot),
        Action::Avoid(slot) => (4, slot),
        Action::Refuse => (5, NO_LINK),
        Action::Choose => (6, NO_LINK),
    }
}

fn selective_rule(rule: &Rule, order: u32) -> layout::Rule {
    let (action, slot) = code(rule.action);
    let length = rule.to.map_or(0, mapped_length);
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0).to_be_bytes();
    let to = rule.to.map_or([0; 16], |prefix| mapped(prefix.network().address));
    let ports = rule.ports.clone().unwrap_or(0..=u16::MAX);
    layout::Rule {
        to,
        mask,
        uid: rule.uid.unwrap_or(0),
        uid_mask: rule.uid.map_or(0, |_| u32::MAX),
        comm: rule.command.as_deref().map_or([0; 16], command),
        comm_mask: rule.command.as_ref().map_or(0, |_| u32::MAX),
        port_first: *ports.start(),
        port_span: ports.end().saturating_sub(*ports.start()),
        protocol: rule.protocol.map_or(0, Protocol::number),
        protocol_mask: rule.protocol.map_or(0, |_| u8::MAX),
        action,
        slot,
        order,
    }
}

/// A thread's name as the kernel has it: cut off after 15 bytes, filled up with zeros.
fn command(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().take(15).zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    bytes
}

/// The longest prefix wins in the kernel, the first rule in a plan: so a rule that an earlier, shorter one covers is left out.
fn prefix_rules<'a>(rules: impl Iterator<Item = (&'a Rule, u32)>) -> Vec<PrefixEntry> {
    let mut entries: BTreeMap<(u32, [u8; 16]), layout::PrefixRule> = BTreeMap::new();
    for (rule, order) in rules.filter(|(rule, _)| rule.is_prefix()) {
        let Some(prefix) = rule.to else { continue };
        let (length, bits) = (mapped_length(prefix), u128::from_be_bytes(mapped(prefix.network().address)));
        let covered = (0..=length).any(|shorter| {
            let mask = u128::MAX.checked_shl(128 - shorter).unwrap_or(0);
            entries.contains_key(&(shorter, (bits & mask).to_be_bytes()))
        });
        if covered {
            continue;
        }
        let (action, slot) = code(rule.action);
        entries
            .insert((length, bits.to_be_bytes()), layout::PrefixRule { order, action, slot, unused: [0; 2] });
    }
    entries.into_iter().collect()
}

/// The sequence in which `length` turns go round by weight: each prefix of it is as near to the weights as it can be.
pub(crate) fn turns(weights: &[(Slot, u16)], length: usize) -> Vec<Slot> {
    let total: i64 = weights.iter().map(|(_, weight)| i64::from(*weight)).sum();
    let mut credit = [0_i64; MAX_LINKS];
    let mut order = Vec::with_capacity(length);
    if total == 0 {
        return order;
    }
    for _ in 0..length {
        for (slot, weight) in weights {
            credit[usize::from(*slot)] += i64::from(*weight);
        }
        let chosen =
            weights.iter().map(|(slot, _)| *slot).rev().max_by_key(|slot| credit[usize::from(*slot)]);
        let Some(chosen) = chosen else { break };
        credit[usize::from(chosen)] -= total;
        order.push(chosen);
    }
    order
}
