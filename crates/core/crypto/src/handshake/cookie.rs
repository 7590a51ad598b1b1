//! Cookies: proof that a client receives at the address from which it sends, asked for under load (docs/protocol.md, HS-2).
//!
//! The server keeps nothing per client. A cookie is a MAC of the source address under a secret of the current period of
//! 120 s; secrets follow from the server's seed and the number of the period, so that changing them needs no state either.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use bondwire_units::{SessionId, Timestamp};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::HandshakeError;
use super::layout::{COOKIE_REPLY, INITIATION_LEN, MAC1, MAC2, id_at};
use crate::hash::{blake2s_256, mac, mac_matches};
use crate::key::PublicKey;

/// How long a secret is the newest one. Its cookies stay valid for one period more.
const PERIOD: Duration = Duration::from_secs(120);
const NONCE: usize = 5;
const SEALED: usize = NONCE + 24;
const TAG: usize = SEALED + 16;
const LEN: usize = TAG + 16;

/// The server's side.
pub(super) struct CookieJar {
    seed: Zeroizing<[u8; 32]>,
    started: Timestamp,
    key: CookieKey,
    /// Replies so far, for nonces that do not repeat.
    replies: u64,
}

impl CookieJar {
    pub(super) fn new(seed: [u8; 32], server: &PublicKey, now: Timestamp) -> Self {
        Self { seed: Zeroizing::new(seed), started: now, key: CookieKey::new(server), replies: 0 }
    }

    /// Whether MAC2 was made with a cookie of this source, from the current period or the one before.
    pub(super) fn admits(&self, datagram: &[u8; INITIATION_LEN], source: SocketAddr, now: Timestamp) -> bool {
        let current = self.period(now);
        let admits =
            |period| mac_matches(&self.cookie(source, period), &[&datagram[..MAC2]], &datagram[MAC2..]);
        admits(current) || current.checked_sub(1).is_some_and(admits)
    }

    /// The Cookie reply to an Initiation.
    pub(super) fn reply(
        &mut self,
        datagram: &[u8; INITIATION_LEN],
        source: SocketAddr,
        now: Timestamp,
    ) -> Vec<u8> {
        let cookie = self.cookie(source, self.period(now));
        self.replies += 1;
        let random =
            blake2s_256(&[b"bondwire cookie nonce", self.seed.as_ref(), &self.replies.to_be_bytes()]);
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&random[..24]);
        self.key.seal(id_at(datagram, 6), &nonce, cookie, &datagram[MAC1..MAC2])
    }

    fn period(&self, now: Timestamp) -> u64 {
        now.since(self.started).as_secs() / PERIOD.as_secs()
    }

    fn cookie(&self, source: SocketAddr, period: u64) -> [u8; 16] {
        let secret = Zeroizing::new(blake2s_256(&[
            b"bondwire cookie secret",
            self.seed.as_ref(),
            &period.to_be_bytes(),
        ]));
        // A dual-stack socket shows an IPv4 source in another form; it is the same source.
        let address = match source.ip().to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        mac(secret.as_ref(), &[&address.octets(), &source.port().to_be_bytes()])
    }
}

/// The key under which cookies travel. It follows from the server's public key: it keeps cookies from those who only watch.
pub(super) struct CookieKey(XChaCha20Poly1305);

impl CookieKey {
    pub(super) fn new(server: &PublicKey) -> Self {
        let key = blake2s_256(&[b"bondwire cookie", server.as_bytes()]);
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    fn seal(&self, receiver: SessionId, nonce: &[u8; 24], mut cookie: [u8; 16], mac1: &[u8]) -> Vec<u8> {
        let tag = self
            .0
            .encrypt_in_place_detached(XNonce::from_slice(nonce), mac1, &mut cookie)
            .expect("16 bytes are below every limit of the cipher");
        let mut reply = Vec::with_capacity(LEN);
        reply.push(COOKIE_REPLY);
        reply.extend_from_slice(&receiver.0.to_be_bytes());
        reply.extend_from_slice(nonce);
        reply.extend_from_slice(&cookie);
        reply.extend_from_slice(&tag);
        reply
    }

    /// The cookie in a reply to the Initiation with this MAC1.
    pub(super) fn open(
        &self,
        reply: &[u8],
        receiver: SessionId,
        mac1: &[u8],
    ) -> Result<[u8; 16], HandshakeError> {
        if reply.len() != LEN || reply[0] != COOKIE_REPLY {
            return Err(HandshakeError::Malformed);
        }
        if id_at(reply, 1) != receiver {
            return Err(HandshakeError::OtherSession);
        }
        let mut cookie = [0; 16];
        cookie.copy_from_slice(&reply[SEALED..TAG]);
        let (nonce, tag) = (XNonce::from_slice(&reply[NONCE..SEALED]), Tag::from_slice(&reply[TAG..]));
        let opened = self.0.decrypt_in_place_detached(nonce, mac1, &mut cookie, tag);
        opened.map(|()| cookie).map_err(|_| HandshakeError::Forged)
    }
}
