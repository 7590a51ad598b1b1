//! Frames: what the plaintext of a data packet is made of (docs/protocol.md, section 5).
//!
//! [`Frames`] walks over a plaintext and yields each [`Frame`], borrowing from it. A run of PADDING comes out as one frame,
//! unknown frames that may be skipped do not come out at all. An error ends the walk: the packet was authentic, so the peer
//! breaks the protocol, and the session is to be closed. What was yielded before the error is to be thrown away too, which is
//! why a receiver that acts frame by frame closes the session instead of going on.
//!
//! [`Writer`] fills a packet in place. The constants below tell a scheduler how many bytes each frame takes at most, so that
//! it can plan a packet before it writes it.

mod ack;
mod parity;
mod parse;
mod policy;
#[cfg(test)]
mod tests;
mod writer;

use bondwire_units::PathId;
use core::net::IpAddr;

use crate::params::{CloseCode, Mode};

pub use ack::{Ack, AckRanges};
pub use parity::{
    MAX_PARITY_MASK, MAX_RECOVERED, PARITY_HEADER, Parity, ParityPart, RECOVERED_MAX, Recovered,
};
pub use parse::Frames;
pub use policy::{LinkPolicy, LinkPriority};
pub use writer::Writer;

/// The most ranges of an ACK, the first included.
pub const MAX_ACK_RANGES: usize = 64;
/// The most bytes of a CLOSE's text.
pub const MAX_CLOSE_TEXT: usize = 200;
/// The most fragments of one inner packet (DATA-5).
pub const MAX_FRAGMENTS: u8 = 8;

