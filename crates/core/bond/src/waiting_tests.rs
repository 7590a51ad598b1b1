use super::*;
use crate::pool::Pool;
use bondwire_packet::build::{TcpFields, tcp4, udp4};
use bondwire_packet::parse;
use bondwire_packet::tcp_flags::{ACK, SYN};
use core::net::{Ipv4Addr, SocketAddrV4};

const LEN: u32 = 1_000;

fn address(host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, host), 443)
}

fn segment(flags: u8, sequence: u32, len: usize) -> Vec<u8> {
    let fields = TcpFields { flags, sequence, ..TcpFields::default() };
    tcp4(address(1), address(2), &fields, &vec![0; len])
}

/// A flow's queue and the store behind it.
struct Bench {
    queue: FlowQueue,
    store: Store,
    start: u32,
    kept: Vec<StoreId>,
}

impl Bench {
    /// For a connection whose first byte has the number `start`.
    fn new(start: u32) -> Self {
        Self { queue: FlowQueue::default(), store: Store::new(1 << 20), start, kept: Vec::new() }
    }

    /// Offers a packet and says where it belongs.
    fn offer(&mut self, packet: &[u8]) -> Turn {
        let turn = self.queue.turn(&parse(packet).unwrap(), &self.store);
        if turn != Turn::Never {
            self.queue.push(packet.to_vec(), turn, Timestamp::ZERO);
        }
        turn
    }

    /// Offers the `n`th segment.
    fn send(&mut self, n: u32) -> Turn {
        self.offer(&segment(ACK, self.start.wrapping_add(n * LEN), LEN as usize))
    }

    /// Takes the next packet, keeps it for repair, and returns the number of its segment.
    fn take(&mut self) -> Option<u32> {
        let packet = self.queue.pop()?;
        let number = parse(&packet.bytes).unwrap().tcp.unwrap().sequence.wrapping_sub(self.start) / LEN;
        let id = self.store.keep(0, u64::from(number), packet.bytes, Timestamp::ZERO);
        if let Some(segment) = packet.segment {
            self.queue.on_kept(segment, id, &self.store);
        }
        self.kept.push(id);
        Some(number)
    }

    /// What was taken first is acknowledged, up to `count` packets.
    fn acknowledge(&mut self, count: usize) {
        for id in self.kept.drain(..count) {
            self.store.forget(id, &mut Pool::new(0));
        }
    }

    fn drain(&mut self) -> Vec<u32> {
        core::iter::from_fn(|| self.take()).collect()
    }
}

#[test]
fn what_the_bond_has_is_not_taken_again() {
    // The numbers wrap on the way.
    for start in [0, u32::MAX - 2 * LEN, (1 << 31) - 2 * LEN] {
        let mut bench = Bench::new(start);
        for n in 0..8 {
            assert!(matches!(bench.send(n), Turn::Last(Some(_))));
        }
        let taken: Vec<_> = (0..3).map(|_| bench.take().unwrap()).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert!((0..8).all(|n| bench.send(n) == Turn::Never), "some wait, some are on their way");
        bench.acknowledge(1);
        assert_eq!(bench.send(0), Turn::Again, "it was delivered, and lost beyond the bond");
        assert_eq!(bench.send(1), Turn::Never);
        assert_eq!(bench.drain(), [3, 4, 5, 6, 7, 0], "{start}");
        assert_eq!(bench.queue.bytes(), 0);
    }
}

#[test]
fn what_was_lost_goes_first_while_the_bond_is_patient() {
    let mut bench = Bench::new(0);
    for n in [0, 1, 3, 4, 6] {
        bench.send(n);
    }
    assert_eq!(bench.send(2), Turn::Again, "it never came here");
    bench.queue.hurry(true);
    assert!(bench.queue.front_in_turn().is_none(), "it says nothing of the queue's delay");
    assert_eq!(bench.send(5), Turn::Again);
    assert_eq!(bench.drain(), [2, 5, 0, 1, 3, 4, 6]);
    bench.queue.hurry(false);
    bench.send(8);
    bench.send(7);
    assert_eq!(bench.drain(), [8, 7]);
}

#[test]
fn only_data_that_the_bond_has_as_a_whole_is_dropped() {
    let mut bench = Bench::new(0);
    bench.send(0);
    bench.send(1);
    assert_eq!(bench.offer(&segment(ACK, 100, 200)), Turn::Never);
    assert_eq!(bench.offer(&segment(ACK, 900, 200)), Turn::Again, "it lies in two packets");
    assert!(matches!(bench.offer(&segment(ACK, 1_500, 1_000)), Turn::Last(Some(_))), "half of it is new");
    assert_eq!(bench.offer(&segment(ACK, 500, 0)), Turn::Last(None), "no data");
    let datagram = udp4(address(1), address(2), &[0; 100]);
    assert_eq!(bench.offer(&datagram), Turn::Last(None));
}

#[test]
fn a_new_connection_begins_anew() {
    let mut bench = Bench::new(1 << 30);
    for n in 0..4 {
        bench.send(n);
    }
    bench.take();
    bench.offer(&segment(SYN, 5, 0));
    bench.start = 6;
    assert!(matches!(bench.send(0), Turn::Last(Some(_))));
    for _ in 0..4 {
        bench.take();
    }
    assert_eq!(bench.send(0), Turn::Never, "the old connection's packets were not taken for it");
    bench.take();
    assert_eq!(bench.send(0), Turn::Never);
    bench.acknowledge(6);
    assert_eq!(bench.send(0), Turn::Again);
}
