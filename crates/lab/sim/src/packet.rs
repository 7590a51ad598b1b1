//! Inner packets as bytes: plain IPv4 with TCP or UDP, headers and checksums as a host would send them.
//!
//! Payloads are zeros, but for what the model itself writes into them, so that checksums stay cheap: only what is not
//! zero is summed.

use core::net::{Ipv4Addr, SocketAddrV4};

/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of a UDP header.
pub const UDP_HEADER: usize = 8;
/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;

/// The addresses of a packet: between which sockets, by which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Addresses {
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Who sends it.
    pub source: SocketAddrV4,
    /// Who receives it.
    pub destination: SocketAddrV4,
}

impl Addresses {
    /// Those of an answer.
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }

    /// Reads them from a whole packet; none if it is neither TCP nor UDP over IPv4, or too short.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..IPV4_HEADER + 4)?;
        let protocol = header[9];
        if header[0] != 0x45 || !matches!(protocol, TCP | UDP) {
            return None;
        }
        let socket = |ip: usize, port: usize| {
            let address = Ipv4Addr::new(header[ip], header[ip + 1], header[ip + 2], header[ip + 3]);
            SocketAddrV4::new(address, u16::from_be_bytes([header[port], header[port + 1]]))
        };
        Some(Self { protocol, source: socket(12, 20), destination: socket(16, 22) })
    }
}

/// Wraps a transport header, whose checksum stands at `sum_at` and is still zero, and `zeros` bytes of payload behind it.
///
/// # Panics
/// If the packet would be longer than 65,535 bytes.
pub fn wrap(addresses: Addresses, transport: &[u8], sum_at: usize, zeros: usize) -> Vec<u8> {
    let length = IPV4_HEADER + transport.len() + zeros;
    let length = u16::try_from(length).expect("a packet of at most 65,535 bytes");
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend([0x45, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, addresses.protocol, 0, 0]);
    packet.extend(addresses.source.ip().octets());
    packet.extend(addresses.destination.ip().octets());
    let sum = !fold(sum(&packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(transport);
    packet.resize(usize::from(length), 0);
    let body = u32::from(length) - IPV4_HEADER as u32;
    let covered = sum_of_pseudo(addresses) + body + sum_of(transport);
    let checksum = !fold(covered);
    let at = IPV4_HEADER + sum_at;
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A UDP packet of `size` IP bytes with `head` at the start of its payload, and zeros behind.
pub fn udp(addresses: Addresses, head: &[u8], size: usize) -> Vec<u8> {
    let length = (size - IPV4_HEADER) as u16;
    let mut transport = Vec::with_capacity(UDP_HEADER + head.len());
    transport.extend(addresses.source.port().to_be_bytes());
    transport.extend(addresses.destination.port().to_be_bytes());
    transport.extend(length.to_be_bytes());
    transport.extend([0, 0]);
    transport.extend(head);
    let zeros = size - IPV4_HEADER - transport.len();
    wrap(addresses, &transport, 6, zeros)
}

fn sum_of_pseudo(addresses: Addresses) -> u32 {
    let ends = sum_of(&addresses.source.ip().octets()) + sum_of(&addresses.destination.ip().octets());
    ends + u32::from(addresses.protocol)
}

fn sum_of(bytes: &[u8]) -> u32 {
    sum(bytes)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the checksums of a TCP or UDP packet over IPv4 hold.
pub fn checksums_hold(packet: &[u8]) -> bool {
    let Some(addresses) = Addresses::of(packet) else { return false };
    let body = &packet[IPV4_HEADER..];
    let covered = sum_of_pseudo(addresses) + body.len() as u32 + sum(body);
    fold(sum(&packet[..IPV4_HEADER])) == 0xffff && fold(covered) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_packets_are_whole() {
        let addresses = Addresses {
            protocol: UDP,
            source: "10.99.0.2:5000".parse().unwrap(),
            destination: "192.0.2.1:443".parse().unwrap(),
        };
        for size in [36, 37, 1400] {
            let packet = udp(addresses, &[1, 2, 3, 4, 5, 6, 7, 8], size);
            assert_eq!(packet.len(), size);
            assert_eq!(Addresses::of(&packet), Some(addresses));
            assert!(checksums_hold(&packet));
        }
    }
}
