//! The first bytes of a datagram: what it is, and for which session.
//!
//! This is all that is read before anything has been authenticated, so it is short: [`classify`] looks at the type, the
//! length and the receiver's session id, and everything that follows belongs to `bondwire-crypto`. The header of a data
//! packet, [`DataHeader`], is the associated data of its seal (docs/protocol.md, WIRE-4); a change of one bit of it makes the
//! packet worthless.
//!
//! Numbers are cut to 32 bits (packets) and 24 bits (sequences) on the wire, and made whole again by the one that is nearest
//! to what is expected next (RFC 9000, appendix A.3).

use bondwire_units::{PathId, SessionId};

use crate::error::{Malformed, WireError};

/// Bytes of a data packet's header.
pub const HEADER_LEN: usize = 10;
/// Bytes of a seal's tag.
pub const TAG_LEN: usize = 16;
/// Bytes of an Initiation, whatever it carries: an answer is never longer than what it answers (HS-4).
pub const INITIATION_LEN: usize = 1200;
/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// Where the version stands in an Initiation, a Response and a Reject.
pub const VERSION_AT: usize = 5;
/// Where the sender's session id stands in an Initiation and a Response.
pub const SENDER_AT: usize = 6;
/// Where the Noise message begins in an Initiation and a Response.
pub const NOISE_AT: usize = 10;
/// Where the Noise message begins in a Reject.
pub const REJECT_NOISE_AT: usize = 6;
/// Where MAC1 stands in an Initiation, 16 bytes.
pub const MAC1_AT: usize = INITIATION_LEN - 32;
/// Where MAC2 stands in an Initiation, 16 bytes.
pub const MAC2_AT: usize = INITIATION_LEN - 16;
/// Bytes of Noise message 1 in an Initiation; its payload is padded so that it is always as long as this.
pub const NOISE1_LEN: usize = MAC1_AT - NOISE_AT;
/// Bytes of the payload of Noise message 1: the rest are an ephemeral key, a sealed static key and a tag.
pub const HELLO_LEN: usize = NOISE1_LEN - 32 - (32 + TAG_LEN) - TAG_LEN;
/// The fewest bytes of Noise message 2: an ephemeral key and the tag of an empty payload.
pub const NOISE2_MIN: usize = 32 + TAG_LEN;
/// Bytes of a Cookie reply: type, receiver, nonce, cookie, tag.
pub const COOKIE_REPLY_LEN: usize = 5 + 24 + 16 + TAG_LEN;

const INITIATION: u8 = 0x01;
const RESPONSE: u8 = 0x02;
const REJECT: u8 = 0x03;
const COOKIE_REPLY: u8 = 0x04;
const VERSION_NEGOTIATION: u8 = 0x05;
const DATA: u8 = 0x40;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// A client asks for a session.
    Initiation,
    /// The server agrees.
    Response,
    /// The server refuses, and says why.
    Reject,
    /// The server is under load, and asks for proof of the address first.
    CookieReply,
    /// The server does not speak this version, and says which it does.
    VersionNegotiation,
    /// A sealed packet of a session.
    Data {
        /// The key phase: the epoch of the key modulo four.
        phase: u8,
    },
}

impl DatagramKind {
    /// The type byte.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Initiation => INITIATION,
            Self::Response => RESPONSE,
            Self::Reject => REJECT,
            Self::CookieReply => COOKIE_REPLY,
            Self::VersionNegotiation => VERSION_NEGOTIATION,
            Self::Data { phase } => DATA | phase & 3,
        }
    }
}

