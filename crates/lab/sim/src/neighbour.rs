//! Other people's traffic on a bond's links: flows that enter a link's own queue, outside the bond.
//!
//! A neighbour's packets share the queue of the link with the bond's datagrams, and nothing else: no carrier, address or
//! gateway of the client concerns them. They are not in the ledger, since nobody promised them anything.

use std::collections::BTreeMap;

use bondwire_units::Timestamp;

use crate::access::{Access, Carried};
use crate::packet::Addresses;
use crate::shared::Shared;
use crate::traffic::{Flow, FlowConfig, FlowReport, Side};

/// A neighbour's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourId(usize);

/// All neighbours of a bond's links.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// Each with the position of its link.
    flows: Vec<(usize, Flow)>,
    by_inbound: BTreeMap<(Side, Addresses), usize>,
}

impl Neighbours {
    pub(crate) fn add(&mut self, link: usize, config: FlowConfig, now: Timestamp) -> NeighbourId {
        let index = self.flows.len();
        assert!(index < 20_000, "flows are told apart by their ports");
        let flow = Flow::new(config, index as u16, now);
        for side in Side::BOTH {
            self.by_inbound.insert((side, flow.inbound(side)), index);
        }
        self.flows.push((link, flow));
        NeighbourId(index)
    }

    pub(crate) fn report(&self, id: NeighbourId) -> FlowReport {
        self.flows[id.0].1.report()
    }

    pub(crate) fn stop(&mut self, id: NeighbourId, now: Timestamp) {
        self.flows[id.0].1.stop(now);
    }

    /// Sends what the neighbours have to send.
    pub(crate) fn transmit(&mut self, links: &mut [Access], mut shared: Option<&mut Shared>, now: Timestamp) {
        for (link, flow) in &mut self.flows {
            for side in Side::BOTH {
                while let Some(packet) = flow.poll_packet(side, now) {
                    match &mut shared {
                        Some(shared) if side == Side::Server && shared.has(*link) => {
                            let size = packet.len();
                            shared.down.handle_packet((*link, Carried::Neighbour(packet)), size, now);
                        }
                        _ => links[*link].send_neighbour(side == Side::Client, packet, now),
                    }
                }
            }
        }
    }

    /// A packet arrives on a side.
    pub(crate) fn on_arrival(&mut self, side: Side, packet: &[u8], now: Timestamp) {
        let flow = Addresses::of(packet).and_then(|addresses| self.by_inbound.get(&(side, addresses)));
        if let Some(&index) = flow {
            self.flows[index].1.handle_packet(side, packet, now);
        }
    }

    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        self.flows.iter().filter_map(|(_, flow)| flow.poll_deadline()).min()
    }
}
