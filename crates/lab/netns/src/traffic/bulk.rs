use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bondwire_units::Timestamp;
use socket2::SockRef;

use super::content::{Content, Fnv, hash_of};
use super::server::{BulkServer, Transfer};
use super::socket::{TICK, connect, is_tick, open_stream};
use super::{Direction, Timeline};
use crate::clock;
use crate::error::TrafficError;
use crate::node::Node;

/// Bytes per read and write.
const CHUNK: usize = 128 * 1024;
/// A sender whose time is over waits this long for the receiver to end the transfer: it is the receiver's clock that
/// counts, and its close that throws away what is still queued.
const GRACE: Duration = Duration::from_secs(2);

/// What one TCP transfer is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkOptions {
    /// Which way the bytes go; default down.
    pub direction: Direction,
    /// How much; none is as much as goes in the time. Default none.
    pub bytes: Option<u64>,
    /// The time after which it ends in any case, connecting not included; default 10 s.
    pub limit: Duration,
    /// How long connecting may take; default 10 s.
    pub connect_limit: Duration,
    /// The sender's congestion control; none is the system's. Default cubic.
    pub congestion: Option<String>,
    /// The interface at the opening end to which the connection is bound; default none.
    pub interface: Option<String>,
    /// Whether it is a Multipath TCP connection (RFC 8684), for which both machines need `net.mptcp.enabled = 1` and the
    /// opening one its other addresses as endpoints; default no.
    pub multipath: bool,
    /// What the content follows from; default 1.
    pub seed: u64,
    /// Whether the content is compared and hashed, which costs both ends CPU time; default yes.
    pub verify: bool,
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self {
            direction: Direction::Down,
            bytes: None,
            limit: Duration::from_secs(10),
            connect_limit: Duration::from_secs(10),
            congestion: Some("cubic".to_owned()),
            interface: None,
            multipath: false,
            seed: 1,
            verify: true,
        }
    }
}

/// What became of a transfer, as its receiving end saw it.
#[derive(Clone, Debug)]
pub struct BulkReport {
    /// When how much arrived; it starts when the connection was there.
    pub timeline: Timeline,
    /// Whether every byte that arrived was the right one. Always true without [`BulkOptions::verify`].
    pub intact: bool,
    /// Whether all of [`BulkOptions::bytes`] arrived; true if none were asked for.
    pub complete: bool,
    /// FNV-1a (64 bits) of what arrived, if it was verified.
    pub hash: Option<u64>,
    /// What broke the connection, if something did.
    pub error: Option<String>,
}

impl BulkReport {
    /// The hash that the first `len` bytes of the content of `seed` have.
    pub fn expected_hash(seed: u64, len: u64) -> u64 {
        hash_of(seed, len)
    }
}

/// A running transfer. Dropping it ends it.
#[derive(Debug)]
pub struct Bulk {
    transfer: Arc<Transfer>,
    opener: Option<JoinHandle<Result<(), TrafficError>>>,
    to: SocketAddr,
}

