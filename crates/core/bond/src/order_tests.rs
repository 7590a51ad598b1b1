use super::*;
use bondwire_packet::build::{TcpFields, tcp4};
use bondwire_packet::tcp_flags::ACK;
use core::net::{Ipv4Addr, SocketAddrV4};

struct Bench {
    order: Order,
    pool: Pool,
    now: Timestamp,
}

impl Bench {
    fn new(limit: usize) -> Self {
        Self { order: Order::new(limit), pool: Pool::new(16), now: Timestamp::from_millis(1) }
    }

    fn packet(&mut self, sequence: u64, ordered: bool) -> Vec<u8> {
        let mut deliver = PacketBatch::default();
        let tag = Tag { flow: u16::from(!ordered), sequence, ordered };
        self.order.handle_packet(tag, &[sequence as u8; 10], &mut deliver, &mut self.pool, self.now);
        deliver.iter().map(|(bytes, _)| bytes[0]).collect()
    }

    /// A segment with `len` bytes of data, that acknowledges `number`; returns the numbers of those that are delivered.
    fn segment(&mut self, sequence: u64, number: u32, len: usize) -> Vec<u32> {
        let fields = TcpFields { flags: ACK, acknowledgement: number, ..TcpFields::default() };
        let end = |port| SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), port);
        let packet = tcp4(end(443), end(40_000), &fields, &vec![0; len]);
        let mut deliver = PacketBatch::default();
        let tag = Tag { flow: 0, sequence, ordered: true };
        self.order.handle_packet(tag, &packet, &mut deliver, &mut self.pool, self.now);
        deliver.iter().map(|(bytes, _)| parse(bytes).unwrap().tcp.unwrap().acknowledgement).collect()
    }

    fn skip(&mut self, first: u64, count: u16) -> Vec<u8> {
        let mut deliver = PacketBatch::default();
        self.order.handle_skip(0, first, count, &mut deliver, &mut self.pool, self.now);
        deliver.iter().map(|(bytes, _)| bytes[0]).collect()
    }

    fn timeout(&mut self, after: Duration) -> Vec<u8> {
        self.now += after;
        let mut deliver = PacketBatch::default();
        self.order.handle_timeout(Duration::from_millis(500), &mut deliver, &mut self.pool, self.now);
        deliver.iter().map(|(bytes, _)| bytes[0]).collect()
    }
}

/// docs/protocol.md, DATA-2 and DATA-3.
#[test]
fn order_is_restored_and_copies_are_dropped() {
    let mut bench = Bench::new(1 << 20);
    assert_eq!(bench.packet(0, true), [0]);
    assert_eq!(bench.packet(2, true), []);
    assert_eq!(bench.packet(3, true), []);
    assert_eq!(bench.packet(2, true), []);
    assert_eq!(bench.packet(0, true), []);
    assert_eq!(bench.packet(1, true), [1, 2, 3]);
    assert_eq!(bench.order.counters().duplicates, 2);
    assert_eq!(bench.order.held_bytes(), 0);
    assert_eq!(bench.order.poll_deadline(Duration::from_millis(1)), None);
}

/// docs/protocol.md, DATA-8.
#[test]
fn an_acknowledgement_waits_for_nothing_and_one_that_was_overtaken_is_dropped() {
    let mut bench = Bench::new(1 << 20);
    assert_eq!(bench.segment(0, 100, 0), [100]);
    assert_eq!(bench.segment(3, 300, 0), [300]);
    assert_eq!(bench.segment(3, 300, 0), []);
    assert_eq!(bench.segment(2, 200, 0), []);
    assert_eq!(bench.segment(4, 300, 0), [300], "the same number once more may be news");
    assert_eq!(bench.segment(5, 300, 8), [], "data waits");
    assert_eq!(bench.segment(6, 301, 0), [301]);
    assert_eq!(bench.segment(1, 150, 8), [150, 300], "data is never overtaken");
    assert_eq!((bench.order.counters().overtaken, bench.order.counters().duplicates), (1, 1));
    assert_eq!((bench.order.held_bytes(), bench.order.places), (0, 0));
    assert_eq!(bench.order.poll_deadline(Duration::from_millis(1)), None);
    assert_eq!(bench.segment(7, 10, 0), [10], "the identifier is another connection's now");
}

#[test]
fn acknowledgements_behind_a_gap_that_is_given_up_are_not_delivered_twice() {
    let mut bench = Bench::new(1 << 20);
    for sequence in 1..50 {
        assert_eq!(bench.segment(sequence, sequence as u32, 0).len(), 1);
    }
    assert_eq!(bench.timeout(Duration::from_secs(1)), []);
    assert_eq!(bench.order.places, 0);
    assert_eq!(bench.segment(50, 50, 8), [50]);
    assert_eq!(bench.order.counters().delivered, 50);
}

