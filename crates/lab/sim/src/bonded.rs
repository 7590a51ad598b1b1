//! A whole client and server over the links of a scenario.

use core::time::Duration;

use bondwire_bond::{
    ArrivalBatch, Client, ClientConfig, ClientEvent, ClientRecord, ClientState, ClientStatus, DatagramBatch,
    LinkRules, LinkUp, Route, Server, ServerConfig, ServerEvent, SessionStatus,
};
use bondwire_crypto::{Cipher, Psk, SecretKey};
use bondwire_netem::{PipeConfig, PipeStats, Rng};
use bondwire_packet::PacketBatch;
use bondwire_scenario::{Action, Scenario};
use bondwire_units::{ByteCount, Deadline, LinkId, Timestamp};
use bondwire_wire::Mode;

use crate::access::{Access, AccessDrops, Carried, Datagram, Notice, SERVER_V4, SERVER_V6};
use crate::neighbour::{NeighbourId, Neighbours};
use crate::network::Network;
use crate::shared::Shared;
use crate::traffic::{CLIENT, FlowConfig, FlowReport, SERVER, Side};

/// The inner MTU that client and server ask for.
const MTU: u16 = 1440;
/// Unix time at the origin of virtual time, in seconds.
const EPOCH: u64 = 1_800_000_000;
/// Datagrams handed over at once, as a receiving socket would.
const BATCH: usize = 64;

/// A whole bond: client, server, and the access links between them.
#[derive(Debug)]
pub struct Bonded {
    client: Client,
    server: Server,
    links: Vec<Access>,
    shared: Option<Shared>,
    neighbours: Neighbours,
    transmit: DatagramBatch,
    to_client: ArrivalBatch,
    to_server: ArrivalBatch,
    log: Vec<(Timestamp, BondEvent)>,
    /// Counts the session's beginnings.
    sessions: u32,
}

/// What either end told.
#[derive(Clone, Debug)]
pub enum BondEvent {
    /// The client.
    Client(ClientEvent),
    /// The server.
    Server(ServerEvent),
}

/// The most events that are kept.
const MAX_LOG: usize = 10_000;

impl Bonded {
    /// The links of a scenario, all up, with a client that begins to connect. Each end's queues have `memory`.
    pub fn new(scenario: &Scenario, mode: Mode, memory: ByteCount, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut bytes = || {
            let mut bytes = [0; 32];
            rng.fill(&mut bytes);
            bytes
        };
        let now = Timestamp::ZERO;
        let (server_key, client_key, psk) = (bytes(), bytes(), bytes());
        let server_identity = SecretKey::from_bytes(server_key);
        let public = server_identity.public();
        let invite_id = [1, 2, 3, 4, 5, 6, 7, 8];
        let ciphers = vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
        let server_config = ServerConfig {
            identity: server_identity,
            v4: Some((SERVER, 24)),
            v6: None,
            mtu: MTU,
            ciphers: ciphers.clone(),
            max_sessions: 16,
            memory_per_session: memory,
            max_redundant: 5,
            client_to_client: false,
            software: "sim".into(),
            seed: bytes(),
        };
        let client_config = ClientConfig {
            identity: SecretKey::from_bytes(client_key),
            server: public,
            psk: Psk::from_bytes(psk),
            invite_id,
            endpoints: vec![SERVER_V4, SERVER_V6],
            mode,
            ciphers,
            mtu: MTU,
            last_timestamp: 0,
            max_redundant: 5,
            software: "sim".into(),
            seed: bytes(),
            memory,
            rules: bondwire_bond::Rules::default(),
        };
        let record = ClientRecord {
            name: "client".into(),
            public_key: None,
            invite_id,
            psk: Psk::from_bytes(psk),
            invite_expires: EPOCH + 86_400,
            v4: Some(CLIENT),
            v6: None,
            last_timestamp: 0,
            revoked: false,
        };
        let mut server = Server::new(server_config, now);
        server.set_clock(EPOCH);
        server.set_directory(vec![record], now);
        let mut client = Client::new(client_config, EPOCH * 1_000_000, now);
        let access =
            |(number, link): (usize, &bondwire_scenario::Link)| Access::new(number, link.clone(), &mut rng);
        let links: Vec<Access> = scenario.links.iter().enumerate().map(access).collect();
        for link in &links {
            client.handle_link_up(link.link_up(), now);
        }
        Self {
            client,
            server,
            links,
            shared: None,
            neighbours: Neighbours::default(),
            transmit: DatagramBatch::default(),
            to_client: ArrivalBatch::default(),
            to_server: ArrivalBatch::default(),
            log: Vec::new(),
            sessions: 0,
        }
    }

