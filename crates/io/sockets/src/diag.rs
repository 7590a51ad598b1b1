//! The conversation with the kernel: one request, its answers, its end.

use std::io;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr as NetlinkAddr};

use crate::MAX_SOCKETS;
use crate::error::DiagError;
use crate::request::{self, Listed, MAX_MARKS, Mark};
use crate::socket::{Protocol, Socket, State};

const LIST: &str = "list this machine's sockets";
const CLOSE: &str = "close a socket of another program";
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Passes over a mark in [`SockDiag::destroy_marked`]: a socket that was made during one is met by the next.
const PASSES: usize = 3;

/// Which sockets are listed.
#[derive(Clone, Debug)]
pub struct Query {
    /// Of which protocols.
    pub protocols: Vec<Protocol>,
    /// In which stages.
    pub states: Vec<State>,
    /// With one of these marks, at most [`MAX_MARKS`]; empty: with any and with none. Needs `CAP_NET_ADMIN` unless empty.
    pub marks: Vec<Mark>,
}

impl Default for Query {
    /// TCP and UDP sockets in all stages but `Listen` and `TimeWait`, whatever their mark.
    fn default() -> Self {
        let states = State::ALL.into_iter().filter(|state| !matches!(state, State::Listen | State::TimeWait));
        Self { protocols: vec![Protocol::Tcp, Protocol::Udp], states: states.collect(), marks: Vec::new() }
    }
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// The sockets, at most [`MAX_SOCKETS`], in the kernel's order.
    pub sockets: Vec<Socket>,
    /// How many more there were.
    pub left_out: usize,
    /// Messages that could not be read.
    pub unreadable: usize,
}

/// A connection to the kernel's socket diagnostics, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct SockDiag {
    socket: NetlinkSocket,
    sequence: u32,
}

impl SockDiag {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel gives no netlink socket of this kind.
    pub fn open() -> Result<Self, DiagError> {
        let open = || {
            let mut socket = NetlinkSocket::new(NETLINK_SOCK_DIAG)?;
            socket.bind_auto()?;
            socket.connect(&NetlinkAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(|source| DiagError::kernel(LIST, source))?, sequence: 0 })
    }

    /// Lists sockets of both families. Protocols that the kernel cannot list are left out.
    ///
    /// # Errors
    /// Marks are asked for without the right to see them, or too many of them; the kernel does not answer.
    pub fn dump(&mut self, query: &Query) -> Result<Dump, DiagError> {
        if query.marks.len() > MAX_MARKS {
            return Err(DiagError::TooManyMarks { count: query.marks.len(), most: MAX_MARKS });
        }
        let states = query.states.iter().fold(0, |bits, state| bits | state.bit());
        let mut dump = Dump::default();
        for protocol in &query.protocols {
            for listed in Listed::all(*protocol) {
                self.sequence = self.sequence.wrapping_add(1);
                let request = request::dump(*listed, states, &query.marks, self.sequence);
                match self.exchange(&request, LIST, |body| take(&mut dump, *protocol, body)) {
                    Err(DiagError::NotSupported { .. }) => {}
                    // No module for this protocol.
                    Err(error) if error.is_gone() => {}
                    other => other?,
                }
            }
        }
        Ok(dump)
    }

    /// Closes a TCP socket: its application sees an error (`ECONNABORTED`) at once, the other side a reset. Whether it was still there.
    ///
    /// # Errors
    /// No right to, or the kernel cannot.
    pub fn destroy(&mut self, socket: &Socket) -> Result<bool, DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request::destroy(socket.protocol, &socket.key, self.sequence);
        match self.exchange(&request, CLOSE, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes all TCP sockets with this mark, those that are still connecting too. How many there were.
    ///
    /// # Errors
    /// No right to, or the kernel cannot.
    pub fn destroy_marked(&mut self, mark: Mark) -> Result<usize, DiagError> {
        let query = Query { protocols: vec![Protocol::Tcp], states: State::ALIVE.into(), marks: vec![mark] };
        let mut count = 0;
        for _ in 0..PASSES {
            let dump = self.dump(&query)?;
            let mut found = 0;
            for socket in &dump.sockets {
                found += usize::from(self.destroy(socket)?);
            }
            count += found;
            if found == 0 && dump.left_out == 0 {
                break;
            }
        }
        Ok(count)
    }

    /// Sends a request, and gives the bodies of its answers to `each` until its end.
    fn exchange(
        &mut self,
        request: &[u8],
        what: &'static str,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), DiagError> {
        let kernel = |source| DiagError::kernel(what, source);
        self.socket.send(request, 0).map_err(kernel)?;
        loop {
            let (datagram, sender) = self.socket.recv_from_full().map_err(kernel)?;
            // Other processes may send to this socket too.
            if sender.port_number() != 0 {
                continue;
            }
            if let Some(end) = read(&datagram, self.sequence, &mut each) {
                return end.map_err(kernel);
            }
        }
    }
}

/// Takes one socket into a dump.
fn take(dump: &mut Dump, protocol: Protocol, body: &[u8]) {
    match Socket::decode(protocol, body) {
        None => dump.unreadable += 1,
        Some(_) if dump.sockets.len() >= MAX_SOCKETS => dump.left_out += 1,
        Some(socket) => dump.sockets.push(socket),
    }
}

/// Reads the messages of a datagram that belong to one request. Gives the request's end, if it is among them.
pub(crate) fn read(datagram: &[u8], sequence: u32, mut each: impl FnMut(&[u8])) -> Option<io::Result<()>> {
    let mut rest = datagram;
    loop {
        let head: &[u8; 16] = rest.first_chunk()?;
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let body = rest.get(16..length)?;
        if u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) == sequence {
            match kind {
                DONE => {
                    // A dump that was refused half-way says so here.
                    let code = body.first_chunk().copied().map_or(0, i32::from_ne_bytes);
                    return Some(outcome(code));
                }
                ERROR => {
                    let code = body.first_chunk().copied().map_or(-libc::EPROTO, i32::from_ne_bytes);
                    return Some(outcome(code));
                }
                _ => each(body),
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn outcome(code: i32) -> io::Result<()> {
    if code >= 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}
