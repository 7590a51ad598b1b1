//! One socket, from `struct inet_diag_msg` and its attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::figures::TcpFigures;

/// `AF_INET` and `AF_INET6`.
pub(crate) const V4: u8 = libc::AF_INET as u8;
pub(crate) const V6: u8 = libc::AF_INET6 as u8;

/// `struct inet_diag_msg`, without attributes.
const FIXED: usize = 72;
/// `INET_DIAG_INFO`.
const ATTRIBUTE_INFO: u16 = 2;
/// What is asked for besides the socket itself, one bit each: `TCP_INFO`.
pub(crate) const EXTENSIONS: u8 = 1 << (ATTRIBUTE_INFO - 1);
/// `INET_DIAG_MARK`.
const ATTRIBUTE_MARK: u16 = 15;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// A socket's stage, as TCP counts them (RFC 9293, section 3.3.2). A UDP socket is `Established` when it is connected, else `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Open in both directions.
    Established = 1,
    /// Connecting; no answer yet.
    SynSent,
    /// Being accepted.
    SynReceived,
    /// Closed by this side; the other side has not said anything to it.
    FinWait1,
    /// Closed by this side, and the other side knows.
    FinWait2,
    /// Closed; it lingers for late segments.
    TimeWait,
    /// Not connected.
    Close,
    /// Closed by the other side.
    CloseWait,
    /// Closed by both; the last acknowledgement is awaited.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Closed by both at the same time.
    Closing,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
    ];

    /// Those in which a TCP socket has another side that it speaks to, or tries to.
    pub const ALIVE: [Self; 8] = [
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Closing,
    ];

    fn of(number: u8) -> Option<Self> {
        // The kernel tells a connection that is being accepted apart by a number of its own (TCP_NEW_SYN_RECV).
        let number = if number == 12 { Self::SynReceived as u8 } else { number };
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }

    pub(crate) fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// What names a socket to the kernel: its addresses, the interface that it is bound to, its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    family: u8,
    local: (u16, [u8; 16]),
    remote: (u16, [u8; 16]),
    device: u32,
    cookie: u64,
}

impl SocketKey {
    pub(crate) fn family(&self) -> u8 {
        self.family
    }

    /// `struct inet_diag_sockid`.
    pub(crate) fn encode(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[0..2].copy_from_slice(&self.local.0.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.remote.0.to_be_bytes());
        bytes[4..20].copy_from_slice(&self.local.1);
        bytes[20..36].copy_from_slice(&self.remote.1);
        bytes[36..40].copy_from_slice(&self.device.to_ne_bytes());
        // Two words, the lower one first.
        bytes[40..44].copy_from_slice(&(self.cookie as u32).to_ne_bytes());
        bytes[44..48].copy_from_slice(&((self.cookie >> 32) as u32).to_ne_bytes());
        bytes
    }

    fn decode(family: u8, bytes: &[u8; 48]) -> Self {
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let address = |at: usize| {
            let mut address = [0; 16];
            address.copy_from_slice(&bytes[at..at + 16]);
            address
        };
        let cookie = u64::from(word(bytes, 40)) | u64::from(word(bytes, 44)) << 32;
        Self {
            family,
            local: (port(0), address(4)),
            remote: (port(2), address(20)),
            device: word(bytes, 36),
            cookie,
        }
    }

    fn address(&self, (port, bytes): (u16, [u8; 16])) -> SocketAddr {
        let ip = if self.family == V4 {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        } else {
            // A socket of both families may speak IPv4.
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        };
        SocketAddr::new(ip, port)
    }
}

/// A socket as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its stage.
    pub state: State,
    /// Its own end. IPv4 addresses within IPv6 sockets are shown as IPv4.
    pub local: SocketAddr,
    /// The other end; unspecified for one that is not connected.
    pub remote: SocketAddr,
    /// The index of the interface that it is bound to; 0: none.
    pub device: u32,
    /// The kernel's number for it, the same that eBPF programs see.
    pub cookie: u64,
    /// Its inode; 0 once no process has it any more.
    pub inode: u64,
    /// The user who made it.
    pub uid: u32,
    /// Its mark; none without the right to see it.
    pub mark: Option<u32>,
    /// Received and not read yet, in bytes.
    pub receive_queue: u32,
    /// Sent and not acknowledged yet, in bytes (TCP); not sent yet (UDP).
    pub send_queue: u32,
    /// What the kernel has measured; TCP only.
    pub tcp: Option<TcpFigures>,
    /// What names it to the kernel.
    pub key: SocketKey,
}

impl Socket {
    /// Reads one message's body; none if it is too short or makes no sense.
    pub(crate) fn decode(protocol: Protocol, body: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = body.first_chunk()?;
        let family = fixed[0];
        if family != V4 && family != V6 {
            return None;
        }
        let state = State::of(fixed[1])?;
        let key = SocketKey::decode(family, fixed[4..52].first_chunk()?);
        let mut socket = Self {
            protocol,
            state,
            local: key.address(key.local),
            remote: key.address(key.remote),
            device: key.device,
            cookie: key.cookie,
            inode: word(fixed, 68).into(),
            uid: word(fixed, 64),
            mark: None,
            receive_queue: word(fixed, 56),
            send_queue: word(fixed, 60),
            tcp: None,
            key,
        };
        for (kind, value) in attributes(&body[FIXED..]) {
            match kind {
                ATTRIBUTE_MARK => socket.mark = value.first_chunk().copied().map(u32::from_ne_bytes),
                ATTRIBUTE_INFO if protocol == Protocol::Tcp => socket.tcp = TcpFigures::decode(value),
                _ => {}
            }
        }
        Some(socket)
    }
}

/// A word of the kernel's at `at`, which lies within `bytes`.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
}

/// Attributes, as far as they are whole.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head: &[u8; 4] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
