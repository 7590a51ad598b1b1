use super::*;
use bondwire_packet::build::{TcpFields, tcp4};
use bondwire_packet::tcp_flags::{ACK, FIN, SYN};
use core::net::{Ipv4Addr, SocketAddrV4};

const FLOOR: Duration = Duration::from_millis(60);

/// A smoother, and what it delivered last.
struct Bench {
    smoother: Smoother,
    batch: PacketBatch,
}

fn here() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 443)
}

fn there() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 40_000)
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_000 + ms)
}

impl Bench {
    fn new(floor: Duration) -> Self {
        let mut smoother = Smoother::new(MAX_FLOWS);
        smoother.set_floor(Some(floor), at(0));
        let mut bench = Self { smoother, batch: PacketBatch::default() };
        bench.send(SYN, 0, 0, 0);
        bench
    }

    /// A segment enters the bond here.
    fn send(&mut self, flags: u8, sequence: u32, len: usize, ms: u64) {
        let fields = TcpFields { flags, sequence, ..TcpFields::default() };
        let packet = tcp4(here(), there(), &fields, &vec![0; len]);
        let info = parse(&packet).unwrap();
        self.smoother.on_sent(&info, at(ms));
    }

    /// A segment of the peer leaves the bond here. Returns how many packets that delivers.
    fn arrive(&mut self, flags: u8, acknowledgement: u32, options: &[u8], ms: u64) -> usize {
        let fields = TcpFields { flags, acknowledgement, options, ..TcpFields::default() };
        let packet = tcp4(there(), here(), &fields, &[]);
        self.batch.clear();
        Outlet { batch: &mut self.batch, smoother: &mut self.smoother, now: at(ms) }.deliver(&packet);
        self.batch.len()
    }

    fn wait(&mut self, ms: u64) -> usize {
        self.batch.clear();
        self.smoother.handle_timeout(&mut self.batch, at(ms));
        self.batch.len()
    }
}

#[test]
fn an_early_acknowledgement_waits_for_the_floor_and_a_late_one_for_nothing() {
    let mut bench = Bench::new(FLOOR);
    bench.send(ACK, 1, 1_000, 10);
    bench.send(ACK, 1_001, 1_000, 20);
    assert_eq!(bench.arrive(ACK, 1_001, &[], 50), 0);
    assert_eq!(bench.smoother.poll_deadline(), Some(at(70)));
    assert_eq!(bench.wait(69), 0);
    assert_eq!(bench.wait(70), 1);
    assert_eq!(bench.arrive(ACK, 2_001, &[], 85), 1);
    assert_eq!(bench.smoother.poll_deadline(), None);
}

#[test]
fn acknowledgements_stay_in_order() {
    let mut bench = Bench::new(FLOOR);
    for i in 0..20 {
        bench.send(ACK, 1 + i * 1_000, 1_000, u64::from(i));
    }
    for i in (1..=20).rev() {
        bench.arrive(ACK, 1 + (21 - i) * 1_000, &[], 30);
    }
    bench.batch.clear();
    bench.smoother.handle_timeout(&mut bench.batch, at(200));
    let seen: Vec<u32> =
        bench.batch.iter().map(|(p, _)| parse(p).unwrap().tcp.unwrap().acknowledgement).collect();
    assert_eq!(seen.len(), 20);
    assert!(seen.is_sorted(), "{seen:?}");
}

/// A report of loss, the end, and whatever else is more than an acknowledgement go at once, and take along what is held.
#[test]
fn news_is_not_held() {
    const SACK: [u8; 12] = [1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 8, 0];
    const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1];
    for (flags, options) in [(ACK | FIN, [].to_vec()), (ACK, [TIMESTAMPS, SACK].concat())] {
        let mut bench = Bench::new(FLOOR);
        bench.send(ACK, 1, 1_000, 10);
        assert_eq!(bench.arrive(ACK, 1_001, &TIMESTAMPS, 20), 0);
        assert_eq!(bench.arrive(flags, 1_001, &options, 21), 2);
    }
}

#[test]
fn without_a_floor_or_a_beginning_nothing_is_held() {
    let mut bench = Bench::new(Duration::ZERO);
    bench.smoother.set_floor(Some(FLOOR), at(0));
    bench.send(ACK, 1, 1_000, 10);
    assert_eq!(bench.arrive(ACK, 1_001, &[], 20), 1, "the flow is older than the floor");
    let mut bench = Bench::new(FLOOR);
    bench.send(ACK, 1, 1_000, 10);
    assert_eq!(bench.arrive(ACK, 1_001, &[], 20), 0);
    bench.smoother.set_floor(Some(Duration::ZERO), at(21));
    assert_eq!(bench.wait(21), 1);
}

#[test]
fn a_flow_that_began_before_the_paths_were_measured_has_a_floor_too() {
    let mut bench = Bench { smoother: Smoother::new(MAX_FLOWS), batch: PacketBatch::default() };
    bench.send(SYN, 0, 0, 0);
    bench.send(ACK, 1, 1_000, 10);
    bench.smoother.set_floor(Some(FLOOR), at(20));
    assert_eq!(bench.arrive(ACK, 1_001, &[], 50), 0);
    assert_eq!(bench.smoother.poll_deadline(), Some(at(70)));
    // It keeps the one that it has.
    bench.smoother.set_floor(Some(FLOOR * 2), at(80));
    bench.send(ACK, 1_001, 1_000, 100);
    assert_eq!(bench.arrive(ACK, 2_001, &[], 150), 0);
    assert_eq!(bench.smoother.poll_deadline(), Some(at(70)));
    assert_eq!(bench.wait(160), 2);
}

#[test]
fn what_is_noted_is_bounded() {
    let mut bench = Bench::new(FLOOR);
    for i in 0..10_000_u32 {
        bench.send(ACK, 1 + i * 10, 10, u64::from(i) * 2);
    }
    let key = parse(&tcp4(here(), there(), &TcpFields::default(), &[])).unwrap().key;
    assert_eq!(bench.smoother.flows[&key].marks.len(), MAX_MARKS);
    for _ in 0..10_000 {
        bench.arrive(ACK, 99_991, &[], 20_000);
    }
    assert!(bench.smoother.held.len() <= MAX_HELD);
    assert!(bench.smoother.marks_bytes() <= FLOW_BYTES && bench.smoother.held_bytes() <= HELD_MOST);
}

#[test]
fn what_is_held_is_counted() {
    let mut bench = Bench::new(FLOOR);
    for i in 0..50_u32 {
        bench.send(ACK, 1 + i * 1_000, 1_000, u64::from(i) * 3);
        bench.arrive(ACK, 1 + (i + 1) * 1_000, &[], u64::from(i) * 3 + 1);
        let held = bench.smoother.held.values().map(|packet| packet.len() + HELD_OVERHEAD).sum::<usize>();
        assert_eq!(bench.smoother.held_bytes(), held);
        bench.wait(u64::from(i) * 3 + 2);
    }
    assert!(bench.smoother.held_bytes() > 0);
    bench.smoother.set_floor(Some(Duration::ZERO), at(151));
    bench.wait(151);
    assert_eq!(bench.smoother.held_bytes(), 0);
}

#[test]
fn no_more_flows_are_followed_than_there_is_memory_for() {
    let mut bench = Bench { smoother: Smoother::new(0), batch: PacketBatch::default() };
    bench.smoother.set_floor(Some(FLOOR), at(0));
    bench.send(SYN, 0, 0, 0);
    bench.send(ACK, 1, 1_000, 10);
    assert_eq!((bench.arrive(ACK, 1_001, &[], 20), bench.smoother.marks_bytes()), (1, 0));
}
