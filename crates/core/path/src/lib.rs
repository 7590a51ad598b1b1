//! One path of a bond, in one sending direction, with the bookkeeping of what it receives.
//!
//! A path is a pair of addresses over which packets flow. This crate knows when the next packet may leave it,
//! what became of those that left, and how good it is: round-trip time, one-way delay, delivery rate, loss,
//! greatest datagram, and whether it lives. It knows nothing of frames, keys and other paths; `bondwire-bond`
//! owns several [`Path`]s and decides what goes where.
//!
//! # Life-cycle
//! [`Path::new`] starts *probing*: the bond exchanges challenges and calls [`Path::on_validated`]. Then it asks
//! [`Path::send_budget`], sends, calls [`Path::on_packet_sent`], and feeds acknowledgements to
//! [`Path::handle_ack`], which gives back the contents that were delivered or lost. When nothing comes back in
//! time the path turns [`PathState::Suspect`]; the bond takes what was in flight by [`Path::take_in_flight`]
//! and goes on elsewhere, while [`Path::probe_due`] asks for probes until one is answered.
//!
//! # Units
//! Every size is in **IP bytes**: UDP payload plus [`OVERHEAD_IPV4`] or [`OVERHEAD_IPV6`]; that is what a
//! link's rate counts. Only MTUs are UDP payload bytes, and their names say `mtu`. One-way delays are signed
//! microseconds of a zero that all paths of a session share.
//!
//! # Bounds
//! At most [`MAX_TRACKED`] packets are tracked per path, at most [`MAX_RANGES`] received ranges are kept, and
//! every other memory is of fixed size. Nothing is allocated per packet in a steady state.
#![forbid(unsafe_code)]

mod acks;
mod backlog;
mod congestion;
mod delivery;
mod health;
mod loss;
mod mtu;
mod one_way;
mod pacer;
mod path;
mod receive;
mod rtt;
mod sending;
mod sent;
mod timers;
mod windowed;

pub use acks::{AckInfo, AckSummary, AckedUnsent};
pub use health::PathState;
pub use one_way::OneWayDelay;
pub use path::{Path, PathConfig};
pub use receive::{AckToSend, MAX_RANGES, SELF_ACK_INTERVAL};
pub use rtt::{MAX_ACK_DELAY, RttEstimator};
pub use sent::MAX_TRACKED;
pub use timers::{ProbeKind, Traffic};

/// Bytes of IPv4 and UDP headers per datagram.
pub const OVERHEAD_IPV4: usize = 28;
/// Bytes of IPv6 and UDP headers per datagram.
pub const OVERHEAD_IPV6: usize = 48;

#[cfg(test)]
mod tests;
