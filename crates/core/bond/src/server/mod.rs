//! The server's end: many clients, each with one session (and at most one that is still pending).
//!
//! A handshake leaves a *pending* session, which becomes the client's session when the first packet under its keys opens (docs/protocol.md,
//! HS-7); only then is an invite pinned to the key that used it, and only then does the earlier session end.
//!
//! Bounds: [`ServerConfig::max_sessions`] sessions, pending ones included, one pending session per client for ten seconds, [`OUTBOX`] answers to
//! handshakes that wait to be sent.

mod handshake;

use crate::random::Random;
use crate::session::{Delivery, Session, SessionEvent};
use crate::types::*;
use bondwire_crypto::{Cipher, PublicKey, SecretKey, ServerHandshake};
use bondwire_packet::{PacketBatch, destination_address, parse, source_address};
use bondwire_units::{ByteCount, Deadline, SessionId, Timestamp};
use bondwire_wire::{CloseCode, DatagramKind, classify};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Bound;
use core::time::Duration;
use handshake::Pending;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Answers to handshakes that wait to be sent.
const OUTBOX: usize = 1_024;
/// A session is forgotten after so much silence (docs/protocol.md, PATH-6).
const SILENCE: Duration = Duration::from_secs(180);

/// What a server needs to know.
#[derive(Debug)]
pub struct ServerConfig {
    /// Its key.
    pub identity: SecretKey,
    /// Its inner IPv4 address and the length of the inner network's prefix.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Its inner IPv6 address and the length of the inner network's prefix.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// The greatest inner packet, in bytes.
    pub mtu: u16,
    /// Ciphers that it accepts.
    pub ciphers: Vec<Cipher>,
    /// Sessions at a time.
    pub max_sessions: usize,
    /// Memory for all queues of one session together.
    pub memory_per_session: ByteCount,
    /// How many paths carry each packet in mode `redundant`.
    pub max_redundant: u8,
    /// Whether clients reach one another.
    pub client_to_client: bool,
    /// The software's name and version.
    pub software: String,
    /// Randomness for keys, ids and challenges: fresh from the system, never used twice.
    pub seed: [u8; 32],
}

/// A session with what the server knows of its client.
#[derive(Debug)]
struct Seat {
    session: Session,
    client: [u8; 8],
    key: PublicKey,
    timestamp: u64,
    name: String,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    confirmed: bool,
    expires: Timestamp,
    deadline: Option<Timestamp>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    random: Random,
    handshake: ServerHandshake,
    directory: BTreeMap<[u8; 8], ClientRecord>,
    by_key: BTreeMap<PublicKey, [u8; 8]>,
    seats: BTreeMap<SessionId, Seat>,
    current: BTreeMap<[u8; 8], SessionId>,
    pending: BTreeMap<[u8; 8], Pending>,
    by_address: BTreeMap<IpAddr, SessionId>,
    /// Sessions that may have something to send.
    ready: BTreeSet<SessionId>,
    /// The session that was served last.
    turn: SessionId,
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    outbox: VecDeque<(Vec<u8>, Route)>,
    events: VecDeque<ServerEvent>,
    drops: DropCounters,
    unix_secs: u64,
    load: handshake::Load,
    closed: bool,
}

impl Server {
    /// A server without clients.
    pub fn new(config: ServerConfig, now: Timestamp) -> Self {
        let mut random = Random::new(config.seed);
        let handshake = ServerHandshake::new(config.identity.clone(), random.bytes(), now);
        Self {
            random,
            handshake,
            directory: BTreeMap::new(),
            by_key: BTreeMap::new(),
            seats: BTreeMap::new(),
            current: BTreeMap::new(),
            pending: BTreeMap::new(),
            by_address: BTreeMap::new(),
            ready: BTreeSet::new(),
            turn: SessionId(0),
            deadlines: BTreeSet::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            drops: DropCounters::default(),
            unix_secs: 0,
            load: handshake::Load::default(),
            closed: false,
            config,
        }
    }

    /// Tells the time of day, for invites that end.
    pub fn set_clock(&mut self, unix_secs: u64) {
        self.unix_secs = unix_secs;
    }

