//! What crosses the border of this crate: routes, status, events.

use crate::ingress::IngressCounters;
use crate::order::OrderCounters;
use crate::realtime::{StreamChange, StreamStatus};
use bondwire_packet::Batch;
use bondwire_path::PathState;
use bondwire_units::{Bitrate, ByteCount, LinkId, PathId};
use bondwire_wire::{LinkPriority, Mode, RejectReason};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

/// Where a datagram came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The link whose socket it is. A server has one socket, and uses `LinkId(0)`.
    pub link: LinkId,
    /// The local address that was asked, and that has to answer (`IP_PKTINFO`). A client leaves it to its socket.
    pub local: Option<IpAddr>,
    /// The peer.
    pub remote: SocketAddr,
}

/// Datagrams to be sent, each with where it goes to.
pub type DatagramBatch = Batch<Route>;

/// How a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where it came from.
    pub route: Route,
    /// How long it lay in the socket until it was read: a thread that was away for ten milliseconds must not take that for the link's delay, nor
    /// what it then reads at once for the link's rate. Zero where nobody knows.
    pub waited: Duration,
}

impl From<Route> for Arrival {
    /// One that was read when it came.
    fn from(route: Route) -> Self {
        Self { route, waited: Duration::ZERO }
    }
}

/// Datagrams that arrived.
pub type ArrivalBatch = Batch<Arrival>;

/// A link that can be used: it has an address, and a socket is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkUp {
    /// Its identifier.
    pub id: LinkId,
    /// The greatest IP packet that it takes, in bytes.
    pub mtu: u16,
    /// It has an IPv4 address.
    pub v4: bool,
    /// It has an IPv6 address.
    pub v6: bool,
}

/// What the user wants of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkRules {
    /// When it is used.
    pub priority: LinkPriority,
    /// The most that the client sends there, outer IP bytes counted; none: no limit.
    pub limit_up: Option<Bitrate>,
    /// The most that the server sends there, counted in the same way.
    pub limit_down: Option<Bitrate>,
}

/// One path as its end sees it.
#[derive(Clone, Debug)]
pub struct PathStatus {
    /// The path.
    pub id: PathId,
    /// The client's link; `LinkId(0)` at the server.
    pub link: LinkId,
    /// The peer's address on it.
    pub remote: SocketAddr,
    /// Its state in the sending direction.
    pub state: PathState,
    /// Kept out of use although it is alive: it loses so much that it would slow the others down.
    pub demoted: bool,
    /// Kept out of use by its priority, although it is alive.
    pub standby: bool,
    /// When it is used.
    pub priority: LinkPriority,
    /// Smoothed round-trip time over the path itself.
    pub rtt: Option<Duration>,
    /// Smoothed variation of the round-trip time.
    pub rtt_variation: Duration,
    /// Loss in the sending direction, 0 to 1.
    pub loss: f64,
    /// Packets sent in all, whatever they carried.
    pub packets_tx: u64,
    /// Those of them that were taken for lost and arrived after all: what was repeated of them was repeated needlessly. What a dying
    /// path gives up to the others does not count.
    pub spurious: u64,
    /// Estimated capacity in the sending direction.
    pub capacity_tx: Bitrate,
    /// Highest rate received within the last ten seconds.
    pub capacity_rx: Bitrate,
    /// Sending rate over the last second.
    pub tx: Bitrate,
    /// Receiving rate over the last second.
    pub rx: Bitrate,
    /// Sent in all, with the outer headers.
    pub bytes_tx: ByteCount,
    /// Received in all, with the outer headers.
    pub bytes_rx: ByteCount,
    /// Sent and not yet acknowledged.
    pub in_flight: ByteCount,
    /// The greatest UDP payload in use.
    pub mtu: u16,
}

