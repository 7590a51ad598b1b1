//! Segments of one TCP flow as one large packet, and back: what a network card does for the kernel (TSO, GRO), for a tunnel device.
//!
//! A [`Train`] gathers segments that follow one another and differ in nothing but what the kernel makes anew when it cuts them apart: lengths,
//! IPv4 identification, sequence number, checksum. The rules are those of Linux' own GRO, and stricter where it would cost something to be
//! lenient. Each segment's checksum is verified, since the large packet gets a new one. [`split`] is the other direction.

use crate::batch::{Offload, PacketBatch};
use crate::{checksum, protocol, tcp_flags};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most segments of a train.
pub const MAX_SEGMENTS: usize = 64;
/// The longest IPv4 or IPv6 header without options or extensions, and the longest TCP header.
const MAX_HEADERS: usize = 40 + 60;
/// The longest packet, in bytes.
const LARGEST: usize = 65_535;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const CHECKSUM_OFFSET: usize = 16;
const DONT_FRAGMENT: u16 = 0x4000;

/// Where the headers of a TCP segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    is_v6: bool,
    /// Where the TCP header begins.
    transport: usize,
    /// Where the payload begins.
    payload: usize,
}

impl Layout {
    /// None for what is no TCP segment, is cut up, carries IP options or extensions, or says another length than it has.
    fn of(packet: &[u8]) -> Option<Self> {
        let (is_v6, transport) = match packet.first()? {
            0x45 => (false, IPV4_HEADER),
            first if first >> 4 == 6 => (true, IPV6_HEADER),
            _ => return None,
        };
        let offset = usize::from(packet.get(transport + 12)? >> 4) * 4;
        let payload = transport + offset;
        let whole = if is_v6 {
            packet[6] == protocol::TCP && usize::from(word(packet, 4)) + IPV6_HEADER == packet.len()
        } else {
            let part = word(packet, 6) & !DONT_FRAGMENT != 0;
            packet[9] == protocol::TCP && !part && usize::from(word(packet, 2)) == packet.len()
        };
        (whole && offset >= 20 && payload <= packet.len()).then_some(Self { is_v6, transport, payload })
    }

    fn pseudo_sum(&self, packet: &[u8], len: usize) -> u32 {
        let at = |from: usize, to: usize| &packet[from..to];
        let address = |from: usize| -> IpAddr {
            if self.is_v6 {
                let octets: [u8; 16] = at(from, from + 16).try_into().unwrap_or_default();
                Ipv6Addr::from(octets).into()
            } else {
                let octets: [u8; 4] = at(from, from + 4).try_into().unwrap_or_default();
                Ipv4Addr::from(octets).into()
            }
        };
        let (src, dst) = if self.is_v6 { (8, 24) } else { (12, 16) };
        checksum::pseudo_header_sum(address(src), address(dst), protocol::TCP, len)
    }

    /// Whether the checksums of this segment are right.
    fn is_intact(&self, packet: &[u8]) -> bool {
        let header = self.is_v6 || checksum::internet_checksum(&packet[..IPV4_HEADER]) == 0;
        let segment = &packet[self.transport..];
        header && checksum::finish(checksum::sum(segment, self.pseudo_sum(packet, segment.len()))) == 0
    }

