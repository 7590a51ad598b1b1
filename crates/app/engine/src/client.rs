//! The client's side: a pair of sockets for each link.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bondwire_bond::{
    Arrival, ArrivalBatch, Client, ClientEvent, ClientStatus, DatagramBatch, LinkRules, LinkUp, Route, Rules,
};
use bondwire_packet::PacketBatch;
use bondwire_tun::Device;
use bondwire_udp::{
    Datagram, LinkConfig, LinkSocket, OpenError, Segmentation, SendError, SendErrorKind, SendOutcome,
};
use bondwire_units::{Deadline, LinkId, Timestamp};
use bondwire_wire::Mode;
use rustix::fd::{AsFd, BorrowedFd};

use crate::error::EngineError;
use crate::handle::{EngineEvent, EngineHandle};
use crate::worker::Side;

/// Stores the timestamp of a handshake, in microseconds, and returns when it is safe on disk (docs/protocol.md, HS-5).
pub type Persist = Box<dyn FnMut(u64) -> io::Result<()> + Send>;

/// A client's running data plane.
pub type ClientHandle = EngineHandle<ClientCommand, ClientEvent, ClientStatus>;

/// A link that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// Its identifier.
    pub id: LinkId,
    /// Its interface's name.
    pub name: String,
    /// The greatest IP packet that it takes, in bytes.
    pub mtu: u16,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Whether runs of datagrams leave as one kernel packet.
    pub segmentation: Segmentation,
}

/// What the control plane may ask of a client's data plane.
#[derive(Clone, Debug)]
pub enum ClientCommand {
    /// A link appeared, or has other addresses or another MTU: its sockets are opened, or opened again.
    LinkUp(LinkSetup),
    /// A link lost its carrier or its addresses, or vanished; it may come back.
    LinkDown(LinkId),
    /// A link is no longer to be used.
    LinkRemoved(LinkId),
    /// When a link is used, and how much it may carry.
    SetLinkRules(LinkId, LinkRules),
    /// Another mode.
    SetMode(Mode),
    /// Other rules about flows.
    SetFlowRules(Rules),
}

/// What a client's data plane is made of.
pub struct ClientSetup {
    /// The tunnel device.
    pub device: Device,
    /// The bond, made with a time of [`Clock`](crate::Clock).
    pub client: Client,
    /// The links to begin with.
    pub links: Vec<LinkSetup>,
    /// Stores the timestamps of handshakes.
    pub persist_timestamp: Persist,
}

impl fmt::Debug for ClientSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSetup")
            .field("device", &self.device)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

/// Starts a client's data plane.
///
/// # Errors
/// The kernel gives no event descriptor or thread. A link that cannot be opened is an event.
pub fn spawn_client(setup: ClientSetup) -> Result<ClientHandle, EngineError> {
    let mut side = ClientSide {
        client: setup.client,
        links: BTreeMap::new(),
        failures: VecDeque::new(),
        persist: setup.persist_timestamp,
    };
    let now = crate::Clock.now();
    for link in setup.links {
        side.link_up(&link, now);
    }
    EngineHandle::spawn(side, setup.device)
}

struct ClientSide {
    client: Client,
    links: BTreeMap<LinkId, LinkSockets>,
    /// At most one for each link between two turns.
    failures: VecDeque<EngineEvent<ClientEvent>>,
    persist: Persist,
}

struct LinkSockets {
    v4: Option<LinkSocket>,
    v6: Option<LinkSocket>,
}

impl ClientSide {
    fn link_up(&mut self, link: &LinkSetup, now: Timestamp) {
        // The old ones first: a link that cannot be opened again must not go on from an address that it no longer has.
        self.links.remove(&link.id);
        let mut failure = None;
        let mut open = |address: Option<IpAddr>| {
            let config =
                LinkConfig { segmentation: link.segmentation, ..LinkConfig::new(&link.name, address?) };
            LinkSocket::open(&config).map_err(|error| failure = Some(error)).ok()
        };
        let sockets = LinkSockets { v4: open(link.v4.map(IpAddr::V4)), v6: open(link.v6.map(IpAddr::V6)) };
        let (v4, v6) = (sockets.v4.is_some(), sockets.v6.is_some());
        if let Some(error) = failure {
            self.fail(link, error);
        }
        if v4 || v6 {
            self.links.insert(link.id, sockets);
            self.client.handle_link_up(LinkUp { id: link.id, mtu: link.mtu, v4, v6 }, now);
        } else {
            self.client.handle_link_down(link.id, now);
        }
    }

    fn fail(&mut self, link: &LinkSetup, error: OpenError) {
        self.failures.push_back(EngineEvent::LinkFailed { id: link.id, name: link.name.clone(), error });
    }

