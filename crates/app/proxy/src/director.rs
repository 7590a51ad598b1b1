//! The boundary to the policy: who decides, and what a link is.
//!
//! The proxy moves bytes; it decides nothing. For each socket it asks a [`Director`] which link the socket takes, tells it
//! how the connect went, asks for the next link when no answer comes, and reports what moved. How a socket is tied to its
//! link stands in a [`Route`], which [`Links`] looks up by the link's id at the moment when a socket is made, so links may
//! appear, vanish and change their addresses at any time.
//!
//! Life-cycle of a socket: `open` → `connecting` → (`failed` or nothing, then `next_link` → `connecting`)* → `connected` →
//! `traffic`* → `reset`? → `closed`. `closed` comes exactly once for each successful `open`, whatever happened before.
//! Calls come from several threads, briefly and per event of a socket, never per byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bondwire_units::LinkId;

/// A socket as the director numbers it. Never reused while the socket lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams to one remote.
    Udp,
}

/// A socket that wants a link.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Stream or datagrams.
    pub transport: Transport,
    /// Where to. The address is unspecified (`0.0.0.0`) when the client gave a name, which is looked up over the link.
    pub remote: SocketAddr,
    /// The name, without a final dot, if the client gave one; for DNS queries the name asked for.
    pub name: Option<&'a str>,
    /// Small and urgent, such as a DNS query.
    pub interactive: bool,
    /// The client's end of its connection to the proxy, by which its program can be found. None for DNS queries.
    pub client: Option<SocketAddr>,
}

/// The director's word on where a socket goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The socket's number from now on.
    pub socket: SocketId,
    /// The link, or `None` for a socket that leaves bondwire alone and goes where the system's routes lead.
    pub link: Option<LinkId>,
    /// How long this link's connect may take before the next link is raced.
    pub patience: Duration,
}

/// Why a socket gets no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No link that may be used.
    #[error("there is no link that may be used")]
    NoLink,
    /// A rule names one link only, which does not work.
    #[error("a rule sends this destination over one link only, which does not work now")]
    RuleLinkDown,
}

/// How an attempt over one link ended without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The remote refused. The link works.
    Refused,
    /// The network said that there is no way, over this link.
    Unreachable,
    /// The link's patience passed, or the whole time for connecting.
    NoAnswer,
    /// The link's resolvers answered that they will not, or there are none. Says nothing of the link.
    NoResolver,
    /// The socket could not be tied to the link: interface gone, address gone, not permitted.
    Local,
    /// Another link was quicker, within this one's patience; or this one does not carry the remote's address family. No fault.
    Overtaken,
}

/// All bytes that a socket has moved since it was opened. Up is towards the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Whose.
    pub socket: SocketId,
    /// Bytes sent.
    pub up: u64,
    /// Bytes received.
    pub down: u64,
}

/// The policy, as the proxy sees it. One implementation stands for the balancer; tests have others.
pub trait Director: Send + Sync {
    /// Places a new socket.
    ///
    /// # Errors
    /// When no link may carry it.
    fn open(&self, request: &Request<'_>) -> Result<Placement, Refusal>;

    /// The next link in the race of a socket that is not yet connected, or of a UDP socket that its link does not take.
    /// `None`: there is no other.
    fn next_link(&self, socket: SocketId) -> Option<Placement>;

    /// An attempt starts over this link; for a UDP flow its first datagram.
    fn connecting(&self, _socket: SocketId, _link: LinkId) {}

    /// The remote answered, `rtt` after it was asked: by the handshake of TCP; for a UDP flow by the first datagram that came back.
    fn connected(&self, socket: SocketId, link: LinkId, rtt: Duration);

    /// An attempt ended without a connection.
    fn failed(&self, socket: SocketId, link: LinkId, why: Failure);

    /// Bytes moved: twice a second for each socket that has traffic, and before it is closed.
    fn traffic(&self, moved: &[Traffic]);

    /// The remote, or the path to it, reset the connection.
    fn reset(&self, _socket: SocketId) {}

    /// One side has said that it sends no more.
    fn closing(&self, _socket: SocketId) {}

    /// A name has these addresses, as some link's resolver says.
    fn resolved(&self, _name: &str, _addresses: &[IpAddr]) {}

    /// The socket is gone.
    fn closed(&self, socket: SocketId);
}

/// How sockets are tied to a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Interface for `SO_BINDTODEVICE`, which needs no privilege on a socket that is not yet bound (Linux 5.7).
    pub interface: Option<String>,
    /// Source address of IPv4 sockets.
    pub source_v4: Option<Ipv4Addr>,
    /// Source address of IPv6 sockets.
    pub source_v6: Option<Ipv6Addr>,
    /// Mark for `SO_MARK`, which needs `CAP_NET_ADMIN`. Set it only where the daemon has that.
    pub mark: Option<u32>,
    /// The resolvers that can be asked over the link, and no others. Empty: names are looked up over other links.
    pub resolvers: Vec<SocketAddr>,
}

impl Route {
    /// Whether the link carries this address family: it has a source address of it, or states none at all.
    pub fn carries(&self, address: IpAddr) -> bool {
        match (self.source_v4, self.source_v6) {
            (None, None) => true,
            (v4, v6) => {
                if address.is_ipv4() {
                    v4.is_some()
                } else {
                    v6.is_some()
                }
            }
        }
    }

    /// Whether sockets are tied the same way: one that was made for the other is as good.
    pub(crate) fn ties_like(&self, other: &Self) -> bool {
        let ties = |route: &Self| (route.source_v4, route.source_v6, route.mark);
        ties(self) == ties(other) && self.interface == other.interface
    }

    /// The source address for this remote's family.
    pub(crate) fn source(&self, remote: IpAddr) -> Option<IpAddr> {
        if remote.is_ipv4() { self.source_v4.map(IpAddr::V4) } else { self.source_v6.map(IpAddr::V6) }
    }
}

/// The links as they are now.
pub trait Links: Send + Sync {
    /// How sockets are tied to this link, or `None` when it is gone.
    fn route(&self, link: LinkId) -> Option<Arc<Route>>;

    /// The route of sockets that no link carries: tied to nothing. Its resolvers are asked for their names; none by default.
    fn unbound(&self) -> Arc<Route> {
        Arc::default()
    }
}
