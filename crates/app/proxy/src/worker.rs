//! One thread of the proxy: its event loop, its list of open sockets, its caches.
//!
//! Each worker has a listening socket of its own on the shared port (`SO_REUSEPORT`), so the kernel spreads connects by hash.
//! Long transfers may pile up on one thread by chance; so a worker that serves far more clients than the least busy one hands
//! new ones over. Everything else of a client stays on its thread: no locks, no shared counters but the number of clients.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bondwire_units::LinkId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::client;
use crate::config::{Config, Evicted};
use crate::director::{Director, Links, SocketId};
use crate::dns::cache::Cache;
use crate::lease::{self, Leases};
use crate::relay::pipe::Pipes;

/// Clients over the limit that are told so; more are closed without a word, and counted as refused.
const REFUSALS: usize = 64;
/// The least buffer that a read gets; see [`Worker::scratch`].
pub(crate) const SCRATCH: usize = 64 * 1024;
/// A worker hands a client over if it has this many more than twice the least busy one's. A hand-over costs about a tenth of a
/// short connection, so it is for transfers that pile up and not for chance.
const UNEQUAL: usize = 4;
/// Flows of which a worker can be told between two looks at its post; the others ask for a link when theirs fails to send.
const MOST_MOVES: usize = 4096;
/// After a failed accept (no files left) the next try waits this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Of failures to take a client, one in so many is logged.
const SAID_EVERY: u32 = 200;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) director: Arc<dyn Director>,
    pub(crate) links: Arc<dyn Links>,
    /// Pipes that exist, over all workers.
    pub(crate) pipes: AtomicUsize,
    /// Clients that were served, and those that were refused for want of room.
    pub(crate) served: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    pub(crate) inboxes: Vec<Inbox>,
    pub(crate) stopping: AtomicBool,
}

/// What other threads want of a worker.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Clients that it serves.
    clients: AtomicUsize,
    post: Mutex<Post>,
    arrived: Notify,
}

/// Bounded: clients by the limit on them, moves by [`MOST_MOVES`], the rest by the number of links and their addresses.
#[derive(Default)]
struct Post {
    clients: Vec<StdStream>,
    evicted: Vec<LinkId>,
    lost: Vec<(LinkId, IpAddr)>,
    moved: Vec<(SocketId, LinkId)>,
    rerouted: Vec<LinkId>,
}

impl Inbox {
    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn evict(&self, link: LinkId) {
        let mut post = self.post();
        if !post.evicted.contains(&link) {
            post.evicted.push(link);
        }
        drop(post);
        self.arrived.notify_one();
    }

    pub(crate) fn evict_addresses(&self, link: LinkId, lost: &[IpAddr]) {
        let mut post = self.post();
        for ip in lost {
            if !post.lost.contains(&(link, *ip)) {
                post.lost.push((link, *ip));
            }
        }
        drop(post);
        self.arrived.notify_one();
    }

    pub(crate) fn move_flow(&self, socket: SocketId, to: LinkId) {
        let mut post = self.post();
        if post.moved.len() < MOST_MOVES {
            post.moved.push((socket, to));
        }
        drop(post);
        self.arrived.notify_one();
    }

    pub(crate) fn route_changed(&self, link: LinkId) {
        let mut post = self.post();
        if !post.rerouted.contains(&link) {
            post.rerouted.push(link);
        }
        drop(post);
        self.arrived.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }
}

impl Shared {
    /// Clients on all workers.
    pub(crate) fn clients(&self) -> usize {
        self.inboxes.iter().map(|inbox| inbox.clients.load(Ordering::Relaxed)).sum()
    }
}

