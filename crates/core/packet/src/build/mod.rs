//! Makers of packets with valid lengths and checksums.
//!
//! A tunnel itself sends ICMP only ([`packet_too_big`]). The others make traffic for tests, simulations and probes.
//! Packets have a hop limit of 64, and IPv4 ones have the don't-fragment bit.

mod icmp;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::checksum;
use crate::ecn::Ecn;
use crate::protocol;

pub use icmp::{icmp_echo, packet_too_big};

const HOP_LIMIT: u8 = 64;

/// What stands in a TCP header beside ports and checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFields<'a> {
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// See [`crate::tcp_flags`].
    pub flags: u8,
    /// The window, as it goes into the header.
    pub window: u16,
    /// The options; zeros are added up to a multiple of four, and what passes 40 bytes is left out.
    pub options: &'a [u8],
}

/// A UDP datagram over IPv4.
pub fn udp4(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let segment = udp_segment((*src.ip()).into(), (*dst.ip()).into(), (src.port(), dst.port()), payload);
    ip4(*src.ip(), *dst.ip(), protocol::UDP, &segment)
}

/// A UDP datagram over IPv6.
pub fn udp6(src: SocketAddrV6, dst: SocketAddrV6, payload: &[u8]) -> Vec<u8> {
    let segment = udp_segment((*src.ip()).into(), (*dst.ip()).into(), (src.port(), dst.port()), payload);
    ip6(*src.ip(), *dst.ip(), protocol::UDP, &segment)
}

/// A UDP datagram; none if the addresses are of different versions.
pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    match (src, dst) {
        (SocketAddr::V4(src), SocketAddr::V4(dst)) => Some(udp4(src, dst, payload)),
        (SocketAddr::V6(src), SocketAddr::V6(dst)) => Some(udp6(src, dst, payload)),
        _ => None,
    }
}

/// A TCP segment over IPv4.
pub fn tcp4(src: SocketAddrV4, dst: SocketAddrV4, fields: &TcpFields<'_>, payload: &[u8]) -> Vec<u8> {
    let ports = (src.port(), dst.port());
    let segment = tcp_segment((*src.ip()).into(), (*dst.ip()).into(), ports, fields, payload);
    ip4(*src.ip(), *dst.ip(), protocol::TCP, &segment)
}

/// A TCP segment over IPv6.
pub fn tcp6(src: SocketAddrV6, dst: SocketAddrV6, fields: &TcpFields<'_>, payload: &[u8]) -> Vec<u8> {
    let ports = (src.port(), dst.port());
    let segment = tcp_segment((*src.ip()).into(), (*dst.ip()).into(), ports, fields, payload);
    ip6(*src.ip(), *dst.ip(), protocol::TCP, &segment)
}

/// A TCP segment; none if the addresses are of different versions.
pub fn tcp(src: SocketAddr, dst: SocketAddr, fields: &TcpFields<'_>, payload: &[u8]) -> Option<Vec<u8>> {
    match (src, dst) {
        (SocketAddr::V4(src), SocketAddr::V4(dst)) => Some(tcp4(src, dst, fields, payload)),
        (SocketAddr::V6(src), SocketAddr::V6(dst)) => Some(tcp6(src, dst, fields, payload)),
        _ => None,
    }
}

/// An IPv4 packet around `body`, which is cut where the length field would overflow.
pub fn ip4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(usize::from(u16::MAX) - 20)];
    let total = (20 + body.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]);
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&dst.octets());
    let sum = checksum::internet_checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

/// An IPv6 packet around `body`, which is cut where the length field would overflow.
pub fn ip6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(usize::from(u16::MAX))];
    let mut packet = Vec::with_capacity(40 + body.len());
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&(body.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, HOP_LIMIT]);
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&dst.octets());
    packet.extend_from_slice(body);
    packet
}

/// Sets the codepoints of a packet, its IPv4 header's checksum included. `dscp` is cut to six bits. False if `packet` is no
/// IP packet.
pub fn set_traffic_class(packet: &mut [u8], dscp: u8, ecn: Ecn) -> bool {
    let class = dscp << 2 | ecn.to_bits();
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => {
            let old = u16::from_be_bytes([packet[0], packet[1]]);
            packet[1] = class;
            let new = u16::from_be_bytes([packet[0], packet[1]]);
            let sum = checksum::update(u16::from_be_bytes([packet[10], packet[11]]), old, new);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            true
        }
        Some(6) if packet.len() >= 40 => {
            packet[0] = 0x60 | class >> 4;
            packet[1] = packet[1] & 0x0f | class << 4;
            true
        }
        _ => false,
    }
}

fn udp_segment(src: IpAddr, dst: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(usize::from(u16::MAX) - 20 - 8)];
    let len = (8 + payload.len()) as u16;
    let mut segment = Vec::with_capacity(usize::from(len));
    for word in [ports.0, ports.1, len, 0] {
        segment.extend_from_slice(&word.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    seal(src, dst, protocol::UDP, &mut segment, 6);
    segment
}

fn tcp_segment(
    src: IpAddr,
    dst: IpAddr,
    ports: (u16, u16),
    fields: &TcpFields<'_>,
    payload: &[u8],
) -> Vec<u8> {
    let options = &fields.options[..fields.options.len().min(40)];
    let header_len = 20 + options.len().next_multiple_of(4);
    let payload = &payload[..payload.len().min(usize::from(u16::MAX) - 20 - header_len)];
    let mut segment = Vec::with_capacity(header_len + payload.len());
    segment.extend_from_slice(&ports.0.to_be_bytes());
    segment.extend_from_slice(&ports.1.to_be_bytes());
    segment.extend_from_slice(&fields.sequence.to_be_bytes());
    segment.extend_from_slice(&fields.acknowledgement.to_be_bytes());
    segment.extend_from_slice(&[((header_len / 4) << 4) as u8, fields.flags]);
    segment.extend_from_slice(&fields.window.to_be_bytes());
    segment.extend_from_slice(&[0; 4]);
    segment.extend_from_slice(options);
    segment.resize(header_len, 0);
    segment.extend_from_slice(payload);
    seal(src, dst, protocol::TCP, &mut segment, 16);
    segment
}

/// Puts the checksum of `segment`, pseudo-header included, at `at`, where zeros stand.
fn seal(src: IpAddr, dst: IpAddr, protocol: u8, segment: &mut [u8], at: usize) {
    let pseudo = checksum::pseudo_header_sum(src, dst, protocol, segment.len());
    let sum = checksum::finish(checksum::sum(segment, pseudo));
    let sum = if sum == 0 { 0xffff } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
