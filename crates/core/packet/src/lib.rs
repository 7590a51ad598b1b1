//! Inner packets: the batch that carries them through every layer, and views of what stands in them.
//!
//! A packet is a run of bytes that begins with an IPv4 or IPv6 header, as a tunnel device hands it over. [`parse`] reads it
//! once, without allocating, and says which flow it belongs to ([`FlowKey`]) and what that flow needs ([`FlowClass`]);
//! schedulers and queues work with these two and never look at the bytes again. [`set_ce`] marks congestion in place, and
//! [`checksum`] keeps what was changed valid. [`build`] makes packets: the ICMP messages that a tunnel has to send, and the
//! traffic of tests and simulations. [`segments`] couples TCP segments into large packets, and cuts such packets apart.
//!
//! Nothing here trusts a packet: each length is checked against the bytes that are there, and walks over extension headers
//! are bounded.
#![forbid(unsafe_code)]

mod batch;
pub mod build;
pub mod checksum;
mod class;
mod ecn;
mod flow;
mod ip;
pub mod segments;
#[cfg(test)]
mod tests;
mod transport;

pub use batch::{Batch, Checksum, Offload, PacketBatch};
pub use class::FlowClass;
pub use ecn::{Ecn, set_ce};
pub use flow::FlowKey;
pub use ip::{IpVersion, PacketInfo, ParseError, destination_address, parse, source_address};
pub use transport::{TcpInfo, tcp_flags};

/// The protocol numbers that this crate looks into (IANA, "Protocol Numbers").
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP, whose ports stand where UDP has them.
    pub const DCCP: u8 = 33;
    /// IPsec's Encapsulating Security Payload.
    pub const ESP: u8 = 50;
    /// IPsec's Authentication Header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP, whose ports stand where UDP has them.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}
