use core::fmt;
use core::net::SocketAddr;

use bondwire_units::{SessionId, Timestamp};
use snow::HandshakeState;

use super::HandshakeError;
use super::cookie::CookieJar;
use super::layout::{
    self, HEAD, INITIATION, INITIATION_LEN, MAC1, MAC2, MAX_REJECT, MAX_SERVER_HELLO, Mac1Key, REJECT,
    RESPONSE, VERSION, VERSION_NEGOTIATION,
};
use super::noise::{self, MESSAGE_2_OVERHEAD, Seed};
use crate::hash::blake2s_256;
use crate::key::{Psk, PublicKey, SecretKey};
use crate::session::TransportSecret;

/// The server's side of all handshakes. It keeps no state per client or per datagram.
pub struct ServerHandshake {
    identity: SecretKey,
    public: PublicKey,
    mac1: Mac1Key,
    cookies: CookieJar,
}

/// What is to be done with an Initiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; count it.
    Drop(DropReason),
    /// Send this back to where it came from: a Cookie reply or a Version negotiation, always shorter than the Initiation.
    Reply(Vec<u8>),
    /// [`ServerHandshake::open`] it.
    Open,
}

/// Why an Initiation gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum DropReason {
    /// It has not exactly [`INITIATION_LEN`] bytes.
    #[error("wrong size")]
    Size,
    /// It is no Initiation.
    #[error("not an Initiation")]
    Type,
    /// MAC1 is wrong: whoever sent it does not know the server's public key, or it was altered.
    #[error("wrong MAC1")]
    Mac,
    /// The receiver is not zero, or the sender is.
    #[error("impossible session ids")]
    Ids,
}

impl ServerHandshake {
    /// A server with this identity. From `seed`, 32 bytes fresh from the system's generator, come its cookies.
    pub fn new(identity: SecretKey, seed: [u8; 32], now: Timestamp) -> Self {
        let public = identity.public();
        let cookies = CookieJar::new(seed, &public, now);
        Self { mac1: Mac1Key::new(&public), public, identity, cookies }
    }

    /// The server's public key, as it stands in invites.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Looks at a datagram that claims to be an Initiation, without opening it: a few microseconds (docs/protocol.md, HS-1,
    /// HS-2, WIRE-3). `under_load` is the caller's count of Initiations per second against its limit.
    pub fn check(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        under_load: bool,
        now: Timestamp,
    ) -> Verdict {
        let datagram = match self.screen(datagram) {
            Ok(datagram) => datagram,
            Err(reason) => return Verdict::Drop(reason),
        };
        if datagram[5] != VERSION {
            let mut reply = vec![VERSION_NEGOTIATION];
            reply.extend_from_slice(&datagram[6..10]);
            reply.extend_from_slice(&[1, VERSION]);
            return Verdict::Reply(reply);
        }
        if under_load && !self.cookies.admits(datagram, source, now) {
            return Verdict::Reply(self.cookies.reply(datagram, source, now));
        }
        Verdict::Open
    }

    /// Opens an Initiation that [`ServerHandshake::check`] let through, and tells who sent it.
    ///
    /// That is no proof that the client is there now: the datagram may be an old one. Hence the timestamp in the hello
    /// (docs/protocol.md, HS-5). Copies open again, to the same.
    ///
    /// # Errors
    /// - [`HandshakeError::Malformed`], [`HandshakeError::OtherSession`], [`HandshakeError::Version`] for what `check` does
    ///   not let through.
    /// - [`HandshakeError::Forged`] if it was altered or is meant for another key.
    /// - [`HandshakeError::LowOrder`] if one of the client's keys is no honest one.
    pub fn open(&self, datagram: &[u8]) -> Result<Initiation, HandshakeError> {
        let datagram = self.screen(datagram).map_err(|reason| match reason {
            DropReason::Size | DropReason::Type => HandshakeError::Malformed,
            DropReason::Ids => HandshakeError::OtherSession,
            DropReason::Mac => HandshakeError::Forged,
        })?;
        if datagram[5] != VERSION {
            return Err(HandshakeError::Version(datagram[5]));
        }
        let seed = Seed::default();
        let mut state = noise::responder(&self.identity, &datagram[..HEAD], &seed)?;
        let payload = noise::read(&mut state, &datagram[HEAD..MAC1])?;
        let client = state
            .get_remote_static()
            .and_then(|key| key.first_chunk::<32>())
            .ok_or_else(|| HandshakeError::Internal("message 1 left no static key".to_owned()))?;
        Ok(Initiation {
            client: PublicKey::from_bytes(*client),
            session: layout::id_at(datagram, 6),
            payload,
            fingerprint: blake2s_256(&[&datagram[..MAC2]]),
            state,
            seed,
        })
    }

