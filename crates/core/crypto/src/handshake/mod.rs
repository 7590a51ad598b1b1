//! The handshake: two messages of `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` in datagrams that a server can refuse cheaply.
//!
//! Life of an Initiation at the server: [`ServerHandshake::check`] looks at its size and MAC1 (HS-1), its version (WIRE-3),
//! and under load its MAC2 (HS-2), without a single multiplication on the curve and without state; what is left is opened,
//! which costs two or three of them and tells who the client is; then the caller decides, and accepts or rejects (HS-4).
//!
//! A [`ClientHandshake`] is bound to its seed: the state that a datagram used up is made again from it. So neither a forged
//! answer nor a true refusal ends the handshake, and a Response that comes after them is still accepted.

mod client;
mod cookie;
mod error;
mod layout;
mod noise;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Accepted, ClientHandshake};
pub use error::HandshakeError;
pub use layout::{
    INITIATION_LEN, MAX_CLIENT_HELLO, MAX_REJECT, MAX_SERVER_HELLO, VERSION, parse_version_negotiation,
};
pub use server::{DropReason, Initiation, ServerHandshake, Verdict};