/// Why an arriving datagram or an inner packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Too short, of an unknown type, or not decodable.
    Malformed,
    /// For a session that does not exist.
    UnknownSession,
    /// Does not open under the session's keys.
    NotAuthentic,
    /// Seen before, or too old to tell.
    Replayed,
    /// On a path that does not exist, or is closed.
    UnknownPath,
    /// An Initiation with a wrong MAC.
    BadMac,
    /// An inner packet that cannot be read.
    BadInnerPacket,
    /// An inner packet whose source is not its sender's.
    ForeignSource,
    /// An inner packet that is not for this end, or for nobody that is connected.
    ForeignDestination,
    /// An inner packet while no session was there to carry it.
    NoSession,
    /// A handshake that was refused.
    Refused,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownSession,
        Self::NotAuthentic,
        Self::Replayed,
        Self::UnknownPath,
        Self::BadMac,
        Self::BadInnerPacket,
        Self::ForeignSource,
        Self::ForeignDestination,
        Self::NoSession,
        Self::Refused,
    ];

    /// A name for counters: lower case with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSession => "unknown_session",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::UnknownPath => "unknown_path",
            Self::BadMac => "bad_mac",
            Self::BadInnerPacket => "bad_inner_packet",
            Self::ForeignSource => "foreign_source",
            Self::ForeignDestination => "foreign_destination",
            Self::NoSession => "no_session",
            Self::Refused => "refused",
        }
    }
}

/// How often packets were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// How many were dropped for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Those that happened, with their reasons.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, count)| *count > 0)
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// Totals of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The queue in front of the bond.
    pub ingress: IngressCounters,
    /// The receiving end.
    pub order: OrderCounters,
    /// Inner packets given to a path for the first time.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Inner packets sent again after a loss.
    pub repaired: u64,
    /// Inner packets sent again since their path turned suspect.
    pub rescued: u64,
    /// Copies sent in mode `redundant`.
    pub copies: u64,
    /// Parities sent.
    pub parities: u64,
    /// Packets that were lost and found from parities.
    pub recovered: u64,
    /// Inner packets of ordered flows that were given up on.
    pub given_up: u64,
    /// Inner packets that fell out of reassembly.
    pub reassembly_dropped: u64,
    /// Bytes kept for repair at present.
    pub kept_bytes: u64,
    /// Bytes held at present: for order, and acknowledgements that came early.
    pub held_bytes: u64,
    /// Bytes that wait in the ingress queue at present.
    pub queued_bytes: u64,
    /// Bytes that parities, and marks of what entered the bond, take at present.
    pub parity_bytes: u64,
    /// Dropped packets by reason.
    pub drops: DropCounters,
}

/// How a client's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// A handshake is under way.
    Connecting,
    /// A session carries packets.
    Connected,
    /// The server refused; nothing more is tried.
    Refused,
    /// Another client has taken the session over with the same key; nothing more is tried.
    Replaced,
    /// Closed on request.
    Closed,
}

impl fmt::Display for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::Closed => "closed",
        })
    }
}

/// A client at one moment.
#[derive(Clone, Debug)]
pub struct ClientStatus {
    /// How the connection stands.
    pub state: ClientState,
    /// The mode in use.
    pub mode: Mode,
    /// The server's address on the first path.
    pub server: Option<SocketAddr>,
    /// The paths.
    pub paths: Vec<PathStatus>,
    /// Inner flows that sent within the last ten seconds.
    pub flows: usize,
    /// Real-time flows that were alive within the last ten seconds.
    pub streams: Vec<StreamStatus>,
    /// Totals.
    pub counters: Counters,
    /// What the server gave.
    pub parameters: Option<Parameters>,
    /// Links on which handshakes were sent since the last session, and whether anything came back.
    pub attempts: Vec<LinkAttempt>,
}

/// What was tried over a link while connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAttempt {
    /// The link.
    pub link: LinkId,
    /// Initiations sent.
    pub sent: u32,
    /// The server answered over it.
    pub answered: bool,
}

