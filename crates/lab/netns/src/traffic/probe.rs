use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bondwire_units::Timestamp;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};
use socket2::Protocol;

use super::Direction;
use super::probe_report::{ProbeReport, Received, Recorder};
use super::socket::{TICK, is_tick, open, receive_stamped, stamp_arrivals};
use crate::clock;
use crate::error::TrafficError;
use crate::node::Node;

/// Number and time of sending, eight bytes each.
const HEADER: usize = 16;
const LARGEST: usize = 65_000;
/// Bounds the memory of a report: 32 bytes per packet.
const MOST_PACKETS: u64 = 2_000_000;
/// How often the receiver of a flow down shows itself, so that NATs on the way let the flow through.
const HELLO_INTERVAL: Duration = Duration::from_millis(100);
/// How long the sender of a flow down waits for the first sign of its receiver.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// What a UDP flow is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Which way the packets go; default up.
    pub direction: Direction,
    /// The time from one packet to the next; default 5 ms.
    pub interval: Duration,
    /// Bytes of UDP payload, 16 to 65,000; default 200.
    pub size: usize,
    /// How long it sends; default 2 s.
    pub duration: Duration,
    /// How long the receiver waits for packets after the last one was sent; default 2 s.
    pub patience: Duration,
    /// The interface at the opening end to which the flow is bound; default none.
    pub interface: Option<String>,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            direction: Direction::Up,
            interval: Duration::from_millis(5),
            size: 200,
            duration: Duration::from_secs(2),
            patience: Duration::from_secs(2),
            interface: None,
        }
    }
}

