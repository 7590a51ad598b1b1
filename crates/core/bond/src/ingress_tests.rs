use super::*;
use crate::realtime::{Rule, RuleClass, Rules};
use bondwire_packet::build::{TcpFields, tcp4, udp4};
use bondwire_packet::parse;
use core::net::{Ipv4Addr, SocketAddrV4};

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn address(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port)
}

thread_local! {
    static SEQUENCE: core::cell::Cell<u32> = const { core::cell::Cell::new(0) };
}

/// A segment with new data.
fn tcp(port: u16, len: usize) -> Vec<u8> {
    let sequence = SEQUENCE.get();
    SEQUENCE.set(sequence + len as u32);
    let fields = TcpFields { sequence, ..TcpFields::default() };
    tcp4(address(port), address(80), &fields, &vec![0; len])
}

fn udp(port: u16, len: usize) -> Vec<u8> {
    udp4(address(port), address(53), &vec![0; len])
}

fn push(ingress: &mut Ingress, pool: &mut Pool, packet: &[u8], now: Timestamp) {
    let (mut streams, store) = (Streams::new(), Store::new(0));
    ingress.push(packet, &parse(packet).unwrap(), &mut streams, Mode::Speed, (pool, &store), now);
}

fn take(ingress: &mut Ingress, pool: &mut Pool, now: Timestamp) -> Option<Queued> {
    let head = ingress.peek(pool, now)?;
    ingress.pop(head)
}

#[test]
fn flows_take_turns_and_a_sparse_one_goes_first() {
    let (mut ingress, mut pool) = (Ingress::new(1 << 20), Pool::new(8));
    for _ in 0..20 {
        push(&mut ingress, &mut pool, &tcp(1, 1_400), at(0));
        push(&mut ingress, &mut pool, &tcp(2, 1_400), at(0));
    }
    let first: Vec<u16> = (0..10).map(|_| take(&mut ingress, &mut pool, at(0)).unwrap().flow).collect();
    assert!(first.iter().filter(|id| **id == first[0]).count() == 5, "{first:?}");
    push(&mut ingress, &mut pool, &udp(3, 100), at(1));
    assert!(ingress.peek(&mut pool, at(1)).unwrap().sparse);
    let call = take(&mut ingress, &mut pool, at(1)).unwrap();
    assert_eq!((call.class, call.flow & 1), (FlowClass::Datagram, 1));
}

/// docs/protocol.md, DATA-1.
#[test]
fn sequences_go_on_when_an_id_goes_to_another_flow() {
    let (mut ingress, mut pool) = (Ingress::new(1 << 20), Pool::new(8));
    let mut next = std::collections::BTreeMap::new();
    for port in 1..5_000_u16 {
        let now = at(u64::from(port));
        push(&mut ingress, &mut pool, &tcp(port, 10), now);
        push(&mut ingress, &mut pool, &udp(port, 10), now);
        while let Some(packet) = take(&mut ingress, &mut pool, now) {
            let expected = next.entry(packet.flow).or_insert(0);
            assert_eq!(packet.sequence, *expected);
            assert_eq!(packet.flow & 1 == 0, packet.class == FlowClass::Stream);
            assert!(usize::from(packet.flow) < MAX_FLOWS);
            *expected += 1;
        }
    }
    assert!(next.len() <= MAX_FLOWS && next.len() > 100);
}

#[test]
fn a_full_queue_drops_from_the_fattest_flow() {
    let (mut ingress, mut pool) = (Ingress::new(100_000), Pool::new(8));
    for _ in 0..500 {
        push(&mut ingress, &mut pool, &tcp(1, 1_400), at(0));
    }
    for _ in 0..5 {
        push(&mut ingress, &mut pool, &udp(2, 200), at(0));
    }
    assert!(ingress.bytes() <= 100_000);
    let counters = ingress.counters();
    let mut taken = (0, 0);
    while let Some(packet) = take(&mut ingress, &mut pool, at(0)) {
        if packet.class == FlowClass::Datagram { taken.0 += 1 } else { taken.1 += 1 }
    }
    assert_eq!(taken.0, 5);
    assert_eq!(taken.0 + taken.1 + counters.dropped_full, counters.queued, "conservation");
    assert_eq!(ingress.bytes(), 0);
}

