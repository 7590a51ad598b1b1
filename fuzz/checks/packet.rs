//! What must hold for any bytes that come out of a tunnel. Each function panics if it does not.
#![allow(dead_code, reason = "each fuzz target uses one of these")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bondwire_packet::{Ecn, FlowClass, build, checksum, destination_address, parse, set_ce, source_address};

/// A packet.
pub(crate) fn packet(bytes: &[u8]) {
    let Ok(info) = parse(bytes) else {
        set_ce(&mut bytes.to_vec());
        return;
    };
    assert!(info.transport_at <= info.total_len && info.total_len <= bytes.len());
    assert!(info.payload_len() <= info.total_len - info.transport_at);
    assert_eq!(source_address(bytes), Some(info.src));
    assert_eq!(destination_address(bytes), Some(info.dst));
    assert_eq!(info.key.reversed().reversed(), info.key);
    let class = FlowClass::of(&info);

    // A mark changes the two bits and nothing else that is read, and keeps a right header checksum right.
    let mut marked = bytes.to_vec();
    assert_eq!(set_ce(&mut marked), info.ecn != Ecn::NotEct);
    let after = parse(&marked).expect("a mark breaks nothing");
    assert_eq!(
        (after.key, after.dscp, after.tcp, FlowClass::of(&after)),
        (info.key, info.dscp, info.tcp, class)
    );
    if bytes[0] >> 4 == 4 {
        let header = usize::from(bytes[0] & 0x0f) * 4;
        let right = checksum::internet_checksum(&bytes[..header]) == 0;
        assert_eq!(checksum::internet_checksum(&marked[..header]) == 0, right);
    }

    for from in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        if let Some(message) = build::packet_too_big(bytes, 1280, from) {
            let told = parse(&message).expect("it was built here");
            assert_eq!((told.src, told.dst, told.total_len), (from, info.src, message.len()));
            assert!(message.len() <= 1280);
            assert_eq!(build::packet_too_big(&message, 1280, info.src), None, "an error about an error");
        }
    }
}
