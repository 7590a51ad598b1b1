//! The loop of the simulation: traffic, a network, a scenario's events, and virtual time that jumps from one deadline
//! to the next.

use core::time::Duration;
use std::collections::BTreeMap;

use bondwire_packet::{Offload, PacketBatch};
use bondwire_scenario::Event;
use bondwire_units::Timestamp;

use crate::ledger::{Ledger, Violation};
use crate::network::Network;
use crate::packet::Addresses;
use crate::traffic::{Flow, FlowConfig, FlowReport, Side};

/// More rounds than this at one moment of virtual time are a loop that leads nowhere.
const MAX_ROUNDS: u32 = 10_000;

/// A network with hosts on both sides.
#[derive(Debug)]
pub struct World<N> {
    /// What carries the packets.
    pub network: N,
    now: Timestamp,
    flows: Vec<Flow>,
    by_inbound: BTreeMap<(Side, Addresses), usize>,
    ledger: Ledger,
    events: Vec<Event>,
    next_event: usize,
    violations: Vec<Violation>,
    strays: u64,
}

/// A flow of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(usize);

impl<N: Network> World<N> {
    /// A world at time zero without traffic. Events are sorted by time.
    pub fn new(network: N, events: Vec<Event>) -> Self {
        Self {
            network,
            now: Timestamp::ZERO,
            flows: Vec::new(),
            by_inbound: BTreeMap::new(),
            ledger: Ledger::default(),
            events,
            next_event: 0,
            violations: Vec::new(),
            strays: 0,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Starts a flow.
    ///
    /// # Panics
    /// If there are more than 20,000 of them.
    pub fn add_flow(&mut self, config: FlowConfig) -> FlowId {
        let index = self.flows.len();
        assert!(index < 20_000, "flows are told apart by their ports");
        let flow = Flow::new(config, index as u16, self.now);
        for side in Side::BOTH {
            self.by_inbound.insert((side, flow.inbound(side)), index);
        }
        self.flows.push(flow);
        FlowId(index)
    }

    /// How a flow fares.
    pub fn flow(&self, flow: FlowId) -> FlowReport {
        self.flows[flow.0].report()
    }

    /// Stops all flows: what is on its way still arrives, nothing new is sent.
    pub fn stop_flows(&mut self) {
        let now = self.now;
        self.flows.iter_mut().for_each(|flow| flow.stop(now));
    }

    /// What was sent and delivered, flow by flow.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The promises that were broken, the first ones first (at most 100 are kept).
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Lets `span` of virtual time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Lets virtual time pass until `end`.
    ///
    /// # Panics
    /// If time stands still: something is always due, and nothing comes of it.
    pub fn run_until(&mut self, end: Timestamp) {
        let mut rounds = 0;
        loop {
            let before = self.now;
            self.handle_events();
            while self.exchange() {}
            match self.poll_deadline().filter(|&at| at <= end) {
                Some(at) => self.now = at.max(self.now),
                None => break,
            }
            rounds = if self.now > before { 0 } else { rounds + 1 };
            if rounds >= MAX_ROUNDS {
                panic!("{}: time stands still: {}", self.now, self.network.explain(self.now));
            }
        }
        self.now = end.max(self.now);
    }

    fn poll_deadline(&mut self) -> Option<Timestamp> {
        let event = self.events.get(self.next_event).map(|event| Timestamp::ZERO + event.at);
        let flows = self.flows.iter().filter_map(Flow::poll_deadline).min();
        let network = self.network.poll_deadline(self.now);
        [event, flows, network].into_iter().flatten().min()
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.events.get(self.next_event)
            && Timestamp::ZERO + event.at <= self.now
        {
            self.network.handle_event(event.link, &event.action, self.now);
            self.next_event += 1;
        }
    }

    /// Something happens to a link, now.
    pub fn handle_event(&mut self, event: &Event) {
        self.network.handle_event(event.link, &event.action, self.now);
    }

    /// One round: hosts send, the network carries, hosts receive. Whether anything arrived, so that there may be answers.
    fn exchange(&mut self) -> bool {
        let now = self.now;
        for side in Side::BOTH {
            let mut batch = PacketBatch::default();
            for flow in &mut self.flows {
                while let Some(packet) = flow.poll_packet(side, now) {
                    self.ledger.on_sent(&packet, now);
                    batch.push(&packet, Offload::default());
                }
            }
            if !batch.is_empty() {
                self.network.handle_packets(side, &batch, now);
            }
        }
        let (mut to_client, mut to_server) = (PacketBatch::default(), PacketBatch::default());
        self.network.exchange(&mut to_client, &mut to_server, now);
        for (side, batch) in [(Side::Client, &to_client), (Side::Server, &to_server)] {
            for (packet, _) in batch.iter() {
                self.on_delivered(side, packet);
            }
        }
        !to_client.is_empty() || !to_server.is_empty()
    }

    fn on_delivered(&mut self, side: Side, packet: &[u8]) {
        if let Err(violation) = self.ledger.on_delivered(packet, self.now)
            && self.violations.len() < 100
        {
            self.violations.push(violation);
        }
        let flow = Addresses::of(packet).and_then(|addresses| self.by_inbound.get(&(side, addresses)));
        match flow {
            Some(&index) => self.flows[index].handle_packet(side, packet, self.now),
            None => self.strays += 1,
        }
    }
}
