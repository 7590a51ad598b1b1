//! Where the parts of the handshake's datagrams stand (docs/protocol.md, section 1).

use bondwire_units::SessionId;

use super::HandshakeError;
use super::noise::{MESSAGE_1_OVERHEAD, MESSAGE_2_OVERHEAD};
use crate::hash::{blake2s_256, mac, mac_matches};
use crate::key::PublicKey;

pub(super) const INITIATION: u8 = 0x01;
pub(super) const RESPONSE: u8 = 0x02;
pub(super) const REJECT: u8 = 0x03;
pub(super) const COOKIE_REPLY: u8 = 0x04;
pub(super) const VERSION_NEGOTIATION: u8 = 0x05;

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// The length of an Initiation in bytes, and the greatest of any answer to it.
pub const INITIATION_LEN: usize = 1_200;
/// Where MAC1 begins.
pub(super) const MAC1: usize = 1_168;
/// Where MAC2 begins.
pub(super) const MAC2: usize = 1_184;
/// Type, receiver, version, sender: the length of what stands before the Noise message of an Initiation or a Response.
pub(super) const HEAD: usize = 10;
/// Type, receiver, version: the same for a Reject.
pub(super) const REJECT_HEAD: usize = 6;
/// The sender's id, repeated under the seal of a Response.
pub(super) const BOUND_ID: usize = 4;

/// The greatest ClientHello in bytes.
pub const MAX_CLIENT_HELLO: usize = MAC1 - HEAD - MESSAGE_1_OVERHEAD;
/// The greatest ServerHello in bytes.
pub const MAX_SERVER_HELLO: usize = INITIATION_LEN - HEAD - MESSAGE_2_OVERHEAD - BOUND_ID;
/// The greatest payload of a Reject in bytes.
pub const MAX_REJECT: usize = INITIATION_LEN - REJECT_HEAD - MESSAGE_2_OVERHEAD;

/// The key of MAC1, which everyone has who has the server's public key (docs/protocol.md, HS-1).
pub(super) struct Mac1Key([u8; 32]);

impl Mac1Key {
    pub(super) fn new(server: &PublicKey) -> Self {
        Self(blake2s_256(&[b"bondwire mac1", server.as_bytes()]))
    }

    pub(super) fn write(&self, datagram: &mut [u8; INITIATION_LEN]) {
        let tag = mac(&self.0, &[&datagram[..MAC1]]);
        datagram[MAC1..MAC2].copy_from_slice(&tag);
    }

    pub(super) fn matches(&self, datagram: &[u8; INITIATION_LEN]) -> bool {
        mac_matches(&self.0, &[&datagram[..MAC1]], &datagram[MAC1..MAC2])
    }
}

/// The id at `offset`; zero, which is no id, if the datagram ends before it.
pub(super) fn id_at(datagram: &[u8], offset: usize) -> SessionId {
    let bytes = datagram.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    SessionId(bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes)))
}

/// Writes type, receiver, version and, if there is one, sender.
pub(super) fn head(kind: u8, receiver: SessionId, sender: Option<SessionId>) -> Vec<u8> {
    let mut head = Vec::with_capacity(INITIATION_LEN);
    head.push(kind);
    head.extend_from_slice(&receiver.0.to_be_bytes());
    head.push(VERSION);
    if let Some(sender) = sender {
        head.extend_from_slice(&sender.0.to_be_bytes());
    }
    head
}

/// Checks type, receiver and version of an answer whose head has `head_len` bytes, and gives its Noise message.
pub(super) fn message_of(
    datagram: &[u8],
    kind: u8,
    head_len: usize,
    receiver: SessionId,
) -> Result<&[u8], HandshakeError> {
    if datagram.len() < head_len + MESSAGE_2_OVERHEAD
        || datagram.len() > INITIATION_LEN
        || datagram[0] != kind
    {
        return Err(HandshakeError::Malformed);
    }
    if id_at(datagram, 1) != receiver {
        return Err(HandshakeError::OtherSession);
    }
    if datagram[5] != VERSION {
        return Err(HandshakeError::Version(datagram[5]));
    }
    Ok(&datagram[head_len..])
}

/// The payload if it fits.
pub(super) fn fits(payload: &[u8], max: usize) -> Result<(), HandshakeError> {
    if payload.len() > max { Err(HandshakeError::TooLong { len: payload.len(), max }) } else { Ok(()) }
}

/// The receiver and the versions of a Version negotiation. Nothing in it is authenticated: it is a hint for the message
/// with which a client gives up (docs/protocol.md, WIRE-3).
///
/// # Errors
/// [`HandshakeError::Malformed`] if it is another datagram, names no version, or has not the length that it should have.
pub fn parse_version_negotiation(datagram: &[u8]) -> Result<(SessionId, Vec<u8>), HandshakeError> {
    let [VERSION_NEGOTIATION, _, _, _, _, count, versions @ ..] = datagram else {
        return Err(HandshakeError::Malformed);
    };
    let receiver = id_at(datagram, 1);
    if receiver.0 == 0 || *count == 0 || versions.len() != usize::from(*count) {
        return Err(HandshakeError::Malformed);
    }
    Ok((receiver, versions.to_vec()))
}
