use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bondwire_packet::Batch;

use crate::error::{OpenError, SendOutcome};
use crate::holder::port_holder;
use crate::receive::Receiver;
use crate::send::Sender;
use crate::{Datagram, Segmentation, sys};

const RECEIVE_BUFFER: usize = 4 << 20;

/// Larger than a link's: one socket serves all clients, whose pacers know nothing of one another.
const SEND_BUFFER: usize = 1 << 20;

/// How the server's socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// One address, or a wildcard: `[::]` serves IPv4 and IPv6, `0.0.0.0` IPv4 alone.
    pub listen: SocketAddr,
    /// Default: off.
    pub segmentation: Segmentation,
}

impl ServerConfig {
    /// All addresses of both families on that port, without offload.
    pub fn all_addresses(port: u16) -> Self {
        Self::new(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
    }

    /// That address, without offload.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, segmentation: Segmentation::Off }
    }
}

/// The server's non-blocking UDP socket: one port, and answers leave from the address that was asked.
///
/// IPv4 peers of a socket for both families appear with plain IPv4 addresses.
#[derive(Debug)]
pub struct ServerSocket {
    fd: OwnedFd,
    local: SocketAddr,
    receiver: Receiver,
    sender: Sender,
}

impl ServerSocket {
    /// Binds the port. `[::]` falls back to `0.0.0.0` on a system without IPv6.
    ///
    /// # Errors
    /// The port is in use (the error names the process that holds it), below 1024 without permission, or the address is not this machine's.
    pub fn bind(config: &ServerConfig) -> Result<Self, OpenError> {
        let wildcard6 = config.listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match Self::bind_to(config.listen, config.segmentation) {
            Err(OpenError::NoFamily | OpenError::AddressNotAvailable { .. }) if wildcard6 => {
                let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), config.listen.port());
                Self::bind_to(v4, config.segmentation)
            }
            other => other,
        }
    }

    fn bind_to(address: SocketAddr, segmentation: Segmentation) -> Result<Self, OpenError> {
        let fd = sys::udp_socket(address)?;
        if address.is_ipv6() {
            sys::set_v6_only(&fd, !address.ip().is_unspecified())?;
        }
        sys::never_fragment(&fd, address)?;
        sys::ask_for_local_address(&fd, address)?;
        sys::set_buffers(&fd, RECEIVE_BUFFER, SEND_BUFFER)?;
        sys::bind(&fd, address).map_err(|error| match error {
            OpenError::PortInUse { address, .. } => {
                OpenError::PortInUse { address, holder: port_holder(address.port()) }
            }
            other => other,
        })?;
        sys::ask_for_times(&fd);
        let gro = segmentation == Segmentation::On && sys::enable_gro(&fd);
        let local = sys::local_addr(&fd)?;
        Ok(Self { fd, local, receiver: Receiver::new(gro), sender: Sender::new(segmentation) })
    }

    /// The address and port that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// As [`LinkSocket::recv_batch`](crate::LinkSocket::recv_batch); `local` of each datagram is the address that was asked.
    ///
    /// # Errors
    /// What the kernel says of the socket itself. The socket stays usable.
    pub fn recv_batch<M>(
        &mut self,
        out: &mut Batch<M>,
        make_meta: impl FnMut(Datagram, Duration) -> M,
    ) -> io::Result<usize> {
        self.receiver.recv(&self.fd, out, make_meta)
    }

    /// As [`LinkSocket::send_batch`](crate::LinkSocket::send_batch); a datagram's `local` becomes its source address.
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

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
