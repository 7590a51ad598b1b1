//! An access link as a bond sees it: addresses, a pipe in each direction, a gateway perhaps.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use bondwire_bond::LinkUp;
use bondwire_netem::{Nat, NatConfig, Pipe, PipeStats, Rng};
use bondwire_scenario::{Action, Link};
use bondwire_units::{LinkId, Timestamp};

/// Where the server listens.
pub(crate) const SERVER_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 51_820);
/// The same over IPv6.
pub(crate) const SERVER_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 51_820);

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    /// Its size as an IP packet.
    fn size(&self) -> usize {
        self.payload.len() + if self.source.is_ipv4() { 28 } else { 48 }
    }
}

/// What a link carries.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    /// A datagram of the bond.
    Bond(Datagram),
    /// A packet of somebody else who uses the same link.
    Neighbour(Vec<u8>),
}

impl Carried {
    /// Its size in IP bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Bond(datagram) => datagram.size(),
            Self::Neighbour(packet) => packet.len(),
        }
    }
}

/// Datagrams that went nowhere for another reason than the pipes'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessDrops {
    /// Larger than the link's MTU.
    pub too_large: u64,
    /// To an address or port that the link does not have any more, or stopped by the gateway.
    pub misaddressed: u64,
    /// Sent while the interface had no carrier.
    pub no_carrier: u64,
}

/// One access link.
#[derive(Debug)]
pub(crate) struct Access {
    id: LinkId,
    link: Link,
    up: Pipe<Carried>,
    down: Pipe<Carried>,
    nat: Option<Nat>,
    /// Counts the addresses that the link has had.
    generation: u8,
    carrier: bool,
    drops: AccessDrops,
}

/// What the client has to be told after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Nothing,
    Down,
    Up,
    /// Down, and up again with another address.
    Readdressed,
}