    /// Whether a session carries packets.
    pub fn is_connected(&mut self, now: Timestamp) -> bool {
        self.client.status(now).state == ClientState::Connected
    }

    /// The inner MTU that the server gave; none before the first session.
    pub fn mtu(&mut self, now: Timestamp) -> Option<u16> {
        self.client.status(now).parameters.map(|parameters| parameters.mtu)
    }

    /// How often a session was established.
    pub fn sessions(&self) -> u32 {
        self.sessions
    }

    /// The client as it stands.
    pub fn client_status(&mut self, now: Timestamp) -> ClientStatus {
        self.client.status(now)
    }

    /// The client's session at the server, as it stands.
    pub fn server_status(&mut self, now: Timestamp) -> Option<SessionStatus> {
        self.server.status(now).sessions.into_iter().next()
    }

    /// What both ends told, with the time; the first 10,000.
    pub fn log(&self) -> &[(Timestamp, BondEvent)] {
        &self.log
    }

    /// What each link did: up, down, and what vanished beside the pipes.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, PipeStats, PipeStats, AccessDrops)> {
        self.links.iter().map(|link| {
            let (up, down) = link.pipes();
            (link.id(), up, down, link.drops())
        })
    }

    /// Datagrams on their way over all links.
    pub fn held(&self) -> usize {
        let shared = self.shared.as_ref().map_or(0, |shared| shared.up.held() + shared.down.held());
        self.links.iter().map(Access::held).sum::<usize>() + shared
    }

    /// How long what waits at each link takes to be sent at its rate (of a trace: its mean): up, down.
    pub fn queues(&self) -> impl Iterator<Item = [Duration; 2]> {
        self.links.iter().map(Access::queues)
    }

    /// The same for the stretch that links share, down.
    pub fn shared_queue(&self) -> Duration {
        self.shared.as_ref().map_or(Duration::ZERO, |shared| {
            let rate = shared.down.config().rate;
            rate.map_or(Duration::ZERO, |rate| rate.time_for(shared.down.queued()))
        })
    }

    /// From now on these links have a stretch in common, besides their own.
    ///
    /// # Panics
    /// If a link does not exist.
    pub fn share(&mut self, links: &[usize], up: PipeConfig, down: PipeConfig, seed: u64) {
        assert!(links.iter().all(|&link| link < self.links.len()), "there is no such link");
        self.shared = Some(Shared::new(links, up, down, seed));
    }

    /// Somebody else starts a flow over link `link`.
    ///
    /// # Panics
    /// If the link does not exist, or there are more than 20,000 neighbours.
    pub fn add_neighbour(&mut self, link: usize, config: FlowConfig, now: Timestamp) -> NeighbourId {
        assert!(link < self.links.len(), "there is no such link");
        self.neighbours.add(link, config, now)
    }

    /// How a neighbour fares.
    pub fn neighbour(&self, id: NeighbourId) -> FlowReport {
        self.neighbours.report(id)
    }

    /// A neighbour sends nothing new.
    pub fn stop_neighbour(&mut self, id: NeighbourId, now: Timestamp) {
        self.neighbours.stop(id, now);
    }

    /// Changes the mode.
    pub fn set_mode(&mut self, mode: Mode, now: Timestamp) {
        self.client.set_mode(mode, now);
    }

    /// Changes what is wanted of a link, by its place in the scenario.
    pub fn set_link_rules(&mut self, link: usize, rules: LinkRules, now: Timestamp) {
        self.client.set_link_rules(self.links[link].id(), rules, now);
    }

    /// When client and server want to be called again, and why.
    fn deadlines(&mut self, now: Timestamp) -> [Option<Deadline>; 2] {
        [self.client.poll_deadline(now), self.server.poll_deadline(now)]
    }

    /// Takes what arrives at both ends. Whether there was anything.
    fn receive(&mut self, to_client: &mut PacketBatch, to_server: &mut PacketBatch, now: Timestamp) -> bool {
        self.to_client.clear();
        self.to_server.clear();
        for index in 0..self.links.len() {
            let shared = self.shared.as_ref().is_some_and(|shared| shared.has(index));
            while self.to_server.len() < BATCH
                && let Some(carried) = self.links[index].poll_up(now)
            {
                match &mut self.shared {
                    Some(shared_pipes) if shared => {
                        let size = carried.size();
                        shared_pipes.up.handle_packet((index, carried), size, now);
                    }
                    _ => self.at_server(carried, now),
                }
            }
            while self.to_client.len() < BATCH
                && let Some(carried) = self.links[index].poll_down(now)
            {
                self.at_client(index, carried, now);
            }
        }
        while self.to_server.len() < BATCH
            && let Some((_, carried)) = self.shared.as_mut().and_then(|shared| shared.up.poll_packet(now))
        {
            self.at_server(carried, now);
        }
        while let Some((index, carried)) =
            self.shared.as_mut().and_then(|shared| shared.down.poll_packet(now))
        {
            match carried {
                Carried::Bond(datagram) => self.links[index].send_down(&datagram, now),
                Carried::Neighbour(packet) => self.links[index].send_neighbour(false, packet, now),
            }
        }
        if !self.to_client.is_empty() {
            self.client.handle_datagrams(&mut self.to_client, to_client, now);
        }
        if !self.to_server.is_empty() {
            self.server.handle_datagrams(&mut self.to_server, to_server, now);
        }
        !self.to_client.is_empty() || !self.to_server.is_empty()
    }

    fn at_server(&mut self, carried: Carried, now: Timestamp) {
        match carried {
            Carried::Bond(datagram) => {
                let local = Some(datagram.destination.ip());
                self.to_server.push(
                    &datagram.payload,
                    Route { link: LinkId(0), local, remote: datagram.source }.into(),
                );
            }
            Carried::Neighbour(packet) => self.neighbours.on_arrival(Side::Server, &packet, now),
        }
    }

    fn at_client(&mut self, link: usize, carried: Carried, now: Timestamp) {
        match carried {
            Carried::Bond(datagram) => {
                let route = Route { link: self.links[link].id(), local: None, remote: datagram.source };
                self.to_client.push(&datagram.payload, route.into());
            }
            Carried::Neighbour(packet) => self.neighbours.on_arrival(Side::Client, &packet, now),
        }
    }

    fn handle_timeouts(&mut self, to_client: &mut PacketBatch, to_server: &mut PacketBatch, now: Timestamp) {
        if self.client.poll_deadline(now).is_some_and(|deadline| deadline.at <= now) {
            self.client.handle_timeout(to_client, now);
        }
        if self.server.poll_deadline(now).is_some_and(|deadline| deadline.at <= now) {
            self.server.handle_timeout(to_server, now);
        }
    }

    fn take_events(&mut self, now: Timestamp) {
        while let Some(event) = self.client.poll_event() {
            self.sessions += u32::from(matches!(event, ClientEvent::Established(_)));
            self.record(BondEvent::Client(event), now);
        }
        while let Some(event) = self.server.poll_event() {
            self.record(BondEvent::Server(event), now);
        }
    }

    fn record(&mut self, event: BondEvent, now: Timestamp) {
        if self.log.len() < MAX_LOG {
            self.log.push((now, event));
        }
    }

    fn transmit(&mut self, now: Timestamp) {
        loop {
            self.transmit.clear();
            self.client.poll_transmit(&mut self.transmit, now);
            if self.transmit.is_empty() {
                break;
            }
            for (payload, route) in self.transmit.iter() {
                if let Some(link) = self.links.iter_mut().find(|link| link.id() == route.link) {
                    link.send_up(route.remote, payload, now);
                }
            }
        }
        loop {
            self.transmit.clear();
            self.server.poll_transmit(&mut self.transmit, now);
            if self.transmit.is_empty() {
                break;
            }
            let batch = core::mem::take(&mut self.transmit);
            for (payload, route) in batch.iter() {
                let own = if route.remote.is_ipv4() { SERVER_V4 } else { SERVER_V6 };
                assert!(route.local.is_none_or(|local| local == own.ip()), "an answer from another address");
                let datagram = Datagram { source: own, destination: route.remote, payload: payload.to_vec() };
                self.send_down(datagram, now);
            }
            self.transmit = batch;
        }
        self.neighbours.transmit(&mut self.links, self.shared.as_mut(), now);
    }

    /// To an address that no link has any more: it vanishes somewhere in the internet.
    fn send_down(&mut self, datagram: Datagram, now: Timestamp) {
        let position = |link: &Access| link.answers_to(datagram.destination);
        let Some(index) = self.links.iter().position(position) else { return };
        match &mut self.shared {
            Some(shared) if shared.has(index) => {
                let carried = Carried::Bond(datagram);
                let size = carried.size();
                shared.down.handle_packet((index, carried), size, now);
            }
            _ => self.links[index].send_down(&datagram, now),
        }
    }

    fn link_up(&mut self, link: LinkUp, now: Timestamp) {
        self.client.handle_link_up(link, now);
    }
}