/// What `datagram` is, and the session id of its receiver (zero for an Initiation).
///
/// The length is checked for the type, so that all constants of this module may be used to index what was classified.
///
/// # Errors
/// [`Malformed`], for which the datagram is to be dropped, counted and not answered (WIRE-1).
pub fn classify(datagram: &[u8]) -> Result<(DatagramKind, SessionId), WireError> {
    let (&[kind, a, b, c, d], rest) =
        datagram.split_first_chunk::<5>().ok_or(Malformed::Truncated("the datagram's header"))?;
    let receiver = SessionId(u32::from_be_bytes([a, b, c, d]));
    let len = datagram.len();
    let (kind, length_fits) = match kind {
        INITIATION => (DatagramKind::Initiation, len == INITIATION_LEN),
        RESPONSE => (DatagramKind::Response, (NOISE_AT + NOISE2_MIN..=INITIATION_LEN).contains(&len)),
        REJECT => (DatagramKind::Reject, (REJECT_NOISE_AT + NOISE2_MIN..=INITIATION_LEN).contains(&len)),
        COOKIE_REPLY => (DatagramKind::CookieReply, len == COOKIE_REPLY_LEN),
        VERSION_NEGOTIATION => {
            let count = rest.first().copied().map_or(0, usize::from);
            (DatagramKind::VersionNegotiation, count > 0 && len == 6 + count)
        }
        DATA..=0x43 => (DatagramKind::Data { phase: kind & 3 }, len > HEADER_LEN + TAG_LEN),
        other => return Err(Malformed::UnknownDatagram(other).into()),
    };
    if !length_fits {
        return Err(Malformed::Length("the datagram").into());
    }
    if (receiver.0 == 0) != (kind == DatagramKind::Initiation) {
        return Err(Malformed::Receiver.into());
    }
    Ok((kind, receiver))
}

/// A Version negotiation for `receiver` that offers [`VERSION`] (WIRE-3).
pub fn version_negotiation(receiver: SessionId) -> [u8; 7] {
    let [a, b, c, d] = receiver.0.to_be_bytes();
    [VERSION_NEGOTIATION, a, b, c, d, 1, VERSION]
}

/// The versions that a Version negotiation offers; empty if `datagram` is not one.
pub fn offered_versions(datagram: &[u8]) -> &[u8] {
    match classify(datagram) {
        Ok((DatagramKind::VersionNegotiation, _)) => &datagram[6..],
        _ => &[],
    }
}

/// The header of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The key phase, 0 to 3; only the two low bits are written.
    pub phase: u8,
    /// The receiver's session id.
    pub receiver: SessionId,
    /// The path on which the packet travels.
    pub path: PathId,
    /// The low 32 bits of the packet number.
    pub packet_number: u32,
}

impl DataHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = DATA | self.phase & 3;
        out[1..5].copy_from_slice(&self.receiver.0.to_be_bytes());
        out[5] = self.path.0;
        out[6..].copy_from_slice(&self.packet_number.to_be_bytes());
        out
    }

    /// Reads the header at the start of a datagram.
    ///
    /// # Errors
    /// As [`classify`], and if the datagram is of another type.
    pub fn decode(datagram: &[u8]) -> Result<Self, WireError> {
        let (DatagramKind::Data { phase }, receiver) = classify(datagram)? else {
            return Err(Malformed::UnknownDatagram(datagram[0]).into());
        };
        let number = [datagram[6], datagram[7], datagram[8], datagram[9]];
        Ok(Self { phase, receiver, path: PathId(datagram[5]), packet_number: u32::from_be_bytes(number) })
    }
}

/// The packet number with the low 32 bits `truncated` that is nearest to `next_expected`, the largest received so far plus
/// one (WIRE-5).
pub const fn expand_packet_number(truncated: u32, next_expected: u64) -> u64 {
    expand(truncated as u64, 32, next_expected)
}

/// The sequence with the low 24 bits `truncated_24` that is nearest to `next_expected` (DATA-1). Higher bits of
/// `truncated_24` are ignored.
pub const fn expand_sequence(truncated_24: u32, next_expected: u64) -> u64 {
    expand((truncated_24 & 0x00ff_ffff) as u64, 24, next_expected)
}