    /// The whole list of clients, at the start and at each change. Sessions of clients that were revoked, or are no longer listed, end.
    pub fn set_directory(&mut self, records: Vec<ClientRecord>, now: Timestamp) {
        let old = core::mem::take(&mut self.directory);
        self.by_key.clear();
        for mut record in records {
            if let Some(known) = old.get(&record.invite_id) {
                record.last_timestamp = record.last_timestamp.max(known.last_timestamp);
                // A key that was pinned a moment ago may not have reached the list yet.
                record.public_key = record.public_key.or(known.public_key);
            }
            if let Some(key) = record.public_key {
                self.by_key.insert(key, record.invite_id);
            }
            self.directory.insert(record.invite_id, record);
        }
        let gone: Vec<SessionId> = self
            .seats
            .iter()
            .filter(|(_, seat)| self.directory.get(&seat.client).is_none_or(|record| record.revoked))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.end(id, CloseCode::Revoked, "revoked", now);
        }
    }

    /// Datagrams arrived. They are opened in place; inner packets go to `deliver`.
    pub fn handle_datagrams(&mut self, batch: &mut ArrivalBatch, deliver: &mut PacketBatch, now: Timestamp) {
        for index in 0..batch.len() {
            let Some((datagram, arrival)) = batch.get_mut(index) else { break };
            let (arrival, route) = (*arrival, arrival.route);
            match classify(datagram) {
                Ok((DatagramKind::Data { .. }, id)) => self.handle_data(id, arrival, datagram, deliver, now),
                Ok((DatagramKind::Initiation, _)) => self.handle_initiation(route, datagram, now),
                Ok(_) | Err(_) => self.drops.count(DropReason::Malformed),
            }
        }
    }

    /// Inner packets for clients.
    pub fn handle_packets(&mut self, batch: &PacketBatch, now: Timestamp) {
        for (packet, _) in batch.iter() {
            let Ok(info) = parse(packet) else {
                self.drops.count(DropReason::BadInnerPacket);
                continue;
            };
            let id = destination_address(packet).and_then(|address| self.by_address.get(&address).copied());
            match id.and_then(|id| self.seats.get_mut(&id).map(|seat| (id, seat))) {
                Some((id, seat)) => {
                    seat.session.handle_packet(packet, &info, now);
                    self.ready.insert(id);
                }
                None => self.drops.count(DropReason::ForeignDestination),
            }
        }
    }

    /// The kernel refused to send on a route: its paths are in doubt.
    pub fn handle_send_error(&mut self, route: Route, now: Timestamp) {
        for (id, seat) in &mut self.seats {
            if seat.session.handle_send_error(route, now) {
                self.ready.insert(*id);
            }
        }
    }

    /// The kernel refused a datagram of `size` bytes of payload that was too large for the link.
    pub fn handle_too_large(&mut self, route: Route, size: usize, now: Timestamp) {
        for seat in self.seats.values_mut() {
            seat.session.handle_too_large(route, size, now);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, deliver: &mut PacketBatch, now: Timestamp) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            seat.deadline = None;
            let mut admit = |_: &[u8]| Ok(());
            seat.session.handle_timeout(&mut Delivery { batch: deliver, admit: &mut admit }, now);
            let over = if seat.confirmed {
                now.since(seat.session.last_received()) >= SILENCE
            } else {
                now >= seat.expires
            };
            if over {
                let confirmed = seat.confirmed;
                self.remove(id, confirmed.then_some("nothing was heard of it"));
            } else {
                self.ready.insert(id);
                self.react(id, now);
            }
        }
    }

    /// Appends what can be sent now, at most a bounded run; to be called until it appends nothing.
    pub fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        while let Some((datagram, route)) = self.outbox.pop_front() {
            out.push(&datagram, route);
        }
        let before = out.len();
        while out.len() == before
            && let Some(id) = self.next_ready()
        {
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            seat.session.poll_transmit(out, now);
            if seat.session.is_closed() {
                self.remove(id, None);
            } else if out.len() > before {
                self.ready.insert(id);
            } else {
                self.book_deadline(id, now);
            }
        }
    }

    /// The next session in turn that may have something to send, so that a busy one starves nobody.
    fn next_ready(&mut self) -> Option<SessionId> {
        let behind = (Bound::Excluded(self.turn), Bound::Unbounded);
        let id = self.ready.range(behind).next().or_else(|| self.ready.first()).copied()?;
        self.ready.remove(&id);
        self.turn = id;
        Some(id)
    }

    /// When to call [`Server::handle_timeout`], and why.
    pub fn poll_deadline(&mut self, now: Timestamp) -> Option<Deadline> {
        if !self.ready.is_empty() || !self.outbox.is_empty() {
            return Some(Deadline::new(now, "something to send"));
        }
        self.deadlines.first().map(|(at, _)| Deadline::new(*at, "a session"))
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// Ends all sessions; [`Server::poll_transmit`] until it appends nothing tells the clients.
    pub fn close(&mut self, now: Timestamp) {
        self.closed = true;
        let all: Vec<SessionId> = self.seats.keys().copied().collect();
        for id in all {
            self.end(id, CloseCode::ServerStops, "the server stops", now);
        }
    }

    /// How everything stands.
    pub fn status(&mut self, now: Timestamp) -> ServerStatus {
        let sessions = self
            .seats
            .values_mut()
            .filter(|seat| seat.confirmed)
            .map(|seat| SessionStatus {
                name: seat.name.clone(),
                mode: seat.session.mode(),
                age: seat.session.age(now),
                v4: seat.v4,
                v6: seat.v6,
                paths: seat.session.path_status(now),
                flows: seat.session.flows(now),
                streams: seat.session.stream_status(now),
                counters: seat.session.counters(),
            })
            .collect();
        ServerStatus { sessions, drops: self.drops }
    }

    fn handle_data(
        &mut self,
        id: SessionId,
        arrival: Arrival,
        datagram: &mut [u8],
        deliver: &mut PacketBatch,
        now: Timestamp,
    ) {
        let Some(seat) = self.seats.get_mut(&id) else {
            self.drops.count(DropReason::UnknownSession);
            return;
        };
        let (v4, v6) = (seat.v4, seat.v6);
        let (config, confirmed) = (&self.config, seat.confirmed);
        let mut admit = |packet: &[u8]| {
            if confirmed { admits(config, v4, v6, packet) } else { Err(DropReason::NoSession) }
        };
        let mut delivery = Delivery { batch: deliver, admit: &mut admit };
        if !seat.session.handle_datagram(arrival, datagram, &mut delivery, now) {
            return;
        }
        if !seat.confirmed {
            self.confirm(id, arrival.route, now);
        }
        self.ready.insert(id);
        self.react(id, now);
    }

    /// The client has proven the new keys (docs/protocol.md, HS-6 and HS-7).
    fn confirm(&mut self, id: SessionId, route: Route, now: Timestamp) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.confirmed = true;
        let (client, key, timestamp, name) = (seat.client, seat.key, seat.timestamp, seat.name.clone());
        let addresses = [seat.v4.map(IpAddr::V4), seat.v6.map(IpAddr::V6)];
        if let Some(record) = self.directory.get_mut(&client)
            && record.public_key.is_none()
        {
            record.public_key = Some(key);
            record.last_timestamp = record.last_timestamp.max(timestamp);
            self.by_key.insert(key, client);
            self.events.push_back(ServerEvent::ClientPinned { invite_id: client, key });
        }
        if let Some(earlier) = self.current.insert(client, id) {
            self.end(earlier, CloseCode::Replaced, "replaced by a newer session", now);
            self.current.insert(client, id);
        }
        if let Some(pending) = self.pending.get_mut(&client) {
            pending.confirmed = true;
        }
        for address in addresses.into_iter().flatten() {
            self.by_address.insert(address, id);
        }
        self.events.push_back(ServerEvent::TimestampSeen { invite_id: client, timestamp });
        self.events.push_back(ServerEvent::Connected { name, remote: route.remote });
    }

    /// Draws consequences from what a session told.
    fn react(&mut self, id: SessionId, now: Timestamp) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let mut over = None;
        while let Some(event) = seat.session.poll_event() {
            match event {
                SessionEvent::Path(change) => {
                    let name = seat.name.clone();
                    self.events.push_back(ServerEvent::PathState { name, change });
                }
                SessionEvent::Stream(change) => {
                    let name = seat.name.clone();
                    self.events.push_back(ServerEvent::Stream { name, change });
                }
                SessionEvent::PeerClosed(_) => over = Some(None),
                SessionEvent::WornOut => over = Some(Some((CloseCode::KeysWornOut, "the keys are worn out"))),
                SessionEvent::Fatal(why) => over = Some(Some((CloseCode::Protocol, why))),
            }
        }
        match over {
            Some(None) => self.remove(id, Some("the client ended it")),
            Some(Some((code, why))) => self.end(id, code, why, now),
            None => {}
        }
    }

    /// Ends a session and tells the client. It leaves when that was sent.
    fn end(&mut self, id: SessionId, code: CloseCode, why: &'static str, _now: Timestamp) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.session.is_closed() {
            return;
        }
        seat.session.close(code, why);
        let (name, confirmed) = (seat.name.clone(), seat.confirmed);
        self.ready.insert(id);
        self.unlist(id);
        if confirmed {
            self.events.push_back(ServerEvent::Disconnected { name, why });
        }
    }

    /// Takes a session out of the tables by which packets and clients find it.
    fn unlist(&mut self, id: SessionId) {
        let Some(seat) = self.seats.get(&id) else { return };
        if self.current.get(&seat.client) == Some(&id) {
            self.current.remove(&seat.client);
        }
        if self.pending.get(&seat.client).is_some_and(|pending| pending.session == id) {
            self.pending.remove(&seat.client);
        }
        for address in [seat.v4.map(IpAddr::V4), seat.v6.map(IpAddr::V6)].into_iter().flatten() {
            if self.by_address.get(&address) == Some(&id) {
                self.by_address.remove(&address);
            }
        }
    }

    fn remove(&mut self, id: SessionId, why: Option<&'static str>) {
        self.unlist(id);
        self.ready.remove(&id);
        if let Some(seat) = self.seats.remove(&id) {
            if let Some(at) = seat.deadline {
                self.deadlines.remove(&(at, id));
            }
            if let Some(why) = why {
                self.events.push_back(ServerEvent::Disconnected { name: seat.name, why });
            }
        }
    }

    /// Notes when a session wants to be called again.
    fn book_deadline(&mut self, id: SessionId, now: Timestamp) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if let Some(at) = seat.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
        let end = if seat.confirmed { seat.session.last_received() + SILENCE } else { seat.expires };
        let at = seat.session.poll_deadline(now).map_or(end, |deadline| deadline.at.min(end));
        seat.deadline = Some(at);
        self.deadlines.insert((at, id));
    }
}

