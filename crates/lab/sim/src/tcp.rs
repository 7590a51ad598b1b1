//! A model of the inner TCP: what a host's kernel would do at both ends of a connection, in virtual time.
//!
//! It exists because a bond is judged by what an ordinary TCP makes of it. The congestion control and loss recovery
//! are those of a Linux sender of today (CUBIC with HyStart, SACK, RACK, tail loss probes, proportional rate reduction,
//! undo), the receiver delays and repeats acknowledgements likewise. Segments are real IPv4 packets, so they pass
//! through a bond, which finds their flow and class.
//!
//! One [`Endpoint`] is one end of one connection, over which data flows in one direction. What is left out: closing,
//! urgent data, ECN, pacing, segmentation offload. The application writes all at once and reads at once.

mod cubic;
mod ranges;
mod receiver;
mod rtt;
mod scoreboard;
mod segment;
mod sender;

use core::ops::Range;
use core::time::Duration;

use bondwire_units::Timestamp;

use crate::packet::Addresses;
pub(crate) use cubic::{Cubic, Round};
use receiver::Receiver;
pub use segment::{HEADERS, Segment, serial_of};
use sender::Sender;
pub use sender::SenderCounters;

/// What a connection is used for.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// How many bytes are sent; [`u64::MAX`] / 2 for a flow that never ends.
    pub bytes: u64,
    /// The receiver's window in bytes; half of `tcp_rmem`'s greatest value, 16 MB for the 32 MB of the targets.
    pub window: u32,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self { mtu: 1500, bytes: u64::MAX / 2, window: 16 << 20 }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Endpoint {
    addresses: Addresses,
    config: TcpConfig,
    half: Half,
    handshake: Handshake,
    /// When the SYN is sent (again), and how often it was.
    retry: Option<Timestamp>,
    tries: u32,
    opened: Timestamp,
    /// Something other than data is to be sent: SYN, or the ACK that ends the handshake.
    pending: bool,
    serial: u32,
    progress: Progress,
}

#[derive(Debug)]
enum Half {
    Sends(Box<Sender>),
    Receives(Receiver),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// Waits for a SYN.
    Listens,
    /// Has sent one, or is about to.
    Calls,
    /// Has answered one.
    Answers,
    Done,
}

/// How the receiving end fares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes that became readable.
    pub bytes: u64,
    /// When something became readable last.
    pub last: Option<Timestamp>,
    /// The longest time between two such moments, the first counted from the first byte.
    pub longest_gap: Duration,
    /// When that gap ended.
    pub longest_gap_end: Timestamp,
}

/// The position of the first byte on the wire.
const FIRST: u32 = 1;

impl Endpoint {
    /// The end that opens the connection with the first poll; `sends` says whether it also sends the data.
    pub fn caller(addresses: Addresses, sends: bool, config: TcpConfig, now: Timestamp) -> Self {
        let mut endpoint = Self::new(addresses, sends, config, Handshake::Calls);
        (endpoint.pending, endpoint.opened) = (true, now);
        endpoint
    }

    /// The end that waits for the other one.
    pub fn listener(addresses: Addresses, sends: bool, config: TcpConfig) -> Self {
        Self::new(addresses, sends, config, Handshake::Listens)
    }

    fn new(addresses: Addresses, sends: bool, config: TcpConfig, handshake: Handshake) -> Self {
        let segment = usize::from(config.mtu) - HEADERS;
        let half = if sends {
            Half::Sends(Box::new(Sender::new(segment, config.bytes)))
        } else {
            Half::Receives(Receiver::new())
        };
        Self {
            addresses,
            config,
            half,
            handshake,
            retry: None,
            tries: 0,
            opened: Timestamp::ZERO,
            pending: false,
            serial: 0,
            progress: Progress::default(),
        }
    }

    /// The addresses of the packets that it sends.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// How the data arrives; of use at the receiving end.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether all data was acknowledged; of use at the sending end.
    pub fn is_done(&self) -> bool {
        matches!(&self.half, Half::Sends(sender) if sender.acknowledged() >= self.config.bytes)
    }

    /// What the sending end has done; zeros at the other.
    pub fn counters(&self) -> SenderCounters {
        match &self.half {
            Half::Sends(sender) => sender.counters(),
            Half::Receives(_) => SenderCounters::default(),
        }
    }

    /// The congestion window in segments, and the smoothed RTT; of use at the sending end.
    pub fn window(&self) -> Option<(f64, Option<Duration>)> {
        match &self.half {
            Half::Sends(sender) => Some((sender.window(), sender.smoothed_rtt())),
            Half::Receives(_) => None,
        }
    }

