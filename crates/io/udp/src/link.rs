use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bondwire_packet::Batch;

use crate::error::{OpenError, SendOutcome};
use crate::receive::Receiver;
use crate::send::Sender;
use crate::{Datagram, Segmentation, sys};

/// The kernel's receive buffer: half a second of a 64 Mbit/s link, should the thread be away for so long.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The kernel's send buffer. It has to hold what the pacer may grant at once (1 ms of the rate, at most one batch), and no more:
/// what waits here can be neither reordered nor sent elsewhere when the link dies. The kernel doubles it and counts
/// each full-sized datagram as some 2,300 bytes.
const SEND_BUFFER: usize = 128 << 10;

/// How a link's socket is opened.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The interface's name.
    pub device: String,
    /// The link's address; an unspecified one (`0.0.0.0`, `::`) leaves the choice to the kernel and fixes the family only.
    pub local: IpAddr,
    /// A mark for policy routing (`SO_MARK`, needs `CAP_NET_ADMIN`). Default: none.
    pub mark: Option<u32>,
    /// Default: off.
    pub segmentation: Segmentation,
}

impl LinkConfig {
    /// A socket on that interface with that source address, without a mark or offload.
    pub fn new(device: impl Into<String>, local: IpAddr) -> Self {
        Self { device: device.into(), local, mark: None, segmentation: Segmentation::Off }
    }
}

/// A non-blocking UDP socket that sends and receives over one interface only.
///
/// One address family each: a link with both has two sockets.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
    local: SocketAddr,
    receiver: Receiver,
    sender: Sender,
}

impl LinkSocket {
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// The interface or the address is gone, the capability is missing, or the kernel lacks the family.
    pub fn open(config: &LinkConfig) -> Result<Self, OpenError> {
        let local = SocketAddr::new(config.local, 0);
        let fd = sys::udp_socket(local)?;
        sys::bind_to_device(&fd, &config.device)?;
        if let Some(mark) = config.mark {
            sys::set_mark(&fd, mark)?;
        }
        if local.is_ipv6() {
            sys::set_v6_only(&fd, true)?;
        }
        sys::never_fragment(&fd, local)?;
        sys::set_buffers(&fd, RECEIVE_BUFFER, SEND_BUFFER)?;
        sys::bind(&fd, local)?;
        sys::ask_for_times(&fd);
        let gro = config.segmentation == Segmentation::On && sys::enable_gro(&fd);
        let local = sys::local_addr(&fd)?;
        Ok(Self { fd, local, receiver: Receiver::new(gro), sender: Sender::new(config.segmentation) })
    }

    /// The socket's address and port. The address is unspecified if none was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Appends what has arrived, at most [`MAX_BATCH`](crate::MAX_BATCH) kernel packets, to `out`. Returns how many datagrams; zero if none waits.
    ///
    /// `make_meta` is told where each came from, and how long it lay in the socket, as far as the kernel knows.
    ///
    /// Datagrams longer than 9,216 bytes are dropped: no path is that wide.
    ///
    /// # Errors
    /// Only what the kernel says of the socket itself, such as the interface's removal. The socket stays usable.
    pub fn recv_batch<M>(
        &mut self,
        out: &mut Batch<M>,
        make_meta: impl FnMut(Datagram, Duration) -> M,
    ) -> io::Result<usize> {
        self.receiver.recv(&self.fd, out, make_meta)
    }

    /// Sends the datagrams `range` of a batch to where `route` says. Never blocks; what the socket cannot take is dropped and counted.
    ///
    /// # Panics
    /// If the range goes beyond the batch.
    pub fn send_batch<M>(
        &mut self,
        batch: &Batch<M>,
        range: Range<usize>,
        route: impl Fn(&M) -> Datagram,
    ) -> SendOutcome {
        self.sender.send(&self.fd, self.local.is_ipv6(), batch, range, route)
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