impl Access {
    pub(crate) fn new(number: usize, link: Link, rng: &mut Rng) -> Self {
        let (up, down) = link.pipes();
        let mut access = Self {
            id: LinkId(number as u32 + 1),
            up: Pipe::new(up, rng.next_u64()),
            down: Pipe::new(down, rng.next_u64()),
            nat: None,
            link,
            generation: 0,
            carrier: true,
            drops: AccessDrops::default(),
        };
        if access.link.nat {
            let config = NatConfig {
                public_v4: Some(Ipv4Addr::new(203, 0, 113, number as u8 + 1)),
                public_v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 1, number as u16, 0, 0, 0, 1)),
                ..NatConfig::default()
            };
            access.nat = Some(Nat::new(config, rng.next_u64()));
        }
        access
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// The link as the client is told of it.
    pub(crate) fn link_up(&self) -> LinkUp {
        LinkUp { id: self.id, mtu: self.link.mtu, v4: self.link.v4, v6: self.link.v6 }
    }

    pub(crate) fn drops(&self) -> AccessDrops {
        self.drops
    }

    /// What the two pipes have done: up, down.
    pub(crate) fn pipes(&self) -> (PipeStats, PipeStats) {
        (self.up.stats(), self.down.stats())
    }

    /// Datagrams in the two pipes.
    pub(crate) fn held(&self) -> usize {
        self.up.held() + self.down.held()
    }

    /// The client sends over this link.
    pub(crate) fn send_up(&mut self, destination: SocketAddr, payload: &[u8], now: Timestamp) {
        let datagram =
            Datagram { source: self.address(destination.is_ipv4()), destination, payload: payload.to_vec() };
        if !self.carrier {
            self.drops.no_carrier += 1;
        } else if datagram.size() > usize::from(self.link.mtu) {
            self.drops.too_large += 1;
        } else {
            let size = datagram.size();
            self.up.handle_packet(Carried::Bond(datagram), size, now);
        }
    }

    /// A neighbour sends over this link, away from the client's side or towards it.
    pub(crate) fn send_neighbour(&mut self, up: bool, packet: Vec<u8>, now: Timestamp) {
        let size = packet.len();
        let pipe = if up { &mut self.up } else { &mut self.down };
        pipe.handle_packet(Carried::Neighbour(packet), size, now);
    }

    /// How long what waits at the link takes to be sent: up, down.
    pub(crate) fn queues(&self) -> [Duration; 2] {
        [&self.up, &self.down].map(|pipe| {
            let config = pipe.config();
            let rate = config.trace.as_ref().map(|trace| trace.mean_rate()).or(config.rate);
            rate.map_or(Duration::ZERO, |rate| rate.time_for(pipe.queued()))
        })
    }

    /// Whether datagrams to this address reach this link.
    pub(crate) fn answers_to(&self, destination: SocketAddr) -> bool {
        let public = match (&self.nat, destination.is_ipv4()) {
            (Some(nat), true) => nat.config().public_v4.map(IpAddr::V4),
            (Some(nat), false) => nat.config().public_v6.map(IpAddr::V6),
            (None, v4) => Some(self.address(v4).ip()),
        };
        public == Some(destination.ip())
    }

    /// The server sends to an address that belongs to this link.
    pub(crate) fn send_down(&mut self, datagram: &Datagram, now: Timestamp) {
        let mut datagram = datagram.clone();
        if let Some(nat) = &mut self.nat
            && !translate(nat, &mut datagram, false, now)
        {
            self.drops.misaddressed += 1;
            return;
        }
        let size = datagram.size();
        if size > usize::from(self.link.mtu) {
            self.drops.too_large += 1;
        } else {
            self.down.handle_packet(Carried::Bond(datagram), size, now);
        }
    }

    /// The next that leaves the link towards the server.
    pub(crate) fn poll_up(&mut self, now: Timestamp) -> Option<Carried> {
        loop {
            let mut datagram = match self.up.poll_packet(now)? {
                Carried::Bond(datagram) => datagram,
                neighbour @ Carried::Neighbour(_) => return Some(neighbour),
            };
            let passes = self.nat.as_mut().is_none_or(|nat| translate(nat, &mut datagram, true, now));
            if passes {
                return Some(Carried::Bond(datagram));
            }
            self.drops.misaddressed += 1;
        }
    }

    /// The next that arrives at the client or at a neighbour.
    pub(crate) fn poll_down(&mut self, now: Timestamp) -> Option<Carried> {
        loop {
            let datagram = match self.down.poll_packet(now)? {
                Carried::Bond(datagram) => datagram,
                neighbour @ Carried::Neighbour(_) => return Some(neighbour),
            };
            if self.carrier && datagram.destination == self.address(datagram.destination.is_ipv4()) {
                return Some(Carried::Bond(datagram));
            }
            self.drops.misaddressed += 1;
        }
    }

    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        self.up.poll_deadline().into_iter().chain(self.down.poll_deadline()).min()
    }

    pub(crate) fn handle_event(&mut self, action: &Action, now: Timestamp) -> Notice {
        match action {
            Action::Silence => self.set_up(false, now),
            Action::CarrierLoss => {
                self.set_up(false, now);
                return if core::mem::replace(&mut self.carrier, false) {
                    Notice::Down
                } else {
                    Notice::Nothing
                };
            }
            Action::Return => {
                self.set_up(true, now);
                return if core::mem::replace(&mut self.carrier, true) {
                    Notice::Nothing
                } else {
                    Notice::Up
                };
            }
            Action::AddressChange => {
                self.generation = self.generation.wrapping_add(1);
                return if self.carrier { Notice::Readdressed } else { Notice::Nothing };
            }
            Action::NatRebind => {
                if let Some(nat) = &mut self.nat {
                    nat.rebind(None, None);
                }
            }
            Action::Change(change) => {
                self.link.apply(change);
                let (up, down) = self.link.pipes();
                self.up.set_config(up, now);
                self.down.set_config(down, now);
            }
        }
        Notice::Nothing
    }

    fn set_up(&mut self, up: bool, now: Timestamp) {
        self.up.set_up(up, now);
        self.down.set_up(up, now);
    }

    /// The client's address on this link.
    fn address(&self, v4: bool) -> SocketAddr {
        let ip = if v4 {
            IpAddr::V4(Ipv4Addr::new(10, 1, self.id.0 as u8, self.generation.wrapping_add(2)))
        } else {
            let last = u16::from(self.generation) + 2;
            IpAddr::V6(Ipv6Addr::new(0xfd00, self.id.0 as u16, 0, 0, 0, 0, 0, last))
        };
        SocketAddr::new(ip, 40_000)
    }
}

/// Lets a gateway rewrite a datagram's addresses. False if it drops it.
fn translate(nat: &mut Nat, datagram: &mut Datagram, out: bool, now: Timestamp) -> bool {
    let mut header = header_of(datagram);
    let passed =
        if out { nat.handle_outbound(&mut header, now) } else { nat.handle_inbound(&mut header, now) };
    if passed.is_ok() {
        (datagram.source, datagram.destination) = addresses_of(&header);
    }
    passed.is_ok()
}

/// IP and UDP headers of a datagram, without checksum.
fn header_of(datagram: &Datagram) -> Vec<u8> {
    let mut header = match (datagram.source.ip(), datagram.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let mut header = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
            header.extend(octets(from));
            header.extend(octets(to));
            header
        }
    };
    header.extend(datagram.source.port().to_be_bytes());
    header.extend(datagram.destination.port().to_be_bytes());
    header.extend([0, 8, 0, 0]);
    header
}

/// The addresses in what [`header_of`] made.
fn addresses_of(header: &[u8]) -> (SocketAddr, SocketAddr) {
    let v4 = header.len() == 28;
    let ip = |at: usize| {
        if v4 {
            let octets: [u8; 4] = core::array::from_fn(|n| header[at + n]);
            IpAddr::from(octets)
        } else {
            let octets: [u8; 16] = core::array::from_fn(|n| header[at + n]);
            IpAddr::from(octets)
        }
    };
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (from, to, ports) = if v4 { (12, 16, 20) } else { (8, 24, 40) };
    (SocketAddr::new(ip(from), port(ports)), SocketAddr::new(ip(to), port(ports + 2)))
}
