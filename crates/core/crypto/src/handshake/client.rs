use core::fmt;

use bondwire_units::SessionId;
use snow::HandshakeState;

use super::HandshakeError;
use super::cookie::CookieKey;
use super::layout::{
    self, BOUND_ID, HEAD, INITIATION, INITIATION_LEN, MAC1, MAC2, MAX_CLIENT_HELLO, Mac1Key, REJECT,
    REJECT_HEAD, RESPONSE,
};
use super::noise::{self, Seed};
use crate::hash::mac;
use crate::key::{Psk, PublicKey, SecretKey};
use crate::session::TransportSecret;

/// The client's side of one handshake: one Initiation, and whatever is answered to it.
///
/// The same datagram is sent over all links and repeated (docs/protocol.md, HS-9). Answers that fail leave the handshake as
/// it was. It is over when [`ClientHandshake::handle_response`] succeeded.
pub struct ClientHandshake {
    local: SecretKey,
    server: PublicKey,
    psk: Psk,
    session: SessionId,
    hello: Vec<u8>,
    seed: Seed,
    /// None once the Response was accepted.
    noise: Option<HandshakeState>,
    datagram: Box<[u8; INITIATION_LEN]>,
}

/// What an accepted Response gives.
#[derive(Debug)]
pub struct Accepted {
    /// The server's session id, the receiver of what the client sends from now on.
    pub peer: SessionId,
    /// Where the session's keys come from.
    pub secret: TransportSecret,
    /// The ServerHello.
    pub payload: Vec<u8>,
}

impl ClientHandshake {
    /// Writes the Initiation. `session` is the client's own id, `hello` its ClientHello, `seed` 32 bytes fresh from the
    /// system's generator (from them comes the ephemeral key).
    ///
    /// # Errors
    /// - [`HandshakeError::NullPsk`], [`HandshakeError::ZeroSession`].
    /// - [`HandshakeError::TooLong`] for a hello of more than [`MAX_CLIENT_HELLO`] bytes.
    /// - [`HandshakeError::LowOrder`] if the server's public key is no honest one.
    pub fn start(
        local: &SecretKey,
        server: PublicKey,
        psk: &Psk,
        session: SessionId,
        hello: &[u8],
        seed: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        if psk.is_null() {
            return Err(HandshakeError::NullPsk);
        }
        if session.0 == 0 {
            return Err(HandshakeError::ZeroSession);
        }
        layout::fits(hello, MAX_CLIENT_HELLO)?;
        let mut handshake = Self {
            local: local.clone(),
            server,
            psk: psk.clone(),
            session,
            hello: hello.to_vec(),
            seed: Seed::default(),
            noise: None,
            datagram: Box::new([0; INITIATION_LEN]),
        };
        handshake.seed.set(seed);
        let message = handshake.begin()?;
        let head = layout::head(INITIATION, SessionId(0), Some(session));
        handshake.datagram[..HEAD].copy_from_slice(&head);
        handshake.datagram[HEAD..MAC1].copy_from_slice(&message);
        Mac1Key::new(&server).write(&mut handshake.datagram);
        Ok(handshake)
    }

    /// The Initiation as it is to be sent now.
    pub fn datagram(&self) -> &[u8] {
        self.datagram.as_slice()
    }

    /// The client's own session id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Takes a Cookie reply: [`ClientHandshake::datagram`] then bears the cookie in its MAC2, and is to be sent again at
    /// once (docs/protocol.md, HS-2).
    ///
    /// A cookie holds for one source address. Where several links get one each, the last one counts; it is enough that
    /// the datagram gets through on its link.
    ///
    /// # Errors
    /// If the reply is broken or forged, or answers another Initiation.
    pub fn handle_cookie_reply(&mut self, reply: &[u8]) -> Result<(), HandshakeError> {
        let cookie = CookieKey::new(&self.server).open(reply, self.session, &self.datagram[MAC1..MAC2])?;
        let tag = mac(&cookie, &[&self.datagram[..MAC2]]);
        self.datagram[MAC2..].copy_from_slice(&tag);
        Ok(())
    }

    /// Takes a Response, which ends the handshake.
    ///
    /// # Errors
    /// - [`HandshakeError::Forged`] also if the server mixes another psk in than this client.
    /// - [`HandshakeError::Finished`] for copies of a Response that was accepted.
    pub fn handle_response(&mut self, datagram: &[u8]) -> Result<Accepted, HandshakeError> {
        let state = self.noise.as_mut().ok_or(HandshakeError::Finished)?;
        let message = layout::message_of(datagram, RESPONSE, HEAD, self.session)?;
        let peer = layout::id_at(datagram, 6);
        if peer.0 == 0 {
            return Err(HandshakeError::OtherSession);
        }
        let mut payload = noise::read(state, message)?;
        // The head is not under the seal of Noise. The sender's id is, a second time: a Response that was sent on with
        // another one must not lead the client's packets elsewhere.
        if layout::id_at(&payload, 0) != peer {
            self.begin()?;
            return Err(HandshakeError::Forged);
        }
        payload.drain(..BOUND_ID);
        let secret = noise::split(state);
        self.noise = None;
        Ok(Accepted { peer, secret, payload })
    }

    /// Takes a Reject, and gives the reason that the server sealed. The handshake goes on: whether to give up is for the
    /// caller to say, and a Response may still come (from another copy of the Initiation, over another link).
    ///
    /// # Errors
    /// If the Reject is broken, forged or for another handshake.
    pub fn handle_reject(&mut self, datagram: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let state = self.noise.as_mut().ok_or(HandshakeError::Finished)?;
        let message = layout::message_of(datagram, REJECT, REJECT_HEAD, self.session)?;
        noise::set_psk(state, &Psk::NULL)?;
        let payload = noise::read(state, message);
        match payload {
            Ok(_) => drop(self.begin()?),
            Err(_) => noise::set_psk(state, &self.psk)?,
        }
        payload
    }

    /// Brings the Noise state to where message 1 is written and message 2 awaited. Gives message 1, the same each time.
    fn begin(&mut self) -> Result<Vec<u8>, HandshakeError> {
        let head = layout::head(INITIATION, SessionId(0), Some(self.session));
        let mut state = noise::initiator(&self.local, &self.server, &self.psk, &head, &self.seed)?;
        let mut payload = self.hello.clone();
        payload.resize(MAX_CLIENT_HELLO, 0);
        let mut message = vec![0; MAC1 - HEAD];
        let len = state.write_message(&payload, &mut message)?;
        debug_assert_eq!(len, message.len(), "the padding fills message 1 exactly");
        self.noise = Some(state);
        Ok(message)
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("session", &self.session)
            .field("server", &self.server)
            .field("finished", &self.noise.is_none())
            .finish_non_exhaustive()
    }
}
