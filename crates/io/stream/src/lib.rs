//! Options of TCP sockets that no safe library has.
//!
//! One so far: [`defer_accept`]. It is for servers whose clients always speak first.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Lets a listening socket give clients out only when they have sent something (`TCP_DEFER_ACCEPT`, tcp(7)).
///
/// Accept and first read become one wake-up instead of two. A client that stays silent is given out anyway once the
/// handshake was repeated, after `seconds` rounded up to a retransmission (1 s at least).
///
/// # Errors
/// When the socket is no TCP socket.
pub fn defer_accept(listener: impl AsFd, seconds: u16) -> io::Result<()> {
    let value = libc::c_int::from(seconds);
    // SAFETY: the descriptor is open while `listener` is borrowed, and the pointer and length are those of an int that lives
    // until the call returns; the kernel only reads it.
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_client_is_given_out_with_what_it_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        defer_accept(&listener, 1).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"x").unwrap();
        assert_eq!(listener.accept().unwrap().0.peek(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn other_sockets_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(defer_accept(&socket, 1).is_err());
    }
}
