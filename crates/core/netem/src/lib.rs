//! A link emulator as a state machine: what a real access link does to packets, reproducible from a seed.
//!
//! [`Pipe`] is one direction of a link. A packet that enters waits in a drop-tail queue, is serialised at the link's
//! rate (constant, or following a [`Trace`]), may then be lost, and comes out a delay later, with jitter. The terms
//! are those in which the project's targets are stated:
//!
//! - the rate counts IP bytes;
//! - the queue holds 100 ms of the rate, and 30 kB at least, unless said otherwise;
//! - loss is drawn after serialisation, so that a lost packet has used its share of the rate;
//! - jitter is uniform per packet, and keeps the order unless asked not to;
//! - bursts are Gilbert–Elliott: per packet `p` good → bad, `r` bad → good, all lost in bad.
//!
//! Two more traits of real links can be switched on: a [`Policer`] in front of the queue, and grants, in which packets
//! come out in bunches.
//!
//! [`Nat`] is a port-translating gateway that rewrites raw IP packets, and forgets its mappings on command.
//!
//! Nothing here reads a clock or draws its own randomness: time comes in as `now`, randomness from a seed ([`Rng`]).
//! The simulation runs pipes in virtual time, the lab in real time.
#![forbid(unsafe_code)]

mod checksum;
mod config;
mod loss;
pub mod nat;
mod pipe;
mod policer;
mod rng;
mod serializer;
mod stats;
mod trace;

pub use config::{Burst, PipeConfig, Policer};
pub use nat::{Nat, NatConfig, NatDrop, NatStats};
pub use pipe::{MAX_PACKETS, Pipe};
pub use rng::Rng;
pub use stats::PipeStats;
pub use trace::{Trace, TraceError};