/// One thread's state.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    index: usize,
    pub(crate) leases: Leases,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) pipes: RefCell<Pipes>,
    /// One buffer for all reads of this thread; borrowed only between two awaits, so idle sockets hold none.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    pub(crate) associations: Cell<usize>,
    /// How often some link's route has changed: sockets that are kept for a link may be tied to what it was.
    pub(crate) reroutes: Cell<u64>,
    /// Clients that are being connected.
    pub(crate) connecting: Cell<usize>,
    /// Clients that could not be taken.
    failures: Cell<u32>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Rc<Self> {
        let cache = Cache::new(shared.config.limits.cached_answers);
        Rc::new(Self {
            index,
            leases: Leases::default(),
            cache: RefCell::new(cache),
            pipes: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            associations: Cell::new(0),
            reroutes: Cell::new(0),
            connecting: Cell::new(0),
            failures: Cell::new(0),
            shared,
        })
    }

    fn inbox(&self) -> &Inbox {
        &self.shared.inboxes[self.index]
    }

    /// Runs until the proxy stops.
    pub(crate) async fn run(self: Rc<Self>, listener: StdListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut report = Vec::new();
        let mut sweeps = tokio::time::interval(lease::SWEEP);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                stop = self.arrived() => if stop { break },
                () = self.accept(&listener) => {}
                _ = sweeps.tick() => lease::sweep(&self.leases, &*self.shared.director, &mut report),
            }
        }
        lease::sweep(&self.leases, &*self.shared.director, &mut report);
        lease::stop(&self.leases);
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Waits for word from other threads, and acts on it. True: it is time to stop.
    pub(crate) async fn arrived(self: &Rc<Self>) -> bool {
        self.inbox().arrived.notified().await;
        if self.shared.stopping.load(Ordering::Acquire) {
            return true;
        }
        self.read_post();
        false
    }

    fn read_post(self: &Rc<Self>) {
        let post = std::mem::take(&mut *self.inbox().post());
        for stream in post.clients {
            // It was counted by the worker that handed it over.
            let presence = Presence { worker: self.clone() };
            match TcpStream::from_std(stream) {
                Ok(stream) => self.serve(presence, stream),
                Err(error) => tracing::warn!(%error, "cannot watch a client's socket"),
            }
        }
        for link in post.rerouted {
            self.cache.borrow_mut().forget(link);
            self.reroutes.set(self.reroutes.get().wrapping_add(1));
        }
        if self.shared.config.evicted == Evicted::Reset {
            for link in post.evicted {
                lease::evict(&self.leases, link, None);
            }
            for (link, ip) in post.lost {
                lease::evict(&self.leases, link, Some(&[ip]));
            }
        }
        if !post.moved.is_empty() {
            lease::move_flows(&self.leases, &post.moved);
        }
    }

    async fn accept(self: &Rc<Self>, listener: &TcpListener) {
        match listener.accept().await {
            Ok((stream, _)) => self.admit(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Once in a while: this repeats as long as it lasts.
                let before = self.failures.replace(self.failures.get().wrapping_add(1));
                if before.is_multiple_of(SAID_EVERY) {
                    tracing::warn!(%error, "cannot take a client: files or memory used up");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }

    /// Serves a new client here, or where fewer are.
    fn admit(self: &Rc<Self>, stream: TcpStream) {
        let inboxes = &self.shared.inboxes;
        if self.shared.clients() >= self.shared.config.limits.clients + REFUSALS {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mine = self.inbox().clients.load(Ordering::Relaxed);
        let least = inboxes.iter().min_by_key(|inbox| inbox.clients.load(Ordering::Relaxed));
        match least {
            Some(other) if mine >= UNEQUAL + 2 * other.clients.load(Ordering::Relaxed) => {
                let Ok(stream) = stream.into_std() else { return };
                other.clients.fetch_add(1, Ordering::Relaxed);
                other.post().clients.push(stream);
                other.arrived.notify_one();
            }
            _ => {
                self.inbox().clients.fetch_add(1, Ordering::Relaxed);
                self.serve(Presence { worker: self.clone() }, stream);
            }
        }
    }

    fn serve(self: &Rc<Self>, presence: Presence, stream: TcpStream) {
        self.shared.served.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_local(client::serve(presence, stream));
    }
}

/// A client's place among those that are counted, given back on drop.
pub(crate) struct Presence {
    pub(crate) worker: Rc<Worker>,
}

impl Presence {
    /// Whether there is room for this client, or only for telling it that there is none.
    pub(crate) fn has_room(&self) -> bool {
        let room = self.worker.shared.clients() <= self.worker.shared.config.limits.clients;
        if !room {
            self.worker.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        room
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.inbox().clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that is being connected, counted as such until it is dropped.
pub(crate) struct Connecting<'a>(&'a Worker);

impl<'a> Connecting<'a> {
    pub(crate) fn new(worker: &'a Worker) -> Self {
        worker.connecting.set(worker.connecting.get() + 1);
        Self(worker)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
    }
}

/// Listening sockets on one address, one for each worker.
///
/// The first is bound alone, so that a port that somebody else holds is found out even if they allow sharing.
pub(crate) fn listeners(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    use socket2::{Domain, Protocol, Socket, Type};
    let open = |address: SocketAddr, shared: bool| -> io::Result<Socket> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        // Clients' sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let alone = open(address, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(address);
    alone.set_reuse_port(true)?;
    let mut all = vec![alone];
    for _ in 1..count {
        all.push(open(address, true)?);
    }
    for socket in &all {
        // Clients of both protocols speak first.
        bondwire_stream::defer_accept(socket, 1)?;
        socket.listen(1024)?;
    }
    Ok(all.into_iter().map(StdListener::from).collect())
}
