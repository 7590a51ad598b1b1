//! What stands between the command line and the data plane: configuration, identity, state, supervision.
//!
//! Offline work ([`identity`]: `server init`, `invite`, `join`, …) touches files of the configuration folder and nothing else.
//! The daemons, [`up`], [`balance`] and [`server_run`], take a thread for themselves: they prepare the network, start the data plane, watch what
//! changes around them, and leave the network as they found it, by whatever way they end; [`recover`] does the rest after a `kill -9`.
//! A running daemon is seen and steered through the control API only.
//!
//! Every error is a [`Fault`](bondwire_api::Fault): what, why, what to do.
//!
//! Bounds: sessions and memory by configuration, files of at most 1 MiB, one timestamp file for each client.
#![forbid(unsafe_code)]

mod balance;
mod cipher;
mod client;
pub mod config;
mod control;
mod directory;
mod faults;
mod files;
mod folders;
pub mod identity;
mod link_settings;
mod links;
pub mod names;
mod pump;
mod resolve;
mod server;
mod sockets;
mod status;
mod streams;
mod timestamps;
mod tunnel;
mod wake;

pub use balance::{BalanceOptions, balance};
pub use client::{UpOptions, up};
pub use folders::Folders;
pub use server::server_run;
pub use tunnel::recover;

use bondwire_units::ByteCount;

/// The software's name and version, as the other side is told.
const SOFTWARE: &str = concat!("bondwire ", env!("CARGO_PKG_VERSION"));
/// Memory for the packets of a client's session: two seconds of 128 Mbit/s.
const SESSION_MEMORY: ByteCount = ByteCount::new(32 << 20);
/// Over how many paths a server sends each packet at most in mode `redundant`.
const MAX_REDUNDANT: u8 = 5;
