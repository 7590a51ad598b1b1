use core::net::{IpAddr, Ipv4Addr};

use super::{ip4, ip6, seal};
use crate::checksum;
use crate::ip::{PacketInfo, parse};
use crate::protocol;

const V4_UNREACHABLE: u8 = 3;
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V4_ECHO_REQUEST: u8 = 8;
const V6_TOO_BIG: u8 = 2;
const V6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 types below this are errors (RFC 4443, section 2.1).
const V6_FIRST_INFORMATIONAL: u8 = 128;

/// The most bytes of an ICMP error over IPv4 (RFC 1812, section 4.3.2.3).
const V4_MOST: usize = 576;
/// The most bytes of an ICMP error over IPv6: the least MTU (RFC 4443, section 2.4).
const V6_MOST: usize = 1280;

/// The message to the sender of `original` that its packet is too big for the next link, whose MTU is `mtu`: "fragmentation
/// needed" (RFC 1191) or "Packet Too Big" (RFC 4443, section 3.2). `from` is the address of whoever says so.
///
/// None where no such message may be sent: in answer to ICMP errors, to fragments that are not the first, to multicast and
/// unspecified addresses, to an IPv4 packet that may be fragmented; and if `from` is of the other version, or `original` no
/// IP packet.
pub fn packet_too_big(original: &[u8], mtu: u16, from: IpAddr) -> Option<Vec<u8>> {
    let info = parse(original).ok()?;
    if !may_be_answered(&info, original) {
        return None;
    }
    let quote = &original[..info.total_len];
    match (from, info.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) if info.dont_fragment => {
            let quote = &quote[..quote.len().min(V4_MOST - 20 - 8)];
            let mut message = vec![V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED, 0, 0, 0, 0];
            message.extend_from_slice(&mtu.to_be_bytes());
            message.extend_from_slice(quote);
            let sum = checksum::internet_checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(ip4(from, to, protocol::ICMP, &message))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let quote = &quote[..quote.len().min(V6_MOST - 40 - 8)];
            let mut message = vec![V6_TOO_BIG, 0, 0, 0];
            message.extend_from_slice(&u32::from(mtu).to_be_bytes());
            message.extend_from_slice(quote);
            seal(from.into(), to.into(), protocol::ICMPV6, &mut message, 2);
            Some(ip6(from, to, protocol::ICMPV6, &message))
        }
        _ => None,
    }
}

/// An echo request; none if the addresses are of different versions.
pub fn icmp_echo(src: IpAddr, dst: IpAddr, id: u16, sequence: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let mut message = vec![V4_ECHO_REQUEST, 0, 0, 0];
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(&payload[..payload.len().min(usize::from(u16::MAX) - 20 - 8)]);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let sum = checksum::internet_checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(ip4(src, dst, protocol::ICMP, &message))
        }
        (IpAddr::V6(src_v6), IpAddr::V6(dst_v6)) => {
            message[0] = V6_ECHO_REQUEST;
            seal(src, dst, protocol::ICMPV6, &mut message, 2);
            Some(ip6(src_v6, dst_v6, protocol::ICMPV6, &message))
        }
        _ => None,
    }
}

/// RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e), which makes an exception for packets to a multicast address here.
fn may_be_answered(info: &PacketInfo, original: &[u8]) -> bool {
    let source_is_one_host = match info.src {
        IpAddr::V4(src) => !(src.is_multicast() || src.is_unspecified() || src == Ipv4Addr::BROADCAST),
        IpAddr::V6(src) => !(src.is_multicast() || src.is_unspecified()),
    };
    let to_many = match info.dst {
        IpAddr::V4(dst) => dst.is_multicast() || dst == Ipv4Addr::BROADCAST,
        IpAddr::V6(_) => false,
    };
    let kind = original[..info.total_len].get(info.transport_at);
    let is_error = match info.protocol {
        protocol::ICMP => kind.is_some_and(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        protocol::ICMPV6 => kind.is_some_and(|kind| *kind < V6_FIRST_INFORMATIONAL),
        _ => false,
    };
    source_is_one_host && !to_many && !(is_error || is_later_fragment(info, original))
}

fn is_later_fragment(info: &PacketInfo, original: &[u8]) -> bool {
    let offset = match info.src {
        IpAddr::V4(_) => u16::from_be_bytes([original[6], original[7]]) & 0x1fff,
        // The fragment header is the last one that was stepped over.
        IpAddr::V6(_) if info.is_fragment => {
            let at = info.transport_at - 8;
            u16::from_be_bytes([original[at + 2], original[at + 3]]) & 0xfff8
        }
        IpAddr::V6(_) => 0,
    };
    offset != 0
}