/// A running UDP flow of constant rate. Dropping it ends it.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<Result<(), TrafficError>>>,
    receiver: Option<JoinHandle<Recorder>>,
    address: SocketAddr,
    options: ProbeOptions,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Nanoseconds; zero before.
    started: AtomicU64,
    /// Nanoseconds; zero before.
    ended: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Probe {
    /// Starts a flow between `opener`, whose side of it any NAT sees first, and `answerer`, which listens at `address`;
    /// port 0 lets the system choose.
    ///
    /// # Errors
    /// [`TrafficError::TooManyPackets`], [`TrafficError::PacketSize`], [`TrafficError::NoInterval`] for what cannot be
    /// sent; [`TrafficError::Socket`] if a socket or thread is refused.
    pub fn start(
        opener: &Node,
        answerer: &Node,
        address: SocketAddr,
        options: ProbeOptions,
    ) -> Result<Self, TrafficError> {
        let packets = check(&options)?;
        let answering = answerer.run(move || bind(address))?;
        let address = answering.local_addr().map_err(TrafficError::socket("learn the probe's port"))?;
        let interface = options.interface.clone();
        let opening = opener.run(move || open_flow(address, interface.as_deref()))?;
        let shared = Arc::new(Shared::default());
        let (for_sender, for_receiver) = (Arc::clone(&shared), Arc::clone(&shared));
        let pace = Pace { packets, interval: options.interval, size: options.size };
        let patience = options.patience;
        let (sender, receiver) = match options.direction {
            Direction::Up => {
                let send = move || {
                    send(&opening, || address, pace, &for_sender);
                    Ok(())
                };
                let receive = move || receive(&answering, packets, patience, &for_receiver, || {});
                (opener.thread("probe sender", send), answerer.thread("probe receiver", receive))
            }
            Direction::Down => {
                let send = move || send_to_visitor(&answering, pace, &for_sender);
                let receive =
                    move || receive_with_hellos(&opening, address, packets, patience, &for_receiver);
                (answerer.thread("probe sender", send), opener.thread("probe receiver", receive))
            }
        };
        let mut probe = Self { shared, sender: None, receiver: None, address, options };
        // Set one after the other, so that the drop of what was started ends it.
        probe.sender = Some(sender.map_err(TrafficError::socket("start a thread"))?);
        probe.receiver = Some(receiver.map_err(TrafficError::socket("start a thread"))?);
        Ok(probe)
    }

    /// Where the answering end listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Packets that have arrived so far, copies included.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Ends the sending now; what is on its way may still arrive.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end, which comes by itself, and says what arrived.
    ///
    /// # Errors
    /// [`TrafficError::NoAnswer`] if the two ends of a flow down never met.
    pub fn finish(mut self) -> Result<ProbeReport, TrafficError> {
        let sender = self.sender.take().map(JoinHandle::join);
        let result = sender.and_then(Result::ok).ok_or(TrafficError::ThreadLost)?;
        self.shared.mark_end();
        let receiver = self.receiver.take().map(JoinHandle::join);
        let recorder = receiver.and_then(Result::ok).ok_or(TrafficError::ThreadLost)?;
        result?;
        let started = Timestamp::from_nanos(self.shared.started.load(Ordering::Relaxed));
        let sent = self.shared.sent.load(Ordering::Relaxed);
        Ok(ProbeReport::new(started, self.options.interval, sent, recorder))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop();
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        self.shared.mark_end();
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn mark_end(&self) {
        let now = clock::now().as_nanos().max(1);
        // The first mark counts.
        let _ = self.ended.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether no more packets are to be waited for.
    fn is_over(&self, patience: Duration, distinct: u64) -> bool {
        let ended = self.ended.load(Ordering::Relaxed);
        if ended == 0 {
            return false;
        }
        let all = distinct >= self.sent.load(Ordering::Relaxed);
        all || self.is_stopped() || clock::now().since(Timestamp::from_nanos(ended)) >= patience
    }
}

/// How packets leave.
#[derive(Clone, Copy, Debug)]
struct Pace {
    packets: u64,
    interval: Duration,
    size: usize,
}

fn check(options: &ProbeOptions) -> Result<u64, TrafficError> {
    if options.interval.is_zero() {
        return Err(TrafficError::NoInterval);
    }
    if !(HEADER..=LARGEST).contains(&options.size) {
        return Err(TrafficError::PacketSize { size: options.size, least: HEADER, most: LARGEST });
    }
    let packets = options.duration.as_nanos().div_ceil(options.interval.as_nanos());
    let packets = u64::try_from(packets).unwrap_or(u64::MAX);
    if packets > MOST_PACKETS {
        return Err(TrafficError::TooManyPackets { packets, limit: MOST_PACKETS });
    }
    Ok(packets)
}

fn bind(address: SocketAddr) -> Result<UdpSocket, TrafficError> {
    let socket = open(address, Protocol::UDP, None)?;
    socket.bind(&address.into()).map_err(TrafficError::socket(format!("listen on {address}")))?;
    prepare(socket)
}

fn open_flow(to: SocketAddr, interface: Option<&str>) -> Result<UdpSocket, TrafficError> {
    // Not connected: an address change of the interface must not leave the socket with the old one.
    prepare(open(to, Protocol::UDP, interface)?)
}

fn prepare(socket: socket2::Socket) -> Result<UdpSocket, TrafficError> {
    // As large as the system allows; the reader may be late on a busy machine.
    let _ = socket.set_recv_buffer_size(4 << 20);
    socket.set_read_timeout(Some(TICK)).map_err(TrafficError::socket("set a timeout"))?;
    stamp_arrivals(&socket).map_err(TrafficError::socket("have arrivals stamped"))?;
    Ok(socket.into())
}

/// Sends the flow; `to` is asked before each packet.
fn send(socket: &UdpSocket, mut to: impl FnMut() -> SocketAddr, pace: Pace, shared: &Shared) {
    let mut packet = vec![0; pace.size];
    let start = clock::now();
    shared.started.store(start.as_nanos(), Ordering::Relaxed);
    for number in 0..pace.packets {
        sleep_until(start + Duration::from_nanos(pace.interval.as_nanos() as u64 * number));
        if shared.is_stopped() {
            break;
        }
        let to = to();
        packet[..8].copy_from_slice(&number.to_be_bytes());
        packet[8..HEADER].copy_from_slice(&clock::now().as_nanos().to_be_bytes());
        if let Err(error) = socket.send_to(&packet, to) {
            // A link that is down refuses packets: they count as lost.
            tracing::trace!(%error, number, "probe packet not sent");
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
    }
    shared.mark_end();
}

/// Waits until the receiver has shown itself, then sends to wherever it was seen last.
fn send_to_visitor(socket: &UdpSocket, pace: Pace, shared: &Shared) -> Result<(), TrafficError> {
    let wanted = clock::now();
    let mut hello = [0; HEADER];
    let mut visitor = loop {
        match socket.recv_from(&mut hello) {
            Ok((_, from)) => break from,
            Err(error) if !is_tick(&error) => return Err(TrafficError::socket("receive a hello")(error)),
            Err(_) if shared.is_stopped() || clock::now().since(wanted) >= HELLO_LIMIT => {
                let to = socket.local_addr().map_err(TrafficError::socket("learn the probe's port"))?;
                return Err(TrafficError::NoAnswer { to, seconds: HELLO_LIMIT.as_secs_f64() });
            }
            Err(_) => {}
        }
    };
    socket.set_nonblocking(true).map_err(TrafficError::socket("make a socket non-blocking"))?;
    let follow = || {
        while let Ok((_, from)) = socket.recv_from(&mut hello) {
            visitor = from;
        }
        visitor
    };
    send(socket, follow, pace, shared);
    Ok(())
}

/// Receives until all has arrived, or the sender's end lies `patience` back.
fn receive(
    socket: &UdpSocket,
    packets: u64,
    patience: Duration,
    shared: &Shared,
    mut meanwhile: impl FnMut(),
) -> Recorder {
    let mut recorder = Recorder::new(packets);
    let mut packet = vec![0; LARGEST];
    while !shared.is_over(patience, recorder.distinct()) {
        meanwhile();
        match receive_stamped(socket, &mut packet) {
            Ok((len, arrived)) => {
                if let Some((number, sent)) = parse(&packet[..len]) {
                    recorder.record(Received { number, sent, arrived });
                    shared.received.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) if is_tick(&error) => {}
            Err(error) => tracing::trace!(%error, "probe packet not received"),
        }
    }
    recorder
}

fn receive_with_hellos(
    socket: &UdpSocket,
    to: SocketAddr,
    packets: u64,
    patience: Duration,
    shared: &Shared,
) -> Recorder {
    let mut last: Option<Timestamp> = None;
    let hello = || {
        let now = clock::now();
        if last.is_none_or(|last| now.since(last) >= HELLO_INTERVAL) {
            last = Some(now);
            // Lost or refused, the next one follows.
            let _ = socket.send_to(b"hello", to);
        }
    };
    receive(socket, packets, patience, shared, hello)
}

fn parse(packet: &[u8]) -> Option<(u64, Timestamp)> {
    let number = packet.get(..8)?.try_into().ok()?;
    let sent = packet.get(8..HEADER)?.try_into().ok()?;
    Some((u64::from_be_bytes(number), Timestamp::from_nanos(u64::from_be_bytes(sent))))
}

fn sleep_until(time: Timestamp) {
    let nanos = time.as_nanos();
    let time = Timespec {
        tv_sec: (nanos / 1_000_000_000).cast_signed(),
        tv_nsec: (nanos % 1_000_000_000).cast_signed(),
    };
    // Woken early by a signal, the packet leaves early, and says when.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let options = ProbeOptions::default();
        assert_eq!(check(&options).unwrap(), 400);
        assert!(matches!(
            check(&ProbeOptions { interval: Duration::ZERO, ..options.clone() }),
            Err(TrafficError::NoInterval)
        ));
        assert!(matches!(
            check(&ProbeOptions { size: 15, ..options.clone() }),
            Err(TrafficError::PacketSize { size: 15, .. })
        ));
        assert!(matches!(
            check(&ProbeOptions { interval: Duration::from_nanos(1), ..options }),
            Err(TrafficError::TooManyPackets { .. })
        ));
    }
}
