//! A flow like QUIC: datagrams with packet numbers, acknowledged and never repeated, whose content goes again in new packets.
//!
//! What matters to a bond is how it takes disorder: a packet counts as lost when one is acknowledged that was sent three later
//! (RFC 9002, section 6.1.1), or 9/8 of a round trip later (6.1.2), and the window is cut once a round trip for that, whether it was lost or
//! merely overtaken. The window is CUBIC's, as in most implementations, and the sender paces a quarter faster than the window asks (7.7).
//! There is no handshake: the sender starts with the initial window and learns the round trip from the first acknowledgement.

mod receiver;
mod sender;

use bondwire_units::Timestamp;

use crate::packet::{self, Addresses, IPV4_HEADER, UDP_HEADER};
use crate::tcp::{Progress, SenderCounters};
use receiver::Receiver;
use sender::Sender;

/// IP bytes of a data packet.
const DATA: usize = 1_280;
/// Ranges of an acknowledgement.
const MAX_RANGES: usize = 24;
/// Where the model's own words begin in a payload: behind the ledger's serial and three zeros.
const WORDS: usize = 4;

/// Both ends of a flow; the data goes one way.
#[derive(Debug)]
pub(crate) struct Quic {
    /// Of the data.
    addresses: Addresses,
    sender: Sender,
    receiver: Receiver,
}

impl Quic {
    /// A flow whose data is sent between these addresses from `now` on.
    pub(crate) fn new(addresses: Addresses, now: Timestamp) -> Self {
        Self { addresses, sender: Sender::new(now), receiver: Receiver::default() }
    }

    /// Of the packets with data.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub(crate) fn progress(&self) -> Progress {
        self.receiver.progress()
    }

    pub(crate) fn counters(&self) -> SenderCounters {
        self.sender.counters()
    }

    pub(crate) fn window(&self) -> (f64, Option<core::time::Duration>) {
        self.sender.window()
    }

    /// A packet reached an end: the receiver's, if `data`.
    pub(crate) fn handle_packet(&mut self, data: bool, packet: &[u8], now: Timestamp) {
        let words = words(packet);
        if data {
            if let [serial, .., chunk] = words[..] {
                self.receiver.handle_data(u64::from(serial), chunk, DATA, now);
            }
        } else if let Some((count, ranges)) = words.get(1).zip(words.get(WORDS..)) {
            let ranges = ranges.chunks_exact(2).take(*count as usize);
            let ranges: Vec<_> = ranges.map(|pair| u64::from(pair[0])..=u64::from(pair[1])).collect();
            self.sender.handle_ack(&ranges, now);
        }
    }

    /// The next packet of an end: of the sender's, if `data`.
    pub(crate) fn poll_packet(&mut self, data: bool, now: Timestamp) -> Option<Vec<u8>> {
        if data {
            self.sender.handle_timeout(now);
            let (number, chunk) = self.sender.poll_packet(now)?;
            return Some(encode(self.addresses, &[number as u32, 0, 0, 0, chunk], DATA));
        }
        let (serial, ranges) = self.receiver.poll_ack(now)?;
        let mut words = vec![serial, ranges.len() as u32, 0, 0];
        words.extend(ranges.iter().flat_map(|range| [*range.start() as u32, *range.end() as u32]));
        let size = IPV4_HEADER + UDP_HEADER + words.len() * 4;
        Some(encode(self.addresses.reversed(), &words, size))
    }

    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        self.sender.poll_deadline().into_iter().chain(self.receiver.poll_deadline()).min()
    }
}

fn encode(addresses: Addresses, words: &[u32], size: usize) -> Vec<u8> {
    let head: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    packet::udp(addresses, &head, size)
}

/// The words of a payload: of a data packet those that are used.
fn words(packet: &[u8]) -> Vec<u32> {
    let payload = packet.get(IPV4_HEADER + UDP_HEADER..).unwrap_or_default();
    let most = if packet.len() == DATA { WORDS + 1 } else { WORDS + 2 * MAX_RANGES };
    payload.chunks_exact(4).take(most).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect()
}
