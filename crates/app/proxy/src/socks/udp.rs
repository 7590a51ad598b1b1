//! UDP ASSOCIATE: a client's datagrams, each flow over its link (RFC 1928, 7).
//!
//! An association lives as long as the TCP connection that asked for it. It has one socket towards the client and one for each link
//! and address family that its flows use; so a client's datagrams to different remotes over one link come from one port, as
//! applications behind a NAT need it (RFC 4787, REQ-1). A flow is a remote; the director places it when its first
//! datagram comes, and may name another one at any time: the next datagram takes that one. Datagrams from anyone to those sockets
//! are passed to the client with their sender's address. Fragments are refused, counted, and said in the log once.
//!
//! Bounds: flows (the longest idle gives way), names, and [`WAITING`] datagrams for each name that is being looked up.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bondwire_units::LinkId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::wire::{self, BadDatagram, LONGEST_HEAD, Reply};
use super::{NOWHERE, answer};
use crate::connect::{Host, Target, route};
use crate::director::{Failure, Placement, Route, Transport};
use crate::dns::resolver::{self, LookupError};
use crate::lease::Lease;
use crate::outbound;
use crate::worker::Worker;

/// Datagrams that wait for one name's address.
const WAITING: usize = 8;
/// Names that an association knows.
const NAMES: usize = 64;
/// How long a name's address is used.
const NAME_LIVES: Duration = Duration::from_secs(60);
/// Datagrams moved before others have their turn.
const TURN: usize = 64;
/// How often flows that ended are looked for.
const TIDY: Duration = Duration::from_secs(5);

struct Flow {
    lease: Lease,
    used: Instant,
    /// When the first datagram went out, until something comes back.
    asked: Cell<Option<Instant>>,
}

enum Name {
    Sought(Vec<Vec<u8>>),
    Known(SocketAddr, Instant),
}

/// A socket for a link and a family, with the route that it is tied by.
struct Out {
    socket: Rc<UdpSocket>,
    route: Arc<Route>,
    reader: JoinHandle<()>,
}

impl Drop for Out {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Association {
    worker: Rc<Worker>,
    inner: UdpSocket,
    /// The client's end of the TCP connection that holds it.
    holder: SocketAddr,
    client_ip: IpAddr,
    /// 0 until the first datagram tells it.
    client_port: Cell<u16>,
    flows: RefCell<HashMap<SocketAddr, Flow>>,
    names: RefCell<HashMap<(String, u16), Name>>,
    outs: RefCell<HashMap<(Option<LinkId>, bool), Out>>,
    /// [`Worker::reroutes`] when `outs` were last compared with the links' routes.
    reroutes: Cell<u64>,
    fragments: Cell<u64>,
}

/// Gives the place of an association back.
struct Place(Rc<Worker>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.associations.set(self.0.associations.get() - 1);
    }
}

/// Serves an association until its TCP connection ends. `announced` is where the client will send from, if it knows.
pub(super) async fn associate(
    worker: &Rc<Worker>,
    mut control: TcpStream,
    announced: Target,
) -> io::Result<()> {
    if worker.associations.get() >= worker.shared.config.limits.associations {
        tracing::warn!("a UDP association was refused: too many are open");
        return answer(&mut control, Reply::Failure, NOWHERE).await;
    }
    worker.associations.set(worker.associations.get() + 1);
    let _place = Place(worker.clone());
    let local = control.local_addr()?.ip();
    let inner = match bind(local) {
        Ok(inner) => inner,
        Err(error) => {
            tracing::warn!(%error, "a UDP association was refused: no socket for it");
            return answer(&mut control, Reply::Failure, NOWHERE).await;
        }
    };
    let association = Rc::new(Association {
        worker: worker.clone(),
        holder: control.peer_addr()?,
        client_ip: control.peer_addr()?.ip(),
        client_port: Cell::new(announced.port),
        flows: RefCell::default(),
        names: RefCell::default(),
        outs: RefCell::default(),
        reroutes: Cell::new(worker.reroutes.get()),
        fragments: Cell::new(0),
        inner,
    });
    answer(&mut control, Reply::Granted, association.inner.local_addr()?).await?;
    let mut tidy = interval(TIDY);
    loop {
        tokio::select! {
            ended = control_ended(&control) => {
                if ended {
                    break;
                }
            }
            ready = association.inner.readable() => {
                ready?;
                association.from_client();
                tokio::task::yield_now().await;
            }
            _ = tidy.tick() => association.tidy(),
        }
    }
    // Readers hold the association; without them it ends.
    let outs = association.outs.take();
    drop(outs);
    association.flows.take();
    Ok(())
}