#[test]
fn a_skip_ends_the_wait_and_a_late_packet_is_delivered_once() {
    let mut bench = Bench::new(1 << 20);
    assert_eq!(bench.packet(3, true), []);
    assert_eq!(bench.skip(0, 2), []);
    assert_eq!(bench.skip(2, 1), [3]);
    assert_eq!(bench.packet(1, true), [1]);
    assert_eq!(bench.packet(1, true), []);
    assert_eq!(bench.packet(4, true), [4]);
    assert_eq!(bench.skip(5, 3), [], "a skip of what nobody waits for");
    assert_eq!(bench.packet(8, true), [8]);
}

#[test]
fn a_gap_is_given_up_after_the_wait_and_not_before() {
    let mut bench = Bench::new(1 << 20);
    assert_eq!(bench.packet(2, true), []);
    assert_eq!(bench.packet(5, true), []);
    assert_eq!(bench.timeout(Duration::from_millis(499)), []);
    assert_eq!(bench.timeout(Duration::from_millis(1)), [2]);
    assert_eq!(bench.timeout(Duration::from_millis(499)), [], "the next gap has its own wait");
    assert_eq!(bench.timeout(Duration::from_millis(1)), [5]);
    assert_eq!(bench.packet(4, true), [4]);
    assert_eq!(bench.order.counters().gave_up, 4);
}

/// docs/protocol.md, DATA-4.
#[test]
fn unordered_packets_are_delivered_at_once_and_once() {
    let mut bench = Bench::new(1 << 20);
    for sequence in [5, 3, 200, 4, 201] {
        assert_eq!(bench.packet(sequence, false), [sequence as u8]);
        assert_eq!(bench.packet(sequence, false), []);
    }
    assert_eq!(bench.packet(5_000, false).len(), 1);
    assert_eq!(bench.packet(6, false), [], "too old to tell from a copy");
    assert_eq!(bench.packet(4_999, false).len(), 1);
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new(50_000);
    let mut delivered = 0;
    for sequence in (1..3_000).filter(|s| s % 3 != 0) {
        delivered += bench.packet(sequence, true).len();
        assert!(bench.order.held_bytes() <= 50_000);
    }
    assert!(delivered > 500);
    assert_eq!(bench.packet(1 << 40, true), []);
    assert_eq!(bench.order.counters().out_of_window, 1);
}

/// What others need of the memory is not held any more.
#[test]
fn a_smaller_limit_holds_from_the_next_packet_on() {
    let mut bench = Bench::new(50_000);
    let delivered: usize = (1..500).map(|sequence| bench.packet(sequence, true).len()).sum();
    assert!(delivered == 0 && bench.order.held_bytes() > 30_000);
    bench.order.set_limit(20_000);
    assert_eq!(bench.packet(500, true).len(), 500, "the gap is given up");
    assert_eq!(bench.order.held_bytes(), 0);
}

/// A few packets far ahead in each of many flows, or skips without end, cost no more than the budget says.
#[test]
fn places_are_bounded_too() {
    let mut bench = Bench::new(64_000);
    let mut deliver = PacketBatch::default();
    for flow in 0..4_000 {
        let tag = Tag { flow, sequence: 100_000, ordered: true };
        bench.order.handle_packet(tag, &[1; 20], &mut deliver, &mut bench.pool, bench.now);
        bench.order.handle_skip(flow, 1, u16::MAX, &mut deliver, &mut bench.pool, bench.now);
    }
    let places: usize = bench.order.flows.iter().flatten().map(|flow| flow.ring.capacity()).sum();
    assert!(places <= 4_000, "{places}");
    assert_eq!(
        bench.order.places,
        bench.order.flows.iter().flatten().map(|flow| flow.ring.len()).sum::<usize>()
    );
}

#[test]
fn skips_of_everything_cost_little_and_the_flow_goes_on() {
    let mut bench = Bench::new(1 << 20);
    for round in 0..10_000_u64 {
        assert_eq!(bench.skip(round * 65_535, u16::MAX), []);
    }
    let next = 10_000 * 65_535;
    assert_eq!(bench.packet(next, true).len(), 1);
    assert!(bench.order.flows.iter().flatten().all(|flow| flow.late.len() <= MAX_LATE));
}

#[test]
fn any_arrival_order_gives_every_packet_once() {
    let mut random = 12345_u64;
    for _ in 0..50 {
        let mut bench = Bench::new(1 << 20);
        let mut sequences: Vec<u64> = (0..200).flat_map(|s| [s, s]).collect();
        for i in (1..sequences.len()).rev() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sequences.swap(i, (random >> 33) as usize % (i + 1));
        }
        let delivered: Vec<u8> = sequences.iter().flat_map(|s| bench.packet(*s, true)).collect();
        assert_eq!(delivered, (0..200).map(|s| s as u8).collect::<Vec<_>>());
    }
}
