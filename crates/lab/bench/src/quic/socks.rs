//! A QUIC endpoint's socket whose datagrams go through a SOCKS5 proxy (RFC 1928, section 7).

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::ReadBuf;

/// What stands before each datagram's payload: reserved, no fragment, IPv4, address, port.
const HEAD: usize = 10;
const LARGEST: usize = 2048;

/// The right to send datagrams through a proxy, which ends with this connection to it.
#[derive(Debug)]
pub(super) struct Association {
    _held: TcpStream,
    relay: SocketAddr,
}

impl Association {
    /// Asks for one.
    pub(super) fn open(proxy: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(proxy)?;
        let mut reply = [0; HEAD];
        stream.write_all(&[5, 1, 0])?;
        stream.read_exact(&mut reply[..2])?;
        stream.write_all(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0])?;
        stream.read_exact(&mut reply)?;
        let relay = address_in(&reply).filter(|_| reply[1] == 0);
        let relay = relay.ok_or_else(|| io::Error::other(format!("refused: {reply:?}")))?;
        Ok(Self { _held: stream, relay })
    }

    /// A socket that sends by it.
    pub(super) fn wrap(self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Arc::new(Socket { socket, association: self }))
    }
}

/// The IPv4 address and port at the end of a head, which has the same form in replies and datagrams.
fn address_in(head: &[u8]) -> Option<SocketAddr> {
    let bytes = head.get(3..HEAD).filter(|bytes| bytes[0] == 1)?;
    let ip = Ipv4Addr::new(bytes[1], bytes[2], bytes[3], bytes[4]);
    Some(SocketAddr::from((ip, u16::from_be_bytes([bytes[5], bytes[6]]))))
}

#[derive(Debug)]
struct Socket {
    socket: tokio::net::UdpSocket,
    association: Association,
}

#[derive(Debug)]
struct Writable(Arc<Socket>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.poll_send_ready(cx)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let IpAddr::V4(ip) = transmit.destination.ip() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut datagram = vec![0, 0, 0, 1];
        datagram.extend(ip.octets());
        datagram.extend(transmit.destination.port().to_be_bytes());
        datagram.extend(transmit.contents);
        self.socket.try_send_to(&datagram, self.association.relay).map(drop)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(into), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        loop {
            let mut bytes = [0; LARGEST];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(self.socket.poll_recv_from(cx, &mut buffer))?;
            let datagram = buffer.filled();
            let Some(from) = address_in(datagram) else { continue };
            let payload = &datagram[HEAD..];
            let Some(place) = into.get_mut(..payload.len()) else { continue };
            place.copy_from_slice(payload);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, payload.len(), payload.len());
            return Poll::Ready(Ok(1));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
