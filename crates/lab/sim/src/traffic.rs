//! What hosts on either side send: TCP connections, constant-rate UDP, and flows like QUIC.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use bondwire_units::{Bitrate, ByteCount, Timestamp};

use crate::packet::{self, Addresses, TCP, UDP};
use crate::quic::Quic;
use crate::tcp::{Endpoint, Progress, SenderCounters, TcpConfig};

/// The client's inner address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The server's inner address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// A host behind the server.
pub const WEB: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// One of the two ends of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where the client and its applications are.
    Client,
    /// Where the server and everything else is.
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];
}

/// Which way the data of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Down, Self::Up];

    /// The side that sends the data.
    pub fn from_side(self) -> Side {
        if self == Self::Up { Side::Client } else { Side::Server }
    }
}

/// A flow to be.
#[derive(Clone, Copy, Debug)]
pub enum FlowConfig {
    /// A connection that the client opens, and over which one side sends.
    Tcp {
        /// Which way the data goes.
        direction: Direction,
        /// How.
        tcp: TcpConfig,
    },
    /// Packets of one size, one per interval.
    Udp {
        /// Which way they go.
        direction: Direction,
        /// IP bytes of each: 32 at least.
        size: usize,
        /// The time between two.
        interval: Duration,
        /// When the last one is sent at the latest; none goes on for ever.
        until: Option<Timestamp>,
    },
    /// Datagrams as QUIC sends them, as many as it may: its window is cut when three are overtaken.
    Quic {
        /// Which way the data goes.
        direction: Direction,
    },
}

impl FlowConfig {
    /// A TCP flow without end.
    pub fn tcp(direction: Direction, mtu: u16) -> Self {
        Self::Tcp { direction, tcp: TcpConfig { mtu, ..TcpConfig::default() } }
    }

    /// `rate` in packets a second, of `size` IP bytes each, without end.
    pub fn udp(direction: Direction, size: usize, rate: u32) -> Self {
        Self::Udp { direction, size, interval: Duration::from_secs(1) / rate, until: None }
    }

    /// Datagrams of `mtu` IP bytes, of `rate` altogether, without end.
    pub fn greedy(direction: Direction, mtu: u16, rate: Bitrate) -> Self {
        let size = usize::from(mtu);
        Self::Udp { direction, size, interval: rate.time_for(ByteCount::from(size)), until: None }
    }
}

/// A flow with both its ends.
#[derive(Debug)]
pub(crate) struct Flow {
    direction: Direction,
    kind: Kind,
    start: Timestamp,
}

#[derive(Debug)]
enum Kind {
    Tcp { client: Box<Endpoint>, server: Box<Endpoint> },
    Udp(Udp),
    Quic(Box<Quic>),
}

#[derive(Debug)]
struct Udp {
    addresses: Addresses,
    size: usize,
    interval: Duration,
    until: Timestamp,
    next: Timestamp,
    serial: u32,
    received: Progress,
}

/// How a flow fares.
#[derive(Clone, Copy, Debug)]
pub struct FlowReport {
    /// What arrived: TCP payload in order, or UDP packets' IP bytes.
    pub progress: Progress,
    /// What its TCP sender did.
    pub sender: SenderCounters,
    /// TCP: the congestion window in segments, and the smoothed RTT.
    pub window: Option<(f64, Option<Duration>)>,
    /// TCP: all was sent and acknowledged.
    pub done: bool,
    /// The addresses of the packets that carry its data.
    pub data: Addresses,
}

impl Flow {
    pub(crate) fn new(config: FlowConfig, number: u16, now: Timestamp) -> Self {
        let addresses = |protocol, direction| {
            let client = SocketAddrV4::new(CLIENT, 40_000 + number);
            let up = Addresses { protocol, source: client, destination: SocketAddrV4::new(WEB, 443) };
            if direction == Direction::Up { up } else { up.reversed() }
        };
        match config {
            FlowConfig::Tcp { direction, tcp } => {
                let up = addresses(TCP, Direction::Up);
                let client = Box::new(Endpoint::caller(up, direction == Direction::Up, tcp, now));
                let server = Endpoint::listener(up.reversed(), direction == Direction::Down, tcp);
                Self { direction, kind: Kind::Tcp { client, server: Box::new(server) }, start: now }
            }
            FlowConfig::Udp { direction, size, interval, until } => {
                let udp = Udp {
                    addresses: addresses(UDP, direction),
                    size: size.max(32),
                    interval,
                    until: until.unwrap_or(Timestamp::MAX),
                    next: now,
                    serial: 0,
                    received: Progress::default(),
                };
                Self { direction, kind: Kind::Udp(udp), start: now }
            }
            FlowConfig::Quic { direction } => {
                let quic = Box::new(Quic::new(addresses(UDP, direction), now));
                Self { direction, kind: Kind::Quic(quic), start: now }
            }
        }
    }