#[test]
fn a_standing_queue_is_cut_and_an_ecn_capable_one_is_marked() {
    for ecn in [false, true] {
        let (mut ingress, mut pool) = (Ingress::new(1 << 22), Pool::new(8));
        let mut packet = tcp(1, 1_000);
        if ecn {
            bondwire_packet::build::set_traffic_class(&mut packet, 0, bondwire_packet::Ecn::Ect0);
        }
        for ms in 0..3_000 {
            push(&mut ingress, &mut pool, &packet, at(ms));
            push(&mut ingress, &mut pool, &packet, at(ms));
            take(&mut ingress, &mut pool, at(ms));
        }
        let counters = ingress.counters();
        assert!(if ecn { counters.marked } else { counters.dropped_delay } > 5, "{counters:?}");
        assert_eq!(if ecn { counters.dropped_delay } else { counters.marked }, 0, "{counters:?}");
    }
}

/// An ingress with a table of streams that knows rules for these ports.
struct Queues {
    ingress: Ingress,
    streams: Streams,
    pool: Pool,
}

impl Queues {
    fn new() -> Self {
        let rule =
            |port, class| Rule { remote: None, ports: Some(port..=port), protocol: None, dscp: None, class };
        let mut streams = Streams::new();
        let rules = vec![rule(9_000, RuleClass::RealTime), rule(9_001, RuleClass::Bulk)];
        streams.set_rules(Rules::new(rules));
        Self { ingress: Ingress::new(1 << 22), streams, pool: Pool::new(8) }
    }

    fn push(&mut self, packet: &[u8], now: Timestamp) {
        let info = parse(packet).unwrap();
        let keep = (&mut self.pool, &Store::new(0));
        self.ingress.push(packet, &info, &mut self.streams, Mode::Streaming, keep, now);
    }

    fn take(&mut self, now: Timestamp) -> Option<Queued> {
        take(&mut self.ingress, &mut self.pool, now)
    }
}

#[test]
fn real_time_goes_before_everything_within_its_share() {
    let mut queues = Queues::new();
    for _ in 0..20 {
        queues.push(&tcp(1, 1_000), at(0));
        queues.push(&udp(2, 100), at(0));
    }
    queues.push(&udp(9_000, 100), at(0));
    let first = queues.take(at(1)).unwrap();
    assert_eq!((first.class, first.flow & 1), (FlowClass::RealTime, 1));
    // A second of the least share, 3 Mbit/s, while others wait: the burst of 200 ms, and not the rest.
    for _ in 0..400 {
        queues.push(&udp(9_000, 972), at(200));
    }
    let run = core::iter::from_fn(|| queues.take(at(200))).take_while(|p| p.class == FlowClass::RealTime);
    let count = run.count();
    assert!((70..=80).contains(&count), "{count} of 75 kB in packets of 1,000 bytes");
    // With nobody else waiting there is no share to keep to.
    while queues.ingress.has_others() && queues.take(at(201)).is_some() {}
    assert!(queues.take(at(201)).is_some_and(|packet| packet.class == FlowClass::RealTime));
    // What is too old is of no use to anyone.
    assert!(queues.take(at(600)).is_none());
    assert_eq!(queues.ingress.bytes(), 0);
}

