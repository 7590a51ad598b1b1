//! Batched UDP datagrams at the edge of the kernel.
//!
//! Two kinds of socket. A [`LinkSocket`] belongs to the client and to one link: `SO_BINDTODEVICE` keeps its packets on that
//! interface whatever the routing table prefers, and its source address is the link's. A [`ServerSocket`] belongs to the
//! server: one port on all addresses, and every answer leaves from the address that was asked (`IP_PKTINFO`), because a
//! client behind a NAT accepts no other.
//!
//! Both send with the don't-fragment bit (docs/protocol.md, WIRE-6) and ignore the kernel's own idea of the path's MTU
//! (`IP_PMTUDISC_PROBE`): the path layer measures it. Both never block. Send buffers are small on purpose: the queue
//! belongs to the bond, where it is managed, and a full buffer is an answer ([`SendErrorKind::WouldBlock`]) and no reason to wait.
//!
//! Datagrams come and go in [`Batch`](bondwire_packet::Batch)es. The cost of a datagram is its trip through the stack
//! and not the system call, so runs of equal datagrams to one peer can leave as one segmentation-offload packet
//! (`UDP_SEGMENT`), and arrive as one (`UDP_GRO`), when [`Segmentation::On`] is asked for; a device that refuses turns it off for good.
//!
//! Life-cycle: `open`/`bind`, then `recv_batch` and `send_batch` from one thread, then drop. Bounds: at most
//! [`MAX_BATCH`] datagrams per call; receive buffers of 4 MiB in the kernel; nothing in here grows.

mod error;
mod holder;
mod link;
mod receive;
mod send;
mod server;
mod sys;

#[cfg(test)]
mod tests;

pub use error::{OpenError, SendError, SendErrorKind, SendOutcome};
pub use holder::{Holder, port_holder};
pub use link::{LinkConfig, LinkSocket};
pub use server::{ServerConfig, ServerSocket};

use std::net::{IpAddr, SocketAddr};

/// The greatest number of datagrams that one call receives without `UDP_GRO`, or sends in one system call.
pub const MAX_BATCH: usize = 32;

/// Where a datagram came from, or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datagram {
    /// The peer.
    pub remote: SocketAddr,
    /// The local address that the peer sent to; for sending, the source address. `None` on link sockets, where it is the link's.
    pub local: Option<IpAddr>,
}

/// Whether runs of equal datagrams pass through the kernel as one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// Each datagram for itself. Default: a device or an emulator that cannot cut large packets would lose them.
    #[default]
    Off,
    /// `UDP_SEGMENT` and `UDP_GRO` where the kernel has them.
    On,
}
