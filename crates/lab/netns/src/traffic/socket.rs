use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bondwire_units::Timestamp;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::clock;
use crate::error::TrafficError;

/// How long a blocking call blocks before its thread looks whether it should end.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A socket of the calling thread's namespace, bound to an interface if one is given.
pub(super) fn open(
    address: SocketAddr,
    protocol: Protocol,
    interface: Option<&str>,
) -> Result<Socket, TrafficError> {
    let kind = if protocol == Protocol::UDP { Type::DGRAM } else { Type::STREAM };
    let what = if protocol == Protocol::MPTCP {
        "open an MPTCP socket; the kernel needs CONFIG_MPTCP and net.mptcp.enabled = 1"
    } else {
        "open a socket"
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))
        .map_err(TrafficError::socket(what))?;
    if let Some(interface) = interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(TrafficError::socket(format!("bind a socket to {interface}")))?;
    }
    Ok(socket)
}

/// As [`open`], for TCP, or Multipath TCP (RFC 8684), with a choice of congestion control.
pub(super) fn open_stream(
    address: SocketAddr,
    multipath: bool,
    interface: Option<&str>,
    congestion: Option<&str>,
) -> Result<Socket, TrafficError> {
    let protocol = if multipath { Protocol::MPTCP } else { Protocol::TCP };
    let socket = open(address, protocol, interface)?;
    if let Some(congestion) = congestion {
        set_congestion(&socket, congestion)?;
    }
    Ok(socket)
}

pub(super) fn set_congestion(socket: &Socket, name: &str) -> Result<(), TrafficError> {
    socket.set_tcp_congestion(name.as_bytes()).map_err(TrafficError::socket(format!(
        "use the congestion control {name}; is the kernel's module loaded?"
    )))
}

/// Connects within `limit`.
pub(super) fn connect(socket: &Socket, to: SocketAddr, limit: Duration) -> Result<(), TrafficError> {
    socket.connect_timeout(&SockAddr::from(to), limit).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => TrafficError::NoAnswer { to, seconds: limit.as_secs_f64() },
        _ => TrafficError::Socket { what: format!("connect to {to}"), source: error },
    })
}

/// Whether an error only says that the time to look around has come.
pub(super) fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Has the kernel note when each packet arrives, for [`receive_stamped`].
pub(super) fn stamp_arrivals(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReceiveTimestampns, &true)?)
}

/// Receives a packet: its length, and when it reached this machine, however late its reader is.
pub(super) fn receive_stamped(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<(usize, Timestamp)> {
    let mut control = cmsg_space!(TimeSpec);
    let mut pieces = [IoSliceMut::new(packet)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let stamp = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    });
    let now = clock::now();
    let arrived = stamp.map_or(now, |time| {
        let real = time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
        Timestamp::from_nanos(real.saturating_sub(clock::realtime_offset())).min(now)
    });
    Ok((received.bytes, arrived))
}