    /// All sockets in the order of their links, IPv4 first.
    fn all(&self) -> impl Iterator<Item = (LinkId, &LinkSocket)> {
        self.links.iter().flat_map(|(id, link)| link.v4.iter().chain(&link.v6).map(|socket| (*id, socket)))
    }
}

impl Side for ClientSide {
    type Command = ClientCommand;
    type Event = ClientEvent;
    type Status = ClientStatus;

    fn sockets<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.all().map(|(_, socket)| socket.as_fd()));
    }

    fn receive(&mut self, socket: usize, out: &mut ArrivalBatch) -> io::Result<usize> {
        let sockets = self
            .links
            .iter_mut()
            .flat_map(|(id, link)| link.v4.iter_mut().chain(&mut link.v6).map(|socket| (*id, socket)));
        match sockets.into_iter().nth(socket) {
            Some((link, socket)) => socket.recv_batch(out, |from, waited| Arrival {
                route: Route { link, local: None, remote: from.remote },
                waited,
            }),
            None => Ok(0),
        }
    }

    fn send(&mut self, batch: &DatagramBatch, first: usize, end: usize) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        let mut next = first;
        // A path has one family; a link's datagrams change it rarely.
        while next < end {
            let Some((_, route)) = batch.get(next) else { break };
            let is_v4 = route.remote.is_ipv4();
            let same = (next..end)
                .take_while(|index| {
                    batch.get(*index).is_some_and(|(_, route)| route.remote.is_ipv4() == is_v4)
                })
                .count();
            let link = self.links.get_mut(&route.link);
            let socket = link.and_then(|link| if is_v4 { link.v4.as_mut() } else { link.v6.as_mut() });
            match socket {
                Some(socket) => {
                    let part = socket.send_batch(batch, next..next + same, |route| Datagram {
                        remote: route.remote,
                        local: None,
                    });
                    outcome.sent += part.sent;
                    outcome.blocked += part.blocked;
                    outcome.errors.extend(part.errors);
                }
                None => outcome.errors.extend(
                    (next..next + same).map(|index| SendError { index, kind: SendErrorKind::AddressGone }),
                ),
            }
            next += same;
        }
        outcome
    }

    fn handle_refusal(&mut self, route: Route, size: usize, kind: SendErrorKind, now: Timestamp) {
        match kind {
            SendErrorKind::MessageTooLong => self.client.handle_too_large(route, size, now),
            // The path notices what is missing as it notices any loss.
            SendErrorKind::WouldBlock => {}
            _ => self.client.handle_send_error(route, now),
        }
    }

    fn handle_datagrams(&mut self, batch: &mut ArrivalBatch, deliver: &mut PacketBatch, now: Timestamp) {
        self.client.handle_datagrams(batch, deliver, now);
    }

    fn handle_packets(&mut self, batch: &PacketBatch, now: Timestamp) {
        self.client.handle_packets(batch, now);
    }

    fn handle_timeout(&mut self, deliver: &mut PacketBatch, now: Timestamp) {
        self.client.handle_timeout(deliver, now);
    }

    fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        self.client.poll_transmit(out, now);
    }

    fn poll_deadline(&mut self, now: Timestamp) -> Option<Deadline> {
        self.client.poll_deadline(now)
    }

    fn poll_event(&mut self) -> Result<Option<EngineEvent<ClientEvent>>, EngineError> {
        if let Some(failure) = self.failures.pop_front() {
            return Ok(Some(failure));
        }
        let event = self.client.poll_event();
        if let Some(ClientEvent::TimestampUsed(timestamp)) = event {
            (self.persist)(timestamp).map_err(EngineError::Persist)?;
        }
        Ok(event.map(EngineEvent::Bond))
    }

    fn command(&mut self, command: ClientCommand, now: Timestamp) {
        match command {
            ClientCommand::LinkUp(link) => self.link_up(&link, now),
            ClientCommand::LinkDown(id) => {
                self.links.remove(&id);
                self.client.handle_link_down(id, now);
            }
            ClientCommand::LinkRemoved(id) => {
                self.links.remove(&id);
                self.client.remove_link(id, now);
            }
            ClientCommand::SetLinkRules(id, rules) => self.client.set_link_rules(id, rules, now),
            ClientCommand::SetMode(mode) => self.client.set_mode(mode, now),
            ClientCommand::SetFlowRules(rules) => self.client.set_rules(rules, now),
        }
    }

    fn close(&mut self, now: Timestamp) {
        self.client.close(now);
    }

    fn status(&mut self, now: Timestamp) -> ClientStatus {
        self.client.status(now)
    }
}
