use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::holder::Holder;

/// Why a socket could not be opened. The text says what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the port.
    #[error("UDP port {} is in use by {}\n  {}", .address.port(), Holder::describe(.holder), Holder::advice(.holder, .address.port()))]
    PortInUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// Who has it, when this user may see that.
        holder: Option<Holder>,
    },
    /// The interface is not there.
    #[error(
        "link `{device}` does not exist\n  it may have been unplugged or renamed: `ip link` lists the links of this machine"
    )]
    NoSuchDevice {
        /// Its name.
        device: String,
    },
    /// The address belongs to no interface of this machine, or not to this one.
    #[error(
        "address {address} is not one of this machine's\n  `ip address` lists them; a link that changed its address is opened again by itself"
    )]
    AddressNotAvailable {
        /// The address.
        address: SocketAddr,
    },
    /// The kernel refused for want of a capability.
    #[error("no permission to {what}\n  run as root, or give the program {capability}")]
    NoPermission {
        /// What was tried.
        what: String,
        /// Which capability permits it.
        capability: &'static str,
    },
    /// The kernel has no such address family.
    #[error("this system has no IPv6\n  it is switched off in the kernel: use IPv4 addresses")]
    NoFamily,
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What became of a batch that was sent.
///
/// `sent + errors.len() + blocked` is the number of datagrams in the range. A datagram that did not leave is lost like any
/// other on the way; the caller counts it and goes on.
#[derive(Debug, Default)]
pub struct SendOutcome {
    /// Datagrams that the kernel took.
    pub sent: usize,
    /// Datagrams left at the end of the range because the socket's buffer was full. They were dropped, not queued.
    pub blocked: usize,
    /// Datagrams that the kernel refused, at most one entry for each of the range.
    pub errors: Vec<SendError>,
}

/// A datagram that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Its index in the batch.
    pub index: usize,
    /// Why.
    pub kind: SendErrorKind,
}

/// Why the kernel refused a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The socket's buffer is full: the link is slower than what it was given.
    WouldBlock,
    /// Larger than the interface's MTU.
    MessageTooLong,
    /// No route, no neighbour, or the interface is down.
    Unreachable,
    /// The socket's source address left the interface.
    AddressGone,
    /// A local firewall rule dropped it.
    Firewall,
    /// Anything else, by its `errno`.
    Other(i32),
}

impl SendErrorKind {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            // A full device queue says ENOBUFS where a full socket says EAGAIN.
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Self::WouldBlock,
            libc::EMSGSIZE => Self::MessageTooLong,
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV
            | libc::ENXIO => Self::Unreachable,
            libc::EADDRNOTAVAIL | libc::EINVAL => Self::AddressGone,
            libc::EPERM | libc::EACCES => Self::Firewall,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("send buffer full"),
            Self::MessageTooLong => f.write_str("larger than the link's MTU"),
            Self::Unreachable => f.write_str("no route, or the link is down"),
            Self::AddressGone => f.write_str("the link lost its address"),
            Self::Firewall => f.write_str("a local firewall rule drops it"),
            Self::Other(errno) => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
        }
    }
}
