//! This machine's sockets as `bondwire sockets` shows them, from the kernel's diagnostics.
//!
//! [`SocketWatch`] looks when it is asked to, and remembers what each connection had carried at the look before: a rate is what was
//! moved between two looks, so the first one shows none.
//!
//! Bounds: as many sockets as a dump holds are remembered ([`bondwire_sockets::MAX_SOCKETS`]), [`MAX_LISTED`] are listed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bondwire_api::{Mode, SocketEntry, Sockets};
use bondwire_sockets::{DiagError, Owners, Protocol, Query, SockDiag, Socket, State};
use bondwire_units::{Bitrate, ByteCount};

/// The most sockets that an answer lists.
pub(crate) const MAX_LISTED: usize = 10_000;
/// Two looks that are closer than this say nothing about a rate.
const MIN_STEP: Duration = Duration::from_millis(50);

/// What a connection had carried.
#[derive(Clone, Copy, Debug)]
struct Mileage {
    at: Instant,
    sent: u64,
    received: u64,
    tx: Bitrate,
    rx: Bitrate,
}

/// A socket with what two looks say of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As the kernel describes it.
    pub(crate) socket: Socket,
    /// Sent and received now; zero for UDP, of which the kernel counts nothing.
    pub(crate) tx: Bitrate,
    pub(crate) rx: Bitrate,
}

/// Looks at the machine's sockets.
#[derive(Debug)]
pub(crate) struct SocketWatch {
    diag: SockDiag,
    owners: Owners,
    before: BTreeMap<u64, Mileage>,
}

impl SocketWatch {
    /// Nothing was looked at yet.
    pub(crate) fn open() -> Result<Self, DiagError> {
        Ok(Self { diag: SockDiag::open()?, owners: Owners::new(), before: BTreeMap::new() })
    }

    /// Closes the TCP sockets that `doomed` says yes to, those that are still connecting too. How many there were.
    pub(crate) fn close(&mut self, doomed: impl Fn(&Socket) -> bool) -> Result<usize, DiagError> {
        let query = Query { protocols: vec![Protocol::Tcp], states: State::ALIVE.into(), ..Query::default() };
        let mut count = 0;
        for socket in self.diag.dump(&query)?.sockets.iter().filter(|socket| doomed(socket)) {
            count += usize::from(self.diag.destroy(socket)?);
        }
        Ok(count)
    }

    /// The inodes of the sockets that programs of this machine have open to a local server, by their own ends.
    pub(crate) fn clients_of(&mut self, server: SocketAddr) -> Result<BTreeMap<SocketAddr, u64>, DiagError> {
        let query = Query { protocols: vec![Protocol::Tcp], states: State::ALIVE.into(), ..Query::default() };
        let sockets = self.diag.dump(&query)?.sockets;
        // A server may listen on every address of this machine.
        let is_it = |remote: SocketAddr| {
            remote == server || (server.ip().is_unspecified() && remote.port() == server.port())
        };
        let clients = sockets.into_iter().filter(|socket| is_it(socket.remote) && socket.inode != 0);
        Ok(clients.map(|socket| (socket.local, socket.inode)).collect())
    }

    /// The program of an inode, as far as [`SocketWatch::find_owners`] found it.
    pub(crate) fn owner(&self, inode: u64) -> Option<&bondwire_sockets::Process> {
        self.owners.of(inode)
    }

