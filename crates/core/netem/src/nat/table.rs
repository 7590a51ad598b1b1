//! The mappings of a gateway, found from either side.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use bondwire_units::Timestamp;

use super::header::Protocol;
use crate::rng::Rng;

/// The lowest port that is given to a mapping.
const FIRST_PORT: u16 = 1024;

/// One flow as the inside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) protocol: Protocol,
    pub(super) inside: (IpAddr, u16),
    pub(super) remote: (IpAddr, u16),
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    port: u16,
    used: Timestamp,
    lifetime: Duration,
}

impl Mapping {
    fn expired(&self, now: Timestamp) -> bool {
        now.since(self.used) >= self.lifetime
    }
}

/// Invariant: `flows` and `ports` hold the same mappings.
#[derive(Debug)]
pub(super) struct Table {
    flows: BTreeMap<Flow, Mapping>,
    ports: BTreeMap<(Protocol, u16), Flow>,
    capacity: usize,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self { flows: BTreeMap::new(), ports: BTreeMap::new(), capacity }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// The public port of a flow, new if need be, and whether a living mapping had to give way to it.
    pub(super) fn port_for(
        &mut self,
        flow: Flow,
        lifetime: Duration,
        rng: &mut Rng,
        now: Timestamp,
    ) -> (u16, bool) {
        if let Some(mapping) = self.flows.get_mut(&flow) {
            if !mapping.expired(now) {
                mapping.used = now;
                return (mapping.port, false);
            }
            self.remove(&flow);
        }
        let evicted = self.flows.len() >= self.capacity && self.make_room(now);
        let port = self.free_port(flow.protocol, rng);
        self.flows.insert(flow, Mapping { port, used: now, lifetime });
        self.ports.insert((flow.protocol, port), flow);
        (port, evicted)
    }

    /// Who inside is meant by a packet from `remote` to `port`.
    pub(super) fn inside_of(
        &mut self,
        protocol: Protocol,
        port: u16,
        remote: (IpAddr, u16),
        lifetime: Duration,
        now: Timestamp,
    ) -> Option<(IpAddr, u16)> {
        let flow = *self.ports.get(&(protocol, port))?;
        let mapping = self.flows.get_mut(&flow)?;
        if flow.remote != remote || mapping.expired(now) {
            return None;
        }
        (mapping.used, mapping.lifetime) = (now, lifetime);
        Some(flow.inside)
    }

    /// Gives every mapping another port.
    pub(super) fn rebind(&mut self, rng: &mut Rng) {
        let flows: Vec<Flow> = self.flows.keys().copied().collect();
        // The old ports stay taken until all have moved, so that no new port is anyone's old one.
        let old = core::mem::take(&mut self.ports);
        let mut new = BTreeMap::new();
        for flow in flows {
            let port = pick(rng, |port| {
                !old.contains_key(&(flow.protocol, port)) && !new.contains_key(&(flow.protocol, port))
            });
            new.insert((flow.protocol, port), flow);
            if let Some(mapping) = self.flows.get_mut(&flow) {
                mapping.port = port;
            }
        }
        self.ports = new;
    }

    fn free_port(&self, protocol: Protocol, rng: &mut Rng) -> u16 {
        pick(rng, |port| !self.ports.contains_key(&(protocol, port)))
    }

    /// Removes all that expired, and if there is none the mapping that was idle longest; whether it was that.
    fn make_room(&mut self, now: Timestamp) -> bool {
        let before = self.flows.len();
        self.flows.retain(|_, mapping| !mapping.expired(now));
        if self.flows.len() < before {
            let flows = &self.flows;
            self.ports.retain(|_, flow| flows.contains_key(flow));
            return false;
        }
        let idlest = self.flows.iter().min_by_key(|(_, mapping)| mapping.used).map(|(flow, _)| *flow);
        idlest.inspect(|flow| self.remove(flow)).is_some()
    }

    fn remove(&mut self, flow: &Flow) {
        if let Some(mapping) = self.flows.remove(flow) {
            self.ports.remove(&(flow.protocol, mapping.port));
        }
    }
}

/// A random port for which `free` holds, found by walking on from a random start. There is one: a table holds at most
/// 32,000 mappings, and while it rebinds the old and the new ones together leave some of the 64,512 ports free.
fn pick(rng: &mut Rng, free: impl Fn(u16) -> bool) -> u16 {
    let span = u64::from(u16::MAX - FIRST_PORT) + 1;
    let start = rng.below(span);
    let port = |step: u64| FIRST_PORT + ((start + step) % span) as u16;
    (0..span).map(port).find(|&port| free(port)).unwrap_or_else(|| port(0))
}
