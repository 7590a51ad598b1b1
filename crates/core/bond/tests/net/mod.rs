//! A network in memory: links with a delay, in virtual time.

use bondwire_bond::*;
use bondwire_crypto::{Cipher, Psk, PublicKey, SecretKey};
use bondwire_packet::PacketBatch;
use bondwire_packet::build::{TcpFields, tcp4, udp4};
use bondwire_units::{ByteCount, LinkId, Timestamp};
use bondwire_wire::Mode;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::collections::BTreeMap;

const UNIX: u64 = 1_700_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Client,
    Server,
}

#[derive(Debug)]
pub struct Link {
    pub up: bool,
    pub delay: Duration,
    pub port: u16,
    pub mtu: u16,
    /// Each so many-th datagram is lost; 0: none.
    pub lose: u64,
}

#[derive(Debug)]
enum Wire {
    ToServer(SocketAddr),
    ToClient(u32),
}

pub struct Net {
    pub now: Timestamp,
    pub client: Client,
    pub server: Server,
    pub links: Vec<Link>,
    pub record: ClientRecord,
    pub client_events: Vec<ClientEvent>,
    pub datagrams: u64,
    pub largest: usize,
    pub mirror: bool,
    pub mirror_sent: usize,
    pub mirror_got: usize,
    seen: Vec<Vec<u8>>,
    wire: BTreeMap<(Timestamp, u64), (Wire, Vec<u8>)>,
    order: u64,
    to_server: Vec<u64>,
    to_client: Vec<u64>,
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32])
}

pub fn packet(src: [u8; 4], dst: [u8; 4], tag: u64) -> Vec<u8> {
    let address = |ip: [u8; 4], port| SocketAddrV4::new(Ipv4Addr::from(ip), port);
    tcp4(address(src, 1_000), address(dst, 80), &fields(tag), &tag.to_be_bytes())
}

/// Each tag is new data of its connection.
fn fields(tag: u64) -> TcpFields<'static> {
    TcpFields { sequence: (tag as u32).wrapping_mul(1 << 11), ..TcpFields::default() }
}

fn server_address() -> SocketAddr {
    "192.0.2.1:443".parse().unwrap()
}

fn mirror_address() -> SocketAddr {
    "203.0.113.66:666".parse().unwrap()
}

fn client(seed: u8, last_timestamp: u64, server: PublicKey, now: Timestamp) -> Client {
    let config = ClientConfig {
        identity: secret(2),
        server,
        psk: Psk::from_bytes([5; 32]),
        invite_id: [1; 8],
        endpoints: vec![server_address()],
        mode: Mode::Speed,
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        mtu: 1_440,
        last_timestamp,
        max_redundant: 5,
        software: "test".to_owned(),
        seed: [seed; 32],
        memory: ByteCount::new(16 << 20),
        rules: Rules::default(),
    };
    Client::new(config, UNIX * 1_000_000, now)
}

fn server(seed: u8, record: ClientRecord, mib: u64, now: Timestamp) -> Server {
    let config = ServerConfig {
        identity: secret(1),
        v4: Some((Ipv4Addr::new(10, 99, 0, 1), 24)),
        v6: None,
        mtu: 1_440,
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        max_sessions: 100,
        memory_per_session: ByteCount::new(mib << 20),
        max_redundant: 5,
        client_to_client: false,
        software: "test".to_owned(),
        seed: [seed; 32],
    };
    let mut server = Server::new(config, now);
    server.set_clock(UNIX);
    server.set_directory(vec![record], now);
    server
}

impl Net {
    pub fn new(links: usize) -> Self {
        Self::with_record(links, |_| {})
    }

    /// With so much memory for each of the server's sessions, in MiB.
    pub fn with_memory(links: usize, mib: u64) -> Self {
        let mut net = Self::new(links);
        net.server = server(4, net.record.clone(), mib, net.now);
        net
    }

    pub fn with_record(links: usize, change: fn(&mut ClientRecord)) -> Self {
        let now = Timestamp::from_millis(1);
        let mut record = ClientRecord {
            name: "laptop".to_owned(),
            public_key: None,
            invite_id: [1; 8],
            psk: Psk::from_bytes([5; 32]),
            invite_expires: UNIX + 3_600,
            v4: Some(Ipv4Addr::new(10, 99, 0, 2)),
            v6: None,
            last_timestamp: 0,
            revoked: false,
        };
        change(&mut record);
        let mut net = Self {
            now,
            client: client(3, 0, secret(1).public(), now),
            server: server(4, record.clone(), 16, now),
            links: (0..links)
                .map(|i| Link {
                    up: true,
                    delay: Duration::from_millis(10 + 15 * i as u64),
                    port: 5_000 + 100 * i as u16,
                    mtu: 1_500,
                    lose: 0,
                })
                .collect(),
            record,
            client_events: Vec::new(),
            datagrams: 0,
            largest: 0,
            mirror: false,
            mirror_sent: 0,
            mirror_got: 0,
            seen: Vec::new(),
            wire: BTreeMap::new(),
            order: 0,
            to_server: Vec::new(),
            to_client: Vec::new(),
        };
        net.links_up();
        net
    }

