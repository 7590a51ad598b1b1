//! The client's end: handshakes over all links at once, the session, what the server gave.
//!
//! Life: *connecting* (the same Initiation over every link; docs/protocol.md, HS-9) → *connected* → connecting again when no path has been alive for
//! a second, with the old session kept until the new one stands, since either may win → *closed*, *refused* or *replaced*, which are final.
//!
//! Bounds: one attempt and one session at a time; [`MAX_LINKS`] links.

use crate::random::Random;
use crate::realtime::Rules;
use crate::session::{Delivery, Role, Session, SessionEvent, SessionSetup};
use crate::types::*;
use bondwire_crypto::parse_version_negotiation;
use bondwire_crypto::{
    Cipher, ClientHandshake, Psk, PublicKey, Role as KeyRole, SecretKey, SessionKeys, TransportSecret,
};
use bondwire_packet::{PacketBatch, destination_address, parse};
use bondwire_units::{ByteCount, Deadline, LinkId, SessionId, Timestamp};
use bondwire_wire::{
    ClientHello, CloseCode, DatagramKind, Mode, Reject, RejectReason, ServerHello, classify,
};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// Links that are used at most.
pub const MAX_LINKS: usize = 16;
/// Links of which the user's wishes are remembered at most.
const MAX_RULES: usize = 4 * MAX_LINKS;
/// An Initiation is repeated after this, doubling up to [`REPEAT_LONGEST`].
const REPEAT_FIRST: Duration = Duration::from_millis(250);
const REPEAT_LONGEST: Duration = Duration::from_secs(2);
/// After this an Initiation is replaced by a new one.
const ATTEMPT: Duration = Duration::from_secs(5);
/// With no path alive for so long, a new session is sought beside the old one.
const ALL_DEAD: Duration = Duration::from_secs(1);
/// Before the next attempt when the server is full.
const FULL_WAIT: Duration = Duration::from_secs(10);

/// What a client needs to know.
#[derive(Debug)]
pub struct ClientConfig {
    /// Its own key.
    pub identity: SecretKey,
    /// The server's key.
    pub server: PublicKey,
    /// The invite's secret.
    pub psk: Psk,
    /// The invite's id.
    pub invite_id: [u8; 8],
    /// Where the server is, the preferred address first; at most one of each family is used on a link.
    pub endpoints: Vec<SocketAddr>,
    /// The mode to begin with.
    pub mode: Mode,
    /// Ciphers in order of preference.
    pub ciphers: Vec<Cipher>,
    /// The greatest inner packet wanted, in bytes.
    pub mtu: u16,
    /// The largest timestamp used so far, in microseconds.
    pub last_timestamp: u64,
    /// How many paths carry each packet in mode `redundant`.
    pub max_redundant: u8,
    /// The software's name and version.
    pub software: String,
    /// Randomness for keys, ids and challenges: fresh from the system, never used twice.
    pub seed: [u8; 32],
    /// Memory for all queues of the session together.
    pub memory: ByteCount,
    /// What the user says of flows, in mode `streaming`.
    pub rules: Rules,
}

#[derive(Debug)]
struct Attempt {
    handshake: ClientHandshake,
    ours: SessionId,
    since: Timestamp,
    due: Timestamp,
    backoff: Duration,
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    random: Random,
    state: ClientState,
    mode: Mode,
    links: BTreeMap<LinkId, LinkUp>,
    /// What the user wants of each link, there or not; at most [`MAX_RULES`].
    rules: BTreeMap<LinkId, LinkRules>,
    attempts: BTreeMap<LinkId, LinkAttempt>,
    attempt: Option<Attempt>,
    session: Option<Session>,
    /// A session that this end had to end: it leaves when its CLOSE was sent.
    closing: Option<Session>,
    parameters: Option<Parameters>,
    /// `Established` was told for the present session.
    told: bool,
    /// The event that has to be taken before anything is sent.
    unpersisted: bool,
    /// Since when no path has been alive.
    dead_since: Option<Timestamp>,
    retry_at: Timestamp,
    origin: Timestamp,
    origin_micros: u64,
    last_timestamp: u64,
    events: VecDeque<ClientEvent>,
    drops: DropCounters,
}

