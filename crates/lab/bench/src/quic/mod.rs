//! One QUIC connection, by quinn, that moves as much as it can, or a given amount, in one direction: what
//! [`bondwire_netns::traffic::Bulk`] is for TCP.
//!
//! Congestion control (CUBIC), the packet threshold (3, RFC 9002, 6.1.1) and pacing are quinn's own. Only its flow control
//! is widened, so that it never decides: TCP's windows in the lab may grow as far.
//!
//! **Life-cycle.** Each end has a thread and a runtime of its own. The receiving end decides when it is over: when all has
//! arrived, or its time is up. The other one is told within this process, so that nothing depends on the network.
//!
//! **Bounds.** What is not acknowledged, and what the receiver has not taken, is at most [`WINDOW`] each.
//!
//! The certificate beside this file is for the lab alone; whoever has its key can be the lab's web host.

mod socks;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bondwire_netns::traffic::{Content, Direction, Timeline};
use bondwire_netns::{Node, now};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig,
};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

use crate::BenchError;
use socks::Association;

const CERTIFICATE: &[u8] = include_bytes!("certificate.der");
const KEY: &[u8] = include_bytes!("key.der");
/// The name in the certificate.
const NAME: &str = "lab";
/// What flow control allows: as much as TCP's windows in the lab.
const WINDOW: u32 = 32 << 20;
/// What the kernel keeps for a thread that has to wait for a processor: 50 ms of the fastest profile, with the kernel's
/// own overhead. A loss there would be the machine's and nobody else's.
const BUFFER: usize = 8 << 20;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection lives without a sign of the other end.
const IDLE: Duration = Duration::from_secs(20);
/// Who only receives says nothing on a dead link, and nobody can answer: it is the client's next datagram that moves the flow. (Browsers wait
/// for many seconds.)
const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// How often an end looks whether it should end.
const TICK: Duration = Duration::from_millis(50);
/// Bytes per read and write.
const CHUNK: usize = 64 << 10;
/// What the content follows from.
const SEED: u64 = 1;

/// What one QUIC transfer is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicOptions {
    /// Which way the bytes go; default down.
    pub direction: Direction,
    /// How much; none is as much as goes in the time. Default none.
    pub bytes: Option<u64>,
    /// The time after which it ends in any case, connecting not included; default 10 s.
    pub limit: Duration,
    /// The interface at the opening end to which the connection is bound; default none.
    pub interface: Option<String>,
    /// The SOCKS5 proxy, reached from the opening end, through which its datagrams go; default none.
    pub proxy: Option<SocketAddr>,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            direction: Direction::Down,
            bytes: None,
            limit: Duration::from_secs(10),
            interface: None,
            proxy: None,
        }
    }
}

/// What became of a transfer, as its receiving end saw it.
#[derive(Clone, Debug)]
pub struct QuicReport {
    /// When how much arrived; it starts when the connection was there.
    pub timeline: Timeline,
    /// Whether every byte that arrived was the right one.
    pub intact: bool,
    /// Whether all of [`QuicOptions::bytes`] arrived, and nothing else; true if none were asked for.
    pub complete: bool,
}

/// A running transfer. Dropping it ends it.
#[derive(Debug)]
pub struct Quic {
    shared: Arc<Shared>,
    ends: Vec<JoinHandle<Ended>>,
}

/// The receiving end's report, or what broke the connection.
type Ended = Result<Option<QuicReport>, String>;

#[derive(Debug)]
struct Shared {
    options: QuicOptions,
    stop: AtomicBool,
    received: AtomicU64,
}