    /// Makes the IP header say `len` bytes in all, with a right checksum of its own.
    fn set_len(&self, packet: &mut [u8], len: usize) {
        if self.is_v6 {
            set_word(packet, 4, (len - IPV6_HEADER) as u16);
        } else {
            set_word(packet, 2, len as u16);
            set_word(packet, 10, 0);
            let sum = checksum::internet_checksum(&packet[..usize::from(packet[0] & 15) * 4]);
            set_word(packet, 10, sum);
        }
    }
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn set_word(packet: &mut [u8], at: usize, value: u16) {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn sequence(packet: &[u8], layout: &Layout) -> u32 {
    let at = layout.transport + 4;
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// What a packet means for the trains that stand open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coupling {
    /// It may begin a train or join one.
    Segment,
    /// A TCP segment without data, or with flags that stand for more than data: it goes alone, and must not overtake its flow.
    Alone,
    /// It may overtake any train: another protocol.
    Free,
    /// It must overtake none: a fragment, or something that cannot be read so quickly.
    Barrier,
}

/// What `packet` means for trains.
pub fn coupling(packet: &[u8]) -> Coupling {
    let Some(layout) = Layout::of(packet) else {
        let other = match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= IPV4_HEADER => {
                packet[9] != protocol::TCP && word(packet, 6) & !DONT_FRAGMENT == 0
            }
            Some(6) if packet.len() >= IPV6_HEADER => {
                matches!(packet[6], protocol::UDP | protocol::ICMPV6)
            }
            _ => false,
        };
        return if other { Coupling::Free } else { Coupling::Barrier };
    };
    let flags = packet[layout.transport + 13] & !(tcp_flags::PSH | tcp_flags::ECE);
    if flags == tcp_flags::ACK && layout.payload < packet.len() { Coupling::Segment } else { Coupling::Alone }
}

/// Segments that leave as one packet.
#[derive(Clone, Debug)]
pub struct Train {
    layout: Layout,
    headers: [u8; MAX_HEADERS],
    /// Payload bytes of each segment but the last, and of all.
    segment: usize,
    payload: usize,
    count: usize,
    next_sequence: u32,
    open: bool,
}

impl Train {
    /// A train of one segment; none unless it is a [`Coupling::Segment`].
    pub fn begin(packet: &[u8]) -> Option<Self> {
        if coupling(packet) != Coupling::Segment {
            return None;
        }
        let layout = Layout::of(packet)?;
        let mut headers = [0; MAX_HEADERS];
        headers.get_mut(..layout.payload)?.copy_from_slice(&packet[..layout.payload]);
        let segment = packet.len() - layout.payload;
        let pushed = packet[layout.transport + 13] & tcp_flags::PSH != 0;
        Some(Self {
            layout,
            headers,
            segment,
            payload: segment,
            count: 1,
            next_sequence: sequence(packet, &layout).wrapping_add(segment as u32),
            open: !pushed,
        })
    }

    /// How many segments it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never: a train begins with a segment.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a [`Coupling::Segment`] or [`Coupling::Alone`] belongs to the same flow, and so must not overtake this train.
    pub fn is_of_flow(&self, packet: &[u8]) -> bool {
        let (from, to) = if self.layout.is_v6 { (8, IPV6_HEADER + 4) } else { (12, IPV4_HEADER + 4) };
        let version = self.headers[0] >> 4;
        packet.first().is_some_and(|first| first >> 4 == version)
            && packet.get(from..to) == Some(&self.headers[from..to])
    }

    /// Couples a segment that follows the last one. `first` is the train's first segment as it came. False, and nothing changed, if the
    /// two do not fit together.
    pub fn push(&mut self, first: &[u8], packet: &[u8]) -> bool {
        let Some(layout) = Layout::of(packet).filter(|layout| *layout == self.layout) else { return false };
        let payload = packet.len() - layout.payload;
        let fits = self.open
            && (1..=self.segment).contains(&payload)
            && self.count < MAX_SEGMENTS
            && layout.payload + self.payload + payload <= LARGEST
            && sequence(packet, &layout) == self.next_sequence
            && self.has_headers_of(packet)
            && (self.count > 1 || layout.is_intact(first))
            && layout.is_intact(packet);
        if !fits {
            return false;
        }
        let pushed = packet[layout.transport + 13] & tcp_flags::PSH;
        self.headers[layout.transport + 13] |= pushed;
        self.open = payload == self.segment && pushed == 0;
        self.payload += payload;
        self.count += 1;
        self.next_sequence = self.next_sequence.wrapping_add(payload as u32);
        true
    }

    /// Whether all that cutting does not make anew is the same.
    fn has_headers_of(&self, packet: &[u8]) -> bool {
        let ours = &self.headers;
        let same = |from: usize, to: usize| ours[from..to] == packet[from..to];
        let ip = if self.layout.is_v6 {
            same(0, 4) && same(6, IPV6_HEADER)
        } else {
            // Whole packets that may not be cut up need no identification (RFC 6864); others count on.
            let id = word(ours, 6) & DONT_FRAGMENT != 0
                || word(packet, 4) == word(ours, 4).wrapping_add(self.count as u16);
            same(0, 2) && same(6, 10) && same(12, IPV4_HEADER) && id
        };
        let tcp = self.layout.transport;
        let flags = |packet: &[u8]| packet[tcp + 13] & !tcp_flags::PSH;
        ip && same(tcp, tcp + 4)
            && same(tcp + 8, tcp + 13)
            && flags(ours) == flags(packet)
            && same(tcp + 14, tcp + 16)
            && same(tcp + 18, self.layout.payload)
    }