/// What a client may send: from its own addresses, and not to other clients unless that is allowed (docs/protocol.md, DATA-6).
fn admits(
    config: &ServerConfig,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    packet: &[u8],
) -> Result<(), DropReason> {
    let source = source_address(packet).ok_or(DropReason::BadInnerPacket)?;
    let destination = destination_address(packet).ok_or(DropReason::BadInnerPacket)?;
    let own = match source {
        IpAddr::V4(source) => v4 == Some(source),
        IpAddr::V6(source) => v6 == Some(source),
    };
    if !own {
        return Err(DropReason::ForeignSource);
    }
    let neighbour = match destination {
        IpAddr::V4(to) => {
            config.v4.is_some_and(|(server, len)| to != server && same_network_v4(server, to, len))
        }
        IpAddr::V6(to) => {
            config.v6.is_some_and(|(server, len)| to != server && same_network_v6(server, to, len))
        }
    };
    if neighbour && !config.client_to_client { Err(DropReason::ForeignDestination) } else { Ok(()) }
}

fn same_network_v4(a: Ipv4Addr, b: Ipv4Addr, len: u8) -> bool {
    let shift = 32 - u32::from(len.min(32));
    (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
}

fn same_network_v6(a: Ipv6Addr, b: Ipv6Addr, len: u8) -> bool {
    let shift = 128 - u32::from(len.min(128));
    (a.to_bits() ^ b.to_bits()).checked_shr(shift).unwrap_or(0) == 0
}