fn bind(ip: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Whether the connection that an association hangs on has ended. What else comes over it means nothing and is thrown away.
async fn control_ended(control: &TcpStream) -> bool {
    if control.readable().await.is_err() {
        return true;
    }
    match control.try_read(&mut [0; 256]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

impl Association {
    /// Takes what the client sent.
    fn from_client(self: &Rc<Self>) {
        for _ in 0..TURN {
            let mut scratch = self.worker.scratch.borrow_mut();
            let Ok((length, sender)) = self.inner.try_recv_from(&mut scratch) else { return };
            if sender.ip() != self.client_ip {
                continue;
            }
            if self.client_port.get() == 0 {
                self.client_port.set(sender.port());
            }
            if sender.port() != self.client_port.get() {
                continue;
            }
            match wire::datagram(&scratch[..length]) {
                Ok((Target { host: Host::Ip(ip), port }, start)) => {
                    self.send(SocketAddr::new(ip, port), &scratch[start..length]);
                }
                Ok((Target { host: Host::Name(name), port }, start)) => {
                    self.send_to_name(name, port, &scratch[start..length]);
                }
                Err(BadDatagram::Fragment) => {
                    if self.fragments.replace(self.fragments.get() + 1) == 0 {
                        tracing::warn!(
                            "a client sends SOCKS5 UDP fragments, which are not put together: dropped. \
                             Set it to send whole datagrams"
                        );
                    }
                }
                Err(BadDatagram::Malformed) => tracing::trace!("a client's datagram has no valid head"),
            }
        }
    }

    /// Sends over the flow's link; a new remote is a new flow. What a full socket does not take is lost, as datagrams are.
    fn send(self: &Rc<Self>, remote: SocketAddr, payload: &[u8]) {
        let mut flows = self.flows.borrow_mut();
        if !flows.contains_key(&remote) {
            let target = Target { host: Host::Ip(remote.ip()), port: remote.port() };
            match self.worker.shared.director.open(&target.request(Transport::Udp, Some(self.holder))) {
                Ok(placement) => {
                    let lease = self.lease(&placement);
                    self.insert(&mut flows, remote, lease);
                }
                Err(refusal) => {
                    tracing::debug!(%refusal, "a datagram goes nowhere");
                    return;
                }
            }
        }
        let Some(flow) = flows.get_mut(&remote) else { return };
        flow.used = Instant::now();
        let link = flow.lease.entry.link.get();
        let send = || self.out(link, remote.is_ipv4()).and_then(|out| send_to(&out, payload, remote));
        // A link may have lost its address before anybody was told; IPv4 calls a source that is gone invalid.
        let sent = send().or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Err(error),
            _ if self.drop_stale() => send(),
            _ => Err(error),
        });
        match sent {
            Ok(sent) => {
                let up = &flow.lease.entry.up;
                up.set(up.get() + sent as u64);
            }
            // Most errors speak of the datagram: too large, or the socket is full.
            Err(error) => {
                tracing::trace!(%error, "a datagram was not sent");
                let family = error.kind() == io::ErrorKind::Unsupported;
                let why = if family { Some(Failure::Overtaken) } else { outbound::link_failure(&error) };
                if let Some(why) = why {
                    self.outs.borrow_mut().remove(&(link, remote.is_ipv4()));
                    self.failed(flow, link, why);
                }
            }
        }
    }

    /// The link does not take the flow's datagrams: the next one, if there is one, takes those to come.
    fn failed(&self, flow: &Flow, link: Option<LinkId>, why: Failure) {
        let entry = &flow.lease.entry;
        let director = &self.worker.shared.director;
        if let Some(link) = link {
            director.failed(entry.socket, link, why);
        }
        if let Some(placement) = director.next_link(entry.socket) {
            entry.link.set(placement.link);
        }
    }

    fn lease(&self, placement: &Placement) -> Lease {
        let lease = Lease::new(&self.worker, placement.socket, Transport::Udp);
        lease.entry.link.set(placement.link);
        lease.entry.allow_quiet(self.worker.shared.config.timeouts.udp_idle);
        lease
    }

    fn insert(&self, flows: &mut HashMap<SocketAddr, Flow>, remote: SocketAddr, lease: Lease) {
        if flows.len() >= self.worker.shared.config.limits.flows
            && let Some(oldest) = flows.iter().min_by_key(|(_, flow)| flow.used).map(|(remote, _)| *remote)
        {
            flows.remove(&oldest);
        }
        let now = Instant::now();
        if let Some(link) = lease.entry.link.get() {
            self.worker.shared.director.connecting(lease.entry.socket, link);
        }
        flows.insert(remote, Flow { lease, used: now, asked: Cell::new(Some(now)) });
    }

    /// Drops the sockets that are tied to what their link was, such as an address that it lost. Whether there were any.
    fn drop_stale(&self) -> bool {
        self.reroutes.set(self.worker.reroutes.get());
        let mut outs = self.outs.borrow_mut();
        let before = outs.len();
        outs.retain(|(link, _), out| route(&self.worker, *link).is_ok_and(|now| now.ties_like(&out.route)));
        outs.len() < before
    }

    /// The socket for a link and a family.
    fn out(self: &Rc<Self>, link: Option<LinkId>, ipv4: bool) -> io::Result<Rc<UdpSocket>> {
        if self.reroutes.get() != self.worker.reroutes.get() {
            self.drop_stale();
        }
        if let Some(out) = self.outs.borrow().get(&(link, ipv4)) {
            return Ok(out.socket.clone());
        }
        let route = route(&self.worker, link).map_err(|_| io::ErrorKind::NetworkDown)?;
        let socket = Rc::new(outbound::datagrams(&route, ipv4)?);
        let reader = tokio::task::spawn_local(read(self.clone(), socket.clone()));
        self.outs.borrow_mut().insert((link, ipv4), Out { socket: socket.clone(), route, reader });
        Ok(socket)
    }

    /// Passes what came on a link's socket to the client.
    fn to_client(&self, socket: &UdpSocket) {
        let client = SocketAddr::new(self.client_ip, self.client_port.get());
        let mut scratch = self.worker.scratch.borrow_mut();
        for _ in 0..TURN {
            let Ok((length, from)) = socket.try_recv_from(&mut scratch[LONGEST_HEAD..]) else { return };
            if let Some(flow) = self.flows.borrow_mut().get_mut(&from) {
                let entry = &flow.lease.entry;
                entry.down.set(entry.down.get() + length as u64);
                flow.used = Instant::now();
                if let (Some(asked), Some(link)) = (flow.asked.take(), entry.link.get()) {
                    self.worker.shared.director.connected(entry.socket, link, asked.elapsed());
                }
            }
            let start = wire::put_head(&mut scratch[..], from);
            // A full socket loses it, as datagrams may.
            let _ = send_to(&self.inner, &scratch[start..LONGEST_HEAD + length], client);
        }
    }

    fn send_to_name(self: &Rc<Self>, name: String, port: u16, payload: &[u8]) {
        let key = (name, port);
        let mut names = self.names.borrow_mut();
        match names.get_mut(&key) {
            Some(Name::Known(remote, since)) if since.elapsed() < NAME_LIVES => {
                let remote = *remote;
                drop(names);
                self.send(remote, payload);
            }
            Some(Name::Sought(waiting)) => {
                if waiting.len() < WAITING {
                    waiting.push(payload.to_vec());
                }
            }
            _ => {
                if names.len() >= NAMES && !names.contains_key(&key) {
                    names.retain(|_, name| matches!(name, Name::Sought(_)));
                }
                if names.len() < NAMES || names.contains_key(&key) {
                    names.insert(key.clone(), Name::Sought(vec![payload.to_vec()]));
                    tokio::task::spawn_local(seek(self.clone(), key));
                }
            }
        }
    }

    fn tidy(&self) {
        self.flows.borrow_mut().retain(|_, flow| !flow.lease.entry.is_idle());
    }
}

/// Sends without asking the event loop, which knows nothing yet of a socket made a moment ago.
fn send_to(socket: &UdpSocket, payload: &[u8], to: SocketAddr) -> io::Result<usize> {
    SockRef::from(socket).send_to(payload, &to.into())
}

async fn read(association: Rc<Association>, socket: Rc<UdpSocket>) {
    while socket.readable().await.is_ok() {
        association.to_client(&socket);
        tokio::task::yield_now().await;
    }
}

/// Finds a name's address over the link that its flow gets, and sends what waited.
async fn seek(association: Rc<Association>, key: (String, u16)) {
    let found = find(&association, &key).await;
    let waiting = match association.names.borrow_mut().remove(&key) {
        Some(Name::Sought(waiting)) => waiting,
        _ => Vec::new(),
    };
    let Some((remote, lease)) = found else { return };
    association.names.borrow_mut().insert(key, Name::Known(remote, Instant::now()));
    {
        let mut flows = association.flows.borrow_mut();
        if !flows.contains_key(&remote) {
            association.insert(&mut flows, remote, lease);
        }
    }
    for payload in waiting {
        association.send(remote, &payload);
    }
}

async fn find(association: &Rc<Association>, key: &(String, u16)) -> Option<(SocketAddr, Lease)> {
    let worker = &association.worker;
    let director = &worker.shared.director;
    let target = Target { host: Host::Name(key.0.clone()), port: key.1 };
    let mut placement = director.open(&target.request(Transport::Udp, Some(association.holder))).ok()?;
    let lease = association.lease(&placement);
    for _ in 0..worker.shared.config.limits.racing.max(1) {
        let failure = match route(worker, placement.link) {
            Err(failure) => failure,
            Ok(route) => {
                // A lookup has its own spare resolvers and repeats, so it gets more than a connect's time.
                let patience = placement.patience.max(Duration::from_secs(1));
                match timeout(patience, resolver::lookup(worker, placement.link, &route, &key.0)).await {
                    Ok(Ok(addresses)) => {
                        lease.entry.link.set(placement.link);
                        return addresses.first().map(|ip| (SocketAddr::new(*ip, key.1), lease));
                    }
                    Ok(Err(LookupError::NoSuchName)) => return None,
                    Ok(Err(LookupError::Link(failure))) => failure,
                    Err(_) => Failure::NoResolver,
                }
            }
        };
        if let Some(link) = placement.link {
            director.failed(placement.socket, link, failure);
        }
        placement = director.next_link(placement.socket)?;
    }
    None
}
