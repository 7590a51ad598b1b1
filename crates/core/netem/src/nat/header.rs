//! Where the addresses, ports and checksums of a raw IP packet stand.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::NatDrop;
use crate::checksum;

/// What is told apart by ports, or by something that serves as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Udp,
    Tcp,
    Echo4,
    Echo6,
}

impl Protocol {
    pub(super) fn is_echo(self) -> bool {
        matches!(self, Self::Echo4 | Self::Echo6)
    }
}

/// Which end of a packet is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// What was found in a packet. Of an echo, both ports are the identifier on the inside's end, and 0 on the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) protocol: Protocol,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) echo_request: bool,
    /// Where the transport header begins.
    transport: usize,
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, NatDrop> {
        let first = *packet.first().ok_or(NatDrop::Malformed)?;
        let (source, destination, transport, number) = match first >> 4 {
            4 => {
                let transport = usize::from(first & 15) * 4;
                if transport < 20 || packet.len() < transport {
                    return Err(NatDrop::Malformed);
                }
                if u16_at(packet, 6)? & 0x3fff != 0 {
                    return Err(NatDrop::Untranslatable);
                }
                let address = |at| Ok(IpAddr::from(Ipv4Addr::from(array_at::<4>(packet, at)?)));
                (address(12)?, address(16)?, transport, packet[9])
            }
            6 => {
                let address = |at| Ok(IpAddr::from(Ipv6Addr::from(array_at::<16>(packet, at)?)));
                (address(8)?, address(24)?, 40, packet[6])
            }
            _ => return Err(NatDrop::Malformed),
        };
        let header = |protocol, source_port, destination_port, echo_request| Self {
            protocol,
            source,
            destination,
            source_port,
            destination_port,
            echo_request,
            transport,
        };
        let ports = || Ok::<_, NatDrop>((u16_at(packet, transport)?, u16_at(packet, transport + 2)?));
        match (first >> 4, number) {
            (_, 17) if packet.len() >= transport + 8 => {
                let (from, to) = ports()?;
                Ok(header(Protocol::Udp, from, to, false))
            }
            (_, 6) if packet.len() >= transport + 20 => {
                let (from, to) = ports()?;
                Ok(header(Protocol::Tcp, from, to, false))
            }
            (4, 1) | (6, 58) if packet.len() >= transport + 8 => {
                let (protocol, request, reply) =
                    if number == 1 { (Protocol::Echo4, 8, 0) } else { (Protocol::Echo6, 128, 129) };
                let id = u16_at(packet, transport + 4)?;
                match packet[transport] {
                    kind if kind == request => Ok(header(protocol, id, 0, true)),
                    kind if kind == reply => Ok(header(protocol, 0, id, false)),
                    _ => Err(NatDrop::Untranslatable),
                }
            }
            (_, 1 | 6 | 17 | 58) => Err(NatDrop::Malformed),
            _ => Err(NatDrop::Untranslatable),
        }
    }

    /// Writes another address and port into one end, and keeps every checksum as right as it was.
    pub(super) fn rewrite(&self, packet: &mut [u8], side: Side, address: IpAddr, port: u16) {
        let new = octets(address);
        let (at, length) = match (address, side) {
            (IpAddr::V4(_), Side::Source) => (12, 4),
            (IpAddr::V4(_), Side::Destination) => (16, 4),
            (IpAddr::V6(_), Side::Source) => (8, 16),
            (IpAddr::V6(_), Side::Destination) => (24, 16),
        };
        let mut old = [0; 16];
        old[..length].copy_from_slice(&packet[at..at + length]);
        packet[at..at + length].copy_from_slice(&new[..length]);
        if address.is_ipv4() {
            checksum::replace(packet, 10, &old[..length], &new[..length]);
        }
        let port_at = self.transport
            + match (self.protocol.is_echo(), side) {
                (true, _) => 4,
                (false, Side::Source) => 0,
                (false, Side::Destination) => 2,
            };
        let old_port = [packet[port_at], packet[port_at + 1]];
        packet[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        let sum_at = self.transport
            + match self.protocol {
                Protocol::Udp => 6,
                Protocol::Tcp => 16,
                Protocol::Echo4 | Protocol::Echo6 => 2,
            };
        let unset = packet[sum_at..sum_at + 2] == [0, 0];
        if self.protocol == Protocol::Udp && unset {
            return;
        }
        // An ICMP checksum covers no addresses, all others do.
        if self.protocol != Protocol::Echo4 {
            checksum::replace(packet, sum_at, &old[..length], &new[..length]);
        }
        checksum::replace(packet, sum_at, &old_port, &port.to_be_bytes());
        if self.protocol == Protocol::Udp && packet[sum_at..sum_at + 2] == [0, 0] {
            packet[sum_at..sum_at + 2].fill(0xff);
        }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            all
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn u16_at(packet: &[u8], at: usize) -> Result<u16, NatDrop> {
    array_at(packet, at).map(u16::from_be_bytes)
}

fn array_at<const N: usize>(packet: &[u8], at: usize) -> Result<[u8; N], NatDrop> {
    packet.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(NatDrop::Malformed)
}
