use super::*;
use crate::checksum;

const INSIDE: [u8; 4] = [192, 168, 1, 2];
const PUBLIC: [u8; 4] = [203, 0, 113, 7];
const REMOTE: [u8; 4] = [198, 51, 100, 1];

fn gateway() -> Nat {
    let config = NatConfig {
        public_v4: Some(PUBLIC.into()),
        public_v6: Some("2001:db8::7".parse().unwrap()),
        ..NatConfig::default()
    };
    Nat::new(config, 5)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// A packet with right checksums and a payload of odd length.
fn packet(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut body = match protocol {
        1 => vec![if from.1 != 0 { 8 } else { 0 }, 0, 0, 0],
        _ => [from.1.to_be_bytes(), to.1.to_be_bytes()].concat(),
    };
    match protocol {
        1 => body.extend([from.1.max(to.1).to_be_bytes(), [0, 1]].concat()),
        6 => body.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]),
        _ => body.extend([0, 13, 0, 0]),
    }
    body.extend(b"hello");
    let sum_at = [(1, 2), (6, 16), (17, 6)].iter().find(|(p, _)| *p == protocol).unwrap().1;
    let pseudo = [&from.0[..], &to.0, &[0, protocol], &(body.len() as u16).to_be_bytes()].concat();
    let covered = if protocol == 1 { body.clone() } else { [&pseudo[..], &body].concat() };
    let sum = !checksum::sum(&covered);
    body[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let length = (20 + body.len()) as u16;
    let mut ip = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    ip.extend(from.0);
    ip.extend(to.0);
    let sum = !checksum::sum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(body);
    ip
}

fn checksums_hold(packet: &[u8]) {
    assert_eq!(checksum::sum(&packet[..20]), 0xffff, "IP header");
    let body = &packet[20..];
    let pseudo = [&packet[12..20], &[0, packet[9]], &(body.len() as u16).to_be_bytes()].concat();
    let covered = if packet[9] == 1 { body.to_vec() } else { [&pseudo[..], body].concat() };
    assert_eq!(checksum::sum(&covered), 0xffff, "protocol {}", packet[9]);
}

fn source(packet: &[u8]) -> ([u8; 4], u16) {
    let port_at = if packet[9] == 1 { 24 } else { 20 };
    (packet[12..16].try_into().unwrap(), u16::from_be_bytes([packet[port_at], packet[port_at + 1]]))
}

fn destination(packet: &[u8]) -> ([u8; 4], u16) {
    let port_at = if packet[9] == 1 { 24 } else { 22 };
    (packet[16..20].try_into().unwrap(), u16::from_be_bytes([packet[port_at], packet[port_at + 1]]))
}

/// Sends one packet out; returns its public port.
fn out(nat: &mut Nat, protocol: u8, inside_port: u16, now: Timestamp) -> u16 {
    let remote_port = if protocol == 1 { 0 } else { 443 };
    let mut sent = packet(protocol, (INSIDE, inside_port), (REMOTE, remote_port));
    nat.handle_outbound(&mut sent, now).unwrap();
    checksums_hold(&sent);
    assert_eq!(source(&sent).0, PUBLIC);
    source(&sent).1
}

/// Sends an answer in; returns who gets it.
fn answer(nat: &mut Nat, protocol: u8, port: u16, now: Timestamp) -> Result<([u8; 4], u16), NatDrop> {
    let remote_port = if protocol == 1 { 0 } else { 443 };
    let mut got = packet(protocol, (REMOTE, remote_port), (PUBLIC, port));
    nat.handle_inbound(&mut got, now)?;
    checksums_hold(&got);
    Ok(destination(&got))
}

#[test]
fn there_and_back() {
    let mut nat = gateway();
    for protocol in [1, 6, 17] {
        let port = out(&mut nat, protocol, 5000, at(0));
        assert_eq!(out(&mut nat, protocol, 5000, at(1)), port, "a mapping is kept");
        assert_ne!(out(&mut nat, protocol, 5001, at(1)), port, "each flow has its own");
        assert_eq!(answer(&mut nat, protocol, port, at(1)), Ok((INSIDE, 5000)));
    }
    assert_eq!((nat.mappings(), nat.stats().outbound, nat.stats().inbound), (6, 9, 3));
}

#[test]
fn strangers_stay_outside() {
    let mut nat = gateway();
    let port = out(&mut nat, 17, 5000, at(0));
    let mut other_port = packet(17, (REMOTE, 80), (PUBLIC, port));
    assert_eq!(nat.handle_inbound(&mut other_port, at(0)), Err(NatDrop::NoMapping));
    let mut other_host = packet(17, ([9, 9, 9, 9], 443), (PUBLIC, port));
    assert_eq!(nat.handle_inbound(&mut other_host, at(0)), Err(NatDrop::NoMapping));
    let mut other_address = packet(17, (REMOTE, 443), ([203, 0, 113, 8], port));
    let before = other_address.clone();
    assert_eq!(nat.handle_inbound(&mut other_address, at(0)), Err(NatDrop::NoMapping));
    assert_eq!(other_address, before);
    assert_eq!(nat.stats().dropped_unmapped, 3);
}