impl Quic {
    /// Opens a connection from `opener` to `answerer`, which listens at `address` (port 0 lets the system choose), and
    /// starts the transfer.
    ///
    /// # Errors
    /// If a socket or thread is refused; what fails later is in the result of [`Quic::finish`].
    pub fn start(
        opener: &Node,
        answerer: &Node,
        address: SocketAddr,
        options: QuicOptions,
    ) -> Result<Self, BenchError> {
        let refused = |error: io::Error| BenchError::Quic(format!("cannot start: {error}"));
        let interface = options.interface.clone();
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let answering = answerer.run(move || open(address, None)).map_err(refused)?;
        let to = answering.local_addr().map_err(refused)?;
        let opening = opener.run(move || open(any, interface.as_deref())).map_err(refused)?;
        let proxy = options.proxy;
        let association = opener.run(move || proxy.map(Association::open).transpose()).map_err(refused)?;
        let shared = Shared { options, stop: AtomicBool::new(false), received: AtomicU64::new(0) };
        let shared = Arc::new(shared);
        let mut transfer = Self { shared: Arc::clone(&shared), ends: Vec::new() };
        // Set one after the other, so that the drop of what was started ends it.
        let answer = Arc::clone(&shared);
        let answer =
            answerer.thread("quic answer", move || run(&answer, answering, None, None)).map_err(refused)?;
        transfer.ends.push(answer);
        let open = opener
            .thread("quic opener", move || run(&shared, opening, Some(to), association))
            .map_err(refused)?;
        transfer.ends.push(open);
        Ok(transfer)
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Waits for the end, which comes by itself, and says what arrived.
    ///
    /// # Errors
    /// [`BenchError::Quic`] if there was no connection, or it broke.
    pub fn finish(mut self) -> Result<QuicReport, BenchError> {
        let mut report = None;
        // The opening end first: if it found nobody, the other one has nothing to say.
        while let Some(end) = self.ends.pop() {
            let end = end.join().unwrap_or_else(|_| Err("a thread ended without a result".to_owned()));
            report = end.map_err(BenchError::Quic)?.or(report);
        }
        report.ok_or_else(|| BenchError::Quic("it was ended before it began".to_owned()))
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for end in self.ends.drain(..) {
            // Whoever drops a transfer does not ask for its result.
            let _ = end.join();
        }
    }
}

impl Shared {
    /// What `future` gives, or nothing if the transfer is over before.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok(value) = timeout(TICK, future.as_mut()).await {
                return Some(value);
            }
        }
        None
    }

    /// Receives until the other end is done, the time is over or the transfer is stopped.
    async fn receive(&self, mut stream: RecvStream) -> Ended {
        let mut report = QuicReport { timeline: Timeline::new(now()), intact: true, complete: false };
        let (timeline, intact) = (&mut report.timeline, &mut report.intact);
        let all = async {
            let (mut content, mut chunk) = (Content::new(SEED), vec![0; CHUNK]);
            while let Some(length) = stream.read(&mut chunk).await? {
                timeline.record(length, now());
                *intact &= content.matches(&chunk[..length]);
                self.received.fetch_add(length as u64, Ordering::Relaxed);
            }
            Ok::<(), quinn::ReadError>(())
        };
        let ended = timeout(self.options.limit, self.unless_over(all)).await;
        if let Ok(Some(Err(error))) = ended {
            return Err(error.to_string());
        }
        let total = report.timeline.total().get();
        report.complete = self.options.bytes.is_none_or(|bytes| bytes == total);
        Ok(Some(report))
    }

    /// Sends until all is out, or the transfer is over; and then waits for its end.
    async fn send(&self, mut stream: SendStream) -> Ended {
        let all = async {
            let (mut content, mut chunk) = (Content::new(SEED), vec![0; CHUNK]);
            let mut left = self.options.bytes.unwrap_or(u64::MAX);
            while left > 0 {
                let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                content.fill(&mut chunk[..length]);
                stream.write_all(&chunk[..length]).await?;
                left -= length as u64;
            }
            // It can only have been finished here.
            let _ = stream.finish();
            std::future::pending::<Result<(), quinn::WriteError>>().await
        };
        match self.unless_over(all).await {
            Some(Err(error)) => Err(error.to_string()),
            _ => Ok(None),
        }
    }
}

/// A socket of the calling thread's namespace.
fn open(address: SocketAddr, interface: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(interface.map(str::as_bytes))?;
    // An ordinary user may only have what the system allows everybody.
    if set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One end, from the beginning to the end: the opening one knows where to connect to.
fn run(
    shared: &Shared,
    socket: UdpSocket,
    to: Option<SocketAddr>,
    association: Option<Association>,
) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("there is no runtime: {error}"))?;
    let opens = to.is_some();
    let receives = opens == (shared.options.direction == Direction::Down);
    let result = runtime.block_on(async {
        let meeting = async {
            match to {
                None => accept(socket).await,
                Some(to) => timeout(CONNECT, connect(socket, to, association))
                    .await
                    .unwrap_or_else(|_| Err(format!("no connection to {to} within {} s", CONNECT.as_secs()))),
            }
        };
        let Some(met) = shared.unless_over(meeting).await else { return Ok(None) };
        // The connection lives as long as its handle.
        let (connection, _endpoint) = met?;
        let Some(streams) = shared.unless_over(streams(&connection, opens)).await else { return Ok(None) };
        let (send, receive) = streams?;
        if receives { shared.receive(receive).await } else { shared.send(send).await }
    });
    if receives || result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    result
}

/// The one stream of a connection. Its first byte, which is no content, shows it to the other end.
async fn streams(connection: &Connection, opens: bool) -> Result<(SendStream, RecvStream), String> {
    let result = if opens {
        let (mut send, receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
        send.write_all(&[0]).await.map_err(|error| error.to_string())?;
        (send, receive)
    } else {
        let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
        receive.read_exact(&mut [0]).await.map_err(|error| error.to_string())?;
        (send, receive)
    };
    Ok(result)
}

async fn accept(socket: UdpSocket) -> Result<(Connection, Endpoint), String> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key);
    let mut config = config.map_err(|error| error.to_string())?;
    config.transport_config(transport());
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let incoming = endpoint.accept().await.ok_or("its endpoint was closed")?;
    let connection = incoming.await.map_err(|error| error.to_string())?;
    Ok((connection, endpoint))
}

async fn connect(
    socket: UdpSocket,
    to: SocketAddr,
    association: Option<Association>,
) -> Result<(Connection, Endpoint), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(CERTIFICATE)).map_err(|error| error.to_string())?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots));
    let mut config = config.map_err(|error| error.to_string())?;
    config.transport_config(transport());
    let (options, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    let endpoint = match association {
        None => Endpoint::new(options, None, socket, runtime),
        Some(association) => association
            .wrap(socket)
            .and_then(|socket| Endpoint::new_with_abstract_socket(options, None, socket, runtime)),
    };
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let connecting = endpoint.connect_with(config, to, NAME).map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| error.to_string())?;
    Ok((connection, endpoint))
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(WINDOW.into()).receive_window(WINDOW.into()).send_window(WINDOW.into());
    transport.max_idle_timeout(Some(IDLE.try_into().expect("a time that fits into 62 bits")));
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(transport)
}
