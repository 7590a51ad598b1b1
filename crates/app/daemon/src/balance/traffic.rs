//! What the kernel knows of the links' sockets, taken together for the policy.
//!
//! A socket belongs to the link whose mark it has, whose interface it is bound to, or whose address it uses, in this order.
//!
//! Bound: one entry for each TCP socket of a dump ([`bondwire_sockets::MAX_SOCKETS`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bondwire_balance::TcpSample;
use bondwire_netctl::Link;
use bondwire_sockets::{DiagError, Socket, State, TcpFigures};
use bondwire_units::LinkId;

use crate::sockets::{Seen, SocketWatch};

/// How a link is known from its sockets.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    pub(super) marks: BTreeMap<u32, LinkId>,
    devices: BTreeMap<u32, LinkId>,
    addresses: BTreeMap<IpAddr, LinkId>,
    /// A socket's address is that of its link; not so where nftables leads flows, and translates their addresses.
    address_tells: bool,
}

/// Which link a socket goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// It is not balanced.
    Nobodys,
    /// It is balanced, and its socket does not tell where to.
    Unknown,
    /// This one.
    Of(LinkId),
}

impl Signs {
    /// No links yet.
    pub(super) fn new(address_tells: bool) -> Self {
        let (devices, addresses) = (BTreeMap::new(), BTreeMap::new());
        Self { marks: BTreeMap::new(), devices, addresses, address_tells }
    }

    /// A link's interface and addresses.
    pub(super) fn add(&mut self, link: &Link) {
        let id = LinkId(link.index);
        self.devices.insert(link.index, id);
        self.addresses.extend(link.addresses.iter().map(|address| (address.prefix.address, id)));
    }

    /// The link of a socket.
    pub(super) fn link_of(&self, socket: &Socket) -> Whose {
        let by_mark = socket.mark.and_then(|mark| self.marks.get(&mark));
        if let Some(link) = by_mark.or_else(|| self.devices.get(&socket.device)) {
            return Whose::Of(*link);
        }
        match self.addresses.get(&socket.local.ip()) {
            Some(link) if self.address_tells => Whose::Of(*link),
            Some(_) => Whose::Unknown,
            None => Whose::Nobodys,
        }
    }
}

/// A socket and its link.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) seen: Seen,
    /// None where its socket does not tell.
    pub(super) link: Option<LinkId>,
}

/// Looks at sockets, and sums up what became of them since the look before.
#[derive(Debug)]
pub(super) struct Traffic {
    watch: SocketWatch,
    before: BTreeMap<u64, TcpFigures>,
}

/// What one look gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Every balanced socket.
    pub(super) sockets: Vec<Placed>,
    /// How many there were beyond a dump's bound.
    pub(super) left_out: usize,
    /// What the policy is told of each link.
    pub(super) samples: BTreeMap<LinkId, TcpSample>,
}

impl Traffic {
    /// Nothing was looked at yet.
    pub(super) fn open() -> Result<Self, DiagError> {
        Ok(Self { watch: SocketWatch::open()?, before: BTreeMap::new() })
    }

    /// The sockets' diagnostics.
    pub(super) fn watch(&mut self) -> &mut SocketWatch {
        &mut self.watch
    }

    /// Looks at all sockets of links.
    pub(super) fn look(&mut self, signs: &Signs) -> Result<Look, DiagError> {
        let (seen, left_out) = self.watch.look(|socket| signs.link_of(socket) != Whose::Nobodys)?;
        let mut look = Look { left_out, ..Look::default() };
        let mut before = std::mem::take(&mut self.before);
        for seen in seen {
            let link = match signs.link_of(&seen.socket) {
                Whose::Of(link) => Some(link),
                Whose::Unknown | Whose::Nobodys => None,
            };
            if let (Some(now), Some(link)) = (seen.socket.tcp, link) {
                let sample = look.samples.entry(link).or_default();
                add(sample, &seen.socket, before.remove(&seen.socket.cookie), now);
                self.before.insert(seen.socket.cookie, now);
            }
            look.sockets.push(Placed { seen, link });
        }
        Ok(look)
    }
}

/// Adds one socket to its link's sample.
fn add(sample: &mut TcpSample, socket: &Socket, before: Option<TcpFigures>, now: TcpFigures) {
    let was = before.unwrap_or_default();
    let moved = now.bytes_acknowledged > was.bytes_acknowledged || now.bytes_received > was.bytes_received;
    // A new one's figures are all since the last look, or since before there was one: both may be counted.
    sample.sent += u64::from(now.segments_sent.saturating_sub(was.segments_sent));
    sample.retransmitted += u64::from(now.retransmits.saturating_sub(was.retransmits));
    if moved {
        sample.progressing += 1;
        if now.rtt > Duration::ZERO {
            sample.rtt = Some(sample.rtt.map_or(now.rtt, |rtt| rtt.min(now.rtt)));
        }
    }
    // A connect that gets no answer is told by itself, with its patience.
    let waits = now.unacknowledged > 0 && socket.state != State::SynSent;
    if waits && !moved && (now.timeouts > 0 || now.since_acknowledged > now.rto) {
        sample.stalled += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use bondwire_sockets::{Query, SockDiag};

    use super::*;

    fn socket() -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        stream.write_all(b"x").expect("sent");
        listener.accept().expect("accepted").0.read_exact(&mut [0; 1]).expect("received");
        let local = stream.local_addr().expect("an address");
        let dump = SockDiag::open().expect("open").dump(&Query::default()).expect("listed");
        dump.sockets.into_iter().find(|socket| socket.local == local).expect("listed")
    }

    #[test]
    fn a_socket_is_its_marks_then_its_devices_then_its_addresses() {
        let (by_mark, by_device, by_address) = (LinkId(1), LinkId(2), LinkId(3));
        let mut signs = Signs::new(true);
        signs.marks.insert(0x100, by_mark);
        signs.devices.insert(9, by_device);
        signs.addresses.insert("127.0.0.1".parse().expect("good"), by_address);
        let mut socket = Socket { mark: Some(0x100), device: 9, ..socket() };
        assert_eq!(signs.link_of(&socket), Whose::Of(by_mark));
        socket.mark = Some(0xff);
        assert_eq!(signs.link_of(&socket), Whose::Of(by_device));
        (socket.mark, socket.device) = (None, 0);
        assert_eq!(signs.link_of(&socket), Whose::Of(by_address));
        signs.address_tells = false;
        assert_eq!(signs.link_of(&socket), Whose::Unknown);
        assert_eq!(Signs::new(true).link_of(&socket), Whose::Nobodys);
    }

    #[test]
    fn what_moves_progresses_and_what_waits_too_long_is_stalled() {
        let socket = socket();
        let before = TcpFigures { segments_sent: 5, bytes_acknowledged: 10, ..TcpFigures::default() };
        let rtt = Duration::from_millis(20);
        let mut sample = TcpSample::default();
        let moved = TcpFigures { segments_sent: 9, bytes_acknowledged: 20, retransmits: 1, rtt, ..before };
        add(&mut sample, &socket, Some(before), moved);
        assert_eq!((sample.sent, sample.retransmitted, sample.progressing, sample.stalled), (4, 1, 1, 0));
        assert_eq!(sample.rtt, Some(rtt));
        let waits = TcpFigures { unacknowledged: 2, timeouts: 1, ..moved };
        add(&mut sample, &socket, Some(moved), waits);
        let opening = Socket { state: State::SynSent, ..socket };
        add(&mut sample, &opening, None, waits);
        assert_eq!((sample.progressing, sample.stalled), (2, 1));
    }
}
