//! A TUN interface: one `read` and one `write` for each packet, without a header of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use bondwire_packet::{Checksum, Offload, PacketBatch};

use crate::error::TunError;
use crate::{Written, sys};

/// The longest IP packet. Room that is not used is not touched.
const LARGEST: usize = 65_535;

#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: String,
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
        Ok(Self { file, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn recv_batch(&mut self, out: &mut PacketBatch, max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < max {
            match self.file.read(out.reserve(LARGEST)) {
                Ok(length) => {
                    out.commit(length, Offload::default());
                    count += 1;
                }
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

    pub(crate) fn send_batch(&mut self, batch: &PacketBatch) -> Written {
        let mut written = Written::default();
        for (packet, offload) in batch.iter() {
            let taken = is_plain(offload) && self.write_one(packet);
            if taken {
                written.packets += 1;
            } else {
                written.dropped += 1;
            }
        }
        written
    }

    fn write_one(&mut self, packet: &[u8]) -> bool {
        loop {
            match self.file.write(packet) {
                Ok(length) => return length == packet.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
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
