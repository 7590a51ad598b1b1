//! What the kernel tells of the sockets that it led.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::layout::RawEvent;
use crate::plan::{Protocol, Slot};

/// Why a socket got its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was the link's turn, by weight.
    Weight,
    /// The destination sticks to the link.
    Sticky,
    /// A rule says so.
    Rule,
    /// Its link is dead, and this one stands in for it.
    Fallback,
}

/// A socket that was given a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedSocket {
    /// The kernel's number of the socket (`SO_COOKIE`), by which `sock_diag` knows it too.
    pub cookie: u64,
    /// The process, as the machine's first PID namespace numbers it.
    pub pid: u32,
    /// The user, as the first user namespace numbers it.
    pub uid: u32,
    /// The thread's name, 15 bytes at most.
    pub command: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it goes.
    pub remote: SocketAddr,
    /// The link that it was given.
    pub slot: Slot,
    /// Why.
    pub reason: Reason,
}

/// What happened to a socket. Each event says when, in time since the machine's start (`CLOCK_MONOTONIC`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It connects, or sends for the first time.
    Opened {
        /// When.
        at: Duration,
        /// The socket.
        socket: CapturedSocket,
    },
    /// A UDP socket that does not connect was given another link.
    Moved {
        /// When.
        at: Duration,
        /// The socket, with its new link.
        socket: CapturedSocket,
    },
    /// A TCP connection stands.
    Connected {
        /// When.
        at: Duration,
        /// The socket.
        cookie: u64,
        /// The link of its mark.
        slot: Slot,
        /// Its own address.
        local: SocketAddr,
        /// The other end.
        remote: SocketAddr,
        /// The round trip of the handshake; zero where an answer to a repeated SYN tells nothing.
        rtt: Duration,
    },
    /// A TCP socket waited in vain for an answer, and sends again.
    TimedOut {
        /// When.
        at: Duration,
        /// The socket.
        cookie: u64,
        /// The link of its mark.
        slot: Slot,
        /// The other end.
        remote: SocketAddr,
        /// How often it has sent the same before.
        repeats: u32,
        /// It is a connect that is not answered.
        connecting: bool,
    },
    /// A UDP socket that does not connect goes on sending; told every four seconds at most.
    Active {
        /// When.
        at: Duration,
        /// The socket.
        cookie: u64,
    },
    /// It is closed.
    Closed {
        /// When.
        at: Duration,
        /// The socket.
        cookie: u64,
        /// Its link.
        slot: Slot,
        /// TCP or UDP.
        protocol: Protocol,
        /// What the other end acknowledged, in bytes; of TCP only.
        bytes_up: u64,
        /// What it received, in bytes; of TCP only.
        bytes_down: u64,
        /// How many segments it sent again.
        retransmits: u32,
        /// It never got an answer to its connect.
        connecting: bool,
    },
}

const SYN_SENT: u32 = 2;

impl Event {
    /// Reads one from the ring buffer; none if it is of a kind that this version does not know.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < RawEvent::SIZE {
            return None;
        }
        let raw = RawEvent(bytes);
        let at = Duration::from_nanos(raw.u64(8));
        let cookie = raw.u64(0);
        let slot = raw.u8(88);
        let protocol = if raw.u8(91) == Protocol::Udp.number() { Protocol::Udp } else { Protocol::Tcp };
        let address = |place: usize, port: usize| {
            let ip = IpAddr::V6(Ipv6Addr::from(raw.address(place))).to_canonical();
            SocketAddr::new(ip, raw.u16(port))
        };
        let (local, remote) = (address(52, 84), address(68, 86));
        let (a, b) = (raw.u32(44), raw.u32(48));
        let socket = || {
            let name = bytes.get(92..108).unwrap_or_default();
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            CapturedSocket {
                cookie,
                pid: raw.u32(36),
                uid: raw.u32(40),
                command: String::from_utf8_lossy(&name[..end]).into_owned(),
                protocol,
                remote,
                slot,
                reason: match raw.u8(89) {
                    2 => Reason::Sticky,
                    3 => Reason::Rule,
                    4 => Reason::Fallback,
                    _ => Reason::Weight,
                },
            }
        };
        match raw.u32(32) {
            1 => Some(Self::Opened { at, socket: socket() }),
            2 => Some(Self::Moved { at, socket: socket() }),
            3 => Some(Self::Connected {
                at,
                cookie,
                slot,
                local,
                remote,
                rtt: Duration::from_micros(u64::from(a)),
            }),
            4 => Some(Self::TimedOut { at, cookie, slot, remote, repeats: a, connecting: b == SYN_SENT }),
            5 => Some(Self::Closed {
                at,
                cookie,
                slot,
                protocol,
                bytes_up: raw.u64(16),
                bytes_down: raw.u64(24),
                retransmits: a,
                connecting: protocol == Protocol::Tcp && b == SYN_SENT,
            }),
            6 => Some(Self::Active { at, cookie }),
            _ => None,
        }
    }
}
