//! Cryptography of a session: who is there, which keys follow from it, and what a key may be used for.
//!
//! A session begins with one round trip of Noise (`handshake`): [`ClientHandshake`] writes the Initiation, [`ServerHandshake`]
//! throws away what costs it nothing to refuse, opens the rest, and answers with a Response, a Reject, or a cookie. Both
//! sides then hold the same [`TransportSecret`], and make [`SessionKeys`] of it, which seal and open Data packets in place
//! and change their keys every two minutes without a gap. [`ReplayWindow`] says of each path which packet numbers are new.
//!
//! Everything here is pure. Time is the last argument; randomness comes in as 32-byte seeds, each of which must be drawn
//! afresh from the system's generator and used for one call only. Secrets are wiped when they are dropped, except within
//! the state of the Noise library, which lives for as long as a handshake does. Nothing here reads the contents of a hello
//! or a frame: those belong to `bondwire-wire`.
//!
//! Bounds: a handshake holds one datagram of 1,200 bytes and one hello; a session holds at most four receive keys, two send
//! keys and 2 KiB of packet numbers; a replay window is 1 KiB.
//!
//! The numbered requirements cited in this crate are those of docs/protocol.md, section 2.
#![forbid(unsafe_code)]

mod handshake;
mod hash;
mod key;
mod replay;
mod session;

pub use handshake::{
    Accepted, ClientHandshake, DropReason, HandshakeError, INITIATION_LEN, Initiation, MAX_CLIENT_HELLO,
    MAX_REJECT, MAX_SERVER_HELLO, ServerHandshake, VERSION, Verdict, parse_version_negotiation,
};
pub use hash::blake2s_256;
pub use key::{ParseKeyError, Psk, PublicKey, SecretKey};
pub use replay::ReplayWindow;
pub use session::{
    Cipher, OpenError, PACKET_NUMBER_LIMIT, REKEY_AGE, REKEY_PACKETS, REKEY_REPEAT, RekeyError, RekeyRequest,
    RekeyResponse, Role, SEAL_LIMIT, SessionKeys, TAG_LEN, TransportSecret,
};
