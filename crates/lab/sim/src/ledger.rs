//! Remembers every inner packet that was given to a network, and judges every one that comes out: is it ours, is it
//! unchanged, does it come for the first time, and in order where order is promised?
//!
//! Memory: 32 bytes for each packet of the run.

use core::time::Duration;
use std::collections::BTreeMap;

use bondwire_packet::parse;
use bondwire_units::Timestamp;

use crate::packet::{Addresses, IPV4_HEADER, TCP, UDP_HEADER};
use crate::tcp::serial_of;

/// No gap of an ordered flow may be given up earlier than this after the packet behind it was sent: the shortest wait
/// that docs/protocol.md, DATA-3 allows.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// A packet this old was given up on by its sender, who said so by SKIP (docs/protocol.md, DATA-7): nothing waits for it.
const GIVEN_UP: Duration = Duration::from_millis(2_500);

/// What went wrong. The text is for the person who reads the failed test.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A packet came out that nobody sent.
    #[error("{at}: a packet came out that nobody sent: {addresses:?}, serial {serial:?}")]
    Unknown {
        /// When.
        at: Timestamp,
        /// Its addresses, if it has any.
        addresses: Option<Addresses>,
        /// Its number, if it has one.
        serial: Option<u32>,
    },
    /// A packet came out with other bytes than it went in with.
    #[error("{at}: packet {serial} of {addresses:?} was changed on its way")]
    Changed {
        /// When.
        at: Timestamp,
        /// Its flow.
        addresses: Addresses,
        /// Its number.
        serial: u32,
    },
    /// A packet came out twice.
    #[error("{at}: packet {serial} of {addresses:?} was delivered twice")]
    Duplicate {
        /// When.
        at: Timestamp,
        /// Its flow.
        addresses: Addresses,
        /// Its number.
        serial: u32,
    },
    /// A packet of a stream came out behind a later one that had not waited for it.
    #[error(
        "{at}: packet {serial} of {addresses:?} came behind {behind}, which had waited for {waited:?} only"
    )]
    Disorder {
        /// When.
        at: Timestamp,
        /// Its flow.
        addresses: Addresses,
        /// Its number.
        serial: u32,
        /// The first later packet that was delivered before it.
        behind: u32,
        /// The time from that one's sending to its delivery.
        waited: Duration,
    },
}

/// What has become of a flow's packets, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTotals {
    /// Packets given to the network.
    pub sent: u64,
    /// Packets that came out.
    pub delivered: u64,
    /// Packets that came out behind a later one (all of them after the wait that is stated for it, if the flow is a stream).
    pub late: u64,
    /// The longest time from one delivery to the next.
    pub longest_gap: Duration,
    /// When it ended.
    pub longest_gap_end: Timestamp,
    /// The longest time from sending to delivery.
    pub longest_delay: Duration,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    flows: BTreeMap<Addresses, Flow>,
}

#[derive(Debug, Default)]
struct Flow {
    /// By serial, from 1.
    packets: Vec<Record>,
    highest: u32,
    /// The TCP sequence number behind the newest data that was sent.
    newest: Option<u32>,
    /// Serials that were passed over: by which packet, and after how long.
    passed: BTreeMap<u32, (u32, Duration)>,
    last: Option<Timestamp>,
    /// When each datagram was sent, and how long it took.
    delays: Vec<(Timestamp, Duration)>,
    totals: FlowTotals,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    sent: Timestamp,
    print: u64,
    /// Its TCP sender has sent this data before.
    again: bool,
    delivered: Option<Timestamp>,
}

impl Ledger {
    /// A packet is about to be given to the network. Packets of one flow have serials that rise by one.
    ///
    /// # Panics
    /// If they do not: the traffic source is broken.
    pub fn on_sent(&mut self, packet: &[u8], now: Timestamp) {
        let (addresses, serial) = name(packet).expect("sources number their packets");
        let flow = self.flows.entry(addresses).or_default();
        let again = flow.is_again(packet);
        flow.packets.push(Record { sent: now, print: fingerprint(packet), again, delivered: None });
        assert_eq!(serial as usize, flow.packets.len(), "serials of {addresses:?} rise by one");
        flow.totals.sent += 1;
    }

