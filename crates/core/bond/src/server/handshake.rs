//! The server's side of the handshake: from the cheapest check to the pending session.

use super::{OUTBOX, Seat, Server};
use crate::session::{Role, Session, SessionSetup};
use crate::types::*;
use bondwire_crypto::{Cipher, Initiation, Role as KeyRole, SessionKeys, Verdict};
use bondwire_units::{SessionId, Timestamp};
use bondwire_wire::{ClientHello, Reject, RejectReason, ServerHello};
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

/// Initiations a second from which on cookies are asked for.
const LOAD: u32 = 200;
/// Under load each source may have so many Initiations opened a second, and so many sources are told apart.
const PER_SOURCE: u32 = 20;
const SOURCES: usize = 4_096;
/// Refusals told a second.
const TOLD: u32 = 10;
/// A pending session is forgotten after this (docs/protocol.md, HS-7).
const PENDING: Duration = Duration::from_secs(10);

/// A session that was offered and not yet confirmed, or was confirmed a moment ago.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) session: SessionId,
    pub(super) confirmed: bool,
    digest: [u8; 32],
    response: Vec<u8>,
}

/// Counts Initiations within the present second.
#[derive(Debug, Default)]
pub(super) struct Load {
    second: u64,
    count: u32,
    /// Under load: Initiations opened for each source within this second.
    sources: BTreeMap<IpAddr, u32>,
    told: (u64, u32),
}

impl Load {
    fn is_high(&self) -> bool {
        self.count > LOAD
    }

    /// Whether another Initiation of this source may be opened. A cookie proves an address, and then limits it.
    fn admits(&mut self, source: IpAddr, now: Timestamp) -> bool {
        self.turn(now);
        if !self.is_high() {
            return true;
        }
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            return false;
        }
        let count = self.sources.entry(source).or_insert(0);
        *count += 1;
        *count <= PER_SOURCE
    }

    /// Whether one more refusal is told; the others are only counted.
    fn may_tell(&mut self, now: Timestamp) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.told.0 != second {
            self.told = (second, 0);
        }
        self.told.1 += 1;
        self.told.1 <= TOLD
    }

    /// One that cost more than the check of its MAC.
    fn on_initiation(&mut self, now: Timestamp) {
        self.turn(now);
        self.count = self.count.saturating_add(1);
    }

    fn turn(&mut self, now: Timestamp) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            // Half of the last second's count carries over, so that the threshold does not flap.
            self.count = if second == self.second + 1 { self.count / 2 } else { 0 };
            self.second = second;
            self.sources.clear();
        }
    }
}

impl Server {
    /// An Initiation arrived (docs/protocol.md, HS-1 to HS-6).
    pub(super) fn handle_initiation(&mut self, route: Route, datagram: &[u8], now: Timestamp) {
        if self.closed {
            return;
        }
        let verdict = self.handshake.check(datagram, route.remote, self.load.is_high(), now);
        if !matches!(verdict, Verdict::Drop(_)) {
            self.load.on_initiation(now);
        }
        match verdict {
            Verdict::Open if !self.load.admits(route.remote.ip(), now) => {
                self.drops.count(DropReason::Refused)
            }
            Verdict::Drop(_) => self.drops.count(DropReason::BadMac),
            Verdict::Reply(reply) => self.answer(reply, route),
            Verdict::Open => match self.handshake.open(datagram) {
                Ok(initiation) => self.handle_opened(initiation, route, now),
                Err(_) => self.drops.count(DropReason::NotAuthentic),
            },
        }
    }

    fn handle_opened(&mut self, initiation: Initiation, route: Route, now: Timestamp) {
        let Ok(hello) = ClientHello::decode(&initiation.payload) else {
            self.drops.count(DropReason::Malformed);
            return;
        };
        let client = self.by_key.get(&initiation.client).copied().or(hello.invite_id);
        let Some(record) = client.and_then(|client| self.directory.get(&client)).cloned() else {
            let text = "this server does not know this client: ask its operator for a new invite";
            self.refuse(initiation, RejectReason::UnknownKey, text, None, None, (route, now));
            return;
        };
        let digest = initiation.fingerprint;
        if let Some(pending) = self.pending.get(&record.invite_id)
            && pending.digest == digest
        {
            // A copy over another link: the same answer, until the session stands.
            if !pending.confirmed {
                let response = pending.response.clone();
                self.answer(response, route);
            }
            return;
        }
        if self.is_outdated(&record, &initiation, &hello) {
            self.drops.count(DropReason::Refused);
            return;
        }
        if let Err((reason, text)) = self.judge(&record, &initiation, &hello) {
            let largest = (reason == RejectReason::Stale).then_some(record.last_timestamp);
            self.refuse(initiation, reason, text, largest, Some(record.name), (route, now));
            return;
        }
        self.offer(record, initiation, &hello, digest, route, now);
    }

    /// Whether this is an older Initiation of the client whose session is pending: recorded and sent again, it must not push out the newer one.
    fn is_outdated(&self, record: &ClientRecord, initiation: &Initiation, hello: &ClientHello) -> bool {
        let pending = self.pending.get(&record.invite_id).filter(|pending| !pending.confirmed);
        let seat = pending.and_then(|pending| self.seats.get(&pending.session));
        seat.is_some_and(|seat| seat.key == initiation.client && hello.timestamp <= seat.timestamp)
    }

