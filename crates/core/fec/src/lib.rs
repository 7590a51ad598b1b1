//! Parities over the packets of ONE path: a sliding-window linear code over GF(2^8), in the manner of RFC 8681.
//!
//! The code is systematic: packets travel as they are, and now and then a parity follows. A parity is a linear
//! combination of the packets that it covers. Parities overlap, so that each packet is covered by several in a row: a
//! lone loss is restored by the next parity, and a burst by the next few together.
//!
//! The sender's [`Encoder`] keeps no packet. It adds each one, as it is sent, to a few open accumulators; closing the
//! oldest yields a [`Parity`]. The receiver's [`Decoder`] remembers the last packets, takes them out of each parity
//! that arrives, and solves what is left by Gaussian elimination. Parities may travel on another path, and arrive
//! before what they cover or long after. What the decoder reports is what was sent, as long as the peer is honest; no
//! input makes it panic, loop, or grow beyond its bounds.
//!
//! # On the wire
//! Both ends must agree on the following.
//!
//! - The *symbol* of a packet is the length of its plaintext as 2 bytes, big-endian, then the plaintext. Symbols of
//!   unequal length are added as if the shorter one ended in zeros.
//! - A parity has a *first* number, a *mask* of 1 to 32 bytes, a *key* of one byte, and a *symbol*. Bit `i % 8`
//!   (counted from the least significant) of the mask's byte `i / 8` is set when the parity covers packet `first + i`.
//! - The parity's symbol is the sum over the packets that it covers of [`coefficient`]`(number, key)` times their
//!   symbols, in the field of [`gf`].
//! - The sender gives consecutive keys to the parities (255 is followed by 0), and lets at most [`MAX_OVERLAP`] of them
//!   cover the same packet.
//!
//! The coefficients form a Cauchy matrix, which RFC 8681's random ones do not: `n` losses are always restored by any
//! `n` parities that cover all of them, where random coefficients fail once in 256.
#![forbid(unsafe_code)]

mod coefficient;
mod decoder;
mod encoder;
pub mod gf;
mod parity;

pub use coefficient::coefficient;
pub use decoder::{Decoder, DecoderStats, MAX_EQUATIONS, MAX_RECOVERED, MAX_UNKNOWNS, REMEMBERED};
pub use encoder::{Encoder, MAX_OVERLAP};
pub use parity::{LENGTH_LEN, MAX_PLAINTEXT, MAX_SPAN, Mask, Parity, ParityRef};