    /// A packet came out of the network.
    ///
    /// # Errors
    /// Says which promise it breaks.
    pub fn on_delivered(&mut self, packet: &[u8], now: Timestamp) -> Result<(), Violation> {
        let named = name(packet);
        let (addresses, serial) = (named.map(|n| n.0), named.map(|n| n.1));
        let unknown = Violation::Unknown { at: now, addresses, serial };
        let Some((addresses, serial)) = named else { return Err(unknown) };
        let Some(flow) = self.flows.get_mut(&addresses) else { return Err(unknown) };
        let Some(record) = flow.packets.get_mut((serial as usize).wrapping_sub(1)) else {
            return Err(unknown);
        };
        if record.print != fingerprint(packet) {
            return Err(Violation::Changed { at: now, addresses, serial });
        }
        if record.delivered.replace(now).is_some() {
            return Err(Violation::Duplicate { at: now, addresses, serial });
        }
        let (delay, again) = (now.since(record.sent), record.again);
        if addresses.protocol != TCP {
            flow.delays.push((record.sent, delay));
        }
        flow.count(delay, now);
        // A mere acknowledgement waits for nothing, and nothing waits for it (docs/protocol.md, DATA-8).
        if parse(packet).is_ok_and(|info| info.tcp.is_some_and(|tcp| tcp.is_pure_ack())) {
            return Ok(());
        }
        // What is sent again may go first (docs/scheduling.md).
        if again {
            return Ok(());
        }
        if serial < flow.highest {
            flow.totals.late += 1;
            let (behind, waited) = flow.passed.remove(&serial).unwrap_or((0, Duration::ZERO));
            if addresses.protocol == TCP && waited < LEAST_WAIT && delay < GIVEN_UP {
                return Err(Violation::Disorder { at: now, addresses, serial, behind, waited });
            }
        } else {
            if addresses.protocol == TCP {
                flow.passed.extend((flow.highest + 1..serial).map(|missed| (missed, (serial, delay))));
            }
            flow.highest = serial;
        }
        Ok(())
    }

    /// What has become of the packets with these addresses.
    pub fn totals(&self, addresses: Addresses) -> FlowTotals {
        self.flows.get(&addresses).map(|flow| flow.totals).unwrap_or_default()
    }

    /// When each datagram with these addresses that came out was sent, and how long it took.
    pub fn delays(&self, addresses: Addresses) -> &[(Timestamp, Duration)] {
        self.flows.get(&addresses).map(|flow| flow.delays.as_slice()).unwrap_or_default()
    }

    /// The delay that the share `quantile` of a flow's packets stayed below, of those sent from `from` to `to`. None if that share was not
    /// delivered, or nothing was sent.
    pub fn delay_quantile(
        &self,
        addresses: Addresses,
        quantile: f64,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Duration> {
        let packets = &self.flows.get(&addresses)?.packets;
        let sent = packets.iter().filter(|packet| packet.sent >= from && packet.sent < to);
        let mut delays: Vec<Duration> = sent
            .map(|packet| packet.delivered.map_or(Duration::MAX, |delivered| delivered.since(packet.sent)))
            .collect();
        delays.sort_unstable();
        let delay = delays.get((delays.len() as f64 * quantile) as usize).or(delays.last());
        delay.copied().filter(|&delay| delay < Duration::MAX)
    }

    /// All flows, each direction by itself.
    pub fn iter(&self) -> impl Iterator<Item = (Addresses, FlowTotals)> {
        self.flows.iter().map(|(addresses, flow)| (*addresses, flow.totals))
    }
}

impl Flow {
    /// Whether a TCP segment brings nothing that was not sent before.
    fn is_again(&mut self, packet: &[u8]) -> bool {
        let Some(tcp) = parse(packet).ok().and_then(|info| info.tcp).filter(|tcp| tcp.payload_len > 0) else {
            return false;
        };
        let until = tcp.sequence.wrapping_add(tcp.payload_len as u32);
        let again = self.newest.is_some_and(|newest| (until.wrapping_sub(newest) as i32) <= 0);
        if !again {
            self.newest = Some(until);
        }
        again
    }