impl Bulk {
    /// Opens a connection from `node` to the server and starts the transfer.
    ///
    /// # Errors
    /// [`TrafficError::Socket`] if the system refuses a thread; what fails later is in the result of [`Bulk::finish`].
    pub fn start(node: &Node, server: &BulkServer, options: BulkOptions) -> Result<Self, TrafficError> {
        let transfer = Arc::new(Transfer::new(options.clone()));
        let ticket = server.register(&transfer);
        let (to, shared) = (server.address(), Arc::clone(&transfer));
        let opener = move || {
            let result = run_opener(to, &ticket.id().to_be_bytes(), &shared);
            if result.is_err() {
                shared.stop();
            }
            // The ticket ends here: a connection that comes later finds nothing.
            drop(ticket);
            result
        };
        let opener = node.thread("bulk", opener).map_err(TrafficError::socket("start a thread"))?;
        Ok(Self { transfer, opener: Some(opener), to })
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.transfer.received()
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self) -> bool {
        self.opener.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the transfer now; [`Bulk::finish`] then has what arrived.
    pub fn stop(&self) {
        self.transfer.stop();
    }

    /// Waits for the end, which comes by itself, and says what arrived.
    ///
    /// # Errors
    /// [`TrafficError::NoAnswer`] or [`TrafficError::Socket`] if there was no connection at all.
    pub fn finish(mut self) -> Result<BulkReport, TrafficError> {
        let opener = self.opener.take().ok_or(TrafficError::ThreadLost)?;
        opener.join().map_err(|_| TrafficError::ThreadLost)??;
        // On the way up the receiver may still be reading what was on its way.
        let limit = Duration::from_secs(5);
        let report = self.transfer.take_report(limit);
        report.ok_or(TrafficError::NoAnswer { to: self.to, seconds: limit.as_secs_f64() })
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.transfer.stop();
        if let Some(opener) = self.opener.take() {
            // Whoever drops a transfer does not ask for its result.
            let _ = opener.join();
        }
    }
}

fn run_opener(to: SocketAddr, id: &[u8], transfer: &Transfer) -> Result<(), TrafficError> {
    let options = transfer.options();
    let (interface, congestion) = (options.interface.as_deref(), options.congestion.as_deref());
    let socket = open_stream(to, options.multipath, interface, congestion)?;
    connect(&socket, to, options.connect_limit)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(id).map_err(TrafficError::socket("ask for a transfer"))?;
    match options.direction {
        Direction::Up => transfer.note(send(&mut stream, transfer)),
        Direction::Down => transfer.report(receive(&mut stream, transfer)),
    }
    Ok(())
}

/// Sends the transfer's content until it is complete, its time is over or it is stopped.
pub(super) fn send(stream: &mut TcpStream, transfer: &Transfer) -> io::Result<()> {
    let options = transfer.options();
    stream.set_write_timeout(Some(TICK))?;
    let end = clock::now() + options.limit + GRACE;
    let mut content = Content::new(options.seed);
    let (mut chunk, mut sent) = (vec![0; CHUNK], CHUNK);
    let mut left = options.bytes.unwrap_or(u64::MAX);
    while left > 0 && !transfer.is_stopped() && clock::now() < end {
        if sent == chunk.len() {
            if options.verify {
                content.fill(&mut chunk);
            }
            sent = 0;
        }
        let most = chunk.len().min(sent.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        match stream.write(&chunk[sent..most]) {
            Ok(len) => {
                sent += len;
                left -= len as u64;
            }
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if left > 0 {
        // Over: what the kernel still holds must not burden the link any longer.
        return SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    }
    stream.shutdown(Shutdown::Write)?;
    wait_for_close(stream, transfer, end)
}

/// Until the other end has read everything and closed, or the time is over.
fn wait_for_close(stream: &mut TcpStream, transfer: &Transfer, end: Timestamp) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    while !transfer.is_stopped() && clock::now() < end {
        match stream.read(&mut [0; 16]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives until the other end is done, the time is over or the transfer is stopped.
pub(super) fn receive(stream: &mut TcpStream, transfer: &Transfer) -> BulkReport {
    let options = transfer.options();
    let start = clock::now();
    let mut report =
        BulkReport { timeline: Timeline::new(start), intact: true, complete: false, hash: None, error: None };
    let (mut content, mut hash) = (Content::new(options.seed), Fnv::new());
    let mut chunk = vec![0; CHUNK];
    let mut left = options.bytes.unwrap_or(u64::MAX);
    if let Err(error) = stream.set_read_timeout(Some(TICK)) {
        report.error = Some(error.to_string());
    }
    while report.error.is_none()
        && left > 0
        && !transfer.is_stopped()
        && clock::now().since(start) < options.limit
    {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => {
                report.timeline.record(len, clock::now());
                transfer.add_received(len);
                left = left.saturating_sub(len as u64);
                if options.verify {
                    report.intact &= content.matches(&chunk[..len]);
                    hash.update(&chunk[..len]);
                }
            }
            Err(error) if is_tick(&error) || transfer.is_stopped() => {}
            Err(error) => report.error = Some(error.to_string()),
        }
    }
    report.complete = options.bytes.is_none() || left == 0;
    report.hash = options.verify.then(|| hash.value());
    report
}
