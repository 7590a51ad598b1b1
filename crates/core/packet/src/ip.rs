use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ecn::Ecn;
use crate::flow::FlowKey;
use crate::protocol;
use crate::transport::{self, TcpInfo};

/// The most IPv6 extension headers that are walked over; what lies behind more of them counts as unknown. Real packets
/// have one or two.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4 (RFC 791).
    V4,
    /// IPv6 (RFC 8200).
    V6,
}

/// What stands in the headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInfo {
    /// The version of IP.
    pub version: IpVersion,
    /// Bytes of the packet by its header. The bytes that were parsed may be more (what is behind is no part of the
    /// packet), never fewer.
    pub total_len: usize,
    /// Where the transport header begins; behind it lies the rest of a fragment, if this is one.
    pub transport_at: usize,
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// The number of the transport protocol; under IPv6, of the last header that could be read.
    pub protocol: u8,
    /// The differentiated services codepoint, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// The congestion bits.
    pub ecn: Ecn,
    /// The flow that it belongs to.
    pub key: FlowKey,
    /// What its TCP header says; none for other protocols, fragments, and headers that are cut short.
    pub tcp: Option<TcpInfo>,
    /// Whether it is a part of a packet that was cut up. An IPv6 packet with a fragment header that is whole nevertheless
    /// is none (RFC 6946).
    pub is_fragment: bool,
    /// Whether routers may not cut it up: always so for IPv6.
    pub dont_fragment: bool,
}

impl PacketInfo {
    /// Bytes behind the transport header of a TCP segment or a UDP datagram, or behind the IP headers for all else.
    pub fn payload_len(&self) -> usize {
        let behind_ip = self.total_len - self.transport_at;
        match (self.protocol, self.tcp) {
            (_, Some(tcp)) => tcp.payload_len,
            (protocol::UDP, None) if !self.is_fragment => behind_ip.saturating_sub(8),
            _ => behind_ip,
        }
    }
}

/// Why bytes are no IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// There are none.
    #[error("the packet is empty")]
    Empty,
    /// Neither 4 nor 6.
    #[error("version {0} of IP is unknown")]
    Version(u8),
    /// They end before the header, or before the end that the header tells.
    #[error("the packet is cut short")]
    Truncated,
    /// The header's own length, or the total length, is less than the header takes.
    #[error("the lengths in the header contradict one another")]
    Length,
}

/// Reads the headers of `packet`, without allocating and without looking at checksums.
///
/// # Errors
/// If the IP header itself is broken. What is wrong behind it (a transport header that is cut short) only leaves fields
/// empty: such packets are carried like any other.
pub fn parse(packet: &[u8]) -> Result<PacketInfo, ParseError> {
    match packet.first().ok_or(ParseError::Empty)? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        other => Err(ParseError::Version(other)),
    }
}

/// The source address, with no more looked at than it takes; none if there is no whole IP header.
pub fn source_address(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// The destination address, with no more looked at than it takes; none if there is no whole IP header.
pub fn destination_address(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

fn address(packet: &[u8], v4_at: usize, v6_at: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(v4_address(packet.first_chunk()?, v4_at).into()),
        6 => Some(v6_address(packet.first_chunk()?, v6_at).into()),
        _ => None,
    }
}

fn v4_address(header: &[u8; 20], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
}

fn v6_address(header: &[u8; 40], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    octets.into()
}

fn parse_v4(packet: &[u8]) -> Result<PacketInfo, ParseError> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(ParseError::Truncated)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < header.len() || total_len < header_len {
        return Err(ParseError::Length);
    }
    let packet = packet.get(..total_len).ok_or(ParseError::Truncated)?;

    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let upper = Upper {
        protocol: header[9],
        at: header_len,
        // More fragments follow, or this is not the first.
        is_fragment: fragment & 0x3fff != 0,
    };
    let addresses = (v4_address(header, 12).into(), v4_address(header, 16).into());
    let mut info = assemble(IpVersion::V4, packet, addresses, header[1], upper);
    info.dont_fragment = fragment & 0x4000 != 0;
    Ok(info)
}

fn parse_v6(packet: &[u8]) -> Result<PacketInfo, ParseError> {
    let header: &[u8; 40] = packet.first_chunk().ok_or(ParseError::Truncated)?;
    let total_len = header.len() + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let packet = packet.get(..total_len).ok_or(ParseError::Truncated)?;
    let traffic_class = header[0] << 4 | header[1] >> 4;
    let addresses = (v6_address(header, 8).into(), v6_address(header, 24).into());
    Ok(assemble(IpVersion::V6, packet, addresses, traffic_class, walk_extensions(packet, header[6])))
}

/// What lies behind the IP headers.
struct Upper {
    protocol: u8,
    at: usize,
    is_fragment: bool,
}

/// Steps over the extension headers of an IPv6 packet (RFC 8200, section 4). It stops at whatever is no extension header,
/// at a fragment, at an extension header that is cut short, and after [`MAX_EXTENSIONS`].
fn walk_extensions(packet: &[u8], first: u8) -> Upper {
    let mut upper = Upper { protocol: first, at: 40, is_fragment: false };
    for _ in 0..MAX_EXTENSIONS {
        let Some(&[next, length, high, low, ..]) =
            packet.get(upper.at..).and_then(|rest| rest.first_chunk::<8>())
        else {
            break;
        };
        let len = match upper.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                (usize::from(length) + 1) * 8
            }
            FRAGMENT => 8,
            _ => break,
        };
        if upper.at + len > packet.len() {
            break;
        }
        // Offset and "more fragments"; both zero make an atomic fragment, which is a whole packet.
        let is_fragment = upper.protocol == FRAGMENT && u16::from_be_bytes([high, low]) & 0xfff9 != 0;
        upper = Upper { protocol: next, at: upper.at + len, is_fragment };
        if is_fragment {
            break;
        }
    }
    upper
}

fn assemble(
    version: IpVersion,
    packet: &[u8],
    (src, dst): (IpAddr, IpAddr),
    traffic_class: u8,
    upper: Upper,
) -> PacketInfo {
    let Upper { protocol, at, is_fragment } = upper;
    let segment = if is_fragment { &[] } else { packet.get(at..).unwrap_or(&[]) };
    let (src_port, dst_port) = transport::ports(protocol, segment);
    PacketInfo {
        version,
        total_len: packet.len(),
        transport_at: at,
        src,
        dst,
        protocol,
        dscp: traffic_class >> 2,
        ecn: Ecn::from_bits(traffic_class),
        key: FlowKey { protocol, src, dst, src_port, dst_port },
        tcp: if protocol == protocol::TCP { TcpInfo::parse(segment) } else { None },
        is_fragment,
        dont_fragment: true,
    }
}