    fn count(&mut self, delay: Duration, now: Timestamp) {
        let totals = &mut self.totals;
        totals.delivered += 1;
        totals.longest_delay = totals.longest_delay.max(delay);
        let gap = self.last.map_or(Duration::ZERO, |last| now.since(last));
        if gap > totals.longest_gap {
            (totals.longest_gap, totals.longest_gap_end) = (gap, now);
        }
        self.last = Some(now);
    }
}

/// To which flow a packet belongs, and its number there.
fn name(packet: &[u8]) -> Option<(Addresses, u32)> {
    let addresses = Addresses::of(packet)?;
    let serial = if addresses.protocol == TCP {
        serial_of(packet)?
    } else {
        let at = IPV4_HEADER + UDP_HEADER;
        u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?)
    };
    Some((addresses, serial))
}

/// FNV-1a over the length and all that is not payload (which is zeros, and under the checksum).
fn fingerprint(packet: &[u8]) -> u64 {
    let head = &packet[..packet.len().min(100)];
    let length = (packet.len() as u64).to_le_bytes();
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    head.iter().chain(&length).fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet;

    fn packet_of(protocol: u8, serial: u32) -> Vec<u8> {
        let addresses = Addresses {
            protocol,
            source: "10.99.0.2:5000".parse().unwrap(),
            destination: "192.0.2.1:443".parse().unwrap(),
        };
        if protocol == TCP {
            crate::tcp::Segment { serial, ..Default::default() }.encode(addresses)
        } else {
            packet::udp(addresses, &serial.to_be_bytes(), 100)
        }
    }

    #[test]
    fn breaches_are_seen() {
        let at = Timestamp::from_millis;
        let mut ledger = Ledger::default();
        let packets: Vec<Vec<u8>> = (1..=6).map(|n| packet_of(TCP, n)).collect();
        packets.iter().for_each(|p| ledger.on_sent(p, at(0)));
        assert_eq!(ledger.on_delivered(&packets[0], at(10)), Ok(()));
        assert!(matches!(
            ledger.on_delivered(&packets[0], at(10)),
            Err(Violation::Duplicate { serial: 1, .. })
        ));
        assert_eq!(ledger.on_delivered(&packets[2], at(20)), Ok(()));
        let disorder = ledger.on_delivered(&packets[1], at(30));
        assert!(matches!(disorder, Err(Violation::Disorder { serial: 2, behind: 3, .. })), "{disorder:?}");
        assert_eq!(ledger.on_delivered(&packets[4], at(250)), Ok(()));
        assert_eq!(ledger.on_delivered(&packets[3], at(260)), Ok(()), "after the stated wait");
        let mut changed = packets[5].clone();
        let unknown = ledger.on_delivered(&packet_of(TCP, 7), at(300));
        assert!(matches!(unknown, Err(Violation::Unknown { serial: Some(7), .. })));
        changed.extend([0]);
        assert!(matches!(ledger.on_delivered(&changed, at(300)), Err(Violation::Changed { serial: 6, .. })));
        let totals = ledger.iter().next().unwrap().1;
        assert_eq!((totals.sent, totals.delivered, totals.late), (6, 5, 2));
    }

    #[test]
    fn datagrams_and_acknowledgements_may_overtake() {
        let acknowledgement = |serial| {
            let data = packet_of(TCP, serial);
            let segment = crate::tcp::Segment { serial, ack: Some(serial), ..Default::default() };
            segment.encode(Addresses::of(&data).unwrap())
        };
        let datagram = |serial| packet_of(packet::UDP, serial);
        for packets in [[datagram(1), datagram(2)], [acknowledgement(1), acknowledgement(2)]] {
            let mut ledger = Ledger::default();
            packets.iter().for_each(|p| ledger.on_sent(p, Timestamp::ZERO));
            assert_eq!(ledger.on_delivered(&packets[1], Timestamp::ZERO), Ok(()));
            assert_eq!(ledger.on_delivered(&packets[0], Timestamp::ZERO), Ok(()));
        }
    }
}
