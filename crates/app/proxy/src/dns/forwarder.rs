//! A DNS server that passes queries to the links' resolvers.
//!
//! The director names the link of each query; when no answer came in its patience the next link is asked too, and the first
//! good answer goes to the client. Answers are kept per link as long as they say (see [`cache`](super::cache)). Over UDP
//! an answer that is larger than the client takes is cut and marked, so that the client asks again over TCP; such queries go to the resolvers over
//! TCP too. What is no query gets no answer; a query that no link could answer gets SERVFAIL, at once rather than never.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::connect::route;
use crate::director::{Director, Failure, Links, Placement, Request, Transport};
use crate::dns::exchange::{self, Answer, Question, read_framed, write_framed};
use crate::dns::message::{self, Query};
use crate::error::BindError;
use crate::lease::Lease;
use crate::race::{Race, Step};
use crate::server::open_files;
use crate::worker::{Inbox, Shared, Worker};

/// A client's TCP connection without a query ends after this.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// All of a query's time, over however many links.
const LONGEST: Duration = Duration::from_secs(8);
/// TCP clients at one time.
const TCP_CLIENTS: usize = 64;

/// A DNS server that listens on UDP and TCP. Clients are served from [`run`](Self::run) on.
pub struct Forwarder {
    shared: Arc<Shared>,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    address: SocketAddr,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Listens on `config.listen`; of the rest of the configuration the limits count.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub fn bind(
        mut config: Config,
        director: Arc<dyn Director>,
        links: Arc<dyn Links>,
    ) -> Result<Self, BindError> {
        config.limits = config.limits.within(open_files(), 1);
        let address = config.listen;
        let failed = |source| BindError::Listen { address, source };
        let (udp, tcp) = both(address).map_err(failed)?;
        let address = udp.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            config,
            director,
            links,
            pipes: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            inboxes: vec![Inbox::default()],
            stopping: AtomicBool::new(false),
        });
        Ok(Self { shared, udp, tcp, address })
    }

    /// Where it listens, over UDP and TCP.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle for other threads.
    pub fn handle(&self) -> ForwarderHandle {
        ForwarderHandle { shared: self.shared.clone() }
    }

    /// Serves clients on this thread until [`ForwarderHandle::stop`].
    ///
    /// # Errors
    /// When the event queue cannot be made.
    pub fn run(self) -> Result<(), BindError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(BindError::Threads)?;
        let local = LocalSet::new();
        let worker = Worker::new(self.shared, 0);
        local.block_on(&runtime, serve(worker, self.udp, self.tcp)).map_err(BindError::Threads)
    }
}

/// Tells a running forwarder of links, and ends it.
#[derive(Clone)]
pub struct ForwarderHandle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for ForwarderHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwarderHandle").finish_non_exhaustive()
    }
}

impl ForwarderHandle {
    /// The link's route is another one: the answers of its resolvers are forgotten.
    pub fn route_changed(&self, link: bondwire_units::LinkId) {
        self.shared.inboxes[0].route_changed(link);
    }

    /// Ends [`Forwarder::run`].
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.inboxes[0].wake();
    }
}

/// One port over both transports. A port that the kernel chose for one may be taken for the other; then it chooses again.
fn both(address: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..16 {
        let udp = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        udp.bind(&address.into())?;
        let chosen = udp.local_addr()?.as_socket().unwrap_or(address);
        let tcp = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        tcp.set_reuse_address(true)?;
        tcp.set_tcp_nodelay(true)?;
        match tcp.bind(&chosen.into()).and_then(|()| tcp.listen(128)) {
            Ok(()) => return Ok((udp.into(), tcp.into())),
            Err(error) => last = error,
        }
        if address.port() != 0 {
            break;
        }
    }
    Err(last)
}