    /// Looks for the processes of these sockets, and of `more` inodes.
    pub(crate) fn find_owners<'a>(
        &mut self,
        seen: impl IntoIterator<Item = &'a Seen>,
        more: impl IntoIterator<Item = u64>,
    ) {
        self.owners.refresh(seen.into_iter().map(|seen| seen.socket.inode).chain(more));
    }

    /// All connected sockets that `wanted` says yes to, and how many there were beyond a dump's bound.
    pub(crate) fn look(&mut self, wanted: impl Fn(&Socket) -> bool) -> Result<(Vec<Seen>, usize), DiagError> {
        let dump = self.diag.dump(&Query::default())?;
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.before);
        let mut all = Vec::new();
        for socket in dump.sockets {
            if socket.remote.port() == 0 || socket.remote.ip().is_loopback() || !wanted(&socket) {
                continue;
            }
            let (sent, received) = bytes_of(&socket);
            let mut mileage = Mileage { at: now, sent, received, tx: Bitrate::ZERO, rx: Bitrate::ZERO };
            if let Some(last) = before.remove(&socket.cookie) {
                let step = now.duration_since(last.at);
                if step < MIN_STEP {
                    mileage = last;
                } else {
                    let rate = |now: u64, then: u64| {
                        Bitrate::from_bytes_over(ByteCount::new(now.saturating_sub(then)), step)
                    };
                    (mileage.tx, mileage.rx) = (rate(sent, last.sent), rate(received, last.received));
                }
            }
            self.before.insert(socket.cookie, mileage);
            all.push(Seen { socket, tx: mileage.tx, rx: mileage.rx });
        }
        Ok((all, dump.left_out))
    }

    /// The sockets that go through a bond: those with an address inside it.
    pub(crate) fn through_bond(
        &mut self,
        mode: Option<Mode>,
        inner: &[IpAddr],
    ) -> Result<Sockets, DiagError> {
        let (seen, left_out) = self.look(|socket| inner.contains(&socket.local.ip()))?;
        self.find_owners(&seen, []);
        let entries = seen.iter().map(|seen| SocketEntry { way: "bond".to_owned(), ..self.entry(seen) });
        Ok(listed(mode, entries.collect(), left_out))
    }

    /// What the kernel knows of a socket, for the API.
    pub(crate) fn entry(&self, seen: &Seen) -> SocketEntry {
        let socket = &seen.socket;
        let owner = self.owners.of(socket.inode);
        let (bytes_tx, bytes_rx) = bytes_of(socket);
        let moves = seen.tx.as_bps() + seen.rx.as_bps() > 0;
        let rtt = socket.tcp.map(|tcp| tcp.rtt).filter(|rtt| !rtt.is_zero());
        SocketEntry {
            protocol: match socket.protocol {
                Protocol::Tcp => "tcp".to_owned(),
                Protocol::Udp => "udp".to_owned(),
            },
            stage: stage(socket, moves).to_owned(),
            process: owner.map(|owner| owner.name.clone()),
            pid: owner.map(|owner| owner.pid),
            local: socket.local.to_string(),
            remote: socket.remote.to_string(),
            bytes_tx,
            bytes_rx,
            tx_bps: seen.tx.as_bps(),
            rx_bps: seen.rx.as_bps(),
            rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            retransmits: socket.tcp.map(|tcp| tcp.retransmits.into()),
            ..SocketEntry::default()
        }
    }
}

/// The busiest first, no more than [`MAX_LISTED`].
pub(crate) fn listed(mode: Option<Mode>, mut entries: Vec<SocketEntry>, left_out: usize) -> Sockets {
    entries.sort_by(|a, b| {
        let busy = |entry: &SocketEntry| (entry.tx_bps + entry.rx_bps, entry.bytes_tx + entry.bytes_rx);
        busy(b).cmp(&busy(a)).then_with(|| a.local.cmp(&b.local)).then_with(|| a.remote.cmp(&b.remote))
    });
    let left_out = left_out + entries.len().saturating_sub(MAX_LISTED);
    entries.truncate(MAX_LISTED);
    Sockets { mode, sockets: entries, left_out: left_out as u64 }
}

fn bytes_of(socket: &Socket) -> (u64, u64) {
    // The first acknowledged byte is the SYN's.
    socket.tcp.map_or((0, 0), |tcp| (tcp.bytes_acknowledged.saturating_sub(1), tcp.bytes_received))
}

/// The word for a socket's stage.
pub(crate) fn stage(socket: &Socket, moves: bool) -> &'static str {
    match (socket.protocol, socket.state) {
        (Protocol::Udp, _) => "active",
        (_, State::SynSent) => "connecting",
        (_, State::Established | State::SynReceived) if moves => "transferring",
        (_, State::Established | State::SynReceived) => "established",
        (_, State::Close) => "closed",
        _ => "closing",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_list_is_bounded() {
        let entry = |rx_bps, bytes_rx| SocketEntry { rx_bps, bytes_rx, ..SocketEntry::default() };
        let entries = vec![entry(0, 5), entry(9, 1), entry(0, 7)];
        let sockets = listed(Some(Mode::Balance), entries, 1);
        let order: Vec<u64> = sockets.sockets.iter().map(|entry| entry.bytes_rx).collect();
        assert_eq!((order, sockets.left_out), (vec![1, 7, 5], 1));
        let many = vec![entry(0, 0); MAX_LISTED + 5];
        assert_eq!(listed(None, many, 0).left_out, 5);
    }

    #[test]
    fn loopback_is_not_shown() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        stream.write_all(b"x").expect("sent");
        let mut watch = SocketWatch::open().expect("open");
        let local = stream.local_addr().expect("an address");
        let (seen, _) = watch.look(|_| true).expect("listed");
        assert!(seen.iter().all(|seen| seen.socket.local != local));
    }
}