impl Network for Bonded {
    fn handle_packets(&mut self, side: Side, batch: &PacketBatch, now: Timestamp) {
        match side {
            Side::Client => self.client.handle_packets(batch, now),
            Side::Server => self.server.handle_packets(batch, now),
        }
    }

    fn exchange(&mut self, to_client: &mut PacketBatch, to_server: &mut PacketBatch, now: Timestamp) {
        loop {
            let received = self.receive(to_client, to_server, now);
            self.handle_timeouts(to_client, to_server, now);
            self.take_events(now);
            self.transmit(now);
            self.take_events(now);
            if !received {
                return;
            }
        }
    }

    fn poll_deadline(&mut self, now: Timestamp) -> Option<Timestamp> {
        let pipes = self.links.iter().filter_map(Access::poll_deadline).min();
        let shared = self.shared.as_ref().and_then(Shared::poll_deadline);
        let neighbours = self.neighbours.poll_deadline();
        let [client, server] = self.deadlines(now).map(|deadline| deadline.map(|d| d.at));
        [pipes, shared, neighbours, client, server].into_iter().flatten().min()
    }

    fn explain(&mut self, now: Timestamp) -> String {
        let [client, server] = self.deadlines(now);
        let pipes = self.links.iter().filter_map(Access::poll_deadline).min();
        format!("client {client:?}, server {server:?}, pipes {pipes:?}")
    }

    fn handle_event(&mut self, link: usize, action: &Action, now: Timestamp) {
        let notice = self.links[link].handle_event(action, now);
        let up = self.links[link].link_up();
        match notice {
            Notice::Nothing => {}
            Notice::Down => self.client.handle_link_down(up.id, now),
            Notice::Up => self.link_up(up, now),
            Notice::Readdressed => {
                self.client.handle_link_down(up.id, now);
                self.link_up(up, now);
            }
        }
    }
}