    fn screen<'a>(&self, datagram: &'a [u8]) -> Result<&'a [u8; INITIATION_LEN], DropReason> {
        let datagram: &[u8; INITIATION_LEN] = datagram.try_into().map_err(|_| DropReason::Size)?;
        if datagram[0] != INITIATION {
            return Err(DropReason::Type);
        }
        if !self.mac1.matches(datagram) {
            return Err(DropReason::Mac);
        }
        if layout::id_at(datagram, 1).0 != 0 || layout::id_at(datagram, 6).0 == 0 {
            return Err(DropReason::Ids);
        }
        Ok(datagram)
    }
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("public", &self.public).finish_non_exhaustive()
    }
}

/// An Initiation that was opened, waiting for the server's decision. Dropping it answers nothing.
pub struct Initiation {
    /// The client's static key.
    pub client: PublicKey,
    /// The client's session id, the receiver of what the server sends.
    pub session: SessionId,
    /// The ClientHello, followed by zeros up to [`super::MAX_CLIENT_HELLO`] bytes.
    pub payload: Vec<u8>,
    /// BLAKE2s-256 of the datagram up to MAC2: equal for copies of one Initiation whatever cookie they bear, which is how
    /// a copy is told from a replay with the same timestamp (docs/protocol.md, HS-5).
    pub fingerprint: [u8; 32],
    state: HandshakeState,
    seed: Seed,
}

impl Initiation {
    /// Writes the Response, and gives the secret of the session. `ours` is the server's id for the session, `payload` the
    /// ServerHello, `seed` 32 bytes fresh from the system's generator.
    ///
    /// To a copy of the same Initiation the same Response is sent again, as it was stored: a second one would be of
    /// another session.
    ///
    /// # Errors
    /// [`HandshakeError::NullPsk`], [`HandshakeError::ZeroSession`], and [`HandshakeError::TooLong`] for a payload of more
    /// than [`MAX_SERVER_HELLO`] bytes.
    pub fn accept(
        mut self,
        psk: &Psk,
        ours: SessionId,
        payload: &[u8],
        seed: [u8; 32],
    ) -> Result<(Vec<u8>, TransportSecret), HandshakeError> {
        if psk.is_null() {
            return Err(HandshakeError::NullPsk);
        }
        if ours.0 == 0 {
            return Err(HandshakeError::ZeroSession);
        }
        layout::fits(payload, MAX_SERVER_HELLO)?;
        let bound = [&ours.0.to_be_bytes(), payload].concat();
        let datagram = self.write(layout::head(RESPONSE, self.session, Some(ours)), psk, &bound, seed)?;
        Ok((datagram, noise::split(&mut self.state)))
    }

    /// Writes the Reject with this payload (docs/protocol.md, HS-4). `seed` is 32 bytes fresh from the system's generator.
    ///
    /// # Errors
    /// [`HandshakeError::TooLong`] for a payload of more than [`MAX_REJECT`] bytes.
    pub fn reject(mut self, payload: &[u8], seed: [u8; 32]) -> Result<Vec<u8>, HandshakeError> {
        layout::fits(payload, MAX_REJECT)?;
        self.write(layout::head(REJECT, self.session, None), &Psk::NULL, payload, seed)
    }

    fn write(
        &mut self,
        mut datagram: Vec<u8>,
        psk: &Psk,
        payload: &[u8],
        seed: [u8; 32],
    ) -> Result<Vec<u8>, HandshakeError> {
        self.seed.set(seed);
        noise::set_psk(&mut self.state, psk)?;
        let head = datagram.len();
        datagram.resize(head + payload.len() + MESSAGE_2_OVERHEAD, 0);
        self.state.write_message(payload, &mut datagram[head..])?;
        Ok(datagram)
    }
}

impl fmt::Debug for Initiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiation")
            .field("client", &self.client)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
