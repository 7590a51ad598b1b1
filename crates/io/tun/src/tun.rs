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
        let mut count = 0;
        while count < max {
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
            (GSO_TCPV4 | GSO_TCPV6, segment) => {
                self.large.clear();
                self.large.extend_from_slice(packet);
                segments::split(&self.large, segment, out).unwrap_or_default()
            }
            // What was not asked for.
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
            let coupling = if self.takes_trains { segments::coupling(packet) } else { Coupling::Free };
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