impl Client {
    /// A client at the time `unix_micros`, without links.
    pub fn new(config: ClientConfig, unix_micros: u64, now: Timestamp) -> Self {
        Self {
            random: Random::new(config.seed),
            state: ClientState::Connecting,
            mode: config.mode,
            links: BTreeMap::new(),
            rules: BTreeMap::new(),
            attempts: BTreeMap::new(),
            attempt: None,
            session: None,
            closing: None,
            parameters: None,
            told: false,
            unpersisted: false,
            dead_since: None,
            retry_at: now,
            origin: now,
            origin_micros: unix_micros,
            last_timestamp: config.last_timestamp,
            events: VecDeque::new(),
            drops: DropCounters::default(),
            config,
        }
    }

    /// A link can be used, or can be used again, perhaps from another address.
    pub fn handle_link_up(&mut self, link: LinkUp, now: Timestamp) {
        if self.links.len() >= MAX_LINKS && !self.links.contains_key(&link.id) {
            return;
        }
        self.links.insert(link.id, link);
        if let Some(attempt) = &mut self.attempt {
            attempt.due = now;
        }
        let Some(remote) = self.endpoint_for(link) else { return };
        if let Some(session) = &mut self.session {
            if session.link_remote(link.id).is_some_and(|known| known != remote) {
                // The link speaks another family than before: its path leads nowhere.
                session.close_link(link.id, now);
            }
            if session.link_remote(link.id).is_some() {
                session.handle_link_up(link.id, now);
            } else {
                let route = Route { link: link.id, local: None, remote };
                session.open_path(route, link.mtu, now);
                session.set_link_rules(link.id, self.rules.get(&link.id).copied().unwrap_or_default(), now);
            }
        }
    }

    /// When a link is used, and how much it may carry: for this session and those to come, whether the link is there yet or not. The server is
    /// told as far as it concerns what it sends. Rules of links that are gone for good are forgotten when there are too many.
    pub fn set_link_rules(&mut self, link: LinkId, rules: LinkRules, now: Timestamp) {
        if self.rules.len() >= MAX_RULES && !self.rules.contains_key(&link) {
            self.rules.retain(|known, _| self.links.contains_key(known));
        }
        self.rules.insert(link, rules);
        if let Some(session) = &mut self.session {
            session.set_link_rules(link, rules, now);
        }
    }

    /// A link vanished, lost its carrier or its address.
    pub fn handle_link_down(&mut self, link: LinkId, now: Timestamp) {
        self.links.remove(&link);
        if let Some(session) = &mut self.session {
            session.handle_link_down(link, now);
        }
        self.react(now);
    }

    /// A link is not to be used any more: its paths are closed.
    pub fn remove_link(&mut self, link: LinkId, now: Timestamp) {
        self.links.remove(&link);
        if let Some(session) = &mut self.session {
            session.close_link(link, now);
        }
        self.react(now);
    }

    /// The kernel refused to send on a route.
    pub fn handle_send_error(&mut self, route: Route, now: Timestamp) {
        if let Some(session) = &mut self.session {
            session.handle_send_error(route, now);
        }
        self.react(now);
    }

    /// The kernel refused a datagram that was too large for the link.
    ///
    /// `size` is the size of its payload, in bytes.
    pub fn handle_too_large(&mut self, route: Route, size: usize, now: Timestamp) {
        if let Some(session) = &mut self.session {
            session.handle_too_large(route, size, now);
        }
    }

