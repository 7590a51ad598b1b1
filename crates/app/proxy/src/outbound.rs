//! Sockets that leave by one link.
//!
//! A socket is tied by up to three means, whatever its [`Route`] states: the interface, which alone suffices where the
//! interface has a default route, whatever its metric; the mark, for the link's own routing table; the source address, which also
//! picks the way where rules route by source. The source address takes no port at bind time (`IP_BIND_ADDRESS_NO_PORT`):
//! the port is chosen at connect time, unique only together with the remote, so that sockets in TIME_WAIT do not use ports up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::director::{Failure, Route};

/// A connection to the remote by this route.
///
/// # Errors
/// What the kernel says, about the socket or about the connect.
pub(crate) async fn connect(route: &Route, remote: SocketAddr) -> Result<TcpStream, Error> {
    if !route.carries(remote.ip()) {
        return Err(Error::Family);
    }
    let socket = tied(route, remote.ip(), Type::STREAM, Protocol::TCP).map_err(Error::Local)?;
    socket.set_tcp_nodelay(true).map_err(Error::Local)?;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(remote).await.map_err(Error::Remote)?;
    Ok(stream)
}

/// A socket for datagrams to anywhere of this family, by this route.
///
/// # Errors
/// When it cannot be tied to the link: [`io::ErrorKind::Unsupported`] if the link does not carry this family.
pub(crate) fn datagrams(route: &Route, ipv4: bool) -> io::Result<UdpSocket> {
    let any: IpAddr = if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    if !route.carries(any) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = tied(route, any, Type::DGRAM, Protocol::UDP)?;
    if route.source(any).is_none() {
        socket.bind(&SocketAddr::new(any, 0).into())?;
    }
    UdpSocket::from_std(socket.into())
}

fn tied(route: &Route, remote: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(remote, 0)), kind.nonblocking(), Some(protocol))?;
    if let Some(mark) = route.mark {
        socket.set_mark(mark)?;
    }
    if let Some(interface) = &route.interface {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        // Before Linux 5.7 this needs privilege; a mark or a source address that rules route by does the same.
        if let Err(error) = bound
            && (error.kind() != io::ErrorKind::PermissionDenied
                || (route.mark.is_none() && route.source(remote).is_none()))
        {
            return Err(error);
        }
    }
    if let Some(source) = route.source(remote) {
        if kind == Type::STREAM {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        }
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// How a connect failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The link does not carry the remote's address family.
    Family,
    /// The socket could not be made or tied to its link.
    Local(io::Error),
    /// The remote or the network said no.
    Remote(io::Error),
}

impl Error {
    /// What to tell the director. What this process lacks (files, memory, ports, permission) is no link's fault.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Family => Failure::Overtaken,
            Self::Local(error) => link_failure(error).unwrap_or(Failure::Overtaken),
            Self::Remote(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Failure::Refused,
                io::ErrorKind::TimedOut => Failure::NoAnswer,
                // The source address was there a moment ago: its ports are used up.
                io::ErrorKind::AddrNotAvailable => Failure::Overtaken,
                _ => link_failure(error).unwrap_or(Failure::Overtaken),
            },
        }
    }
}

/// What an error says of the link, if anything: most speak of the socket or the datagram alone.
pub(crate) fn link_failure(error: &io::Error) -> Option<Failure> {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Some(Failure::Unreachable),
        io::ErrorKind::NetworkDown | io::ErrorKind::AddrNotAvailable => Some(Failure::Local),
        _ => matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENODEV | Errno::ENXIO))
            .then_some(Failure::Local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn local() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_connection_leaves_from_the_links_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route { source_v4: Some([127, 0, 0, 9].into()), ..Route::default() };
        let stream = local().block_on(connect(&route, listener.local_addr().unwrap())).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
        drop(stream);
    }

    #[test]
    fn a_link_without_the_family_is_no_way() {
        let route = Route { source_v4: Some([127, 0, 0, 9].into()), ..Route::default() };
        let error = local().block_on(connect(&route, "[::1]:9".parse().unwrap())).unwrap_err();
        assert_eq!(error.failure(), Failure::Overtaken);
    }

    #[test]
    fn an_interface_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route { interface: Some("lo".into()), ..Route::default() };
        let stream = local().block_on(connect(&route, listener.local_addr().unwrap())).unwrap();
        assert_eq!(socket2::SockRef::from(&stream).device().unwrap().as_deref(), Some(&b"lo"[..]));
    }

    #[test]
    fn an_interface_that_is_gone_is_a_local_fault() {
        let route = Route { interface: Some("gone0".into()), ..Route::default() };
        let error = local().block_on(connect(&route, "127.0.0.1:9".parse().unwrap())).unwrap_err();
        assert_eq!(error.failure(), Failure::Local);
    }
}
