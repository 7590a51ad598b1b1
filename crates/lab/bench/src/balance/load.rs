//! Clients and a web host that load any SOCKS5 proxy, or none: the same ones for every contestant.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bondwire_netns::Node;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::BenchError;

/// Port of the service that sends as much as goes.
pub(super) const DOWN: u16 = 8001;
/// Port of the one that answers 128 bytes with 1 KiB, and closes.
pub(super) const SHORT: u16 = 8002;
/// Ports of those that say nothing.
pub(super) const SILENT: std::ops::Range<u16> = 8100..8108;
/// Threads that answer short exchanges: one would make all connections wait for the slowest client.
const ANSWERING: usize = 8;
const QUESTION: usize = 128;
const ANSWER: usize = 1024;
const PIECE: usize = 256 * 1024;
/// After which a client takes a contestant for dead.
const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel's clock ticks in which /proc counts processor time (proc(5), `USER_HZ`).
const TICKS: f64 = 100.0;

/// Where a client connects, and how.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The service.
    pub(super) address: SocketAddr,
    /// The proxy on the way, if any.
    pub(super) proxy: Option<SocketAddr>,
    /// The interface that its socket is bound to, if any.
    pub(super) interface: Option<&'static str>,
}

/// What clients did, and what the processes under test took for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) bytes: u64,
    pub(super) connects: u64,
    pub(super) time: Duration,
    /// Processor time, in seconds.
    pub(super) processor: f64,
}

impl Work {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            connects: self.connects + other.connects,
            time: self.time + other.time,
            processor: self.processor + other.processor,
        }
    }

    pub(super) fn gigabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8e-9 / self.time.as_secs_f64()
    }

    pub(super) fn gigabytes_per_processor_second(&self) -> f64 {
        self.bytes as f64 * 1e-9 / self.processor.max(1.0 / TICKS)
    }

    pub(super) fn connects_per_second(&self) -> f64 {
        self.connects as f64 / self.time.as_secs_f64()
    }

    pub(super) fn connects_per_processor_second(&self) -> f64 {
        self.connects as f64 / self.processor.max(1.0 / TICKS)
    }
}

impl Target {
    /// The same through a proxy.
    pub(super) fn through(&self, proxy: SocketAddr) -> Self {
        Self { proxy: Some(proxy), ..self.clone() }
    }

    /// A connection: straight, or by SOCKS5 (RFC 1928).
    pub(super) fn open(&self) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        if self.proxy.is_none() {
            return Ok(stream);
        }
        stream.write_all(&[5, 1, 0])?;
        let mut reply = [0; 10];
        stream.read_exact(&mut reply[..2])?;
        let IpAddr::V4(ip) = self.address.ip() else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut request = vec![5, 1, 0, 1];
        request.extend(ip.octets());
        request.extend(self.address.port().to_be_bytes());
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        if reply[1] == 0 { Ok(stream) } else { Err(io::Error::other(format!("refused: {}", reply[1]))) }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(interface) = self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&self.proxy.unwrap_or(self.address).into())?;
        Ok(socket.into())
    }
}