    /// Datagrams arrived. They are opened in place; inner packets go to `deliver`.
    pub fn handle_datagrams(&mut self, batch: &mut ArrivalBatch, deliver: &mut PacketBatch, now: Timestamp) {
        for index in 0..batch.len() {
            let Some((datagram, arrival)) = batch.get_mut(index) else { break };
            let (arrival, route) = (*arrival, arrival.route);
            match classify(datagram) {
                Ok((DatagramKind::Data { .. }, id)) => self.handle_data(id, arrival, datagram, deliver, now),
                Ok((DatagramKind::Response, id)) => self.handle_response(id, route, datagram, now),
                Ok((DatagramKind::Reject, id)) => self.handle_reject(id, route, datagram, now),
                Ok((DatagramKind::CookieReply, id)) => self.handle_cookie(id, route, datagram, now),
                Ok((DatagramKind::VersionNegotiation, _)) => self.handle_versions(datagram),
                Ok((DatagramKind::Initiation, _)) | Err(_) => self.drops.count(DropReason::Malformed),
            }
        }
        self.react(now);
    }

    /// Inner packets that this machine sends.
    pub fn handle_packets(&mut self, batch: &PacketBatch, now: Timestamp) {
        for (packet, _) in batch.iter() {
            let Ok(info) = parse(packet) else {
                self.drops.count(DropReason::BadInnerPacket);
                continue;
            };
            match &mut self.session {
                Some(session) => session.handle_packet(packet, &info, now),
                None => self.drops.count(DropReason::NoSession),
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, deliver: &mut PacketBatch, now: Timestamp) {
        let parameters = self.parameters.as_ref();
        if let Some(session) = &mut self.session {
            let mut admit = |packet: &[u8]| admits(parameters, packet);
            session.handle_timeout(&mut Delivery { batch: deliver, admit: &mut admit }, now);
        }
        self.react(now);
        self.seek(now);
    }

    /// Appends what can be sent now, at most a bounded run; to be called until it appends nothing.
    ///
    /// Nothing is sent while a [`ClientEvent::TimestampUsed`] has not been taken.
    pub fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        self.seek(now);
        if !self.unpersisted {
            self.send_initiation(out, now);
        }
        if let Some(mut session) = self.closing.take() {
            session.poll_transmit(out, now);
        }
        if let Some(session) = &mut self.session {
            session.poll_transmit(out, now);
        }
    }

    /// When to call [`Client::handle_timeout`], and why.
    pub fn poll_deadline(&mut self, now: Timestamp) -> Option<Deadline> {
        let mut next = self.session.as_ref().and_then(|session| session.poll_deadline(now));
        if matches!(self.state, ClientState::Refused | ClientState::Replaced | ClientState::Closed) {
            return next;
        }
        if let Some(attempt) = &self.attempt
            && !self.links.is_empty()
        {
            next = Deadline::earliest(next, Some(Deadline::new(attempt.due, "an initiation")));
            let again = (attempt.since + ATTEMPT).max(self.retry_at);
            next = Deadline::earliest(next, Some(Deadline::new(again, "a new attempt")));
        } else if let Some(since) = self.dead_since.filter(|_| !self.links.is_empty()) {
            let at = (since + ALL_DEAD).max(self.retry_at);
            next = Deadline::earliest(next, Some(Deadline::new(at, "no path is alive")));
        } else if self.session.is_none() && !self.links.is_empty() {
            next = Deadline::earliest(next, Some(Deadline::new(self.retry_at, "a new attempt")));
        }
        next
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        let event = self.events.pop_front();
        if matches!(event, Some(ClientEvent::TimestampUsed(_))) {
            self.unpersisted = false;
        }
        event
    }

    /// Changes the mode, here and at the server.
    pub fn set_mode(&mut self, mode: Mode, _now: Timestamp) {
        self.mode = mode;
        if let Some(session) = &mut self.session {
            session.set_mode(mode);
        }
    }

    /// Changes what the user says of flows; each flow follows with its next packet, here and at the server.
    pub fn set_rules(&mut self, rules: Rules, _now: Timestamp) {
        if let Some(session) = &mut self.session {
            session.set_rules(rules.clone());
        }
        self.config.rules = rules;
    }

    /// Ends the session; [`Client::poll_transmit`] once more tells the server.
    pub fn close(&mut self, _now: Timestamp) {
        if let Some(session) = &mut self.session {
            session.close(CloseCode::Done, "the client stops");
        }
        self.attempt = None;
        self.state = ClientState::Closed;
    }

    /// How everything stands.
    pub fn status(&mut self, now: Timestamp) -> ClientStatus {
        let mut counters = self.session.as_ref().map(Session::counters).unwrap_or_default();
        counters.drops.add(&self.drops);
        let paths = self.session.as_mut().map(|session| session.path_status(now)).unwrap_or_default();
        ClientStatus {
            state: self.state,
            mode: self.mode,
            server: paths.first().map(|path| path.remote).or_else(|| self.config.endpoints.first().copied()),
            paths,
            flows: self.session.as_ref().map_or(0, |session| session.flows(now)),
            streams: self.session.as_ref().map(|session| session.stream_status(now)).unwrap_or_default(),
            counters,
            parameters: self.parameters.clone(),
            attempts: self.attempts.values().copied().collect(),
        }
    }

    /// The server's address that a link can reach.
    fn endpoint_for(&self, link: LinkUp) -> Option<SocketAddr> {
        self.config.endpoints.iter().copied().find(|e| if e.is_ipv4() { link.v4 } else { link.v6 })
    }

    /// Starts an attempt when one is needed.
    fn seek(&mut self, now: Timestamp) {
        if matches!(self.state, ClientState::Refused | ClientState::Replaced | ClientState::Closed)
            || self.links.is_empty()
        {
            return;
        }
        let worn = self.session.as_ref().is_some_and(Session::is_out_of_paths);
        let dead = self.dead_since.is_some_and(|since| now.since(since) >= ALL_DEAD);
        let wanted = self.session.is_none() || dead || worn;
        if !wanted {
            self.attempt = None;
            return;
        }
        let current = self.attempt.as_ref().is_some_and(|attempt| now.since(attempt.since) < ATTEMPT);
        if !current && now >= self.retry_at {
            self.start_attempt(now);
        }
    }

    fn start_attempt(&mut self, now: Timestamp) {
        let clock = self.origin_micros + now.since(self.origin).as_micros() as u64;
        self.last_timestamp = clock.max(self.last_timestamp.saturating_add(1));
        let hello = ClientHello {
            timestamp: self.last_timestamp,
            ciphers: self.config.ciphers.iter().map(|cipher| *cipher as u8).collect(),
            mode: self.mode,
            invite_id: Some(self.config.invite_id),
            max_inner_mtu: Some(self.config.mtu),
            software: self.config.software.clone(),
            max_paths: MAX_LINKS as u8,
        };
        let ours = SessionId(self.random.session_id());
        let seed = self.random.bytes();
        let payload = hello.encode();
        let config = &self.config;
        match ClientHandshake::start(&config.identity, config.server, &config.psk, ours, &payload, seed) {
            Ok(handshake) => {
                self.unpersisted = true;
                self.events.push_back(ClientEvent::TimestampUsed(self.last_timestamp));
                self.attempt = Some(Attempt { handshake, ours, since: now, due: now, backoff: REPEAT_FIRST });
            }
            // Only a broken key of the server gets here; trying again would not help.
            Err(_) => {
                self.state = ClientState::Refused;
                self.events.push_back(ClientEvent::Refused {
                    reason: RejectReason::UnknownKey,
                    text: "the server's key in the configuration is not a valid key".to_owned(),
                });
            }
        }
    }

    fn send_initiation(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        let Some(attempt) = &mut self.attempt else { return };
        if now < attempt.due {
            return;
        }
        attempt.due = now + attempt.backoff;
        attempt.backoff = (attempt.backoff * 2).min(REPEAT_LONGEST);
        for link in self.links.values() {
            let entry = self.attempts.entry(link.id);
            let entry = entry.or_insert(LinkAttempt { link: link.id, sent: 0, answered: false });
            for remote in &self.config.endpoints {
                if if remote.is_ipv4() { link.v4 } else { link.v6 } {
                    entry.sent += 1;
                    out.push(
                        attempt.handshake.datagram(),
                        Route { link: link.id, local: None, remote: *remote },
                    );
                }
            }
        }
    }

    fn handle_data(
        &mut self,
        id: SessionId,
        arrival: Arrival,
        datagram: &mut [u8],
        deliver: &mut PacketBatch,
        now: Timestamp,
    ) {
        let parameters = self.parameters.as_ref();
        match &mut self.session {
            Some(session) if session.id() == id => {
                let mut admit = |packet: &[u8]| admits(parameters, packet);
                session.handle_datagram(
                    arrival,
                    datagram,
                    &mut Delivery { batch: deliver, admit: &mut admit },
                    now,
                );
            }
            _ => self.drops.count(DropReason::UnknownSession),
        }
    }

    fn is_current(&self, id: SessionId) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.ours == id)
    }

    fn on_answer(&mut self, link: LinkId) {
        if let Some(attempt) = self.attempts.get_mut(&link) {
            attempt.answered = true;
        }
    }

    fn handle_response(&mut self, id: SessionId, route: Route, datagram: &[u8], now: Timestamp) {
        // Copies of the response come over every link; the session stands since the first.
        if !self.is_current(id) {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        let Ok(accepted) = attempt.handshake.handle_response(datagram) else {
            self.drops.count(DropReason::NotAuthentic);
            return;
        };
        self.on_answer(route.link);
        let Ok(hello) = ServerHello::decode(&accepted.payload) else {
            self.drops.count(DropReason::Malformed);
            return;
        };
        // docs/protocol.md, PARAM-3: only what was offered.
        let Some(cipher) =
            Cipher::from_wire(hello.cipher).filter(|cipher| self.config.ciphers.contains(cipher))
        else {
            self.drops.count(DropReason::Malformed);
            return;
        };
        self.establish(id, accepted.peer, accepted.secret, cipher, &hello, now);
    }

    fn establish(
        &mut self,
        ours: SessionId,
        theirs: SessionId,
        secret: TransportSecret,
        cipher: Cipher,
        hello: &ServerHello,
        now: Timestamp,
    ) {
        let setup = SessionSetup {
            role: Role::Client,
            ours,
            theirs,
            keys: SessionKeys::new(KeyRole::Client, secret, cipher, now),
            mode: self.mode,
            max_redundant: usize::from(self.config.max_redundant),
            memory: self.config.memory,
            rules: self.config.rules.clone(),
            seed: self.random.bytes(),
        };
        let mut session = Session::new(setup, now);
        for link in self.links.values() {
            if let Some(remote) = self.endpoint_for(*link) {
                session.open_path(Route { link: link.id, local: None, remote }, link.mtu, now);
                session.set_link_rules(link.id, self.rules.get(&link.id).copied().unwrap_or_default(), now);
            }
        }
        self.parameters = Some(Parameters {
            v4: hello.client_v4,
            server_v4: hello.server_v4,
            v6: hello.client_v6,
            server_v6: hello.server_v6,
            mtu: hello.inner_mtu.min(self.config.mtu),
            name: hello.client_name.clone(),
            cipher: cipher_name(cipher),
        });
        self.session = Some(session);
        self.attempt = None;
        self.dead_since = Some(now);
        self.told = false;
    }

    fn handle_reject(&mut self, id: SessionId, route: Route, datagram: &[u8], now: Timestamp) {
        if !self.is_current(id) {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        let reject =
            attempt.handshake.handle_reject(datagram).ok().and_then(|payload| Reject::decode(&payload).ok());
        let Some(reject) = reject else {
            self.drops.count(DropReason::NotAuthentic);
            return;
        };
        self.on_answer(route.link);
        self.attempt = None;
        match reject.reason {
            RejectReason::Stale => {
                // docs/protocol.md, HS-5
                self.last_timestamp = self.last_timestamp.max(reject.largest_timestamp.unwrap_or(0));
                self.retry_at = now;
            }
            RejectReason::ServerFull => self.retry_at = now + FULL_WAIT,
            reason => {
                self.state = ClientState::Refused;
                self.session = None;
                self.events.push_back(ClientEvent::Refused { reason, text: reject.text });
            }
        }
    }

    fn handle_cookie(&mut self, id: SessionId, route: Route, datagram: &[u8], now: Timestamp) {
        if !self.is_current(id) {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.handshake.handle_cookie_reply(datagram).is_ok() {
            attempt.due = now;
            self.on_answer(route.link);
        } else {
            self.drops.count(DropReason::NotAuthentic);
        }
    }

    fn handle_versions(&mut self, datagram: &[u8]) {
        if let Ok((id, versions)) = parse_version_negotiation(datagram)
            && self.is_current(id)
            && !versions.contains(&bondwire_wire::VERSION)
        {
            self.events.push_back(ClientEvent::VersionMismatch(versions));
        }
    }

    /// Draws consequences from what the session told.
    fn react(&mut self, now: Timestamp) {
        let Some(session) = &mut self.session else { return };
        let mut over = None;
        while let Some(event) = session.poll_event() {
            match event {
                SessionEvent::Path(change) => self.events.push_back(ClientEvent::PathState(change)),
                SessionEvent::Stream(change) => self.events.push_back(ClientEvent::Stream(change)),
                SessionEvent::PeerClosed(code) => over = Some(code),
                SessionEvent::WornOut => {
                    session.close(CloseCode::KeysWornOut, "the keys are worn out");
                    over = Some(CloseCode::KeysWornOut);
                }
                SessionEvent::Fatal(why) => {
                    session.close(CloseCode::Protocol, why);
                    self.events.push_back(ClientEvent::Lost { why });
                    over = Some(CloseCode::Protocol);
                }
            }
        }
        let alive = session.is_alive();
        match over {
            Some(code) => self.on_session_over(code, now),
            None if alive => {
                self.dead_since = None;
                self.on_alive();
            }
            None => {
                self.dead_since.get_or_insert(now);
            }
        }
    }

    fn on_alive(&mut self) {
        if !self.told
            && let Some(parameters) = &self.parameters
        {
            self.told = true;
            self.state = ClientState::Connected;
            self.attempts.clear();
            self.events.push_back(ClientEvent::Established(parameters.clone()));
        }
    }

    fn on_session_over(&mut self, code: CloseCode, now: Timestamp) {
        if self.state == ClientState::Closed {
            return;
        }
        self.closing = self.session.take().filter(Session::is_closed);
        self.dead_since = None;
        match code {
            CloseCode::Replaced => {
                self.state = ClientState::Replaced;
                self.events.push_back(ClientEvent::Replaced);
            }
            CloseCode::Revoked => {
                self.state = ClientState::Refused;
                let text = "this client was revoked".to_owned();
                self.events.push_back(ClientEvent::Refused { reason: RejectReason::Revoked, text });
            }
            _ => {
                self.state = ClientState::Connecting;
                self.retry_at = now + REPEAT_FIRST;
                self.events.push_back(ClientEvent::Lost { why: "the server ended the session" });
            }
        }
    }
}

/// The name of a cipher, as people know it.
fn cipher_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes256Gcm => "AES-256-GCM",
        Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
    }
}

/// The client takes what is addressed to it, and nothing else (docs/protocol.md, DATA-6).
fn admits(parameters: Option<&Parameters>, packet: &[u8]) -> Result<(), DropReason> {
    let destination = destination_address(packet).ok_or(DropReason::BadInnerPacket)?;
    let mine = parameters.is_some_and(|p| match destination {
        IpAddr::V4(address) => p.v4.is_some_and(|(v4, _)| v4 == address),
        IpAddr::V6(address) => p.v6.is_some_and(|(v6, _)| v6 == address),
    });
    if mine { Ok(()) } else { Err(DropReason::ForeignDestination) }
}
