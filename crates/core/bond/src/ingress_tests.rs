use super::*;
use bondwire_packet::build::{TcpFields, tcp4, udp4};
use bondwire_packet::parse;
use core::net::{Ipv4Addr, SocketAddrV4};

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn address(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port)
}

fn tcp(port: u16, len: usize) -> Vec<u8> {
    tcp4(address(port), address(80), &TcpFields::default(), &vec![0; len])
}

fn udp(port: u16, len: usize) -> Vec<u8> {
    udp4(address(port), address(53), &vec![0; len])
}

fn push(ingress: &mut Ingress, pool: &mut Pool, packet: &[u8], now: Timestamp) {
    let mut streams = Streams::new();
    ingress.push(packet, &parse(packet).unwrap(), &mut streams, Mode::Speed, pool, now);
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