    /// The headers of the large packet, to be followed by the payloads in their order. The checksum of TCP is left to be completed.
    pub fn close(&mut self) -> Coupled<'_> {
        let layout = self.layout;
        let len = layout.payload + self.payload;
        layout.set_len(&mut self.headers[..layout.payload], len);
        let pseudo = layout.pseudo_sum(&self.headers, len - layout.transport);
        set_word(&mut self.headers, layout.transport + CHECKSUM_OFFSET, !checksum::finish(pseudo));
        Coupled {
            headers: &self.headers[..layout.payload],
            is_v6: layout.is_v6,
            transport: layout.transport as u16,
            checksum_offset: CHECKSUM_OFFSET as u16,
            segment: self.segment as u16,
        }
    }
}

/// What stands before the payloads of a train.
#[derive(Clone, Copy, Debug)]
pub struct Coupled<'a> {
    /// IP and TCP headers; as long as those of each segment.
    pub headers: &'a [u8],
    /// Whether it is IPv6.
    pub is_v6: bool,
    /// Where the TCP header begins, in bytes.
    pub transport: u16,
    /// Where the checksum stands, from there.
    pub checksum_offset: u16,
    /// The payload bytes of each segment but the last.
    pub segment: u16,
}

/// Appends the segments of a large TCP packet with `segment` payload bytes each, all checksums right, and gives their number. None, and nothing
/// appended, if it is no such packet, or if that would make more than a thousand of it.
///
/// The TCP header begins at `transport`, behind whatever options or extension headers there are, and its checksum field holds the sum of the
/// pseudo-header ([`crate::Checksum::Partial`]), which may be that of another destination than the header's (a routing header, RFC 8200, section 8.1).
pub fn split(packet: &[u8], transport: u16, segment: u16, out: &mut PacketBatch) -> Option<usize> {
    const MOST: usize = 1_024;
    const AT_LAST: u8 = tcp_flags::FIN | tcp_flags::PSH;
    let transport = usize::from(transport);
    let is_v6 = match packet.first()? >> 4 {
        4 if usize::from(packet[0] & 15) * 4 == transport && transport >= IPV4_HEADER => false,
        6 if transport >= IPV6_HEADER => true,
        _ => return None,
    };
    let offset = usize::from(packet.get(transport + 12)? >> 4) * 4;
    if offset < 20 || transport + offset > packet.len() || packet.len() > LARGEST {
        return None;
    }
    let layout = Layout { is_v6, transport, payload: transport + offset };
    let (headers, payload) = packet.split_at(layout.payload);
    let count = payload.len().div_ceil(usize::from(segment.max(1)));
    if segment == 0 || !(1..=MOST).contains(&count) {
        return None;
    }
    let flags = headers[transport + 13];
    let (first_sequence, first_id) = (sequence(packet, &layout), word(packet, 4));
    // The sum of the pseudo-header without its length.
    let pseudo = u32::from(word(packet, transport + CHECKSUM_OFFSET))
        + u32::from(!((packet.len() - transport) as u16));
    for (index, piece) in payload.chunks(usize::from(segment)).enumerate() {
        let len = headers.len() + piece.len();
        let made = out.reserve(len);
        made[..headers.len()].copy_from_slice(headers);
        made[headers.len()..].copy_from_slice(piece);
        if !is_v6 {
            set_word(made, 4, first_id.wrapping_add(index as u16));
        }
        layout.set_len(made, len);
        let number = first_sequence.wrapping_add((index * usize::from(segment)) as u32);
        made[transport + 4..transport + 8].copy_from_slice(&number.to_be_bytes());
        let mut own = flags;
        if index > 0 {
            own &= !tcp_flags::CWR;
        }
        if index + 1 < count {
            own &= !AT_LAST;
        }
        made[transport + 13] = own;
        set_word(made, transport + CHECKSUM_OFFSET, 0);
        let sum = checksum::sum(&made[transport..], pseudo + (len - transport) as u32);
        set_word(made, transport + CHECKSUM_OFFSET, checksum::finish(sum));
        out.commit(len, Offload::default());
    }
    Some(count)
}
