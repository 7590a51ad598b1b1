//! What carries inner packets between the two sides: the interface, and one plain link.

use bondwire_netem::Pipe;
use bondwire_packet::{Offload, PacketBatch};
use bondwire_scenario::{Action, Link};
use bondwire_units::Timestamp;

use crate::traffic::Side;

/// What carries inner packets from one side to the other.
pub trait Network {
    /// Hosts on `side` send these packets.
    fn handle_packets(&mut self, side: Side, batch: &PacketBatch, now: Timestamp);

    /// Does what is due, and appends what arrives at hosts on the client's side and on the server's.
    fn exchange(&mut self, to_client: &mut PacketBatch, to_server: &mut PacketBatch, now: Timestamp);

    /// When to call [`Network::exchange`] again.
    fn poll_deadline(&mut self, now: Timestamp) -> Option<Timestamp>;

    /// Something happens to the link at position `link` of the scenario.
    fn handle_event(&mut self, link: usize, action: &Action, now: Timestamp);

    /// What it waits for: for the person who finds that time stands still.
    fn explain(&mut self, now: Timestamp) -> String {
        format!("{:?}", self.poll_deadline(now))
    }
}

/// One link without a bond: what an application gets from it alone.
#[derive(Debug)]
pub struct Plain {
    link: Link,
    up: Pipe<Vec<u8>>,
    down: Pipe<Vec<u8>>,
}

impl Plain {
    /// This link, with losses drawn from `seed`.
    pub fn new(link: Link, seed: u64) -> Self {
        let (up, down) = link.pipes();
        Self { link, up: Pipe::new(up, seed), down: Pipe::new(down, seed ^ 0x5555) }
    }
}

impl Network for Plain {
    fn handle_packets(&mut self, side: Side, batch: &PacketBatch, now: Timestamp) {
        let pipe = if side == Side::Client { &mut self.up } else { &mut self.down };
        for (packet, _) in batch.iter().filter(|(p, _)| p.len() <= usize::from(self.link.mtu)) {
            pipe.handle_packet(packet.to_vec(), packet.len(), now);
        }
    }

    fn exchange(&mut self, to_client: &mut PacketBatch, to_server: &mut PacketBatch, now: Timestamp) {
        while let Some(packet) = self.up.poll_packet(now) {
            to_server.push(&packet, Offload::default());
        }
        while let Some(packet) = self.down.poll_packet(now) {
            to_client.push(&packet, Offload::default());
        }
    }

    fn poll_deadline(&mut self, _now: Timestamp) -> Option<Timestamp> {
        self.up.poll_deadline().into_iter().chain(self.down.poll_deadline()).min()
    }

    fn handle_event(&mut self, _link: usize, action: &Action, now: Timestamp) {
        match action {
            Action::Silence | Action::CarrierLoss | Action::Return => {
                self.up.set_up(*action == Action::Return, now);
                self.down.set_up(*action == Action::Return, now);
            }
            Action::Change(change) => {
                self.link.apply(change);
                let (up, down) = self.link.pipes();
                self.up.set_config(up, now);
                self.down.set_config(down, now);
            }
            Action::AddressChange | Action::NatRebind => {}
        }
    }
}
