//! Two socket options that no library wraps.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::error::CaptureError;

/// `SO_NETNS_COOKIE`, since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The number of the socket's network namespace, which no other has until the machine starts again.
pub(crate) fn namespace_cookie(socket: &UdpSocket) -> Result<u64, CaptureError> {
    number(socket, SO_NETNS_COOKIE)
        .map_err(|source| CaptureError::Socket { what: "ask for the network namespace's cookie", source })
}

/// The number of the socket.
pub(crate) fn cookie(socket: &UdpSocket) -> Result<u64, CaptureError> {
    number(socket, libc::SO_COOKIE)
        .map_err(|source| CaptureError::Socket { what: "ask for a socket's cookie", source })
}

#[allow(unsafe_code, reason = "getsockopt")]
fn number(socket: &UdpSocket, option: libc::c_int) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