/// Bytes of a PING.
pub const PING_LEN: usize = 1;
/// The most bytes of an ACK with one range.
pub const ACK_SINGLE_MAX: usize = 1 + 1 + 8 + 8 + 4 + 1 + 8;
/// The most bytes of each further range of an ACK. Two are the rule.
pub const ACK_RANGE_MAX: usize = 8 + 8;
/// Bytes of a PATH_CHALLENGE or a PATH_RESPONSE.
pub const PATH_CHALLENGE_LEN: usize = 1 + 8;
/// The most bytes of a PATH_STATUS.
pub const PATH_STATUS_MAX: usize = 1 + 1 + 8 + 1 + 2;
/// Bytes of a PATH_CLOSE.
pub const PATH_CLOSE_LEN: usize = 1 + 1;
/// The most bytes of a CLOSE.
pub const CLOSE_MAX: usize = 1 + 8 + 2 + MAX_CLOSE_TEXT;
/// The most bytes of a REKEY_REQUEST or a REKEY_RESPONSE.
pub const REKEY_MAX: usize = 1 + 8 + 32;
/// The most bytes of a SKIP.
pub const SKIP_MAX: usize = 1 + 2 + 3 + 4;
/// The most bytes of a MODE.
pub const MODE_MAX: usize = 1 + 8 + 1;
/// The most bytes of a LINK_POLICY.
pub const LINK_POLICY_MAX: usize = 1 + 1 + 8 + 1 + 8;
/// The most bytes of a FLOW_CLASS.
pub const FLOW_CLASS_MAX: usize = 1 + 1 + 1 + 1 + 2 + 2 + 16 + 16;
/// Bytes before the payload of a DATA frame that is whole and runs to the end of its packet.
pub const DATA_HEADER_MIN: usize = 1 + 2 + 3;
/// Bytes that a length adds to the header of a DATA frame; the last frame of a packet needs none.
pub const DATA_LENGTH_LEN: usize = 2;
/// Bytes that the fragment field adds to the header of a DATA frame.
pub const DATA_FRAGMENT_LEN: usize = 1;
/// Bytes before the payload of a DATA frame that has everything.
pub const DATA_HEADER_MAX: usize = DATA_HEADER_MIN + DATA_LENGTH_LEN + DATA_FRAGMENT_LEN;

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const PATH_CHALLENGE: u8 = 0x03;
const PATH_RESPONSE: u8 = 0x04;
const PATH_STATUS: u8 = 0x05;
const PATH_CLOSE: u8 = 0x06;
const CLOSE: u8 = 0x07;
const REKEY_REQUEST: u8 = 0x08;
const REKEY_RESPONSE: u8 = 0x09;
const SKIP: u8 = 0x0a;
const MODE: u8 = 0x0b;
const PARITY: u8 = 0x0d;
const RECOVERED: u8 = 0x0e;
const LINK_POLICY: u8 = 0x0c;
const FLOW_CLASS: u8 = 0x0f;
const DATA: u8 = 0x10;
const DATA_LAST: u8 = 0x17;
const DATA_LENGTH_BIT: u8 = 0b001;
const DATA_ORDERED_BIT: u8 = 0b010;
const DATA_FRAGMENT_BIT: u8 = 0b100;
/// Types from here on carry a length, and are skipped when unknown.
const SKIPPABLE: u8 = 0x80;
const LAST_FRAGMENT_BIT: u8 = 0x80;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Filler: a run of one or more bytes of it.
    Padding,
    /// Asks for nothing but an acknowledgement.
    Ping,
    /// What was received on a path.
    Ack(Ack<'a>),
    /// To be sent back at once, on the same path (PATH-3).
    PathChallenge([u8; 8]),
    /// A challenge's bytes, sent back.
    PathResponse([u8; 8]),
    /// How the sender sees a path in its receiving direction (PATH-7).
    PathStatus(PathStatus),
    /// The path is over (PATH-6).
    PathClose(PathId),
    /// The session is over (FRAME-5).
    Close {
        /// Why, for the machine.
        code: CloseCode,
        /// Why, for the person; at most [`MAX_CLOSE_TEXT`] bytes, no control characters.
        text: &'a str,
    },
    /// The client wants the keys of `epoch` (KEY-3).
    RekeyRequest {
        /// The epoch to come.
        epoch: u64,
        /// The client's fresh X25519 public key.
        public: [u8; 32],
    },
    /// The server's half of the keys of `epoch` (KEY-3).
    RekeyResponse {
        /// The epoch to come.
        epoch: u64,
        /// The server's fresh X25519 public key.
        public: [u8; 32],
    },
    /// Sequences that will not come; not to be waited for (DATA-7).
    Skip {
        /// The flow id.
        flow: u16,
        /// The low 24 bits of the first of the sequences.
        first: u32,
        /// How many; at least one.
        count: u16,
    },
    /// The client's mode from now on; the highest sequence wins.
    Mode {
        /// Rises with each change.
        sequence: u64,
        /// The mode.
        mode: Mode,
    },
    /// What lost packets can be found from (FEC-1).
    Parity(Parity<'a>),
    /// Packets that were found so (FEC-3).
    Recovered(Recovered<'a>),
    /// How the client wants a path to be used (PATH-8).
    LinkPolicy(LinkPolicy),
    /// How the sender sees an inner flow (FLOW-1).
    FlowClass(FlowClassFrame),
    /// An inner packet, or a fragment of one.
    Data(Data<'a>),
}

impl Frame<'_> {
    /// Whether a packet with this frame is to be acknowledged (FRAME-1).
    pub const fn is_ack_eliciting(&self) -> bool {
        !matches!(self, Self::Padding | Self::Ack(_) | Self::Close { .. } | Self::Recovered(_))
    }
}

/// An inner packet, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The flow id, given by the sender (DATA-1).
    pub flow: u16,
    /// The low 24 bits of the packet's sequence within the flow id.
    pub sequence: u32,
    /// Whether the flow's packets are to be delivered in order (DATA-3).
    pub ordered: bool,
    /// Which part of the inner packet this is; none if it is whole.
    pub fragment: Option<Fragment>,
    /// The bytes; never empty.
    pub payload: &'a [u8],
}

/// How the sender sees an inner flow, in both of its directions (FLOW-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowClassFrame {
    /// 0 says nothing (any more), 1 real-time, 2 bulk, 3 neither; others are taken for 0.
    pub class: u8,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The client's end, address and port.
    pub client: (IpAddr, u16),
    /// The other end; of the same family.
    pub remote: (IpAddr, u16),
}

/// Which part of an inner packet a DATA frame carries (DATA-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its place, from 0 to [`MAX_FRAGMENTS`] − 1.
    pub index: u8,
    /// Whether it is the last one.
    pub last: bool,
}

/// How one side sees a path in its receiving direction (PATH-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// The path.
    pub path: PathId,
    /// Rises with each statement about this path; the highest wins.
    pub sequence: u64,
    /// What is to be thought of it.
    pub state: PathState,
    /// The share of packets lost of late, in 1/65535.
    pub loss: u16,
}

/// What the peer thinks of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Packets arrive, and are welcome.
    Usable,
    /// Packets would arrive, but are wanted only if no usable path is left.
    Standby,
    /// Packets do not arrive, or are not wanted.
    NotUsable,
}

impl PathState {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Usable => 0,
            Self::Standby => 1,
            Self::NotUsable => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Usable),
            1 => Some(Self::Standby),
            2 => Some(Self::NotUsable),
            _ => None,
        }
    }
}
