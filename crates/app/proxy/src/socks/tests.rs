//! SOCKS on the wire: what is written is read back, and nothing that is sent breaks the reader.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::wire::{self, Address, BadDatagram, LONGEST_HEAD};
use crate::connect::{Host, Target};

fn socket_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn addresses_are_read_as_they_were_written(address in socket_address(), rest in any::<Vec<u8>>()) {
        let mut bytes = vec![0; LONGEST_HEAD];
        let length = wire::put_address(&mut bytes, address);
        bytes.truncate(length);
        for cut in 0..length {
            let short = wire::address(&bytes[..cut]);
            prop_assert!(matches!(short, Address::More(wanted) if wanted > cut && wanted <= length));
        }
        bytes.extend(rest);
        let target = Target { host: Host::Ip(address.ip()), port: address.port() };
        prop_assert_eq!(wire::address(&bytes), Address::Read(target, length));
    }

    #[test]
    fn any_bytes_are_an_address_or_not(bytes in any::<Vec<u8>>()) {
        match wire::address(&bytes) {
            Address::More(wanted) => prop_assert!(wanted > bytes.len()),
            Address::Read(_, length) | Address::BadName(length) => prop_assert!(length <= bytes.len()),
            Address::BadType => prop_assert!(![1, 3, 4].contains(&bytes[0])),
        }
        let _ = wire::datagram(&bytes);
    }

    #[test]
    fn datagrams_from_remotes_are_read_back(from in socket_address(), payload in any::<Vec<u8>>()) {
        let mut bytes = vec![0xff; LONGEST_HEAD];
        bytes.extend(&payload);
        let start = wire::put_head(&mut bytes, from);
        let read = wire::datagram(&bytes[start..]);
        if from.port() == 0 {
            prop_assert_eq!(read, Err(BadDatagram::Malformed));
        } else {
            let (target, at) = read.unwrap();
            prop_assert_eq!(target, Target { host: Host::Ip(from.ip()), port: from.port() });
            prop_assert_eq!(&bytes[start + at..], &payload[..]);
        }
    }
}

#[test]
fn fragments_are_told_from_nonsense() {
    assert_eq!(wire::datagram(&[0, 0, 1, 1]), Err(BadDatagram::Fragment));
    assert_eq!(wire::datagram(&[0, 1, 0, 1]), Err(BadDatagram::Malformed));
    assert_eq!(wire::datagram(&[]), Err(BadDatagram::Malformed));
}