    fn links_up(&mut self) {
        for i in 0..self.links.len() {
            let link = LinkUp { id: LinkId(i as u32 + 1), mtu: 1_500, v4: true, v6: false };
            self.client.handle_link_up(link, self.now);
        }
    }

    pub fn restart_server(&mut self) {
        let key = self.client_key();
        let record = ClientRecord { public_key: Some(key), ..self.record.clone() };
        self.server = server(44, record, 16, self.now);
    }

    fn client_key(&self) -> PublicKey {
        secret(2).public()
    }

    /// Puts another client with the same key in the place of the first, which is returned.
    pub fn replace_client(&mut self) -> Client {
        let other = client(33, UNIX * 1_000_000 + 60_000_000, secret(1).public(), self.now);
        let first = core::mem::replace(&mut self.client, other);
        // The two stand behind different addresses: the first one's come back to it in `run_other`.
        self.links_up();
        for link in &mut self.links {
            link.port += 1_000;
        }
        first
    }

    /// Lets the first client read what was sent to it while the second one ran.
    pub fn run_other(&mut self, mut first: Client, span: Duration) -> Vec<ClientEvent> {
        let mut batch = ArrivalBatch::default();
        let mut deliver = PacketBatch::default();
        for datagram in core::mem::take(&mut self.seen) {
            batch.push(&datagram, Route { link: LinkId(1), local: None, remote: server_address() }.into());
        }
        first.handle_datagrams(&mut batch, &mut deliver, self.now + span);
        core::iter::from_fn(|| first.poll_event()).collect()
    }

    pub fn established(&self) -> bool {
        self.client_events.iter().any(|event| matches!(event, ClientEvent::Established(_)))
    }

    pub fn client_status(&mut self) -> ClientStatus {
        self.client.status(self.now)
    }

    pub fn delivered(&self, at: Side) -> Vec<u64> {
        if at == Side::Server { self.to_server.clone() } else { self.to_client.clone() }
    }

    pub fn clear_delivered(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
    }

    pub fn send_tcp(&mut self, from: Side, tag: u64) {
        let (client, server) = ([10, 99, 0, 2], [10, 99, 0, 1]);
        let (src, dst) = if from == Side::Client { (client, server) } else { (server, client) };
        self.send_raw(from, &packet(src, dst, tag));
    }