    /// The addresses of the packets that reach `side`.
    pub(crate) fn inbound(&self, side: Side) -> Addresses {
        match (&self.kind, side) {
            (Kind::Tcp { client, .. }, Side::Server) => client.addresses(),
            (Kind::Tcp { server, .. }, Side::Client) => server.addresses(),
            (Kind::Udp(udp), _) if self.direction.from_side() != side => udp.addresses,
            (Kind::Udp(udp), _) => udp.addresses.reversed(),
            (Kind::Quic(quic), _) if self.direction.from_side() != side => quic.addresses(),
            (Kind::Quic(quic), _) => quic.addresses().reversed(),
        }
    }

    pub(crate) fn report(&self) -> FlowReport {
        let data_side = if self.direction == Direction::Up { Side::Server } else { Side::Client };
        let data = self.inbound(data_side);
        match &self.kind {
            Kind::Tcp { client, server } => {
                let (sender, receiver) =
                    if self.direction == Direction::Up { (client, server) } else { (server, client) };
                FlowReport {
                    progress: receiver.progress(),
                    sender: sender.counters(),
                    window: sender.window(),
                    done: sender.is_done(),
                    data,
                }
            }
            Kind::Udp(udp) => FlowReport {
                progress: udp.received,
                sender: SenderCounters::default(),
                window: None,
                done: udp.next > udp.until,
                data,
            },
            Kind::Quic(quic) => FlowReport {
                progress: quic.progress(),
                sender: quic.counters(),
                window: Some(quic.window()),
                done: false,
                data,
            },
        }
    }

    /// Nothing new is sent from now on: datagrams stop; a connection falls silent altogether.
    pub(crate) fn stop(&mut self, now: Timestamp) {
        match &mut self.kind {
            Kind::Udp(udp) => udp.until = udp.until.min(now.saturating_sub(Duration::from_nanos(1))),
            Kind::Tcp { .. } | Kind::Quic(_) => self.start = Timestamp::MAX,
        }
    }

    pub(crate) fn handle_packet(&mut self, side: Side, packet: &[u8], now: Timestamp) {
        match &mut self.kind {
            Kind::Tcp { client, .. } if side == Side::Client => client.handle_packet(packet, now),
            Kind::Tcp { server, .. } => server.handle_packet(packet, now),
            Kind::Udp(udp) => udp.received.on_bytes(packet.len() as u64, now),
            Kind::Quic(quic) => quic.handle_packet(self.direction.from_side() != side, packet, now),
        }
    }

    /// The next packet that `side` sends now.
    pub(crate) fn poll_packet(&mut self, side: Side, now: Timestamp) -> Option<Vec<u8>> {
        if self.start > now {
            return None;
        }
        match &mut self.kind {
            Kind::Tcp { client, .. } if side == Side::Client => {
                client.handle_timeout(now);
                client.poll_packet(now)
            }
            Kind::Tcp { server, .. } => {
                server.handle_timeout(now);
                server.poll_packet(now)
            }
            Kind::Udp(udp) if self.direction.from_side() == side => udp.poll_packet(now),
            Kind::Udp(_) => None,
            Kind::Quic(quic) => quic.poll_packet(self.direction.from_side() == side, now),
        }
    }

    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        if self.start == Timestamp::MAX {
            return None;
        }
        match &self.kind {
            Kind::Tcp { client, server } => {
                client.poll_deadline().into_iter().chain(server.poll_deadline()).min()
            }
            Kind::Udp(udp) => (udp.next <= udp.until).then_some(udp.next),
            Kind::Quic(quic) => quic.poll_deadline(),
        }
    }
}

impl Udp {
    fn poll_packet(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        if self.next > now || self.next > self.until {
            return None;
        }
        self.next += self.interval;
        self.serial += 1;
        Some(packet::udp(self.addresses, &self.serial.to_be_bytes(), self.size))
    }
}

impl FlowReport {
    /// The mean rate of what arrived since an `earlier` report, `span` ago.
    pub fn rate_since(&self, earlier: &Self, span: Duration) -> Bitrate {
        let bytes = self.progress.bytes - earlier.progress.bytes;
        Bitrate::from_bytes_over(ByteCount::new(bytes), span)
    }
}
