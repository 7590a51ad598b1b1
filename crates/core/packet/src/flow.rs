use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// What tells one flow from another, in one direction.
///
/// For protocols without ports the two port fields hold what is nearest to them: the identifier of an ICMP echo (in both,
/// so that request and answer are each other's [`FlowKey::reversed`]), the two halves of the SPI of ESP and AH. Fragments
/// have ports of zero, the first one too: only so do all fragments of a packet belong to one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The number of the transport protocol; under IPv6, of the last header that could be read.
    pub protocol: u8,
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// The source port.
    pub src_port: u16,
    /// The destination port.
    pub dst_port: u16,
}

impl FlowKey {
    /// The key of the flow in the other direction.
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (SocketAddr::new(self.src, self.src_port), SocketAddr::new(self.dst, self.dst_port));
        match self.protocol {
            crate::protocol::TCP => write!(f, "tcp {src} > {dst}"),
            crate::protocol::UDP => write!(f, "udp {src} > {dst}"),
            other => write!(f, "protocol {other} {src} > {dst}"),
        }
    }
}