    /// A packet arrives. What is not a TCP packet is ignored.
    pub fn handle_packet(&mut self, packet: &[u8], now: Timestamp) {
        let Some(segment) = Segment::decode(packet) else { return };
        match self.handshake {
            Handshake::Listens | Handshake::Answers if segment.syn.is_some() => {
                self.handshake = Handshake::Answers;
                (self.pending, self.opened) = (true, now);
                self.on_window(segment.window, None);
                return;
            }
            Handshake::Calls if segment.syn.is_some() && segment.ack.is_some() => {
                self.handshake = Handshake::Done;
                self.retry = None;
                let rtt = (self.tries == 1).then(|| now.since(self.opened));
                self.on_window(segment.window, rtt);
                // The sender's first segment answers by itself.
                self.pending = matches!(self.half, Half::Receives(_));
                return;
            }
            Handshake::Answers if segment.ack.is_some() => {
                self.handshake = Handshake::Done;
                self.retry = None;
                let rtt = (self.tries == 1).then(|| now.since(self.opened));
                self.on_window(segment.window, rtt);
            }
            Handshake::Done if segment.syn.is_some() => {
                // Our last word of the handshake was lost.
                self.pending = true;
                return;
            }
            Handshake::Done => {}
            _ => return,
        }
        self.on_segment(&segment, now);
    }

    fn on_window(&mut self, window: u32, rtt: Option<Duration>) {
        if let Half::Sends(sender) = &mut self.half {
            sender.on_handshake(rtt, window);
        }
    }

    fn on_segment(&mut self, segment: &Segment, now: Timestamp) {
        match &mut self.half {
            Half::Sends(sender) => {
                let Some(ack) = segment.ack else { return };
                let base = sender.acknowledged();
                let ack = position(ack, base);
                let block = |b: &Range<u32>| position(b.start, ack)..position(b.end, ack);
                let sack: Vec<Range<u64>> = segment.sack.iter().map(block).collect();
                if ack >= base {
                    sender.handle_ack(ack, segment.window, &sack, segment.echo, now);
                }
            }
            Half::Receives(receiver) => {
                if segment.payload > 0 {
                    let start = position(segment.sequence, receiver.next());
                    receiver.handle_data(start..start + segment.payload as u64, segment.serial, now);
                    for delivery in receiver.take_delivered() {
                        self.progress.on_bytes(delivery.bytes, delivery.at);
                    }
                }
            }
        }
    }

    /// The next packet that it sends, if it sends one now.
    pub fn poll_packet(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        let segment = self.poll_segment(now)?;
        Some(segment.encode(self.addresses))
    }

    fn poll_segment(&mut self, now: Timestamp) -> Option<Segment> {
        let serial = self.serial + 1;
        let mut segment = Segment { serial, window: self.config.window, ..Segment::default() };
        match self.handshake {
            Handshake::Listens => return None,
            Handshake::Calls | Handshake::Answers => {
                if !core::mem::take(&mut self.pending) {
                    return None;
                }
                let backoff = Duration::from_secs(1 << self.tries.min(6));
                (self.retry, self.tries) = (Some(now + backoff), self.tries + 1);
                segment.syn = Some(self.config.mtu - 40);
                segment.ack = (self.handshake == Handshake::Answers).then_some(FIRST);
            }
            Handshake::Done => match &mut self.half {
                Half::Sends(sender) => {
                    if let Some(chunk) = sender.poll_chunk(serial, now) {
                        segment.sequence = wire(chunk.start);
                        segment.payload = chunk.bytes;
                        self.pending = false;
                    } else if core::mem::take(&mut self.pending) {
                        segment.sequence = wire(sender.acknowledged());
                    } else {
                        return None;
                    }
                    segment.ack = Some(FIRST);
                }
                Half::Receives(receiver) => {
                    if core::mem::take(&mut self.pending) {
                        receiver.ack_soon();
                    }
                    let blocks = receiver.take_ack(now)?;
                    segment.sequence = FIRST;
                    segment.sack = blocks.into_iter().map(|b| wire(b.start)..wire(b.end)).collect();
                    segment.ack = Some(wire(receiver.next()));
                    segment.echo = receiver.echo();
                }
            },
        }
        self.serial = serial;
        Some(segment)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.pending = true;
        }
        if let Half::Sends(sender) = &mut self.half {
            sender.handle_timeout(now);
        }
    }

    /// When it wants to be asked again, by [`Endpoint::handle_timeout`] and [`Endpoint::poll_packet`].
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        let half = match &self.half {
            Half::Sends(sender) => sender.poll_deadline(),
            Half::Receives(receiver) => receiver.poll_deadline(),
        };
        half.into_iter().chain(self.retry).min()
    }
}

impl Progress {
    pub(crate) fn on_bytes(&mut self, bytes: u64, now: Timestamp) {
        if let Some(last) = self.last
            && now.since(last) > self.longest_gap
        {
            (self.longest_gap, self.longest_gap_end) = (now.since(last), now);
        }
        self.bytes += bytes;
        self.last = Some(now);
    }
}

fn wire(position: u64) -> u32 {
    FIRST.wrapping_add(position as u32)
}

/// The position nearest to `near` that looks like `wire` on the wire.
fn position(wire: u32, near: u64) -> u64 {
    let difference = wire.wrapping_sub(FIRST).wrapping_sub(near as u32) as i32;
    near.saturating_add_signed(i64::from(difference))
}

#[cfg(test)]
mod tests;
