//! The protocol on the wire (docs/protocol.md): headers, frames, handshake payloads, invites.
//!
//! This crate turns bytes into meaning and back, and decides nothing. It knows no keys and no state: what it reads has
//! either been opened by `bondwire-crypto` already ([`frame`], [`params`]), or is read before anything is believed
//! ([`header`]), or was pasted by a person ([`invite`]).
//!
//! Three rules hold everywhere. No decoder panics, whatever the bytes. No decoder allocates more than its input is long:
//! frames borrow from the packet, lists have limits that are stated beside them. No encoder overruns: those that fill a
//! packet in place write whole items into the slice they were given, or nothing, and say which.
//!
//! Decoders are strict where a second reading of the same bytes would be possible (repeated parameters, text with control
//! characters, rubbish behind the end), and lenient where a later version may want to say more (unknown parameters, unknown
//! frames that are marked as skippable, unknown reasons and codes).
#![forbid(unsafe_code)]

mod error;
pub mod frame;
pub mod header;
pub mod invite;
pub mod params;
mod reader;
pub mod varint;

pub use error::{Malformed, Violation, WireError};
pub use frame::{
    Ack, Data, FlowClassFrame, Fragment, Frame, Frames, LinkPolicy, LinkPriority, Parity, ParityPart,
    PathState, PathStatus, Recovered, Writer,
};
pub use header::{
    DataHeader, DatagramKind, HEADER_LEN, INITIATION_LEN, TAG_LEN, VERSION, classify, expand_packet_number,
    expand_sequence,
};
pub use invite::{Invite, InviteError};
pub use params::{ClientHello, CloseCode, Mode, Reject, RejectReason, ServerHello};