/// What the server tells the client at the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The client's inner IPv4 address and the length of its network's prefix.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// The server's inner IPv4 address.
    pub server_v4: Option<Ipv4Addr>,
    /// The client's inner IPv6 address and the length of its network's prefix.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// The server's inner IPv6 address.
    pub server_v6: Option<Ipv6Addr>,
    /// The greatest inner packet.
    pub mtu: u16,
    /// The name under which the server knows the client.
    pub name: String,
    /// The name of the cipher.
    pub cipher: &'static str,
}

/// What a client has to tell.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    /// This timestamp is about to be used: it has to be persisted before anything is sent (docs/protocol.md, HS-5).
    TimestampUsed(u64),
    /// A session carries packets from now on.
    Established(Parameters),
    /// The session is gone; a new one is being sought.
    Lost {
        /// Why.
        why: &'static str,
    },
    /// The server refuses this client; nothing more is tried.
    Refused {
        /// Why.
        reason: RejectReason,
        /// The server's words.
        text: String,
    },
    /// Another client uses the same key; nothing more is tried.
    Replaced,
    /// The server speaks other versions of the protocol. A hint: it is not authenticated.
    VersionMismatch(Vec<u8>),
    /// A path changed its state.
    PathState(PathChange),
    /// A flow became real-time, or is none any more.
    Stream(StreamChange),
}

/// A change of a path's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// The path.
    pub path: PathId,
    /// Its link.
    pub link: LinkId,
    /// Before.
    pub from: PathState,
    /// After.
    pub to: PathState,
}

/// What a server has to tell.
#[derive(Clone, Debug)]
pub enum ServerEvent {
    /// An invite was used for the first time: its key is pinned from now on, and has to be persisted.
    ClientPinned {
        /// The invite.
        invite_id: [u8; 8],
        /// The client's public key.
        key: bondwire_crypto::PublicKey,
    },
    /// The largest timestamp of a client, to be persisted.
    TimestampSeen {
        /// The client's invite.
        invite_id: [u8; 8],
        /// Microseconds.
        timestamp: u64,
    },
    /// A client's session carries packets.
    Connected {
        /// The client's name.
        name: String,
        /// From where.
        remote: SocketAddr,
    },
    /// A client's session ended.
    Disconnected {
        /// The client's name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A handshake was refused.
    Refused {
        /// From where.
        remote: SocketAddr,
        /// The name of the client, where it is known.
        name: Option<String>,
        /// Why.
        reason: RejectReason,
    },
    /// A flow of a client became real-time, or is none any more.
    Stream {
        /// The client's name.
        name: String,
        /// The change.
        change: StreamChange,
    },
    /// A path of a client changed its state.
    PathState {
        /// The client's name.
        name: String,
        /// The change.
        change: PathChange,
    },
}

/// A client as the server knows it.
#[derive(Clone, Debug)]
pub struct ClientRecord {
    /// Its name.
    pub name: String,
    /// Its key, once its invite has been used.
    pub public_key: Option<bondwire_crypto::PublicKey>,
    /// Its invite.
    pub invite_id: [u8; 8],
    /// The invite's secret.
    pub psk: bondwire_crypto::Psk,
    /// When the unused invite ends, Unix seconds.
    pub invite_expires: u64,
    /// Its inner IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its inner IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The largest timestamp seen, microseconds.
    pub last_timestamp: u64,
    /// No longer welcome.
    pub revoked: bool,
}

/// One client of a server at one moment.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// The client's name.
    pub name: String,
    /// The mode in use.
    pub mode: Mode,
    /// Since when, as seconds that the session has lasted.
    pub age: Duration,
    /// Its inner IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its inner IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its paths.
    pub paths: Vec<PathStatus>,
    /// Inner flows that sent within the last ten seconds.
    pub flows: usize,
    /// Real-time flows that were alive within the last ten seconds.
    pub streams: Vec<StreamStatus>,
    /// Totals.
    pub counters: Counters,
}

/// A server at one moment.
#[derive(Clone, Debug, Default)]
pub struct ServerStatus {
    /// The sessions.
    pub sessions: Vec<SessionStatus>,
    /// Packets dropped outside any session.
    pub drops: DropCounters,
}