    /// Whether this client gets a session.
    fn judge(
        &self,
        record: &ClientRecord,
        initiation: &Initiation,
        hello: &ClientHello,
    ) -> Result<(), (RejectReason, &'static str)> {
        if record.revoked {
            return Err((RejectReason::Revoked, "this client was revoked by the server's operator"));
        }
        match record.public_key {
            Some(key) if key != initiation.client => {
                return Err((
                    RejectReason::InviteUsed,
                    "this invite was used by another client: each client needs its own",
                ));
            }
            None if self.unix_secs >= record.invite_expires => {
                return Err((
                    RejectReason::InviteExpired,
                    "this invite has expired: ask the server's operator for a new one",
                ));
            }
            _ => {}
        }
        if hello.timestamp <= record.last_timestamp {
            return Err((RejectReason::Stale, "a newer handshake was seen"));
        }
        if self.pick_cipher(hello).is_none() {
            return Err((RejectReason::NoCommonCipher, "client and server have no cipher in common"));
        }
        if self.seats.len() >= self.config.max_sessions && !self.current.contains_key(&record.invite_id) {
            return Err((RejectReason::ServerFull, "the server has as many clients as it takes"));
        }
        Ok(())
    }

    fn pick_cipher(&self, hello: &ClientHello) -> Option<Cipher> {
        let offered = hello.ciphers.iter().filter_map(|cipher| Cipher::from_wire(*cipher));
        offered.into_iter().find(|cipher| self.config.ciphers.contains(cipher))
    }

    fn offer(
        &mut self,
        record: ClientRecord,
        initiation: Initiation,
        hello: &ClientHello,
        digest: [u8; 32],
        route: Route,
        now: Timestamp,
    ) {
        let Some(cipher) = self.pick_cipher(hello) else { return };
        let ours = loop {
            let id = SessionId(self.random.session_id());
            if !self.seats.contains_key(&id) {
                break id;
            }
        };
        let answer = ServerHello {
            cipher: cipher as u8,
            client_v4: record.v4.zip(self.config.v4).map(|(address, (_, len))| (address, len)),
            server_v4: self.config.v4.map(|(address, _)| address),
            client_v6: record.v6.zip(self.config.v6).map(|(address, (_, len))| (address, len)),
            server_v6: self.config.v6.map(|(address, _)| address),
            inner_mtu: hello.max_inner_mtu.unwrap_or(u16::MAX).min(self.config.mtu),
            software: self.config.software.clone(),
            max_paths: crate::session::MAX_PATHS as u8,
            client_name: record.name.clone(),
        };
        let (theirs, key, seed) = (initiation.session, initiation.client, self.random.bytes());
        let payload = answer.encode();
        let Ok((response, secret)) = initiation.accept(&record.psk, ours, &payload, seed) else {
            self.drops.count(DropReason::NotAuthentic);
            return;
        };
        let setup = SessionSetup {
            role: Role::Server,
            ours,
            theirs,
            keys: SessionKeys::new(KeyRole::Server, secret, cipher, now),
            mode: hello.mode,
            max_redundant: usize::from(self.config.max_redundant),
            memory: self.config.memory_per_session,
            rules: crate::realtime::Rules::default(),
            seed: self.random.bytes(),
        };
        // Only a pinned key has proven that it may raise the timestamp (docs/protocol.md, HS-5); a new one does so when it is pinned.
        if let Some(known) =
            self.directory.get_mut(&record.invite_id).filter(|known| known.public_key.is_some())
        {
            known.last_timestamp = known.last_timestamp.max(hello.timestamp);
        }
        if let Some(earlier) = self.pending.remove(&record.invite_id).filter(|pending| !pending.confirmed) {
            self.remove(earlier.session, None);
        }
        let seat = Seat {
            session: Session::new(setup, now),
            client: record.invite_id,
            key,
            timestamp: hello.timestamp,
            name: record.name,
            v4: record.v4,
            v6: record.v6,
            confirmed: false,
            expires: now + PENDING,
            deadline: None,
        };
        self.seats.insert(ours, seat);
        let pending = Pending { session: ours, confirmed: false, digest, response: response.clone() };
        self.pending.insert(record.invite_id, pending);
        self.answer(response, route);
        self.book_deadline(ours, now);
    }

    fn refuse(
        &mut self,
        initiation: Initiation,
        reason: RejectReason,
        text: &str,
        largest_timestamp: Option<u64>,
        name: Option<String>,
        (route, now): (Route, Timestamp),
    ) {
        self.drops.count(DropReason::Refused);
        if reason != RejectReason::Stale && self.load.may_tell(now) {
            self.events.push_back(ServerEvent::Refused { remote: route.remote, name, reason });
        }
        let reject = Reject { reason, largest_timestamp, text: text.to_owned() };
        let seed = self.random.bytes();
        if let Ok(datagram) = initiation.reject(&reject.encode(), seed) {
            self.answer(datagram, route);
        }
    }

    fn answer(&mut self, datagram: Vec<u8>, route: Route) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back((datagram, route));
        }
    }
}
