use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::ring::{Ring, RingConfig};

/// All Ethernet frames of one interface: those that it receives can be read, and frames can be sent on it.
///
/// The socket belongs to the network namespace of the thread that opened it, and may be used from any other. When the
/// interface goes down nothing arrives and [`PacketSocket::send`] fails; when it comes back the socket works on.
#[derive(Debug)]
pub struct PacketSocket {
    // The ring is unmapped before the socket closes: fields drop in order.
    ring: Ring,
    fd: OwnedFd,
    oversize: u64,
}

impl PacketSocket {
    /// Opens the interface `name` of the calling thread's network namespace.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENODEV for an unknown interface, ENOMEM if the ring cannot be allocated.
    pub fn open(name: &str, config: RingConfig) -> io::Result<Self> {
        // Protocol 0: nothing arrives before the ring is there and the socket is bound.
        // SAFETY: plain system call without pointers.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by socket() and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&fd, libc::PACKET_VERSION, &libc::tpacket_versions::TPACKET_V2)?;
        set_option(&fd, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let ring = Ring::new(&fd, config)?;
        bind(&fd, interface_index(name)?)?;
        Ok(Self { ring, fd, oversize: 0 })
    }

    /// Hands the oldest waiting frame to `take`, with its arrival time (CLOCK_REALTIME, nanoseconds); `None` if no
    /// frame waits. Frames longer than [`RingConfig::max_frame`] are skipped and counted.
    pub fn recv<T>(&mut self, mut take: impl FnMut(&[u8], u64) -> T) -> Option<T> {
        loop {
            let outcome = self
                .ring
                .next(|slot| if slot.truncated { None } else { Some(take(slot.data, slot.realtime)) })?;
            match outcome {
                Some(taken) => return Some(taken),
                None => self.oversize += 1,
            }
        }
    }

    /// Sends one frame, Ethernet header included.
    ///
    /// # Errors
    /// ENETDOWN while the interface is down, EMSGSIZE above its MTU, EAGAIN or ENOBUFS when its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `frame`, which outlives the call.
        let sent = unsafe {
            libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// How many frames the kernel dropped since the last call because the ring was full.
    ///
    /// # Errors
    /// None are known; whatever getsockopt reports.
    pub fn take_drops(&self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: `stats` and `len` are valid for writes, and `len` holds the size of `stats`.
        let rc = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::from(stats.tp_drops)) }
    }

    /// How many frames were skipped because they were too long for the ring.
    pub fn oversize(&self) -> u64 {
        self.oversize
    }

    /// Takes the socket's pending error (ENETDOWN after the interface went down), which otherwise keeps poll awake.
    pub fn take_error(&self) -> Option<io::Error> {
        let mut code: libc::c_int = 0;
        let mut len = size_of_val(&code) as libc::socklen_t;
        // SAFETY: `code` and `len` are valid for writes, and `len` holds the size of `code`.
        let rc = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut code).cast(),
                &raw mut len,
            )
        };
        (rc == 0 && code != 0).then(|| io::Error::from_raw_os_error(code))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn interface_index(name: &str) -> io::Result<i32> {
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index.cast_signed()) }
}

fn bind(fd: &OwnedFd, index: i32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let rc = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of level SOL_PACKET whose value is the plain C struct or integer `T`.
pub(crate) fn set_option<T: Copy>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
