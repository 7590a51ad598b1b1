//! A proxy over loopback: several addresses of 127.0.0.0/8 stand for links, and a director that does as it is told.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod dns;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bondwire_proxy::{
    Config, Director, Failure, Links, Placement, Proxy, ProxyHandle, Refusal, Request, Route, SocketId,
    Traffic,
};
use bondwire_units::LinkId;

/// What hangs longer than this is a failure.
pub(crate) const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Open(SocketId, SocketAddr, Option<String>),
    Connecting(SocketId, LinkId),
    Connected(SocketId, LinkId),
    Failed(SocketId, LinkId, Failure),
    Traffic(Traffic),
    Reset(SocketId),
    Closed(SocketId),
}

#[derive(Default)]
struct State {
    told: Vec<Told>,
    sockets: u64,
    /// How many links each socket was given.
    given: BTreeMap<SocketId, usize>,
}

/// Gives links in a fixed order, and writes down what it is told.
pub(crate) struct Double {
    pub(crate) order: Vec<LinkId>,
    pub(crate) patience: Duration,
    routes: Mutex<BTreeMap<LinkId, Arc<Route>>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// The source address that stands for a link.
pub(crate) fn source(link: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(link).unwrap())
}

impl Double {
    pub(crate) fn new(links: &[u32]) -> Self {
        let route = |link: &u32| {
            let route = Route { source_v4: Some(source(*link)), ..Route::default() };
            (LinkId(*link), Arc::new(route))
        };
        Self {
            order: links.iter().map(|link| LinkId(*link)).collect(),
            patience: LONG,
            routes: Mutex::new(links.iter().map(route).collect()),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn route(self, link: u32, route: Route) -> Self {
        self.routes.lock().unwrap().insert(LinkId(link), Arc::new(route));
        self
    }

    pub(crate) fn resolver(self, link: u32, resolver: SocketAddr) -> Self {
        let route = Route { source_v4: Some(source(link)), resolvers: vec![resolver], ..Route::default() };
        self.route(link, route)
    }

    /// The link is another network now.
    pub(crate) fn reroute(&self, link: u32, route: Route) {
        self.routes.lock().unwrap().insert(LinkId(link), Arc::new(route));
    }

    fn tell(&self, told: Told) {
        // A test that failed holding it is reported by itself.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).told.push(told);
        self.changed.notify_all();
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.state.lock().unwrap().told.clone()
    }

    /// Waits until it was told something like this.
    pub(crate) fn wait<T>(&self, found: impl Fn(&Told) -> Option<T>) -> T {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(it) = state.told.iter().find_map(&found) {
                return it;
            }
            let (again, timeout) = self.changed.wait_timeout(state, LONG).unwrap();
            assert!(!timeout.timed_out(), "not told in time; told {:?}", again.told);
            state = again;
        }
    }

    pub(crate) fn wait_closed(&self) {
        self.wait(|told| matches!(told, Told::Closed(_)).then_some(()));
    }
}

impl Director for Double {
    fn open(&self, request: &Request<'_>) -> Result<Placement, Refusal> {
        let mut state = self.state.lock().unwrap();
        let socket = SocketId(state.sockets);
        state.sockets += 1;
        let link = *self.order.first().ok_or(Refusal::NoLink)?;
        state.given.insert(socket, 1);
        drop(state);
        self.tell(Told::Open(socket, request.remote, request.name.map(str::to_owned)));
        Ok(Placement { socket, link: Some(link), patience: self.patience })
    }

    fn next_link(&self, socket: SocketId) -> Option<Placement> {
        let mut state = self.state.lock().unwrap();
        let given = state.given.get_mut(&socket)?;
        let link = *self.order.get(*given)?;
        *given += 1;
        Some(Placement { socket, link: Some(link), patience: self.patience })
    }

    fn connecting(&self, socket: SocketId, link: LinkId) {
        self.tell(Told::Connecting(socket, link));
    }

    fn connected(&self, socket: SocketId, link: LinkId, _: Duration) {
        self.tell(Told::Connected(socket, link));
    }

    fn failed(&self, socket: SocketId, link: LinkId, why: Failure) {
        self.tell(Told::Failed(socket, link, why));
    }

    fn traffic(&self, moved: &[Traffic]) {
        for traffic in moved {
            self.tell(Told::Traffic(*traffic));
        }
    }

    fn reset(&self, socket: SocketId) {
        self.tell(Told::Reset(socket));
    }

    fn closed(&self, socket: SocketId) {
        self.tell(Told::Closed(socket));
    }
}

impl Links for Double {
    fn route(&self, link: LinkId) -> Option<Arc<Route>> {
        self.routes.lock().unwrap().get(&link).cloned()
    }
}

/// A running proxy; its end waits for its threads.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ProxyHandle,
    pub(crate) director: Arc<Double>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn start(director: Double) -> Running {
    start_with(director, |_| {})
}

pub(crate) fn start_with(director: Double, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    config.workers = 2;
    change(&mut config);
    let director = Arc::new(director);
    let proxy = Proxy::bind(config, director.clone(), director.clone()).unwrap();
    let (address, handle) = (proxy.local_addr(), proxy.handle());
    let thread = thread::spawn(move || proxy.run().unwrap());
    Running { address, handle, director, thread: Some(thread) }
}

impl Running {
    /// A connection to the proxy that fails rather than hang.
    pub(crate) fn client(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).unwrap())
    }

    /// A SOCKS5 connection to a target, open.
    pub(crate) fn socks(&self, target: SocketAddr) -> TcpStream {
        let mut client = self.client();
        assert_eq!(ask(&mut client, 1, &address(target))[1], 0, "refused");
        client
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// An address as SOCKS5 has it.
pub(crate) fn address(target: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    match target.ip() {
        IpAddr::V4(ip) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(target.port().to_be_bytes());
    bytes
}

/// A name as SOCKS5 has it.
pub(crate) fn name(name: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![3, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}

/// Greets without a login, asks, and gives back the whole reply.
pub(crate) fn ask(client: &mut TcpStream, command: u8, target: &[u8]) -> Vec<u8> {
    client.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    client.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, command, 0];
    request.extend(target);
    client.write_all(&request).unwrap();
    reply(client)
}

pub(crate) fn reply(client: &mut TcpStream) -> Vec<u8> {
    let mut reply = vec![0; 4];
    client.read_exact(&mut reply).unwrap();
    let rest = if reply[3] == 4 { 18 } else { 6 };
    reply.resize(4 + rest, 0);
    client.read_exact(&mut reply[4..]).unwrap();
    reply
}

/// A server that handles each connection on a thread.
pub(crate) fn server(on: &str, handle: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(on).unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || handle(patient(stream)));
        }
    });
    address
}

/// Sends everything back, and finishes when its client does.
pub(crate) fn echo() -> SocketAddr {
    server("127.0.0.1:0", |mut stream| {
        let mut back = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    })
}

/// Says the address that it was reached from, and finishes.
pub(crate) fn who() -> SocketAddr {
    server("127.0.0.1:0", |mut stream| {
        let peer = stream.peer_addr().unwrap();
        let _ = stream.write_all(peer.ip().to_string().as_bytes());
    })
}

/// An address where connects get no answer: a listener whose queue is full, and what fills it.
pub(crate) fn silent() -> (SocketAddr, Vec<TcpStream>, socket2::Socket) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fill.push(stream);
    }
    (address, fill, listener)
}

/// Bytes that differ from place to place, so that a part lost or doubled shows.
pub(crate) fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
