use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::build::TcpFields;

const A4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const B4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    (prop_oneof![v4, v6], any::<u16>(), any::<u16>())
        .prop_map(|((a, b), p, q)| (SocketAddr::new(a, p), SocketAddr::new(b, q)))
}

/// Whether every checksum in `packet` is right by the reference.
fn is_valid(packet: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let header_is_right = match &sliced.net {
        Some(NetSlice::Ipv4(v4)) => {
            v4.header().header_checksum() == v4.header().to_header().calc_header_checksum()
        }
        _ => true,
    };
    let info = parse(packet).unwrap();
    let segment = &packet[info.transport_at..info.total_len];
    let pseudo = match (info.protocol, info.is_fragment) {
        (_, true) => return header_is_right,
        (protocol::ICMP, _) => 0,
        (protocol, _) => checksum::pseudo_header_sum(info.src, info.dst, protocol, segment.len()),
    };
    header_is_right && checksum::finish(checksum::sum(segment, pseudo)) == 0
}

fn udp(dscp: u8, ecn: Ecn) -> Vec<u8> {
    let mut packet = build::udp4((A4, 1000).into_v4(), (B4, 2000).into_v4(), b"hello");
    assert!(build::set_traffic_class(&mut packet, dscp, ecn));
    packet
}

trait IntoV4 {
    fn into_v4(self) -> core::net::SocketAddrV4;
}

impl IntoV4 for (Ipv4Addr, u16) {
    fn into_v4(self) -> core::net::SocketAddrV4 {
        core::net::SocketAddrV4::new(self.0, self.1)
    }
}

#[test]
fn classes_follow_protocol_and_dscp() {
    let class = |packet: &[u8]| FlowClass::of(&parse(packet).unwrap());
    let mut stream = build::tcp4((A4, 1).into_v4(), (B4, 2).into_v4(), &TcpFields::default(), b"");
    assert_eq!(class(&stream), FlowClass::Stream);
    assert!(build::set_traffic_class(&mut stream, 46, Ecn::Ect0));
    assert_eq!(class(&stream), FlowClass::Stream);
    for (dscp, expected) in [
        (0, FlowClass::Datagram),
        (8, FlowClass::Datagram),
        (34, FlowClass::RealTime),
        (36, FlowClass::RealTime),
        (38, FlowClass::RealTime),
        (44, FlowClass::RealTime),
        (46, FlowClass::RealTime),
        (48, FlowClass::Datagram),
    ] {
        assert_eq!(class(&udp(dscp, Ecn::NotEct)), expected, "{dscp}");
    }
}

#[test]
fn only_capable_packets_are_marked() {
    for (before, marked) in [(Ecn::NotEct, false), (Ecn::Ect0, true), (Ecn::Ect1, true), (Ecn::Ce, true)] {
        let mut v4 = udp(46, before);
        let mut v6 = build::ip6(A6, B6, 59, b"");
        assert!(build::set_traffic_class(&mut v6, 46, before));
        for packet in [&mut v4, &mut v6] {
            assert_eq!(set_ce(packet), marked);
            let info = parse(packet).unwrap();
            assert_eq!((info.dscp, info.ecn), (46, if marked { Ecn::Ce } else { before }));
        }
        assert!(is_valid(&v4));
    }
    assert!(!set_ce(&mut []) && !set_ce(&mut [0x45, 3]) && !set_ce(&mut [0x00; 40]));
}

