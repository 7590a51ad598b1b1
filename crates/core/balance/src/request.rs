//! What is asked about a socket, and what is answered.

use core::fmt;
use core::net::SocketAddr;
use core::ops::RangeInclusive;
use core::time::Duration;

use bondwire_units::LinkId;

/// The two kinds of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams; a flow is what goes to one remote address and port.
    Udp,
}

/// Whether `port` is in `ports`.
pub(crate) fn is_port_in(ports: &RangeInclusive<u16>, port: u16) -> bool {
    ports.contains(&port)
}

/// A socket that wants a link.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The transport.
    pub transport: Transport,
    /// The remote end. With a name whose address is not known yet: the unspecified address and the port.
    pub remote: SocketAddr,
    /// The host name, if the application gave one. Any case; a dot at its end does not matter.
    pub name: Option<&'a str>,
    /// The process's name.
    pub process: Option<&'a str>,
    /// The process's user.
    pub uid: Option<u32>,
    /// Whether the flow is known to be small and to wait for answers (DSCP EF, the caller's knowledge).
    pub interactive: bool,
}

impl<'a> Request<'a> {
    /// A request with nothing known but the remote end.
    pub const fn new(transport: Transport, remote: SocketAddr) -> Self {
        Self { transport, remote, name: None, process: None, uid: None, interactive: false }
    }

    /// The same, with a host name.
    #[must_use]
    pub const fn with_name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    /// The same, with a process.
    #[must_use]
    pub const fn with_process(mut self, process: &'a str) -> Self {
        self.process = Some(process);
        self
    }
}

/// The number of a socket in the table. Never reused while the balancer lives (a slot and its generation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

impl SocketId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    pub(crate) const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The number, for logs and maps.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.0)
    }
}

/// Where a socket goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its number in the table.
    pub socket: SocketId,
    /// Its link; none: bypass, the machine's own routes.
    pub link: Option<LinkId>,
    /// Why this one.
    pub reason: Reason,
    /// How long this link's connect may stay unanswered before [`crate::Balancer::next_link`] is asked.
    pub patience: Duration,
}

/// Why a link was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A rule names it.
    Rule,
    /// The site has been on it within the sticky time.
    Sticky,
    /// It has the least delay.
    Delay,
    /// It has the most room for one more.
    Load,
    /// The links before it in priority are full.
    SpillOver,
    /// The links before it in priority, or the one that a rule names, do not work.
    Fallback,
    /// No link is known to work: this one may.
    LastHope,
    /// The link before did not answer in time: a race.
    Race,
    /// The kernel had chosen.
    Adopted,
}

/// Why there is no link for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No link that may be used.
    #[error("no link may be used: none is there, or all have the priority `never`; see `bondwire links`")]
    NoLink,
    /// A strict rule names a link that does not work.
    #[error("a rule sends this socket to one link only, which does not work now; see `bondwire links`")]
    RuleLinkDown,
}

/// Why a connect did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nothing came back: speaks against link and site.
    NoAnswer,
    /// A router said that it is not reachable (EHOSTUNREACH, ENETUNREACH): speaks against the link, weakly.
    Unreachable,
    /// The remote end said no (ECONNREFUSED): speaks for the link.
    Refused,
    /// The interface cannot be used (ENODEV, ENETDOWN, EADDRNOTAVAIL): speaks against the link, strongly.
    Local,
    /// Nothing was sent, for want of files, memory or permission on this machine: says nothing about any link.
    NotSent,
    /// The link has no address of the remote end's family; says nothing about the link. A probe target that
    /// fails so is not counted over it any more.
    NoAddress,
    /// Another link won the race; says nothing by itself.
    LostRace,
}

/// The life of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// TCP: it is in the table.
    Created,
    /// TCP: it has a link.
    Bound,
    /// TCP: a connect is under way.
    Connecting,
    /// TCP: connected, nothing transferred.
    Established,
    /// TCP: bytes have passed.
    Transferring,
    /// TCP: one end has said that it is done.
    Closing,
    /// TCP: over. It leaves the table; nobody sees it there.
    Closed,
    /// UDP: something passed within 30 s.
    Active,
    /// UDP: nothing did. After 180 s it leaves the table, unless [`crate::Balancer::handle_alive`] says that its socket is open.
    Idle,
}

/// Figures of TCP sockets of one link, as the kernel has them (TCP_INFO), since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSample {
    /// A round-trip time, under the load of the moment.
    pub rtt: Option<Duration>,
    /// Segments sent since the last sample.
    pub sent: u64,
    /// Segments sent again since the last sample.
    pub retransmitted: u64,
    /// How many sockets have sent data that nobody acknowledges, for more than one retransmission timeout.
    pub stalled: u32,
    /// How many sockets had something acknowledged, or data received, since the last sample.
    pub progressing: u32,
}
