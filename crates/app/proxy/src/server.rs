//! The proxy as its owner sees it: bind, run, tell it of links, stop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use bondwire_units::LinkId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime;
use tokio::task::LocalSet;

use crate::config::{Config, Login};
use crate::director::{Director, Links, SocketId};
use crate::error::BindError;
use crate::worker::{self, Inbox, Shared, Worker};

/// The most threads that are started by themselves.
const MOST_WORKERS: usize = 16;

/// A proxy that listens. Clients are served from [`run`](Self::run) on.
pub struct Proxy {
    shared: Arc<Shared>,
    listeners: Vec<std::net::TcpListener>,
    address: SocketAddr,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens. Raises the process's own limit on open files as far as it may, since a client needs two and more.
    ///
    /// # Errors
    /// When the address is taken or not this machine's, or the login cannot be used.
    pub fn bind(
        mut config: Config,
        director: Arc<dyn Director>,
        links: Arc<dyn Links>,
    ) -> Result<Self, BindError> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        if let Some(Login { user, password }) = &config.login
            && !(fits(user) && fits(password))
        {
            return Err(BindError::Login);
        }
        let processors = thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
        let workers = if config.workers == 0 { processors } else { config.workers };
        config.limits = config.limits.within(open_files(), workers);
        let address = config.listen;
        let failed = |source| BindError::Listen { address, source };
        let listeners = worker::listeners(address, workers).map_err(failed)?;
        let address = listeners[0].local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            config,
            director,
            links,
            pipes: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            inboxes: (0..workers).map(|_| Inbox::default()).collect(),
            stopping: AtomicBool::new(false),
        });
        Ok(Self { shared, listeners, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ProxyHandle {
        ProxyHandle { shared: self.shared.clone() }
    }

    /// Serves clients on threads of its own until [`ProxyHandle::stop`]; open connections are reset then.
    ///
    /// # Errors
    /// When the threads or their event queues cannot be made.
    pub fn run(self) -> Result<(), BindError> {
        let mut threads = Vec::new();
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let shared = self.shared.clone();
            let spawned = thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
                let _stop = StopAll(ProxyHandle { shared: shared.clone() });
                serve(shared, index, listener)
            });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    ProxyHandle { shared: self.shared.clone() }.stop();
                    return Err(BindError::Threads(error));
                }
            }
        }
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(ended.map_err(BindError::Threads));
        }
        outcome
    }
}

/// Ends all threads when one ends, even by a panic: its listening socket's clients would have no answer.
struct StopAll(ProxyHandle);

impl Drop for StopAll {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn serve(shared: Arc<Shared>, index: usize, listener: std::net::TcpListener) -> std::io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, Worker::new(shared, index).run(listener))
}

/// The limit on open files, raised as far as this process may.
pub(crate) fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let wanted = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if limit.current.is_some_and(|now| now < wanted) && setrlimit(Resource::Nofile, raised).is_ok() {
            return wanted;
        }
    }
    limit.current.unwrap_or(1 << 20)
}

/// Tells a running proxy of links, and ends it. Cheap to clone; its calls never block.
#[derive(Clone)]
pub struct ProxyHandle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyHandle").field("counters", &self.counters()).finish()
    }
}

/// What a proxy did since it started, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Clients connected now.
    pub clients: usize,
    /// Clients served since the start.
    pub served: usize,
    /// Clients refused because too many were connected.
    pub refused: usize,
    /// Pipes for splicing that exist.
    pub pipes: usize,
}

impl ProxyHandle {
    /// Closes the link's TCP sockets with a reset, unless the configuration says keep.
    pub fn evict(&self, link: LinkId) {
        for inbox in &self.shared.inboxes {
            inbox.evict(link);
        }
    }

    /// Closes the link's TCP sockets that have one of these source addresses, which it has lost, with a reset: they hang otherwise.
    /// Unless the configuration says keep.
    pub fn evict_addresses(&self, link: LinkId, lost: &[IpAddr]) {
        for inbox in &self.shared.inboxes {
            inbox.evict_addresses(link, lost);
        }
    }

    /// Gives a UDP flow another link, from its next datagram on.
    pub fn move_flow(&self, socket: SocketId, to: LinkId) {
        for inbox in &self.shared.inboxes {
            inbox.move_flow(socket, to);
        }
    }

    /// The link's route is another one: the answers of its resolvers are forgotten, and sockets for datagrams are made anew.
    pub fn route_changed(&self, link: LinkId) {
        for inbox in &self.shared.inboxes {
            inbox.route_changed(link);
        }
    }

    /// Ends [`Proxy::run`].
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for inbox in &self.shared.inboxes {
            inbox.wake();
        }
    }

    /// What it did and holds.
    pub fn counters(&self) -> Counters {
        Counters {
            clients: self.shared.clients(),
            served: self.shared.served.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            pipes: self.shared.pipes.load(Ordering::Relaxed),
        }
    }
}
