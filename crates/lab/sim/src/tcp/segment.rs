use core::ops::Range;

use crate::packet::{self, Addresses, IPV4_HEADER, TCP};

/// Bytes of a data segment that are no payload: IPv4, TCP, and the timestamps that every segment carries.
pub const HEADERS: usize = IPV4_HEADER + TCP_HEADER + TIMESTAMPS;
/// The most SACK blocks that fit beside timestamps.
pub(super) const MAX_SACK: usize = 3;
/// The shift by which windows are scaled.
const SCALE: u32 = 10;
const TCP_HEADER: usize = 20;
const TIMESTAMPS: usize = 12;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A TCP segment. Positions are those of the wire: 32 bits that wrap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Opens the connection. It carries the largest segment that its sender takes.
    pub syn: Option<u16>,
    /// The first byte's position.
    pub sequence: u32,
    /// What comes next from the other side, if there is something to acknowledge.
    pub ack: Option<u32>,
    /// What the sender of this segment has room for, in bytes; rounded down to 1 KiB on the wire.
    pub window: u32,
    /// The timestamp: not a time, but the number of the packet among all that its sender sent, from 1.
    pub serial: u32,
    /// The other side's serial, echoed as RFC 7323 asks for timestamps; 0 if none.
    pub echo: u32,
    /// Blocks received out of order, the newest first (RFC 2018), or first a duplicate (RFC 2883).
    pub sack: Vec<Range<u32>>,
    /// Bytes of payload.
    pub payload: usize,
}

impl Segment {
    /// As a whole IPv4 packet.
    pub fn encode(&self, addresses: Addresses) -> Vec<u8> {
        let mut header = Vec::with_capacity(60);
        header.extend(addresses.source.port().to_be_bytes());
        header.extend(addresses.destination.port().to_be_bytes());
        header.extend(self.sequence.to_be_bytes());
        header.extend(self.ack.unwrap_or(0).to_be_bytes());
        let flags = if self.syn.is_some() { SYN } else { 0 } | if self.ack.is_some() { ACK } else { 0 };
        let window = (self.window >> SCALE).min(0xffff) as u16;
        header.extend([0, flags]);
        header.extend(window.to_be_bytes());
        header.extend([0; 4]);
        if let Some(mss) = self.syn {
            header.extend([2, 4]);
            header.extend(mss.to_be_bytes());
            header.extend([4, 2, 3, 3, SCALE as u8, 1]);
            header.extend([8, 10]);
        } else {
            header.extend([1, 1, 8, 10]);
        }
        header.extend(self.serial.to_be_bytes());
        header.extend(self.echo.to_be_bytes());
        if !self.sack.is_empty() && self.syn.is_none() {
            header.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for block in &self.sack {
                header.extend(block.start.to_be_bytes());
                header.extend(block.end.to_be_bytes());
            }
        }
        header.resize(header.len().next_multiple_of(4), 1);
        header[12] = (header.len() as u8 / 4) << 4;
        packet::wrap(addresses, &header, 16, self.payload)
    }

    /// From a whole IPv4 packet; none if it is no TCP or malformed.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let addresses = Addresses::of(packet)?;
        let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let tcp = packet.get(IPV4_HEADER..total)?;
        if addresses.protocol != TCP || tcp.len() < TCP_HEADER {
            return None;
        }
        let header = usize::from(tcp[12] >> 4) * 4;
        let options = tcp.get(TCP_HEADER..header)?;
        let flags = tcp[13];
        let mut segment = Self {
            sequence: u32_at(tcp, 4)?,
            ack: if flags & ACK != 0 { Some(u32_at(tcp, 8)?) } else { None },
            window: u32::from(u16::from_be_bytes([tcp[14], tcp[15]])) << SCALE,
            payload: tcp.len() - header,
            ..Self::default()
        };
        segment.read_options(options, flags & SYN != 0)?;
        Some(segment)
    }

    fn read_options(&mut self, mut options: &[u8], syn: bool) -> Option<()> {
        while let Some(&kind) = options.first() {
            if kind <= 1 {
                options = &options[1..];
                continue;
            }
            let length = usize::from(*options.get(1)?);
            let body = options.get(2..length)?;
            match kind {
                2 if syn => self.syn = Some(u16::from_be_bytes(body.try_into().ok()?)),
                8 => (self.serial, self.echo) = (u32_at(body, 0)?, u32_at(body, 4)?),
                5 => {
                    let block = |b: &[u8]| Some(u32_at(b, 0)?..u32_at(b, 4)?);
                    self.sack = body.chunks_exact(8).filter_map(block).collect();
                }
                _ => {}
            }
            options = &options[length..];
        }
        Some(())
    }
}

/// The serial of a TCP packet, without decoding the rest: where the model always puts it.
pub fn serial_of(packet: &[u8]) -> Option<u32> {
    let at = if packet.get(IPV4_HEADER + 13)? & SYN != 0 { 32 } else { 24 };
    u32_at(packet, IPV4_HEADER + at)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let addresses = Addresses {
            protocol: TCP,
            source: "10.99.0.2:5000".parse().unwrap(),
            destination: "192.0.2.1:443".parse().unwrap(),
        };
        let data = Segment {
            sequence: 0xffff_fff0,
            ack: Some(7),
            window: 5 << SCALE,
            serial: 3,
            echo: 4,
            sack: vec![1..2, 4_000_000_000..4_294_967_295],
            payload: 1001,
            ..Segment::default()
        };
        let syn =
            Segment { syn: Some(1460), sequence: 9, serial: 1, window: 1 << SCALE, ..Segment::default() };
        let full = Segment { serial: 77, payload: 1448, ack: Some(1), ..Segment::default() };
        for segment in [data, syn, full.clone()] {
            let packet = segment.encode(addresses);
            assert!(packet::checksums_hold(&packet));
            assert_eq!(Segment::decode(&packet), Some(segment.clone()));
            assert_eq!(serial_of(&packet), Some(segment.serial));
        }
        assert_eq!(full.encode(addresses).len(), HEADERS + 1448);
    }
}
