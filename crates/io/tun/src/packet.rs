//! A pair of virtual Ethernet devices and a packet socket on the far end.
//!
//! The near end has no address resolution, so the kernel sends every frame to the near end's own hardware address. The far end is
//! not that, and its IP stack ignores the frames as somebody else's; the packet socket sees them all the same. In the other direction frames
//! carry the near end's address and are received there as from a neighbour. Checksum and segmentation offload are
//! off on the near end, or packets would arrive unfinished.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bondwire_packet::{Offload, PacketBatch};

use crate::error::TunError;
use crate::tun::is_plain;
use crate::{PEER_SUFFIX, Written, sys};

/// Packets per system call.
pub(crate) const SLOTS: usize = 32;

#[derive(Debug)]
pub(crate) struct Packet {
    fd: OwnedFd,
    peer: u32,
    hardware: [u8; 6],
    buffer: Vec<u8>,
    slot: usize,
}

impl Packet {
    /// Opens the socket on the far end, whose index is `peer`; `hardware` is the near end's address.
    pub(crate) fn open(name: &str, peer: u32, hardware: &[u8], mtu: u16) -> Result<Self, TunError> {
        let fail = |what: &str, source: io::Error| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                TunError::NoPermission { what: what.to_owned(), capability: "CAP_NET_RAW" }
            }
            _ => TunError::Io { what: what.to_owned(), source },
        };
        sys::offloads_off(name).map_err(|source| fail("switch the device's offloads off", source))?;
        // The far end is a mere cable: without this it would announce itself to nobody. It works as well where this is not allowed.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}{PEER_SUFFIX}/disable_ipv6"), "1");
        let fd = sys::packet_socket(peer).map_err(|source| fail("open a packet socket", source))?;
        let hardware = hardware.try_into().map_err(|_| TunError::Io {
            what: format!("use `{name}`"),
            source: io::Error::other("it has no Ethernet address"),
        })?;
        let mut packet = Self { fd, peer, hardware, buffer: Vec::new(), slot: 0 };
        packet.set_mtu(mtu);
        Ok(packet)
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.slot = usize::from(mtu).max(1_500);
        self.buffer = vec![0; self.slot * SLOTS];
    }

    pub(crate) fn recv_batch(&mut self, out: &mut PacketBatch, max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < max {
            let wanted = (max - count).min(SLOTS);
            let lengths = match sys::receive_packets(&self.fd, &mut self.buffer, self.slot, wanted) {
                Ok(lengths) => lengths,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The far end was switched off, and may come back; only its removal is final.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => break,
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            };
            for (index, length) in lengths.iter().enumerate() {
                if let Some(length) = length {
                    let start = index * self.slot;
                    out.push(&self.buffer[start..start + length], Offload::default());
                    count += 1;
                }
            }
            if lengths.len() < wanted {
                break;
            }
        }
        Ok(count)
    }

    pub(crate) fn send_batch(&mut self, batch: &PacketBatch) -> Written {
        let mut written = Written::default();
        let mut run: Vec<&[u8]> = Vec::with_capacity(SLOTS);
        let mut rest = batch.iter().filter(|(_, offload)| is_plain(offload)).map(|(packet, _)| packet);
        loop {
            run.clear();
            run.extend(rest.by_ref().take(SLOTS));
            if run.is_empty() {
                break;
            }
            let mut next = 0;
            while next < run.len() {
                match sys::send_packets(&self.fd, &run[next..], self.peer, self.hardware) {
                    Ok(sent) => {
                        written.packets += sent;
                        next += sent;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The first of them is refused: it is lost, the ones behind it have their own chance.
                    Err(_) => next += 1,
                }
            }
        }
        written.dropped = batch.len() - written.packets;
        written
    }
}

impl AsFd for Packet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
