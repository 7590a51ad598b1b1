use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::Direction;
use super::bulk::{BulkOptions, BulkReport, receive, send};
use super::socket::{TICK, is_tick, open_stream, set_congestion};
use crate::error::TrafficError;
use crate::node::Node;

/// Connections at a time; more wait in the kernel's backlog.
const MOST_CONNECTIONS: usize = 128;
/// Connections whose origin is remembered; later ones are not.
const MOST_SOURCES: usize = 4096;

/// The answering end of TCP transfers on one machine. Dropping it ends them.
#[derive(Debug)]
pub struct BulkServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    transfers: Mutex<BTreeMap<u64, Weak<Transfer>>>,
    sources: Mutex<Vec<IpAddr>>,
}

/// What both ends of a transfer share.
#[derive(Debug)]
pub(super) struct Transfer {
    options: BulkOptions,
    stop: AtomicBool,
    received: AtomicU64,
    report: Mutex<Option<BulkReport>>,
    ended: Condvar,
}

/// The right to one connection's transfer; it ends with its drop.
pub(super) struct Ticket {
    id: u64,
    shared: Arc<Shared>,
}

impl BulkServer {
    /// Listens on `node` at `address`; port 0 lets the system choose, see [`BulkServer::address`].
    ///
    /// # Errors
    /// [`TrafficError::Socket`], as when the port is taken.
    pub fn start(node: &Node, address: SocketAddr) -> Result<Self, TrafficError> {
        Self::listening(node, address, false)
    }

    /// The same for Multipath TCP (RFC 8684); plain TCP is answered too.
    ///
    /// # Errors
    /// [`TrafficError::Socket`], also where the kernel has no MPTCP, or it is switched off on `node`.
    pub fn start_multipath(node: &Node, address: SocketAddr) -> Result<Self, TrafficError> {
        Self::listening(node, address, true)
    }

    fn listening(node: &Node, address: SocketAddr, multipath: bool) -> Result<Self, TrafficError> {
        let listener = node.run(move || listen(address, multipath))?;
        let address = listener.local_addr().map_err(TrafficError::socket("learn the listening port"))?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let thread = node
            .thread("bulk server", move || accept(&listener, &accepting))
            .map_err(TrafficError::socket("start a thread"))?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From which address each connection came since the last call, the first 4,096 of them.
    pub fn take_sources(&self) -> Vec<IpAddr> {
        std::mem::take(&mut *self.shared.sources())
    }

    pub(super) fn register(&self, transfer: &Arc<Transfer>) -> Ticket {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.transfers().insert(id, Arc::downgrade(transfer));
        Ticket { id, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for BulkServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for transfer in self.shared.transfers().values().filter_map(Weak::upgrade) {
            transfer.stop();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn transfers(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Transfer>>> {
        self.transfers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.transfers().remove(&self.id);
    }
}

impl Transfer {
    pub(super) fn new(options: BulkOptions) -> Self {
        Self {
            options,
            stop: AtomicBool::new(false),
            received: AtomicU64::new(0),
            report: Mutex::new(None),
            ended: Condvar::new(),
        }
    }

    pub(super) fn options(&self) -> &BulkOptions {
        &self.options
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The receiving end's word, the last that is said about a transfer.
    pub(super) fn report(&self, report: BulkReport) {
        *self.lock() = Some(report);
        self.ended.notify_all();
    }

    /// What became of the sending end: the receiving one sees the consequences, this is for the log.
    pub(super) fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::debug!(%error, "the sending end of a transfer broke off");
        }
    }

    /// The receiving end's word, waiting for it if need be.
    pub(super) fn take_report(&self, limit: Duration) -> Option<BulkReport> {
        let waited = self.ended.wait_timeout_while(self.lock(), limit, |report| report.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BulkReport>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(address: SocketAddr, multipath: bool) -> Result<TcpListener, TrafficError> {
    let socket = open_stream(address, multipath, None, None)?;
    socket.set_reuse_address(true).map_err(TrafficError::socket("reuse an address"))?;
    socket.bind(&address.into()).map_err(TrafficError::socket(format!("listen on {address}")))?;
    socket.listen(64).map_err(TrafficError::socket(format!("listen on {address}")))?;
    // Nobody blocks in accept, so that the thread can end: Multipath TCP knows no timeout there.
    socket.set_nonblocking(true).map_err(TrafficError::socket("make a socket non-blocking"))?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MOST_CONNECTIONS {
            thread::park_timeout(TICK);
            continue;
        }
        wait_readable(listener);
        match listener.accept() {
            Ok((stream, from)) => {
                let mut sources = shared.sources();
                if sources.len() < MOST_SOURCES {
                    sources.push(from.ip().to_canonical());
                }
                drop(sources);
                let shared = Arc::clone(shared);
                let serve = move || {
                    if let Err(error) = serve(stream, &shared) {
                        tracing::debug!(%error, "a transfer's answering end broke off");
                    }
                };
                match thread::Builder::new().name("bulk answer".to_owned()).spawn(serve) {
                    Ok(connection) => connections.push(connection),
                    Err(error) => tracing::warn!(%error, "no thread for a transfer"),
                }
            }
            Err(error) if is_tick(&error) => {}
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                thread::park_timeout(TICK);
            }
        }
    }
    for connection in connections {
        let _ = connection.join();
    }
}

/// Until somebody wants to connect, a tick at most.
fn wait_readable(listener: &TcpListener) {
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    // Interrupted, the loop comes here again.
    let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
}

/// The ticket's number comes first; it says what is to be done.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut id = [0; 8];
    stream.read_exact(&mut id)?;
    let transfer = shared.transfers().get(&u64::from_be_bytes(id)).and_then(Weak::upgrade);
    let Some(transfer) = transfer else { return Err(io::Error::other("nobody waits for this transfer")) };
    match transfer.options().direction {
        Direction::Up => transfer.report(receive(&mut stream, &transfer)),
        Direction::Down => {
            if let Some(congestion) = &transfer.options().congestion {
                let socket = SockRef::from(&stream);
                set_congestion(&socket, congestion).map_err(io::Error::other)?;
            }
            transfer.note(send(&mut stream, &transfer));
        }
    }
    Ok(())
}