/// RFC 9000, appendix A.3. Numbers stay below 2^62 + 2^`bits` for any sensible expectation, and never wrap.
const fn expand(truncated: u64, bits: u32, expected: u64) -> u64 {
    let window = 1u64 << bits;
    let half = window / 2;
    let candidate = expected & !(window - 1) | truncated;
    if candidate.saturating_add(half) <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected.saturating_add(half) && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_type_has_its_lengths() {
        let datagram = |kind: u8, len: usize| {
            let mut bytes = vec![0u8; len];
            bytes[0] = kind;
            bytes[4] = u8::from(kind != INITIATION);
            bytes
        };
        assert_eq!(classify(&datagram(1, 1200)), Ok((DatagramKind::Initiation, SessionId(0))));
        assert_eq!(classify(&datagram(2, 58)), Ok((DatagramKind::Response, SessionId(1))));
        assert_eq!(classify(&datagram(3, 54)), Ok((DatagramKind::Reject, SessionId(1))));
        assert_eq!(classify(&datagram(4, 61)), Ok((DatagramKind::CookieReply, SessionId(1))));
        assert_eq!(classify(&datagram(0x42, 27)), Ok((DatagramKind::Data { phase: 2 }, SessionId(1))));
        for (kind, len) in [(1, 1199), (1, 1201), (2, 57), (2, 1201), (3, 53), (4, 60), (5, 6), (0x40, 26)] {
            assert_eq!(classify(&datagram(kind, len)), Err(Malformed::Length("the datagram").into()));
        }
        for kind in [0, 6, 0x3f, 0x44, 0xff] {
            assert_eq!(classify(&datagram(kind, 1200)), Err(Malformed::UnknownDatagram(kind).into()));
        }
    }

    #[test]
    fn only_an_initiation_has_no_receiver() {
        let mut bytes = [0; INITIATION_LEN];
        bytes[0] = RESPONSE;
        assert_eq!(classify(&bytes), Err(Malformed::Receiver.into()));
        bytes[0] = INITIATION;
        bytes[1] = 1;
        assert_eq!(classify(&bytes), Err(Malformed::Receiver.into()));
    }

    #[test]
    fn versions_are_offered() {
        let bytes = version_negotiation(SessionId(9));
        assert_eq!(classify(&bytes), Ok((DatagramKind::VersionNegotiation, SessionId(9))));
        assert_eq!(offered_versions(&bytes), [VERSION]);
        assert_eq!(offered_versions(&bytes[..6]), [0u8; 0]);
    }

    #[test]
    fn the_payload_of_message_one_has_room_for_the_greatest_hello() {
        assert_eq!((NOISE1_LEN, HELLO_LEN), (1158, 1062));
    }

    proptest! {
        #[test]
        fn data_headers_survive(phase in 0u8..4, id in 1u32.., path: u8, packet_number: u32) {
            let header = DataHeader { phase, receiver: SessionId(id), path: PathId(path), packet_number };
            let mut bytes = header.encode().to_vec();
            bytes.resize(HEADER_LEN + TAG_LEN + 1, 0);
            prop_assert_eq!(DataHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn numbers_within_half_a_window_are_found(expected in 0u64..1 << 62, off in -(1i64 << 31) + 1..1 << 31) {
            let number = expected.saturating_add_signed(off).min((1 << 62) - 1);
            prop_assert_eq!(expand_packet_number(number as u32, expected), number);
            let off = off >> 8;
            let number = expected.saturating_add_signed(off).min((1 << 62) - 1);
            prop_assert_eq!(expand_sequence(number as u32, expected), number);
        }

        #[test]
        fn rubbish_is_no_datagram(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = classify(&bytes);
            let _ = DataHeader::decode(&bytes);
            let _ = offered_versions(&bytes);
        }

        #[test]
        fn expansion_never_panics(truncated: u32, expected: u64) {
            expand_packet_number(truncated, expected);
            expand_sequence(truncated, expected);
        }
    }
}
