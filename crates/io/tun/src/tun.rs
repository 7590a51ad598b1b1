//! A TUN interface. Each packet has a `virtio_net_hdr` before it, so that TCP segments pass the kernel in trains: one `read` or `write`, and one
//! trip through the stack, for up to 64 KiB.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use bondwire_packet::segments::{self, Coupled, Coupling, MAX_SEGMENTS, Train};
use bondwire_packet::{Checksum, Offload, PacketBatch, checksum};

use crate::error::TunError;
use crate::{Written, sys};

/// The longest IP packet. Room that is not used is not touched.
const LARGEST: usize = 65_535;
/// Flows whose segments are gathered at a time. A batch holds runs of few flows.
const MAX_TRAINS: usize = 16;

/// `struct virtio_net_hdr` (virtio 1.2, section 5.1.6) in the machine's byte order, as a TUN device has it.
const HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Set beside the kind where the segments carry ECN bits.
const GSO_ECN: u8 = 0x80;

/// What the kernel says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    needs_checksum: bool,
    /// The kind of segmentation without [`GSO_ECN`], and the payload bytes of each segment.
    gso: (u8, u16),
    checksum_start: u16,
    checksum_offset: u16,
}

impl Header {
    fn decode(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            needs_checksum: bytes[0] & NEEDS_CHECKSUM != 0,
            gso: (bytes[1] & !GSO_ECN, word(4)),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    fn of_train(train: &Coupled<'_>) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = NEEDS_CHECKSUM;
        bytes[1] = if train.is_v6 { GSO_TCPV6 } else { GSO_TCPV4 };
        let words = [train.headers.len() as u16, train.segment, train.transport, train.checksum_offset];
        for (place, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: String,
    /// Whether the kernel takes trains; a kernel that refused one is not asked again.
    takes_trains: bool,
    /// Trains that stand open, the oldest first, each with the places of its segments in the batch. Empty between two calls.
    trains: Vec<(Train, Vec<usize>)>,
    spare: Vec<Vec<usize>>,
    /// A large packet on its way to being cut.
    large: Vec<u8>,
}

impl Tun {
    /// A new interface; `%d` in the name becomes the first free number.
    pub(crate) fn open(name: &str) -> Result<Self, TunError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|source| match source.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => TunError::Missing,
                Some(libc::EACCES | libc::EPERM) => TunError::NotOpened,
                _ => TunError::Io { what: "open /dev/net/tun".to_owned(), source },
            })?;
        let name = sys::make_tun(&file, name).map_err(|source| match source.raw_os_error() {
            // Another owner's tunnel is busy; a device of another kind is an invalid argument.
            Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => TunError::NameInUse { name: name.to_owned() },
            Some(libc::EPERM | libc::EACCES) => TunError::NoPermission {
                what: "make a tunnel device".to_owned(),
                capability: "CAP_NET_ADMIN",
            },
            _ => TunError::Io { what: format!("make the tunnel device `{name}`"), source },
        })?;
        // Without it the kernel cuts before it hands over, which is slower and nothing else.
        let _ = sys::accept_trains(&file);
        Ok(Self {
            file,
            name,
            takes_trains: true,
            trains: Vec::with_capacity(MAX_TRAINS),
            spare: Vec::new(),
            large: Vec::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn recv_batch(&mut self, out: &mut PacketBatch, max: usize) -> io::Result<usize> {
        let (mut count, mut reads) = (0, 0);
        while count < max && reads < max {
            reads += 1;
            let mut header = [0; HEADER];
            let room = out.reserve(LARGEST);
            match self.file.read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(room)]) {
                Ok(length) if length > HEADER => {
                    count += self.take(Header::decode(&header), length - HEADER, out);
                }
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    // One packet that the kernel cannot describe is lost, no more.
                    io::ErrorKind::InvalidInput => {}
                    _ if count > 0 => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(count)
    }

    /// Takes the packet that stands in the first `length` bytes of the room behind the batch. How many packets it became.
    fn take(&mut self, header: Header, length: usize, out: &mut PacketBatch) -> usize {
        let packet = &mut out.reserve(length)[..length];
        match header.gso {
            (GSO_NONE, _) => {
                if header.needs_checksum
                    && !checksum::complete(packet, header.checksum_start, header.checksum_offset)
                {
                    return 0;
                }
                out.commit(length, Offload::default());
                1
            }
            (GSO_TCPV4 | GSO_TCPV6, segment) if header.needs_checksum => {
                self.large.clear();
                self.large.extend_from_slice(packet);
                segments::split(&self.large, header.checksum_start, segment, out).unwrap_or_default()
            }
            // What was not asked for, or what nobody may send.
            _ => 0,
        }
    }

    pub(crate) fn send_batch(&mut self, batch: &PacketBatch) -> Written {
        let mut written = Written::default();
        for (index, (packet, offload)) in batch.iter().enumerate() {
            if !is_plain(offload) {
                written.dropped += 1;
                continue;
            }
            let coupling = if self.takes_trains { segments::coupling(packet) } else { Coupling::Barrier };
            match coupling {
                Coupling::Free => self.write_plain(packet, &mut written),
                Coupling::Barrier => {
                    self.flush(batch, &mut written);
                    self.write_plain(packet, &mut written);
                }
                Coupling::Segment | Coupling::Alone => self.couple(index, packet, batch, &mut written),
            }
        }
        self.flush(batch, &mut written);
        written
    }

    /// Adds a TCP segment to its flow's train, or sends that and begins another one.
    fn couple(&mut self, index: usize, packet: &[u8], batch: &PacketBatch, written: &mut Written) {
        if let Some(at) = self.trains.iter().position(|(train, _)| train.is_of_flow(packet)) {
            let (train, places) = &mut self.trains[at];
            let first = places.first().and_then(|first| batch.get(*first)).map(|(first, _)| first);
            if first.is_some_and(|first| train.push(first, packet)) {
                places.push(index);
                return;
            }
            let (train, places) = self.trains.remove(at);
            self.write_train(train, places, batch, written);
        }
        match Train::begin(packet) {
            Some(train) => {
                if self.trains.len() >= MAX_TRAINS {
                    let (oldest, places) = self.trains.remove(0);
                    self.write_train(oldest, places, batch, written);
                }
                let mut places = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(MAX_SEGMENTS));
                places.push(index);
                self.trains.push((train, places));
            }
            None => self.write_plain(packet, written),
        }
    }

    fn flush(&mut self, batch: &PacketBatch, written: &mut Written) {
        let mut trains = std::mem::take(&mut self.trains);
        for (train, places) in trains.drain(..) {
            self.write_train(train, places, batch, written);
        }
        self.trains = trains;
    }

    fn write_train(
        &mut self,
        mut train: Train,
        mut places: Vec<usize>,
        batch: &PacketBatch,
        written: &mut Written,
    ) {
        let segments = || places.iter().filter_map(|place| batch.get(*place)).map(|(packet, _)| packet);
        if places.len() == 1 || !self.write_coupled(&train.close(), segments(), written) {
            for packet in segments() {
                self.write_plain(packet, written);
            }
        }
        places.clear();
        self.spare.push(places);
    }

    /// Writes a train as one packet. False if the kernel does not take such packets.
    fn write_coupled<'a>(
        &mut self,
        train: &Coupled<'_>,
        segments: impl Iterator<Item = &'a [u8]>,
        written: &mut Written,
    ) -> bool {
        let header = Header::of_train(train);
        let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS + 2];
        pieces[0] = IoSlice::new(&header);
        pieces[1] = IoSlice::new(train.headers);
        let mut count = 0;
        for (piece, segment) in pieces[2..].iter_mut().zip(segments) {
            *piece = IoSlice::new(&segment[train.headers.len()..]);
            count += 1;
        }
        match self.write(&pieces[..count + 2]) {
            Ok(()) => written.packets += count,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                tracing::info!(
                    "this kernel takes no large TCP packets from a tunnel device; packets go one by one"
                );
                self.takes_trains = false;
                return false;
            }
            Err(_) => written.dropped += count,
        }
        true
    }

    fn write_plain(&mut self, packet: &[u8], written: &mut Written) {
        match self.write(&[IoSlice::new(&[0; HEADER]), IoSlice::new(packet)]) {
            Ok(()) => written.packets += 1,
            Err(_) => written.dropped += 1,
        }
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        loop {
            match self.file.write_vectored(pieces) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a packet needs nothing done to it.
pub(crate) fn is_plain(offload: &Offload) -> bool {
    offload.segment_size.is_none() && !matches!(offload.checksum, Checksum::Partial { .. })
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bondwire_packet::build::{self, TcpFields};
    use bondwire_packet::{PacketInfo, parse, tcp_flags};
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);

    fn inside(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 1), port)
    }

    fn segment(port: u16, sequence: u32, flags: u8, len: usize) -> Vec<u8> {
        let fields = TcpFields { sequence, flags, window: 100, ..TcpFields::default() };
        build::tcp4(inside(port), PEER, &fields, &vec![7; len])
    }

    /// A device whose other end is a datagram socket, which keeps each write for itself.
    fn device() -> (Tun, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let file = File::from(OwnedFd::from(near));
        let (trains, spare, large) = (Vec::new(), Vec::new(), Vec::new());
        (Tun { file, name: "none".to_owned(), takes_trains: true, trains, spare, large }, far)
    }

    /// Everything that was written, cut into single packets again, and the number of writes.
    fn written(far: &UnixDatagram) -> (Vec<PacketInfo>, usize) {
        let (mut packets, mut writes) = (PacketBatch::default(), 0);
        let mut buffer = vec![0; HEADER + LARGEST];
        while let Ok(length) = far.recv(&mut buffer) {
            writes += 1;
            let header = Header::decode(buffer[..HEADER].try_into().unwrap());
            let packet = &buffer[HEADER..length];
            match header.gso {
                (GSO_NONE, 0) => packets.push(packet, Offload::default()),
                (GSO_TCPV4, segment) => {
                    assert!(header.needs_checksum && header.checksum_offset == 16);
                    segments::split(packet, header.checksum_start, segment, &mut packets).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        (packets.iter().map(|(packet, _)| parse(packet).unwrap()).collect(), writes)
    }

    #[test]
    fn flows_keep_their_order_however_they_are_mixed() {
        const ACK: u8 = tcp_flags::ACK;
        let (mut device, far) = device();
        let mut batch = PacketBatch::default();
        let mut put = |packet: &[u8]| batch.push(packet, Offload::default());
        // More flows than stand open at a time, in turns; a segment without data, and an end, in the midst.
        for round in 0..6u32 {
            for port in 1..=20 {
                put(&segment(port, round * 100, ACK, 100));
            }
            put(&segment(3, (round + 1) * 100, ACK, 0));
            put(&build::udp4(inside(9), PEER, b"call"));
        }
        put(&segment(3, 600, ACK | tcp_flags::FIN, 50));
        // One flow alone, and a part of a packet that must not overtake it.
        for n in 0..10 {
            put(&segment(30, n * 100, ACK, 100));
        }
        let mut part = build::udp4(inside(30), PEER, b"a part");
        part[6] = 0x20;
        put(&part);
        let total = batch.len();
        let outcome = device.send_batch(&batch);
        assert_eq!((outcome.packets, outcome.dropped), (total, 0));
        let (packets, writes) = written(&far);
        assert_eq!(packets.len(), total);
        for port in (1..=20).chain([30]) {
            let sequences: Vec<u32> = packets
                .iter()
                .filter(|info| info.protocol == 6 && info.key.src_port == port)
                .map(|info| info.tcp.unwrap().sequence)
                .collect();
            assert!(sequences.is_sorted() && sequences.len() >= 6, "{port}: {sequences:?}");
        }
        assert!(packets.last().unwrap().is_fragment && writes < total);
        assert!(device.trains.is_empty());
    }

    #[test]
    fn what_was_not_asked_for_is_dropped() {
        let (mut device, far) = device();
        let packet = segment(1, 0, tcp_flags::ACK, 3_000);
        let header = |kind: u8, flags: u8| {
            let mut bytes = [0; HEADER];
            (bytes[0], bytes[1]) = (flags, kind);
            bytes[4..6].copy_from_slice(&1_000u16.to_ne_bytes());
            bytes[6..8].copy_from_slice(&20u16.to_ne_bytes());
            bytes[8..10].copy_from_slice(&16u16.to_ne_bytes());
            [&bytes[..], &packet[..]].concat()
        };
        // A UFO packet, TSO with a finished sum, TSO where no TCP header is, next to nothing; and at last one that is right.
        far.send(&header(3, NEEDS_CHECKSUM)).unwrap();
        far.send(&header(GSO_TCPV4, 0)).unwrap();
        far.send(&header(GSO_TCPV6, NEEDS_CHECKSUM)[..HEADER + 30]).unwrap();
        far.send(&[0; HEADER]).unwrap();
        far.send(&header(GSO_TCPV4 | GSO_ECN, NEEDS_CHECKSUM)).unwrap();
        let mut batch = PacketBatch::default();
        assert_eq!(device.recv_batch(&mut batch, 5).unwrap(), 3);
        assert!(batch.iter().all(|(packet, _)| packet.len() == 1_040));
    }
}
