//! The few changes of interfaces, addresses, routes and neighbours that the lab makes, over route netlink.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily as Family, SocketType, socket};

use crate::error::LabError;
use crate::node::Node;

/// How long an interface may take to be ready: far more than a busy machine needs.
const READY_LIMIT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_micros(200);

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) len: u8,
}

impl Prefix {
    pub(crate) fn new(address: impl Into<IpAddr>, len: u8) -> Self {
        Self { address: address.into(), len }
    }
}

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) name: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
}

/// A route netlink socket of the namespace in which it was opened.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Node {
    /// Runs `job` on the machine with a netlink socket of its own.
    pub(crate) fn netlink<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Netlink) -> Result<T, LabError> + Send + 'static,
    ) -> Result<T, LabError> {
        self.run(move || job(&mut Netlink::open()?))
    }
}

impl Netlink {
    fn open() -> Result<Self, LabError> {
        let open = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket =
            open().map_err(|source| LabError::Netlink { what: "open a netlink socket".into(), source })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a veth pair: `here` in this namespace, `there` in `namespace`. Both are down.
    pub(crate) fn add_veth(
        &mut self,
        here: &End,
        there: &End,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), LabError> {
        let mut peer = end_message(there);
        peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        let mut message = end_message(here);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let what = || format!("make the veth pair {} and {}", here.name, there.name);
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Takes an interface up or down.
    pub(crate) fn set_up(&mut self, name: &str, up: bool) -> Result<(), LabError> {
        let mut message = LinkMessage::default();
        message.header.index = index(name)?;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let what = || format!("take {name} {}", if up { "up" } else { "down" });
        self.request(RouteNetlinkMessage::SetLink(message), 0, what)
    }

    /// Gives an interface an address, usable at once: duplicates are not looked for.
    pub(crate) fn add_address(&mut self, name: &str, prefix: Prefix) -> Result<(), LabError> {
        let message = RouteNetlinkMessage::NewAddress(address_message(name, prefix)?);
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, || {
            format!("give {name} the address {}", prefix.address)
        })
    }

    /// Takes an address from an interface.
    pub(crate) fn remove_address(&mut self, name: &str, prefix: Prefix) -> Result<(), LabError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(name, prefix)?);
        self.request(message, 0, || format!("take the address {} from {name}", prefix.address))
    }

    /// Adds or replaces a route. Without `via` its destinations are on the interface itself.
    pub(crate) fn set_route(
        &mut self,
        name: &str,
        to: Prefix,
        via: Option<IpAddr>,
        metric: Option<u32>,
    ) -> Result<(), LabError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(to.address);
        message.header.destination_prefix_length = to.len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = if via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        if to.len > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to.address)));
        }
        if let Some(via) = via {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(via)));
        }
        if let Some(metric) = metric {
            message.attributes.push(RouteAttribute::Priority(metric));
        }
        message.attributes.push(RouteAttribute::Oif(index(name)?));
        let what = || format!("route {}/{} over {name}", to.address, to.len);
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE, what)
    }

    /// Says once and for all which hardware address a neighbour has.
    pub(crate) fn set_neighbour(&mut self, name: &str, address: IpAddr, mac: Mac) -> Result<(), LabError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index(name)?;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let what = || format!("set the neighbour {address} on {name}");
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, what)
    }

    /// Waits until packets pass through all interfaces that have a carrier: the kernel finishes in the background what
    /// follows from a carrier's return or from a new IPv6 address, and drops packets until then.
    pub(crate) fn wait_ready(&mut self) -> Result<(), LabError> {
        let started = Instant::now();
        while !self.is_ready()? {
            if started.elapsed() > READY_LIMIT {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(LabError::Netlink { what: "bring up the interfaces".to_owned(), source });
            }
            thread::sleep(READY_POLL);
        }
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool, LabError> {
        let all_links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let live = self.query(all_links, |message| match message {
            RouteNetlinkMessage::NewLink(link)
                if link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp) =>
            {
                // Loopback and tunnels have no operational state.
                let states = [State::Up, State::Unknown].map(LinkAttribute::OperState);
                Some((link.header.index, states.iter().any(|state| link.attributes.contains(state))))
            }
            _ => None,
        })?;
        let all_addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self.query(all_addresses, |message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.family == AddressFamily::Inet6 => {
                let own = address.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(IpAddr::V6(own)) => Some(*own),
                    _ => None,
                });
                Some((address.header.index, own?))
            }
            _ => None,
        })?;
        let mut all_routes = RouteMessage::default();
        all_routes.header.address_family = AddressFamily::Inet6;
        // An address may be listed before packets to it are taken in: that is so when it has its route.
        let received = self.query(RouteNetlinkMessage::GetRoute(all_routes), |message| match message {
            RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local => {
                route.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet6(own)) => Some(*own),
                    _ => None,
                })
            }
            _ => None,
        })?;
        let is_usable = |index: &u32| {
            let mut own = addresses.iter().filter(|(on, _)| on == index);
            own.all(|(_, address)| received.contains(address))
        };
        Ok(live.iter().all(|(index, ready)| *ready && is_usable(index)))
    }

    /// Asks for everything of a kind, and keeps what `pick` makes of it.
    fn query<T>(
        &mut self,
        message: RouteNetlinkMessage,
        pick: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, LabError> {
        let mut picked = Vec::new();
        let what = || "list interfaces and addresses".to_owned();
        self.exchange(message, NLM_F_DUMP, |message| picked.extend(pick(message)))
            .map_err(|source| LabError::Netlink { what: what(), source })?;
        Ok(picked)
    }

    /// Sends one request and waits for the kernel's verdict, which route netlink gives at once.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Fn() -> String,
    ) -> Result<(), LabError> {
        self.exchange(message, NLM_F_ACK | flags, |_| {})
            .map_err(|source| LabError::Netlink { what: what(), source })
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut found: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let reply =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages in a datagram start at multiples of four.
                let len = (reply.header.length as usize).max(1).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or_default();
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::Error(verdict) if verdict.code.is_some() => return Err(verdict.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::InnerMessage(message) => found(message),
                    _ => {}
                }
            }
        }
    }
}

/// The index of an interface of the calling thread's namespace.
fn index(name: &str) -> Result<u32, LabError> {
    let lookup = || -> io::Result<u32> {
        let any = socket(Family::INET, SocketType::DGRAM, None)?;
        Ok(name_to_index(&any, name)?)
    };
    lookup().map_err(|source| LabError::Netlink { what: format!("find the interface {name}"), source })
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn end_message(end: &End) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(end.name.clone()));
    message.attributes.push(LinkAttribute::Address(end.mac.to_vec()));
    message.attributes.push(LinkAttribute::Mtu(end.mtu));
    message
}

fn address_message(name: &str, prefix: Prefix) -> Result<AddressMessage, LabError> {
    let mut message = AddressMessage::default();
    message.header.family = family(prefix.address);
    message.header.prefix_len = prefix.len;
    message.header.index = index(name)?;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Local(prefix.address));
    message.attributes.push(AddressAttribute::Address(prefix.address));
    Ok(message)
}
