//! What client and server tell each other in the handshake (docs/protocol.md, section 3), and the codes that frames share.
//!
//! The three messages are lists of TLVs: type, length, value. Unknown types are ignored, so that a later version can say
//! more; a type that occurs twice is refused, so that nobody reads the list differently. A type of zero ends the list, and
//! all behind it is zeros: an Initiation is padded so, inside its seal.
//!
//! Bounds: a list has at most [`MAX_PARAMETERS`] entries and [`crate::header::HELLO_LEN`] bytes; texts and lists in it have theirs
//! beside their fields (docs/protocol.md, PARAM-1, PARAM-2). Texts hold no control characters, since they end up on terminals. Encoders keep to the bounds by
//! cutting texts and lists off.

mod client;
mod codes;
mod mode;
mod reject;
mod server;
#[cfg(test)]
mod tests;
mod tlv;

pub use client::{ClientHello, MAX_CIPHERS};
pub use codes::{CloseCode, RejectReason};
pub use mode::{Mode, ParseModeError};
pub use reject::{MAX_REJECT_TEXT, Reject};
pub use server::ServerHello;
pub use tlv::MAX_PARAMETERS;

/// AES-256-GCM, as offered and picked in the handshake (HS-8).
pub const CIPHER_AES_256_GCM: u8 = 1;
/// ChaCha20-Poly1305, as offered and picked in the handshake (HS-8).
pub const CIPHER_CHACHA20_POLY1305: u8 = 2;
/// The most paths of a session that are open at a time (PATH-1).
pub const MAX_PATHS: u8 = 16;
/// The most bytes of a name: software and version, or the client's name.
pub const MAX_NAME: usize = 64;
/// The least inner MTU: what every IPv4 host accepts (RFC 791, section 3.2).
pub const MIN_INNER_MTU: u16 = 576;