    pub fn send_sized(&mut self, from: Side, tag: u64, size: usize) {
        let client = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 7);
        let server = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 7);
        let (src, dst) = if from == Side::Client { (client, server) } else { (server, client) };
        let mut payload = vec![7; size - 40];
        payload[..8].copy_from_slice(&tag.to_be_bytes());
        let packet = tcp4(src, dst, &fields(tag), &payload);
        assert_eq!(packet.len(), size);
        self.send_raw(from, &packet);
    }

    pub fn send_udp(&mut self, from: Side, tag: u64) {
        let client = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 7);
        let server = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 7);
        let (src, dst) = if from == Side::Client { (client, server) } else { (server, client) };
        self.send_raw(from, &udp4(src, dst, &tag.to_be_bytes()));
    }

    pub fn send_raw(&mut self, from: Side, packet: &[u8]) {
        let mut batch = PacketBatch::default();
        batch.push(packet, Default::default());
        match from {
            Side::Client => self.client.handle_packets(&batch, self.now),
            Side::Server => self.server.handle_packets(&batch, self.now),
        }
    }

    /// Lets `span` pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.pump();
            let next = [
                self.client.poll_deadline(self.now).map(|d| d.at),
                self.server.poll_deadline(self.now).map(|d| d.at),
                self.wire.keys().next().map(|(at, _)| *at),
            ];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            // A deadline in the past is a loop that spins: time has to go on for the test to end.
            self.now = next.max(self.now + Duration::from_micros(1));
        }
    }

    fn pump(&mut self) {
        let mut deliver = PacketBatch::default();
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (wire, datagram) = entry.remove();
            let mut batch = ArrivalBatch::default();
            match wire {
                Wire::ToServer(from) => {
                    batch.push(
                        &datagram,
                        Route { link: LinkId(0), local: Some(server_address().ip()), remote: from }.into(),
                    );
                    self.server.handle_datagrams(&mut batch, &mut deliver, self.now);
                    collect(&mut deliver, &mut self.to_server);
                }
                Wire::ToClient(link) => {
                    batch.push(
                        &datagram,
                        Route { link: LinkId(link), local: None, remote: server_address() }.into(),
                    );
                    self.client.handle_datagrams(&mut batch, &mut deliver, self.now);
                    collect(&mut deliver, &mut self.to_client);
                }
            }
        }
        self.client.handle_timeout(&mut deliver, self.now);
        collect(&mut deliver, &mut self.to_client);
        self.server.handle_timeout(&mut deliver, self.now);
        collect(&mut deliver, &mut self.to_server);
        self.client_events.extend(core::iter::from_fn(|| self.client.poll_event()));
        while self.server.poll_event().is_some() {}
        self.transmit();
    }

    fn transmit(&mut self) {
        loop {
            let (mut up, mut down) = (DatagramBatch::default(), DatagramBatch::default());
            self.client.poll_transmit(&mut up, self.now);
            self.client_events.extend(core::iter::from_fn(|| self.client.poll_event()));
            self.server.poll_transmit(&mut down, self.now);
            if up.is_empty() && down.is_empty() {
                return;
            }
            for (datagram, route) in up.iter() {
                let link = &self.links[route.link.0 as usize - 1];
                let from = SocketAddr::from(([198, 51, 100, route.link.0 as u8], link.port));
                self.put(route.link.0, Wire::ToServer(from), datagram);
                if self.mirror {
                    self.mirror_sent += datagram.len() + 28;
                    // The mirror is quicker than the link.
                    self.order += 1;
                    self.wire.insert(
                        (self.now, self.order),
                        (Wire::ToServer(mirror_address()), datagram.to_vec()),
                    );
                }
            }
            for (datagram, route) in down.iter() {
                if route.remote == mirror_address() {
                    self.mirror_got += datagram.len() + 28;
                    continue;
                }
                let SocketAddr::V4(to) = route.remote else { continue };
                let link = u32::from(to.ip().octets()[3]);
                if self.links[link as usize - 1].port == to.port() {
                    self.put(link, Wire::ToClient(link), datagram);
                } else {
                    self.seen.push(datagram.to_vec());
                }
            }
        }
    }

    fn put(&mut self, link: u32, wire: Wire, datagram: &[u8]) {
        self.datagrams += 1;
        let link = &self.links[link as usize - 1];
        if datagram.len() + 28 > usize::from(link.mtu) {
            return;
        }
        self.largest = self.largest.max(datagram.len() + 28);
        self.order += 1;
        let lost = link.lose > 0 && self.order.is_multiple_of(link.lose);
        if link.up && !lost {
            self.wire.insert((self.now + link.delay, self.order), (wire, datagram.to_vec()));
        }
    }

    /// Throws rubbish and mutated copies of real datagrams at both ends.
    pub fn attack(&mut self, count: u64) {
        self.send_tcp(Side::Client, 1_000);
        self.send_tcp(Side::Server, 1_000);
        let mut samples = Vec::new();
        for _ in 0..20 {
            self.run(Duration::from_millis(7));
            samples.extend(self.wire.values().map(|(_, datagram)| datagram.clone()));
        }
        self.clear_delivered();
        let mut random = 99_u64;
        let mut next = move || {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            random >> 33
        };
        let from = mirror_address();
        for _ in 0..count {
            let mut datagram = if samples.is_empty() || next() % 2 == 0 {
                (0..next() % 1_400).map(|_| next() as u8).collect::<Vec<u8>>()
            } else {
                samples[next() as usize % samples.len()].clone()
            };
            if let Some(first) = datagram.first_mut()
                && next() % 2 == 0
            {
                *first = [1, 2, 3, 4, 5, 0x40, 0x41][next() as usize % 7];
            }
            if !datagram.is_empty() {
                let at = next() as usize % datagram.len();
                datagram[at] ^= 1 << (next() % 8);
            }
            let (mut batch, mut deliver, mut out) =
                (ArrivalBatch::default(), PacketBatch::default(), DatagramBatch::default());
            batch.push(&datagram, Route { link: LinkId(0), local: None, remote: from }.into());
            self.server.handle_datagrams(&mut batch.clone(), &mut deliver, self.now);
            self.client.handle_datagrams(&mut batch, &mut deliver, self.now);
            assert!(deliver.is_empty());
            self.server.poll_transmit(&mut out, self.now);
            for (answer, route) in out.iter() {
                assert!(route.remote != from || answer.len() <= datagram.len());
            }
        }
    }
}

fn collect(deliver: &mut PacketBatch, into: &mut Vec<u64>) {
    for (packet, _) in deliver.iter() {
        let header = if packet[9] == 17 { 28 } else { 40 };
        let tag: [u8; 8] = packet[header..header + 8].try_into().unwrap();
        into.push(u64::from_be_bytes(tag));
    }
    deliver.clear();
}