#[test]
fn rebinding_moves_every_mapping() {
    let mut nat = gateway();
    let old: Vec<u16> = (0..100).map(|n| out(&mut nat, 17, 5000 + n, at(0))).collect();
    nat.rebind(None, None);
    for (n, &port) in (0..).zip(&old) {
        assert_eq!(answer(&mut nat, 17, port, at(1)), Err(NatDrop::NoMapping));
        let new = out(&mut nat, 17, 5000 + n, at(1));
        assert!(!old.contains(&new));
        assert_eq!(answer(&mut nat, 17, new, at(1)), Ok((INSIDE, 5000 + n)));
    }
    assert_eq!(nat.mappings(), 100);
    nat.rebind(Some([203, 0, 113, 9].into()), None);
    let mut sent = packet(17, (INSIDE, 5000), (REMOTE, 443));
    nat.handle_outbound(&mut sent, at(2)).unwrap();
    assert_eq!(source(&sent).0, [203, 0, 113, 9]);
}

#[test]
fn unused_mappings_expire() {
    let mut nat = gateway();
    let port = out(&mut nat, 17, 5000, at(0));
    assert!(answer(&mut nat, 17, port, at(119)).is_ok());
    assert!(answer(&mut nat, 17, port, at(238)).is_ok(), "use prolongs it");
    assert_eq!(answer(&mut nat, 17, port, at(358)), Err(NatDrop::NoMapping));
    let stream = out(&mut nat, 6, 5000, at(0));
    assert!(answer(&mut nat, 6, stream, at(3600)).is_ok());
}

#[test]
fn the_table_is_bounded() {
    let config = NatConfig { public_v4: Some(PUBLIC.into()), capacity: 10, ..NatConfig::default() };
    let mut nat = Nat::new(config, 5);
    let first = out(&mut nat, 17, 1000, at(0));
    for n in 1..20 {
        out(&mut nat, 17, 1000 + n, at(u64::from(n)));
    }
    assert_eq!((nat.mappings(), nat.stats().evicted), (10, 10));
    assert_eq!(answer(&mut nat, 17, first, at(20)), Err(NatDrop::NoMapping));
    out(&mut nat, 17, 3000, at(1000));
    assert_eq!((nat.mappings(), nat.stats().evicted), (1, 10));
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut nat = gateway();
    let mut sent = packet(17, (INSIDE, 5000), (REMOTE, 443));
    sent[26..28].fill(0);
    nat.handle_outbound(&mut sent, at(0)).unwrap();
    assert_eq!(sent[26..28], [0, 0]);
}

#[test]
fn ipv6_is_translated_too() {
    let mut nat = gateway();
    let mut sent = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
    let inside: Ipv6Addr = "fd00::2".parse().unwrap();
    let remote: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
    sent.extend(inside.octets());
    sent.extend(remote.octets());
    sent.extend([0x13, 0x88, 1, 0xbb, 0, 12, 0, 0, 1, 2, 3, 4]);
    let covered = |p: &[u8]| [&p[8..40], &[0, 12, 0, 17], &p[40..]].concat();
    let sum = !checksum::sum(&covered(&sent));
    sent[46..48].copy_from_slice(&sum.to_be_bytes());
    nat.handle_outbound(&mut sent, at(0)).unwrap();
    assert_eq!(checksum::sum(&covered(&sent)), 0xffff);
    assert_eq!(sent[8..24], "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    let mut back = sent.clone();
    back[8..24].copy_from_slice(&sent[24..40]);
    back[24..40].copy_from_slice(&sent[8..24]);
    back[40..42].copy_from_slice(&sent[42..44]);
    back[42..44].copy_from_slice(&sent[40..42]);
    nat.handle_inbound(&mut back, at(0)).unwrap();
    assert_eq!(checksum::sum(&covered(&back)), 0xffff);
    assert_eq!((&back[24..40], &back[42..44]), (&inside.octets()[..], &[0x13, 0x88][..]));
}

#[test]
fn rubbish_is_refused_unchanged() {
    let mut nat = gateway();
    let whole = packet(17, (INSIDE, 5000), (REMOTE, 443));
    for length in 0..28 {
        let mut cut = whole[..length].to_vec();
        assert!(nat.handle_outbound(&mut cut, at(0)).is_err(), "{length}");
        assert_eq!(cut, whole[..length]);
    }
    let mut fragment = whole.clone();
    fragment[6] = 0x20;
    assert_eq!(nat.handle_outbound(&mut fragment, at(0)), Err(NatDrop::Untranslatable));
    let mut gre = whole;
    gre[9] = 47;
    assert_eq!(nat.handle_outbound(&mut gre, at(0)), Err(NatDrop::Untranslatable));
    let mut rng = Rng::new(3);
    for _ in 0..20_000 {
        let mut noise = vec![0; rng.below(80) as usize];
        rng.fill(&mut noise);
        let _ = nat.handle_outbound(&mut noise, at(0));
        let _ = nat.handle_inbound(&mut noise, at(0));
    }
}