#[test]
fn bulk_over_udp_moves_to_the_ordered_kind_and_back_without_loss_or_copy() {
    let mut queues = Queues::new();
    let (mut sent, mut taken) = (0_u64, Vec::new());
    let mut classes = Vec::new();
    let mut next = std::collections::BTreeMap::new();
    for ms in 0..14_000_u64 {
        // Two a millisecond come for three seconds and one goes; then hardly any come.
        let come = if ms < 3_000 { 2 } else { u64::from(ms % 200 == 0) };
        for _ in 0..come {
            let mut payload = vec![0; 1_300];
            payload[..8].copy_from_slice(&sent.to_be_bytes());
            queues.push(&udp4(address(7), address(443), &payload), at(ms));
            sent += 1;
        }
        if let Some(packet) = queues.take(at(ms)) {
            let expected = next.entry(packet.flow).or_insert(0);
            assert_eq!(packet.sequence, *expected, "sequences go on by one");
            *expected += 1;
            taken.push(u64::from_be_bytes(packet.bytes[28..36].try_into().unwrap()));
            if classes.last() != Some(&packet.class) {
                classes.push(packet.class);
            }
            assert_eq!(packet.class == FlowClass::Stream, packet.flow & 1 == 0);
        }
    }
    let dropped = queues.ingress.counters().dropped_delay + queues.ingress.counters().dropped_full;
    assert_eq!(sent, taken.len() as u64 + dropped, "conservation");
    assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "in order, and none twice");
    assert_eq!(classes, [FlowClass::Datagram, FlowClass::Stream, FlowClass::Datagram]);
}

#[test]
fn bursts_of_large_packets_are_no_bulk_and_a_rule_makes_bulk_at_once() {
    let mut queues = Queues::new();
    for ms in 0..5_000_u64 {
        if ms % 33 == 0 {
            (0..6).for_each(|_| queues.push(&udp(7, 1_200), at(ms)));
        }
        (0..2).filter_map(|_| queues.take(at(ms))).for_each(|p| assert_eq!(p.class, FlowClass::Datagram));
    }
    queues.push(&udp(9_001, 1_200), at(6_000));
    assert_eq!(queues.take(at(6_000)).unwrap().class, FlowClass::Stream);
}

#[test]
fn a_flow_that_keeps_to_a_path_lets_others_go_first() {
    let mut queues = Queues::new();
    for _ in 0..60 {
        queues.push(&udp(7, 1_200), at(0));
        queues.push(&tcp(8, 1_200), at(0));
    }
    let first = queues.take(at(0)).unwrap();
    assert_eq!(first.class, FlowClass::Datagram);
    queues.ingress.set_path(first.flow, PathId(3));
    let mut heads = Vec::new();
    for _ in 0..4 {
        let head = queues.ingress.peek(&mut queues.pool, at(0)).unwrap();
        if head.pin.is_some() {
            assert!(queues.ingress.defer(), "there is another");
            continue;
        }
        heads.push(queues.ingress.pop(head).unwrap().class);
    }
    assert!(!heads.is_empty() && heads.iter().all(|class| *class == FlowClass::Stream), "{heads:?}");
    // It keeps its turn: the other one has had more than its share by now.
    queues.ingress.restore();
    let mut seen = core::iter::from_fn(|| {
        let head = queues.ingress.peek(&mut queues.pool, at(0))?;
        queues.ingress.pop(head).map(|_| head.pin)
    });
    assert!(seen.by_ref().take(3).any(|pin| pin == Some(PathId(3))), "within a turn");
}

/// A flow that had its turn, and waits with one packet behind a long queue, is brought forward.
#[test]
fn a_flow_with_little_to_send_is_found_behind_a_long_queue() {
    let (mut ingress, mut pool) = (Ingress::new(1 << 20), Pool::new(8));
    for _ in 0..40 {
        push(&mut ingress, &mut pool, &tcp(1, 1_400), at(0));
    }
    push(&mut ingress, &mut pool, &udp(2, 1_200), at(0));
    while take(&mut ingress, &mut pool, at(0)).unwrap().class != FlowClass::Datagram {}
    // It has had its turn, and is visited once more after the others.
    let _ = ingress.peek(&mut pool, at(0));
    push(&mut ingress, &mut pool, &udp(2, 1_200), at(0));
    assert!(!ingress.peek(&mut pool, at(0)).unwrap().sparse);
    ingress.bring_sparse();
    let head = ingress.peek(&mut pool, at(0)).unwrap();
    assert!(head.sparse && head.class == FlowClass::Datagram);
}