/// All fragments of a packet, the first one too, belong to the same flow.
#[test]
fn fragments_have_no_ports() {
    let mut packet = udp(0, Ecn::NotEct);
    for (flags, is_fragment) in [(0x0000, false), (0x4000, false), (0x2000, true), (0x00b9, true)] {
        packet[6..8].copy_from_slice(&u16::to_be_bytes(flags));
        let info = parse(&packet).unwrap();
        assert_eq!(info.is_fragment, is_fragment);
        assert_eq!(info.key.src_port, if is_fragment { 0 } else { 1000 });
        assert_eq!(info.dont_fragment, flags & 0x4000 != 0);
    }
    for (offset, is_fragment) in [(0u16, false), (1, true), (8, true)] {
        let [high, low] = offset.to_be_bytes();
        let body = [&[17, 0, high, low, 0, 0, 0, 1][..], &[0, 7, 0, 9, 0, 8, 0, 0]].concat();
        let info = parse(&build::ip6(A6, B6, 44, &body)).unwrap();
        assert_eq!((info.is_fragment, info.protocol, info.transport_at), (is_fragment, 17, 48));
        assert_eq!(info.key.dst_port, if is_fragment { 0 } else { 9 });
    }
}

#[test]
fn extension_headers_are_stepped_over_up_to_a_bound() {
    let udp = [0, 7, 0, 9, 0, 8, 0, 0];
    let chain = |count: usize| {
        let mut body = Vec::new();
        for left in (0..count).rev() {
            body.extend_from_slice(&[if left == 0 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        body.extend_from_slice(&udp);
        build::ip6(A6, B6, 60, &body)
    };
    assert_eq!(parse(&chain(8)).unwrap().key.src_port, 7);
    let far = parse(&chain(9)).unwrap();
    assert_eq!((far.protocol, far.key.src_port), (60, 0));
    // A header that claims more than there is.
    let cut = parse(&build::ip6(A6, B6, 60, &[17, 9, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!((cut.protocol, cut.transport_at), (60, 40));
}

#[test]
fn flows_without_ports_are_told_apart() {
    let key = |packet: &[u8]| parse(packet).unwrap().key;
    let ping = build::icmp_echo(A4.into(), B4.into(), 77, 1, b"x").unwrap();
    let mut pong = build::icmp_echo(B4.into(), A4.into(), 77, 1, b"x").unwrap();
    pong[20] = 0;
    assert_eq!(key(&ping).src_port, 77);
    assert_eq!(key(&pong), key(&ping).reversed());
    let ping = build::icmp_echo(A6.into(), B6.into(), 78, 1, b"x").unwrap();
    assert_eq!((key(&ping).src_port, key(&ping).protocol), (78, protocol::ICMPV6));
    let esp = key(&build::ip4(A4, B4, protocol::ESP, &[1, 2, 3, 4, 0, 0, 0, 1]));
    assert_eq!((esp.src_port, esp.dst_port), (0x0102, 0x0304));
    let ah = key(&build::ip4(A4, B4, protocol::AH, &[6, 4, 0, 0, 1, 2, 3, 4]));
    assert_eq!((ah.src_port, ah.dst_port), (0x0102, 0x0304));
    let gre = key(&build::ip4(A4, B4, 47, &[1, 2, 3, 4]));
    assert_eq!((gre.src_port, gre.dst_port), (0, 0));
}

#[test]
fn broken_headers_are_refused() {
    let good = udp(0, Ecn::NotEct);
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        parse(&packet).unwrap_err()
    };
    assert_eq!(parse(&[]), Err(ParseError::Empty));
    assert_eq!(with(0, 0x55), ParseError::Version(5));
    assert_eq!(with(0, 0x44), ParseError::Length);
    assert_eq!(with(3, 19), ParseError::Length);
    assert_eq!(with(3, 34), ParseError::Truncated);
    for end in 1..good.len() {
        assert_eq!(parse(&good[..end]), Err(ParseError::Truncated));
    }
}

#[test]
fn what_is_behind_the_packet_is_no_part_of_it() {
    let mut packet = udp(0, Ecn::NotEct);
    let whole = parse(&packet);
    packet.extend_from_slice(&[0; 9]);
    assert_eq!(parse(&packet), whole);
    assert_eq!(whole.unwrap().payload_len(), 5);
}

#[test]
fn too_big_is_told_to_those_who_may_be_told() {
    let big = udp(0, Ecn::NotEct);
    let told = build::packet_too_big(&big, 1300, B4.into()).unwrap();
    assert!(is_valid(&told));
    assert_eq!(destination_address(&told), Some(A4.into()));
    assert_eq!((&told[20..22], &told[26..28], &told[28..]), (&[3, 4][..], &[0x05, 0x14][..], &big[..]));
    // Never in answer to an error, to a later fragment, to many, to what may be fragmented, or across versions.
    assert_eq!(build::packet_too_big(&told, 1300, A4.into()), None);
    for (at, value) in [(6, 0x41), (6, 0), (16, 224), (12, 224)] {
        let mut other = big.clone();
        other[at] = value;
        assert_eq!(build::packet_too_big(&other, 1300, B4.into()), None);
    }
    assert_eq!(build::packet_too_big(&big, 1300, B6.into()), None);

    let big = build::ip6(A6, B6, 59, &[7; 3000]);
    let told = build::packet_too_big(&big, 1300, B6.into()).unwrap();
    assert!(is_valid(&told));
    assert_eq!((told.len(), &told[40..42], &told[44..48]), (1280, &[2, 0][..], &[0, 0, 0x05, 0x14][..]));
    assert_eq!(build::packet_too_big(&told, 1300, A6.into()), None);
    let later = build::ip6(A6, B6, 44, &[17, 0, 0, 8, 0, 0, 0, 1, 0, 0]);
    assert_eq!(build::packet_too_big(&later, 1300, B6.into()), None);
}

#[test]
fn a_partial_checksum_is_completed() {
    let mut packet = udp(0, Ecn::NotEct);
    let segment = packet.len() - 20;
    let pseudo = checksum::pseudo_header_sum(A4.into(), B4.into(), protocol::UDP, segment);
    packet[26..28].copy_from_slice(&(!checksum::finish(pseudo)).to_be_bytes());
    assert!(!is_valid(&packet));
    assert!(!checksum::complete(&mut packet, 20, segment as u16 - 1));
    assert!(!checksum::complete(&mut packet, 200, 0));
    assert!(checksum::complete(&mut packet, 20, 6));
    assert!(is_valid(&packet));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_built_is_valid_and_read_again(
        (src, dst) in pair(), payload in vec(any::<u8>(), 0..300), options in vec(Just(1u8), 0..45),
        sequence: u32, acknowledgement: u32, flags: u8, window: u16, dscp in 0u8..64, bits in 0u8..4,
    ) {
        let fields = TcpFields { sequence, acknowledgement, flags, window, options: &options };
        let mut packet = build::tcp(src, dst, &fields, &payload).unwrap();
        prop_assert!(build::set_traffic_class(&mut packet, dscp, Ecn::from_bits(bits)));
        prop_assert!(is_valid(&packet));
        let info = parse(&packet).unwrap();
        let key = FlowKey {
            protocol: protocol::TCP, src: src.ip(), dst: dst.ip(), src_port: src.port(), dst_port: dst.port(),
        };
        prop_assert_eq!((info.key, info.dscp, info.ecn.to_bits()), (key, dscp, bits));
        let tcp = info.tcp.unwrap();
        prop_assert_eq!((tcp.sequence, tcp.acknowledgement, tcp.flags), (sequence, acknowledgement, flags));
        prop_assert_eq!((tcp.payload_len, info.payload_len()), (payload.len(), payload.len()));
        prop_assert_eq!(source_address(&packet), Some(src.ip()));
        prop_assert_eq!(destination_address(&packet), Some(dst.ip()));

        let packet = build::udp(src, dst, &payload).unwrap();
        prop_assert!(is_valid(&packet));
        prop_assert_eq!(parse(&packet).unwrap().payload_len(), payload.len());
    }

    /// The reference builds, we read.
    #[test]
    fn the_references_packets_are_read((src, dst) in pair(), payload in vec(any::<u8>(), 0..100)) {
        let ip = match (src.ip(), dst.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => PacketBuilder::ipv4(a.octets(), b.octets(), 9),
            (IpAddr::V6(a), IpAddr::V6(b)) => PacketBuilder::ipv6(a.octets(), b.octets(), 9),
            _ => unreachable!("a pair is of one version"),
        };
        let builder = ip.udp(src.port(), dst.port());
        let mut packet = Vec::new();
        builder.write(&mut packet, &payload).unwrap();
        prop_assert!(is_valid(&packet));
        let info = parse(&packet).unwrap();
        prop_assert_eq!((info.src, info.key.src_port), (src.ip(), src.port()));
        prop_assert_eq!((info.dst, info.key.dst_port), (dst.ip(), dst.port()));
    }

    /// Whatever the reference takes for a packet is one, with the same fields.
    #[test]
    fn mutated_packets_are_read_as_the_reference_reads_them(
        (src, dst) in pair(), flips in vec((0usize..60, any::<u8>()), 0..4), tail in vec(any::<u8>(), 0..80),
    ) {
        let mut packet = build::udp(src, dst, &tail).unwrap();
        let len = packet.len();
        for (at, value) in flips {
            packet[at % len] = value;
        }
        let ours = parse(&packet);
        let Ok(theirs) = IpSlice::from_slice(&packet) else { return Ok(()) };
        let ours = ours.expect("the reference reads it");
        if matches!(packet[..6], [first, _, _, _, 0, 0] if first >> 4 == 6) {
            // The reference takes an IPv6 length of zero for "all that is there".
            prop_assert_eq!(ours.total_len, 40);
            return Ok(());
        }
        prop_assert_eq!((ours.src, ours.dst), (theirs.source_addr(), theirs.destination_addr()));
        prop_assert_eq!(source_address(&packet), Some(ours.src));
        prop_assert_eq!(ours.is_fragment, theirs.payload().fragmented);
        if let Ok(SlicedPacket { transport: Some(TransportSlice::Udp(udp)), .. }) = SlicedPacket::from_ip(&packet)
            && ours.protocol == protocol::UDP
        {
            prop_assert_eq!((ours.key.src_port, ours.key.dst_port), (udp.source_port(), udp.destination_port()));
        }
    }

    #[test]
    fn rubbish_does_not_panic(mut bytes in vec(any::<u8>(), 0..200), version in 0u8..16, mtu: u16) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | *first & 0x0f;
        }
        if let Ok(info) = parse(&bytes) {
            let _ = (info.payload_len(), FlowClass::of(&info), info.key.to_string());
            prop_assert!(info.transport_at <= info.total_len && info.total_len <= bytes.len());
        }
        let _ = (source_address(&bytes), destination_address(&bytes));
        let _ = build::packet_too_big(&bytes, mtu, A4.into());
        let _ = build::packet_too_big(&bytes, mtu, A6.into());
        set_ce(&mut bytes);
        build::set_traffic_class(&mut bytes, 1, Ecn::Ce);
        checksum::complete(&mut bytes, mtu, 16);
    }

    /// RFC 1624: a sum that is kept by difference is the sum computed anew.
    #[test]
    fn differences_keep_a_checksum(mut bytes in vec(any::<u8>(), 2..99), at in 0usize..49, new: u16) {
        let at = at * 2 % (bytes.len() / 2 * 2);
        // Ones' complement has two zeros; a sum over something that is not all zeros takes only one of them.
        bytes[0] |= 1;
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new = if at == 0 { new | 0x0100 } else { new };
        let before = checksum::internet_checksum(&bytes);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(checksum::update(before, old, new), checksum::internet_checksum(&bytes));
    }

    #[test]
    fn sums_may_be_taken_in_parts(bytes in vec(any::<u8>(), 0..300), at in 0usize..150) {
        let at = (at * 2).min(bytes.len() / 2 * 2);
        let parts = checksum::sum(&bytes[at..], checksum::sum(&bytes[..at], 0));
        prop_assert_eq!(checksum::finish(parts), checksum::internet_checksum(&bytes));
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in(packets in vec(vec(any::<u8>(), 0..50), 0..20)) {
        let mut batch = PacketBatch::default();
        for packet in &packets {
            batch.push(packet, Offload::default());
        }
        prop_assert!(batch.iter().map(|(bytes, _)| bytes).eq(packets.iter().map(|packet| &packet[..])));
        prop_assert_eq!(batch.contiguous(0, packets.len()).unwrap_or(&[]), packets.concat());
        batch.clear();
        prop_assert!(batch.is_empty() && batch.get(0).is_none());
    }
}

mod trains {
    use super::*;
    use crate::segments::{Coupling, MAX_SEGMENTS, Train, coupling, split};

    const TIME: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

    fn segment(pair: (SocketAddr, SocketAddr), sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let fields = TcpFields { sequence, acknowledgement: 77, flags, window: 500, options: &TIME };
        build::tcp(pair.0, pair.1, &fields, payload).unwrap()
    }

    fn pair4() -> (SocketAddr, SocketAddr) {
        (SocketAddr::from((A4, 80)), SocketAddr::from((B4, 5_000)))
    }

    fn pair6() -> (SocketAddr, SocketAddr) {
        (SocketAddr::from((A6, 80)), SocketAddr::from((B6, 5_000)))
    }

    /// Leaves the checksum of a TCP packet to be completed, as the kernel hands a large one over, and says where its header begins.
    fn unfinished(packet: &[u8]) -> (Vec<u8>, u16) {
        let info = parse(packet).unwrap();
        let pseudo =
            checksum::pseudo_header_sum(info.src, info.dst, protocol::TCP, packet.len() - info.transport_at);
        let mut packet = packet.to_vec();
        packet[info.transport_at + 16..info.transport_at + 18]
            .copy_from_slice(&(!checksum::finish(pseudo)).to_be_bytes());
        (packet, info.transport_at as u16)
    }

    fn cut(packet: &[u8], segment: u16, out: &mut PacketBatch) -> Option<usize> {
        let (packet, transport) = unfinished(packet);
        split(&packet, transport, segment, out)
    }

    /// The large packet that a train makes, its checksum completed as the kernel would.
    fn whole(train: &mut Train, segments: &[Vec<u8>]) -> (Vec<u8>, u16) {
        let coupled = train.close();
        let header_len = coupled.headers.len();
        let mut packet = coupled.headers.to_vec();
        let (transport, offset, segment) = (coupled.transport, coupled.checksum_offset, coupled.segment);
        segments.iter().for_each(|one| packet.extend(&one[header_len..]));
        assert!(checksum::complete(&mut packet, transport, offset));
        (packet, segment)
    }

    fn couple(segments: &[Vec<u8>]) -> (Train, usize) {
        let mut train = Train::begin(&segments[0]).unwrap();
        let joined = segments[1..].iter().take_while(|one| train.push(&segments[0], one)).count() + 1;
        (train, joined)
    }

    #[test]
    fn a_train_is_one_valid_packet_and_comes_apart_as_it_was() {
        for pair in [pair4(), pair6()] {
            let segments: Vec<Vec<u8>> = (0..5u32)
                .map(|n| {
                    let (flags, len) =
                        if n == 4 { (tcp_flags::ACK | tcp_flags::PSH, 123) } else { (tcp_flags::ACK, 1_000) };
                    segment(pair, (u32::MAX - 1_500).wrapping_add(n * 1_000), flags, &vec![n as u8 + 1; len])
                })
                .collect();
            let (mut train, joined) = couple(&segments);
            assert_eq!((joined, train.len()), (5, 5));
            let (packet, size) = whole(&mut train, &segments);
            assert_eq!(size, 1_000);
            assert!(is_valid(&packet));
            let info = parse(&packet).unwrap();
            assert_eq!((info.total_len, info.payload_len()), (packet.len(), 4_123));
            let mut apart = PacketBatch::default();
            assert_eq!(cut(&packet, size, &mut apart), Some(5));
            for (index, ((made, _), was)) in apart.iter().zip(&segments).enumerate() {
                assert!(is_valid(made));
                let mut made = made.to_vec();
                if pair.0.is_ipv4() {
                    assert_eq!(made[4..6], (index as u16).to_be_bytes(), "identification");
                    // The maker of test packets gives none.
                    (made[4], made[5]) = (was[4], was[5]);
                    (made[10], made[11]) = (was[10], was[11]);
                }
                assert_eq!(&made, was);
            }
        }
    }

    #[test]
    fn what_differs_does_not_join() {
        let ack = tcp_flags::ACK;
        let first = segment(pair4(), 1_000, ack, &[1; 100]);
        let good = segment(pair4(), 1_100, ack, &[2; 100]);
        let joins = |second: &[u8]| Train::begin(&first).unwrap().push(&first, second);
        assert!(joins(&good));
        let repaired = |mut packet: Vec<u8>| {
            packet[10..12].fill(0);
            let sum = checksum::internet_checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet[36..38].fill(0);
            let pseudo = checksum::pseudo_header_sum(A4.into(), B4.into(), protocol::TCP, packet.len() - 20);
            let sum = checksum::finish(checksum::sum(&packet[20..], pseudo));
            packet[36..38].copy_from_slice(&sum.to_be_bytes());
            packet
        };
        let changed = |at: usize, to: u8| {
            let mut packet = good.clone();
            packet[at] = to;
            repaired(packet)
        };
        assert!(joins(&changed(52 + 3, 9)), "another payload is no difference");
        for (what, at, to) in [
            ("TOS", 1, 3),
            ("hop limit", 8, 9),
            ("source", 12, 11),
            ("port", 21, 81),
            ("acknowledgement", 31, 1),
            ("window", 35, 1),
            ("time stamp", 47, 1),
            ("may be cut up, with another identification", 6, 0),
            ("a part", 7, 1),
        ] {
            assert!(!joins(&changed(at, to)), "{what}");
        }
        let mut broken = good.clone();
        broken[60] ^= 1;
        assert!(!joins(&broken), "a wrong checksum must stay one");
        let mut other = first.clone();
        other[60] ^= 1;
        assert!(!Train::begin(&other).unwrap().push(&other, &good), "the first one's too");
        assert!(!joins(&segment(pair4(), 1_101, ack, &[2; 100])), "a gap");
        assert!(!joins(&segment(pair4(), 1_000, ack, &[2; 100])), "again");
        assert!(!joins(&segment(pair4(), 1_100, ack, &[2; 101])), "longer");
        assert!(!joins(&segment(pair4(), 1_100, ack | tcp_flags::FIN, &[2; 100])));
        assert!(!joins(&segment(pair6(), 1_100, ack, &[2; 100])));
        let mut ended = Train::begin(&first).unwrap();
        assert!(ended.push(&first, &segment(pair4(), 1_100, ack, &[2; 99])));
        assert!(!ended.push(&first, &segment(pair4(), 1_199, ack, &[2; 99])), "a short one ends it");
        let pushed = segment(pair4(), 1_000, ack | tcp_flags::PSH, &[1; 100]);
        assert!(!Train::begin(&pushed).unwrap().push(&pushed, &good), "so does PSH");
    }

    #[test]
    fn what_may_overtake_is_told() {
        let tcp = |flags, payload: &[u8]| segment(pair4(), 1, flags, payload);
        assert_eq!(coupling(&tcp(tcp_flags::ACK, b"data")), Coupling::Segment);
        assert_eq!(coupling(&tcp(tcp_flags::ACK, b"")), Coupling::Alone);
        for flags in [tcp_flags::SYN, tcp_flags::FIN, tcp_flags::RST, tcp_flags::URG, tcp_flags::CWR] {
            let packet = tcp(tcp_flags::ACK | flags, b"data");
            assert_eq!(coupling(&packet), Coupling::Alone);
            assert!(Train::begin(&packet).is_none());
        }
        assert_eq!(coupling(&udp(0, Ecn::NotEct)), Coupling::Free);
        assert_eq!(coupling(&build::icmp_echo(A6.into(), B6.into(), 1, 1, b"").unwrap()), Coupling::Free);
        for odd in [&[][..], &[0x45], &[0x60; 10], &[0xff; 60]] {
            assert_eq!(coupling(odd), Coupling::Barrier);
        }
        let mut part = udp(0, Ecn::NotEct);
        part[6] = 0x20;
        assert_eq!(coupling(&part), Coupling::Barrier);
        let train = Train::begin(&tcp(tcp_flags::ACK, b"data")).unwrap();
        assert!(train.is_of_flow(&tcp(tcp_flags::ACK | tcp_flags::FIN, b"")));
        assert!(!train.is_of_flow(&segment((pair4().1, pair4().0), 1, tcp_flags::ACK, b"")));
        assert!(!train.is_of_flow(&segment(pair6(), 1, tcp_flags::ACK, b"")) && !train.is_of_flow(&[]));
    }

    #[test]
    fn a_train_has_an_end() {
        let segments: Vec<Vec<u8>> =
            (0..100).map(|n| segment(pair4(), n * 10, tcp_flags::ACK, &[3; 10])).collect();
        assert_eq!(couple(&segments).1, MAX_SEGMENTS);
        let segments: Vec<Vec<u8>> =
            (0..60).map(|n| segment(pair4(), n * 1_400, tcp_flags::ACK, &[3; 1_400])).collect();
        let (mut train, joined) = couple(&segments);
        assert_eq!(joined, (65_535 - 52) / 1_400);
        assert!(is_valid(&whole(&mut train, &segments[..joined]).0));
    }

    #[test]
    fn flags_of_a_large_packet_go_where_they_belong() {
        let all = tcp_flags::ACK | tcp_flags::PSH | tcp_flags::FIN | tcp_flags::CWR;
        let packet = segment(pair4(), 0, all, &[4; 250]);
        let mut apart = PacketBatch::default();
        assert_eq!(cut(&packet, 100, &mut apart), Some(3));
        let flags: Vec<u8> = apart.iter().map(|(one, _)| parse(one).unwrap().tcp.unwrap().flags).collect();
        let ack = tcp_flags::ACK;
        assert_eq!(flags, [ack | tcp_flags::CWR, ack, ack | tcp_flags::PSH | tcp_flags::FIN]);
        assert_eq!(cut(&packet, 0, &mut apart), None);
        assert_eq!(cut(&segment(pair4(), 0, ack, &[0; 2_000]), 1, &mut apart), None, "too many");
        assert_eq!(split(&udp(0, Ecn::NotEct), 20, 100, &mut apart), None);
        assert_eq!(split(&packet, 24, 100, &mut apart), None, "not where the header says");
        assert_eq!(apart.len(), 3);
    }

    #[test]
    fn options_and_extension_headers_go_with_each_segment() {
        let mut v4 = segment(pair4(), 7, tcp_flags::ACK, &[5; 250]);
        v4.splice(20..20, [1, 1, 1, 0]);
        v4[0] = 0x46;
        let mut v6 = segment(pair6(), 7, tcp_flags::ACK, &[6; 250]);
        // A hop-by-hop header of padding alone.
        v6.splice(40..40, [protocol::TCP, 0, 1, 4, 0, 0, 0, 0]);
        v6[6] = 0;
        for packet in [v4, v6] {
            let mut apart = PacketBatch::default();
            // The length in the header is made anew, and so is the sum: what stands there does not count.
            let mut whole = packet.clone();
            let len = whole.len() - if whole[0] >> 4 == 4 { 0 } else { 40 };
            let at = if whole[0] >> 4 == 4 { 2 } else { 4 };
            whole[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
            assert_eq!(cut(&whole, 100, &mut apart), Some(3));
            let info = parse(&whole).unwrap();
            for (made, _) in apart.iter() {
                assert!(is_valid(made));
                let own = parse(made).unwrap();
                assert_eq!(
                    (own.key, own.transport_at, own.total_len),
                    (info.key, info.transport_at, made.len())
                );
            }
            assert_eq!(coupling(&whole), Coupling::Barrier);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(
            (a, b) in pair(), noise in vec((0usize..200, any::<u8>()), 0..6), cuts in (0usize..200, 0usize..200),
            bytes in vec(any::<u8>(), 0..200), transport in 0u16..80, size: u16,
        ) {
            // Noise, and packets that are right but for a few bytes and their end.
            let spoil = |mut packet: Vec<u8>, cut: usize| {
                for (at, to) in &noise {
                    if let Some(byte) = packet.get_mut(*at) {
                        *byte = *to;
                    }
                }
                packet.truncate(packet.len().max(cut) - cut.min(packet.len()));
                packet
            };
            let nearly = spoil(segment((a, b), 1, tcp_flags::ACK, &[1; 100]), cuts.0 / 10);
            let next = spoil(segment((a, b), 101, tcp_flags::ACK, &[1; 100]), cuts.1 / 10);
            for (bytes, other) in [(&bytes, &next), (&nearly, &next), (&nearly, &bytes)] {
            let mut apart = PacketBatch::default();
            for transport in [transport, 20, 40] {
                let before = apart.len();
                if let Some(count) = split(bytes, transport, size, &mut apart) {
                    prop_assert_eq!(count, apart.len() - before);
                }
            }
            if let Some(mut train) = Train::begin(bytes) {
                train.push(bytes, other);
                prop_assert!(train.is_of_flow(bytes));
                train.close();
            }
            }
        }

        #[test]
        fn a_stream_keeps_its_bytes(
            (a, b) in pair(), lens in vec(1usize..1_400, 1..80), sequence: u32, flip in any::<proptest::sample::Index>(),
        ) {
            let mut at = sequence;
            let segments: Vec<Vec<u8>> = lens.iter().map(|len| {
                let one = segment((a, b), at, tcp_flags::ACK, &vec![*len as u8; *len]);
                at = at.wrapping_add(*len as u32);
                one
            }).collect();
            let (mut train, joined) = couple(&segments);
            let (packet, size) = whole(&mut train, &segments[..joined]);
            prop_assert!(is_valid(&packet));
            let mut apart = PacketBatch::default();
            prop_assert_eq!(cut(&packet, size, &mut apart), Some(joined));
            let header = packet.len() - lens[..joined].iter().sum::<usize>();
            for ((made, _), was) in apart.iter().zip(&segments) {
                prop_assert!(is_valid(made));
                prop_assert_eq!(&made[header..], &was[header..]);
            }
            // A flipped bit of the first or the second segment keeps the two apart.
            if joined > 1 {
                let mut spoilt = segments.clone();
                let bit = flip.index((segments[0].len() + segments[1].len()) * 8);
                let (which, bit) = if bit < segments[0].len() * 8 { (0, bit) } else { (1, bit - segments[0].len() * 8) };
                spoilt[which][bit / 8] ^= 1 << (bit % 8);
                if let Some(mut train) = Train::begin(&spoilt[0]) {
                    prop_assert!(!train.push(&spoilt[0], &spoilt[1]));
                }
            }
        }
    }
}