/// Moves bytes over one connection for each of `targets` until the time is over.
pub(super) fn download(
    node: &Node,
    targets: Vec<Target>,
    process: Option<u32>,
    length: Duration,
) -> Result<Work, BenchError> {
    run(node, targets, process, length, |target, stop, work| {
        let mut buffer = vec![0; PIECE];
        let mut stream = target.open()?;
        while !stop.load(Ordering::Relaxed) {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            work.bytes.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Has so many clients connect, ask and close, over and over.
pub(super) fn exchange(
    node: &Node,
    target: &Target,
    clients: usize,
    process: Option<u32>,
    length: Duration,
) -> Result<Work, BenchError> {
    run(node, vec![target.clone(); clients], process, length, |target, stop, work| {
        while !stop.load(Ordering::Relaxed) {
            ask(&mut target.open()?)?;
            work.connects.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// How long each of `count` connects took, one after the other.
pub(super) fn connect_times(node: &Node, target: &Target, count: usize) -> Result<Vec<Duration>, BenchError> {
    let target = target.clone();
    let job = move || -> io::Result<Vec<Duration>> {
        let one = |_| -> io::Result<Duration> {
            let started = Instant::now();
            let mut stream = target.open()?;
            let took = started.elapsed();
            ask(&mut stream)?;
            Ok(took)
        };
        (0..count).map(one).collect()
    };
    let thread = node.thread("load", job).map_err(failed)?;
    thread.join().map_err(|_| failed(io::Error::other("a client panicked")))?.map_err(failed)
}

/// Opens so many connections, by turns to each of the silent services, and keeps them; fewer if the proxy has no room for more.
pub(super) fn hold(node: &Node, target: Target, count: usize) -> Result<Vec<TcpStream>, BenchError> {
    let job = move || {
        let mut held = Vec::new();
        for port in SILENT.cycle().take(count) {
            let address = SocketAddr::new(target.address.ip(), port);
            match (Target { address, ..target.clone() }).open() {
                Ok(stream) => held.push(stream),
                Err(_) if !held.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(held)
    };
    let thread = node.thread("load", job).map_err(failed)?;
    thread.join().map_err(|_| failed(io::Error::other("a client panicked")))?.map_err(failed)
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    connects: AtomicU64,
}

fn run(
    node: &Node,
    targets: Vec<Target>,
    process: Option<u32>,
    length: Duration,
    client: impl Fn(&Target, &AtomicBool, &Counters) -> io::Result<()> + Clone + Send + 'static,
) -> Result<Work, BenchError> {
    let stop = Arc::new(AtomicBool::new(false));
    let counters = Arc::<Counters>::default();
    let spent = || process.map_or(Ok(0.0), processor_time).map_err(failed);
    let (started, before) = (Instant::now(), spent()?);
    let threads: Vec<_> = targets
        .into_iter()
        .map(|target| {
            let (stop, counters, client) = (Arc::clone(&stop), Arc::clone(&counters), client.clone());
            node.thread("load", move || client(&target, &stop, &counters))
        })
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    thread::sleep(length);
    let work = Work {
        bytes: counters.bytes.load(Ordering::Relaxed),
        connects: counters.connects.load(Ordering::Relaxed),
        time: started.elapsed(),
        processor: spent()? - before,
    };
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| failed(io::Error::other("a client panicked")))?.map_err(failed)?;
    }
    Ok(work)
}

fn ask(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; ANSWER];
    stream.write_all(&buffer[..QUESTION])?;
    stream.read_exact(&mut buffer)
}

/// The web host's services, which end with this.
pub(super) struct Services {
    listeners: Vec<Arc<TcpListener>>,
    /// Connections of the silent ones.
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Drop for Services {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Whoever waits for clients is told that none come any more.
            let _ = SockRef::from(&**listener).shutdown(Shutdown::Both);
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Starts the web host's services.
pub(super) fn serve(web: &Node, congestion: &str) -> Result<Services, BenchError> {
    let mut services = Services { listeners: Vec::new(), held: Arc::default() };
    let all_held = Arc::clone(&services.held);
    let mut listen = |port: u16| -> Result<Arc<TcpListener>, BenchError> {
        let listener = web.run(move || TcpListener::bind(("0.0.0.0", port))).map_err(failed)?;
        let listener = Arc::new(listener);
        services.listeners.push(Arc::clone(&listener));
        Ok(listener)
    };
    let down = listen(DOWN)?;
    // Connections inherit it.
    SockRef::from(&*down).set_tcp_congestion(congestion.as_bytes()).map_err(failed)?;
    thread::spawn(move || {
        for mut stream in down.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let piece = vec![0; PIECE];
                while stream.write_all(&piece).is_ok() {}
            });
        }
    });
    let short = listen(SHORT)?;
    for _ in 0..ANSWERING {
        let short = Arc::clone(&short);
        thread::spawn(move || {
            for mut stream in short.incoming().map_while(Result::ok) {
                let mut buffer = [0; ANSWER];
                // A probe says nothing and goes.
                if stream.read_exact(&mut buffer[..QUESTION]).is_ok() {
                    let _ = stream.write_all(&buffer);
                }
            }
        });
    }
    for port in SILENT {
        let silent = listen(port)?;
        let held = Arc::clone(&all_held);
        thread::spawn(move || {
            for stream in silent.incoming().map_while(Result::ok) {
                held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
    }
    Ok(services)
}

/// User and system time of a process in seconds, threads that have ended included.
fn processor_time(process: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_ascii_whitespace());
    let ticks = fields.into_iter().flatten().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(ticks.sum::<u64>() as f64 / TICKS)
}

fn failed(source: io::Error) -> BenchError {
    BenchError::File { what: "load a contestant".to_owned(), source }
}