async fn serve(worker: Rc<Worker>, udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<()> {
    let udp = Rc::new(UdpSocket::from_std(udp)?);
    let tcp = TcpListener::from_std(tcp)?;
    let busy = Rc::new(Busy::default());
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            stop = worker.arrived() => if stop { return Ok(()) },
            received = udp.recv_from(&mut buffer) => {
                // An error here is an earlier answer's: its client has gone.
                let Ok((length, client)) = received else { continue };
                if let Some(query) = message::query(&buffer[..length]) {
                    let message = buffer[..length].to_vec();
                    let permit = Busy::permit(&busy.queries, worker.shared.config.limits.queries);
                    let (worker, udp) = (worker.clone(), udp.clone());
                    match permit {
                        Some(permit) => drop(tokio::task::spawn_local(async move {
                            let answer = fitting(&query, resolve(&worker, &message, &query, false).await);
                            let _ = udp.send_to(&answer, client).await;
                            drop(permit);
                        })),
                        None => {
                            let _ = udp.try_send_to(&message::failure(&message, query.question_end), client);
                        }
                    }
                }
            }
            accepted = tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(permit) = Busy::permit(&busy.clients, TCP_CLIENTS) {
                        let worker = worker.clone();
                        tokio::task::spawn_local(async move {
                            let ended = talk(&worker, stream).await;
                            tracing::trace!(?ended, "a DNS client's connection ended");
                            drop(permit);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a DNS client: files or memory used up");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

#[derive(Default)]
struct Busy {
    queries: Rc<()>,
    clients: Rc<()>,
}

impl Busy {
    /// A place among so many; the count is the number of references.
    fn permit(of: &Rc<()>, most: usize) -> Option<Rc<()>> {
        (Rc::strong_count(of) <= most).then(|| of.clone())
    }
}

async fn talk(worker: &Rc<Worker>, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let message = timeout(TCP_IDLE, read_framed(&mut stream)).await??;
        let Some(query) = message::query(&message) else { return Ok(()) };
        let answer = resolve(worker, &message, &query, true).await;
        timeout(TCP_IDLE, write_framed(&mut stream, &answer)).await??;
    }
}

/// The answer as a UDP client can take it.
fn fitting(query: &Query, answer: Vec<u8>) -> Vec<u8> {
    if answer.len() <= query.udp_limit { answer } else { message::truncated(&answer, query.question_end) }
}

/// The answer to a query, with its id, whatever happens.
pub(super) async fn resolve(worker: &Rc<Worker>, message: &[u8], query: &Query, tcp: bool) -> Vec<u8> {
    match race(worker, message, query, tcp).await {
        Some(answer) => answer,
        None => message::failure(message, query.question_end),
    }
}

async fn race(worker: &Rc<Worker>, message: &[u8], query: &Query, tcp: bool) -> Option<Vec<u8>> {
    let director = &worker.shared.director;
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let remote = SocketAddr::from(([0, 0, 0, 0], 53));
    let request = Request { transport, remote, name: Some(&query.name), interactive: true, client: None };
    let placement = director.open(&request).ok()?;
    let socket = placement.socket;
    let lease = Lease::new(worker, socket, transport);
    if let Some(kept) = worker.cache.borrow().get(placement.link, message, Instant::now()) {
        return Some(kept);
    }
    let question = Question { message, end: query.question_end, tcp, whole: false };
    let deadline = Instant::now() + LONGEST;
    let mut tried = Vec::with_capacity(2);
    let mut pending = Vec::with_capacity(2);
    let mut race = Race::new();
    let mut next = Some(placement);
    let mut alarm = deadline;
    let won = loop {
        if let Some(placement) = next.take()
            && !tried.contains(&placement.link)
        {
            tried.push(placement.link);
            if let Some(link) = placement.link {
                director.connecting(socket, link);
            }
            pending.push((placement.link, Instant::now() + placement.patience));
            race.start(over(worker, placement, question));
            alarm = deadline.min(Instant::now() + placement.patience);
        }
        match race.step(Some(alarm)).await {
            Step::Ended((link, Ok(answer))) => break Some((link, answer)),
            Step::Ended((link, Err(why))) => {
                pending.retain(|(other, _)| *other != link);
                if let Some(link) = link {
                    director.failed(socket, link, why);
                }
            }
            Step::Late if Instant::now() >= deadline => break None,
            Step::Late => {}
            Step::Empty => break None,
        }
        alarm = deadline;
        if race.len() < worker.shared.config.limits.racing {
            next = director.next_link(socket);
        }
    };
    let winner = won.as_ref().map(|(link, _)| *link);
    for (link, patience) in pending {
        match link {
            Some(link) if winner != Some(Some(link)) => {
                let silent = Instant::now() >= patience;
                director.failed(socket, link, if silent { Failure::NoAnswer } else { Failure::Overtaken });
            }
            _ => {}
        }
    }
    let (link, answer) = won?;
    if let Some(link) = link {
        director.connected(socket, link, answer.took);
    }
    let entry = &lease.entry;
    entry.up.set(message.len() as u64);
    entry.down.set(answer.message.len() as u64);
    if let Some(walked) = message::walk(&answer.message, query.question_end)
        && !walked.addresses.is_empty()
    {
        director.resolved(&query.name, &walked.addresses);
    }
    worker.cache.borrow_mut().put(link, message, query.question_end, &answer.message, Instant::now());
    Some(answer.message)
}

async fn over(
    worker: &Worker,
    placement: Placement,
    question: Question<'_>,
) -> (Option<bondwire_units::LinkId>, Result<Answer, Failure>) {
    let answer = match route(worker, placement.link) {
        Ok(route) => exchange::ask(question, &route).await,
        Err(failure) => Err(failure),
    };
    (placement.link, answer)
}
